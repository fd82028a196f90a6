/** A recording in the inspector's page: a position that every view follows, forward and back. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadLesson } from "../../src/inspect/lessons/index.js";
import { answersOf, openInspector, writePage } from "../../src/inspect/server/index.js";
import { viommu } from "../cli/streams.js";
import { record } from "./recording/record.js";
import { running } from "./machine/rigs.js";
import { browserRig, noBrowser } from "./browser.js";
import { LOOKS, findings } from "./looks.js";

const rig = browserRig();
const folder = mkdtempSync(join(tmpdir(), "viommu-recorded-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(noBrowser)("a recording", () => {
  let address: string;
  let rows = 0;

  beforeAll(async () => {
    const machine = await running("smmuv3");
    const recorded = record(machine.machine, { onRow: () => rows++ });
    const { base } = machine.machine.describe().iommus.find(({ id }) => id === "smmu1")!;
    const port = machine.machine.port();
    // CR0 as it is, then without the command queue, then as it was.
    const on = BigInt(await port.read(base + 0x20, 4));
    await port.write(base + 0x20, 4, on);
    await port.write(base + 0x20, 4, on & ~8n);
    await port.write(base + 0x20, 4, on);
    recorded.close();
    machine.end();
    writePage(rig.folder, folder, { about: "a test", answers: [], recording: Buffer.from(recorded.bytes()).toString("base64") });
    address = `${pathToFileURL(join(folder, "index.html"))}`;
  });

  it("is stepped back and forward: each view shows the state after the row", async () => {
    const page = await rig.open(LOOKS.light);
    page.setDefaultTimeout(15_000);
    await page.goto(`${address}#/timeline`);
    await expect.poll(() => page.getByText(`state after row ${rows} of ${rows}`).count()).toBe(1);
    const list = page.getByRole("grid", { name: "Time line" });
    await list.focus();
    await page.keyboard.press("ArrowUp");
    await expect.poll(() => page.getByText(`state after row ${rows - 1} of ${rows}`).count()).toBe(1);
    await page.getByRole("link", { name: "Queues" }).click();
    await page.getByLabel("also queues that are off").check();
    const state = (): Promise<string> => page.getByRole("region", { name: "command queue of smmu1", exact: true }).innerText();
    await expect.poll(state).toMatch(/command queue\s+· ?\s*off/);
    await page.getByRole("slider", { name: "Row" }).focus();
    await page.keyboard.press("ArrowRight");
    await expect.poll(state).toMatch(/command queue\s+✓ ?\s*on/);
    await page.keyboard.press("ArrowLeft");
    await expect.poll(state).toMatch(/command queue\s+· ?\s*off/);
    await page.getByRole("link", { name: "Walk" }).click();
    await page.getByRole("button", { name: "Walk", exact: true }).click();
    await page.locator(".vw-end").waitFor();
    expect(rig.faults()).toEqual([]);
    expect(await findings(page)).toEqual([]);
    // axe-core asks for the sheet by XMLHttpRequest, which no page of a file may.
    expect(rig.faults().filter((fault) => !/page\.css|net::ERR_FAILED/.test(fault))).toEqual([]);
    await page.context().close();
  });

  it("of a stale TLB: the page is walked while it was mapped, and the cache keeps what the tables have no more", async () => {
    const { machine, guest, report } = await loadLesson("stale-tlb");
    const file = join(folder, "lesson.recording");
    expect(await viommu("run", "--guest", guest, "--record", file, machine)).toMatchObject({ code: 0, err: "" });
    const data = { about: file, answers: [{ execute: "x-viommu-lesson", arguments: {}, return: report }], recording: readFileSync(file).toString("base64") };
    const files = join(folder, "lesson");
    writePage(rig.folder, files, data);
    const inspector = await openInspector({ answers: answersOf({}), port: 0, control: false, page: rig.folder, data });
    for (const at of [inspector.address, `${pathToFileURL(join(files, "index.html"))}`]) {
      const page = await rig.open(LOOKS.light);
      page.setDefaultTimeout(15_000);
      await page.goto(`${at}#/walk?function=gpu0&iova=0x12345000`);
      const ending = (): Promise<string> => page.locator(".vw-end").innerText();
      await expect.poll(ending).toContain("F_TRANSLATION");
      await page.getByText("The tables say no").first().waitFor();
      const slider = page.getByRole("slider", { name: "Row" });
      const last = Number(await slider.inputValue());
      await slider.focus();
      let back = 0;
      for (; back < last && (await ending()).includes("F_TRANSLATION"); back++) {
        await page.keyboard.press("ArrowLeft");
        await page.getByText(`state after row ${last - back - 1} of ${last}`).waitFor();
        await page.waitForTimeout(20);
      }
      expect([back > 0, back < last]).toEqual([true, true]);
      await expect.poll(ending).not.toMatch(/F_[A-Z]+|C_BAD/);
      await page.keyboard.press("End");
      await expect.poll(ending).toContain("F_TRANSLATION");
      await page.goto(`${at}#/caches?function=gpu0&stale=1`);
      await page.getByText("0x12345000").first().waitFor();
      await page.getByText("CMD_TLBI_NH_VA").first().waitFor();
      expect(rig.faults()).toEqual([]);
      await page.context().close();
    }
    await inspector.close();
  });
});
