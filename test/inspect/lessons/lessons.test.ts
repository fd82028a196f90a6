import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { lessonNames, loadLesson } from "../../../src/inspect/lessons/index.js";
import { locateWords, parseArguments } from "../../../src/machine/arguments/index.js";
import { recognise } from "../../../src/machine/input/index.js";
import { defaultHost, findGuest, hostToRun, runMachine } from "../../../src/run/index.js";
import { readTextFile, Refusal } from "../../../src/support/index.js";

const folder = mkdtempSync(join(tmpdir(), "viommu-lesson-"));
afterAll(() => rmSync(folder, { recursive: true }));

function lessonOf(name: string, text: string, files: readonly string[] = ["machine.args", "guest.mjs"]): string {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, "lesson.yaml"), text);
  files.forEach((file) => writeFileSync(join(path, file), ""));
  return path;
}

async function refusal(nameOrFolder: string): Promise<string> {
  const error: unknown = await loadLesson(nameOrFolder).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(Refusal);
  return (error as Refusal).message;
}

describe("the lessons of the package", () => {
  it("are five, in their order", () => {
    expect(lessonNames()).toEqual(["one-stage", "two-stages", "pasids", "stale-tlb", "msi-fault"]);
  });

  it.each(lessonNames())("%s: its guest goes well on its machine, and ends where the text says", async (name) => {
    const { report, machine, guest, host } = await loadLesson(name);
    expect(report.name).toBe(name);
    const { words } = recognise(readTextFile(machine, "a file of machine arguments"), machine);
    const args = parseArguments({ words: locateWords(words.map((word) => word.text)), findings: [] });
    const account = await runMachine({ arguments: args, host: await hostToRun(host ?? defaultHost(args)), guest: await findGuest(guest) });
    expect(account.failure).toBeNull();
    expect(account.ok).toBe(true);
    const events = { "one-stage": ["F_TRANSLATION"], "two-stages": [], pasids: ["C_BAD_CD"], "stale-tlb": [], "msi-fault": ["F_TRANSLATION"] };
    expect(account.events.map((event) => event.name)).toEqual(events[name as keyof typeof events]);
  });
});

describe("a lesson of a user's", () => {
  it("is a folder", async () => {
    const path = lessonOf("mine", 'title: Mine\nabout: x\nhost: board\nsteps: [{title: One, show: "#/map", text: Look}]\n');
    expect(await loadLesson(path)).toEqual({
      report: { name: "mine", title: "Mine", about: "x", steps: [{ title: "One", show: "#/map", text: "Look", sees: [] }] },
      machine: join(path, "machine.args"),
      guest: join(path, "guest.mjs"),
      host: "board",
    });
  });

  it("is refused with all that is wrong", async () => {
    expect(await refusal("three-stages")).toContain("there is no lesson 'three-stages'");
    expect(await refusal(lessonOf("shape", "title: 1\nsteps: [{title: a, show: 'javascript:x', text: b, more: 1}]\n"))).toMatch(
      /shape\/lesson.yaml is no lesson[^]*title: [^]*about: [^]*steps.0.show: an address within the inspector[^]*more/,
    );
    expect(await refusal(lessonOf("yaml", "title: [\n"))).toContain("is not YAML");
    expect(await refusal(lessonOf("bare", 'title: t\nabout: x\nsteps: [{title: One, show: "#/map", text: Look}]\n', []))).toContain("has no machine.args and no guest.mjs");
  });
});
