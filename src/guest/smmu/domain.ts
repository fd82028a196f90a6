/**
 * A translation domain: page tables with an ASID (stage 1) or a VMID (stage 2), the streams and substreams
 * that use it, and the invalidations that its changes need, in Linux's shapes.
 */
import {
  ATC_SIZE_ALL,
  OP,
  TG0_16K,
  TG0_4K,
  TG0_64K,
  encodeCommand,
} from "../../smmuv3/spec/index.js";
import { check } from "../failure.js";
import type { SmmuDriver } from "./driver.js";
import { IovaAllocator } from "./iova.js";
import type { SmmuMaster } from "./master.js";
import { PageTable, type Protection } from "./page-table.js";

/** Largest NUM of a range invalidation: 5 bits. */
const RANGE_NUM_MAX = 31;

export interface DomainUser {
  readonly master: SmmuMaster;
  /** Null: the stream's own traffic, without a SubstreamID. */
  readonly substreamId: number | null;
}

export class Domain {
  readonly users: DomainUser[] = [];
  readonly iovas: IovaAllocator;
  private readonly buffers = new Map<bigint, number>();

  private constructor(
    readonly driver: SmmuDriver,
    readonly table: PageTable,
    /** ASID of stage 1, VMID of stage 2. */
    readonly id: number,
    reserved: ReadonlyArray<{ base: number; size: number }>,
  ) {
    this.iovas = new IovaAllocator(reserved, table.pageSizes[0]);
  }

  /** Used by SmmuDriver.createDomain. */
  static async create(driver: SmmuDriver, granule: number, id: number, reserved: ReadonlyArray<{ base: number; size: number }>): Promise<Domain> {
    const { features } = driver;
    // 48 bits of virtual address for stage 1 (VA_BITS), the SMMU's intermediate size for stage 2.
    const table = features.stage1
      ? await PageTable.create(driver.memory, 1, granule, 48, features.ias)
      : await PageTable.create(driver.memory, 2, granule, features.ias, features.oas);
    return new Domain(driver, table, id, reserved);
  }

  get stage(): 1 | 2 {
    return this.table.stage;
  }

  /** CD.TG0 or STE.S2TG. */
  get granuleField(): number {
    return this.table.granule === 12 ? TG0_4K : this.table.granule === 14 ? TG0_16K : TG0_64K;
  }

  /** Maps without any command: an entry that was invalid is not cached. */
  map(iova: bigint, physical: number, size: number, protection: Protection): Promise<void> {
    return this.table.map(iova, physical, size, protection);
  }

  /** Unmaps and invalidates; returns after the CMD_SYNC. */
  async unmap(iova: bigint, size: number): Promise<void> {
    let gathered: { from: bigint; to: bigint; granule: number } | null = null;
    const flush = async (): Promise<void> => {
      if (gathered !== null) {
        await this.invalidateRange(gathered.from, Number(gathered.to - gathered.from), gathered.granule, true);
        gathered = null;
      }
    };
    await this.table.unmap(iova, size, {
      page: async (at, bytes) => {
        // A leaf of another size, or not next to the others: what was gathered goes first.
        if (gathered !== null && (gathered.granule !== bytes || gathered.to !== at)) {
          await flush();
        }
        gathered = { from: gathered?.from ?? at, to: at + BigInt(bytes), granule: bytes };
      },
      walk: (at, bytes) => this.invalidateRange(at, bytes, this.table.pageSizes[0], false),
    });
    await flush();
  }

  /** Allocates an IOVA and maps there; the counterpart of dma_map_single. */
  async mapBuffer(physical: number, size: number, protection: Protection, limit?: number): Promise<bigint> {
    const page = this.table.pageSizes[0];
    const offset = physical % page;
    const bytes = Math.ceil((offset + size) / page) * page;
    const iova = this.iovas.allocate(bytes, limit);
    await this.map(iova, physical - offset, bytes, protection);
    this.buffers.set(iova, bytes);
    return iova + BigInt(offset);
  }

  /** Unmaps what mapBuffer mapped and gives the IOVA back. */
  async unmapBuffer(address: bigint): Promise<void> {
    const page = BigInt(this.table.pageSizes[0]);
    const iova = address - (address % page);
    await this.unmap(iova, this.buffers.get(iova) ?? Number(page));
    this.buffers.delete(iova);
    this.iovas.release(iova);
  }

  /** Everything of the domain: TLBI_NH_ASID or TLBI_S12_VMALL, CMD_SYNC, and the ATCs. */
  async invalidateAll(): Promise<void> {
    if (this.stage === 1) {
      await this.driver.commands.issueAndSync(OP.TLBI_NH_ASID, { ASID: this.id });
    } else {
      await this.driver.commands.issueAndSync(OP.TLBI_S12_VMALL, { VMID: this.id });
    }
    await this.invalidateAtc(0n, 0);
  }

  /** TLBs and walk caches for a range; `granule` is the size of the leaves in it. */
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
      users.flatMap((user) => user.master.streams.map((sid) => atcCommand(sid, user.substreamId, iova, size))),
    );
  }

  /** A stream or substream leaves; with the last one of them the ASID or VMID is flushed, as Linux 7.2 does. */
  async removeUser(master: SmmuMaster, substreamId: number | null): Promise<void> {
    const index = this.users.findIndex((user) => user.master === master && user.substreamId === substreamId);
    if (index >= 0) {
      this.users.splice(index, 1);
      if (this.users.length === 0) {
        await this.invalidateAll();
      }
    }
  }

  /** Frees the tables and the ASID or VMID. Throws GuestFailure while a stream uses the domain. */
  async destroy(): Promise<void> {
    check(this.users.length === 0, () => `a domain that ${this.users[0].master.name} is attached to cannot be destroyed`);
    this.table.release();
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
  const first = iova >> 12n;
  const last = (iova + BigInt(size) - 1n) >> 12n;
  let span = 0;
  while (first >> BigInt(span) !== last >> BigInt(span)) {
    span++;
  }
  const start = (first >> BigInt(span)) << BigInt(span);
  return encodeCommand(OP.ATC_INV, { SID: sid, ...ssid, ATC_SIZE: span, ADDRESS: start << 12n });
}
