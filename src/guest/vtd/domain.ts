/** A domain of a VT-d unit, with a domain id, and its invalidations as Linux's cache tags make them. */
import { coveringBlock } from "../iommu/blocks.js";
import { Domain } from "../iommu/domain.js";
import { PageTable } from "../iommu/page-table.js";
import { GRANULARITY_DOMAIN, GRANULARITY_SELECTIVE, PASID_IOTLB_PAGE, PASID_IOTLB_PASID } from "../../vtd/spec/index.js";
import type { VtdDriver } from "./driver.js";
import { descriptor } from "./invalidation-queue.js";
import type { VtdMaster } from "./master.js";
import { firstStageFormat, secondStageFormat } from "./page-table-format.js";

/** A device-TLB invalidation of everything: all 64 bits of address. */
export const EVERYTHING = 52;

export class VtdDomain extends Domain<VtdMaster> {
  private constructor(
    readonly driver: VtdDriver,
    table: PageTable,
    /** Domain id (DID). */
    id: number,
    reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>,
  ) {
    super(table, id, reserved);
  }

  /** Used by VtdDriver.createDomain. */
  static async create(driver: VtdDriver, id: number, reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>): Promise<VtdDomain> {
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

