/** docs/checking.md: its table is the code's, and its example is what the command prints. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { check, formatFindings, rules } from "../../src/check/index.js";
import { loadHost } from "../../src/host/shipped/index.js";

const page = readFileSync(new URL("../../docs/checking.md", import.meta.url), "utf8");

it("docs/checking.md has each rule, in their order", () => {
  const rows = [...page.matchAll(/^\| `([a-z0-9-]+)` \| (error|warning|note) \| (.*?) \| (.*) \|$/gm)].map(([, ...row]) => row);
  expect(rows).toEqual([...rules.values()].map(({ id, level, title, source }) => [id, level, title, source]));
});

it("docs/checking.md shows what the command prints", async () => {
  const block = (start: number): string => /^(?:(?: {4}.*)?\n)+/.exec(page.slice(start))![0].replace(/^ {4}/gm, "");
  const text = block(page.indexOf("    qemu-system-aarch64")).trimEnd();
  const shown = block(page.indexOf("    error: Property")).trimEnd();
  const report = check({ text: `${text}\n`, source: "machine.args", host: await loadHost("grace") });
  expect(formatFindings([report], { color: false }).trimEnd().endsWith(`\n${shown}`)).toBe(true);
});
