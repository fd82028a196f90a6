/** A function that can be told to do DMA, whatever its registers look like. */
import type { PciFunction } from "../pci/function.js";

export interface DmaRequest {
  /** Addresses as the device emits them. */
  readonly source: bigint;
  readonly destination: bigint;
  readonly length: number;
  /** Null or missing: no PASID. */
  readonly pasid?: number | null;
  /** Translate through ATS first. */
  readonly ats?: boolean;
  /** Raise this message when done. */
  readonly vector?: number;
}

export interface DmaOutcome {
  /** Everything was transferred, as far as the device tells. */
  readonly ok: boolean;
  /** The device saw an error response; null: its registers do not tell. */
  readonly faulted: boolean | null;
  /** The address that failed, where the device tells. */
  readonly faultAddress: bigint | null;
  /** What the registers said, for messages. */
  readonly detail: string;
}

export interface DmaDevice {
  readonly kind: "dma-engine" | "edu" | "iommu-testdev" | "nvme";
  readonly fn: PciFunction;
  readonly features: {
    /** PASID and ATS are usable now: the function has them and they are turned on. */
    readonly pasid: boolean;
    readonly ats: boolean;
    /** Largest transfer in bytes. */
    readonly maxLength: number;
    /** Highest address that it reaches. */
    readonly addressLimit: number;
    /** It reads the source; otherwise what it writes is its own. */
    readonly readsSource: boolean;
    /** It can raise a message on demand. */
    readonly raises: boolean;
    /** A write can be started that is not allowed to happen, without more than a lost transfer. */
    readonly faults: boolean;
    /** A transfer ends with its first error response; otherwise each access of it may have a record of its own. */
    readonly stops: boolean;
  };
  /** Reads again what `features` says, after PASID or ATS were turned on or off. */
  refresh(): Promise<void>;
  /** Moves bytes from source to destination. `physical`: the guest-physical address that the destination stands for. */
  transfer(request: DmaRequest, physical: number): Promise<DmaOutcome>;
  /** What has to be at the destination after a transfer of `source`. */
  expected(source: Uint8Array): Uint8Array;
  /** Raises message `vector`. */
  raise(vector: number): Promise<void>;
  /** Undoes what a raised message left behind in the device. */
  acknowledge(): Promise<void>;
}
