/** Options of a guest, which `run` and `guest` share. */
import { Option } from "commander";
import type { VtdChoice } from "../guest/index.js";
import { parseSize } from "../machine/arguments/index.js";
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

/** `--fd N=ADDRESS`, as often as there are descriptors. */
export function parseDescriptor(value: string, before: ReadonlyMap<string, string> = new Map()): ReadonlyMap<string, string> {
  const [, fd, domain, rest] = /^(\d{1,9})=(?:([0-9a-f]{1,4}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])$/i.exec(value) ?? [];
  if (fd === undefined) {
    throw new Refusal("--fd expects N=ADDRESS", { found: `--fd ${value}`, wouldWork: "--fd 31=0009:01:00.0: the function of the host that fd=31 stands for" });
  }
  return new Map([...before, [fd, `${(domain ?? "0").padStart(4, "0")}:${rest}`.toLowerCase()]]);
}

export function parseSeed(value: string): number {
  if (!/^\d{1,9}$/.test(value)) {
    throw new Refusal("--seed expects a number", { found: `--seed ${value}`, wouldWork: "0 to 999999999" });
  }
  return Number(value);
}

/** Bytes of a recording. */
export function parseRecordLimit(value: string): number {
  const limit = parseSize("--record-limit", value, "b");
  if (limit < 1 << 14) {
    throw new Refusal("a recording takes 16 KiB at least", { found: `--record-limit ${value}`, wouldWork: "16K or more" });
  }
  return limit;
}

export function parsePort(value: string): number {
  if (!/^\d{1,5}$/.test(value) || Number(value) > 65535) {
    throw new Refusal("a port is a number", { found: value, wouldWork: "1 to 65535; 0: one that is free" });
  }
  return Number(value);
}

const VTD_WORDS: Readonly<Record<string, VtdChoice>> = {
  sm_on: {},
  sm_off: { scalable: false },
  intremap_off: { interruptRemapping: false },
  second_stage: { secondStage: true },
  copy_tables: { copyTables: true },
  tear_down_pasids: { tearDownPasids: true },
  registers: { queued: false },
};

function parseVtdWords(value: string): VtdChoice {
  return value.split(",").reduce<VtdChoice>((choice, word) => {
    if (!Object.hasOwn(VTD_WORDS, word)) {
      throw new Refusal("--intel-iommu and --kexec expect words about the guest's VT-d driver", { found: word, wouldWork: Object.keys(VTD_WORDS).join(", ") });
    }
    return { ...choice, ...VTD_WORDS[word] };
  }, {});
}

export interface VtdOptions {
  readonly intelIommu?: VtdChoice;
  readonly kexec?: VtdChoice[];
}

/** Options about a guest's VT-d driver. */
export function vtdOptions(): Option[] {
  return [
    new Option("--intel-iommu <words>", `q35: how the guest's kernels use VT-d, with commas: ${Object.keys(VTD_WORDS).join(", ")}`).argParser(parseVtdWords),
    new Option("--kexec <words>", "q35: the same for a kernel that takes over without a reset; several are such kernels one after the other").argParser(
      (value: string, previous: VtdChoice[] | undefined) => [...(previous ?? []), parseVtdWords(value)],
    ),
  ];
}
