/** Findings as JSON (docs/json.md). */
import type { CheckReport } from "./check.js";
import { lineAndColumn } from "./edited-text.js";

export function formatJson(reports: readonly CheckReport[]): string {
  const files = reports.map(({ source, text, findings }) => ({
    source,
    findings: findings.map(({ level, rule, words, found, wouldWork, place, range, mended }) => ({
      level,
      rule,
      words,
      found: found ?? null,
      wouldWork: wouldWork ?? null,
      place: place === null || range === null ? null : { ...place, property: place.property ?? null, ...endOf(text, range.end) },
      mended,
    })),
  }));
  return `${JSON.stringify({ files }, null, 2)}\n`;
}

function endOf(text: string, offset: number): { endLine: number; endColumn: number } {
  const { line, column } = lineAndColumn(text, offset);
  return { endLine: line, endColumn: column };
}
