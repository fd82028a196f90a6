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

/** A picture as it is compared. */
export interface Seen {
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
  readonly colours: number;
  /** Part of the picture that is of the commonest colour. */
  readonly commonest: number;
  /** Lightness, 0 to 255, of 64 by 45 parts. */
  readonly parts: readonly number[];
}

/** Takes a picture; kept below VIOMMU_PICTURES where that names a folder. */
export async function picture(page: Page, name: string): Promise<Seen> {
  const png = await page.screenshot({ animations: "disabled" });
  if (process.env.VIOMMU_PICTURES) {
    mkdirSync(process.env.VIOMMU_PICTURES, { recursive: true });
    writeFileSync(path.join(process.env.VIOMMU_PICTURES, `${name}.png`), png);
  }
  return seen(page, png);
}

/** Looks at a picture with the browser of `page`. */
export async function seen(page: Page, png: Buffer): Promise<Seen> {
  // Beside the page: its own rules may forbid what a picture needs.
  const beside = await page.context().newPage();
  const found = await beside.evaluate(LOOK, `data:image/png;base64,${png.toString("base64")}`);
  await beside.close();
  return { ...found, bytes: png.length };
}

/** How far apart two pictures are in lightness, 0 to 1: below 0.025 of one view that two browsers draw, above it of two views. */
export function difference(one: Seen, other: Seen): number {
  return one.parts.reduce((sum, part, at) => sum + Math.abs(part - other.parts[at]), 0) / one.parts.length / 255;
}

/** In the browser: its types are not those of this file. */
const LOOK = new Function("address", `return (async () => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const draw = (width, height) => {
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
  const pixels = new Uint32Array(draw(image.width, image.height).buffer);
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const small = draw(64, 45);
  const parts = Array.from({ length: 64 * 45 }, (_, at) => Math.round((small[at * 4] + small[at * 4 + 1] + small[at * 4 + 2]) / 3));
  return { width: image.width, height: image.height, colours: counts.size, commonest: Math.max(...counts.values()) / pixels.length, parts };
})()`) as (address: string) => Promise<Omit<Seen, "bytes">>;
