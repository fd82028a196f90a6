/** A domain of an SMMU, with an ASID (stage 1) or a VMID (stage 2), and its invalidations in Linux's shapes. */
import {
  ATC_SIZE_ALL,
  OP,
  TG0_16K,
  TG0_4K,
  TG0_64K,
  encodeCommand,
} from "../../smmuv3/spec/index.js";
import { coveringBlock } from "../iommu/blocks.js";
import { Domain } from "../iommu/domain.js";
import { PageTable } from "../iommu/page-table.js";
import type { SmmuDriver } from "./driver.js";
import type { SmmuMaster } from "./master.js";
import { vmsaFormat } from "./page-table-format.js";

/** Largest NUM of a range invalidation: 5 bits. */
const RANGE_NUM_MAX = 31;

export class SmmuDomain extends Domain<SmmuMaster> {
  private constructor(
    readonly driver: SmmuDriver,
    table: PageTable,
    /** ASID of stage 1, VMID of stage 2. */
    id: number,
    reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>,
  ) {
    super(table, id, reserved);
  }

  /** Used by SmmuDriver.createDomain. */
  static async create(driver: SmmuDriver, granule: number, id: number, reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>): Promise<SmmuDomain> {
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

/**
 * The TLBI commands for a range (Linux's __arm_smmu_tlb_inv_range): with IDR3.RIL pieces of (NUM + 1) *
 * 2^SCALE pages, else one command a leaf. TTL is given for leaves only (Arm IHI 0070, 4.4.1.1).
 */
export function rangeCommands(
  stage: 1 | 2,
  id: number,
  iova: bigint,
  size: number,
  granule: number,
  leaf: boolean,
  how: { readonly ranges: boolean; readonly pageShift: number },
): Int32Array[] {
  const opcode = stage === 1 ? OP.TLBI_NH_VA : OP.TLBI_S2_IPA;
  const tag = stage === 1 ? { ASID: id } : { VMID: id };
  const out: Int32Array[] = [];
  if (!how.ranges) {
    for (let done = 0; done < size; done += granule) {
      out.push(encodeCommand(opcode, { ...tag, LEAF: leaf, ADDRESS: (iova + BigInt(done)) & ~0xfffn }));
    }
    return out;
  }
  const { pageShift } = how;
  let pages = Math.floor(size / 2 ** pageShift);
  let ttl = 0;
  if (leaf) {
    ttl = 4 - Math.floor((Math.log2(granule) - 3) / (pageShift - 3));
  } else if (pages % (RANGE_NUM_MAX + 1) === 1) {
    // NUM and SCALE both 0 with TTL 0 would be the form without a range.
    pages++;
  }
  const end = iova + BigInt(size);
  for (let at = iova; at < end; ) {
    let scale = 0;
    while (Math.floor(pages / 2 ** scale) % 2 === 0) {
      scale++;
    }
    const num = Math.floor(pages / 2 ** scale) % (RANGE_NUM_MAX + 1);
    out.push(encodeCommand(opcode, { ...tag, NUM: num - 1, SCALE: scale, LEAF: leaf, TTL: ttl, TG: (pageShift - 10) / 2, ADDRESS: at & ~0xfffn }));
    at += BigInt(num * 2 ** (scale + pageShift));
    pages -= num * 2 ** scale;
  }
  return out;
}

/** ATC_INV of the smallest naturally aligned power of two of 4 KiB pages that covers the range; size 0: everything. */
export function atcCommand(sid: number, substreamId: number | null, iova: bigint, size: number): Int32Array {
  const ssid = substreamId === null ? {} : { SSV: 1, SSID: substreamId };
  if (size === 0) {
    return encodeCommand(OP.ATC_INV, { SID: sid, ...ssid, ATC_SIZE: ATC_SIZE_ALL });
  }
  const { start, order } = coveringBlock(iova, size);
  return encodeCommand(OP.ATC_INV, { SID: sid, ...ssid, ATC_SIZE: order, ADDRESS: start });
}
