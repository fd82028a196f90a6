import {
  HW_INFO_VTD,
  HW_INFO_VTD_BYTES,
  HwInfoType,
  HwInfoVtdFlags,
  HwptAllocFlags,
  type HwptAllocRequest,
  HwptDataType,
  type IovaRange,
} from "../../../../iommufd/index.js";
import { get, getWide } from "../../../../support/index.js";
import { FAULT, FRCD, INTERRUPT_RANGE_FIRST, INTERRUPT_RANGE_LAST } from "../../../../vtd/spec/index.js";
import type { FaultOrigin, HostMemory, PhysicalFunction, PhysicalVtd } from "../hardware-port.js";
import type { IommuAccount, IommuDriver, Master, PagingDomain, ViommuPort, ViommuShare } from "../iommu-driver.js";
import { guarded, type Refuse } from "../objects.js";
import { TagPool } from "../tag-pool.js";
import type { UnclaimedFaultListener } from "../unclaimed-fault.js";
import { waitDescriptor } from "./descriptors.js";
import { guestRecord, recordBytes } from "./guest-faults.js";
import { type UnitFeatures, unitFeatures } from "./features.js";
import { VtdMaster } from "./master.js";
import { readGuestTable, VtdNestedDomain } from "./nested-domain.js";
import { VtdPagingDomain } from "./paging-domain.js";
import { RemappingTables } from "./remapping-tables.js";

const KNOWN_FLAGS = HwptAllocFlags.NEST_PARENT | HwptAllocFlags.DIRTY_TRACKING | HwptAllocFlags.PASID;

/** What one VT-d unit has of domain ids and faults. */
export interface VtdAccount extends IommuAccount {
  readonly domainIds: number;
  /** Faults that went to no guest, by reason. */
  readonly unhandledFaults: ReadonlyMap<number, number>;
}

/** The kernel's driver of one VT-d unit (Linux drivers/iommu/intel). */
export class VtdDriver implements IommuDriver {
  readonly features: UnitFeatures;
  readonly tables: RemappingTables;
  readonly domainIds: TagPool;
  readonly reserved: IovaRange = { start: BigInt(INTERRUPT_RANGE_FIRST), last: BigInt(INTERRUPT_RANGE_LAST) };
  readonly mapsDoorbells = false;
  readonly wantsPageRequests = true;
  readonly hwInfoType = HwInfoType.INTEL_VTD;
  /** IOMMU_CAP_CACHE_COHERENCY, whatever the unit. */
  readonly cacheCoherent = true;
  /** Faults that went to no guest, by reason. */
  readonly unhandledFaults = new Map<number, number>();
  /** Descriptors that the hardware answered with an error. */
  commandErrors = 0;
  onUnclaimedFault: UnclaimedFaultListener | null = null;
  private readonly masters = new Map<number, VtdMaster>();

  constructor(
    readonly unit: PhysicalVtd,
    readonly memory: HostMemory,
  ) {
    this.features = unitFeatures(unit);
    this.domainIds = new TagPool(`domain ids of ${unit.name}`, this.features.domainBits);
    this.tables = new RemappingTables(memory, this.features.scalableMode);
    unit.onFault((record, origin) => this.handleFault(record, origin));
    unit.setRootTable(this.tables.root, this.tables.mode);
    unit.enableTranslation(true);
  }

  get name(): string {
    return this.unit.name;
  }

  get tracksDirty(): boolean {
    return this.features.dirty;
  }

  /** struct iommu_hw_info_vtd. Linux sets the erratum's flag for every unit; this kernel knows which have it. */
  hwInfo(): Uint8Array {
    const info = new DataView(new ArrayBuffer(HW_INFO_VTD_BYTES));
    info.setUint32(HW_INFO_VTD.FLAGS, this.features.readOnlyErratum ? HwInfoVtdFlags.ERRATA_772415_SPR17 : 0, true);
    info.setBigUint64(HW_INFO_VTD.CAP_REG, this.unit.cap, true);
    info.setBigUint64(HW_INFO_VTD.ECAP_REG, this.unit.ecap, true);
    return new Uint8Array(info.buffer);
  }

  probe(device: PhysicalFunction): VtdMaster {
    const master = new VtdMaster(this, device);
    this.masters.set(device.sourceId, master);
    return master;
  }

