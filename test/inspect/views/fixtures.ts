/** Answers as a machine gives them, made by hand: for views that are looked at without a machine. */
import type { CachedEntryReport, CachesReport, FetchReport, FieldReport, MapReport, NumbersReport, QueuesReport, TimelineRow, WalkReport } from "../../../src/inspect/report/index.js";

const hex = (value: number): string => `0x${value.toString(16)}`;
const field = (name: string, high: number, low: number, value: number, meaning: string | null = null): FieldReport => ({ name, high, low, value: hex(value), meaning });

export const HOSTILE = `<img src=x onerror="document.title='owned'">\u202e"'&amp;`;

export const map: MapReport = {
  machine: null,
  functions: ["nic0", "nvme1", HOSTILE].map((name, at) => ({
    function: name, bdf: `0000:0${at + 1}:00.0`, host: `0009:0${at + 1}:00.0`, iommu: at === 1 ? "smmu1" : "smmu0", streamId: 0x100 * (at + 1), vendorId: 0x10de, deviceId: 0x2330, classCode: 0x020000,
    label: at === 2 ? HOSTILE : "Ethernet controller", ats: true, pasid: true, iommufd: "iommufd0", ioas: 1, parentHwpt: 2, vdevice: 5,
  })),
  attachments: [], tables: [],
  host: { description: "grace", kernel: "6.17", iommus: [{ id: "host-smmu0", architecture: "smmuv3", features: {}, numaNode: 0, errata: [] }], functions: [], unknown: [] },
};

