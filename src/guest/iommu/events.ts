/** Records of faults, in one form for SMMUv3's event queue and VT-d's fault recording registers. */
import type { Domain } from "./domain.js";

/** One record, decoded. Addresses are 64-bit values. */
export interface DecodedEvent {
  /** Which IOMMU reported it. */
  readonly iommu: string;
  /** `F_TRANSLATION` and so on; VT-d: the reason's name. */
  readonly name: string;
  /** SMMUv3's event number, VT-d's fault reason. */
  readonly number: number;
  /** StreamID, source-id. */
  readonly streamId: number;
  /** PASID; null: the transaction had none. */
  readonly substreamId: number | null;
  readonly inputAddress: bigint;
  readonly ipa: bigint;
  readonly fetchAddress: bigint;
  readonly read: boolean;
  readonly instruction: boolean;
  readonly privileged: boolean;
  readonly stage2: boolean;
  /** SMMUv3: 0 CD, 1 TT, 2 IN; null where the architecture has no such field. */
  readonly faultClass: number | null;
  readonly stall: boolean;
  readonly stag: number;
  /** Address, stage, direction and class say where a walk of page tables ended; else they are what the record holds there. */
  readonly translationRelated: boolean;
  /** The words of the record. */
  readonly words: readonly number[];
  /** As the driver prints it. */
  readonly text: string;
}

/** Why a request of a function has to fail. */
export type FaultCause =
  /** Nothing is mapped at the page. */
  | { readonly kind: "unmapped"; readonly domain: Domain; readonly page: bigint; readonly pasid?: number }
  /** The page may be read and is written to. */
  | { readonly kind: "read-only"; readonly domain: Domain; readonly page: bigint; readonly pasid?: number }
  /** The PASID has no domain. */
  | { readonly kind: "no-domain"; readonly pasid: number }
  /** The function is attached to nothing. */
  | { readonly kind: "blocked" };

export interface ExpectedFault {
  /** Event number or fault reason; null: the architecture records none. */
  readonly event: number | null;
  /** Left out where records do not tell. */
  readonly stage2?: boolean;
  readonly substreamId?: number | null;
  /** The IOVA page that faults; left out for configuration errors. */
  readonly page?: bigint;
  readonly read?: boolean;
  readonly faultClass?: number;
}
