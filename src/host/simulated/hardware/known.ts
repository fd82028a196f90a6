/** What is made of a description whose facts are not all known. */
import type { FunctionDescription, HostDescription, SmmuDescription } from "../file/index.js";
import { ENGINE_BAR_BYTES } from "../names/index.js";

/** MSI-X vectors of a function at the most. */
const MOST_VECTORS = 512;

/** A function of which everything is known that its registers show. */
export type KnownFunction = FunctionDescription & {
  readonly ats: boolean;
  readonly pri: boolean;
  readonly pasidBits: number;
  readonly msiVectors: number;
  readonly msixVectors: number;
};

export type KnownSmmu = SmmuDescription & { readonly idr0: number; readonly idr1: number; readonly idr5: number };

/** What is not known is not there. MSI-X tables are in BAR 0, where it has the room. */
export function knownFunction(fn: FunctionDescription): KnownFunction {
  const hasRoom = fn.bars.some(({ index, size }) => index === 0 && size >= ENGINE_BAR_BYTES);
  return {
    ...fn,
    ats: fn.ats ?? false,
    pri: fn.pri ?? false,
    pasidBits: fn.pasidBits ?? 0,
    msiVectors: fn.msiVectors ?? 0,
    msixVectors: hasRoom ? Math.min(fn.msixVectors ?? 0, MOST_VECTORS) : 0,
  };
}

/** SMMUs whose ID registers are known; of the others there is no hardware, and no function behind them can be bound. */
export function knownSmmus({ smmus }: HostDescription): KnownSmmu[] {
  return smmus.filter((smmu): smmu is KnownSmmu => smmu.idr0 !== null && smmu.idr1 !== null && smmu.idr5 !== null);
}
