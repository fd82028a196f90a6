/** Entries of an SMMU's queues: commands, events, page requests (Arm IHI 0070, chapters 4, 7.3 and 8.1). */
import { CMD, commandFields, commandName, EVENT, eventName, EVT, extract, OP } from "../../smmuv3/spec/index.js";
import { address, field, type Field, get, getWide, hex, type Layout } from "../../support/index.js";
import type { FieldReport } from "../report/index.js";
import { decodeFields, type Meanings } from "./fields.js";
import { eventLayout } from "./smmuv3-fields.js";
import { decodeStructure } from "./structure-layout.js";

/** An entry of a queue as a report tells it. */
export interface EntryText {
  readonly name: string;
  /** In short, for a line. */
  readonly summary: string;
  readonly fields: readonly FieldReport[];
  readonly section: string;
}

const arm = (number: string): string => `Arm IHI 0070, ${number}`;

const COMMAND_SECTIONS: ReadonlyMap<number, string> = new Map<number, string>([
  [OP.PREFETCH_CONFIG, "4.2.1"],
  [OP.PREFETCH_ADDR, "4.2.2"],
  [OP.CFGI_STE, "4.3.1"],
  [OP.CFGI_STE_RANGE, "4.3.2"],
  [OP.CFGI_CD, "4.3.3"],
  [OP.CFGI_CD_ALL, "4.3.4"],
  [OP.CFGI_VMS_PIDM, "4.3.5"],
  ...[OP.TLBI_NH_ALL, OP.TLBI_NH_ASID, OP.TLBI_NH_VA, OP.TLBI_NH_VAA, OP.TLBI_EL3_ALL, OP.TLBI_EL3_VA, OP.TLBI_EL2_ALL, OP.TLBI_EL2_ASID, OP.TLBI_EL2_VA, OP.TLBI_EL2_VAA].map((opcode): [number, string] => [opcode, "4.4.2"]),
  [OP.TLBI_S12_VMALL, "4.4.3.1"],
  [OP.TLBI_S2_IPA, "4.4.3.2"],
  [OP.TLBI_NSNH_ALL, "4.4.4"],
  [OP.ATC_INV, "4.5.1"],
  [OP.PRI_RESP, "4.5.2"],
  [OP.RESUME, "4.6.1"],
  [OP.STALL_TERM, "4.6.2"],
  [OP.SYNC, "4.7.3"],
]);

/** Fields by the specification's names. */
const COMMAND_NAMES: Readonly<Record<string, string>> = {
  SID: "StreamID",
  SSID: "SubstreamID",
  LEAF: "Leaf",
  RANGE: "Range",
  ADDRESS: "Address",
  PREFETCH_SIZE: "Size",
  PREFETCH_STRIDE: "Stride",
  GLOBAL: "Global",
  ATC_SIZE: "Size",
  PRG_INDEX: "PRGIndex",
  PRI_RESP: "Resp",
  RESUME_AC: "Ac",
  RESUME_AB: "Ab",
  SYNC_CS: "CS",
  SYNC_MSH: "MSH",
  SYNC_MSIATTR: "MSIAttr",
  SYNC_MSIDATA: "MSIData",
  SYNC_MSIADDRESS: "MSIAddress",
};

const COMMAND_MEANINGS: Meanings = {
  Leaf: { 0: "all levels", 1: "last level" },
  TG: { 0: "no granule", 1: "4 KiB", 2: "16 KiB", 3: "64 KiB" },
  TTL: (value) => (value === 0 ? "any level" : `level ${value}`),
  CS: { 0: "no signal", 1: "interrupt", 2: "event (SEV)" },
  Resp: { 0: "deny", 1: "fail", 2: "success" },
};

/** A command, four 32-bit words. */
export function describeCommand(words: ArrayLike<number>): EntryText {
  const opcode = words[0] & CMD.OPCODE.mask;
  const names = commandFields.get(opcode) ?? [];
  const layout: Layout = Object.fromEntries([["Opcode", CMD.OPCODE], ...names.map((name) => [COMMAND_NAMES[name] ?? name, CMD[name]] as const)]);
  return {
    name: opcode === OP.CFGI_STE_RANGE && get(words, CMD.RANGE) === 31 ? "CMD_CFGI_ALL" : commandName(opcode),
    summary: names.length === 0 && !commandFields.has(opcode) ? "no such command" : commandSummary(opcode, words),
    fields: decodeFields(layout, words, COMMAND_MEANINGS),
    section: arm(COMMAND_SECTIONS.get(opcode) ?? "4.1.3"),
  };
}

