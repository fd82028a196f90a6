import { HwptAllocFlags } from "../../../../iommufd/index.js";
import { encodeCommand, OP, TLBI_TG_4K } from "../../../../smmuv3/spec/index.js";
import { PageTable, VMSA_FORMAT, type LeafAttributes } from "../page-table.js";
import type { NestedDomain, PagingDomain } from "../iommu-driver.js";
import type { Refuse } from "../objects.js";
import type { SmmuDriver } from "./driver.js";
import type { SmmuMaster } from "./master.js";
import type { GuestEntry } from "./stream-entries.js";
import type { Vsmmu } from "./vsmmu.js";

/** Descriptor bits 11:2 (Arm DDI 0487 D8.3.2). */
const ACCESS_FLAG = 1 << 10;
const SH_INNER = 3 << 8;
const SH_OUTER = 2 << 8;
/** Stage 2. */
const S2AP_READ = 1 << 6;
const S2AP_WRITE = 1 << 7;
const S2_NORMAL_WB = 0xf << 2;
const S2_NORMAL_WB_FWB = 0x6 << 2;
const S2_DEVICE = 0x1 << 2;
/** Stage 1. */
const AP_UNPRIVILEGED = 1 << 6;
const AP_READ_ONLY = 1 << 7;
const NOT_GLOBAL = 1 << 11;
const ATTRIBUTE_WB = 1 << 2;
const ATTRIBUTE_DEVICE = 2 << 2;
/** Descriptor bits of the high word: DBM is bit 51, XN (stage 2) and UXN, PXN (stage 1) are 54:53. */
const DIRTY_BIT_MODIFIER = 1 << 19;
const EXECUTE_NEVER = 3 << 21;

/** Pages up to which an unmapping is invalidated page by page where the SMMU has no ranges. */
const MOST_SINGLE_PAGES = 512;

export interface DomainKind {
  readonly stage: 1 | 2;
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
}

export interface Attachment {
  readonly master: SmmuMaster;
  readonly ssid: number;
  /** A nested attachment: a change of stage 2 empties the function's whole ATC. */
  readonly nested: boolean;
}

/** What a guest's stream table entry says, on a vSMMU. */
export class SmmuNestedDomain implements NestedDomain {
  /** Invalidations go to the vIOMMU. */
  readonly invalidate = null;

  constructor(
    readonly vsmmu: Vsmmu,
    readonly guest: GuestEntry,
  ) {}

  release(): void {}
}

/**
 * A translation of the kernel's own: IOVA to physical, in stage 1 or stage 2 of one SMMU. Linux takes
 * stage 1 for a plain domain where the SMMU has it, and stage 2 for a nesting parent.
 */
export class SmmuPagingDomain implements PagingDomain {
  readonly table: PageTable;
  /** VMID of a stage-2 domain, and of the vSMMUs on it; ASID of a stage-1 domain. */
  readonly tag: number;
  readonly attachments = new Set<Attachment>();
  private readonly kind: DomainKind;

  /** Throws HostError where the SMMU has no tag left or the host no memory. */
  constructor(
    readonly driver: SmmuDriver,
    kind: DomainKind,
  ) {
    this.kind = kind;
    const { features } = driver;
    const inputBits = kind.stage === 1 ? 48 : features.outputBits;
    this.tag = kind.stage === 1 ? driver.asids.take() : driver.vmids.take();
    try {
      this.table = new PageTable(driver.memory, {
        inputBits,
        startLevel: startLevel(kind.stage, inputBits),
        format: VMSA_FORMAT,
        largestPageLevel: 1,
      });
    } catch (error) {
      this.giveTagBack();
      throw error;
    }
  }

  get stage(): 1 | 2 {
    return this.kind.stage;
  }

  get nestParent(): boolean {
    return this.kind.nestParent;
  }

  get dirtyTracking(): boolean {
    return this.kind.dirtyTracking;
  }

  get apertureBits(): number {
    return this.table.inputBits;
  }

  get tableBytes(): number {
    return this.table.tableBytes;
  }

