/** The views in a browser, with answers made by hand (fixtures.ts): what they show, by mouse, keys and address. */
import type { Page } from "playwright-core";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { browserRig, noBrowser } from "../browser.js";
import { LOOKS, findings, overflow, picture } from "../looks.js";
import { HOSTILE } from "./fixtures.js";
import { mountedPage } from "./page.js";

const rig = browserRig();
const pages: Page[] = [];
let address: string;

beforeAll(async () => {
  address = await mountedPage();
});
afterEach(async () => {
  await Promise.all(pages.splice(0).map((page) => page.context().close()));
  expect(rig.faults()).toEqual([]);
});

/** A page at `#hash`. */
async function open(hash: string, { look = "light", options = "" }: { look?: keyof typeof LOOKS; options?: string } = {}): Promise<Page> {
  const page = await rig.open(LOOKS[look]);
  pages.push(page);
  page.setDefaultTimeout(10_000);
  await page.goto(`${address}${options}#${hash}`);
  return page;
}

const hash = (page: Page): string => decodeURIComponent(new URL(page.url()).hash);
const current = (page: Page) => page.locator(".vw-grid [aria-current=step]");

describe.skipIf(noBrowser)("the walk", () => {
  it("has each fetch once, numbered, on two axes", async () => {
    const page = await open("walk?function=nic0&iova=0x12345678abc&pasid=5");
    await page.locator(".vw-grid").waitFor();
    expect(await page.locator(".vw-fetch").count()).toBe(36);
    expect(await page.locator(".vw-grid thead th").allTextContents()).toEqual(["stage 2, level 0", "stage 2, level 1", "stage 2, level 2", "stage 2, level 3", "the entry itself"]);
    expect(await page.locator(".vw-grid tbody th").allTextContents()).toEqual(["L1 stream table descriptor", "STE", "L1 CD descriptor", "CD", "stage 1 level 0", "stage 1 level 1", "stage 1 level 2", "stage 1 level 3", "output"]);
    const end = await page.getByRole("region", { name: "How it ends" }).innerText();
    expect(end).toContain("translated");
    expect(end).toMatch(/0x12345678abc\s*→\s*IPA 0x45678abc\s*→\s*0x88045678abc host-physical rw- page of 4 KiB/);
  });

  it("is stepped by buttons and by keys, and each step has an address", async () => {
    const page = await open("walk?function=nic0&iova=0x12345678abc");
    await page.getByRole("button", { name: "next fetch" }).click();
    expect(hash(page)).toBe("#walk?function=nic0&iova=0x12345678abc&step=2");
    await current(page).focus();
    const numbers: (string | null)[] = [];
    for (const key of ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft"]) {
      await page.keyboard.press(key);
      numbers.push(/\d+/.exec(await current(page).innerText())![0]);
    }
    expect(numbers).toEqual(["3", "4", "9", "4", "3", "36", "36", "1", "1"]);
    expect(await page.evaluate("document.activeElement.getAttribute('aria-current')")).toBe("step");
    expect(await current(page).count()).toBe(1);
  });

  it("opens at the step of its address, with the fetch's words, fields and what it decides", async () => {
    const page = await open("walk?function=nic0&iova=0x12345678abc&step=12");
    const chosen = page.getByRole("region", { name: "The chosen fetch" });
    await expect.poll(() => chosen.innerText()).toContain("12. CD");
    const text = await chosen.innerText();
    expect(text).toMatch(/Address\s+0x88040110140 host-physical\s+From IPA\s+0x40110140/);
    expect(text).toContain("AArch64, TTB0: 48 bits of IOVA, four levels");
    expect(text).toContain("[Arm IHI 0070, 5.4]".slice(1, -1));
    expect(text).toMatch(/63:0\s+0x0001c000809b3510/);
    expect(await chosen.getByRole("row", { name: /T0SZ/ }).innerText()).toMatch(/5:0\s+T0SZ\s+0x10\s+48 bits/);
  });

  it("of a fault stands at the fetch that decided, and has the event with its fields", async () => {
    const page = await open("walk?function=nic0&iova=0xbad");
    await expect.poll(() => current(page).innerText()).toMatch(/▶\s*27\s*✕/);
    const end = await page.getByRole("region", { name: "How it ends" }).innerText();
    expect(end).toContain("aborted");
    expect(end).toContain("recorded as F_TRANSLATION");
    expect(end).toMatch(/191:128\s+InputAddr\s+0x12345678abc/);
  });

  it("has VT-d's structures in the same way", async () => {
    const page = await open("walk?function=nvme1&iova=0x1000");
    await page.locator(".vw-grid").waitFor();
    expect((await page.locator(".vw-grid tbody th").allTextContents()).slice(0, 5)).toEqual(["root entry", "context entry", "PASID directory entry", "PASID entry", "first stage level 4"]);
    expect(await page.getByText("The caches of the host's IOMMU cannot be read on Linux.").isVisible()).toBe(true);
  });

  it("says the monitor's words beside the field that they are about", async () => {
    const page = await open("walk");
    await page.getByLabel("IOVA").fill("0x1000");
    await page.getByLabel("PASID").fill("five");
    await page.keyboard.press("Enter");
    const field = page.getByLabel("PASID");
    await expect.poll(() => field.getAttribute("aria-invalid")).toBe("true");
    expect(await page.locator(`[id="${await field.getAttribute("aria-describedby")}"]`).innerText()).toContain("Invalid parameter type for 'pasid', expected: integer");
  });

  it("puts the guest's entry beside the one that the kernel was given", async () => {
    const page = await open("walk?function=nic0&iova=0x1");
    const table = page.getByRole("region", { name: "The guest's entries beside the host's" });
    await expect.poll(() => table.getByRole("row", { name: /SHCFG/ }).innerText()).toMatch(/0x1\s+0x0\s+▲\s*dropped\s+Not in what the kernel takes/);
    expect(await table.getByText("S1CSH").count()).toBe(0);
    await table.getByLabel("also fields that are the same").check();
    expect(await table.getByText("S1CSH").count()).toBe(1);
  });
});

