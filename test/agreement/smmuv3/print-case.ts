/** A case in words, for a disagreement. */
import { CD, STE, unpack } from "../../../src/smmuv3/spec/index.js";
import type { TranslationCase } from "./image.js";

export function printCase(one: TranslationCase): string {
  const lines = [
    `  notes: ${one.notes.join("; ")}`,
    `  registers: STRTAB_BASE 0x${one.registers.strtabBase.toString(16)}, STRTAB_BASE_CFG 0x${one.registers.strtabBaseConfig.toString(16)}, SMMUEN ${Number(one.registers.enabled)}, RECINVSID ${Number(one.registers.recordInvalidStreams)}, GBPA.ABORT ${Number(one.registers.globalAbort)}`,
    `  STE: ${fields(unpack(STE, one.ste))}`,
  ];
  if (one.cd !== null) {
    lines.push(`  CD: ${fields(unpack(CD, one.cd))}`);
  }
  for (const access of one.accesses) {
    lines.push(`  ${access.device} ${access.write ? "writes" : "reads"} ${access.length} bytes at 0x${access.iova.toString(16)}, expected at 0x${access.expected.toString(16)}`);
  }
  return lines.join("\n");
}

function fields(values: Readonly<Record<string, number | bigint>>): string {
  return Object.entries(values)
    .filter(([, value]) => Number(value) !== 0)
    .map(([name, value]) => `${name} ${typeof value === "bigint" ? `0x${value.toString(16)}` : value}`)
    .join(", ");
}
