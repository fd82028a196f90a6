/**
 * A translation domain: page tables, the IOVAs handed out in it, the functions and PASIDs that use it, and when
 * its changes need invalidations. Which ones they are is the driver's.
 */
import { check } from "../failure.js";
import { IovaAllocator } from "./iova.js";
import type { PageTable, Protection } from "./page-table.js";

/** What a domain knows of a function that uses it. */
export interface DomainMaster {
  readonly name: string;
  /** StreamIDs, or source-ids. */
  readonly sourceIds: readonly number[];
  readonly atsEnabled: boolean;
}

export interface DomainUser<M extends DomainMaster = DomainMaster> {
  readonly master: M;
  /** Null: the function's own traffic, without a PASID. */
  readonly pasid: number | null;
}

export abstract class Domain<M extends DomainMaster = DomainMaster> {
  readonly users: Array<DomainUser<M>> = [];
  readonly iovas: IovaAllocator;
  private readonly buffers = new Map<bigint, number>();

  protected constructor(
    readonly table: PageTable,
    /** What TLBs know it by. */
    readonly id: number,
    reserved: ReadonlyArray<{ readonly base: number; readonly size: number }>,
  ) {
    this.iovas = new IovaAllocator(reserved, table.pageSizes[0]);
  }

  get stage(): 1 | 2 {
    return this.table.stage;
  }

  /** TLBs and walk caches for a range; `granule` is the size of the leaves in it, `leaf` false where tables went too. */
  abstract invalidateRange(iova: bigint, size: number, granule: number, leaf: boolean): Promise<void>;

  /** Everything that is cached of the domain. */
  abstract invalidateAll(): Promise<void>;

  /** Gives the id back. */
  protected abstract releaseId(): void;

  /** After entries that were not present became so: most IOMMUs cache no such entries. */
  protected mapped(_iova: bigint, _size: number): Promise<void> {
    return Promise.resolve();
  }

  async map(iova: bigint, physical: number, size: number, protection: Protection): Promise<void> {
    await this.table.map(iova, physical, size, protection);
    await this.mapped(iova, size);
  }

  /** Unmaps and invalidates; returns after the invalidations have ended. */
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

  /** A function or PASID leaves; with the last one of them everything is invalidated, as Linux 7.2 does. */
  async removeUser(master: M, pasid: number | null): Promise<void> {
    const index = this.users.findIndex((user) => user.master === master && user.pasid === pasid);
    if (index >= 0) {
      this.users.splice(index, 1);
      if (this.users.length === 0) {
        await this.invalidateAll();
      }
    }
  }

  /** Frees the tables and the id. Throws GuestFailure while a function uses the domain. */
  async destroy(): Promise<void> {
    check(this.users.length === 0, () => `a domain that ${this.users[0].master.name} is attached to cannot be destroyed`);
    this.table.release();
    this.releaseId();
  }
}