describe.skipIf(noBrowser)("the caches", () => {
  it("have what is stale first: what the tables say and what drops it", async () => {
    const page = await open("caches");
    await expect.poll(() => page.getByRole("status").innerText()).toContain("3 of 40 entries no longer agree with the tables");
    const rows = page.locator(".vw-rows tbody tr");
    expect(await rows.nth(0).innerText()).toContain("stale");
    expect(await rows.nth(1).innerText()).toMatch(/The tables say: the leaf of stage 1 level 3 is not valid\s+Dropped by CMD_TLBI_NH_VA ASID 1, address 0x105000, leaf or/);
    await page.getByLabel("only stale").check();
    await expect.poll(() => rows.count()).toBe(6);
    expect(hash(page)).toBe("#caches?stale=1");
  });

  it("lead from an entry to the walk of its IOVA, and from a walk to what holds it", async () => {
    const page = await open("caches?stale=1&iova=0x105fff");
    await page.getByRole("link", { name: "walk of 0x105000" }).click();
    await page.locator(".vw-grid").waitFor();
    expect(hash(page)).toBe("#walk?function=nic0&iova=0x105000");
    await page.goto(`${address}#walk?function=nic0&iova=0x1`);
    await page.getByRole("link", { name: "Cached entries that hold it" }).click();
    await expect.poll(() => hash(page)).toBe("#caches?function=nic0&iova=0x12345678abc&pasid=5");
    await expect.poll(() => page.getByRole("status").innerText()).toBe("None of 40 entries is of this kind.");
  });
});

describe.skipIf(noBrowser)("the queues", () => {
  it("have their positions, the batch that went to the host, and the error at its entry", async () => {
    const page = await open("queues");
    const queue = page.getByRole("region", { name: "command queue of smmu0", exact: true });
    await expect.poll(() => queue.innerText()).toContain("producer 12, consumer 9: 3 of 256 waiting");
    expect(await queue.innerText()).toContain("The last batch to the host: 4 entries from index 6, of which it took 3.");
    const failed = queue.getByRole("row", { name: /^9 / });
    expect(await failed.innerText()).toMatch(/stopped here[^]*CMD_CFGI_ALL[^]*CERROR_ILL: the kernel refuses it/);
    await failed.getByRole("button", { name: "more of entry 9" }).click();
    expect(await queue.innerText()).toMatch(/Arm IHI 0070, 4\.3\.2\s+63:0\s+0x0000000000000004/);
    expect(await page.getByText("pri queue").count()).toBe(0);
    await page.getByLabel("also queues that are off").check();
    expect(await page.getByRole("heading", { name: "smmu0 pri queue" }).count()).toBe(1);
  });
});

