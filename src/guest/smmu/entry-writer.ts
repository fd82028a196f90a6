/**
 * Changes a stream table entry or a context descriptor so that the hardware never sees a mixture: what Linux's
 * arm_smmu_write_entry does. The eight 64-bit words of the old and the new entry are compared by what the
 * hardware looks at; where one word alone has to change, the change is hitless, otherwise V goes to 0 first.
 * After each step that changed something the configuration is invalidated.
 */
import {
  AddressField,
  CD,
  STE,
  STE_CONFIG_BYPASS,
  STE_S1DSS_BYPASS,
  type Field,
} from "../../smmuv3/spec/index.js";
import { toQwords } from "../iommu/words.js";

export const ENTRY_QWORDS = 8;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

export interface EntryKind {
  /** The bits that the hardware looks at in this entry. */
  used(entry: readonly bigint[]): bigint[];
  /** Bits that may change at any moment although both entries use them. */
  safe(from: readonly bigint[], to: readonly bigint[]): bigint[];
}

const none = (): bigint[] => new Array<bigint>(ENTRY_QWORDS).fill(0n);

function maskOf(fields: ReadonlyArray<Field | AddressField>): bigint[] {
  const words = new Int32Array(ENTRY_QWORDS * 2);
  for (const field of fields) {
    if (field instanceof AddressField) {
      words[field.word] |= field.lowMask;
      words[field.word + 1] |= field.highMask;
    } else {
      words[field.word] |= field.inPlace;
    }
  }
  return toQwords(words);
}

const or = (a: readonly bigint[], b: readonly bigint[]): bigint[] => a.map((value, i) => value | b[i]);
const bitsOf = (qword: bigint, field: Field): number => Number((qword >> BigInt(field.shift + (field.word & 1) * 32)) & BigInt(field.mask >>> 0));

const STE_VALID = maskOf([STE.V]);
const STE_CONFIG = maskOf([STE.CONFIG]);
const STE_STAGE1 = maskOf([
  STE.S1FMT, STE.S1CONTEXTPTR, STE.S1CDMAX, STE.S1DSS, STE.S1CIR, STE.S1COR, STE.S1CSH, STE.S1STALLD, STE.STRW, STE.EATS, STE.MEV, STE.S2VMID,
]);
const STE_STAGE2 = maskOf([
  STE.S2FWB, STE.EATS, STE.SHCFG, STE.MEV, STE.S2VMID, STE.S2T0SZ, STE.S2SL0, STE.S2IR0, STE.S2OR0, STE.S2SH0, STE.S2TG, STE.S2PS, STE.S2AA64,
  STE.S2ENDI, STE.S2PTW, STE.S2S, STE.S2R, STE.S2TTB,
]);
const STE_SHCFG = maskOf([STE.SHCFG]);
const STE_MEV = maskOf([STE.MEV]);
/** EATS = 0b01, full ATS, and 0b10, split-stage ATS. */
const EATS_FULL = 1n << 28n;
const EATS_S1CHK = 1n << 29n;
const STE_S2S = maskOf([STE.S2S])[2];

export const steKind: EntryKind = {
  used(entry) {
    if ((entry[0] & 1n) === 0n) {
      return STE_VALID;
    }
    const config = bitsOf(entry[0], STE.CONFIG);
    let used = or(STE_VALID, STE_CONFIG);
    if ((config & 1) !== 0) {
      used = or(used, STE_STAGE1);
      if (bitsOf(entry[1], STE.S1DSS) === STE_S1DSS_BYPASS) {
        used = or(used, STE_SHCFG);
      }
    }
    if ((config & 2) !== 0) {
      used = or(used, STE_STAGE2);
    }
    return config === STE_CONFIG_BYPASS ? or(used, STE_SHCFG) : used;
  },
  safe(from, to) {
    const safe = [...STE_MEV];
    if (((from[1] | to[1]) & EATS_S1CHK) === 0n && ((from[2] | to[2]) & STE_S2S) === 0n) {
      safe[1] |= EATS_FULL;
    }
    return safe;
  },
};

const CD_VALID = maskOf([CD.V]);
const CD_TABLE0 = maskOf([CD.T0SZ, CD.TG0, CD.IR0, CD.OR0, CD.SH0, CD.TTB0]);

export const cdKind: EntryKind = {
  used(entry) {
    if ((entry[0] & CD_VALID[0]) === 0n) {
      return CD_VALID;
    }
    const used = new Array<bigint>(ENTRY_QWORDS).fill(ALL_ONES);
    if (bitsOf(entry[0], CD.EPD0) === 1) {
      used[0] &= ~CD_TABLE0[0] & ALL_ONES;
      used[1] &= ~CD_TABLE0[1] & ALL_ONES;
    }
    return used;
  },
  safe: none,
};

/**
 * The writes that turn `from` into `to`: each step is a list of words with their new values, after which the
 * configuration has to be invalidated and synchronised.
 */
export function planUpdate(kind: EntryKind, from: readonly bigint[], to: readonly bigint[]): Array<Array<{ index: number; value: bigint }>> {
  const usedNow = kind.used(from);
  const usedThen = kind.used(to);
  const safe = kind.safe(from, to).map((bits, i) => bits & usedNow[i] & usedThen[i]);
  const unusedUpdate: bigint[] = [];
  const differing: number[] = [];
  for (let i = 0; i < ENTRY_QWORDS; i++) {
    const keep = usedNow[i] & ~safe[i] & ALL_ONES;
    unusedUpdate.push((from[i] & keep) | (to[i] & ~keep & ALL_ONES));
    if ((unusedUpdate[i] & usedThen[i]) !== to[i]) {
      differing.push(i);
    }
  }
  const steps: Array<Array<{ index: number; value: bigint }>> = [];
  const entry = [...from];
  const set = (values: readonly bigint[], first: number, count: number): void => {
    const step = [];
    for (let i = first; i < first + count; i++) {
      if (entry[i] !== values[i]) {
        entry[i] = values[i];
        step.push({ index: i, value: values[i] });
      }
    }
    if (step.length > 0) {
      steps.push(step);
    }
  };
  if (differing.length === 1) {
    const critical = differing[0];
    unusedUpdate[critical] = entry[critical];
    set(unusedUpdate, 0, ENTRY_QWORDS);
    set(to, critical, 1);
    set(to, 0, ENTRY_QWORDS);
  } else if (differing.length > 1) {
    unusedUpdate[0] = 0n;
    set(unusedUpdate, 0, 1);
    set(to, 1, ENTRY_QWORDS - 1);
    set(to, 0, 1);
  } else {
    set(to, 0, ENTRY_QWORDS);
  }
  return steps;
}
