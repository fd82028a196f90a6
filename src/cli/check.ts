import { type Command, Option } from "commander";
import type { CheckReport } from "../check/index.js";
import { loadHost, shippedHosts } from "../host/shipped/index.js";
import { readTextFile, Refusal } from "../support/index.js";
import type { Streams } from "./streams.js";

const FORMATS = ["text", "json"] as const;

interface CheckOptions {
  readonly host?: string;
  readonly format: (typeof FORMATS)[number];
}

/** `viommu check`: all that would fail or be slow of a command line, with places. */
export function addTo(command: Command, streams: Streams, finish: (code: number) => void): void {
  command
    .argument("<file...>", "files with command lines")
    .option("--host <file>", `the host that they are for: a file, ${shippedHosts().join(", ")} (default: none, what a line alone shows)`)
    .addOption(new Option("--format <text|json>", "how findings are told").choices(FORMATS).default("text"))
    .action(async (files: string[], options: CheckOptions) => {
      const { check, formatFindings } = await import("../check/index.js");
      const host = options.host === undefined ? null : await loadHost(options.host);
      const reports: CheckReport[] = [];
      let unreadable = false;
      for (const source of files) {
        try {
          reports.push(check({ text: readTextFile(source, "a file to check"), source, host }));
        } catch (error) {
          if (!(error instanceof Refusal)) {
            throw error;
          }
          unreadable = true;
          streams.err(`viommu: ${error.message}\n`);
        }
      }
      if (reports.length > 0) {
        streams.out(options.format === "json" ? `${JSON.stringify(reports, null, 2)}\n` : formatFindings(reports, { color: streams.color }));
      }
      finish(unreadable ? 2 : reports.some(({ findings }) => findings.some(({ level }) => level !== "note")) ? 1 : 0);
    });
}
