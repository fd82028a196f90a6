/**
 * The package's door, made from rooms.js: src/index.ts, and the exports of package.json. `node package-door.js`
 * writes both; test/package.test.ts holds them.
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { internal, rooms } from "./rooms.js";

/** Rooms for those who embed them, in the order of their names. */
export const publicRooms = Object.keys(rooms)
  .filter((room) => !Object.hasOwn(internal, room))
  .sort();

/** smmuv3/lookup -> smmuv3Lookup, host/simulated -> hostSimulated. */
export const nameOf = (room) => room.replace(/[/-](.)/g, (_, letter) => letter.toUpperCase());

/** The file of dist/lib that a room's door becomes, without its ending. */
export const fileOf = (room) => room.replaceAll("/", "-");

export function indexSource() {
  return [
    "/** The package's door: each room under its name, for those who embed the models (docs/embedding.md). Made by package-door.js. */",
    ...publicRooms.map((room) => `export * as ${nameOf(room)} from "./${room}/index.js";`),
    "",
  ].join("\n");
}

export function packageExports() {
  const entry = (types, file) => ({ types: `./dist/src/${types}index.d.ts`, default: `./dist/lib/${file}.js` });
  return {
    ".": entry("", "index"),
    ...Object.fromEntries(publicRooms.map((room) => [`./${room}`, entry(`${room}/`, fileOf(room))])),
    "./schemas/*": "./dist/schemas/*",
    "./package.json": "./package.json",
  };
}

if (process.argv[1] === import.meta.filename) {
  const root = import.meta.dirname;
  const manifest = path.join(root, "package.json");
  writeFileSync(path.join(root, "src/index.ts"), indexSource());
  writeFileSync(manifest, `${JSON.stringify({ ...JSON.parse(readFileSync(manifest, "utf8")), exports: packageExports() }, null, 2)}\n`);
}
