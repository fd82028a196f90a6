/** Each rule finds what breaks it, at its place and in its words, and a mend leaves nothing to find. */
import { describe, expect, it } from "vitest";
import { rules } from "../../src/check/index.js";
import { ARM, badLines, hostFor, lineOf, X86 } from "./bad-lines.js";
import { checkLine, told } from "./line.js";

const NIGHTLY = process.env.VIOMMU_FUZZ === "nightly";
/** One line for each rule; at length all of them, and each fixed text checked again. */
const chosen = NIGHTLY ? badLines : badLines.filter((bad, index) => badLines.findIndex(({ rule }) => rule === bad.rule) === index);
const isWrong = (line: string): boolean => !line.startsWith("note ");

describe("good lines", () => {
  it.each([["arm", ARM, "grace"], ["x86", X86, "two-socket-spr"]])("of %s have nothing but notes", (_name, text, host) => {
    const report = checkLine(text, host);
    expect(told(report).filter(isWrong)).toEqual([]);
    expect(report.fixed).toBe(text);
  });
});

describe("the rule", () => {
  it.each(chosen.map((bad) => [bad.rule, bad] as const))("%s", (rule, bad) => {
    const text = lineOf(bad);
    const report = checkLine(text, hostFor(bad));
    const at = (start: number, end: number): string => text.slice(start, end);
    const finding = report.findings.find((one) => one.rule === rule && (one.range === null ? null : at(one.range.start, one.range.end)) === bad.at);
    expect(finding, told(report).join("\n")).toMatchObject({ rule, words: bad.words, mended: bad.mended });
    // Nothing else is wrong with the line.
    expect([...new Set(report.findings.filter(({ level }) => level !== "note").map((one) => one.rule))]).toEqual(finding!.level === "note" ? [] : [rule]);
    if (!bad.mended) {
      expect(report.fixed).toBe(text);
    } else if (NIGHTLY) {
      expect(told(checkLine(report.fixed, hostFor(bad))).filter(isWrong)).toEqual([]);
    }
    if (finding!.place !== null) {
      const line = text.split("\n")[finding!.place.line! - 1];
      expect(line.slice(finding!.place.column! - 1).startsWith(bad.at!.split("\n")[0])).toBe(true);
    }
  });
});

describe("the table of rules", () => {
  it("has a line that breaks each, but for what is of domain XML alone", () => {
    const broken = new Set(badLines.map(({ rule }) => rule));
    expect([...rules.keys()].filter((id) => !broken.has(id as never))).toEqual(["domain-xml"]);
  });

  it("has for each a title of one line, a reason and a source", () => {
    for (const { id, title, help, source } of rules.values()) {
      expect(id).toMatch(/^[a-z][a-z0-9-]+$/);
      expect(title.length, id).toBeLessThan(80);
      expect(title, id).not.toMatch(/\.$/);
      expect(help, id).toMatch(/\.$/);
      expect(source, id).not.toBe("");
    }
  });
});
