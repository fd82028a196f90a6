import type { Command } from "commander";
import type { Host } from "../iommufd/index.js";
import type { KernelFacts } from "../conformance/index.js";
import { loadHost, shippedHosts } from "../host/shipped/index.js";
import { Refusal } from "../support/index.js";
import type { Streams } from "./streams.js";

/** The shipped host that is the machine the records were made on. */
const DEFAULT_HOST = "board";

/** Bytes of memory that a group has pinned at most. */
const MOST_PINNED = 2 ** 24;

interface ConformanceOptions {
  readonly host: string;
  readonly device?: string[];
  readonly reset?: boolean;
  readonly illegal?: boolean;
  readonly json?: boolean;
  readonly compare?: string;
}

/** `viommu conformance`: the suite of calls on a host, beside a record. Exit 1 where an answer differs for no known reason. */
export function addTo(conformance: Command, streams: Streams, finish: (code: number) => void): void {
  conformance
    .option("--host <file>", `the host: linux (this machine), a file, or ${shippedHosts().join(", ")}`, DEFAULT_HOST)
    .option("--device <address>", "a function that is bound to vfio-pci; again for a second and third one (see below)", collect)
    .option("--reset", "the function may be reset, too")
    .option("--illegal", "commands that the SMMU may refuse may be given to it, where the kernel hands them on (before 7.3)")
    .option("--json", "print all answers as JSON: a record")
    .option("--compare <record>", "the record: a file that --json has made, or a name (default: the one of this kernel and kind of IOMMU)")
    .addHelpText("after", HELP)
    .action(async (options: ConformanceOptions) => {
      const { compare, formatReport, judgesCommands, loadRecord, makeRecord, recordFor, runSuite } = await import("../conformance/index.js");
      const before = options.compare === undefined ? null : loadRecord(options.compare);
      const { host, kernel } = await openHost(options.host, options.device ?? []);
      try {
        const show = streams.interactive && options.json !== true;
        const run = runSuite(host, {
          devices: options.device ?? [],
          reset: options.reset === true,
          illegal: options.illegal === true || kernel.simulated || judgesCommands(kernel),
          onGroup: (name) => show && streams.err(`\r\u001b[K${name}`),
        });
        if (show) {
          streams.err("\r\u001b[K");
        }
        const { device } = run.subjects;
        const told = host.functions().find(({ address }) => address === device)!;
        const record = makeRecord(run, { kernel, host: host.description, device: { vendor: told.vendorId, device: told.deviceId, class: told.classCode } });
        const name = options.compare ?? recordFor(kernel.release, run.facts.iommu);
        const comparison = name === null ? null : compare(before ?? loadRecord(name), record);
        streams.out(options.json === true ? `${JSON.stringify(record, null, 2)}\n` : formatReport(record, device, name, comparison));
        finish(comparison?.differences.some(({ reason }) => reason === null) === true ? 1 : 0);
      } finally {
        host.close();
      }
    });
}

/** @throws Refusal */
async function openHost(name: string, functions: readonly string[]): Promise<{ host: Host; kernel: KernelFacts }> {
  if (name === "linux") {
    const [{ checkHost }, { LinuxHost }] = await Promise.all([import("../host/doctor/index.js"), import("../host/linux/index.js")]);
    const { runningKernel } = await import("../conformance/index.js");
    checkHost({ functions, opensIommufd: true, pinnedBytes: MOST_PINNED });
    return { host: new LinuxHost(), kernel: runningKernel() };
  }
  const description = await loadHost(name);
  const { createSimulatedHost } = await import("../host/simulated/host/index.js");
  return {
    host: createSimulatedHost(description),
    kernel: { release: description.kernel, simulated: true, machine: "", parameters: {} },
  };
}

function collect(value: string, before: string[] | undefined): string[] {
  if (before?.includes(value) === true) {
    throw new Refusal(`--device ${value}: given twice`, { wouldWork: "another function" });
  }
  return [...(before ?? []), value];
}

const HELP = `
The first --device is the function under test. A second one behind the same
IOMMU and a third one behind another let the groups run that need several. They
are opened, which resets them, and left bound to vfio-pci. What the suite does
to them and what a difference means: docs/conformance.md.`;
