import { check, type CheckReport } from "../../src/check/index.js";
import { describeHost, type HostDescription, type HostDescriptionInput } from "../../src/host/simulated/index.js";
import { hostInput } from "../machine/build.js";

export function hostOf(input: HostDescriptionInput | string | null): HostDescription | null {
  return input === null ? null : describeHost(typeof input === "string" ? hostInput(input) : input);
}

/** Checks a line of one text. */
export function checkLine(text: string, host: HostDescriptionInput | string | null = null): CheckReport {
  return check({ text, source: "machine.args", host: hostOf(host) });
}

/** Rule, level, and the text that each finding is about. */
export function told({ text, findings }: CheckReport): string[] {
  return findings.map(({ rule, level, range }) => `${level} ${rule}: ${range === null ? "-" : text.slice(range.start, range.end)}`);
}
