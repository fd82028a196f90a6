/**
 * What iommufd and VFIO need of the driver of a physical IOMMU, whatever its architecture (Linux: struct
 * iommu_ops and iommu_domain_ops). Objects, ids, IOVAs, attachments and dirty bitmaps are on their side;
 * tables, entries and invalidation commands on this one. Every call that throws leaves things as they were.
 */
import type { HwptAllocRequest, InvalidateRequest, InvalidateResult, IovaRange } from "../../../iommufd/index.js";
import type { PhysicalFunction } from "./hardware-port.js";
import type { Refuse } from "./objects.js";
import type { UnclaimedFaultListener } from "./unclaimed-fault.js";

/** A translation of the kernel's own: IOVA to physical. */
export interface PagingDomain {
  /** 1: the format of a guest's tables (stage 1, first stage); 2: that of a hypervisor's. */
  readonly stage: 1 | 2;
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  /** Bits of the IOVAs that it can map. */
  readonly apertureBits: number;
  /** Bytes of its tables. */
  readonly tableBytes: number;
  /** Maps [iova, iova + length) to [hpa, ...). Throws HostError with nothing mapped by this call. */
  map(iova: number, hpa: number, length: number, readable: boolean, writable: boolean, largePages: boolean): void;
  /** A page of the interrupt controller in the driver's window for MSIs; only where it has one. */
  mapDoorbell(iova: number, hpa: number): void;
  /** Unmaps, and returns when no hardware uses it any more. */
  unmap(iova: number, length: number): void;
  /** Whether the hardware shall keep the dirty state from now on; where it always does, nothing. */
  setDirtyTracking(on: boolean): void;
  /** Calls `found` with each dirty mapping of the range; makes them clean where `clear` is set. Throws HostError where nothing is tracked. */
  readDirty(iova: number, length: number, clear: boolean, found: (iova: number, bytes: number) => void): void;
  /** Frees the tables; no entry refers to them any more. */
  release(): void;
}

/** What a guest says of a function, on top of a parent. */
export interface NestedDomain {
  /** HWPT_INVALIDATE on the nested HWPT; null: this architecture has that on vIOMMUs only. */
  readonly invalidate: ((request: InvalidateRequest) => InvalidateResult) | null;
  release(): void;
}

export type Domain = PagingDomain | NestedDomain;

/** A function behind an IOMMU, as the driver knows it. */
export interface Master {
  readonly driver: IommuDriver;
  readonly device: PhysicalFunction;
  /** Bits of the PASIDs that it can be attached with; 0: none. */
  readonly pasidBits: number;
  readonly atsPossible: boolean;
  /** The driver has ATS on: it has to be switched on again after a reset of the function. */
  readonly atsEnabled: boolean;
  /** Attaches transactions without PASID to a domain, or blocks them (null). */
  attach(domain: Domain | null, refuse: Refuse): void;
  /** The same for transactions with a PASID. */
  attachPasid(pasid: number, domain: Domain | null, refuse: Refuse): void;
  /**
   * Who is told of faults of the guest's stage in nested tables that the function is attached to: 16 bytes each,
   * a fault recording register of VT-d. False: faults go through vIOMMUs.
   */
  watchFaults(listener: ((record: Uint8Array) => void) | null): boolean;
}

/** What a vIOMMU's share of the hardware needs of its object. */
export interface ViommuPort {
  readonly parent: PagingDomain;
  /** Functions by virtual id. */
  readonly devices: ReadonlyMap<bigint, Master>;
  /** Hands an event's bytes to the queue of that VeventqType; false where the vIOMMU has none. */
  reportEvent(type: number, data: Uint8Array): boolean;
}

/** The share of one physical IOMMU that belongs to one guest. */
export interface ViommuShare {
  allocateNested(request: HwptAllocRequest, refuse: Refuse): NestedDomain;
  invalidate(request: InvalidateRequest): InvalidateResult;
  release(): void;
}

/** What an IOMMU has in use, for accounts and tests. */
export interface IommuAccount {
  readonly name: string;
  /** Commands of the kernel or of guests that the IOMMU answered with an error. */
  readonly commandErrors: number;
}

/** The driver of one physical IOMMU. */
export interface IommuDriver {
  readonly name: string;
  /** Told of faults that no guest is told of. */
  onUnclaimedFault: UnclaimedFaultListener | null;
  /** VFIO takes functions whose IOMMU keeps its walks coherent (IOMMU_CAP_CACHE_COHERENCY). */
  readonly cacheCoherent: boolean;
  /** The dirty state of mappings can be tracked (IOMMU_CAP_DIRTY_TRACKING). */
  readonly tracksDirty: boolean;
  /** IOVAs that an IOAS loses when a function is attached to it. */
  readonly reserved: IovaRange;
  /** MSIs are translated: doorbells are mapped into `reserved`. Else they pass as they are. */
  readonly mapsDoorbells: boolean;
  /** A table with a fault queue takes only functions whose page requests are on (Linux intel_iommu_enable_iopf); none of this host has such. */
  readonly wantsPageRequests: boolean;
  /** HwInfoType of `hwInfo`'s structure. */
  readonly hwInfoType: number;
  hwInfo(): Uint8Array;
  /** Takes charge of a function: until it is attached its transactions are blocked. */
  probe(device: PhysicalFunction): Master;
  /** A domain for a function, by or-ed HwptAllocFlags, FAULT_ID_VALID aside. */
  allocatePaging(master: Master, flags: number, refuse: Refuse): PagingDomain;
  /** A nested domain straight on a table that is to be its parent (no vIOMMU); `auto` tables never are. */
  allocateNested(master: Master, parent: { readonly domain: PagingDomain; readonly auto: boolean }, request: HwptAllocRequest, refuse: Refuse): NestedDomain;
  /** Refuses a VIOMMU_ALLOC for a function before the parent is looked at: EOPNOTSUPP for a type that it has not. */
  checkViommu(type: number, refuse: Refuse): void;
  /** A share for a vIOMMU of a type that `checkViommu` has let pass, on a nesting parent. */
  allocateViommu(port: ViommuPort, refuse: Refuse): ViommuShare;
  /** The end of the kernel: translation goes off, what tables are the driver's own go back. */
  close(): void;
}
