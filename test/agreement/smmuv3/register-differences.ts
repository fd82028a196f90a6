/** Where QEMU's SMMUv3 registers differ. Ids: docs/differences.md. */
import { GUARD_CMDQEN, GUARD_CR1, GUARD_EVENTQEN, GUARD_SMMUEN, registerRules as architecturalRules } from "../../../src/smmuv3/device/register-rules.js";
import { REG } from "../../../src/smmuv3/spec/index.js";
import type { Difference, Rule } from "../agreement.js";
import { atLeast } from "../find-qemu.js";

/** What the registers were written with. */
export interface RegisterContext {
  /** CR0 meanwhile. */
  readonly cr0: number;
}

interface Place {
  /** Offset in page 0. */
  readonly offset: number;
  readonly bits: number;
}

function placeOf(difference: Difference): Place {
  const [, offset, bits] = /^0x([0-9a-f]+)\/(\d+)/.exec(difference.key) ?? [];
  return { offset: parseInt(offset, 16) & 0xffff, bits: Number(bits) };
}

/** The rules that follow from IDR0 to IDR5 as both show them. */
const RULES = new Map(architecturalRules([0x0d44_101b, 0x0273_0010, 0, 0x1414, 0, 0x74]).map((rule) => [rule.offset, rule]));
const GUARDS: ReadonlySet<number> = new Set([GUARD_SMMUEN, GUARD_CMDQEN, GUARD_EVENTQEN, GUARD_CR1]);

function mask({ offset, bits }: Place): bigint {
  const word = (at: number): bigint => BigInt.asUintN(32, BigInt(RULES.get(at)?.mask ?? 0));
  return bits === 64 ? (word(offset + 4) << 32n) | word(offset) : word(offset);
}

const changed = ({ ours, theirs }: Difference): bigint => BigInt(ours) ^ BigInt(theirs);

export const registerRules: ReadonlyArray<Rule<RegisterContext>> = [
  {
    // Reserved bits of registers that are there.
    id: "S-1",
    explains: (difference) => {
      const place = placeOf(difference);
      return RULES.has(place.offset) && place.offset !== REG.GERRORN && (changed(difference) & mask(place)) === 0n && (BigInt(difference.ours) & ~mask(place)) === 0n;
    },
  },
  {
    // GERRORN after toggles of errors that are not active.
    id: "S-2",
    explains: (difference) => placeOf(difference).offset === REG.GERRORN && BigInt(difference.ours) === 0n,
  },
  {
    id: "S-3",
    versions: (version) => !atLeast(version, 9, 0),
    explains: (difference) => placeOf(difference).offset === REG.GBPA && BigInt(difference.theirs) === 0n,
  },
  {
    id: "S-4",
    versions: (version) => !atLeast(version, 9, 0),
    explains: (difference) => placeOf(difference).offset === REG.IDR0 && changed(difference) === 0x4_0000n && (BigInt(difference.ours) & 0x4_0000n) !== 0n,
  },
  {
    // A guarded register that is written while what it configures is enabled: kept here, written there.
    id: "S-5",
    explains: (difference, { cr0 }, { ours }) => {
      const { offset } = placeOf(difference);
      const [place, written] = difference.key.split("=");
      return cr0 !== 0 && GUARDS.has(RULES.get(offset)?.guard ?? -1) && difference.theirs === written && difference.ours === ours[place];
    },
  },
];
