import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageFolder } from "../../src/support/index.js";

const read = (...path: string[]): string => readFileSync(join(packageFolder(), ...path), "utf8");

/** What guests of the lab are told to do is in their first program, which only the lab itself runs. */
describe("the lab's guests", () => {
  const init = read("lab/guest/init.sh");
  const known = new Set([
    ...[...init.matchAll(/^(\w+)\(\)/gm)].map(([, name]) => name),
    ...[...init.matchAll(/^ {4}([\w |:*]+)\) /gm)].flatMap(([, names]) => names.split(" | ").map((name) => name.replace(/:\*$/, ""))),
  ]);

  test.each(readdirSync(join(packageFolder(), "test/lab")).filter((name) => name.endsWith(".lab.ts")))("know every word of %s", (file) => {
    const words = [...read("test/lab", file).matchAll(/\b(?:lab|then)=([a-z][\w,:]*)/g)].flatMap(([, names]) => names.split(",")).map((word) => word.split(":")[0]);
    expect(words.length).toBeGreaterThan(3);
    expect(words.filter((word) => !known.has(word))).toEqual([]);
  });
});