  /** Linux intel_iommu_domain_alloc_paging_flags. */
  allocatePaging(_master: Master, flags: number, refuse: Refuse): VtdPagingDomain {
    const { features, name } = this;
    const nestParent = (flags & HwptAllocFlags.NEST_PARENT) !== 0;
    const dirtyTracking = (flags & HwptAllocFlags.DIRTY_TRACKING) !== 0;
    if ((flags & ~KNOWN_FLAGS) !== 0) {
      throw refuse("EOPNOTSUPP", `flags 0x${(flags >>> 0).toString(16)}`);
    }
    if (nestParent && !features.nesting) {
      throw refuse("EOPNOTSUPP", `${name} does not nest`);
    }
    if (dirtyTracking && !features.dirty) {
      throw refuse("EOPNOTSUPP", `${name} does not keep the dirty state`);
    }
    if ((nestParent || dirtyTracking) && !(features.scalableMode && features.secondStage)) {
      throw refuse("EOPNOTSUPP", `${name} has no second stage in scalable mode`);
    }
    const first = !nestParent && !dirtyTracking && features.scalableMode && features.firstStage;
    return guarded(() => new VtdPagingDomain(this.memory, features, { stage: first ? 1 : 2, nestParent, dirtyTracking }), refuse);
  }

  /** Linux iommufd_hwpt_nested_alloc, intel_iommu_domain_alloc_nested. */
  allocateNested(
    _master: Master,
    parent: { readonly domain: PagingDomain; readonly auto: boolean },
    request: HwptAllocRequest,
    refuse: Refuse,
  ): VtdNestedDomain {
    if ((request.flags & ~HwptAllocFlags.PASID) !== 0 || request.data.length === 0) {
      throw refuse("EOPNOTSUPP", `flags 0x${(request.flags >>> 0).toString(16)}, ${request.data.length} bytes of data`);
    }
    if (parent.auto || !parent.domain.nestParent || !(parent.domain instanceof VtdPagingDomain)) {
      throw refuse("EINVAL", "the table was not made as a nesting parent");
    }
    if (!this.features.nesting) {
      throw refuse("EOPNOTSUPP", `${this.name} does not nest`);
    }
    if (request.dataType !== HwptDataType.VTD_S1) {
      throw refuse("EOPNOTSUPP", `data type ${request.dataType}`);
    }
    return new VtdNestedDomain(parent.domain, readGuestTable(request.data, refuse));
  }

  /** VT-d has no vIOMMU objects: nested tables, their invalidations and attachments are the HWPT's. */
  checkViommu(type: number, refuse: Refuse): never {
    throw refuse("EOPNOTSUPP", `${this.name} has no vIOMMU of type ${type}`);
  }

  allocateViommu(_port: ViommuPort, refuse: Refuse): ViommuShare {
    throw refuse("EOPNOTSUPP", `${this.name} has no vIOMMUs`);
  }

  /** Functions are blocked by then; ABORT_DMA would be the mode without tables (RTADDR.TTM), the units have it not. */
  close(): void {
    this.unit.enableTranslation(false);
    for (const master of this.masters.values()) {
      master.close();
    }
    this.tables.release();
  }

  account(): VtdAccount {
    return { name: this.name, domainIds: this.domainIds.live, unhandledFaults: this.unhandledFaults, commandErrors: this.commandErrors };
  }

  /** Runs a descriptor of four words; an error is counted, and the descriptor passed over. */
  submit(words: Int32Array): void {
    if (this.unit.submit(words[0], words[1], words[2], words[3]) !== 0) {
      this.commandErrors++;
    }
  }

  wait(): void {
    this.submit(waitDescriptor());
  }

  private handleFault(record: Int32Array, origin: FaultOrigin): void {
    const forGuest = guestRecord(record, origin);
    const master = this.masters.get(get(record, FRCD.SID));
    if (forGuest === null && origin === "own") {
      // What it is to a guest whose tables the host mirrors is for who mirrors them to say; it stays the host's, too.
      master?.report(recordBytes(record));
    }
    if (forGuest === null || master?.report(forGuest) !== true) {
      const reason = get(record, FRCD.FR);
      if (master !== undefined && this.onUnclaimedFault !== null) {
        const pasid = get(record, FRCD.PP) === 0 ? null : get(record, FRCD.PV);
        const address = getWide(record, FRCD.FI);
        const secondStage = reason >= FAULT.SM_SS_ACCESS && reason <= FAULT.SM_SS_UPDATE_FAILED;
        this.onUnclaimedFault({
          function: master.device.description.address,
          pasid,
          address,
          isWrite: get(record, FRCD.T1) === 0,
          secondStage,
          // A nested translation's record has the address that went in (7.1.3).
          guestPhysical: secondStage && master.isOnPagingDomain(pasid ?? 0) ? address : null,
        });
      }
      this.unhandledFaults.set(reason, (this.unhandledFaults.get(reason) ?? 0) + 1);
    }
  }
}
