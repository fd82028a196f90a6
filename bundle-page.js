/**
 * The inspector's page as one script and one sheet that load nothing from elsewhere, in a folder: index.html, page.js,
 * page.css. The script is a classic one: a page that is opened as a file may load no modules.
 *
 * usage: node bundle-page.js FOLDER
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { rolldown } from "rolldown";

const source = path.join(import.meta.dirname, "src/inspect/page");

export async function bundlePage(folder) {
  const bundle = await rolldown({
    input: path.join(source, "main.tsx"),
    platform: "browser",
    // What needs Node.js is in no function that the page calls, and falls away.
    external: [/^node:/],
    transform: { jsx: { runtime: "automatic", importSource: "preact" }, define: { "process.env.NODE_ENV": '"production"' } },
    resolve: { extensionAlias: { ".js": [".ts", ".tsx", ".js"] } },
    treeshake: { moduleSideEffects: (id) => id.startsWith(source) },
  });
  await bundle.write({ file: path.join(folder, "page.js"), format: "iife", minify: true });
  await bundle.close();
  mkdirSync(folder, { recursive: true });
  const sheets = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".css"));
  // The page's own sheet is first: the views' go by its colours.
  sheets.sort((a, b) => a.split(path.sep).length - b.split(path.sep).length || (a < b ? -1 : 1));
  writeFileSync(path.join(folder, "page.css"), sheets.map((file) => readFileSync(path.join(source, file), "utf8")).join("\n"));
  writeFileSync(path.join(folder, "index.html"), readFileSync(path.join(source, "index.html")));
}

if (process.argv[1] === import.meta.filename) {
  await bundlePage(path.resolve(process.argv[2]));
}
