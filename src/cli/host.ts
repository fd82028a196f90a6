import { writeFileSync } from "node:fs";
import { type Command, Option } from "commander";
import type { DescribedHost } from "../host/described/index.js";
import type { Snapshot } from "../host/sysfs/index.js";
import { parseSize } from "../machine/arguments/index.js";
import { Refusal, systemWords } from "../support/index.js";
import type { Streams } from "./streams.js";

interface HostOptions {
  readonly sysfs?: string;
  readonly json?: boolean;
  readonly output?: string;
  readonly capture?: string;
  readonly doctor?: boolean;
  readonly device?: string[];
  readonly memory?: string;
  readonly format?: "dra";
  readonly node?: string;
}

/** `viommu host`: what this machine is for who passes functions through; or another, of which there is a capture. */
export function addTo(host: Command, streams: Streams, finish: (code: number) => void): void {
  host
    .option("--sysfs <folder|file>", "read a copy of a host instead of this machine: a folder, or .tar, .tar.gz, .tar.zst")
    .option("--json", "print the host file that --host takes; with --doctor the findings")
    .option("-o, --output <file>", "write the host file, or what --format prints, to a file")
    .option("--capture <file>", "write what is read of the host to a .tar.zst that can be given away")
    .option("--doctor", "tell what is in the way of passing functions through with a virtual IOMMU")
    .option("--device <address>", "with --doctor: a function that is to be passed through (more than once)", gather)
    .option("--memory <size>", "with --doctor: the guest's RAM")
    .addOption(new Option("--format <dra>", "print ResourceSlices of Kubernetes").choices(["dra"]))
    .option("--node <name>", "with --format dra: the node's name", "node")
    .addHelpText("after", "\nviommu hosts lists the simulated hosts that come with viommu. docs/hosts.md walks through the doctor.")
    .action(async (options: HostOptions) => {
      checkOptions(options);
      const snapshot = await snapshotOf(options.sysfs);
      const { describeSnapshot } = await import("../host/described/index.js");
      const described = describeSnapshot(snapshot);
      if (options.capture !== undefined) {
        const { pack } = await import("../host/sysfs/index.js");
        const bytes = await pack(snapshot);
        write(options.capture, bytes);
        streams.out(`${options.capture}: ${snapshot.size} files, folders and links in ${bytes.length} bytes; docs/hosts.md lists what they are\n`);
      } else if (options.doctor === true) {
        finish(await doctor(described, options, streams));
        return;
      } else {
        await tell(described, options, streams);
      }
      finish(0);
    });
}

/** @throws Refusal for options that do not go together */
function checkOptions(options: HostOptions): void {
  const modes = [options.capture !== undefined && "--capture", options.doctor === true && "--doctor", options.format !== undefined && "--format"].filter((mode) => mode !== false);
  if (modes.length > 1) {
    throw new Refusal(`${modes[0]} and ${modes[1]} do not go together`, { wouldWork: "one after the other" });
  }
  const lost = options.doctor === true ? undefined : options.device !== undefined ? "--device" : options.memory !== undefined ? "--memory" : undefined;
  if (lost !== undefined) {
    throw new Refusal(`${lost} is for --doctor`, { wouldWork: `viommu host --doctor ${lost} ...` });
  }
}

async function snapshotOf(path: string | undefined): Promise<Snapshot> {
  const { copyOf, readCapture } = await import("../host/described/index.js");
  if (path !== undefined) {
    return readCapture(path);
  }
  const { readHwInfo } = await import("../host/linux/index.js");
  return copyOf(undefined, readHwInfo);
}

async function doctor(described: DescribedHost, { device = [], memory, json, output }: HostOptions, streams: Streams): Promise<number> {
  const { examine, formatProblems } = await import("../host/doctor/index.js");
  const question = { functions: device, memory: memory === undefined ? null : parseSize("memory", memory, "M") };
  const problems = examine(described, question);
  const text = json === true ? `${JSON.stringify({ host: described.description.name, findings: problems }, null, 2)}\n` : formatProblems(described.description.name, problems, { color: output === undefined && streams.color });
  give(text, output, streams);
  return problems.some(({ level }) => level === "error") ? 1 : 0;
}

async function tell(described: DescribedHost, { json, output, format, node }: HostOptions, streams: Streams): Promise<void> {
  const { formatHost, formatResourceSlices, hostFileText } = await import("../host/formats/index.js");
  if (format === "dra") {
    give(await formatResourceSlices(described, node ?? "node"), output, streams);
    return;
  }
  if (json !== true && output === undefined) {
    streams.out(formatHost(described, { color: streams.color }));
    return;
  }
  const text = hostFileText(described.description);
  give(text, output, streams);
  described.remarks.forEach((remark) => streams.err(`note: ${remark}\n`));
  const { loadHostDescription } = await import("../host/simulated/file/index.js");
  try {
    loadHostDescription(text, output ?? "the host file");
  } catch (error) {
    if (!(error instanceof Refusal)) {
      throw error;
    }
    streams.err(`warning: --host does not take it as it is: ${error.message}\n`);
  }
}

function give(text: string, output: string | undefined, streams: Streams): void {
  if (output === undefined) {
    streams.out(text);
  } else {
    write(output, text);
  }
}

function write(path: string, data: string | Uint8Array): void {
  try {
    writeFileSync(path, data);
  } catch (error) {
    throw new Refusal(`Could not open '${path}': ${systemWords(error)}`, { wouldWork: "a file in a folder that is there" });
  }
}

/** Addresses in full, each once; several may stand in one word. */
function gather(value: string, before: string[] = []): string[] {
  const all = value.split(",").map((address) => {
    const match = /^(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(address.trim());
    if (match === null) {
      throw new Refusal(`--device ${value}: no PCI address`, { wouldWork: "an address such as 0000:01:00.0 (lspci -D)" });
    }
    const [, segment = "0", bus, slot, fn] = match;
    return `${segment.padStart(4, "0")}:${bus.padStart(2, "0")}:${slot.padStart(2, "0")}.${fn}`.toLowerCase();
  });
  return [...new Set([...before, ...all])];
}
