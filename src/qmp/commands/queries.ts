/** What clients ask when they connect: version, name, accelerator, processors, character devices. */
import { type CommandContext, type QmpCommand, query } from "../command.js";
import type { Json } from "../json.js";
import { QEMU_VERSION } from "../version.js";

export const queryCommands: readonly QmpCommand[] = [
  query("query-version", ({ target }) => ({ qemu: { ...QEMU_VERSION }, package: target.packageName })),
  query("query-commands", (context) => [...context.commands(), { name: "qmp_capabilities" }].map(({ name }) => ({ name }))),
  query("query-name", ({ target }): Json => {
    const { name } = target.machine.args;
    return name === null ? {} : { name };
  }),
  query("query-uuid", ({ target }) => ({ UUID: target.machine.args.uuid ?? "00000000-0000-0000-0000-000000000000" })),
  query("query-kvm", ({ target }) => ({ enabled: accelerator(target) === "kvm", present: accelerator(target) === "kvm" })),
  query("query-target", () => ({ arch: "aarch64" })),
  query("query-chardev", ({ target }) =>
    target.chardevs().map(({ label, filename, open }) => ({ "frontend-open": open, filename, label })),
  ),
];

function accelerator(target: CommandContext["target"]): Json {
  return target.machine.args.machine.accelerator ?? "tcg";
}
