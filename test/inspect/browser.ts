/** A headless browser for tests of the page: the system's Chromium, driven by playwright-core. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll } from "vitest";
import { bundlePage } from "../../bundle-page.js";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** VIOMMU_CHROMIUM, or the system's. Undefined: there is none. */
export const chromiumPath: string | undefined = process.env.VIOMMU_CHROMIUM ?? PLACES.find((path) => existsSync(path));

/** For `describe.skipIf(noBrowser)`: why nothing can be tested here, on standard error. */
export const noBrowser = chromiumPath === undefined;
if (noBrowser) {
  console.error(`no browser: none of ${PLACES.join(", ")} is there (Debian: apt-get install chromium; or VIOMMU_CHROMIUM=PATH)`);
}

export interface PageOptions {
  /** Default 1280 by 800. */
  readonly width?: number;
  readonly height?: number;
  readonly dark?: boolean;
  /** Zoom in parts of 1: the page has that much less room. Default 1. */
  readonly zoom?: number;
}

export interface Rig {
  /** The built page: index.html, page.js, page.css. */
  readonly folder: string;
  /** A new page, at nothing yet. What goes wrong in it fails the test that asks `faults`. */
  open(options?: PageOptions): Promise<Page>;
  /** Errors of pages since they were asked for last: exceptions, and what the console has of errors and refused loads. */
  faults(): string[];
}

/** Builds the page and starts the browser once for a file's tests. */
export function browserRig(): Rig {
  let browser: Browser | null = null;
  const folder = mkdtempSync(join(tmpdir(), "viommu-page-"));
  const found: string[] = [];
  beforeAll(async () => {
    if (!noBrowser) {
      await bundlePage(folder);
      browser = await chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox", "--disable-gpu"] });
    }
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    folder,
    open: async ({ width = 1280, height = 800, dark = false, zoom = 1 } = {}) => {
      const context = await browser!.newContext({ viewport: { width: Math.round(width / zoom), height: Math.round(height / zoom) }, deviceScaleFactor: zoom, colorScheme: dark ? "dark" : "light" });
      const page = await context.newPage();
      page.on("pageerror", (error) => found.push(error.stack ?? error.message));
      page.on("console", (message) => message.type() === "error" && found.push(message.text()));
      page.on("requestfailed", (request) => found.push(`${request.url()}: ${request.failure()?.errorText}`));
      return page;
    },
    faults: () => found.splice(0),
  };
}
