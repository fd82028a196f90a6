import { toBigInt } from "../../../support/index.js";
import { type HeldTranslation, PERM_PRIVILEGED_SHIFT, permissionText } from "../../../translation/index.js";
/** Answers of `DeviceTranslationCache.lookup`. */
export const ATC_HIT = 0;
export const ATC_MISS = 1;

/** In place of a PASID: the translation was asked for without one. */
export const NO_PASID = -1;

const ENTRIES = 64;

interface Entry {
  pasid: number;
  /** First input address, and the translation's size in bits. */
  high: number;
  low: number;
  bits: number;
  outHigh: number;
  outLow: number;
  /** ACCESS_* bits that the completion granted to this kind of request. */
  granted: number;
  privileged: boolean;
}

/**
 * A function's own translation cache (PCIe 10.2.4, ATC). What ATS has answered stays until an Invalidate
 * Request for it arrives, ATS is switched, or the function is reset; nothing else makes it forget, so a
 * forgotten CMD_ATC_INV shows. The oldest of 64 entries gives way to a new one.
 */
export class DeviceTranslationCache {
  /** Of the last hit: the address to use for exactly the input address. */
  outHigh = 0;
  outLow = 0;
  private readonly entries: Entry[] = [];
  private next = 0;

  get size(): number {
    return this.entries.length;
  }

  /**
   * @param access ACCESS_* without privileged
   * @returns ATC_HIT where an entry covers the address and grants the access
   */
  lookup(pasid: number, high: number, low: number, access: number, privileged: boolean): number {
    for (const entry of this.entries) {
      if (
        entry.pasid === pasid &&
        entry.privileged === privileged &&
        (access & ~entry.granted) === 0 &&
        samePrefix(entry.high, entry.low, high, low, entry.bits)
      ) {
        const highMask = entry.bits > 32 ? ~(-1 << (entry.bits - 32)) : 0;
        const lowMask = entry.bits >= 32 ? -1 : ~(-1 << entry.bits);
        this.outHigh = entry.outHigh | (high & highMask);
        this.outLow = entry.outLow | (low & lowMask);
        return ATC_HIT;
      }
    }
    return ATC_MISS;
  }

  /**
   * Keeps a Translation Completion for the naturally aligned 2^bits bytes (12 to 52) around the address.
   * `outHigh`, `outLow` translate exactly `high`, `low`.
   */
  insert(
    pasid: number,
    high: number,
    low: number,
    bits: number,
    outHigh: number,
    outLow: number,
    granted: number,
    privileged: boolean,
  ): void {
    const highMask = bits > 32 ? -1 << (bits - 32) : -1;
    const lowMask = bits >= 32 ? 0 : -1 << bits;
    const entry: Entry = {
      pasid,
      high: high & highMask,
      low: low & lowMask,
      bits,
      outHigh: outHigh & highMask,
      outLow: outLow & lowMask,
      granted,
      privileged,
    };
    if (this.entries.length < ENTRIES) {
      this.entries.push(entry);
    } else {
      this.entries[this.next] = entry;
      this.next = (this.next + 1) % ENTRIES;
    }
  }

  /**
   * An Invalidate Request: 2^bits bytes (12 and more) around the address. With a PASID it concerns that
   * PASID's entries, or every PASID's where `global`; without one it concerns all entries of the range, those
   * with a PASID too (PCIe 10.3.8; Linux's arm_smmu_atc_inv_to_cmd says the same).
   */
  invalidate(pasid: number, global: boolean, high: number, low: number, bits: number): void {
    const kept = this.entries.filter((entry) => {
      const concerned = pasid === NO_PASID || (global && entry.pasid !== NO_PASID) || entry.pasid === pasid;
      return !(concerned && (bits >= 64 || samePrefix(entry.high, entry.low, high, low, Math.max(bits, entry.bits))));
    });
    this.entries.length = 0;
    this.entries.push(...kept);
    this.next = 0;
  }

  /** What it holds, for who looks. */
  *held(): Generator<{ readonly pasid: number | null; readonly privileged: boolean; readonly translation: HeldTranslation }> {
    for (const { pasid, high, low, bits, outHigh, outLow, granted, privileged } of this.entries) {
      yield {
        pasid: pasid === NO_PASID ? null : pasid,
        privileged,
        translation: { iova: toBigInt(high, low), pageBits: bits, output: toBigInt(outHigh, outLow), permissions: permissionText(granted | (granted << PERM_PRIVILEGED_SHIFT)) },
      };
    }
  }

  clear(): void {
    this.entries.length = 0;
    this.next = 0;
  }
}

/** Whether two addresses agree in their bits from `bits` on. */
function samePrefix(high: number, low: number, otherHigh: number, otherLow: number, bits: number): boolean {
  if (bits >= 32) {
    return bits >= 64 || (high ^ otherHigh) >>> (bits - 32) === 0;
  }
  return high === otherHigh && (low ^ otherLow) >>> bits === 0;
}
