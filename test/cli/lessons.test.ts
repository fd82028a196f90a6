/** `viommu inspect --lesson`: the machine, the guest and the text of a lesson, written as a page. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lessonNames } from "../../src/inspect/lessons/index.js";
import type { PageData } from "../../src/inspect/report/index.js";
import { viommu } from "./streams.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "lessons-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("viommu inspect --lesson", () => {
  it("has the lesson's text in the page", async () => {
    const to = join(folder, "page");
    const { code, out, err } = await viommu("inspect", "--lesson", "one-stage", "--static", to);
    expect([code, err]).toEqual([0, ""]);
    expect(out).toContain(`${to}/index.html`);
    const data = JSON.parse(readFileSync(join(to, "data.js"), "utf8").replace(/^[^{]*/, "").replace(/;\s*$/, "")) as PageData;
    expect(data.answers.find(({ execute }) => execute === "x-viommu-lesson")?.return).toMatchObject({ name: "one-stage", title: "One stage" });
    expect(data.answers.find(({ execute }) => execute === "x-viommu-map")?.return).toMatchObject({ functions: expect.arrayContaining([expect.objectContaining({ function: "disk0", streamId: 0x100 })]) });
  });

  it.each([
    [["--lesson", "three-stages"], `there is no lesson 'three-stages'`],
    [["--lesson", "pasids", "--", "-M", "virt"], "a machine's arguments and --lesson are two things to look at"],
    [["--lesson", "pasids", "--qmp", "unix:/tmp/x"], "--qmp and --lesson are two things to look at"],
    [["--lesson", "pasids", "--host", "grace"], "a lesson has its host already"],
    [["--lesson", "pasids", "--guest", "none"], "a lesson has its guest already"],
  ])("refuses %j", async (words, text) => {
    const { code, out, err } = await viommu("inspect", ...words);
    expect([code, out]).toEqual([2, ""]);
    expect(err.replace(/\s+/g, " ")).toContain(text);
  });

  it("names the lessons in its help", async () => {
    const { out } = await viommu("inspect", "--help");
    lessonNames().forEach((name) => expect(out).toContain(name));
  });
});
