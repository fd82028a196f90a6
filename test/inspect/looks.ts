/** How the page looks: what axe-core finds, what does not fit, pictures that are compared loosely. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { Page } from "playwright-core";
import type { PageOptions } from "./browser.js";

/** How pages are looked at: a window of 1280 by 900 pixels, of which 200 % leaves 640 of CSS. */
export const LOOKS = {
  light: { height: 900 },
  dark: { height: 900, dark: true },
  "200 %": { height: 900, zoom: 2 },
} as const satisfies Record<string, PageOptions>;

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe-core finds wrong: a line each. */
export async function findings(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  return page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { target: string[]; failureSummary: string }[] }[] }> } }).axe.run();
    return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target.join(" ")}: ${failureSummary}`));
  });
}

/** Pixels by which the page is wider than its window. */
export function overflow(page: Page): Promise<number> {
  return page.evaluate(() => {
    const { document, innerWidth } = globalThis as unknown as { document: { documentElement: { scrollWidth: number } }; innerWidth: number };
    return Math.max(document.documentElement.scrollWidth - innerWidth, 0);
  });
}

/**
 * Takes a picture, and looks at it loosely: how many colours it has and which part of it is of the commonest.
 * Kept below VIOMMU_PICTURES where that names a folder.
 */
export async function picture(page: Page, name: string): Promise<{ readonly width: number; readonly height: number; readonly colours: number; readonly commonest: number; readonly bytes: number }> {
  const png = await page.screenshot({ animations: "disabled" });
  if (process.env.VIOMMU_PICTURES) {
    mkdirSync(process.env.VIOMMU_PICTURES, { recursive: true });
    writeFileSync(path.join(process.env.VIOMMU_PICTURES, `${name}.png`), png);
  }
  // Beside the page: its own rules may forbid what a picture needs.
  const beside = await page.context().newPage();
  const seen = await beside.evaluate(LOOK, `data:image/png;base64,${png.toString("base64")}`);
  await beside.close();
  return { ...seen, bytes: png.length };
}

/** In the browser: its types are not those of this file. */
const LOOK = new Function("address", `return (async () => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  return { width: image.width, height: image.height, colours: counts.size, commonest: Math.max(...counts.values()) / pixels.length };
})()`) as (address: string) => Promise<{ width: number; height: number; colours: number; commonest: number }>;
