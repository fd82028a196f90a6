/** Good lines broken in several ways at once: each mistake is found, and what is fixed has nothing more to find. */
import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HostFacts, planMachine, writePlan } from "../../src/plan/index.js";
import type { HostDescriptionInput } from "../../src/host/simulated/index.js";
import { checkLine, hostOf, told } from "./line.js";

const NIGHTLY = process.env.VIOMMU_FUZZ === "nightly";
const isWrong = (line: string): boolean => !line.startsWith("note ");
const examples = new URL("../../examples/", import.meta.url);

interface Line {
  readonly name: string;
  readonly text: string;
  readonly host: HostDescriptionInput | string;
}

const lines: Line[] = [
  ...readdirSync(examples)
    .filter((name) => name.endsWith(".args"))
    .map((name) => {
      const text = readFileSync(new URL(name, examples), "utf8");
      const host = /--host (\S+)/.exec(text)?.[1] ?? (/q35/.test(text) ? "two-socket-spr" : "grace");
      return { name, text, host: host.endsWith(".json") ? (JSON.parse(readFileSync(new URL(`../${host}`, examples), "utf8")) as HostDescriptionInput) : host };
    }),
  ...[["grace", "0009:01:00.0", "0018:02:00.0"], ["two-socket-spr", "0000:97:00.0", "0000:6b:00.0"]].map(([host, ...devices]) => ({
    name: `plan for ${host}`,
    text: writePlan(planMachine({ facts: new HostFacts(hostOf(host)!), devices, memory: 4 * 2 ** 30, cpus: 4 }), "viommu", { hostName: host, qemu: "11.1", libvirt: "12.9" }),
    host,
  })),
];

/** Ways to break a line, by the rule that is broken; null where the line has nothing of the kind. */
const BREAKS: ReadonlyArray<{ readonly rule: RegExp; readonly break: (text: string, at: number) => string | null }> = [
  { rule: /^error (?:no-iommufd)|^warning (?:legacy-container|mixed-containers)/, break: (text, at) => replaceAt(text, /,iommufd=\w+/g, at, "") },
  { rule: /^error no-such-iommufd/, break: (text, at) => replaceAt(text, /iommufd=(\w+)/g, at, "iommufd=gone") },
  { rule: /^error chassis-collision/, break: (text) => (text.includes("chassis=1,") || text.includes("chassis=1 ") ? text.replace(/chassis=2\b/, "chassis=1") : null) },
  { rule: /^error bus-number-collision/, break: (text) => (/bus_nr=(\S+?)[, ][^]*bus_nr=/.test(text) ? text.replace(/(bus_nr=(\w+)[^]*?bus_nr=)\w+/, "$1$2") : null) },
  { rule: /^error unknown-property/, break: (text, at) => replaceAt(text, /\b(?:ssidsize|accel|chassis|primary-bus)=/g, at, (word) => word.toUpperCase()) },
  { rule: /^error acpi-off/, break: (text) => (/accel=on|intel-iommu/.test(text) && !/acpi=/.test(text) ? text.replace(/-machine (\w+)/, "-machine $1,acpi=off") : null) },
  { rule: /^error intremap-needs-split/, break: (text, at) => (text.includes("intremap=on") ? replaceAt(text, /kernel-irqchip=split/g, at, "kernel-irqchip=on") : null) },
  { rule: /^warning older-spelling/, break: (text, at) => replaceAt(text, /fsts=on/g, at, "x-flts=on") },
  { rule: /^error vtd-properties/, break: (text, at) => replaceAt(text, /scalable-mode=on,(?=fsts)/g, at, "") },
  { rule: /^error cmdqv|^error accel-stage/, break: (text, at) => replaceAt(text, /accel=on/g, at, "accel=on,stage=nested") },
];

function replaceAt(text: string, what: RegExp, at: number, by: string | ((word: string) => string)): string | null {
  // What a comment says is nothing.
  const found = [...text.matchAll(what)].filter(({ index }) => !text.slice(text.lastIndexOf("\n", index) + 1, index).trimStart().startsWith("#"));
  const one = found[at % Math.max(found.length, 1)];
  return one === undefined ? null : text.slice(0, one.index) + (typeof by === "string" ? by : by(one[0])) + text.slice(one.index + one[0].length);
}

describe("lines that were good", () => {
  it("and are broken have each mistake found and mended, and comments kept", { timeout: 300_000 }, () => {
    fc.assert(
      fc.property(fc.constantFrom(...lines), fc.uniqueArray(fc.nat(BREAKS.length - 1), { minLength: 1, maxLength: 3 }), fc.nat(7), ({ text, host }, ways, at) => {
        let broken = text;
        const expected: RegExp[] = [];
        for (const way of ways) {
          const next = BREAKS[way].break(broken, at);
          if (next !== null && next !== broken) {
            broken = next;
            expected.push(BREAKS[way].rule);
          }
        }
        const report = checkLine(broken, host);
        const found = told(report);
        for (const rule of expected) {
          expect(found, broken).toEqual(expect.arrayContaining([expect.stringMatching(rule)]));
        }
        expect(report.findings.filter(({ level, mended }) => level !== "note" && !mended).map(({ words }) => words), broken).toEqual([]);
        if (expected.length > 0) {
          expect(told(checkLine(report.fixed, host)).filter(isWrong), report.fixed).toEqual([]);
        }
        const comments = (all: string): string[] => all.split("\n").filter((line) => line.trimStart().startsWith("#"));
        expect(comments(report.fixed)).toEqual(comments(text));
      }),
      { seed: 20261130, numRuns: NIGHTLY ? 2000 : 12 },
    );
  });
});
