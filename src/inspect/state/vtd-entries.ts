/** Entries of a VT-d unit's queues: descriptors, fault records, page requests (Intel VT-d 6.5.2, 11.4.7.6, 7.4.1). */
import {
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_TYPE,
  DESCRIPTOR_TYPE_HIGH,
  DESCRIPTOR_TYPE_LOW,
  descriptorType,
  DEVICE_TLB_DESC,
  FRCD,
  faultName,
  GRANULARITY_SELECTIVE,
  INTERRUPT_ENTRY_DESC,
  IOTLB_DESC,
  PASID_CACHE_DESC,
  PASID_CACHE_DOMAIN,
  PASID_CACHE_GLOBAL,
  PASID_DEVICE_TLB_DESC,
  PASID_IOTLB_DESC,
  PASID_IOTLB_PAGE,
  WAIT_DESC,
} from "../../vtd/spec/index.js";
import { deviceRangeBits } from "../../vtd/lookup/index.js";
import { address, field, type Field, get, getWide, hex, type Layout } from "../../support/index.js";
import { decodeFields, type Meanings } from "./fields.js";
import type { EntryText } from "./smmuv3-entries.js";
import { decodeStructure } from "./structure-layout.js";
import { FAULT_RECORD_LAYOUT } from "./vtd-fields.js";

const intel = (number: string): string => `Intel VT-d ${number}`;
const TYPE: Layout = { Type: DESCRIPTOR_TYPE_LOW, "Type (6:4)": DESCRIPTOR_TYPE_HIGH };
const GRANULARITY = { 1: "global", 2: "domain", 3: "selective" };

interface DescriptorKind {
  readonly name: string;
  readonly section: string;
  readonly layout: Layout;
  readonly meanings: Meanings;
  readonly summary: (words: ArrayLike<number>) => string;
}

const GROUP_RESPONSE = { PP: field(0, 4), RID: field(0, 16, 16), PASID: field(1, 0, 20), RC: field(1, 20, 4), PRGI: field(2, 3, 9) };

const KINDS: ReadonlyMap<number, DescriptorKind> = new Map<number, DescriptorKind>([
  [
    DESCRIPTOR_TYPE.CONTEXT_CACHE,
    {
      name: "cc_inv_dsc",
      section: "6.5.2.1",
      layout: CONTEXT_CACHE_DESC,
      meanings: { G: GRANULARITY },
      summary: (d) => {
        const g = get(d, CONTEXT_CACHE_DESC.G);
        return g === GRANULARITY_SELECTIVE ? `source id ${hex(get(d, CONTEXT_CACHE_DESC.SID))}, domain ${get(d, CONTEXT_CACHE_DESC.DID)}` : scopeText(g, get(d, CONTEXT_CACHE_DESC.DID));
      },
    },
  ],
  [
    DESCRIPTOR_TYPE.PASID_CACHE,
    {
      name: "pc_inv_dsc",
      section: "6.5.2.2",
      layout: PASID_CACHE_DESC,
      meanings: { G: { 0: "domain", 1: "PASID", 3: "global" } },
      summary: (d) => {
        const g = get(d, PASID_CACHE_DESC.G);
        return g === PASID_CACHE_GLOBAL ? "global" : `domain ${get(d, PASID_CACHE_DESC.DID)}${g === PASID_CACHE_DOMAIN ? "" : `, PASID ${get(d, PASID_CACHE_DESC.PASID)}`}`;
      },
    },
  ],
  [
    DESCRIPTOR_TYPE.IOTLB,
    {
      name: "iotlb_inv_dsc",
      section: "6.5.2.3",
      layout: IOTLB_DESC,
      meanings: { G: GRANULARITY, IH: { 0: "all levels", 1: "leaf entries alone" } },
      summary: (d) => {
        const g = get(d, IOTLB_DESC.G);
        return g === GRANULARITY_SELECTIVE ? `domain ${get(d, IOTLB_DESC.DID)}, ${pagesText(d, IOTLB_DESC)}` : scopeText(g, get(d, IOTLB_DESC.DID));
      },
    },
  ],
  [
    DESCRIPTOR_TYPE.PASID_IOTLB,
    {
      name: "p_iotlb_inv_dsc",
      section: "6.5.2.4",
      layout: PASID_IOTLB_DESC,
      meanings: { G: { 2: "PASID", 3: "pages" }, IH: { 0: "all levels", 1: "leaf entries alone" } },
      summary: (d) =>
        `domain ${get(d, PASID_IOTLB_DESC.DID)}, PASID ${get(d, PASID_IOTLB_DESC.PASID)}${get(d, PASID_IOTLB_DESC.G) === PASID_IOTLB_PAGE ? `, ${pagesText(d, PASID_IOTLB_DESC)}` : ""}`,
    },
  ],
  [
    DESCRIPTOR_TYPE.DEVICE_TLB,
    { name: "dev_tlb_inv_dsc", section: "6.5.2.5", layout: DEVICE_TLB_DESC, meanings: {}, summary: (d) => `source id ${hex(get(d, DEVICE_TLB_DESC.SID))}, ${deviceText(d)}` },
  ],
  [
    DESCRIPTOR_TYPE.PASID_DEVICE_TLB,
    {
      name: "p_dev_tlb_inv_dsc",
      section: "6.5.2.6",
      layout: PASID_DEVICE_TLB_DESC,
      meanings: { G: { 0: "the PASID", 1: "all PASIDs" } },
      summary: (d) =>
        `source id ${hex(get(d, PASID_DEVICE_TLB_DESC.SID))}, ${get(d, PASID_DEVICE_TLB_DESC.G) === 0 ? `PASID ${get(d, PASID_DEVICE_TLB_DESC.PASID)}` : "all PASIDs"}, ${deviceText(d)}`,
    },
  ],
  [
    DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE,
    {
      name: "iec_inv_dsc",
      section: "6.5.2.7",
      layout: INTERRUPT_ENTRY_DESC,
      meanings: { G: { 0: "global", 1: "by index" } },
      summary: (d) => (get(d, INTERRUPT_ENTRY_DESC.G) === 0 ? "global" : `index ${get(d, INTERRUPT_ENTRY_DESC.IIDX)}, 2^${get(d, INTERRUPT_ENTRY_DESC.IM)} entries`),
    },
  ],
  [
    DESCRIPTOR_TYPE.WAIT,
    {
      name: "inv_wait_dsc",
      section: "6.5.2.8",
      layout: WAIT_DESC,
      meanings: { IF: { 1: "completion interrupt" }, SW: { 1: "status write" }, FN: { 1: "fence" }, PD: { 1: "page requests are drained" } },
      summary: (d) =>
        [
          ...(get(d, WAIT_DESC.SW) === 0 ? [] : [`${hex(get(d, WAIT_DESC.DATA))} to ${hex(getWide(d, WAIT_DESC.ADDR))}`]),
          ...(get(d, WAIT_DESC.IF) === 0 ? [] : ["interrupt"]),
          ...(get(d, WAIT_DESC.FN) === 0 ? [] : ["fence"]),
          ...(get(d, WAIT_DESC.PD) === 0 ? [] : ["page requests drained"]),
        ].join(", ") || "nothing",
    },
  ],
  [
    DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE,
    {
      name: "page_grp_resp_dsc",
      section: "7.7.1",
      layout: GROUP_RESPONSE,
      meanings: { RC: { 0: "success", 1: "invalid request", 15: "failure" } },
      summary: (d) => `source id ${hex(get(d, GROUP_RESPONSE.RID))}, group ${get(d, GROUP_RESPONSE.PRGI)}`,
    },
  ],
]);

