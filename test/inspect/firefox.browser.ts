/** The views in Firefox, as far as it tells without a driver of its own: each is drawn, and much as in Chromium. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { browserRig, noBrowser } from "./browser.js";
import { LOOKS, difference, seen } from "./looks.js";
import { mountedPage } from "./views/page.js";

const firefox = process.env.VIOMMU_FIREFOX ?? ["/usr/bin/firefox", "/usr/bin/firefox-esr"].find((path) => existsSync(path));
const rig = browserRig();
const folder = mkdtempSync(join(tmpdir(), "viommu-firefox-"));
let address: string;

beforeAll(async () => {
  address = await mountedPage();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(noBrowser || firefox === undefined)("Firefox", () => {
  it.each(["walk?function=nic0&iova=0x12345678abc&step=18", "caches", "queues", "timeline?row=40", "numbers?still=1"])("draws #%s as Chromium does", async (view) => {
    const file = join(folder, `${view.split("?")[0]}.png`);
    await promisify(execFile)(firefox!, ["--headless", "--no-remote", "--profile", folder, "--window-size=1280,900", "--screenshot", file, `${address}#${view}`], { env: { ...process.env, HOME: folder }, timeout: 50_000 });
    const page = await rig.open(LOOKS.light);
    await page.goto(`${address}#${view}`);
    await page.locator("table, [role=grid]").first().waitFor();
    await page.waitForTimeout(300);
    const theirs = await seen(page, readFileSync(file));
    const ours = await seen(page, await page.screenshot());
    expect([theirs.width, theirs.height]).toEqual([1280, 900]);
    expect(theirs.colours).toBeGreaterThan(50);
    expect(difference(theirs, ours)).toBeLessThan(0.025);
    await page.context().close();
  });
});
