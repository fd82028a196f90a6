import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import * as uapi from "../../src/kvm/uapi.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const recorded = readFileSync(join(here, "uapi-layout.txt"), "utf8");

/** "name value" for each number that uapi.ts states, names of members joined by dots. */
function stated(value: unknown, name: string): string[] {
  return typeof value === "number" ? [`${name} ${value}`] : Object.entries(value as object).flatMap(([member, inner]) => stated(inner, name === "" ? member : `${name}.${member}`));
}

function compiler(): boolean {
  try {
    execFileSync("gcc", ["--version"], { stdio: "ignore" });
    return process.arch === "x64" && existsSync("/usr/include/linux/kvm.h");
  } catch {
    return false;
  }
}

describe("numbers of linux/kvm.h", () => {
  it("are those that a C program prints, every one", () => {
    expect(stated(uapi, "").sort()).toEqual(recorded.trim().split("\n").sort());
  });

  it.skipIf(!compiler())("as the headers of this system have them", () => {
    const folder = mkdtempSync(join(tmpdir(), "kvm-"));
    try {
      execFileSync("gcc", ["-o", join(folder, "layout"), join(here, "uapi-layout.c")], { stdio: "pipe" });
      expect(execFileSync(join(folder, "layout"), { encoding: "utf8" })).toBe(recorded);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
