/** What clients ask when they connect: version, name, accelerator, processors, character devices, and lists of what is not here. */
import { boardTraits } from "../../machine/arguments/index.js";
import { describePci, pciAsJson } from "../pci-info.js";
import { type CommandContext, type QmpCommand, flag, optional, query, text } from "../command.js";
import { generic, QmpError } from "../errors.js";
import type { Json } from "../json.js";
import { describeSchema } from "../schema.js";
import { QEMU_VERSION } from "../version.js";

type Target = CommandContext["target"];

/** Kinds of things of which the machine has none. */
const NONE = ["query-block", "query-blockstats", "query-block-jobs", "query-jobs", "query-named-block-nodes", "query-iothreads", "query-mice", "query-rx-filter", "query-tpm", "query-fdsets", "query-cpus-fast", "query-audiodevs", "query-vnc-servers"];

export const queryCommands: readonly QmpCommand[] = [
  query("query-qmp-schema", (context) => describeSchema(context.commands())),
  query("query-version", ({ target }) => ({ qemu: { ...QEMU_VERSION }, package: target.packageName })),
  query("query-commands", (context) => [...context.commands(), { name: "qmp_capabilities" }].map(({ name }) => ({ name }))),
  query("query-name", ({ target }): Json => {
    const { name } = target.machine.args;
    return name === null ? {} : { name };
  }),
  query("query-uuid", ({ target }) => ({ UUID: target.machine.args.uuid ?? "00000000-0000-0000-0000-000000000000" })),
  query("query-kvm", ({ target }) => ({ enabled: accelerator(target) === "kvm", present: accelerator(target) === "kvm" })),
  query("query-accelerators", ({ target }) => ({ enabled: accelerator(target), present: [accelerator(target)] })),
  query("query-target", ({ target }) => ({ arch: boardTraits[target.machine.board.kind].architecture })),
  query("query-chardev", ({ target }) => target.chardevs().map(({ label, filename, open }) => ({ "frontend-open": open, filename, label }))),
  query("query-chardev-backends", () => ["socket", "stdio", "null"].map((name) => ({ name }))),
  query("query-yank", ({ target }) => target.chardevs().filter(({ filename }) => /^(?:unix|tcp):/.test(filename)).map(({ label }) => ({ type: "chardev", id: label }))),
  query("query-pci", ({ target }) => pciAsJson(describePci(target.machine.board.pci))),
  query("query-memory-size-summary", ({ target }) => ({ "base-memory": target.machine.board.ramSize, "plugged-memory": target.machine.board.memoryDevices.size })),
  query("query-memory-devices", ({ target }) =>
    target.machine.board.memoryDevices.inOrder().map(({ id, address, slot, node, size, memdev, hotplugged }) => ({
      type: "dimm",
      data: { ...(id === "" ? {} : { id }), addr: address, slot, node, size, memdev: `/objects/${memdev}`, hotplugged, hotpluggable: true },
    })),
  ),
  query("query-memdev", ({ target }) => {
    const { board } = target.machine;
    const backends = board.objects.list().filter(({ type }) => type === "memory-backend");
    const own = board.args.machine.memoryBackend === null ? board.ramBlocks.filter((block) => !backends.some(({ id }) => id === block.name)) : [];
    // Ordinary memory of this process, by QEMU's defaults.
    const kind = { merge: true, dump: true, prealloc: false, share: false, reserve: true, "host-nodes": [], policy: "default" };
    return [...own.map((block) => ({ id: block.name, size: block.size, ...kind })), ...backends.map(({ id, size }) => ({ id, size, ...kind }))];
  }),
  query("query-current-machine", () => ({ "wakeup-suspend-support": false })),
  query("query-display-options", () => ({ type: "none" })),
  query("query-vnc", () => ({ enabled: false })),
  query("query-migrate", () => ({})),
  query("query-replay", () => ({ mode: "none", icount: 0 })),
  query("query-gic-capabilities", ({ target }) => {
    if (target.machine.board.gicVersion === null) {
      throw generic("GIC hardware is not available on this target");
    }
    return [2, 3].map((version) => ({ version, emulated: true, kernel: false }));
  }),
  query("query-balloon", () => {
    throw new QmpError("DeviceNotActive", "No balloon device has been activated");
  }),
  query("query-hotpluggable-cpus", () => {
    throw generic("machine does not support hot-plugging CPUs");
  }),
  query("query-acpi-ospm-status", () => {
    throw generic("command is not supported, missing ACPI device");
  }),
  query("query-vm-generation-id", () => {
    throw generic("VM Generation ID device not found");
  }),
  {
    name: "query-machines",
    parameters: { "compat-props": optional(flag) },
    run: (_args, { target }) => [MACHINES[target.machine.board.kind]],
  },
  {
    name: "query-command-line-options",
    parameters: { option: optional(text) },
    run: ({ option }) => {
      const found = Object.entries(OPTIONS).filter(([name]) => option === undefined || name === option);
      if (found.length === 0) {
        throw generic(`invalid option name: ${option as string}`);
      }
      return found.map(([name, parameters]) => ({ option: name, parameters: parameters.map(([key, type]) => ({ name: key, type })) }));
    },
  },
  ...NONE.map((name) => query(name, () => [])),
];

/** The one that the running machine's QEMU has. */
const MACHINES = {
  virt: { name: "virt-11.1", alias: "virt", "hotpluggable-cpus": false, "numa-mem-supported": true, "cpu-max": 512, deprecated: false, acpi: true, "default-ram-id": "mach-virt.ram" },
  q35: { name: "pc-q35-11.1", alias: "q35", "hotpluggable-cpus": true, "numa-mem-supported": false, "cpu-max": 4096, deprecated: false, acpi: true, "default-ram-id": "pc.ram" },
};

/** The options with parameters whose form is the same here. */
const OPTIONS: Readonly<Record<string, ReadonlyArray<readonly [name: string, type: string]>>> = {
  trace: [["file", "string"], ["events", "string"], ["enable", "string"]],
  mon: [["mode", "string"], ["chardev", "string"], ["pretty", "boolean"]],
  name: [["guest", "string"], ["process", "string"], ["debug-threads", "boolean"]],
};

function accelerator(target: Target): string {
  return target.machine.args.machine.accelerator ?? "tcg";
}
