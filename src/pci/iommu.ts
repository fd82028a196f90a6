/**
 * How a bus's IOMMU answers: the callbacks of QEMU's PCIIOMMUOps, and the way from a function to the IOMMU
 * that covers it.
 */
import type { DmaSpace } from "../memory/index.js";
import type { PciBus } from "./bus.js";
import type { PciFunction } from "./function.js";

/** A passed-through function's host side, as its IOMMU needs it. The vfio room implements it. */
export interface HostIommuDevice {
  /** The function's name for messages: its id, or host address. */
  readonly name: string;
  /** Host PCI address. */
  readonly hostAddress: string;
  /** The physical IOMMU instance that serves it, by the host's name. */
  readonly hostIommu: string | null;
}

/** What a vIOMMU wants of the host's tables for functions that it covers; property facts only, not host facts. */
export interface ViommuFlags {
  /** The stage-2 table of the function is to be a nesting parent (HWPT_ALLOC_NEST_PARENT). */
  readonly wantNestingParent: boolean;
  /** PASIDs are offered to the guest. */
  readonly pasidSupported: boolean;
  /** Tables are attached to PASIDs, so all have to be made for that (HWPT_ALLOC_PASID). */
  readonly wantPasidAttach?: boolean;
  /**
   * Whose the nesting parent is: functions with another owner get another parent, although it maps the same memory.
   * For vIOMMUs whose guests' tags are told apart by the parent alone; undefined: parents are shared.
   */
  readonly parentOwner?: object;
}

export interface IommuOps {
  /** The address space that a function's DMA goes to. Called once a function at (bus, devfn) is plugged. */
  getAddressSpace(bus: PciBus, devfn: number): DmaSpace;
  /** Throws Refusal when a function of this kind may not sit there; called before anything is made. */
  supportsAddressSpace?(bus: PciBus, devfn: number, candidate: PciFunction): void;
  /** Throws Refusal where the host's IOMMU behind the function is not one that can serve; asked before anything is attached. */
  checkIommuDevice?(device: HostIommuDevice): void;
  /** Gives the host's side of the function at (bus, devfn); throws Refusal or HostError and leaves nothing behind. */
  setIommuDevice?(bus: PciBus, devfn: number, device: HostIommuDevice): void;
  unsetIommuDevice?(bus: PciBus, devfn: number): void;
  /** Guest-physical address of the MSI doorbell: what a KVM route is to hold, whatever the guest wrote. */
  getMsiDirectGpa?(bus: PciBus, devfn: number): number | null;
  getViommuFlags?(): ViommuFlags;
  /** The guest has switched bus mastering of a passed-through function on: its entries are what it means to use. */
  busMasteringEnabled?(bus: PciBus, devfn: number): void;
  /**
   * The host refused a request of a passed-through function because nothing is bound where it came to; `pasid` null:
   * it had none. The guest's entries may say otherwise.
   */
  requestUnbound?(bus: PciBus, devfn: number, pasid: number | null): void;
  /** The guest gave buses new numbers: requester ids, and so StreamIDs, may have changed. */
  busNumbersChanged?(): void;
}

/** Where a function's requests come out: the IOMMU's bus and the requester that it sees. */
export interface IommuPath {
  /** The bus whose ops answer; null: no IOMMU covers the function. */
  readonly iommuBus: PciBus | null;
  readonly ops: IommuOps | null;
  /** The bus and devfn that the requester id is made of: the function's own, or its bridge's. */
  readonly bus: PciBus;
  readonly devfn: number;
  /** The function is behind a PCIe-to-PCI bridge and does not have a requester id of its own. */
  readonly aliased: boolean;
}

/**
 * Follows a function up to the IOMMU. Below a PCIe-to-PCI bridge the requester id is the bridge's:
 * secondary bus number and devfn 0 (PCI Express to PCI/PCI-X Bridge Specification 1.0, 2.3). Below a conventional
 * bridge it is that bridge's own on the bus above: the root complex knows of no other (QEMU's pci_req_id_cache_get).
 */
export function iommuPath(bus: PciBus, devfn: number): IommuPath {
  let requesterBus = bus;
  let requesterDevfn = devfn;
  let aliased = false;
  for (let at: PciBus | null = bus; at !== null; at = at.parentBus) {
    if (!at.isExpress) {
      const above = at.options.ownRequester === true ? at.parentBus : null;
      requesterBus = above ?? at;
      requesterDevfn = above === null ? 0 : at.bridge!.devfn;
      aliased = true;
    }
    if (at.iommu !== null || at.isRoot) {
      const ops = at.bypassIommu ? null : at.iommu;
      return { iommuBus: ops === null ? null : at, ops, bus: requesterBus, devfn: requesterDevfn, aliased };
    }
  }
  return { iommuBus: null, ops: null, bus: requesterBus, devfn: requesterDevfn, aliased };
}

/** Functions whose requests carry the requester id that (bus, devfn) stands for, as iommuPath has it. */
export function sharersOf(bus: PciBus, devfn: number): PciFunction[] {
  if (!bus.isExpress) {
    return [...bus.allFunctions()];
  }
  const fn = bus.functions.get(devfn);
  const behind = fn?.secondaryBuses.find(({ options }) => options.ownRequester === true);
  return fn === undefined ? [] : behind === undefined ? [fn] : [...behind.allFunctions()];
}