  /** The hardware keeps the state at all times, as Linux has it. */
  setDirtyTracking(_on: boolean): void {}

  map(iova: number, hpa: number, length: number, readable: boolean, writable: boolean, blocks: boolean): void {
    this.table.map(iova, hpa, length, this.attributes(readable, writable), blocks);
  }

  /** A page of the interrupt controller in the window for MSIs: Device memory, writable, not executable. */
  mapDoorbell(iova: number, hpa: number): void {
    const attributes =
      this.stage === 2
        ? { low: ACCESS_FLAG | SH_OUTER | S2_DEVICE | S2AP_WRITE, high: EXECUTE_NEVER }
        : { low: ACCESS_FLAG | SH_OUTER | ATTRIBUTE_DEVICE | NOT_GLOBAL | AP_UNPRIVILEGED, high: EXECUTE_NEVER };
    this.table.map(iova, hpa, 4096, attributes, false);
  }

  /** Unmaps, invalidates what the hardware may have cached of it, and frees the tables that are empty then. */
  unmap(iova: number, length: number): void {
    this.table.unmap(iova, length);
    this.invalidate(iova, length);
    this.table.freeRetired();
  }

  /** Calls `found` with each dirty mapping of the range; makes them clean where `clear` is set. */
  readDirty(iova: number, length: number, clear: boolean, found: (iova: number, bytes: number) => void): void {
    const flag = this.stage === 2 ? S2AP_WRITE : AP_READ_ONLY;
    const whenDirty = this.stage === 2 ? S2AP_WRITE : 0;
    let first = -1;
    let end = -1;
    this.table.eachLeaf(iova, length, (descriptor, base, bytes, low, high) => {
      if ((high & DIRTY_BIT_MODIFIER) !== 0 && (low & flag) === whenDirty) {
        found(base, bytes);
        if (clear) {
          this.table.rewrite(descriptor, low ^ flag, high);
          first = first < 0 ? base : first;
          end = base + bytes;
        }
      }
    });
    if (first >= 0) {
      this.invalidate(first, end - first);
    }
  }

  /** TLBI and ATC_INV for a range whose mappings have changed, with a sync. */
  invalidate(iova: number, length: number): void {
    const { driver } = this;
    if (this.stage === 1) {
      this.invalidateRange(OP.TLBI_NH_VA, { VMID: 0, ASID: this.tag }, iova, length);
    } else {
      this.invalidateRange(OP.TLBI_S2_IPA, { VMID: this.tag }, iova, length);
      if (this.nestParent) {
        // Combined stage-1 and stage-2 entries are tagged by the guests' addresses: all of the VMID go.
        driver.run(encodeCommand(OP.TLBI_NH_ALL, { VMID: this.tag }));
      }
    }
    driver.sync();
    for (const attachment of this.attachments) {
      if (attachment.master.atsEnabled) {
        if (attachment.nested) {
          attachment.master.invalidateAtc(null, 0, 0);
        } else {
          attachment.master.invalidateAtc(attachment.ssid, iova, length);
        }
      }
    }
  }

  /** Frees the table; no entry refers to it any more. */
  release(): void {
    const { driver } = this;
    if (this.stage === 1) {
      driver.run(encodeCommand(OP.TLBI_NH_ASID, { VMID: 0, ASID: this.tag }));
    } else {
      driver.run(encodeCommand(OP.TLBI_S12_VMALL, { VMID: this.tag }));
    }
    driver.sync();
    this.table.release();
    this.giveTagBack();
  }

  private giveTagBack(): void {
    (this.stage === 1 ? this.driver.asids : this.driver.vmids).give(this.tag);
  }

