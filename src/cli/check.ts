import { existsSync, statSync, writeFileSync } from "node:fs";
import { type Command, Option } from "commander";
import type { CheckReport } from "../check/index.js";
import { loadHost, shippedHosts } from "../host/shipped/index.js";
import type { HostDescription } from "../host/simulated/file/index.js";
import { readTextFile, Refusal, systemWords } from "../support/index.js";
import { parseDescriptor } from "./guest-options.js";
import type { Streams } from "./streams.js";

const FORMATS = ["text", "json", "sarif"] as const;

interface CheckOptions {
  readonly host?: string;
  readonly fd?: ReadonlyMap<string, string>;
  readonly format: (typeof FORMATS)[number];
  readonly fix?: boolean;
  readonly out?: string;
  readonly inPlace?: boolean;
}

const EXIT_CLEAN = 0;
const EXIT_FINDINGS = 1;
const EXIT_UNREADABLE = 2;

/** `viommu check`: all that would fail or be slow of a command line, with places. */
export function addTo(command: Command, streams: Streams, finish: (code: number) => void): void {
  command
    .argument("<files...>", "files with command lines")
    .option("--host <file>", `the host that they are for: a file, a capture, ${shippedHosts().join(", ")}, or linux: this machine (default: none, what a line alone shows)`)
    .option("--fd <n=address>", "the function of the host that a vfio-pci with fd=N is; once for each", parseDescriptor)
    .addOption(new Option("--format <text|json|sarif>", "how findings are told").choices(FORMATS).default("text"))
    .option("--fix", "mend what can be: the corrected text goes to standard output, and findings to standard error")
    .option("-o, --out <file>", "with --fix: where the corrected text goes")
    .option("--in-place", "with --fix: the file itself is corrected")
    .addHelpText("after", HELP)
    .action(async (files: string[], options: CheckOptions) => {
      checkOptions(files, options);
      const room = await import("../check/index.js");
      const host = options.host === undefined ? null : await hostToCheck(options.host);
      const reports: CheckReport[] = [];
      let unreadable = false;
      for (const source of files) {
        try {
          reports.push(room.check({ text: readTextFile(source, "a file to check"), source, host, descriptors: options.fd }));
        } catch (error) {
          if (!(error instanceof Refusal)) {
            throw error;
          }
          unreadable = true;
          streams.err(`viommu: ${error.message}\n`);
        }
      }
      const told = { text: () => room.formatFindings(reports, { color: streams.color, fixed: options.fix === true }), json: () => room.formatJson(reports), sarif: () => room.formatSarif(reports) }[options.format]();
      const ownOutput = options.fix !== true || options.out !== undefined || options.inPlace === true;
      if (reports.length > 0) {
        (ownOutput ? streams.out : streams.err).call(streams, told);
      }
      if (options.fix === true) {
        reports.forEach((report) => write(report, options, streams));
      }
      const wrong = reports.some(({ findings }) => findings.some(({ level, mended }) => level !== "note" && !(options.fix === true && mended)));
      finish(unreadable ? EXIT_UNREADABLE : wrong ? EXIT_FINDINGS : EXIT_CLEAN);
    });
}

const HELP = `
Exit code: 0 where nothing was found but notes, 1 where something was, 2 where a
file cannot be read. With --fix what was mended does not count (docs/checking.md).`;

/** A host by its name, a capture of one (a folder, or an archive of `viommu host --capture`), or this machine. @throws Refusal */
async function hostToCheck(name: string): Promise<HostDescription> {
  const isCapture = /\.tar(?:\.zst|\.gz)?$/.test(name) || (existsSync(name) && statSync(name).isDirectory());
  if (name !== "linux" && !isCapture) {
    return loadHost(name);
  }
  const { describeSnapshot, describeThisMachine, readCapture } = await import("../host/described/index.js");
  return (isCapture ? describeSnapshot(await readCapture(name)) : describeThisMachine()).description;
}

/** @throws Refusal where options do not go together */
function checkOptions(files: readonly string[], { fix, out, inPlace }: CheckOptions): void {
  const given = out !== undefined ? "--out" : inPlace === true ? "--in-place" : null;
  if (given !== null && fix !== true) {
    throw new Refusal(`${given} is for what --fix corrects`, { wouldWork: `--fix ${given}` });
  }
  if (out !== undefined && inPlace === true) {
    throw new Refusal("--out and --in-place name two places", { wouldWork: "one of them" });
  }
  if (fix === true && files.length > 1 && inPlace !== true) {
    throw new Refusal("several corrected texts have no place in one", { found: `${files.length} files`, wouldWork: "--fix --in-place, or one file" });
  }
}

function write({ source, text, fixed }: CheckReport, { out, inPlace }: CheckOptions, streams: Streams): void {
  const path = inPlace === true ? source : out;
  if (path === undefined) {
    streams.out(fixed);
    return;
  }
  if (inPlace === true && fixed === text) {
    return;
  }
  try {
    writeFileSync(path, fixed);
  } catch (error) {
    throw new Refusal(`Could not write to '${path}': ${systemWords(error)}`);
  }
}
