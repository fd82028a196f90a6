/**
 * The pictures of docs/inspector.md, which are of lessons' machines: as they are in the repository, loosely.
 * VIOMMU_PICTURES=docs/pictures makes them anew.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { describe, expect, it } from "vitest";
import { browserRig, noBrowser } from "./browser.js";
import { serveLesson } from "./lesson.js";
import { difference, picture, seen } from "./looks.js";

const rig = browserRig();
const root = fileURLToPath(new URL("../../", import.meta.url));

const rowWith = (text: string) => (page: Page) => page.getByRole("row").filter({ hasText: text }).last().click();

const PICTURES: ReadonlyArray<{ readonly name: string; readonly lesson: string; readonly view: string; readonly dark?: boolean; readonly height: number; readonly act?: (page: Page) => Promise<void> }> = [
  { name: "walk", lesson: "two-stages", view: "walk?function=gpu0&iova=0x12345000&step=17", height: 660 },
  { name: "walk-fault", lesson: "one-stage", view: "walk?function=disk0&iova=0x70000000", dark: true, height: 700 },
  { name: "caches", lesson: "stale-tlb", view: "caches?function=gpu0", height: 560 },
  { name: "queues", lesson: "one-stage", view: "queues?iommu=smmu0", height: 700 },
  { name: "timeline", lesson: "two-stages", view: "timeline", height: 480, act: rowWith("iommufd_backend_alloc_hwpt") },
];

describe.skipIf(noBrowser)("the pictures of docs/inspector.md", () => {
  it.each(PICTURES)("$name", async ({ name, lesson, view, dark, height, act }) => {
    const served = await serveLesson(lesson, { page: rig.folder });
    try {
      const page = await rig.open({ width: 1120, height, dark });
      page.setDefaultTimeout(20_000);
      await page.goto(`${served.address}#/${view}`);
      await page.locator("#main table, #main [role=grid]").first().waitFor();
      await page.waitForTimeout(300);
      await act?.(page);
      await page.waitForTimeout(300);
      const now = await picture(page, name);
      expect(now.bytes).toBeLessThan(150_000);
      expect(difference(now, await seen(page, readFileSync(`${root}docs/pictures/${name}.png`)))).toBeLessThan(0.03);
      await page.context().close();
      expect(rig.faults()).toEqual([]);
    } finally {
      await served.end();
    }
  });
});
