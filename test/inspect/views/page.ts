/** `mounted.tsx` as one file that a browser opens. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Address of the page; `#walk?...` goes after it. */
export async function mountedPage(): Promise<string> {
  const bundle = await rolldown({ input: path.join(root, "test/inspect/views/mounted.tsx"), platform: "browser", resolve: { extensionAlias: { ".js": [".ts", ".tsx"] } }, transform: { jsx: { runtime: "automatic", importSource: "preact" } } });
  const { output } = await bundle.generate({ format: "iife" });
  await bundle.close();
  const css = readFileSync(path.join(root, "src/inspect/page/views/views.css"), "utf8");
  const file = path.join(mkdtempSync(path.join(tmpdir(), "viommu-views-")), "index.html");
  const own = ":root { color-scheme: light dark; } body { margin: 0; font-family: system-ui, sans-serif; background: light-dark(#fff, #15181c); color: light-dark(#1b1f24, #e4e7ea); } main { padding: 12px 20px; } h1 { font-size: 1.125rem; }";
  writeFileSync(file, `<!doctype html><html lang="en"><meta charset="utf-8"><title>views</title><style>${own}${css}</style><body><script>${output[0].code.replaceAll("</script", "<\\/script")}</script>`);
  return `file://${file}`;
}
