/** Options of a guest, which `run` and `guest` share. */
import { Refusal } from "../support/index.js";

export function parseFirmware(value: string): "dt" | "acpi" {
  if (value !== "dt" && value !== "acpi") {
    throw new Refusal("--firmware expects dt or acpi", { found: `--firmware ${value}`, wouldWork: "dt: the device tree; acpi: IORT and MCFG" });
  }
  return value;
}

export function parseGranule(value: string): 4096 | 16384 | 65536 {
  switch (value.toLowerCase().replace(/k(?:i?b)?$/, "")) {
    case "4":
    case "4096":
      return 4096;
    case "16":
    case "16384":
      return 16384;
    case "64":
    case "65536":
      return 65536;
    default:
      throw new Refusal("--granule expects a page size of the architecture", { found: `--granule ${value}`, wouldWork: "4K, 16K, 64K" });
  }
}

export function parseSeed(value: string): number {
  if (!/^\d{1,9}$/.test(value)) {
    throw new Refusal("--seed expects a number", { found: `--seed ${value}`, wouldWork: "0 to 999999999" });
  }
  return Number(value);
}