/** A descriptor of the invalidation queue: four 32-bit words, or eight. */
export function describeDescriptor(words: ArrayLike<number>): EntryText {
  const type = descriptorType(words[0]);
  const kind = KINDS.get(type);
  if (kind === undefined) {
    return { name: `type ${hex(type)}`, summary: "no such descriptor", fields: decodeFields(TYPE, words), section: intel("6.5.2") };
  }
  return { name: kind.name, summary: kind.summary(words), fields: decodeFields({ ...TYPE, ...kind.layout }, words, kind.meanings), section: intel(kind.section) };
}

function scopeText(granularity: number, domain: number): string {
  return granularity === 1 ? "global" : granularity === 2 ? `domain ${domain}` : "reserved granularity";
}

function pagesText(words: ArrayLike<number>, layout: { readonly AM: Field; readonly IH: Field; readonly ADDR: typeof IOTLB_DESC.ADDR }): string {
  const mask = get(words, layout.AM);
  return `${hex(getWide(words, layout.ADDR))}${mask === 0 ? "" : `, 2^${mask} pages`}${get(words, layout.IH) === 0 ? "" : ", leaf"}`;
}

function deviceText(words: ArrayLike<number>): string {
  const bits = deviceRangeBits(words);
  if (bits >= 64) {
    return "everything";
  }
  const address = getWide(words, DEVICE_TLB_DESC.ADDR) & ~((1n << BigInt(bits)) - 1n);
  return `${hex(address)}${bits === 12 ? "" : `, 2^${bits - 12} pages`}`;
}

/** A fault recording register, four 32-bit words. */
export function describeFault(words: Int32Array): EntryText {
  const type = 2 * get(words, FRCD.T2) + get(words, FRCD.T1);
  const what = ["write", "read", "page request", "AtomicOp"][type];
  const pasid = get(words, FRCD.PP) === 0 ? "" : `, PASID ${get(words, FRCD.PV)}`;
  return {
    name: faultName(get(words, FRCD.FR)),
    summary: `source id ${hex(get(words, FRCD.SID))}${pasid}, ${what} at ${hex(getWide(words, FRCD.FI))}`,
    fields: decodeStructure(FAULT_RECORD_LAYOUT, words),
    section: FAULT_RECORD_LAYOUT.section,
  };
}

/** Page request descriptor (7.4.1). */
const PAGE_REQUEST = {
  Type: field(0, 0, 8),
  PP: field(0, 8),
  RID: field(0, 16, 16),
  PASID: field(1, 0, 20),
  EXR: field(1, 20),
  PMR: field(1, 21),
  RD: field(2, 0),
  WR: field(2, 1),
  LPIG: field(2, 2),
  PRGI: field(2, 3, 9),
  ADDR: address(2, 12, 63),
} as const;

/** A page request, eight 32-bit words. */
export function describeVtdPageRequest(words: ArrayLike<number>): EntryText {
  const rights = `${get(words, PAGE_REQUEST.RD) === 0 ? "-" : "r"}${get(words, PAGE_REQUEST.WR) === 0 ? "-" : "w"}${get(words, PAGE_REQUEST.EXR) === 0 ? "-" : "x"}`;
  return {
    name: "page_req_dsc",
    summary: `source id ${hex(get(words, PAGE_REQUEST.RID))}${get(words, PAGE_REQUEST.PP) === 0 ? "" : `, PASID ${get(words, PAGE_REQUEST.PASID)}`}, ${rights} at ${hex(getWide(words, PAGE_REQUEST.ADDR))}, group ${get(words, PAGE_REQUEST.PRGI)}`,
    fields: decodeFields(PAGE_REQUEST, words, { LPIG: { 1: "the last of its group" } }),
    section: intel("7.4.1"),
  };
}