/** A nested walk of an SMMU: a two-level stream table, two-level context descriptors, four levels of each stage: 36 fetches. */
export function nestedWalk(faultAt = 0): WalkReport {
  const fetches: FetchReport[] = [];
  const add = (fetch: Omit<FetchReport, "number">): void => void fetches.push({ number: fetches.length + 1, ...fetch });
  const host = { space: "host-physical" as const, ipa: null };
  const stage2 = (row: number, ipa: number): number => {
    for (let level = 0; level < 4; level++) {
      add({ ...host, name: `stage 2 level ${level}`, row, column: level, stage: 2, level, address: hex(0x880_0200_0000 + level * 0x1000 + ((ipa >> (12 + 9 * (3 - level))) & 511) * 8), words: [level === 3 ? `0x4008${(0x8_0000_07ff + ipa).toString(16).padStart(11, "0")}` : hex(0x880_0200_1003 + level * 0x1000)],
        fields: [field("Valid", 0, 0, 1), field("Type", 1, 1, 1, level === 3 ? "a page" : "a table"), ...(level === 3 ? [field("MemAttr", 5, 2, 0xf, "Normal, write-back"), field("S2AP", 7, 6, 3, "read and write"), field("AF", 10, 10, 1)] : []), field("Address", 47, 12, 0x8800200 + level)],
        decides: level === 3 ? `Valid, a page of 4 KiB: ${hex(ipa)} is at ${hex(0x880_0000_0000 + ipa)}` : `Valid, a table: level ${level + 1} follows`, section: "Arm DDI 0487, D8.3.1" });
    }
    return 0x880_0000_0000 + ipa;
  };
  add({ ...host, name: "L1 stream table descriptor", row: 0, column: 4, stage: "structure", level: null, address: "0x88001000008", words: ["0x0000088001010009"], fields: [field("Span", 4, 0, 9, "256 STEs"), field("L2Ptr", 55, 6, 0x2200040400)], decides: "256 STEs, StreamID 0x100 is among them", section: "Arm IHI 0070, 5.1" });
  add({ ...host, name: "STE", row: 1, column: 4, stage: "structure", level: null, address: "0x88001014000", words: ["0x800000004010080f", "0x0000000000000094", "0x0004000100000002", "0x0000088002000000", "0x0", "0x0", "0x0", "0x0"],
    fields: [field("V", 0, 0, 1), field("Config", 3, 1, 7, "stage 1 and stage 2"), field("S1Fmt", 5, 4, 2, "two levels, 64 KiB leaves"), field("S1ContextPtr", 55, 6, 0x1004020), field("S1CDMax", 63, 59, 16), field("S1STALLD", 91, 91, 0), field("S2VMID", 143, 128, 2), field("S2TTB", 243, 196, 0x880020000)],
    decides: "Stage 1 and stage 2: the context descriptor follows, at an IPA", section: "Arm IHI 0070, 5.2" });
  const own = (row: number, name: string, stage: 1 | "structure", level: number | null, ipa: number, words: string[], fields: FieldReport[], decides: string, section: string): void => {
    const address = stage2(row, ipa);
    add({ space: "host-physical", name, row, column: 4, stage, level, address: hex(address), ipa: hex(ipa), words, fields, decides, section });
  };
  own(2, "L1 CD descriptor", "structure", null, 0x40100800, ["0x0000000040110001"], [field("V", 0, 0, 1), field("L2Ptr", 55, 12, 0x40110)], "Valid: the CD of SubstreamID 5 is in the leaf", "Arm IHI 0070, 5.4.1");
  own(3, "CD", "structure", null, 0x40110140, ["0x0001c000809b3510", "0x0000000040200000", "0x0", "0x00000000000000ff", "0x0", "0x0", "0x0", "0x0"], [field("T0SZ", 5, 0, 16, "48 bits"), field("TG0", 7, 6, 0, "4 KiB"), field("V", 31, 31, 1), field("IPS", 34, 32, 5, "48 bits"), field("AA64", 41, 41, 1, "AArch64"), field("ASID", 63, 48, 1), field("TTB0", 115, 68, 0x4020000)], "AArch64, TTB0: 48 bits of IOVA, four levels", "Arm IHI 0070, 5.4");
  for (let level = 0; level < 4; level++) {
    if (faultAt > 0 && level > faultAt) {
      break;
    }
    const fault = level === faultAt;
    own(4 + level, `stage 1 level ${level}`, 1, level, 0x40200000 + level * 0x1000 + 8 * level, [fault && faultAt > 0 ? "0x0" : level === 3 ? "0x0060000045678f43" : hex(0x40201003 + level * 0x1000)],
      fault && faultAt > 0 ? [field("Valid", 0, 0, 0, "not valid")] : [field("Valid", 0, 0, 1), field("Type", 1, 1, 1, level === 3 ? "a page" : "a table"), ...(level === 3 ? [field("AttrIndx", 4, 2, 0), field("AP", 7, 6, 1, "read and write, also unprivileged"), field("SH", 9, 8, 3, "inner shareable"), field("AF", 10, 10, 1), field("nG", 11, 11, 1)] : []), field("Address", 47, 12, 0x40201 + level)],
      fault && faultAt > 0 ? "Not valid: a translation fault" : level === 3 ? "Valid, a page of 4 KiB: IPA 0x45678000" : `Valid, a table: level ${level + 1} follows`, "Arm DDI 0487, D8.3.1");
  }
  if (faultAt === 0) {
    stage2(8, 0x45678abc);
  }
  return {
    question: { function: "nic0", pasid: 5, iova: "0x12345678abc", access: "write", privileged: false, kind: "untranslated" },
    iommu: "host-smmu0", side: "host", streamId: 0x900, fetches, cut: false,
    end: faultAt === 0
      ? { outcome: "translated", output: "0x88045678abc", outputSpace: "host-physical", ipa: "0x45678abc", pageBits: 12, permissions: "rw-", event: null, reason: "Stage 1 maps the IOVA to IPA 0x45678abc, and stage 2 that to the host's memory." }
      : { outcome: "aborted", output: null, outputSpace: "host-physical", ipa: null, pageBits: null, permissions: null,
          event: { name: "F_TRANSLATION", number: 0x10, words: ["0x0000000500000810", "0x0000000000000100", "0x0000012345678abc", "0x0"], fields: [field("SubstreamID", 31, 12, 5), field("StreamID", 63, 32, 0x100), field("RnW", 99, 99, 0, "a write"), field("InputAddr", 191, 128, 0x12345678abc)], section: "Arm IHI 0070, 7.3.12" },
          reason: `The descriptor of stage 1 level ${faultAt} is not valid; the write of function 'nic0' is aborted and recorded as F_TRANSLATION.` },
    compared: [{ name: "STE of StreamID 0x100", section: "Arm IHI 0070, 5.2", fields: [
      { name: "Config", high: 3, low: 1, guest: "0x5", host: "0x7", meaning: "stage 1 and stage 2", fate: "made", why: "Stage 2 is the host's: the guest's memory behind it." },
      { name: "S1ContextPtr", high: 55, low: 6, guest: "0x1004020", host: "0x1004020", meaning: null, fate: "taken", why: null },
      { name: "S1CSH", high: 71, low: 70, guest: "0x3", host: "0x3", meaning: "inner shareable", fate: "same", why: null },
      { name: "SHCFG", high: 109, low: 108, guest: "0x1", host: "0x0", meaning: null, fate: "dropped", why: "Not in what the kernel takes of a guest's STE (STRTAB_STE_1 of iommu_hwpt_arm_smmuv3)." },
    ] }],
    unknown: [],
  };
}

