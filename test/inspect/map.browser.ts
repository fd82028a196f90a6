/** The map in a browser: the three examples, by mouse and keys, large, small, in the dark, as files without a server. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { describeBenchHost, machineArguments } from "../../bench/machine.js";
import { answersOf, collectPageData, type Inspector, openInspector, writePage } from "../../src/inspect/server/index.js";
import type { MapReport } from "../../src/inspect/report/index.js";
import { browserRig, noBrowser, type PageOptions } from "./browser.js";
import { fileOfArguments } from "./lesson.js";
import { findings, LOOKS, overflow, picture } from "./looks.js";
import { serve, type Served } from "./served.js";
import { HOSTILE } from "./views/fixtures.js";

const rig = browserRig();
const pages: Page[] = [];
afterEach(async () => {
  await Promise.all(pages.splice(0).map((page) => page.context().close()));
  expect(rig.faults()).toEqual([]);
});

async function open(address: string, hash: string, options: PageOptions = LOOKS.light): Promise<Page> {
  const page = await rig.open(options);
  pages.push(page);
  page.setDefaultTimeout(10_000);
  await page.goto(`${address}#/${hash}`);
  await page.getByRole("treeitem").first().waitFor();
  return page;
}

function example(file: string): () => Served {
  const { words, host } = fileOfArguments(`examples/${file}`);
  let served: Served;
  beforeAll(async () => {
    served = await serve({ arguments: words, host, guest: "linux", page: rig.folder });
  });
  afterAll(() => served.end());
  return () => served;
}

const row = (page: Page, tree: string, name: string) => page.getByRole("tree", { name: tree }).getByRole("treeitem", { name });
const details = (page: Page) => page.getByRole("complementary", { name: "Details" });
const chosen = (page: Page) => page.locator("[role=treeitem][aria-selected=true]");
const hash = (page: Page): string => decodeURIComponent(new URL(page.url()).hash);

describe.skipIf(noBrowser)("the map of two SMMUs on Grace", () => {
  const served = example("grace-two-smmus.args");

  it("has buses, expanders, bridges and functions with their numbers, and what serves them", async () => {
    const page = await open(served().address, "map");
    expect(await page.getByRole("tree").evaluateAll((trees) => trees.map((tree) => tree.getAttribute("aria-label")))).toEqual(["Machine", "iommufd", "Host"]);
    const rows = (await page.getByRole("tree", { name: "Machine" }).getByRole("treeitem").allInnerTexts()).map((text) => text.replace(/\s+/g, " ").trim());
    expect(rows.slice(0, 5)).toEqual(["▾ bus pcie.0 bus 0x00", "▾ expander pcie.1 00:01.0 bus 0x10", "SMMU smmu1 covers pcie.1", "▾ bridge rp1.0 10:00.0 bus 0x12", expect.stringMatching(/^gpu0 12:00\.0 0x1200 GPU 0 . \w+$/)]);
    expect(await page.getByRole("tree", { name: "Host" }).getByRole("treeitem").filter({ hasText: "is gpu0" }).innerText()).toContain("0008:01:00.0");
  });

  it("says of a function what it is attached to and why, by which objects, and what has happened to it", async () => {
    const page = await open(served().address, "map");
    await row(page, "Machine", "gpu0").click();
    expect(hash(page)).toBe("#/map?select=gpu0");
    const text = details(page);
    await expect.poll(() => text.innerText()).toMatch(/Attached to\s+\S+\s+\w+\s+HWPT \d+\s+the entry of StreamID 0x1200 has Config 0b1\d\d: /);
    expect(await text.innerText()).toMatch(/StreamID\s+0x1200[^]*On the host\s+0008:01:00\.0\s+iommufd\s+iommufd0\s+Address space\s+IOAS \d+\s+Parent table\s+HWPT \d+\s+vDEVICE\s+vDEVICE \d+/);
    await expect.poll(() => text.locator(".map-happened li").count()).toBeGreaterThan(0);
    // The way to the host stands out, in rows and in lines.
    expect(await page.locator(".tree-joined").allInnerTexts()).toEqual([expect.stringContaining("HWPT"), expect.stringContaining("0008:01:00.0")]);
    expect(await page.locator(".link-joined").count()).toBe(2);
    await text.getByRole("link", { name: "0008:01:00.0" }).click();
    expect(hash(page)).toBe("#/map?select=0008:01:00.0");
    await expect.poll(() => details(page).innerText()).toMatch(/In the machine\s+gpu0/);
    expect(await details(page).innerText()).toMatch(/0x8000000\s+0x100000\s+msi/);
  });

  it("decodes an IOMMU's registers field by field, of both sides", async () => {
    const page = await open(served().address, "map?select=smmu1");
    await details(page).locator("summary").filter({ hasText: /^CR0 / }).first().click();
    await expect.poll(() => details(page).innerText()).toMatch(/CR0\s+0x[0-9a-f]+\s+offset 0x20, 32 bits \[?Arm IHI 0070[^]*SMMUEN/);
    await details(page).getByRole("link", { name: /^smmu3\.0x/ }).first().click();
    await expect.poll(() => details(page).innerText()).toMatch(/Arm SMMUv3 of the host[^]*STRTAB_BASE/);
  });

  it("is walked through by keys alone", async () => {
    const page = await open(served().address, "map");
    await page.getByRole("tree", { name: "Machine" }).getByRole("treeitem").first().focus();
    const name = async (): Promise<string | null> => page.evaluate("document.activeElement.getAttribute('data-key')");
    const seen: (string | null)[] = [];
    for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowDown", "End", "Home", "g"]) {
      await page.keyboard.press(key);
      seen.push(await name());
    }
    // ← at a function goes to its bridge, at an open bridge closes it.
    expect(seen).toEqual(["function:pcie.1", "iommu:smmu1", "function:rp1.0", "function:gpu0", "function:rp1.0", "function:rp1.0", "function:rp1.1", "function:net0", "bus:pcie.0", expect.stringMatching(/^function:gpu/)]);
    expect(await row(page, "Machine", "rp1.0").getAttribute("aria-expanded")).toBe("false");
    expect(await chosen(page).getAttribute("data-key")).toBe(await name());
    // One stop of Tab for each tree, then the details.
    await page.keyboard.press("Tab");
    expect(await name()).toMatch(/^iommufd:/);
    await page.keyboard.press("Tab");
    expect(await name()).toMatch(/^host-iommu:/);
    await page.keyboard.press("Tab");
    expect(await page.evaluate("document.activeElement.closest('[aria-label=Details]') !== null")).toBe(true);
    // What has the focus is seen.
    await page.keyboard.press("Shift+Tab");
    expect(await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")).toBe("solid");
  });

  it("opens at what its address names, also in what was closed, and says where there is no such thing", async () => {
    const page = await open(served().address, "map?select=0018:01:00.0");
    expect(await chosen(page).getAttribute("data-key")).toBe("host:0018:01:00.0");
    await page.goto(`${served().address}#/map?select=nowhere`);
    await expect.poll(() => details(page).innerText()).toContain("There is no nowhere here");
    await page.goto(`${served().address}#/nowhere`);
    await expect.poll(() => page.locator("#main").innerText()).toContain("There is no view “nowhere”");
  });

  it.each(Object.keys(LOOKS) as (keyof typeof LOOKS)[])("%s: no findings of axe-core, no wider than the window", async (look) => {
    const page = await open(served().address, "map?select=gpu0", LOOKS[look]);
    await expect.poll(() => details(page).locator(".map-happened li").count()).toBeGreaterThan(0);
    expect(await findings(page)).toEqual([]);
    expect(await overflow(page)).toBe(0);
    const { colours, commonest } = await picture(page, `map-${look.replace(" %", "")}`);
    expect(colours).toBeGreaterThan(50);
    expect(commonest).toBeLessThan(0.98);
    await page.goto(`${served().address}#/map?select=smmu1`);
    await expect.poll(() => details(page).locator("summary").count()).toBeGreaterThan(5);
    expect(await findings(page)).toEqual([]);
  });
});

describe.skipIf(noBrowser)("the map of VT-d with a first stage", () => {
  const served = example("spr-first-stage.args");

  it("has source ids, and the unit that covers all", async () => {
    const page = await open(served().address, "map");
    const unit = page.getByRole("tree", { name: "Machine" }).getByRole("treeitem").filter({ hasText: "VT-d" });
    await unit.click();
    await expect.poll(() => details(page).innerText()).toMatch(/Intel VT-d, translation by the host's hardware/);
    await expect.poll(() => details(page).innerText()).toMatch(/GSTS/);
    await details(page).getByRole("link").filter({ hasNotText: /Queues|Caches|Time line|HWPT|vIOMMU|dmar|smmu/i }).first().click();
    await expect.poll(() => details(page).innerText()).toContain("Source id");
    expect(await findings(page)).toEqual([]);
  });
});

describe.skipIf(noBrowser)("the map of SMMUs in software", () => {
  const served = example("two-software-smmus.args");

  it("has no objects of a host, and says that the models translate", async () => {
    const page = await open(served().address, "map");
    await page.getByRole("tree", { name: "Machine" }).getByRole("treeitem").filter({ hasText: "SMMU" }).first().click();
    await expect.poll(() => details(page).innerText()).toContain("translation in software");
    expect(await page.getByRole("tree", { name: "iommufd" }).count()).toBe(0);
    expect(await findings(page)).toEqual([]);
  });
});

describe.skipIf(noBrowser)("the map of 16 SMMUs and 128 functions", () => {
  let served: Served;
  beforeAll(async () => {
    served = await serve({ arguments: machineArguments(16, 8), host: describeBenchHost(16, 8), page: rig.folder });
  });
  afterAll(() => served.end());

  it("is there, all of it, and says how long that took", async () => {
    const page = await rig.open(LOOKS.light);
    pages.push(page);
    const asked = performance.now();
    await served.answers.ask("x-viommu-map", {});
    console.log(`its monitor's answer alone: ${Math.round(performance.now() - asked)} ms`);
    const before = performance.now();
    await page.goto(`${served.address}#/map?select=fn15.7`);
    await page.locator("[role=treeitem][aria-selected=true]").waitFor();
    await page.locator(".link-joined").first().waitFor({ state: "attached" });
    console.log(`the map of 16 SMMUs and 128 functions: ${Math.round(performance.now() - before)} ms from the address to what is chosen (2000 are asked for)`);
    expect(await page.locator("[data-key^='iommu:']").count()).toBe(16);
    expect(await page.locator("[data-key^='function:fn']").count()).toBe(128);
    expect(await page.locator(".link-joined").count()).toBe(2);
    // In each tree the row that belongs to it is in sight.
    expect(await page.locator(".tree-joined").evaluateAll((rows) => rows.map((row) => row.getBoundingClientRect().top > 0 && row.getBoundingClientRect().bottom < 900))).toEqual([true, true]);
    expect(await chosen(page).evaluate((element) => element.getBoundingClientRect().top)).toBeLessThan(900);
    await picture(page, "map-16");
  });
});

describe.skipIf(noBrowser)("names that are markup", () => {
  let inspector: Inspector;
  beforeAll(async () => {
    const { words, host } = fileOfArguments("examples/grace-two-smmus.args");
    const made = await serve({ arguments: words, host, page: rig.folder });
    const map = JSON.stringify(await made.answers.ask("x-viommu-map", {})).replaceAll('"gpu0"', JSON.stringify(HOSTILE)).replaceAll('"GPU 0"', JSON.stringify(`label ${HOSTILE}`)).replaceAll('"smmu1"', JSON.stringify(`s ${HOSTILE}`)).replaceAll(/"reason":"[^"]*"/g, () => `"reason":${JSON.stringify(`why ${HOSTILE}`)}`).replace(/"description":"[^"]*"/, () => `"description":${JSON.stringify(`host ${HOSTILE}`)}`);
    await made.end();
    inspector = await openInspector({ answers: answersOf({ "x-viommu-map": JSON.parse(map) as MapReport }), port: 0, control: false, page: rig.folder });
  });
  afterAll(() => inspector.close());

  it.each([HOSTILE, `s ${HOSTILE}`, "0008:01:00.0"])("are text in rows, details and titles: %s", async (name) => {
    const page = await open(inspector.address, `map?select=${encodeURIComponent(name)}`);
    await expect.poll(() => details(page).innerText()).toContain("<img src=x");
    await page.waitForTimeout(200);
    expect(await page.locator("img, b:has-text('owned')").count()).toBe(0);
    expect(await page.title()).not.toBe("owned");
    expect(await overflow(page)).toBe(0);
  });
});

describe.skipIf(noBrowser)("a page without a server", () => {
  const folder = mkdtempSync(join(tmpdir(), "viommu-static-"));
  const made = example("grace-two-smmus.args");
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("opens as a file with all that was known, and asks nobody", async () => {
    writePage(rig.folder, folder, await collectPageData(made().answers, "the example"));
    const address = pathToFileURL(join(folder, "index.html")).href;
    const page = await rig.open(LOOKS.light);
    pages.push(page);
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.goto(`${address}#/map?select=gpu0`);
    await expect.poll(() => details(page).innerText()).toContain("Attached to");
    for (const [view, words] of [["caches", "smmu"], ["queues", "command"], ["timeline", "smmuv3_"], ["map?select=smmu1", "STRTAB_BASE"]]) {
      await page.goto(`${address}#/${view}`);
      await expect.poll(() => page.locator("#main").innerText(), { message: view }).toContain(words);
    }
    expect(asked.filter((url) => !url.startsWith("file:") && !url.startsWith("data:"))).toEqual([]);
    expect(new Set(asked.map((url) => url.split("#")[0].split("/").at(-1)))).toEqual(new Set(["index.html", "page.css", "data.js", "page.js"].concat(asked.some((url) => url.startsWith("data:")) ? [asked.find((url) => url.startsWith("data:"))!.split("/").at(-1)!] : [])));
  });
});
