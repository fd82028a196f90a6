// dependencies.mjs: the folders of node_modules, below the project, that the package needs to run, one a line: what
// package.json depends on and what that depends on in turn; an optional one where it is installed.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const project = dirname(import.meta.dirname);
const found = new Set();

/** Node.js looks into the node_modules of each folder above. */
function folderOf(name, from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) {
      return candidate;
    }
    if (folder === project) {
      return null;
    }
  }
}

function follow(folder) {
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  for (const name of new Set([...Object.keys(dependencies), ...Object.keys(optionalDependencies)])) {
    const next = folderOf(name, folder);
    if (next === null && !(name in optionalDependencies)) {
      throw new Error(`node_modules has no ${name}: npm ci`);
    }
    if (next !== null && !found.has(next)) {
      found.add(next);
      follow(next);
    }
  }
}

follow(project);
console.log([...found].map((folder) => relative(project, folder)).sort().join("\n"));
