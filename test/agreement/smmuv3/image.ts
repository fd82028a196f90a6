/** One case of the translation topic: what is in memory and in the registers, and the accesses to make. */
import type { Words } from "../memory-image.js";

export interface Access {
  /** edu reads into and writes from its buffer; iommu-testdev writes a pattern and looks where it should have come out. */
  readonly device: "edu" | "testdev";
  readonly write: boolean;
  /** Input address, and bytes from there; within 4 KiB. */
  readonly iova: bigint;
  readonly length: number;
  /** Physical address where it comes out if nothing is wrong. */
  readonly expected: number;
}

export interface TranslationCase {
  readonly words: Words;
  /** Sixteen words each. The CD is null where no CD is in memory. */
  readonly ste: Int32Array;
  readonly cd: Int32Array | null;
  readonly registers: {
    readonly strtabBase: bigint;
    readonly strtabBaseConfig: number;
    /** CR0.SMMUEN. */
    readonly enabled: boolean;
    /** CR2.RECINVSID. */
    readonly recordInvalidStreams: boolean;
    /** GBPA.ABORT. */
    readonly globalAbort: boolean;
  };
  readonly accesses: readonly Access[];
  /** What the generator did to it, in words. */
  readonly notes: readonly string[];
}
