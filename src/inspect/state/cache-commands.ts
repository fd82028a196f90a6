/** Which commands drop an entry of a cache, narrowest first (Arm IHI 0070, 4.3 to 4.5; Intel VT-d 6.5.2). */
import { ATC_SIZE_ALL, CFGI_RANGE_ALL, encodeCommand, OP } from "../../smmuv3/spec/index.js";
import { pack } from "../../support/index.js";
import {
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_TYPE,
  DESCRIPTOR_TYPE_LOW,
  DEVICE_TLB_DESC,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_SELECTIVE,
  IOTLB_DESC,
  PASID_CACHE_DESC,
  PASID_CACHE_DOMAIN,
  PASID_CACHE_GLOBAL,
  PASID_CACHE_PASID,
  PASID_DEVICE_TLB_DESC,
  PASID_IOTLB_DESC,
  PASID_IOTLB_PAGE,
  PASID_IOTLB_PASID,
} from "../../vtd/spec/index.js";
import type { CachedEntry } from "../report/index.js";
import { describeCommand } from "./smmuv3-entries.js";
import { describeDescriptor } from "./vtd-entries.js";

/** By which numbers who invalidates it names what it is of: the guest's, where the guest's commands reach it. */
export interface Named {
  readonly streamId: number | null;
  /** VMID as commands have it; null: they have none. */
  readonly vmid: number | null;
  readonly asid: number | null;
  readonly domain: number | null;
}

type CommandFields = Parameters<typeof encodeCommand>[1];

export function smmuCommands(entry: CachedEntry, named: Named): string[] {
  const line = (opcode: number, fields: CommandFields): string => {
    const { name, summary } = describeCommand(encodeCommand(opcode, fields));
    return summary === "" ? name : `${name} ${summary}`;
  };
  const sid = { SID: (named.streamId ?? 0) >>> 0 };
  const pasid = entry.pasid === null ? null : entry.pasid & 0xf_ffff;
  const everything = line(OP.TLBI_NSNH_ALL, {});
  if (entry.cache === "configuration") {
    const own = entry.kind === "STE" ? [] : [line(OP.CFGI_CD, { ...sid, SSID: pasid ?? 0, LEAF: 1 }), line(OP.CFGI_CD_ALL, sid)];
    return [...own, line(OP.CFGI_STE, { ...sid, LEAF: 1 }), line(OP.CFGI_STE_RANGE, { RANGE: CFGI_RANGE_ALL })];
  }
  const iova = pageOf(entry);
  if (entry.cache === "device") {
    const substream = pasid === null ? {} : { SSV: 1, SSID: pasid };
    const pages = { ATC_SIZE: sizeOf(entry), ADDRESS: iova };
    const all = { ATC_SIZE: ATC_SIZE_ALL };
    return [line(OP.ATC_INV, { ...sid, ...substream, ...pages }), ...(pasid === null ? [] : [line(OP.ATC_INV, { ...sid, ...substream, ...all })]), line(OP.ATC_INV, { ...sid, ...all })];
  }
  const vmid = named.vmid === null ? {} : { VMID: named.vmid & 0xffff };
  const whole = named.vmid === null ? [] : [line(OP.TLBI_S12_VMALL, vmid)];
  if (entry.kind === "stage 2") {
    return [line(OP.TLBI_S2_IPA, { ...vmid, ADDRESS: iova, LEAF: 1 }), ...whole, everything];
  }
  const asid = named.asid === null ? null : { ...vmid, ASID: named.asid & 0xffff };
  return [
    ...(asid === null ? [] : [line(OP.TLBI_NH_VA, { ...asid, ADDRESS: iova, LEAF: 1 })]),
    line(OP.TLBI_NH_VAA, { ...vmid, ADDRESS: iova, LEAF: 1 }),
    // A global entry is of no ASID (4.4.2).
    ...(asid === null || entry.global ? [] : [line(OP.TLBI_NH_ASID, asid)]),
    line(OP.TLBI_NH_ALL, vmid),
    ...whole,
    everything,
  ];
}

