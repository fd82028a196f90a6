/** What an IOMMU of a machine has to tell, whatever its architecture: what it is and what it did. */

export interface IommuDescription {
  readonly id: string;
  /** The root bus that it covers. */
  readonly bus: string;
  readonly accel: boolean;
  /** The physical IOMMU that serves it; null: none (not accelerated, or no function yet). */
  readonly hostIommu: string | null;
  /** Of -machine iommu=smmuv3: it covers every root bus. */
  readonly legacy: boolean;
  /** Guest-physical address of its registers. */
  readonly base: number;
  /** INTIDs of eventq, priq, cmdq-sync, gerror; none of a VT-d unit, whose interrupts are messages. */
  readonly interrupts: readonly number[];
  /** As its registers show them. */
  readonly features: SmmuFeatures | VtdFeatures;
  /** Tables of the host that passed-through functions behind it are on now, by function and PASID. */
  readonly bindings: readonly BindingDescription[];
}

export interface BindingDescription {
  /** The function's id, or host address. */
  readonly function: string;
  /** Null: requests without PASID. */
  readonly pasid: number | null;
  /** `nested`: the guest's on the parent; `parent` or `bypass`: all of the machine's memory; `shadow`: a mirror of the guest's second stage; `abort` or `blocked`: nothing. */
  readonly table: string;
  /** Why it is blocked, with the section where the architecture says so; null: it is not. */
  readonly reason: string | null;
  /** The host's number of the table; null: none. */
  readonly hwpt: number | null;
  /** Domain id of the guest's entry (VT-d); null: it has none. */
  readonly domain: number | null;
  readonly hostIommu: string | null;
}

export interface SmmuFeatures {
  readonly stage: string;
  readonly ril: boolean;
  readonly ats: boolean;
  readonly oas: number;
  readonly ssidsize: number;
  /** IDR0.MSI. */
  readonly msi: boolean;
}

export interface VtdFeatures {
  readonly scalableMode: boolean;
  readonly fsts: boolean;
  readonly fs1gp: boolean;
  readonly pasidBits: number;
  readonly awBits: number;
  readonly cachingMode: boolean;
  readonly deviceIotlb: boolean;
  readonly dmaTranslation: boolean;
  readonly intremap: boolean;
  readonly eim: boolean;
}

export interface InvalidationAccount {
  /** The IOMMU's id. */
  readonly iommu: string;
  /** Commands of the guest, by the architecture's names. */
  readonly commands: Readonly<Record<string, number>>;
  /** Of them: those that invalidate translations or context descriptors (CMD_TLBI_*, CMD_ATC_INV, CMD_CFGI_CD*). */
  readonly guestCommands: number;
  /** Of those: done by the host. */
  readonly forwarded: number;
  /** HWPT_INVALIDATE calls. */
  readonly hostCalls: number;
}
