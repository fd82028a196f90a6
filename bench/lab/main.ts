/**
 * `npm run bench:lab`: what Linux's own drivers cost in exits and time behind our IOMMUs and behind QEMU's, all in one
 * emulated machine and one run. Exits compare between machines; times are those of an emulated processor.
 */
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import pc from "picocolors";
import { LAB_ARCHITECTURES, type LabArch, LabMachine, labWayOfEnvironment } from "./machine.js";
import { type LabFigures, measureRow, READ_SIZES, SIZES } from "./measure.js";
import { BOARDS, type LabRow, ROWS } from "./rows.js";

const command = new Command("bench:lab")
  .description("measures exits and rates of a guest's maps and unmaps beside QEMU, in the lab (docs/lab.md)")
  .option("--arch <names>", "architectures, separated by commas", LAB_ARCHITECTURES.join(","))
  .option("--only <names>", "some rows only, separated by commas: a whole name, or the part before its dot")
  .option("--json <file>", "write the figures there, keyed by name")
  .parse();
const options = command.opts<{ arch: string; only?: string; json?: string }>();

const only = options.only?.split(",");
const chosen = (arch: LabArch): LabRow[] => ROWS[arch].filter(({ name, group }) => only === undefined || only.includes(name) || only.includes(group));
const architectures = options.arch.split(",").map((name) => LAB_ARCHITECTURES.find((one) => one === name) ?? command.error(`error: --arch: there are ${LAB_ARCHITECTURES.join(", ")}, not ${name}`, { exitCode: 2 }));
const all: Record<string, LabFigures> = {};
let failed = false;

console.log(line("", "", "exits", "host calls", "per second", "boot", "memory"));
for (const arch of architectures) {
  const rows = chosen(arch);
  if (rows.length === 0) {
    continue;
  }
  const lab = new LabMachine(arch, { ...labWayOfEnvironment(), peer: true });
  lab.start();
  try {
    if (BOARDS[arch].bound.length > 0) {
      lab.shell(`sh ${lab.project}/lab/host/bind.sh ${BOARDS[arch].bound.join(" ")}`);
    }
    for (const row of rows) {
      try {
        const figures = measureRow(lab, row);
        all[row.name] = figures;
        console.log(rowLines(row, figures));
      } catch (error) {
        failed = true;
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
      }
    }
  } finally {
    lab.stop();
  }
}
if (options.json !== undefined) {
  writeFileSync(options.json, `${JSON.stringify(all, undefined, 2)}\n`);
}
process.exitCode = failed ? 1 : 0;

/** A line for each that was measured: yellow where QEMU's row of the group, which comes first, has fewer exits or host calls. */
function rowLines({ name, group }: LabRow, figures: LabFigures): string {
  const peer = all[`${group}.qemu`];
  const lines = (["map", "unmap", "read"] as const).flatMap((what) => {
    const costs = figures[what];
    if (costs === null) {
      return [];
    }
    const text = line(name, `${what} of ${(what === "read" ? READ_SIZES : SIZES).join(", ")}`, costs.exits.join(" "), costs.hostCalls?.join(" ") ?? "", costs.perSecond.join(" "), "", "");
    const more = (["exits", "hostCalls"] as const).some((which) => costs[which]?.some((number, n) => number > (peer?.[what]?.[which]?.[n] ?? Infinity)));
    return [more ? pc.yellow(text) : text];
  });
  return [...lines, line(name, "", "", "", "", `${figures.boot.ms} ms (kernel ${figures.boot.kernelMs})`, `${figures.rssMiB} MiB`)].join("\n");
}

function line(...cells: string[]): string {
  const widths = [22, 21, 16, 16, 18, 24, 8];
  return cells
    .map((cell, n) => cell.padEnd(widths[n]))
    .join(" ")
    .trimEnd();
}
