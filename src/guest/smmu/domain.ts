/** A domain of an SMMU, with an ASID (stage 1) or a VMID (stage 2), and its invalidations in Linux's shapes. */
import { OP, TG0_16K, TG0_4K, TG0_64K } from "../../smmuv3/spec/index.js";
import { Domain } from "../iommu/domain.js";
import { PageTable } from "../iommu/page-table.js";
import { atcCommand, rangeCommands } from "./invalidation-commands.js";
import type { CommandQueue } from "./command-queue.js";
import type { SmmuFeatures } from "./features.js";
import type { GuestMemory } from "../memory.js";
import { vmsaFormat } from "./page-table-format.js";

/** What a domain asks of its SMMU. */
export interface SmmuOfDomain {
  readonly memory: GuestMemory;
  readonly features: SmmuFeatures;
  readonly commands: CommandQueue;
  releaseDomainId(domain: SmmuDomain): void;
}

export class SmmuDomain extends Domain {
  private constructor(
    readonly driver: SmmuOfDomain,
    table: PageTable,
    /** ASID of stage 1, VMID of stage 2. */
    id: number,
    reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>,
  ) {
    super(table, id, reserved);
  }

  /** Used by SmmuDriver.createDomain. */
  static async create(driver: SmmuOfDomain, granule: number, id: number, reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>): Promise<SmmuDomain> {
    const { features } = driver;
    // 48 bits of virtual address for stage 1 (VA_BITS), the SMMU's intermediate size for stage 2.
    const format = features.stage1 ? vmsaFormat(1, granule, 48, features.ias) : vmsaFormat(2, granule, features.ias, features.oas);
    return new SmmuDomain(driver, await PageTable.create(driver.memory, format), id, reserved);
  }

  /** CD.TG0 or STE.S2TG. */
  get granuleField(): number {
    return this.table.granule === 12 ? TG0_4K : this.table.granule === 14 ? TG0_16K : TG0_64K;
  }

  /** TLBI_NH_ASID or TLBI_S12_VMALL, CMD_SYNC, and the ATCs. */
  async invalidateAll(): Promise<void> {
    if (this.stage === 1) {
      await this.driver.commands.issueAndSync(OP.TLBI_NH_ASID, { ASID: this.id });
    } else {
      await this.driver.commands.issueAndSync(OP.TLBI_S12_VMALL, { VMID: this.id });
    }
    await this.invalidateAtc(0n, 0);
  }

  async invalidateRange(iova: bigint, size: number, granule: number, leaf: boolean): Promise<void> {
    const commands = rangeCommands(this.stage, this.id, iova, size, granule, leaf, {
      ranges: this.driver.features.rangeInvalidation,
      pageShift: this.table.granule,
    });
    await this.driver.commands.issueBatch(commands);
    await this.invalidateAtc(iova, size);
  }

  private async invalidateAtc(iova: bigint, size: number): Promise<void> {
    const users = this.users.filter((user) => user.master.atsEnabled);
    if (!this.driver.features.ats || users.length === 0) {
      return;
    }
    await this.driver.commands.issueBatch(
      users.flatMap((user) => user.master.sourceIds.map((sid) => atcCommand(sid, user.pasid, iova, size))),
    );
  }

  protected releaseId(): void {
    this.driver.releaseDomainId(this);
  }
}
