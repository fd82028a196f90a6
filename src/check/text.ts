/** Findings for people: within 80 columns, each with its line of the text and a mark below the word. */
import pc from "picocolors";
import { plural, wrap } from "../support/index.js";
import type { CheckedFinding, CheckReport } from "./check.js";
import { lineAndColumn } from "./edited-text.js";

export interface TextOptions {
  readonly color: boolean;
  /** What can be mended is. */
  readonly fixed?: boolean;
}

const WIDTH = 80;
const DOTS = "...";

export function formatFindings(reports: readonly CheckReport[], { color, fixed = false }: TextOptions): string {
  const paint = pc.createColors(color);
  const levels = { error: paint.red, warning: paint.yellow, note: paint.cyan };
  const lines: string[] = [];
  for (const report of reports) {
    for (const finding of report.findings) {
      const { level, rule, words, found, wouldWork, place } = finding;
      const [first, ...more] = wrap(`${level}: ${words} [${rule}]`, WIDTH);
      lines.push(first.replace(`${level}:`, `${levels[level](paint.bold(level))}:`), ...more.map((line) => `  ${line}`));
      const where = place === null ? report.source : place.line === null ? `${report.source}: word ${(place.word ?? 0) + 1}` : `${report.source}:${place.line}:${place.column}`;
      lines.push(`  at: ${where}`);
      lines.push(...excerpt(report.text, finding).map((line, index) => `  ${index === 0 ? line : levels[level](line)}`));
      lines.push(...indented("found", found), ...indented("would work", wouldWork), "");
    }
  }
  return `${[...lines, ...reports.map((report) => summary(report, fixed))].join("\n")}\n`;
}

function indented(name: string, text: string | undefined): string[] {
  return text === undefined ? [] : wrap(`${name}: ${text}`, WIDTH - 2).map((line, index) => `${index === 0 ? "  " : "    "}${line}`);
}

function summary({ source, findings }: CheckReport, fixed: boolean): string {
  const count = (level: CheckedFinding["level"]): number => findings.filter((one) => one.level === level).length;
  const counts = (["error", "warning", "note"] as const).filter((level) => count(level) > 0).map((level) => plural(count(level), level));
  const mended = findings.filter((one) => one.mended && one.level !== "note").length;
  const wrong = count("error") + count("warning");
  const which = mended === wrong ? (wrong === 1 ? "it" : "all of them") : `${mended} of them`;
  const fix = mended === 0 ? (fixed && wrong > 0 ? "; nothing is mended" : "") : fixed ? `; ${mended === wrong ? "all" : mended} mended` : `; --fix mends ${which}`;
  return `${source}: ${counts.length === 0 ? "nothing found" : counts.join(", ")}${fix}`;
}

/** The line that a finding is in, cut to the width, and marks below what it is about. */
function excerpt(text: string, { range }: CheckedFinding): string[] {
  if (range === null) {
    return [];
  }
  const { line, column } = lineAndColumn(text, range.start);
  const content = text.split("\n")[line - 1].replace(/\r$/, "").replaceAll("\t", " ");
  const margin = `${line} | `;
  const room = WIDTH - 2 - margin.length;
  const length = Math.max(Math.min(range.end - range.start, content.length - (column - 1)), 1);
  let from = 0;
  if (content.length > room) {
    from = Math.max(Math.min(column - 1 - Math.floor((room - Math.min(length, room)) / 2), content.length - room), 0);
  }
  let shown = content.slice(from, from + room);
  if (from > 0) {
    shown = `${DOTS}${shown.slice(DOTS.length)}`;
  }
  if (from + room < content.length) {
    shown = `${shown.slice(0, -DOTS.length)}${DOTS}`;
  }
  const at = column - 1 - from;
  return [`${margin}${shown.trimEnd()}`, `${" ".repeat(margin.length - 2)}| ${" ".repeat(at)}${"^".repeat(Math.max(Math.min(length, room - at), 1))}`];
}
