import type { PhysicalFunction } from "../hardware-port.js";
import type { Domain, Master } from "../iommu-driver.js";
import { guarded, type Refuse, underCall } from "../objects.js";
import { ALL_PAGES, contextDescriptor, deviceTlbDescriptor, iotlbDescriptor, pasidDescriptor, pasidIotlbDescriptor } from "./descriptors.js";
import type { Attachment } from "./domain-ids.js";
import type { VtdDriver } from "./driver.js";
import { legacyContext, nestedEntry, pagingEntry, scalableContext } from "./entries.js";
import { VtdNestedDomain } from "./nested-domain.js";
import { VtdPagingDomain } from "./paging-domain.js";
import { PasidTable } from "./pasid-table.js";

/** Widths of first-stage addresses: struct iommu_hwpt_vtd_s1's addr_width. */
const FOUR_LEVELS = 48;
const FIVE_LEVELS = 57;

interface Attached {
  readonly domain: VtdPagingDomain | VtdNestedDomain;
  readonly attachment: Attachment;
}

/**
 * A function behind a VT-d unit: its context entry, its PASID table, its ATS. In scalable mode requests without
 * PASID are those of PASID 0's entry (Linux IOMMU_NO_PASID), and ATS is on from the start; in legacy mode there
 * is the context entry alone, and ATS is on while it translates.
 */
export class VtdMaster implements Master {
  readonly pasidBits: number;
  atsEnabled = false;
  private faultListener: ((record: Uint8Array) => void) | null = null;
  private readonly pasids: PasidTable | null;
  private readonly attached = new Map<number, Attached>();

  constructor(
    readonly driver: VtdDriver,
    readonly device: PhysicalFunction,
  ) {
    const { features, tables, memory } = driver;
    this.pasidBits = features.pasids ? Math.min(device.description.pasidBits, features.pasidBits) : 0;
    tables.prepare(this.requesterId);
    this.pasids = features.scalableMode ? new PasidTable(memory, this.pasidBits) : null;
    if (this.pasids !== null) {
      tables.write(this.requesterId, scalableContext(this.pasids, this.atsPossible, this.pasidBits > 0));
      // PCIe 10.5.1.3: PASIDs are switched before ATS.
      device.enablePasid(this.pasidBits > 0);
      this.switchAts(this.atsPossible);
    }
  }

  get requesterId(): number {
    return this.device.sourceId;
  }

  get atsPossible(): boolean {
    return this.driver.features.deviceTlb && this.device.description.ats;
  }

  watchFaults(listener: ((record: Uint8Array) => void) | null): boolean {
    this.faultListener = listener;
    return true;
  }

  attach(domain: Domain | null, refuse: Refuse): void {
    this.set(0, domain, refuse);
  }

  attachPasid(pasid: number, domain: Domain | null, refuse: Refuse): void {
    if (domain !== null) {
      if (!this.driver.features.pasids) {
        throw refuse("EOPNOTSUPP", `${this.driver.name} has no PASIDs`);
      }
      if (pasid >= 2 ** this.pasidBits) {
        throw refuse("EINVAL", `PASID ${pasid} is beyond the function's ${this.pasidBits} bits`);
      }
      if (domain instanceof VtdPagingDomain && domain.dirtyTracking) {
        throw refuse("EINVAL", "tables with dirty tracking are for requests without PASID");
      }
    }
    this.set(pasid, domain, refuse);
  }

  /** Gives its PASID table back. */
  close(): void {
    this.switchAts(false);
    this.pasids?.release();
  }

  /** A fault of the guest's stage, as `guestRecord` makes it; false: nobody listens. */
  report(record: Uint8Array): boolean {
    this.faultListener?.(record);
    return this.faultListener !== null;
  }

  /** Requests of the PASID (0: without one) go through the kernel's tables alone. */
  isOnPagingDomain(pasid: number): boolean {
    return this.attached.get(pasid)?.domain instanceof VtdPagingDomain;
  }

  /** One entry for another in one step; what is cached of the old one is dropped before this returns. */
  private set(pasid: number, domain: Domain | null, refuse: Refuse): void {
    const old = this.attached.get(pasid);
    if (domain === null) {
      if (old !== undefined) {
        this.write(pasid, null, refuse);
        this.attached.delete(pasid);
        this.dropCached(old);
        this.pasids?.forget(pasid);
        this.leave(old);
      }
      return;
    }
    if (!(domain instanceof VtdPagingDomain || domain instanceof VtdNestedDomain)) {
      throw refuse("EINVAL", `not a table of ${this.driver.name}`);
    }
    this.checkCompatible(domain, refuse);
    const domainId = guarded(() => domain.ids.take(this.driver), refuse);
    try {
      this.pasids?.prepare(pasid);
    } catch (error) {
      domain.ids.give(this.driver);
      throw underCall(error, refuse);
    }
    const attachment: Attachment = {
      driver: this.driver,
      requesterId: this.requesterId,
      pasid,
      domainId,
      ats: this.atsPossible,
      rewrite: () => {
        this.write(pasid, attached, refuse);
        this.dropCached(attached);
      },
    };
    const attached = { domain, attachment };
    this.write(pasid, attached, refuse);
    this.attached.set(pasid, attached);
    this.enter(attached);
    if (old !== undefined) {
      this.dropCached(old);
      this.leave(old);
    }
  }