/** A nested walk of VT-d in scalable mode: root, context, PASID directory and table, four levels of each stage. */
export function vtdWalk(): WalkReport {
  const fetches: FetchReport[] = [];
  const add = (fetch: Omit<FetchReport, "number">): void => void fetches.push({ number: fetches.length + 1, ...fetch });
  const structure = (row: number, name: string, address: string, decides: string, section: string): void => add({ name, row, column: 4, stage: "structure", level: null, space: "host-physical", ipa: null, address, words: ["0x0000000104000001", "0x0"], fields: [field("P", 0, 0, 1), field("LPTP", 63, 12, 0x104000)], decides, section });
  structure(0, "root entry", "0x103000010", "Present, lower half: devices 0 to 15", "VT-d 5.1, 9.1");
  structure(1, "context entry", "0x104000100", "Present: the PASID directory follows", "VT-d 5.1, 9.4");
  structure(2, "PASID directory entry", "0x105000000", "Present: the PASID table follows", "VT-d 5.1, 9.5");
  structure(3, "PASID entry", "0x106000000", "Nested: first and second stage", "VT-d 5.1, 9.6");
  for (let row = 0; row < 5; row++) {
    for (let level = 4; level >= 1; level--) {
      add({ name: `second stage level ${level}`, row: 4 + row, column: 4 - level, stage: 2, level, space: "host-physical", ipa: null, address: hex(0x200000000 + row * 0x10000 + level * 0x1000), words: ["0x0000000200001007"], fields: [field("R", 0, 0, 1), field("W", 1, 1, 1)], decides: level === 1 ? "A page of 4 KiB" : `A table: level ${level - 1} follows`, section: "VT-d 5.1, 9.8" });
    }
    if (row < 4) {
      add({ name: `first stage level ${4 - row}`, row: 4 + row, column: 4, stage: 1, level: 4 - row, space: "host-physical", ipa: hex(0x40200000 + row * 0x1000), address: hex(0x2_4020_0000 + row * 0x1000), words: ["0x0000000040201067"], fields: [field("P", 0, 0, 1), field("R/W", 1, 1, 1), field("U/S", 2, 2, 1), field("A", 5, 5, 1), field("ADDR", 51, 12, 0x40201)], decides: "Present", section: "VT-d 5.1, 9.7" });
    }
  }
  return { question: { function: "nic0", pasid: null, iova: "0xfffe1000", access: "read", privileged: true, kind: "untranslated" }, iommu: "dmar0", side: "host", streamId: 0x1800, fetches, cut: false,
    end: { outcome: "translated", output: "0x245678000", outputSpace: "host-physical", ipa: "0x45678000", pageBits: 12, permissions: "rw-", event: null, reason: "Both stages map it." }, compared: [], unknown: ["The caches of the host's IOMMU cannot be read on Linux."] };
}

export function caches(count = 40): CachesReport {
  const entries: CachedEntryReport[] = [];
  for (let at = 0; at < count; at++) {
    const configuration = at % 8 === 0;
    const stale = at % 13 === 5;
    entries.push({ iommu: "host-smmu0", side: "host", cache: configuration ? "configuration" : at % 5 === 0 ? "device" : "tlb", kind: configuration ? "STE" : "stage 1 and 2", streamId: configuration ? 0x900 : null, hostFunction: at % 5 === 0 && !configuration ? "0009:01:00.0" : null, pasid: at % 3 === 0 ? 5 : null, tags: configuration ? {} : { VMID: 2, ASID: 1 },
      iova: configuration ? null : hex(0x100000 + at * 0x1000), pageBits: configuration ? null : at % 7 === 0 ? 21 : 12, output: configuration ? null : hex(0x880_4000_0000 + at * 0x3000), permissions: configuration ? null : at % 4 === 0 ? "r--" : "rw-", global: at % 11 === 0, words: configuration ? ["0x800000004010080f", "0x94"] : [],
      functions: [at % 9 === 0 ? HOSTILE : "nic0"], fields: configuration ? [field("V", 0, 0, 1), field("Config", 3, 1, 7, "stage 1 and stage 2")] : [], agrees: stale ? false : at % 17 === 3 ? null : true, tables: stale ? "the leaf of stage 1 level 3 is not valid" : "",
      dropped: [`CMD_TLBI_NH_VA ASID 1, address ${hex(0x100000 + at * 0x1000)}, leaf`, "CMD_TLBI_NH_ASID ASID 1", "CMD_TLBI_NSNH_ALL"] });
  }
  return { entries, more: 0, unknown: [] };
}

