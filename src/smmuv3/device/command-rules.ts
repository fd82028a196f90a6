import {
  AddressField,
  ATC_SIZE_ALL,
  CMD,
  CMD_WORDS,
  commandFields,
  extract,
  type Field,
  IDR0,
  IDR0_STALL_MODEL_TERMINATE,
  IDR1,
  IDR3,
  OP,
  SYNC_CS_SEV,
  TLBI_TG_16K,
} from "../spec/index.js";

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

/** What `illegal` has to look at, by opcode, once the ID registers have decided what they can. */
const LEGAL = 0;
const ILLEGAL = 1;
const NOT_SECURE = 2;
const NO_RANGE = 3;
const RANGE = 4;
const ATC = 5;
const RESPONSE = 6;
const SYNC = 7;

/** As constants of this module: a field's or an import's property costs loads at each command. */
const OPCODE_MASK = CMD.OPCODE.mask;
const SSEC = CMD.SSEC.inPlace;
const { shift: TG_SHIFT, mask: TG_MASK } = CMD.TG;
const { shift: TTL_SHIFT, mask: TTL_MASK } = CMD.TTL;
const { shift: RESP_SHIFT, mask: RESP_MASK } = CMD.PRI_RESP;
const { shift: CS_SHIFT, mask: CS_MASK } = CMD.SYNC_CS;
const ATC_SIZE_MASK = CMD.ATC_SIZE.inPlace;
const atcSizeAll: number = ATC_SIZE_ALL;
const lastSyncSignal: number = SYNC_CS_SEV;
const granule16K: number = TLBI_TG_16K;

/** Which commands an SMMU with given ID registers takes from its Non-secure command queue (Arm IHI 0070, 4.1.3). */
export class CommandRules {
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly ranges: boolean;
  readonly substreams: boolean;
  private readonly checks = new Uint8Array(256).fill(ILLEGAL);

  constructor(idr: ArrayLike<number>) {
    const has = (word: number, f: Field): boolean => extract(idr[word], f) !== 0;
    const stage1 = (this.stage1 = has(0, IDR0.S1P));
    const stage2 = (this.stage2 = has(0, IDR0.S2P));
    this.ranges = has(3, IDR3.RIL);
    this.substreams = has(1, IDR1.SSIDSIZE);
    const hyp = stage1 && has(0, IDR0.HYP);
    const stalls = extract(idr[0], IDR0.STALL_MODEL) !== IDR0_STALL_MODEL_TERMINATE;
    const range = this.ranges ? RANGE : NO_RANGE;
    // TLBI_EL3_* are for the Secure queue only (4.4.2.5); what is not listed is reserved.
    const rules: ReadonlyArray<readonly [offered: boolean, check: number, ...opcodes: number[]]> = [
      // 4.1.6: SSEC on the Non-secure queue.
      [true, NOT_SECURE, OP.PREFETCH_CONFIG, OP.PREFETCH_ADDR, OP.CFGI_STE, OP.CFGI_STE_RANGE],
      // 4.3.3, 4.3.4.
      [stage1, NOT_SECURE, OP.CFGI_CD, OP.CFGI_CD_ALL],
      [has(3, IDR3.MPAM), NOT_SECURE, OP.CFGI_VMS_PIDM],
      [stage1, LEGAL, OP.TLBI_NH_ALL, OP.TLBI_NH_ASID],
      [stage1, range, OP.TLBI_NH_VA, OP.TLBI_NH_VAA],
      [hyp, LEGAL, OP.TLBI_EL2_ALL, OP.TLBI_EL2_ASID],
      [hyp, range, OP.TLBI_EL2_VA, OP.TLBI_EL2_VAA],
      [stage2, LEGAL, OP.TLBI_S12_VMALL],
      [stage2, range, OP.TLBI_S2_IPA],
      [true, LEGAL, OP.TLBI_NSNH_ALL],
      [has(0, IDR0.ATS), ATC, OP.ATC_INV],
      [has(0, IDR0.PRI), RESPONSE, OP.PRI_RESP],
      [stalls, NOT_SECURE, OP.RESUME, OP.STALL_TERM],
      [true, SYNC, OP.SYNC],
    ];
    for (const [offered, check, ...opcodes] of rules) {
      for (const opcode of offered ? opcodes : []) {
        this.checks[opcode] = check;
      }
    }
  }

  /** Whether a command, as four words, is CERROR_ILL. Reserved fields that no case here names are ignored (4.1.5). */
  illegal(words: Int32Array): boolean {
    const first = words[0];
    switch (this.checks[first & OPCODE_MASK]) {
      case LEGAL:
        return false;
      case NOT_SECURE:
        return (first & SSEC) !== 0;
      case RANGE:
        return illegalRange(first, words[2]);
      case NO_RANGE:
        // 4.4.1.1: fields that are RES0 without IDR3.RIL.
        return (first & RANGE_FIRST_WORD) !== 0 || (words[2] & RANGE_THIRD_WORD) !== 0;
      case ATC:
        // 4.5.1: a Size beyond 52 may be refused.
        return (first & SSEC) !== 0 || (words[2] & ATC_SIZE_MASK) > atcSizeAll;
      case RESPONSE:
        // 4.5.2: Resp 0b11.
        return (first & SSEC) !== 0 || ((words[2] >>> RESP_SHIFT) & RESP_MASK) === 3;
      case SYNC:
        // 4.7.3: CS 0b11.
        return ((first >>> CS_SHIFT) & CS_MASK) > lastSyncSignal;
      default:
        return true;
    }
  }
}

/** 4.4.1.1: the combination that is reserved with IDR3.RIL. */
function illegalRange(first: number, third: number): boolean {
  const granule = (third >>> TG_SHIFT) & TG_MASK;
  if (granule === 0 || (first & RANGE_FIRST_WORD) !== 0) {
    return false;
  }
  const level = (third >>> TTL_SHIFT) & TTL_MASK;
  // TTL 1 of the 16K granule is treated as 0, without IDR5.DS.
  return level === 0 || (granule === granule16K && level === 1);
}
