/** What the kernel asks of an IOMMU driver, whichever architecture it drives. */
import type { Domain, DomainMaster } from "./domain.js";
import type { DecodedEvent, ExpectedFault, FaultCause } from "./events.js";

/** A function's ATS capability as the IOMMU driver drives it. */
export interface AtsControl {
  /** `log2Stu`: log2 of the smallest translation unit in bytes. */
  enable(log2Stu: number): Promise<void>;
  disable(): Promise<void>;
}

/** Where traffic without a PASID goes: tables, untranslated, or nowhere. */
export type MasterDomain = Domain | "identity" | "blocked";

/** A function, or several with one requester id, as the IOMMU sees it. */
export interface IommuMaster extends DomainMaster {
  /** Null: not attached yet. */
  readonly domain: MasterDomain | null;
  /** Domains by PASID (SubstreamID). */
  readonly pasidDomains: ReadonlyMap<number, Domain>;
  readonly atsSupported: boolean;
  /** log2 of the PASIDs that function and IOMMU have; 0: none. */
  readonly pasidBits: number;
  attach(domain: Domain): Promise<void>;
  /** Addresses are used as they are. */
  attachIdentity(): Promise<void>;
  attachBlocked(): Promise<void>;
  /** Gives a PASID (1 and up) its own domain, instead of the one it has. */
  attachPasid(pasid: number, domain: Domain): Promise<void>;
  detachPasid(pasid: number): Promise<void>;
  /** What a function without an owner does: identity where the firmware demands identity windows, else nothing. Returns which. */
  detach(): Promise<"identity" | "blocked">;
  /** The function goes: entries are as without an owner, tables of it are freed. */
  release(): Promise<void>;
}

export interface MasterOptions {
  readonly pasidBits?: number;
  readonly ats?: AtsControl | null;
  /** Firmware demands identity windows. */
  readonly requireDirect?: boolean;
  /** Invalidations that the function takes at once (PCIe 6.0, 10.5.1.2), 1 to 32. */
  readonly atsQueueDepth?: number;
}

export interface DomainOptions {
  /** log2 of the smallest page, where the IOMMU has a choice. */
  readonly granule?: number;
  /** IOVAs that are not handed out. */
  readonly reserved?: ReadonlyArray<{ readonly base: number; readonly size: number }>;
}

export interface IommuDriver {
  readonly name: string;
  /** Records that were read, oldest first. */
  readonly events: DecodedEvent[];
  /** It was found enabled. */
  readonly tookOver: boolean;
  /** What was done with it then, in words. */
  readonly takeOver: string;
  /** What it offers, in words. */
  readonly traits: readonly string[];
  /** What the driver calls the id of a domain: ASID, VMID, DID. */
  readonly domainIdName: string;
  /** Why a domain that a PASID gets may not be in use when the function uses it; null: it is. */
  readonly pasidHindrance: string | null;
  /** Commands or descriptors issued so far. */
  readonly commandCount: number;
  /** What went wrong besides recorded faults: errors of queues, overflows. */
  complaints(): string[];
  createDomain(options?: DomainOptions): Promise<Domain>;
  addMaster(name: string, sourceIds: readonly number[], options?: MasterOptions): Promise<IommuMaster>;
  masterOf(sourceId: number): IommuMaster | null;
  /** Lets it translate where `probe` has not: once the functions that are there have their first domains. */
  start(): Promise<void>;
  /** The record that a request has to leave behind. */
  expectedFault(cause: FaultCause): ExpectedFault;
  /** Looks for records where no interrupt tells of them. */
  pollEvents(): Promise<void>;
  /** The driver is done with the machine: its interrupt handlers go. The hardware stays as it is. */
  abandon(): void;
}
