/** What a run prints for people: differences first, then a line for each group. 80 columns. */
import { plural, wrap } from "../support/index.js";
import type { Comparison, Difference } from "./compare.js";
import type { ConformanceRecord } from "./record.js";

const WIDTH = 80;

/** @param name of the record; null: there is none to compare with */
export function formatReport(run: ConformanceRecord, device: string, name: string | null, comparison: Comparison | null): string {
  const lines = [...heading(run, device), ""];
  if (comparison === null) {
    lines.push(...wrap(`Nothing to compare with: no record has an IOMMU of this kind (${run.facts.iommu}). --json prints one.`, WIDTH), "");
    lines.push(...run.groups.flatMap((group) => groupLines(group.name, "answers" in group ? plural(Object.keys(group.answers).length, "call") : `not run: ${group.notRun}`)));
    return `${lines.join("\n")}\n`;
  }
  const open = comparison.differences.filter(({ reason }) => reason === null);
  const known = comparison.differences.filter(({ reason }) => reason !== null);
  lines.push(`Compared with ${name}:`);
  if (open.length > 0) {
    lines.push("", `${plural(open.length, "answer")} ${open.length === 1 ? "differs" : "differ"}, and no reason is known:`, ...open.flatMap(differenceLines));
  }
  if (known.length > 0) {
    lines.push("", `${plural(known.length, "answer")} ${known.length === 1 ? "differs" : "differ"} for a known reason:`);
    for (const reason of new Set(known.map((one) => one.reason!))) {
      lines.push(...labelled("  ", `${reason}:`), ...known.filter((one) => one.reason === reason).flatMap(differenceLines));
    }
  }
  lines.push("", ...comparison.groups.flatMap(({ name: group, equal, differing, notCompared, why }) => groupLines(group, why ?? [`${equal} equal`, differing > 0 ? `${differing} differ` : "", notCompared > 0 ? `${notCompared} not compared` : ""].filter((part) => part !== "").join(", "))));
  const sum = (pick: (group: Comparison["groups"][number]) => number): number => comparison.groups.reduce((total, group) => total + pick(group), 0);
  lines.push("", `${plural(sum((group) => group.equal + group.differing), "call")} compared, ${sum((group) => group.notCompared)} not: ${open.length === 0 ? "the kernel answers as recorded" : `${plural(open.length, "difference")} without a reason`}`);
  return `${lines.join("\n")}\n`;
}

function heading({ kernel, host, facts, device }: ConformanceRecord, address: string): string[] {
  const hex = (value: number): string => value.toString(16).padStart(4, "0");
  const has = [
    facts.nesting ? "nests" : "does not nest",
    facts.pasidBits > 0 ? `${facts.pasidBits} bits of PASID` : "no PASIDs",
    facts.ats ? "ATS" : "no ATS",
    facts.dirtyTracking ? "dirty state" : "no dirty state",
  ];
  return [
    ...wrap(kernel.simulated ? `Kernel: ${host}, as Linux ${kernel.release}` : `Kernel: Linux ${kernel.release} (${kernel.machine})`, WIDTH),
    ...wrap(`Function: ${address} (${hex(device.vendor)}:${hex(device.device)})`, WIDTH),
    ...wrap(`IOMMU: ${facts.iommu}: ${has.join(", ")}`, WIDTH),
  ];
}

function differenceLines({ group, call, recorded, answered }: Difference): string[] {
  return [...labelled("  ", `${group}: ${call}`), ...labelled("    recorded  ", recorded), ...labelled("    answered  ", answered)];
}

function groupLines(name: string, told: string): string[] {
  return labelled(`${name.padEnd(24)}  `, told);
}

/** A text behind a label; its further lines stand below its first, two columns in. */
function labelled(label: string, text: string): string[] {
  return wrap(text, WIDTH - label.length).map((part, index) => `${index === 0 ? label : " ".repeat(label.length + 2)}${part}`);
}
