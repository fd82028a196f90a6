import pc from "picocolors";
import type { BenchResult } from "./registry.js";

/** The figures as a table of at most 80 columns. */
export function table(results: readonly BenchResult[]): string[] {
  const lines = [pc.bold(row("figure", "here", "C", "ratio", "target", "unit"))];
  for (const result of results) {
    const judged = result.ratio ?? result.value;
    const low = judged === undefined || result.target === undefined || judged <= result.target * 1.005;
    const good = low && (judged === undefined || result.atLeast === undefined || judged >= result.atLeast);
    const line = row(
      result.name,
      number(result.js ?? result.value),
      number(result.c),
      result.ratio === undefined ? "-" : result.ratio.toFixed(2),
      result.target !== undefined ? String(result.target) : result.atLeast !== undefined ? `>${result.atLeast}` : "-",
      result.unit,
    );
    lines.push(good ? line : pc.yellow(line));
  }
  return lines;
}

/** The figures by name, as `--json` writes them. */
export function json(results: readonly BenchResult[]): string {
  const byName = Object.fromEntries(
    results.map(({ name, ...rest }) => [
      name,
      Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, typeof value === "number" ? Number(value.toPrecision(5)) : value])),
    ]),
  );
  return `${JSON.stringify(byName, undefined, 2)}\n`;
}

function row(...cells: string[]): string {
  const widths = [30, -9, -9, -7, -7, 12];
  return cells
    .map((cell, i) => (widths[i] < 0 ? cell.padStart(-widths[i]) : cell.padEnd(widths[i])))
    .join(" ")
    .trimEnd();
}

function number(value: number | undefined): string {
  return value === undefined ? "-" : value >= 1000 ? value.toFixed(0) : Number(value.toPrecision(4)).toString();
}
