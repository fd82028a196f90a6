import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import * as uapi from "../../src/iommufd/uapi.js";
import { ERRNO } from "../../src/iommufd/index.js";
import { constants } from "node:os";
import { hasCompiler, includeFolder } from "./headers.js";

const here = fileURLToPath(new URL(".", import.meta.url));

/** "name value" lines as a map. */
function parse(text: string): Map<string, number> {
  return new Map(text.trim().split("\n").map((line) => [line.split(" ")[0], Number(line.split(" ")[1])]));
}

/** Every constant of uapi.ts, with the names of objects and their members joined. */
function stated(): Map<string, number> {
  const values = new Map<string, number>();
  for (const [name, value] of Object.entries(uapi)) {
    if (typeof value === "number") {
      values.set(name, value);
    } else {
      for (const [member, inner] of Object.entries(value)) {
        values.set(`${name}.${member}`, inner);
      }
    }
  }
  return values;
}

const table = readFileSync(join(here, "uapi-layout.txt"), "utf8");

describe("the kernel's numbers", () => {
  test("all of uapi.ts are in the table that a C program made from Linux's headers, and equal", () => {
    expect(Object.fromEntries(stated())).toEqual(Object.fromEntries(parse(table)));
  });

  const include = hasCompiler() ? includeFolder() : null;
  test.skipIf(include === null)("the table is what the program prints with the headers here", () => {
    const folder = mkdtempSync(join(tmpdir(), "uapi-build-"));
    try {
      const program = join(folder, "uapi-layout");
      execFileSync("gcc", ["-I", include!.folder, "-o", program, join(here, "uapi-layout.c")]);
      expect(execFileSync(program, { encoding: "utf8" })).toBe(table);
    } finally {
      rmSync(folder, { recursive: true });
      if (include!.temporary) {
        rmSync(include!.folder, { recursive: true });
      }
    }
  });

  test.skipIf(process.platform !== "linux")("errno values are this system's", () => {
    const system: Record<string, number> = constants.errno;
    for (const [name, value] of Object.entries(ERRNO)) {
      if (name in system) {
        expect(value, name).toBe(system[name]);
      }
    }
  });
});