function commandSummary(opcode: number, words: ArrayLike<number>): string {
  const value = (f: Field): number => get(words, f);
  const has = (name: (typeof CMD_SUMMARY)[number]): boolean => commandFields.get(opcode)?.includes(name) === true;
  switch (opcode) {
    case OP.SYNC:
      return COMMAND_SIGNALS[value(CMD.SYNC_CS)] + (value(CMD.SYNC_CS) === 1 && getWide(words, CMD.SYNC_MSIADDRESS) !== 0n ? ` by message ${hex(value(CMD.SYNC_MSIDATA))} to ${hex(getWide(words, CMD.SYNC_MSIADDRESS))}` : "");
    case OP.CFGI_STE_RANGE:
      return value(CMD.RANGE) === 31 ? "all StreamIDs" : `StreamIDs ${hex(firstOf(value(CMD.SID), value(CMD.RANGE) + 1))} to ${hex(firstOf(value(CMD.SID), value(CMD.RANGE) + 1) + 2 ** (value(CMD.RANGE) + 1) - 1)}`;
    case OP.ATC_INV: {
      const size = value(CMD.ATC_SIZE);
      const where = size >= 52 ? "everything" : `${hex(getWide(words, CMD.ADDRESS))}, ${size === 0 ? "1 page" : `2^${size} pages`}`;
      return `StreamID ${hex(value(CMD.SID))}${value(CMD.SSV) === 0 ? "" : value(CMD.GLOBAL) !== 0 ? ", all SubstreamIDs" : `, SubstreamID ${hex(value(CMD.SSID))}`}, ${where}`;
    }
  }
  const parts: string[] = [];
  for (const name of CMD_SUMMARY.filter(has)) {
    switch (name) {
      case "SID":
        parts.push(`StreamID ${hex(value(CMD.SID))}`);
        break;
      case "SSID":
        // Of what has SSV only where that is set.
        if (!has("SSV") || value(CMD.SSV) !== 0) {
          parts.push(`SubstreamID ${hex(value(CMD.SSID))}`);
        }
        break;
      case "VMID":
        if (opcode >= OP.TLBI_S12_VMALL || value(CMD.VMID) !== 0) {
          parts.push(`VMID ${value(CMD.VMID)}`);
        }
        break;
      case "ASID":
        parts.push(`ASID ${value(CMD.ASID)}`);
        break;
      case "ADDRESS":
        parts.push(addressText(words));
        break;
      case "LEAF":
        if (value(CMD.LEAF) !== 0) {
          parts.push("leaf");
        }
        break;
    }
  }
  return parts.join(", ");
}

const CMD_SUMMARY = ["SID", "SSV", "SSID", "VMID", "ASID", "ADDRESS", "LEAF"] as const;
const COMMAND_SIGNALS = ["no signal", "interrupt", "event (SEV)", "reserved signal"];

/** An address, or a range (4.4.1.1). */
function addressText(words: ArrayLike<number>): string {
  const from = hex(getWide(words, CMD.ADDRESS));
  const granule = get(words, CMD.TG);
  if (granule === 0) {
    return from;
  }
  return `${from}, ${(get(words, CMD.NUM) + 1) * 2 ** get(words, CMD.SCALE)} granules of ${[0, 4, 16, 64][granule]} KiB`;
}

function firstOf(value: number, bits: number): number {
  return value - (value % 2 ** bits);
}

/** An event record, eight 32-bit words. */
export function describeEvent(words: Int32Array): EntryText {
  const number = words[0] & EVT.NUMBER.mask;
  const structure = eventLayout(number);
  const { layout, section } = structure;
  const parts = [`StreamID ${hex(get(words, EVT.SID))}`];
  if ("SubstreamID" in layout && (get(words, EVT.SSV) !== 0 || number === EVENT.C_BAD_SUBSTREAMID)) {
    parts.push(`SubstreamID ${hex(get(words, EVT.SSID))}`);
  }
  if ("RnW" in layout) {
    parts.push(get(words, EVT.RNW) === 0 ? "write" : "read");
  }
  if ("InputAddr" in layout) {
    parts.push(`at ${hex(getWide(words, EVT.INPUT_ADDR))}`);
  }
  if ("S2" in layout && get(words, EVT.S2) !== 0) {
    parts.push(`stage 2${"IPA" in layout ? ` at ${hex(getWide(words, EVT.IPA))}` : ""}`);
  }
  if ("FetchAddr" in layout) {
    parts.push(`fetching ${hex(getWide(words, EVT.FETCH_ADDR))}`);
  }
  return { name: eventName(number), summary: parts.join(", "), fields: decodeStructure(structure, words), section };
}

/** Page request (8.1). */
const PAGE_REQUEST: Layout = {
  StreamID: field(0, 0, 32),
  SubstreamID: field(1, 0, 20),
  Pnu: field(1, 26),
  X: field(1, 27),
  W: field(1, 29),
  R: field(1, 28),
  Last: field(1, 30),
  SSV: field(1, 31),
  PRGIndex: field(2, 0, 9),
  Address: address(2, 12, 63),
};

/** A page request, four 32-bit words. */
export function describePageRequest(words: ArrayLike<number>): EntryText {
  const asked = [["r", 28], ["w", 29], ["x", 27]] as const;
  const rights = asked.map(([letter, bit]) => (extract(words[1], field(0, bit)) === 0 ? "-" : letter)).join("");
  return {
    name: "page request",
    summary: `StreamID ${hex(words[0] >>> 0)}${words[1] < 0 ? `, SubstreamID ${hex(words[1] & 0xf_ffff)}` : ""}, ${rights} at ${hex(getWide(words, address(2, 12, 63)))}, group ${words[2] & 0x1ff}`,
    fields: decodeFields(PAGE_REQUEST, words, { Last: { 1: "the last of its group" } }),
    section: arm("8.1"),
  };
}
