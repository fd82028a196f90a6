import { ANY_ASID, NO_ASID, type Tlb } from "../../translation/index.js";
import { CMD, get, OP } from "../spec/index.js";
import type { LookupFeatures } from "./features.js";

/** Pages of 4 KiB in one half of the address space that the TLB tells apart (48 bits). */
const HALF_PAGES = 2 ** 36;

/**
 * Does what a CMD_TLBI_* command says to a TLB (Arm IHI 0070, 4.4). Commands that concern nothing in it
 * (EL2, EL3, other opcodes) change nothing; whether a command is legal is the queue's to say.
 *
 * CMD_TLBI_S2_IPA drops stage-2-only translations: what stage 1 had a part in stays until a command of
 * stage 1 or CMD_TLBI_S12_VMALL drops it (4.4.3.2).
 *
 * @param words the command's four words, from index `base` on
 * @returns whether the command was a TLB invalidation
 */
export function applyTlbi(tlb: Tlb, features: LookupFeatures, words: ArrayLike<number>, base = 0): boolean {
  // 4.4.2: the VMID is matched only where stage 2 is supported.
  const vmid = features.stage2 ? get(words, CMD.VMID, base) : 0;
  const asid = get(words, CMD.ASID, base);
  switch (get(words, CMD.OPCODE, base)) {
    case OP.TLBI_NH_ALL:
      tlb.invalidateVmidStage1(vmid);
      return true;
    case OP.TLBI_NH_ASID:
      tlb.invalidateAsid(vmid, asid);
      return true;
    case OP.TLBI_NH_VA:
      invalidatePages(tlb, features, words, base, vmid, asid);
      return true;
    case OP.TLBI_NH_VAA:
      invalidatePages(tlb, features, words, base, vmid, ANY_ASID);
      return true;
    case OP.TLBI_S12_VMALL:
      tlb.invalidateVmid(vmid);
      return true;
    case OP.TLBI_S2_IPA:
      invalidatePages(tlb, features, words, base, vmid, NO_ASID);
      return true;
    case OP.TLBI_NSNH_ALL:
      tlb.invalidateAll();
      return true;
    default:
      return false;
  }
}

/** One address, or with IDR3.RIL and TG the range (NUM + 1) * 2^SCALE granules, which does not wrap (4.4.1.1). */
function invalidatePages(
  tlb: Tlb,
  features: LookupFeatures,
  words: ArrayLike<number>,
  base: number,
  vmid: number,
  asid: number,
): void {
  const low = words[base + CMD.ADDRESS.word] & CMD.ADDRESS.lowMask;
  const high = words[base + CMD.ADDRESS.word + 1];
  const granule = features.rangeInvalidation ? get(words, CMD.TG, base) : 0;
  if (granule === 0) {
    tlb.invalidateAddress(vmid, asid, high, low);
    return;
  }
  const pages = (get(words, CMD.NUM, base) + 1) * 2 ** (Math.min(39, get(words, CMD.SCALE, base)) + 2 * granule - 2);
  // Bits 47:12 and bit 55 say which page: a tag in the top byte is ignored.
  const upper = (high & 0x0080_0000) !== 0 && asid !== NO_ASID;
  const first = (high & 0xffff) * 0x10_0000 + (low >>> 12);
  const last = Math.min(first + pages, HALF_PAGES) - 1;
  const top = upper ? 0xffff_0000 | 0 : 0;
  tlb.invalidateRange(
    vmid,
    asid,
    top | (high & 0xffff),
    low,
    top | Math.floor(last / 0x10_0000),
    ((last % 0x10_0000) * 0x1000 + 0xfff) | 0,
  );
}
