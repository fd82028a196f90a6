import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { indexSource, nameOf, packageExports, publicRooms } from "../../package-door.js";
import { internal, rooms } from "../../rooms.js";
import * as viommu from "../../src/index.js";

const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  exports: Record<string, unknown>;
  bin: Record<string, string>;
  dependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
  devDependencies: Record<string, string>;
};

describe("the package's door", () => {
  it("is what package-door.js makes of rooms.js", () => {
    expect(readFileSync(new URL("../../src/index.ts", import.meta.url), "utf8")).toBe(indexSource());
    expect(manifest.exports).toEqual(packageExports());
  });

  it("gives every room that is not kept back with a reason", () => {
    expect([...publicRooms, ...Object.keys(internal)].sort()).toEqual(Object.keys(rooms).sort());
    expect(Object.keys(viommu).sort()).toEqual(publicRooms.map(nameOf).sort());
    // A door of types alone has no names at run time.
    const empty = Object.entries(viommu).filter(([, room]) => Object.keys(room).length === 0);
    expect(empty.map(([name]) => name)).toEqual(["inspectReport", "port"]);
    for (const reason of Object.values(internal)) {
      expect(reason).not.toBe("");
    }
  });

  it("gives VT-d as it gives SMMUv3", () => {
    for (const layer of ["", "Spec", "Lookup"]) {
      expect(Object.keys(viommu)).toEqual(expect.arrayContaining([`smmuv3${layer}`, `vtd${layer}`]));
    }
  });
});

describe("package.json", () => {
  it("depends on what the sources import, and on no more", () => {
    // That types which the package shows resolve is tarball.test.ts's to see.
    const typesOnly = new Set(Object.keys(manifest.devDependencies).map((name) => name.replace("@types/", "")));
    const imported = new Set(sources().flatMap((text) => [...text.matchAll(/^(?:import|export) [^;]*? from "([^."][^"]*)";$|\bawait import\("([^."][^"]*)"\)/gms)].map(([, name, later]) => name ?? later)));
    expect([...imported].filter((name) => !name.startsWith("node:") && (!typesOnly.has(name) || name in manifest.dependencies)).sort()).toEqual([...Object.keys(manifest.dependencies), ...Object.keys(manifest.optionalDependencies)].sort());
  });

  it("names a program that a shell can run", () => {
    expect(manifest.bin).toEqual({ viommu: "dist/lib/cli/main.js" });
    expect(readFileSync(new URL("../../src/cli/main.ts", import.meta.url), "utf8").startsWith("#!/usr/bin/env node\n")).toBe(true);
  });
});

function sources(): string[] {
  return readdirSync(new URL("../../src/", import.meta.url), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => readFileSync(new URL(`../../src/${file}`, import.meta.url), "utf8"));
}