export const queues: QueuesReport = {
  queues: [
    { iommu: "smmu0", name: "command", enabled: true, base: "0x40300000", size: 256, producer: 12, consumer: 9, full: false, batch: { first: 6, entries: 4, handled: 3, error: "EIO at entry 3: the kernel takes no CMD_CFGI_ALL" }, entries: [
      ...[6, 7, 8].map((index) => ({ index, state: "done" as const, words: ["0x0001000000000011", "0x0000000000001001"], name: "CMD_TLBI_NH_VA", summary: `ASID 1, ${hex(index * 0x1000)}, leaf`, fields: [field("ASID", 63, 48, 1), field("Leaf", 64, 64, 1)], section: "Arm IHI 0070, 4.4.1", error: null })),
      { index: 9, state: "current", words: ["0x0000000000000004", "0x1f"], name: "CMD_CFGI_ALL", summary: "all streams", fields: [field("Opcode", 7, 0, 4)], section: "Arm IHI 0070, 4.3.2", error: "CERROR_ILL: the kernel refuses it" },
      ...[10, 11].map((index) => ({ index, state: "waiting" as const, words: ["0x46", "0x0"], name: "CMD_SYNC", summary: "CS none", fields: [], section: "Arm IHI 0070, 4.7", error: null })),
    ] },
    { iommu: "smmu0", name: "event", enabled: true, base: "0x40310000", size: 128, producer: 120, consumer: 120, full: false, batch: null, entries: [{ index: 119, state: "done", words: ["0x10", "0x100"], name: "F_TRANSLATION", summary: HOSTILE, fields: [], section: "Arm IHI 0070, 7.3.12", error: null }] },
    { iommu: "smmu0", name: "pri", enabled: false, base: "0x0", size: 0, producer: 0, consumer: 0, full: false, batch: null, entries: [] },
    { iommu: "smmu1", name: "command", enabled: true, base: "0x40400000", size: 256, producer: 4, consumer: 4, full: true, batch: null, entries: [] },
  ],
};

/** A store, its command, its host call; now and then an event and its interrupt. */
export function timelineRows(count: number, from = 1): TimelineRow[] {
  const rows: TimelineRow[] = [];
  for (let at = 0; at < count; at++) {
    const number = from + at;
    const place = (number - 1) % 5;
    const kind = (["store", "command", "host", "event", "interrupt"] as const)[place];
    const name = ["smmuv3_write_mmio", "smmuv3_cmdq_consume", "iommufd_hwpt_invalidate", "smmuv3_record_event", "smmuv3_trigger_irq"][place];
    const words = [`addr: 0x${(0x98).toString(16)} val: ${hex(number)} size: 4`, `CMD_TLBI_NH_VA ASID 1, ${hex((number * 0x1000) >>> 0)}, leaf`, "hwpt 4, 1 entry: handled 1", `F_TRANSLATION sid=0x100 iova=${hex((number * 0x1000) >>> 0)} ${number % 25 === 4 ? HOSTILE : ""}`, "irq 75"][place];
    rows.push({ number, time: number * 137, kind, name, words, iommu: "smmu0", function: place === 3 ? "nic0" : null, streamId: place === 3 ? 0x100 : null, cause: place === 0 ? null : number - 1 });
  }
  return rows;
}

export function numbers(second: number): NumbersReport {
  const of = (name: string | null, scale: number): NumbersReport["rows"][number] => ({ of: name, invalidations: Math.round(scale * (second * 120 + 60 * Math.sin(second / 3))), hostCalls: Math.round(scale * second * 40), exits: Math.round(scale * second * 300), faults: name === HOSTILE ? second : 0, dma: Math.round(scale * second * 900), dmaBytes: Math.round(scale * second * 900 * 4096 * (1 + 0.2 * Math.sin(second))) });
  return { time: second * 1e6, rows: [of(null, 3), of("smmu0", 2), of("smmu1", 1), of("nic0", 1.2), of("nvme1", 1), of(HOSTILE, 0.8)] };
}
