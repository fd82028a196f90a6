/** A recording in the inspector's page: a position that every view follows, forward and back. */
import { rmSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writePage } from "../../src/inspect/server/index.js";
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
});
