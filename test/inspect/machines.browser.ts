/** Machines in the inspector's page: what an engineer comes for, from the machine's monitor to the words in the browser. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { browserRig, noBrowser, type PageOptions } from "./browser.js";
import { fileOfArguments, serveLesson } from "./lesson.js";
import { LOOKS, findings, overflow, picture } from "./looks.js";
import { serve, type Served } from "./served.js";
import { HOSTILE } from "./views/fixtures.js";

const rig = browserRig();
const pages: Page[] = [];

afterEach(async () => {
  await Promise.all(pages.splice(0).map((page) => page.context().close()));
  expect(rig.faults()).toEqual([]);
});

async function open(served: Served, hash: string, options: PageOptions = LOOKS.light): Promise<Page> {
  const page = await rig.open(options);
  pages.push(page);
  page.setDefaultTimeout(10_000);
  await page.goto(`${served.address}#/${hash}`);
  return page;
}

/** A machine that stays for the tests of a `describe`. */
function machine(make: () => Promise<Served>): () => Served {
  let served: Served;
  beforeAll(async () => {
    served = await make();
  });
  afterAll(() => served.end());
  return () => served;
}

const main = (page: Page): Promise<string> => page.locator("#main").innerText();

describe.skipIf(noBrowser)("a machine whose guest has faulted", () => {
  const served = machine(() => serveLesson("one-stage", { page: rig.folder }));

  it("has the record decoded in its event queue", async () => {
    const page = await open(served(), "queues?iommu=smmu0");
    const queue = page.getByRole("region", { name: "event queue of smmu0", exact: true });
    const record = queue.getByRole("row").filter({ hasText: "F_TRANSLATION" });
    await record.first().waitFor();
    await record.first().getByRole("button").click();
    expect(await queue.innerText()).toMatch(/InputAddr\s+0x70000000/);
  });
});

describe.skipIf(noBrowser)("a machine with a passed-through function", () => {
  const served = machine(() => serveLesson("two-stages", { page: rig.folder }));

  it("leads from a call of the host to the guest's store", async () => {
    const page = await open(served(), "timeline?kind=host");
    const list = page.getByRole("grid", { name: "Time line" });
    await list.getByRole("row").filter({ hasText: "iommufd_backend_alloc_hwpt" }).last().click();
    const details = page.getByRole("region", { name: "The chosen row" });
    await expect.poll(() => details.innerText()).toMatch(/Follows from\s+◆ \d+ smmuv3_cmdq_opcode[^]*▸ \d+ smmuv3_store/);
  });

  it("has numbers of its DMA", async () => {
    const page = await open(served(), "numbers");
    const { rows } = (await served().answers.ask("x-viommu-numbers", {})) as { rows: { of: string | null; dma: number }[] };
    const { dma } = rows.find(({ of }) => of === "gpu0")!;
    await expect.poll(() => page.getByRole("button", { name: "DMA requests of gpu0" }).innerText()).toContain(String(dma));
    await page.getByRole("button", { name: "DMA requests of gpu0" }).click();
    await expect.poll(() => page.getByRole("img", { name: /DMA requests of gpu0/ }).count(), { timeout: 15_000 }).toBe(1);
  });
});

describe.skipIf(noBrowser)("a machine with VT-d", () => {
  const { words, host } = fileOfArguments("examples/spr-first-stage.args");
  const served = machine(() => serve({ arguments: words, host, guest: "linux", page: rig.folder }));

  it("has its queues and its time line", async () => {
    const page = await open(served(), "queues");
    await expect.poll(() => page.getByRole("heading", { name: /invalidation queue/ }).count()).toBe(1);
    expect(await main(page)).toContain("iotlb_inv_dsc");
    await page.getByRole("link", { name: "Time line" }).click();
    await expect.poll(() => main(page)).toContain("vtd_");
  });
});

describe.skipIf(noBrowser)("a machine whose names are markup", () => {
  const evil = (text: unknown): unknown => JSON.parse(JSON.stringify(text).replaceAll('"gpu0"', JSON.stringify(HOSTILE)));
  const served = machine(() => serveLesson("two-stages", {
    page: rig.folder,
    wrap: (answers) => ({ ...answers, ask: async (execute, given) => evil(await answers.ask(execute, given.function === HOSTILE ? { ...given, function: "gpu0" } : given)) }),
  }));
  const evilName = encodeURIComponent(HOSTILE);

  it.each([`walk?function=${evilName}&iova=0x12345000`, `caches?function=${evilName}`, `queues?iommu=${evilName}`, `timeline?function=${evilName}`, `timeline?text=${evilName}`, "numbers", `${evilName}?x=${evilName}`])("#/%s has them as text", async (view) => {
    const page = await open(served(), view);
    await expect.poll(() => page.locator("body").innerText()).toContain(view === `queues?iommu=${evilName}` ? "queue" : "<img src=x");
    await page.waitForTimeout(200);
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.title()).not.toBe("owned");
    rig.faults();
  });
});

describe.skipIf(noBrowser)("every view of a machine", () => {
  const served = machine(() => serveLesson("two-stages", { page: rig.folder }));

  it.each(Object.keys(LOOKS) as (keyof typeof LOOKS)[])("%s: no findings of axe-core, no wider than the window", async (look) => {
    const page = await open(served(), "map", LOOKS[look]);
    for (const view of ["queues", "timeline?row=40", "numbers"]) {
      await page.goto(`${served().address}#/${view}`);
      await expect.poll(() => page.locator("#main table, #main [role=grid]").count()).toBeGreaterThan(0);
      await page.waitForTimeout(200);
      expect(await findings(page), view).toEqual([]);
      expect(await overflow(page), view).toBe(0);
      const { width, height, colours, commonest } = await picture(page, `${view.split("?")[0]}-${look.replace(" %", "")}`);
      expect([width, height]).toEqual([1280, 900]);
      expect(colours, view).toBeGreaterThan(50);
      expect(commonest, view).toBeLessThan(0.98);
    }
  });
});
