/** What may be told of a host to who looks at a machine on it. Nothing of it changes anything, and no call of the kernel's is made for it that a machine's account counts. */
import type { RamBlock, WordMemory } from "../memory/index.js";

/** An IOMMU of the host. */
export interface HostIommuFacts {
  /** The host's name of the instance. */
  readonly id: string;
  readonly architecture: "smmuv3" | "vtd" | "amd" | "unknown";
  /** What it offers: IDR0 to IDR5 of an SMMU, CAP and ECAP of a VT-d, by name; null: not known. */
  readonly registers: ReadonlyMap<string, bigint> | null;
  readonly numaNode: number | null;
  /** By the silicon's names for them. */
  readonly errata: readonly string[];
}

/** A function of the host, beside what `HostFunction` tells. */
export interface HostFunctionFacts {
  /** What it is, for people; empty: not known. */
  readonly label: string;
  /** Number of its IOMMU group; null: none, or not known. */
  readonly group: number | null;
  /** PCI addresses of the ports above it, from the root port on; empty: none, or none known. */
  readonly upstream: readonly string[];
  /** Ranges of IOVAs that the kernel keeps, in bytes, by the kinds of /sys/kernel/iommu_groups/N/reserved_regions. */
  readonly reserved: ReadonlyArray<{ readonly base: bigint; readonly size: bigint; readonly kind: string }>;
}

/** What is known of a host beside its calls. */
export interface HostFacts {
  /** Its Linux: `7.3`; null: not known. */
  readonly kernel: string | null;
  iommus(): HostIommuFacts[];
  /** Null: there is no such function. */
  functionFacts(address: string): HostFunctionFacts | null;
}

/** A physical IOMMU at this moment. */
export interface HostUnit {
  /** The host's name of the instance. */
  readonly id: string;
  readonly architecture: "smmuv3" | "vtd";
  /** By the specification's names, without a prefix: what it goes by. */
  readonly registers: ReadonlyMap<string, bigint>;
  /** Host-physical memory, to be read alone. */
  readonly memory: WordMemory;
}

/** An entry of a cache of the hardware. Addresses in bytes. */
export interface HostCachedEntry {
  /** The unit that holds it, or translates for the function whose cache holds it. */
  readonly unit: string;
  readonly cache: "configuration" | "tlb" | "device";
  /** What it is of, in words: `STE`, `stage 1 and 2`. */
  readonly kind: string;
  /** StreamID or source id; null: it is tagged otherwise. */
  readonly sourceId: number | null;
  /** PCI address of the function whose cache it is; null: the unit's. */
  readonly function: string | null;
  readonly pasid: number | null;
  /** VMID, ASID, domain id by the architecture's names. */
  readonly tags: Readonly<Record<string, number>>;
  /** Of a translation; else null. */
  readonly translation: { readonly iova: bigint; readonly pageBits: number; readonly output: bigint; readonly permissions: string } | null;
  readonly global: boolean;
  /** Of configuration: 64-bit words, what is kept of those that were read. */
  readonly words: readonly bigint[];
}

/** A host whose hardware can be seen into: a simulated one. */
export interface HostInspector {
  units(): HostUnit[];
  /** Where a function's requests come in; null: behind no unit. */
  placeOf(address: string): { readonly unit: string; readonly sourceId: number } | null;
  cached(): Iterable<HostCachedEntry>;
  /** Host-physical address of a byte of a block that the host's process has; null: none. */
  addressOf(block: RamBlock, offset: number): number | null;
}

/** A table that a function's requests, or those of a PASID, are on. */
export interface TableAccount {
  readonly hostAddress: string;
  /** Null: requests without PASID. */
  readonly pasid: number | null;
  /** nested, parent, bypass, shadow, abort or blocked. */
  readonly table: string;
  readonly hwptId: number | null;
  /** Why, in words: what the guest's entries and registers say. */
  readonly why: string;
}

/** An object of an iommufd that the machine has made. */
export interface ObjectAccount {
  /** The user's id of the iommufd. */
  readonly iommufd: string;
  readonly id: number;
  readonly kind: "ioas" | "hwpt-paging" | "hwpt-nested" | "viommu" | "vdevice" | "veventq" | "fault-queue";
  /** The object that it was made on; null: none. */
  readonly on: number | null;
  /** What it is for: `parent`, `vSID 0x100`; null: nothing more is known. */
  readonly what: string | null;
}

/** What a queue has sent to the host at once. */
export interface BatchAccount {
  /** Index in the queue of the first entry in it. */
  readonly first: number | null;
  readonly entries: number;
  /** Of those, the first that the host has done. */
  readonly handled: number;
  /** The host's error; null: there was none. */
  readonly error: string | null;
}
