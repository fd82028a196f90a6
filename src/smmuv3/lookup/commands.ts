/**
 * The commands of an SMMU with given ID registers (Arm IHI 0070, chapter 4): which are legal, which of their bits
 * count, and what each drops from the caches. A vSMMU's queue and a physical SMMU's are of the same rules.
 */
import {
  AddressField,
  ATC_SIZE_ALL,
  CMD,
  CMD_WORDS,
  commandFields,
  extract,
  type Field,
  get,
  IDR0,
  IDR1,
  IDR3,
  OP,
  SYNC_CS_SEV,
  TLBI_TG_16K,
} from "../spec/index.js";
import type { UnitCaches } from "./unit-caches.js";

/** SCALE[5] is RES0 without IDR5.DS, which is not offered (4.4.1.1). */
const SCALE_TOP = 1 << 25;
const RANGE_FIRST_WORD = (CMD.NUM.inPlace | CMD.SCALE.inPlace) & ~SCALE_TOP;
const RANGE_THIRD_WORD = CMD.TTL.inPlace | CMD.TG.inPlace;

/** What `admit` has to look at, by opcode, once the ID registers have decided what they can. */
const LEGAL = 0;
const ILLEGAL = 1;
const NOT_SECURE = 2;
const NO_RANGE = 3;
const RANGE = 4;
const ATC = 5;
const SYNC = 6;

/** As constants of this module: a field's or an import's property costs loads at each command. */
const OPCODE_MASK = CMD.OPCODE.mask;
const SSEC = CMD.SSEC.inPlace;
const SSV = CMD.SSV.inPlace;
const SUBSTREAM = CMD.SSID.inPlace | CMD.GLOBAL.inPlace;
const { shift: TG_SHIFT, mask: TG_MASK } = CMD.TG;
const { shift: TTL_SHIFT, inPlace: TTL } = CMD.TTL;
const { shift: CS_SHIFT, mask: CS_MASK } = CMD.SYNC_CS;
const ATC_SIZE_MASK = CMD.ATC_SIZE.inPlace;
const atcSizeAll: number = ATC_SIZE_ALL;
const lastSyncSignal: number = SYNC_CS_SEV;
const granule16K: number = TLBI_TG_16K;

/** What an SMMU takes from its Non-secure command queue (4.1.3). */
export class CommandRules {
  readonly stage2: boolean;
  readonly substreams: boolean;
  private readonly checks = new Uint8Array(256).fill(ILLEGAL);
  /** The bits that count, four words an opcode: those that it defines, without what is RES0 for these ID registers. */
  private readonly bits = new Int32Array(256 * CMD_WORDS);

  /** @param idr IDR0 to IDR5 */
  constructor(idr: ArrayLike<number>) {
    const has = (word: number, f: Field): boolean => extract(idr[word], f) !== 0;
    const stage1 = has(0, IDR0.S1P);
    const stage2 = (this.stage2 = has(0, IDR0.S2P));
    this.substreams = has(1, IDR1.SSIDSIZE);
    const range = has(3, IDR3.RIL) ? RANGE : NO_RANGE;
    // Secure, EL2 and EL3 commands, and those of MPAM, PRI and stalls, are of no SMMU here: they are illegal with the
    // reserved opcodes.
    const rules: ReadonlyArray<readonly [offered: boolean, check: number, ...opcodes: number[]]> = [
      // 4.1.6: SSEC on the Non-secure queue.
      [true, NOT_SECURE, OP.PREFETCH_CONFIG, OP.PREFETCH_ADDR, OP.CFGI_STE, OP.CFGI_STE_RANGE],
      // 4.3.3, 4.3.4.
      [stage1, NOT_SECURE, OP.CFGI_CD, OP.CFGI_CD_ALL],
      [stage1, LEGAL, OP.TLBI_NH_ALL, OP.TLBI_NH_ASID],
      [stage1, range, OP.TLBI_NH_VA, OP.TLBI_NH_VAA],
      [stage2, LEGAL, OP.TLBI_S12_VMALL],
      [stage2, range, OP.TLBI_S2_IPA],
      [true, LEGAL, OP.TLBI_NSNH_ALL],
      [has(0, IDR0.ATS), ATC, OP.ATC_INV],
      [true, SYNC, OP.SYNC],
    ];
    for (const [offered, check, ...opcodes] of rules) {
      for (const opcode of offered ? opcodes : []) {
        this.checks[opcode] = check;
      }
    }
    this.defineBits(idr);
  }

