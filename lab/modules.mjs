// modules.mjs FROM TO NAME...: copies modules of a kernel's tree, uncompressed, with all that they depend on, and writes
// TO/order: their files as they are to be loaded.
import { execFileSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const [from, to, ...names] = process.argv.slice(2);
/** Names in the kernel have underscores, files have either. */
const nameOf = (file) => basename(file).replace(/\.ko(\.xz)?$/, "").replaceAll("-", "_");
const files = new Map(readdirSync(from, { recursive: true }).filter((file) => /\.ko(\.xz)?$/.test(file)).map((file) => [nameOf(file), join(from, file)]));
const order = [];

function add(name) {
  if (order.includes(name)) {
    return;
  }
  const file = files.get(name);
  if (file === undefined) {
    throw new Error(`${from} has no module ${name}`);
  }
  const bytes = file.endsWith(".xz") ? execFileSync("xz", ["-dc", file], { maxBuffer: 2 ** 28 }) : execFileSync("cat", [file], { maxBuffer: 2 ** 28 });
  const [, depends] = /\0depends=([^\0]*)\0/.exec(bytes.toString("latin1")) ?? [null, ""];
  depends.split(",").filter((one) => one !== "").forEach((one) => add(one.replaceAll("-", "_")));
  writeFileSync(join(to, `${name}.ko`), bytes);
  order.push(name);
}
names.forEach((name) => add(name.replaceAll("-", "_")));
writeFileSync(join(to, "order"), order.map((name) => `${name}.ko\n`).join(""));