describe.skipIf(noBrowser)("the time line", () => {
  it("of 100,000 rows has only those in sight in the page, and goes to each by keys", async () => {
    const page = await open("timeline", { options: "?rows=100000" });
    await expect.poll(() => page.getByText("100,000 rows").count(), { timeout: 20_000 }).toBe(1);
    const list = page.getByRole("grid", { name: "Time line" });
    expect(await list.getByRole("row").count()).toBeLessThan(100);
    await list.focus();
    await page.keyboard.press("End");
    await expect.poll(() => list.locator("[aria-selected=true]").innerText()).toContain("100000");
    expect(await list.getAttribute("aria-activedescendant")).toBe("vw-row-100000");
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("ArrowUp");
    await expect.poll(() => hash(page)).toBe("#timeline?row=99998");
    await page.keyboard.press("Home");
    await expect.poll(() => list.locator("[aria-selected=true]").innerText()).toMatch(/▶\s*1\s/);
    expect(await list.getByRole("row").count()).toBeLessThan(100);
    await page.getByLabel("Words").fill("0x98 val: 0xc351 ");
    await expect.poll(() => page.getByText("1 of 100,000 rows").count()).toBe(1);
  });

  it("leads from effect to cause and back", async () => {
    const page = await open("timeline?row=40");
    const details = page.getByRole("region", { name: "The chosen row" });
    await expect.poll(() => details.innerText()).toMatch(/Follows from\s+▲ 39 smmuv3_record_event[^]*⇢ 38[^]*◆ 37[^]*▸ 36/);
    await details.getByRole("button", { name: /36 smmuv3_write_mmio/ }).click();
    await expect.poll(() => details.innerText()).toMatch(/What followed: 1\s+◆ 37/);
    const list = page.getByRole("grid", { name: "Time line" });
    await list.focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    expect(hash(page)).toBe("#timeline?row=39");
    await details.getByRole("link", { name: "Walk of 0x27000" }).click();
    await page.locator(".vw-grid").waitFor();
    expect(hash(page)).toBe("#walk?function=nic0&iova=0x27000");
  });

  it("is filtered by kind and function, kept and not kept", async () => {
    const page = await open("timeline");
    await page.getByLabel("command").uncheck();
    await page.getByLabel("store").uncheck();
    await expect.poll(() => page.getByText("300 of 500 rows").count()).toBe(1);
    await page.getByLabel("Function").selectOption("nic0");
    await expect.poll(() => page.getByText("100 of 500 rows").count()).toBe(1);
    expect(hash(page)).toBe("#timeline?kind=host.event.interrupt.dma.machine&function=nic0");
    await page.getByRole("button", { name: "Stop keeping" }).click();
    await expect.poll(() => page.getByRole("status").first().innerText()).toContain("the time line is off");
  });

  it("of a recording is a position, stepped forward and back by keys, that what follows is told apart from", async () => {
    const page = await open("timeline", { options: "?recorded=77" });
    const list = page.getByRole("grid", { name: "Time line" });
    await expect.poll(() => page.getByText("state after row 77 of 500").count()).toBe(1);
    await list.focus();
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    await expect.poll(() => page.getByText("state after row 75 of 500").count()).toBe(1);
    expect(await list.getByRole("row", { name: /^76 / }).getAttribute("class")).toContain("vw-later");
    await page.getByRole("slider", { name: "Row" }).focus();
    await page.keyboard.press("ArrowRight");
    await expect.poll(() => page.getByText("state after row 76 of 500").count()).toBe(1);
    await page.getByRole("button", { name: "row before" }).click();
    await expect.poll(() => page.getByText("state after row 75 of 500").count()).toBe(1);
  });
});

describe.skipIf(noBrowser)("the numbers", () => {
  it("are a table with a line in each cell; the chosen cell has its chart and a table beside it", async () => {
    const page = await open("numbers");
    const cell = page.getByRole("button", { name: /DMA bytes of nic0/ });
    await cell.click();
    expect(hash(page)).toBe("#numbers?of=nic0&measure=dmaBytes");
    expect(await cell.getAttribute("aria-pressed")).toBe("true");
    const chart = page.getByRole("region", { name: "DMA bytes of nic0, in a second" });
    expect(await chart.getByRole("img").getAttribute("aria-label")).toMatch(/^DMA bytes of nic0, in a second: from .* to .*, at most /);
    await chart.getByText("As a table").click();
    expect(await chart.getByRole("row").count()).toBeGreaterThan(30);
  });
});

describe.skipIf(noBrowser).each(["walk?function=nic0&iova=0x12345678abc&step=18", "walk?function=nic0&iova=0xbad", "caches", "queues?all=1", "timeline?row=74", "numbers?measure=dma"])("#%s", (view) => {
  it.each(Object.keys(LOOKS) as (keyof typeof LOOKS)[])("%s: drawn, without findings of axe-core, no wider than the window, text of users as text", async (look) => {
    const page = await open(view, { look });
    await expect.poll(() => page.locator("table, [role=grid]").count()).toBeGreaterThan(0);
    await page.waitForTimeout(100);
    expect(await findings(page)).toEqual([]);
    expect(await overflow(page)).toBe(0);
    expect(await page.title()).toBe("views");
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.locator("body").innerText()).toContain(HOSTILE.slice(0, 20));
    const { width, height, colours, commonest } = await picture(page, `mounted-${view.split("?")[0]}-${view.includes("bad") ? "fault-" : ""}${look.replace(" %", "")}`);
    expect([width, height]).toEqual([1280, 900]);
    expect(colours).toBeGreaterThan(50);
    expect(commonest).toBeLessThan(0.98);
  });
});
