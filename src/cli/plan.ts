import { type Command, Option } from "commander";
import { shippedHosts } from "../host/shipped/index.js";
import { parseSize } from "../machine/arguments/index.js";
import { LIBVIRT_VERSIONS, type LibvirtVersion, PLAN_FORMATS, type PlanFormat, QEMU_VERSIONS, qemuVersion, type QemuVersion } from "../plan/index.js";
import { Refusal } from "../support/index.js";
import { describedHost, THIS_MACHINE } from "./described-host.js";
import type { Streams } from "./streams.js";

interface PlanOptions {
  readonly device?: string[];
  readonly host?: string;
  readonly memory: number;
  readonly cpus: number;
  readonly spare: number;
  readonly withGroup?: boolean;
  readonly withoutIommu?: boolean;
  readonly format: PlanFormat;
  readonly qemu: QemuVersion;
  readonly libvirt: LibvirtVersion;
}

/** `viommu plan`: the machine that functions of a host need, with the reasons. */
export function addTo(plan: Command, streams: Streams, finish: (code: number) => void): void {
  plan
    .option("--device <address...>", "functions of the host that the machine gets, such as 0009:01:00.0")
    .option("--host <file>", `the host: a file, a capture, or ${shippedHosts().join(", ")} (default: this machine)`)
    .addOption(new Option("--memory <size>", "memory of the guest").argParser(parseMemory).default(4 * 2 ** 30, "4G"))
    .option("--cpus <number>", "CPUs of the guest", wholeNumber("--cpus", 1), 4)
    .option("--spare <number>", "empty ports for hot-plug on each expander bus", wholeNumber("--spare", 0), 0)
    .option("--with-group", "others in a function's IOMMU group are kept for the machine, and nobody uses them")
    .option("--without-iommu", "functions that can be behind no virtual IOMMU are passed through without one")
    .addOption(new Option("--format <format>", "how the plan is written").choices(PLAN_FORMATS).default("text"))
    .addOption(new Option("--qemu <version>", "the QEMU that it is for").choices(QEMU_VERSIONS).argParser(qemuVersion).default("11.1"))
    .addOption(new Option("--libvirt <version>", "the libvirt that it is for").choices(LIBVIRT_VERSIONS).default("12.9"))
    .addHelpText("after", HELP)
    .action(async (options: PlanOptions) => {
      const { HostFacts, planMachine, writePlan } = await import("../plan/index.js");
      const machine = planMachine({ ...options, facts: new HostFacts(await describedHost(options.host)), devices: (options.device ?? []).flatMap((one) => one.split(",")) });
      streams.out(writePlan(machine, options.format, { hostName: options.host ?? THIS_MACHINE, qemu: options.qemu, libvirt: options.libvirt }));
      finish(0);
    });
}

const HELP = `
text tells the plan with the reason of each choice; the others write it for those
who start machines, with the reasons as comments: qemu a command for a shell,
libvirt a domain XML, kubevirt a VirtualMachineInstance, viommu a file for
viommu run --host HOST FILE, json data (docs/json.md). docs/planning.md goes
through two servers.`;

function parseMemory(value: string): number {
  const bytes = parseSize("--memory", value, "M");
  if (bytes < 2 ** 26 || bytes % 2 ** 20 !== 0) {
    throw new Refusal("--memory expects a size of whole MiB", { found: `--memory ${value}`, wouldWork: "64M or more, such as 64G" });
  }
  return bytes;
}

function wholeNumber(option: string, least: number): (value: string) => number {
  return (value) => {
    if (!/^\d{1,5}$/.test(value) || Number(value) < least) {
      throw new Refusal(`${option} expects a number`, { found: `${option} ${value}`, wouldWork: `${least} or more` });
    }
    return Number(value);
  };
}