  /** Linux paging_domain_compatible: EINVAL, which tells iommufd that another table is needed. */
  private checkCompatible(domain: VtdPagingDomain | VtdNestedDomain, refuse: Refuse): void {
    const { features, name } = this.driver;
    const paging = domain instanceof VtdNestedDomain ? domain.parent : domain;
    const other = paging.features;
    const { stage } = paging;
    const reasons: Array<readonly [boolean, string]> = [
      [paging.enforcedSnoop && !features.snoopControl, "has no snoop control, the table enforces snooping"],
      [paging.dirtyTracking && !features.dirty, "does not keep the dirty state"],
      [other.coherent !== features.coherent, "differs in the coherency of its walks"],
      [other.largestPage[stage] !== features.largestPage[stage], "differs in its large pages"],
      [stage === 1 && !(features.scalableMode && features.firstStage), "has no first stage"],
      [other.addressBits > features.addressBits || other.tableBits > features.tableBits, "has a smaller address width"],
      [paging.nestParent && features.readOnlyErratum && !paging.writableOnly, "has erratum 772415, the nesting parent may have read-only mappings"],
    ];
    for (const [isReason, text] of reasons) {
      if (isReason) {
        throw refuse("EINVAL", `${name} ${text}`);
      }
    }
    if (domain instanceof VtdNestedDomain) {
      this.checkGuestTable(domain, refuse);
    }
  }

  /** Linux intel_pasid_setup_nested. */
  private checkGuestTable(domain: VtdNestedDomain, refuse: Refuse): void {
    const { features, name } = this.driver;
    const { guest } = domain;
    if (!features.nesting) {
      throw refuse("ENODEV", `${name} does not nest`);
    }
    if (guest.addressBits !== FOUR_LEVELS && !(guest.addressBits === FIVE_LEVELS && features.fiveLevels)) {
      throw refuse("EINVAL", `${name} has no first stage of ${guest.addressBits} bits`);
    }
    if (guest.supervisor && !features.supervisorRequests) {
      throw refuse("EINVAL", `${name} takes no supervisor requests`);
    }
    if (guest.extendedAccess && !features.extendedAccessed) {
      throw refuse("EINVAL", `${name} has no extended accessed bit`);
    }
  }

  private write(pasid: number, attached: Attached | null, refuse: Refuse): void {
    const { driver, pasids } = this;
    if (pasids !== null) {
      pasids.write(pasid, attached === null ? null : this.entryOf(attached));
      return;
    }
    const domain = attached?.domain ?? null;
    if (domain instanceof VtdNestedDomain) {
      throw refuse("ENODEV", `${driver.name} does not nest`);
    }
    driver.tables.write(this.requesterId, legacyContext(domain, attached?.attachment.domainId ?? 0, this.atsPossible));
    this.switchAts(this.atsPossible && attached !== null);
  }

  private entryOf({ domain, attachment }: Attached): Int32Array {
    const snooped = this.driver.features.coherent;
    return domain instanceof VtdNestedDomain
      ? nestedEntry(domain.guest, domain.parent, attachment.domainId, snooped)
      : pagingEntry(domain, attachment.domainId, snooped);
  }

  private enter({ domain, attachment }: Attached): void {
    domain.attachments.add(attachment);
    if (domain instanceof VtdNestedDomain) {
      domain.parent.nestedAttachments.add(attachment);
    }
  }

  private leave({ domain, attachment }: Attached): void {
    domain.attachments.delete(attachment);
    if (domain instanceof VtdNestedDomain) {
      domain.parent.nestedAttachments.delete(attachment);
    }
    domain.ids.give(this.driver);
  }

  /** After a change of a present entry (Linux intel_pasid_flush_present, domain_context_clear; VT-d 6.5.3.3, table 28). */
  private dropCached({ domain, attachment }: Attached): void {
    const { driver, requesterId } = this;
    const { domainId, pasid } = attachment;
    if (this.pasids === null) {
      driver.submit(contextDescriptor(domainId, requesterId));
    } else {
      driver.submit(pasidDescriptor(domainId, pasid));
    }
    const first = domain instanceof VtdPagingDomain && domain.stage === 1;
    driver.submit(
      first
        ? pasidIotlbDescriptor(driver.features, domainId, pasid, ALL_PAGES, false)
        : iotlbDescriptor(driver.features, domainId, ALL_PAGES, false),
    );
    driver.wait();
    if (attachment.ats) {
      driver.submit(deviceTlbDescriptor(requesterId, pasid, ALL_PAGES));
      driver.wait();
    }
  }

  private switchAts(on: boolean): void {
    if (this.atsEnabled !== on) {
      this.atsEnabled = on;
      this.device.enableAts(on);
    }
  }
}
