/** Machines in the inspector's page: what an engineer comes for, from the machine's monitor to the words in the browser. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { MapReport } from "../../src/inspect/report/index.js";
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

const hash = (page: Page): string => decodeURIComponent(new URL(page.url()).hash);
const main = (page: Page): Promise<string> => page.locator("#main").innerText();

describe.skipIf(noBrowser)("a machine whose guest has faulted", () => {
  const served = machine(() => serveLesson("one-stage", { page: rig.folder }));

  it("is explained from the event's row to the entry that decided", async () => {
    const page = await open(served(), "timeline?kind=event.dma");
    const list = page.getByRole("grid", { name: "Time line" });
    await list.getByRole("row").filter({ hasText: "smmuv3_record_event" }).first().click();
    await page.getByRole("region", { name: "The chosen row" }).getByRole("link", { name: "Walk of 0x70000000" }).click();
    const end = page.getByRole("region", { name: "How it ends" });
    await expect.poll(() => end.innerText()).toContain("aborted");
    expect(await end.innerText()).toContain("F_TRANSLATION");
    expect(await end.innerText()).toMatch(/InputAddr\s+0x70000000/);
    const chosen = await page.getByRole("region", { name: "The chosen fetch" }).innerText();
    expect(chosen).toMatch(/(\d+) of \1[^]*stage 1 level \d/);
    expect(chosen).toMatch(/not valid/i);
  });

  it("has the record decoded in its event queue", async () => {
    const page = await open(served(), "queues?iommu=smmu0");
    const queue = page.getByRole("region", { name: "event queue of smmu0", exact: true });
    const record = queue.getByRole("row").filter({ hasText: "F_TRANSLATION" });
    await record.first().waitFor();
    await record.first().getByRole("button").click();
    expect(await queue.innerText()).toMatch(/InputAddr\s+0x70000000/);
  });

  it("is walked by keys, to an address that opens at the same step", async () => {
    const page = await open(served(), "walk?function=disk0&iova=0x12345000");
    const current = page.locator(".vw-grid [aria-current=step]");
    await current.focus();
    for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"]) {
      await page.keyboard.press(key);
    }
    await expect.poll(() => hash(page)).toBe("#/walk?function=disk0&iova=0x12345000&step=3");
    const [text, name] = [await page.getByRole("region", { name: "The chosen fetch" }).innerText(), "CD"];
    expect(text).toContain(`3. ${name}`);
    const other = await open(served(), hash(page).slice(2));
    await expect.poll(() => other.getByRole("region", { name: "The chosen fetch" }).innerText()).toBe(text);
    // Back goes to where one came from, not through each step.
    await page.getByRole("link", { name: "Queues" }).click();
    await page.goBack();
    await expect.poll(() => hash(page)).toBe("#/walk?function=disk0&iova=0x12345000&step=3");
  });

  it("says what the monitor refuses beside the field", async () => {
    const page = await open(served(), "walk?function=disk0&iova=0x12345g");
    const field = page.getByLabel("IOVA");
    await expect.poll(() => field.getAttribute("aria-invalid")).toBe("true");
    const words = await page.locator(`[id="${await field.getAttribute("aria-describedby")}"]`).innerText();
    const answer: unknown = await served().answers.ask("x-viommu-walk", { function: "disk0", iova: "0x12345g" }).catch((error: { description: string }) => error.description);
    expect(words).toContain(answer);
  });
});

describe.skipIf(noBrowser)("a machine whose driver has forgotten an invalidation", () => {
  const served = machine(() => serveLesson("stale-tlb", { page: rig.folder }));

  it("shows the entry that no longer agrees, what the tables say, and the command that drops it", async () => {
    const page = await open(served(), "caches?function=gpu0");
    await expect.poll(() => page.getByRole("status").first().innerText()).toMatch(/no longer agrees? with the tables/);
    await page.getByLabel("only stale").check();
    const text = await main(page);
    expect(text).toMatch(/stale[^]*0x12345000/);
    expect(text).toMatch(/The tables say: [^]*Dropped by CMD_TLBI_NH_VA/);
    await page.getByRole("link", { name: "walk of 0x12345000" }).first().click();
    await expect.poll(() => page.getByRole("region", { name: "How it ends" }).innerText()).toContain("F_TRANSLATION");
    await page.getByRole("link", { name: "Cached entries that hold it" }).click();
    await expect.poll(() => page.getByRole("status").first().innerText()).toMatch(/no longer agrees? with the tables/);
  });
});

describe.skipIf(noBrowser)("a machine with a passed-through function", () => {
  const served = machine(() => serveLesson("two-stages", { page: rig.folder }));

  it("is walked on two axes, to the host's memory, with the guest's entry beside the kernel's", async () => {
    const page = await open(served(), "walk?function=gpu0&iova=0x12345000&step=end");
    await page.locator(".vw-grid").waitFor();
    // Two structures of the host's; six entries of the guest's and the page, each by a GiB of stage 2: two levels.
    expect(await page.locator(".vw-fetch").count()).toBe(22);
    expect(await page.locator(".vw-grid thead th").allTextContents()).toEqual(["stage 2, level 0", "stage 2, level 1", "the entry itself"]);
    expect(await page.getByRole("region", { name: "How it ends" }).innerText()).toMatch(/translated[^]*0x12345000 → IPA 0x4420e000 → 0x[0-9a-f]+ host-physical/);
    const compared = await page.getByRole("region", { name: "The guest's entries beside the host's" }).innerText();
    expect(compared).toMatch(/S1ContextPtr[^]*taken/);
    expect(compared).toContain("made by the host");
  });

  it("leads from a call of the host to the guest's store", async () => {
    const page = await open(served(), "timeline?kind=host");
    const list = page.getByRole("grid", { name: "Time line" });
    await list.getByRole("row").filter({ hasText: "iommufd_backend_alloc_hwpt" }).last().click();
    const details = page.getByRole("region", { name: "The chosen row" });
    await expect.poll(() => details.innerText()).toMatch(/Follows from\s+◆ \d+ smmuv3_cmdq_opcode[^]*▸ \d+ viommu_smmuv3_store/);
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

  it("is walked by root, context, PASID directory and table", async () => {
    const { functions } = (await served().answers.ask("x-viommu-map", {})) as MapReport;
    const { function: name } = functions.find((one) => one.host !== null)!;
    const page = await open(served(), `walk?function=${name}&iova=0x12345000`);
    await page.locator(".vw-grid").waitFor();
    expect((await page.locator(".vw-grid tbody th").allTextContents()).slice(0, 4)).toEqual(["scalable-mode root entry", "scalable-mode context entry", "PASID directory entry", "PASID table entry"]);
    await page.getByRole("button", { name: "first fetch" }).click();
    expect(await page.getByRole("region", { name: "The chosen fetch" }).innerText()).toMatch(/1\. scalable-mode root entry[^]*VT-d/);
  });

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
    for (const view of ["walk?function=gpu0&iova=0x12345000&step=14", "caches", "queues", "timeline?row=40", "numbers"]) {
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