  /**
   * Judges a command, four words, and clears in place what is reserved or ignored: in its opcode (4.1.5), for these ID
   * registers, and in its combination. What is left may be acted on, and be given to an SMMU that has more.
   *
   * @returns false: it is CERROR_ILL, and `words` is as it was
   */
  admit(words: Int32Array): boolean {
    let first = words[0];
    let third = words[2];
    switch (this.checks[first & OPCODE_MASK]) {
      case LEGAL:
        break;
      case NOT_SECURE:
        if ((first & SSEC) !== 0) {
          return false;
        }
        break;
      case RANGE: {
        const granule = (third >>> TG_SHIFT) & TG_MASK;
        if (granule === 0) {
          // 4.4.1.1: one address; a range and a level need the granule.
          first &= ~RANGE_FIRST_WORD;
          third &= ~TTL;
          break;
        }
        // TTL 1 of the 16K granule is treated as 0, without IDR5.DS.
        if (granule === granule16K && (third & TTL) === 1 << TTL_SHIFT) {
          third &= ~TTL;
        }
        if ((first & RANGE_FIRST_WORD) === 0 && (third & TTL) === 0) {
          return false;
        }
        break;
      }
      case NO_RANGE:
        // 4.4.1.1: fields that are RES0 without IDR3.RIL.
        if ((first & RANGE_FIRST_WORD) !== 0 || (third & RANGE_THIRD_WORD) !== 0) {
          return false;
        }
        break;
      case ATC:
        // 4.5.1: a Size beyond 52 may be refused.
        if ((first & SSEC) !== 0 || (third & ATC_SIZE_MASK) > atcSizeAll) {
          return false;
        }
        if ((first & SSV) === 0) {
          first &= ~SUBSTREAM;
        }
        break;
      case SYNC:
        // 4.7.3: CS 0b11.
        if (((first >>> CS_SHIFT) & CS_MASK) > lastSyncSignal) {
          return false;
        }
        break;
      default:
        return false;
    }
    const { bits } = this;
    const at = (first & OPCODE_MASK) * CMD_WORDS;
    words[0] = first & bits[at];
    words[1] &= bits[at + 1];
    words[2] = third & bits[at + 2];
    words[3] &= bits[at + 3];
    return true;
  }

  private defineBits(idr: ArrayLike<number>): void {
    const { bits } = this;
    const wideAsids = extract(idr[0], IDR0.ASID16) !== 0;
    const wideVmids = extract(idr[0], IDR0.VMID16) !== 0;
    for (const [opcode, names] of commandFields) {
      const base = opcode * CMD_WORDS;
      bits[base] = CMD.OPCODE.inPlace;
      for (const name of names) {
        const f = CMD[name];
        if (f instanceof AddressField) {
          bits[base + f.word] |= f.lowMask;
          bits[base + f.word + 1] |= f.highMask;
        } else {
          bits[base + f.word] |= f.inPlace;
        }
      }
      const clear = (name: (typeof names)[number], mask = -1): void => {
        const f = CMD[name];
        if (names.includes(name) && !(f instanceof AddressField)) {
          bits[base + f.word] &= ~(f.inPlace & mask);
        }
      };
      clear("SCALE", SCALE_TOP);
      if (!this.substreams) {
        // 4.3.3, 4.5.1: without substreams there is SubstreamID 0 alone.
        clear("SSV");
        clear("SSID");
        clear("GLOBAL");
      }
      // 4.4.2: the VMID is matched where stage 2 is supported; upper bytes are RES0 where tags have 8 bits.
      clear("VMID", this.stage2 ? (wideVmids ? 0 : 0xff << (CMD.VMID.shift + 8)) : -1);
      clear("ASID", wideAsids ? 0 : 0xff << (CMD.ASID.shift + 8));
    }
  }
}

/**
 * Drops what a command names from a translator's caches: configuration (4.3) and translations (4.4).
 *
 * @param words a command that `CommandRules.admit` has let pass
 * @returns false: the command drops nothing by itself (CMD_SYNC, prefetches, CMD_ATC_INV)
 */
export function dropCached(caches: UnitCaches, words: Int32Array): boolean {
  const sid = words[1] >>> 0;
  switch (words[0] & OPCODE_MASK) {
    case OP.CFGI_STE:
      caches.invalidateSte(sid);
      return true;
    case OP.CFGI_STE_RANGE:
      caches.invalidateSteRange(sid, get(words, CMD.RANGE));
      return true;
    case OP.CFGI_CD:
      caches.invalidateCd(sid, get(words, CMD.SSID));
      return true;
    case OP.CFGI_CD_ALL:
      caches.invalidateCds(sid);
      return true;
    default:
      return caches.tlbi(words);
  }
}
