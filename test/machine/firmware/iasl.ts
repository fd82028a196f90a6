/** ACPI's compiler as a reader of our tables. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export function has(program: string): boolean {
  try {
    execFileSync(program, ["-v"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** A table as iasl reads it, and what it says when it compiles that again. */
export function disassembled(bytes: Uint8Array, name: string): { text: string; verdict: string } {
  const folder = mkdtempSync(join(tmpdir(), "aml-"));
  try {
    writeFileSync(join(folder, `${name}.aml`), bytes);
    execFileSync("iasl", ["-d", `${name}.aml`], { cwd: folder, stdio: "pipe" });
    const text = readFileSync(join(folder, `${name}.dsl`), "utf8");
    const verdict = execFileSync("iasl", [`${name}.dsl`], { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    return { text, verdict };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Address ranges that host bridges tell in a DSDT's text, in order. */
export function bridgeRanges(text: string): Array<{ kind: string; low: number; high: number }> {
  return [...text.matchAll(/(WordBusNumber|[DQ]WordMemory) [^\n]*\n\s*0x\w+,[^\n]*\n\s*(0x\w+),[^\n]*\n\s*(0x\w+),/g)].map(([, kind, low, high]) => ({ kind, low: Number(low), high: Number(high) }));
}
