/** Findings as SARIF 2.1.0 (OASIS), which CI systems show beside the lines. */
import { pathToFileURL } from "node:url";
import type { Log, ReportingDescriptor, Result } from "sarif";
import { packageVersion } from "../support/index.js";
import type { CheckedFinding, CheckReport } from "./check.js";
import { lineAndColumn } from "./edited-text.js";
import { type Rule, rules } from "./rules.js";

const SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

export function formatSarif(reports: readonly CheckReport[]): string {
  const known = [...rules.values()];
  const log: Log = {
    $schema: SCHEMA,
    version: "2.1.0",
    runs: [
      {
        tool: { driver: { name: "viommu", semanticVersion: packageVersion(), rules: known.map(descriptor) } },
        columnKind: "utf16CodeUnits",
        artifacts: reports.map(({ source }) => ({ location: { uri: uriOf(source) } })),
        results: reports.flatMap((report, index) => report.findings.map((finding) => result(report, index, finding, known))),
      },
    ],
  };
  return `${JSON.stringify(log, null, 2)}\n`;
}

function descriptor({ id, level, title, help, source }: Rule): ReportingDescriptor {
  return {
    id,
    shortDescription: { text: title },
    fullDescription: { text: help },
    help: { text: `${help}\n\nSource: ${source}` },
    defaultConfiguration: { level },
  };
}

function result({ source, text }: CheckReport, index: number, { rule, level, words, found, wouldWork, range }: CheckedFinding, known: readonly Rule[]): Result {
  const message = [words, ...(found === undefined ? [] : [`found: ${found}`]), ...(wouldWork === undefined ? [] : [`would work: ${wouldWork}`])].join("\n");
  const begin = range === null ? null : lineAndColumn(text, range.start);
  const end = range === null ? null : lineAndColumn(text, range.end);
  return {
    ruleId: rule,
    ruleIndex: known.findIndex(({ id }) => id === rule),
    level,
    message: { text: message },
    locations: [
      {
        physicalLocation: {
          artifactLocation: { uri: uriOf(source), index },
          ...(begin === null || end === null ? {} : { region: { startLine: begin.line, startColumn: begin.column, endLine: end.line, endColumn: end.column, snippet: { text: text.slice(range!.start, range!.end) } } }),
        },
      },
    ],
  };
}

/** A relative path stays one, so that what shows the results finds it in its own checkout. */
function uriOf(source: string): string {
  return source.startsWith("/") ? pathToFileURL(source).href : source.split(/[/\\]/).map(encodeURIComponent).join("/");
}
