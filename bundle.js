/**
 * What the package ships beside its types: the sources in one file for each room (dist/lib), because Node.js takes
 * longer to find and load four hundred modules than to run them; and what is known when it is built: the hosts of
 * hosts/, checked and with their defaults filled in, and the schemas of host files and of the account; the inspector's
 * page (bundle-page.js).
 *
 * usage: node bundle.js [FOLDER], in place of dist; packages that the bundle loads have to be found from there.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { rolldown } from "rolldown";
import { bundlePage } from "./bundle-page.js";
import { fileOf } from "./package-door.js";
import { rooms } from "./rooms.js";

const root = import.meta.dirname;
const to = path.resolve(process.argv[2] ?? path.join(root, "dist"));
const library = path.join(to, "lib");
const { dependencies, optionalDependencies } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));

rmSync(library, { recursive: true, force: true });
const bundle = await rolldown({
  // Every door is an entry, which makes a file of each room: modules are together where the same doors reach them.
  input: {
    index: path.join(root, "src/index.ts"),
    "cli/main": path.join(root, "src/cli/main.ts"),
    // Threads' programs, which are loaded by their addresses.
    "vcpu-thread": path.join(root, "src/kvm/vcpu-thread.ts"),
    "loop-watch-thread": path.join(root, "src/kvm/loop-watch-thread.ts"),
    ...Object.fromEntries(Object.keys(rooms).filter((room) => room !== "cli" && room !== "inspect/page").map((room) => [fileOf(room), path.join(root, "src", room, "index.ts")])),
  },
  external: [...Object.keys(dependencies), ...Object.keys(optionalDependencies)],
  platform: "node",
  // No module does anything by being loaded, so that a room that uses one thing behind a door loads no other.
  treeshake: { moduleSideEffects: false },
  experimental: { chunkOptimization: false },
  resolve: { extensionAlias: { ".js": [".ts"] } },
});
await bundle.write({
  dir: library,
  format: "esm",
  entryFileNames: "[name].js",
  chunkFileNames: "chunks/[name].js",
  sourcemap: true,
  sourcemapExcludeSources: true,
  minifyInternalExports: false,
});
await bundle.close();

await bundlePage(path.join(library, "inspect"));

const built = (file) => import(pathToFileURL(path.join(library, file)).href);
const { hostFileJsonSchema, loadHostDescription } = await built("host-simulated-file.js");
const { accountJsonSchema } = await built("run-report.js");
const { planJsonSchema } = await built("plan-report.js");
mkdirSync(path.join(library, "hosts"));
for (const file of readdirSync(path.join(root, "hosts"))) {
  const host = loadHostDescription(readFileSync(path.join(root, "hosts", file), "utf8"), file);
  writeFileSync(path.join(library, "hosts", file), JSON.stringify(host));
}

const schemas = path.join(to, "schemas");
mkdirSync(schemas, { recursive: true });
writeFileSync(path.join(schemas, "host.json"), `${JSON.stringify(hostFileJsonSchema(), null, 2)}\n`);
writeFileSync(path.join(schemas, "account.json"), `${JSON.stringify(accountJsonSchema(), null, 2)}\n`);
writeFileSync(path.join(schemas, "plan.json"), `${JSON.stringify(planJsonSchema(), null, 2)}\n`);
