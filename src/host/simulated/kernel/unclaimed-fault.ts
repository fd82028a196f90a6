/** A fault of a function that the kernel hands to no guest: Linux writes it into its log and does no more. */
export interface UnclaimedFault {
  /** Host PCI address of the function. */
  readonly function: string;
  /** Null: the request had none. */
  readonly pasid: number | null;
  /** As the function sent it. */
  readonly address: bigint;
  readonly isWrite: boolean;
  /** The kernel's own tables, or a guest-physical address that they do not map, are the reason; else there were no tables at all. */
  readonly secondStage: boolean;
  /** The guest-physical address, where the IOMMU tells it. */
  readonly guestPhysical: bigint | null;
}

export type UnclaimedFaultListener = (fault: UnclaimedFault) => void;