/** `forwarded`: a guest's device-TLB descriptors are the host's to do: with those for the IOTLB. */
export function vtdCommands(entry: CachedEntry, named: Named, forwarded: boolean): string[] {
  const line = (words: Int32Array): string => {
    const { name, summary } = describeDescriptor(words);
    return `${name} ${summary}`;
  };
  const descriptor = (type: number): Int32Array => pack({ T: DESCRIPTOR_TYPE_LOW }, new Int32Array(4), { T: type });
  const context = (fields: Parameters<typeof pack<typeof CONTEXT_CACHE_DESC>>[2]): string => line(pack(CONTEXT_CACHE_DESC, descriptor(DESCRIPTOR_TYPE.CONTEXT_CACHE), fields));
  const pasidCache = (fields: Parameters<typeof pack<typeof PASID_CACHE_DESC>>[2]): string => line(pack(PASID_CACHE_DESC, descriptor(DESCRIPTOR_TYPE.PASID_CACHE), fields));
  const iotlb = (fields: Parameters<typeof pack<typeof IOTLB_DESC>>[2]): string => line(pack(IOTLB_DESC, descriptor(DESCRIPTOR_TYPE.IOTLB), fields));
  const pasidIotlb = (fields: Parameters<typeof pack<typeof PASID_IOTLB_DESC>>[2]): string => line(pack(PASID_IOTLB_DESC, descriptor(DESCRIPTOR_TYPE.PASID_IOTLB), fields));
  const SID = (named.streamId ?? 0) & 0xffff;
  const DID = (named.domain ?? 0) & 0xffff;
  const PASID = (entry.pasid ?? 0) & 0xf_ffff;
  if (entry.kind === "context entry") {
    return [context({ G: GRANULARITY_SELECTIVE, SID, DID }), context({ G: GRANULARITY_DOMAIN, DID }), context({ G: GRANULARITY_GLOBAL })];
  }
  if (entry.kind === "PASID entry") {
    return [pasidCache({ G: PASID_CACHE_PASID, DID, PASID }), pasidCache({ G: PASID_CACHE_DOMAIN, DID }), pasidCache({ G: PASID_CACHE_GLOBAL })];
  }
  const ADDR = pageOf(entry);
  const AM = sizeOf(entry);
  const wide = [iotlb({ G: GRANULARITY_DOMAIN, DID }), iotlb({ G: GRANULARITY_GLOBAL })];
  const first = [pasidIotlb({ G: PASID_IOTLB_PAGE, DID, PASID, ADDR, AM, IH: 1 }), pasidIotlb({ G: PASID_IOTLB_PASID, DID, PASID })];
  if (entry.cache === "device") {
    if (forwarded) {
      return [...first, ...wide];
    }
    const range = rangeOf(ADDR, AM);
    const own = pack(DEVICE_TLB_DESC, descriptor(DESCRIPTOR_TYPE.DEVICE_TLB), { SID, ...range });
    return entry.pasid === null ? [line(own)] : [line(pack(PASID_DEVICE_TLB_DESC, descriptor(DESCRIPTOR_TYPE.PASID_DEVICE_TLB), { SID, PASID, ...range })), line(own)];
  }
  return entry.kind === "second stage" ? [iotlb({ G: GRANULARITY_SELECTIVE, DID, ADDR, AM, IH: 1 }), ...wide] : [...first, ...wide];
}

/** A page's address: what a recording has may be anything. */
function pageOf({ iova }: CachedEntry): bigint {
  return BigInt.asUintN(64, BigInt(iova ?? "0x0")) & ~0xfffn;
}

/** log2 of an entry's pages of 4 KiB. */
function sizeOf({ pageBits }: CachedEntry): number {
  return Math.min(51, Math.max(0, (pageBits ?? 12) - 12));
}

/** Address and S of 2^`bits` pages (6.5.2.5): the lowest clear bit from bit 12 on tells how many. */
function rangeOf(address: bigint, bits: number): { readonly ADDR: bigint; readonly S: number } {
  return bits === 0 ? { ADDR: address, S: 0 } : { ADDR: address | (((1n << BigInt(bits - 1)) - 1n) << 12n), S: 1 };
}
