import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import * as uapi from "../../src/kvm/uapi.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const recorded = (name: string): string => readFileSync(join(here, name), "utf8");
const lines = (text: string): string[] => text.trim().split("\n");

/** Headers of arm64 beside those of this system (Debian's linux-libc-dev-arm64-cross). */
const ARM64_HEADERS = "/usr/aarch64-linux-gnu/include";

/** "name value" for each number that uapi.ts states, names of members joined by dots. */
function stated(value: unknown, name: string): string[] {
  return typeof value === "number" || typeof value === "bigint" ? [`${name} ${value}`] : Object.entries(value as object).flatMap(([member, inner]) => stated(inner, name === "" ? member : `${name}.${member}`));
}

function compiler(header: string): boolean {
  try {
    execFileSync("gcc", ["--version"], { stdio: "ignore" });
    return process.arch === "x64" && existsSync(header);
  } catch {
    return false;
  }
}

/** What the C program prints, built with the headers that `options` lead to. */
function printed(options: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), "kvm-"));
  try {
    execFileSync("gcc", [...options, "-o", join(folder, "layout"), join(here, "uapi-layout.c")], { stdio: "pipe" });
    return execFileSync(join(folder, "layout"), { encoding: "utf8" });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("numbers of linux/kvm.h", () => {
  it("are those that a C program prints for x86 and arm64, every one", () => {
    const all = new Set([...lines(recorded("uapi-layout.txt")), ...lines(recorded("uapi-layout-arm64.txt"))]);
    expect(stated(uapi, "").sort()).toEqual([...all].sort());
  });

  it.skipIf(!compiler("/usr/include/linux/kvm.h"))("as the headers of this system have them", () => {
    expect(printed([])).toBe(recorded("uapi-layout.txt"));
  });

  it.skipIf(!compiler(join(ARM64_HEADERS, "asm/kvm.h")))("as the headers of arm64 have them", () => {
    expect(printed(["-isystem", ARM64_HEADERS])).toBe(recorded("uapi-layout-arm64.txt"));
  });
});
