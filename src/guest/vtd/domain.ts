/** A domain of a VT-d unit, with a domain id, and its invalidations as Linux's cache tags make them. */
import { coveringBlock } from "../iommu/blocks.js";
import { Domain, type DomainMaster } from "../iommu/domain.js";
import { PageTable } from "../iommu/page-table.js";
import { GRANULARITY_DOMAIN, GRANULARITY_SELECTIVE, PASID_IOTLB_PAGE, PASID_IOTLB_PASID } from "../../vtd/spec/index.js";
import type { GuestMemory } from "../memory.js";
import type { VtdFeatures } from "./features.js";
import { descriptor } from "./invalidation-queue.js";
import { firstStageFormat, secondStageFormat } from "./page-table-format.js";

/** A device-TLB invalidation of everything: all 64 bits of address. */
export const EVERYTHING = 52;

/** What a domain asks of its unit. */
export interface UnitOfDomain {
  readonly memory: GuestMemory;
  readonly features: VtdFeatures;
  /** Bits of a physical address. */
  readonly addressWidth: number;
  invalidate(descriptors: readonly Int32Array[]): Promise<void>;
  flushWriteBuffer(): Promise<void>;
  releaseDomainId(id: number): void;
}

/** A function that uses a domain. */
interface VtdUser extends DomainMaster {
  /** Device-TLB invalidations of 2^`order` pages, 52 for everything; qualified by the PASID where there is one. */
  deviceTlb(pasid: number | null, start: bigint, order: number): Int32Array[];
}

export class VtdDomain extends Domain<VtdUser> {
  private constructor(
    readonly driver: UnitOfDomain,
    table: PageTable,
    /** Domain id (DID). */
    id: number,
    reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>,
  ) {
    super(table, id, reserved);
  }

  /** Used by VtdDriver.createDomain. */
  static async create(driver: UnitOfDomain, id: number, reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>): Promise<VtdDomain> {
    const { features, addressWidth } = driver;
    const format = features.firstStage
      ? firstStageFormat(4, features.firstStage1g, addressWidth)
      : secondStageFormat(features.secondStageLevels, features.secondStageBits, features.secondStageSizes, addressWidth);
    return new VtdDomain(driver, await PageTable.create(driver.memory, format), id, reserved);
  }

  /** Only second-stage entries are cached while they are not present, and only with caching mode (6.1). */
  protected override async mapped(iova: bigint, size: number): Promise<void> {
    if (this.driver.features.cachingMode && this.stage === 2) {
      await this.invalidate(iova, size, false);
    } else {
      await this.driver.flushWriteBuffer();
    }
  }

  invalidateRange(iova: bigint, size: number, _granule: number, leaf: boolean): Promise<void> {
    return this.invalidate(iova, size, leaf);
  }

  private async invalidate(iova: bigint, size: number, leaf: boolean): Promise<void> {
    if (this.users.length === 0) {
      return;
    }
    const { start, order } = coveringBlock(iova, size);
    await this.driver.invalidate([...this.iotlb(start, order, leaf), ...this.deviceTlbs(start, order)]);
  }

  /** Everything of the domain, where it still has users: who leaves takes its entry's caches with it. */
  async invalidateAll(): Promise<void> {
    if (this.users.length > 0) {
      await this.driver.invalidate([...this.iotlb(0n, EVERYTHING, false), ...this.deviceTlbs(0n, EVERYTHING)]);
    }
  }

  private iotlb(start: bigint, order: number, leaf: boolean): Int32Array[] {
    const { features } = this.driver;
    const selective = order <= features.maxAddressMask && features.pageSelective;
    if (this.stage === 1) {
      const pasids = [...new Set(this.users.map((user) => user.pasid ?? 0))];
      return pasids.map((pasid) =>
        selective
          ? descriptor("PASID_IOTLB", { G: PASID_IOTLB_PAGE, DID: this.id, PASID: pasid, AM: order, IH: leaf, ADDR: start })
          : descriptor("PASID_IOTLB", { G: PASID_IOTLB_PASID, DID: this.id, PASID: pasid }),
      );
    }
    return [
      selective
        ? descriptor("IOTLB", { G: GRANULARITY_SELECTIVE, DW: 1, DR: 1, DID: this.id, AM: order, IH: leaf, ADDR: start })
        : descriptor("IOTLB", { G: GRANULARITY_DOMAIN, DW: 1, DR: 1, DID: this.id }),
    ];
  }

  private deviceTlbs(start: bigint, order: number): Int32Array[] {
    return this.users.filter((user) => user.master.atsEnabled).flatMap((user) => user.master.deviceTlb(user.pasid, start, order));
  }

  protected releaseId(): void {
    this.driver.releaseDomainId(this.id);
  }
}

