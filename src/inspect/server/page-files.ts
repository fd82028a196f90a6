/** The built page: as the server gives it, and as files that open without one. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageFolder, Refusal, systemWords } from "../../support/index.js";
import type { PageData } from "../report/index.js";

const FILES = { "index.html": "text/html; charset=utf-8", "page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8" } as const;

/** Beside a page without a server: what it shows. */
const DATA = "data.js";

/** Where the package has it. */
export function pageFolder(): string {
  return join(packageFolder(), "dist/lib/inspect");
}

export interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
}

/** The page's files by name. @throws Refusal where it has not been built */
export function readPage(folder: string): ReadonlyMap<string, PageFile> {
  return new Map(
    Object.entries(FILES).map(([name, type]) => {
      try {
        return [name, { type, bytes: readFileSync(join(folder, name)) }];
      } catch (error) {
        throw new Refusal("the inspector's page is not there", { found: `${join(folder, name)}: ${systemWords(error)}`, wouldWork: "the installed package; in a copy of the sources npm run build" });
      }
    }),
  );
}

/** A folder that a page may be written to: a new one, an empty one, or one with an earlier page. @throws Refusal */
export function checkTarget(folder: string): void {
  let found: string[];
  try {
    found = existsSync(folder) ? readdirSync(folder) : [];
  } catch (error) {
    throw new Refusal(`Could not open '${folder}': ${systemWords(error)}`, { found: `--static ${folder}`, wouldWork: "a folder" });
  }
  const foreign = found.filter((name) => name !== DATA && !Object.hasOwn(FILES, name));
  if (foreign.length > 0 || (found.length > 0 && !isPage(folder))) {
    throw new Refusal("--static writes into a new folder, an empty one, or over an earlier page", { found: `${folder} with ${foreign[0] ?? found[0]}`, wouldWork: "another folder" });
  }
}

function isPage(folder: string): boolean {
  return existsSync(join(folder, DATA)) && existsSync(join(folder, "index.html")) && /<title>viommu<\/title>/.test(readFileSync(join(folder, "index.html"), "utf8"));
}

/** The page's files with data beside them, which it shows in place of a machine. */
export function withData(files: ReadonlyMap<string, PageFile>, data: PageData): ReadonlyMap<string, PageFile> {
  const index = files.get("index.html")!;
  const html = index.bytes.toString("utf8").replace('<script defer src="page.js">', `<script defer src="${DATA}"></script>\n<script defer src="page.js">`);
  // JSON is JavaScript (ES2019).
  const script = `globalThis.VIOMMU_DATA = ${JSON.stringify(data)};\n`;
  return new Map([...files, ["index.html", { ...index, bytes: Buffer.from(html) }], [DATA, { type: FILES["page.js"], bytes: Buffer.from(script) }]]);
}

/** Writes the page with its data: files that a browser opens without a server. @throws Refusal */
export function writePage(from: string, folder: string, data: PageData): void {
  checkTarget(folder);
  const files = withData(readPage(from), data);
  try {
    mkdirSync(folder, { recursive: true });
    for (const [name, { bytes }] of files) {
      writeFileSync(join(folder, name), bytes);
    }
  } catch (error) {
    throw new Refusal(`Could not write to '${folder}': ${systemWords(error)}`, { found: `--static ${folder}`, wouldWork: "a folder that can be written" });
  }
}
