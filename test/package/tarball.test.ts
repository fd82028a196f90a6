/** The package as an installer gets it: packed, unpacked in an empty folder, with its dependencies beside it. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import Ajv from "ajv";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: Record<string, string>; exports: Record<string, { types: string }> };

let folder: string;
let installed: string;

/** Builds, packs and installs, without a network: dependencies are those of this tree. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "viommu-package-"));
  const tree = join(folder, "tree");
  mkdirSync(tree);
  for (const name of ["package.json", "package-door.js", "rooms.js", "bundle.js", "bundle-page.js", "tsconfig.json", "tsconfig.build.json", "LICENSE", "README.md", "src", "hosts", "devices", "examples", "docs"]) {
    cpSync(join(root, name), join(tree, name), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(tree, "node_modules"));
  execFileSync(process.execPath, ["bundle.js"], { cwd: tree });
  // Types without a check: `npm run typecheck` is the check.
  execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json", "--noCheck", "--emitDeclarationOnly", "--incremental", "false", "--tsBuildInfoFile", "null"], { cwd: tree });
  execFileSync("npm", ["pack", "--ignore-scripts", "--offline", "--pack-destination", folder], { cwd: tree, stdio: "pipe" });
  const [tarball] = readdirSync(folder).filter((file) => file.endsWith(".tgz"));
  const modules = join(folder, "empty/node_modules");
  mkdirSync(modules, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, tarball), "-C", modules]);
  installed = join(modules, "viommu");
  execFileSync("mv", [join(modules, "package"), installed]);
  for (const name of Object.keys(manifest.dependencies)) {
    // A scoped name is a folder of its own.
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(modules, name));
  }
  writeFileSync(join(folder, "empty/package.json"), "{}");
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }), 60_000);

const node = (...words: string[]) => spawnSync(process.execPath, words, { cwd: join(folder, "empty"), encoding: "utf8", env: { ...process.env, NODE_V8_COVERAGE: "" } });

/** Modules of files that a program has loaded: of the package by their names, of others by the package's name. */
function loaded(...words: string[]): string[] {
  const to = mkdtempSync(join(folder, "loaded-"));
  spawnSync(process.execPath, words, { cwd: installed, env: { ...process.env, NODE_V8_COVERAGE: to } });
  const urls = readdirSync(to).flatMap((file) => (JSON.parse(readFileSync(join(to, file), "utf8")) as { result: Array<{ url: string }> }).result.map(({ url }) => url));
  return [...new Set(urls.filter((url) => url.startsWith("file:")).map((url) => /node_modules\/(?!viommu\/)([^/]+)/.exec(url)?.[1] ?? url.replace(/.*\/dist\/lib\//, "")))].sort();
}

describe("the packed package", () => {
  it("runs the program of docs/embedding.md", () => {
    const page = readFileSync(join(root, "docs/embedding.md"), "utf8");
    const [, program] = /```js\n([\s\S]*?)```/.exec(page)!;
    const [, output] = /prints\n\n((?: {4}.*\n)+)/.exec(page)!;
    expect(program.trimEnd().split("\n").length).toBeLessThanOrEqual(34);
    writeFileSync(join(folder, "empty/program.mjs"), program);
    const { stdout, stderr, status } = node("program.mjs");
    expect(stderr).toBe("");
    expect(stdout).toBe(output.replace(/^ {4}/gm, ""));
    expect(status).toBe(0);
  });

  it("is imported, required, and entered by each of its rooms", () => {
    const rooms = Object.keys(manifest.exports).filter((name) => name !== "." && !/json|\*/.test(name));
    const text = `const whole = await import("viommu");
      for (const [name, key] of ${JSON.stringify(rooms.map((name) => [name.replace("./", "viommu/"), name.slice(2).replace(/[/-](.)/g, (_, letter: string) => letter.toUpperCase())]))}) {
        const room = await import(name);
        for (const [one, value] of Object.entries(room)) {
          if (whole[key][one] !== value) throw new Error(name + " gives another " + one);
        }
      }
      console.log(Object.keys(whole).length);`;
    const imported = node("--input-type=module", "-e", text);
    expect(imported.stderr).toBe("");
    expect(imported.stdout).toBe(`${rooms.length}\n`);
    const required = node("--no-warnings", "-e", 'console.log(typeof require("viommu").vtd.VtdDevice, typeof require("viommu/smmuv3").SmmuV3, require("viommu/package.json").name)');
    expect(required.stderr).toBe("");
    expect(required.stdout).toMatch(/^function function viommu\n$/);
  });

  it("has types that resolve, checked to the last library", () => {
    writeFileSync(join(folder, "empty/use.mts"), `import { hostSimulated, type machine } from "viommu";\nimport * as vtd from "viommu/vtd";\nexport const host: ReturnType<typeof hostSimulated.createSimulatedHost> | null = null;\nexport type M = machine.Machine;\nexport const names = Object.keys(vtd);\n`);
    const { stdout, status } = node(join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--skipLibCheck", "false", "--module", "nodenext", "--target", "es2023", "--lib", "es2023", "--types", "node", "--typeRoots", join(root, "node_modules/@types"), "use.mts");
    expect(stdout).toBe("");
    expect(status).toBe(0);
  }, 120_000);

  it("ships the sources that its maps name, and nothing of tests", () => {
    const maps = readdirSync(join(installed, "dist"), { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".map"));
    expect(maps.length).toBeGreaterThan(20);
    for (const map of maps) {
      const { sources } = JSON.parse(readFileSync(join(installed, "dist", map), "utf8")) as { sources: string[] };
      expect(sources.filter((source) => !existsSync(join(installed, "dist", map, "..", source)))).toEqual([]);
    }
    expect(readdirSync(installed).sort()).toEqual(["LICENSE", "README.md", "devices", "dist", "docs", "examples", "hosts", "package.json", "src"]);
  });

  it("ships schemas that hosts and accounts satisfy, by another validator", () => {
    const schema = (name: string) => JSON.parse(readFileSync(join(installed, "dist/schemas", name), "utf8")) as object;
    const ajv = new Ajv({ allErrors: true });
    const host = ajv.compile(schema("host.json"));
    for (const file of readdirSync(join(installed, "hosts"))) {
      const json = JSON.parse(readFileSync(join(installed, "hosts", file), "utf8")) as object;
      expect(host(json), `${file}: ${JSON.stringify(host.errors)}`).toBe(true);
      expect(host({ ...json, memori: [] })).toBe(false);
    }
    const account = ajv.compile(schema("account.json"));
    for (const line of ["-M virt -device arm-smmuv3,primary-bus=pcie.0,id=s", "-M q35 -device intel-iommu"]) {
      const { stdout } = node(join(installed, "dist/lib/cli/main.js"), "run", "--json", "--guest", "none", "--", ...line.split(" "));
      const json = JSON.parse(stdout) as Record<string, unknown>;
      expect(account(json), JSON.stringify(account.errors)).toBe(true);
      expect(account({ ...json, events: null })).toBe(false);
    }
  });
});

describe("the inspector in it", () => {
  const inspect = (...words: string[]) => node(join(installed, "dist/lib/cli/main.js"), "inspect", ...words);

  it("has its page, built, which loads nothing from elsewhere", () => {
    const page = join(installed, "dist/lib/inspect");
    expect(readdirSync(page).sort()).toEqual(["index.html", "page.css", "page.js"]);
    const text = readFileSync(join(page, "index.html"), "utf8") + readFileSync(join(page, "page.css"), "utf8");
    expect([...text.matchAll(/(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import/g)].map(([whole, name]) => name ?? whole)).toEqual(["data:,", "page.css", "page.js"]);
    // Namespaces are names.
    expect([...readFileSync(join(page, "page.js"), "utf8").matchAll(/https?:\/\/[^"'`\s)]*/g)].map(([url]) => url).filter((url) => !url.startsWith("http://www.w3.org/"))).toEqual([]);
  });

  it("writes the page of a machine and of a host", () => {
    const to = join(folder, "page");
    for (const words of [["--guest", "none", "--static", to, "--", "-M", "virt", "-device", "arm-smmuv3,primary-bus=pcie.0,id=s"], ["--host", "grace", "--static", to]]) {
      const { stdout, stderr, status } = inspect(...words);
      expect([stderr, status]).toEqual(["", 0]);
      expect(stdout).toContain(`${to}/index.html`);
      expect(readdirSync(to).sort()).toEqual(["data.js", "index.html", "page.css", "page.js"]);
    }
  });

  it("serves it", async () => {
    const child = spawn(process.execPath, [join(installed, "dist/lib/cli/main.js"), "inspect", "--host", "grace"], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
    const [said] = (await once(child.stdout, "data")) as [Buffer];
    const [address] = /http:\S+/.exec(said.toString())!;
    expect(await (await fetch(`${address}page.js`)).text()).toBe(readFileSync(join(installed, "dist/lib/inspect/page.js"), "utf8"));
    const gone = once(child, "exit");
    child.kill("SIGINT");
    expect(await gone).toEqual([0, null]);
  });
});

describe("starting", () => {
  const main = (...words: string[]) => loaded("dist/lib/cli/main.js", ...words).filter((name) => name !== "commander");

  it("loads no more than the command needs", () => {
    const version = main("--version");
    expect(version).toEqual(expect.arrayContaining(["cli/main.js", "chunks/support.js"]));
    expect(version.length).toBeLessThanOrEqual(4);
    expect(main("hosts").filter((name) => !version.includes(name))).toEqual(["chunks/hosts.js", "chunks/names.js", "chunks/shipped.js"]);
    const refused = main("run", "--", "-M", "virt", "-device", "nope");
    // The machine of what is right in a line is made, too, to tell all that is wrong at once.
    expect(refused).toEqual(expect.arrayContaining(["chunks/machine.js"]));
    expect(refused.filter((name) => /zod|qmp|yaml|xmldom|tar|zstd|kvm/.test(name))).toEqual([]);
  });

  it("loads zod for a host file that is to be checked, and QMP where somebody speaks it", () => {
    const run = ["run", "--quiet", "--guest", "none", "--", "-M", "virt"];
    const plain = main(...run);
    expect(plain).toEqual(expect.arrayContaining(["chunks/machine.js", "chunks/kernel.js"]));
    expect(plain.filter((name) => /zod|qmp/.test(name))).toEqual([]);
    expect(main("hosts", pathToFileURL(join(installed, "hosts/grace.json")).pathname)).toEqual(expect.arrayContaining(["zod"]));
  });
});
