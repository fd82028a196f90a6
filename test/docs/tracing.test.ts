import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import "../../src/run/index.js";
import { traceEvents } from "../../src/support/index.js";
import { viommu } from "../cli/streams.js";

const page = readFileSync(new URL("../../docs/tracing.md", import.meta.url), "utf8");
const source = fileURLToPath(new URL("../../src/", import.meta.url));
const files = readdirSync(source, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => readFileSync(source + file, "utf8"));

describe("docs/tracing.md", () => {
  it("lists every event with its format, and no other", () => {
    const rows = [...page.matchAll(/^ {4}([a-z0-9_]+)(?: +(\S.*))?$/gm)].filter(([, name]) => name !== "viommu");
    const listed = rows.map(([, name, format]) => `${name} ${format ?? ""}`.trimEnd());
    const registered = traceEvents().map(({ name, format }) => `${name} ${format.trim()}`.trimEnd());
    expect(listed.toSorted()).toEqual(registered.toSorted());
  });
});

describe("trace events", () => {
  it("are told of somewhere", () => {
    const text = files.join("\n").replace(/^import [^;]*;$/gms, "");
    const made = [...text.matchAll(/const (\w+) = traceEvent\(/g)].map(([, name]) => name);
    expect(made.length).toBe(traceEvents().length);
    expect(made.filter((name) => text.match(new RegExp(`\\b${name}\\b`, "g"))!.length < 2)).toEqual([]);
  });

  it.each([
    ["run", "--trace", "help"],
    ["run", "--", "-M", "virt", "-trace", "help"],
  ])("are printed by viommu %s %s %s", async (...words) => {
    const { code, out, err } = await viommu(...words);
    expect(err).toBe("");
    expect(code).toBe(0);
    expect(out.trimEnd().split("\n")).toEqual(traceEvents().map(({ name }) => name));
  });
});