  private attributes(readable: boolean, writable: boolean): LeafAttributes {
    if (this.stage === 2) {
      const memory = this.driver.features.forceWriteBack ? S2_NORMAL_WB_FWB : S2_NORMAL_WB;
      // Writable and clean is DBM without S2AP[1]; the SMMU sets that at the first write (DDI 0487 D8.5.3).
      const write = writable ? (this.dirtyTracking ? 0 : S2AP_WRITE) : 0;
      return {
        low: ACCESS_FLAG | SH_INNER | memory | (readable ? S2AP_READ : 0) | write,
        high: writable && this.dirtyTracking ? DIRTY_BIT_MODIFIER : 0,
      };
    }
    const readOnly = !writable || this.dirtyTracking ? AP_READ_ONLY : 0;
    return {
      low: ACCESS_FLAG | SH_INNER | ATTRIBUTE_WB | NOT_GLOBAL | AP_UNPRIVILEGED | readOnly,
      high: writable && this.dirtyTracking ? DIRTY_BIT_MODIFIER : 0,
    };
  }

  /** Invalidates by range where the SMMU has that, by page, or all at once. */
  private invalidateRange(opcode: number, tags: { VMID: number; ASID?: number }, iova: number, length: number): void {
    const { driver } = this;
    let pages = length / 4096;
    if (driver.features.ranges) {
      // IHI 0070 4.4.1.1: a command covers (NUM + 1) * 2^SCALE pages; each takes the lowest five bits that are left.
      let at = iova;
      while (pages > 0) {
        let scale = 0;
        while (scale < 31 && pages % 2 ** (scale + 1) === 0) {
          scale++;
        }
        const left = Math.floor(pages / 2 ** scale);
        const number = scale < 31 ? left % 32 : Math.min(31, left);
        // A range of one granule without a level is reserved: that is the command of one address.
        const range = number === 1 && scale === 0 ? {} : { TG: TLBI_TG_4K, NUM: number - 1, SCALE: scale };
        driver.run(encodeCommand(opcode, { ...tags, ...range, ADDRESS: BigInt(at) }));
        at += number * 2 ** scale * 4096;
        pages -= number * 2 ** scale;
      }
    } else if (pages <= MOST_SINGLE_PAGES) {
      for (let page = 0; page < pages; page++) {
        driver.run(encodeCommand(opcode, { ...tags, ADDRESS: BigInt(iova + page * 4096) }));
      }
    } else if (this.stage === 1) {
      driver.run(encodeCommand(OP.TLBI_NH_ASID, { VMID: 0, ASID: this.tag }));
    } else {
      driver.run(encodeCommand(OP.TLBI_S12_VMALL, { VMID: tags.VMID }));
    }
  }
}

/**
 * Level of the first lookup with 4 KiB granules. Stage 2 of 40 and 42 bits has to start at level 1 with
 * concatenated tables (DDI 0487 D8.2.7; Linux arm_lpae_concat_mandatory); else the levels that resolve the bits.
 */
function startLevel(stage: 1 | 2, inputBits: number): number {
  if (inputBits <= 39 || (stage === 2 && inputBits <= 42)) {
    return 1;
  }
  return 0;
}

/**
 * Which domain the SMMUv3 driver makes for HWPT_ALLOC flags (Linux arm_smmu_domain_alloc_paging_flags).
 * A nesting parent that tracks dirty pages goes further than Linux does today: stage 2 has the same
 * hardware state (HTTU) that Linux uses in stage 1.
 */
export function domainKind(driver: SmmuDriver, flags: number, refuse: Refuse): DomainKind {
  const { features } = driver;
  const dirtyTracking = (flags & HwptAllocFlags.DIRTY_TRACKING) !== 0;
  if (dirtyTracking && !features.dirty) {
    throw refuse("EOPNOTSUPP", `${driver.name} does not keep the dirty state`);
  }
  if ((flags & HwptAllocFlags.NEST_PARENT) !== 0) {
    if (!features.nesting || (flags & ~(HwptAllocFlags.NEST_PARENT | HwptAllocFlags.DIRTY_TRACKING)) !== 0) {
      throw refuse("EOPNOTSUPP", features.nesting ? "flags that a nesting parent cannot have" : "the SMMU does not nest");
    }
    return { stage: 2, nestParent: true, dirtyTracking };
  }
  if (flags !== 0 && !features.stage1) {
    throw refuse("EOPNOTSUPP", "the SMMU has no stage 1");
  }
  return { stage: features.stage1 ? 1 : 2, nestParent: false, dirtyTracking };
}
