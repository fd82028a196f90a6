import { HostError } from "../../../../iommufd/index.js";
import { FS_A, FS_D, FS_P, FS_PS, FS_RW, FS_US, SS_D, SS_PS, SS_R, SS_SNP, SS_W } from "../../../../vtd/spec/index.js";
import type { HostMemory } from "../hardware-port.js";
import type { PagingDomain } from "../iommu-driver.js";
import { spanOf } from "../page-span.js";
import { type EntryFormat, PageTable } from "../page-table.js";
import { flushPages } from "./cache-tags.js";
import type { Pages } from "./descriptors.js";
import { type Attachment, DomainIds } from "./domain-ids.js";
import type { UnitFeatures } from "./features.js";

/** Intel VT-d 9.8: a table is writable and for users, and accessed, as Linux sets it. */
const FIRST_STAGE: EntryFormat = {
  present: FS_P,
  table: FS_P | FS_RW | FS_US | FS_A,
  page: FS_P,
  largePage: FS_P | FS_PS,
  kind: FS_PS,
  highAddress: 0xf_ffff,
  rootBits: 12,
};

/** Intel VT-d 9.9: an entry without read and write permission is not present. */
const SECOND_STAGE: EntryFormat = {
  present: SS_R | SS_W,
  table: SS_R | SS_W,
  page: 0,
  largePage: SS_PS,
  kind: SS_PS,
  highAddress: 0xf_ffff,
  rootBits: 12,
};

export interface VtdDomainKind {
  readonly stage: 1 | 2;
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
}

/**
 * A translation of the kernel's own. Linux takes the first stage where the unit has it, unless the table is to
 * be a nesting parent or to track dirty pages (intel_iommu_domain_alloc_paging_flags). It may be attached
 * behind several units whose features agree with those of the unit that it was made for.
 */
export class VtdPagingDomain implements PagingDomain {
  readonly ids = new DomainIds();
  readonly attachments = new Set<Attachment>();
  /** Attachments of the nested domains on it. */
  readonly nestedAttachments = new Set<Attachment>();
  /** Accesses snoop whatever the request says (IOMMU_CAP_ENFORCE_CACHE_COHERENCY of the unit that it was made for). */
  readonly enforcedSnoop: boolean;
  /** Read-only mappings are refused. */
  readonly writableOnly: boolean;
  isTracking = false;
  readonly levels: 3 | 4 | 5;
  private readonly table: PageTable;

  /** Throws HostError where the host has no memory. */
  constructor(
    memory: HostMemory,
    readonly features: UnitFeatures,
    private readonly kind: VtdDomainKind,
  ) {
    this.enforcedSnoop = features.snoopControl;
    this.writableOnly = kind.nestParent && features.readOnlyErratum;
    this.levels = features.tableLevels;
    this.table = new PageTable(memory, {
      inputBits: kind.stage === 1 ? features.tableBits : Math.min(features.tableBits, features.addressBits),
      startLevel: 4 - this.levels,
      format: kind.stage === 1 ? FIRST_STAGE : SECOND_STAGE,
      largestPageLevel: features.largestPage[kind.stage],
    });
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

  /** The upper half of a first stage's addresses is the canonical one: it is not used. */
  get apertureBits(): number {
    return this.stage === 1 ? this.features.addressBits - 1 : this.features.addressBits;
  }

  get tableBytes(): number {
    return this.table.tableBytes;
  }

  /** HPA of the first table. */
  get root(): number {
    return this.table.root;
  }

  map(iova: number, hpa: number, length: number, readable: boolean, writable: boolean, largePages: boolean): void {
    if (!writable && this.writableOnly) {
      throw new HostError("page table", "EINVAL", "read-only mappings are not made in a nesting parent of this unit (erratum 772415)");
    }
    let low: number;
    if (this.stage === 1) {
      low = FS_US | FS_A | (writable ? FS_RW | FS_D : 0);
    } else {
      low = (readable ? SS_R : 0) | (writable ? SS_W : 0) | (this.enforcedSnoop ? SS_SNP : 0);
    }
    this.table.map(iova, hpa, length, { low, high: 0 }, largePages);
  }

  /** Messages are not translated (3.14). */
  mapDoorbell(): never {
    throw new HostError("page table", "EINVAL", "interrupts are not mapped");
  }

  unmap(iova: number, length: number): void {
    this.table.unmap(iova, length);
    this.flush(pagesOf(iova, length), !this.table.hasRetired);
    this.table.freeRetired();
  }

  setDirtyTracking(on: boolean): void {
    if (this.isTracking !== on) {
      this.isTracking = on;
      // Linux leaves out nested attachments with a PASID; their writes would be missed.
      for (const attachment of [...this.attachments, ...this.nestedAttachments]) {
        attachment.rewrite();
      }
    }
  }

  readDirty(iova: number, length: number, clear: boolean, found: (iova: number, bytes: number) => void): void {
    if (!this.isTracking) {
      throw new HostError("page table", "EINVAL", "dirty tracking is off");
    }
    let first = -1;
    let end = -1;
    this.table.eachLeaf(iova, length, (descriptor, base, bytes, low, high) => {
      if ((low & SS_D) !== 0) {
        found(base, bytes);
        if (clear) {
          this.table.rewrite(descriptor, low & ~SS_D, high);
          first = first < 0 ? base : first;
          end = base + bytes;
        }
      }
    });
    if (first >= 0) {
      this.flush(pagesOf(first, end - first), true);
    }
  }

  release(): void {
    this.table.release();
  }

  private flush(pages: Pages, leafOnly: boolean): void {
    flushPages(this.attachments, this.nestedAttachments, this.stage === 1 ? "pasid" : "domain", pages, leafOnly);
  }
}

function pagesOf(iova: number, length: number): Pages {
  return spanOf(iova / 4096, (iova + length) / 4096 - 1);
}
