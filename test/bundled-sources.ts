/**
 * The sources as one program that Node.js loads itself, made once for a run of the tests. Vitest's own module runner
 * would load each of several hundred modules anew for every file of tests, and reads each imported name through a
 * getter: what is loaded so takes three times as long to load, and half again as long to run.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { rolldown } from "rolldown";
import type { Plugin } from "vitest/config";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = path.join(root, "src") + path.sep;

/** Below the package's folder, where what is bundled finds its files (support/package-files.ts); each run has one of its own. */
const folders = path.join(root, "dist", "tested");

/** Bundles what tests import of src/, and gives the plugin by which they get it from there. */
export async function bundledSources(): Promise<Plugin> {
  const folder = path.join(folders, `${process.pid}`);
  removeAbandoned();
  const bundle = await rolldown({
    // Each module that a test imports is a file of its own name, so that it is loaded once whoever loads it.
    input: Object.fromEntries([...importedByTests()].map((file) => [withoutExtension(path.relative(sources, file)), file])),
    external: /^[^./]/,
    platform: "node",
    treeshake: false,
    resolve: { extensionAlias: { ".js": [".ts"] } },
  });
  const { output } = await bundle.write({ dir: folder, format: "esm", entryFileNames: "[name].js", chunkFileNames: "chunks/[name]-[hash].js", sourcemap: true });
  await bundle.close();
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const built = new Set(output.map(({ fileName }) => fileName));
  return {
    name: "bundled-sources",
    enforce: "pre",
    resolveId(source, importer) {
      const file = importer === undefined || !source.startsWith(".") ? "" : path.resolve(path.dirname(importer), source);
      if (!file.startsWith(sources)) {
        return undefined;
      }
      const name = path.relative(sources, file).split(path.sep).join("/");
      if (!built.has(name)) {
        throw new Error(`${importer} imports src/${name}, which is not found by its text; write the path as one string`);
      }
      return { id: pathToFileURL(path.join(folder, name)).href, external: true };
    },
  };
}

/** The files of src/ that a file of tests, of benches or of examples names. */
function importedByTests(): Set<string> {
  const found = new Set<string>();
  for (const room of ["test", "bench", "examples"]) {
    for (const name of readdirSync(path.join(root, room), { recursive: true, encoding: "utf8" }).filter((file) => /\.[mc]?[jt]s$/.test(file))) {
      const file = path.join(root, room, name);
      for (const [, source] of readFileSync(file, "utf8").matchAll(/["'](\.{1,2}\/(?:\.\.\/)*src\/[^"']+\.js)["']/g)) {
        found.add(withoutExtension(path.resolve(path.dirname(file), source)) + ".ts");
      }
    }
  }
  return found;
}

/** Removes the bundles of runs that have ended without doing so. */
function removeAbandoned(): void {
  mkdirSync(folders, { recursive: true });
  for (const pid of readdirSync(folders)) {
    try {
      process.kill(Number(pid), 0);
    } catch {
      rmSync(path.join(folders, pid), { recursive: true, force: true });
    }
  }
}

function withoutExtension(file: string): string {
  return file.replace(/\.[jt]s$/, "");
}
