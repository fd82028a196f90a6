/** Registers and structures, field by field. */

/** An unsigned number of any width: `0x` and lower-case digits. */
export type Hex = string;

/** A field of a register or of a structure in memory. */
export interface FieldReport {
  /** The specification's name: `S1ContextPtr`, `TTM`. */
  readonly name: string;
  /** Highest and lowest bit in the register or the structure. */
  readonly high: number;
  readonly low: number;
  readonly value: Hex;
  /** What the value says: `stage 1 and stage 2`; null: the number says it. */
  readonly meaning: string | null;
}

export interface RegisterReport {
  /** `STRTAB_BASE`, `GSTS_REG`. */
  readonly name: string;
  /** Bytes from the first register page. */
  readonly offset: number;
  /** 32 or 64. */
  readonly bits: number;
  readonly value: Hex;
  /** `Arm IHI 0070, 6.3.24`. */
  readonly section: string;
  readonly fields: readonly FieldReport[];
}

/** Answer of `x-viommu-registers`. */
export interface RegistersReport {
  /** The IOMMU's id, as the map has it. */
  readonly iommu: string;
  readonly side: "guest" | "host";
  readonly architecture: "smmuv3" | "vtd";
  readonly registers: readonly RegisterReport[];
  /** What of it cannot be known, in words: a Linux host's registers. Null: all is. */
  readonly unknown: string | null;
}
