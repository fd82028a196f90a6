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
  IDR0_STALL_MODEL_TERMINATE,
  IDR1,
  IDR3,
  OP,
  SYNC_CS_SEV,
  TLBI_TG_16K,
} from "./spec/index.js";

/** SCALE[5] is RES0 without IDR5.DS, which is not offered (Arm IHI 0070, 4.4.1.1). */
const SCALE_TOP = 1 << 25;
const RANGE_FIRST_WORD = (CMD.NUM.inPlace | CMD.SCALE.inPlace) & ~SCALE_TOP;
const RANGE_THIRD_WORD = CMD.TTL.inPlace | CMD.TG.inPlace;

/**
 * The bits that each opcode defines, four words an opcode. Reserved ones are ignored (Arm IHI 0070, 4.1.5),
 * and kept from the host, whose SMMU may check them.
 */
export const DEFINED_BITS: Int32Array = definedBits();

function definedBits(): Int32Array {
  const out = new Int32Array(256 * CMD_WORDS);
  for (const [opcode, names] of commandFields) {
    const base = opcode * CMD_WORDS;
    out[base] = CMD.OPCODE.inPlace;
    for (const name of names) {
      const f = CMD[name];
      if (f instanceof AddressField) {
        out[base + f.word] |= f.lowMask;
        out[base + f.word + 1] |= f.highMask;
      } else {
        out[base + f.word] |= f.inPlace;
      }
    }
    out[base] &= ~(names.includes("SCALE") ? SCALE_TOP : 0);
  }
  return out;
}

/** Which commands an SMMU with given ID registers takes from its Non-secure command queue (Arm IHI 0070, 4.1.3). */
export class CommandRules {
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly ranges: boolean;
  readonly substreams: boolean;
  private readonly hyp: boolean;
  private readonly ats: boolean;
  private readonly pri: boolean;
  private readonly stalls: boolean;
  private readonly mpam: boolean;

  constructor(idr: ArrayLike<number>) {
    const has = (word: number, f: Field): boolean => extract(idr[word], f) !== 0;
    this.stage1 = has(0, IDR0.S1P);
    this.stage2 = has(0, IDR0.S2P);
    this.hyp = has(0, IDR0.HYP);
    this.ats = has(0, IDR0.ATS);
    this.pri = has(0, IDR0.PRI);
    this.stalls = extract(idr[0], IDR0.STALL_MODEL) !== IDR0_STALL_MODEL_TERMINATE;
    this.ranges = has(3, IDR3.RIL);
    this.substreams = has(1, IDR1.SSIDSIZE);
    this.mpam = has(3, IDR3.MPAM);
  }

  /** Whether a command, as four words, is CERROR_ILL. Reserved fields that no case here names are ignored (4.1.5). */
  illegal(words: Int32Array): boolean {
    switch (words[0] & CMD.OPCODE.mask) {
      case OP.PREFETCH_CONFIG:
      case OP.PREFETCH_ADDR:
      case OP.CFGI_STE:
      case OP.CFGI_STE_RANGE:
        // 4.1.6: SSEC on the Non-secure queue.
        return (words[0] & CMD.SSEC.inPlace) !== 0;
      case OP.CFGI_CD:
      case OP.CFGI_CD_ALL:
        // 4.3.3, 4.3.4.
        return !this.stage1 || (words[0] & CMD.SSEC.inPlace) !== 0;
      case OP.CFGI_VMS_PIDM:
        return !this.mpam || (words[0] & CMD.SSEC.inPlace) !== 0;
      case OP.TLBI_NH_ALL:
      case OP.TLBI_NH_ASID:
        return !this.stage1;
      case OP.TLBI_NH_VA:
      case OP.TLBI_NH_VAA:
        return !this.stage1 || this.illegalRange(words);
      case OP.TLBI_EL2_ALL:
      case OP.TLBI_EL2_ASID:
        return !this.stage1 || !this.hyp;
      case OP.TLBI_EL2_VA:
      case OP.TLBI_EL2_VAA:
        return !this.stage1 || !this.hyp || this.illegalRange(words);
      case OP.TLBI_S12_VMALL:
        return !this.stage2;
      case OP.TLBI_S2_IPA:
        return !this.stage2 || this.illegalRange(words);
      case OP.TLBI_NSNH_ALL:
        return false;
      case OP.ATC_INV:
        // 4.5.1: a Size beyond 52 may be refused.
        return !this.ats || (words[0] & CMD.SSEC.inPlace) !== 0 || get(words, CMD.ATC_SIZE) > ATC_SIZE_ALL;
      case OP.PRI_RESP:
        // 4.5.2: Resp 0b11.
        return !this.pri || (words[0] & CMD.SSEC.inPlace) !== 0 || get(words, CMD.PRI_RESP) === 3;
      case OP.RESUME:
      case OP.STALL_TERM:
        return !this.stalls || (words[0] & CMD.SSEC.inPlace) !== 0;
      case OP.SYNC:
        // 4.7.3: CS 0b11.
        return get(words, CMD.SYNC_CS) > SYNC_CS_SEV;
      default:
        // TLBI_EL3_* are for the Secure queue only (4.4.2.5); the rest is reserved.
        return true;
    }
  }

  /** 4.4.1.1: fields that are RES0 without IDR3.RIL, and the combination that is reserved with it. */
  private illegalRange(words: Int32Array): boolean {
    if (!this.ranges) {
      return (words[0] & RANGE_FIRST_WORD) !== 0 || (words[2] & RANGE_THIRD_WORD) !== 0;
    }
    const granule = get(words, CMD.TG);
    if (granule === 0 || (words[0] & RANGE_FIRST_WORD) !== 0) {
      return false;
    }
    const level = get(words, CMD.TTL);
    // TTL 1 of the 16K granule is treated as 0, without IDR5.DS.
    return level === 0 || (granule === TLBI_TG_16K && level === 1);
  }
}
