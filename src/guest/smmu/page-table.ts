/**
 * VMSAv8-64 page tables in the guest's RAM, stage 1 (TTB0) or stage 2, for a 4, 16 or 64 KiB granule, with the
 * sizes, attributes and the order of invalidation of Linux's io-pgtable-arm (Arm DDI 0487, D8).
 */
import { check } from "../failure.js";
import type { GuestMemory } from "../memory.js";

export interface Protection {
  readonly read?: boolean;
  readonly write?: boolean;
  /** Device memory: Device-nGnRE. */
  readonly device?: boolean;
  readonly noExecute?: boolean;
  /** Stage 1: privileged accesses only. */
  readonly privileged?: boolean;
}

/** What an unmap tells of itself, so that the TLBs can be told. */
export interface UnmapObserver {
  /** A leaf of `size` bytes is gone; may be gathered. */
  page(iova: bigint, size: number): Promise<void>;
  /** A whole table below `iova` is gone: to be invalidated at once, walk caches included. */
  walk(iova: bigint, size: number): Promise<void>;
}

const VALID = 1n;
/** Bits [1:0] of a table descriptor, and of a page at the last level. */
const TABLE_OR_PAGE = 3n;
const ACCESS_FLAG = 1n << 10n;
const INNER_SHAREABLE = 3n << 8n;
const NOT_GLOBAL = 1n << 11n;
const AP_UNPRIVILEGED = 1n << 6n;
const AP_READ_ONLY = 1n << 7n;
const EXECUTE_NEVER = 3n << 53n;
const S2AP_READ = 1n << 6n;
const S2AP_WRITE = 1n << 7n;
/** MAIR indices: 0 Normal non-cacheable, 1 Normal write-back, 2 Device-nGnRE, 3 inner non-cacheable. */
export const MAIR = 0xf404_ff44;
const ATTR_WRITE_BACK = 1n << 2n;
const ATTR_DEVICE = 2n << 2n;
/** Stage 2 MemAttr: Normal inner and outer write-back; Device-nGnRE. */
const S2_WRITE_BACK = 0xfn << 2n;
const S2_DEVICE = 1n << 2n;
const ADDRESS_MASK = 0x0000_ffff_ffff_f000n;

interface Table {
  readonly address: number;
  readonly entries: BigUint64Array;
  readonly children: Map<number, Table>;
}

export class PageTable {
  private readonly bitsPerLevel: number;
  readonly startLevel: number;
  /** Entries of the (concatenated) first table. */
  private readonly rootEntries: number;

  private constructor(
    private readonly memory: GuestMemory,
    readonly stage: 1 | 2,
    /** log2 of the granule: 12, 14 or 16. */
    readonly granule: number,
    readonly inputBits: number,
    readonly outputBits: number,
    private readonly root: Table,
    geometry: Geometry,
  ) {
    this.bitsPerLevel = granule - 3;
    this.startLevel = geometry.startLevel;
    this.rootEntries = geometry.rootEntries;
  }

  static async create(memory: GuestMemory, stage: 1 | 2, granule: number, inputBits: number, outputBits: number): Promise<PageTable> {
    const geometry = tableGeometry(stage, granule, inputBits);
    const address = await memory.allocateZeroed(geometry.rootEntries * 8);
    const root = { address, entries: new BigUint64Array(geometry.rootEntries), children: new Map<number, Table>() };
    return new PageTable(memory, stage, granule, inputBits, outputBits, root, geometry);
  }

  /** TTB0, or S2TTB. */
  get rootAddress(): number {
    return this.root.address;
  }

  /** Leaf sizes in bytes, smallest first: 4 KiB, 2 MiB, 1 GiB; 16 KiB, 32 MiB; 64 KiB, 512 MiB. */
  get pageSizes(): number[] {
    return this.granule === 12 ? [2 ** 12, 2 ** 21, 2 ** 30] : this.granule === 14 ? [2 ** 14, 2 ** 25] : [2 ** 16, 2 ** 29];
  }

  /** Maps `size` bytes with the largest leaves that fit. Throws GuestFailure where something is mapped there already. */
  async map(iova: bigint, physical: number, size: number, protection: Protection): Promise<void> {
    const smallest = this.pageSizes[0];
    check(
      iova % BigInt(smallest) === 0n && physical % smallest === 0 && size % smallest === 0 && size > 0,
      () => `map of 0x${iova.toString(16)} to 0x${physical.toString(16)}, 0x${size.toString(16)} bytes, is not aligned to the granule`,
    );
    const attributes = this.attributes(protection);
    for (let done = 0; done < size; ) {
      const at = iova + BigInt(done);
      const leaf = this.largestLeaf(at, physical + done, size - done);
      const count = await this.mapRun(at, physical + done, leaf, Math.floor((size - done) / leaf), attributes);
      done += leaf * count;
    }
  }

  /** Unmaps `size` bytes; what is not mapped is an error. */
  async unmap(iova: bigint, size: number, observer: UnmapObserver): Promise<void> {
    for (let done = 0; done < size; ) {
      const at = iova + BigInt(done);
      const leaf = this.largestLeaf(at, 0, size - done);
      done += await this.unmapOne(at, leaf, observer);
    }
  }

  /** Gives the tables back. */
  release(): void {
    const free = (table: Table): void => {
      table.children.forEach(free);
      this.memory.release(table.address);
    };
    free(this.root);
  }

  private attributes(protection: Protection): bigint {
    const device = protection.device === true;
    let bits = ACCESS_FLAG | INNER_SHAREABLE;
    if (this.stage === 1) {
      bits |= NOT_GLOBAL | (device ? ATTR_DEVICE : ATTR_WRITE_BACK);
      if (protection.write !== true) {
        bits |= AP_READ_ONLY;
      }
      if (protection.privileged !== true) {
        bits |= AP_UNPRIVILEGED;
      }
    } else {
      bits |= device ? S2_DEVICE : S2_WRITE_BACK;
      bits |= (protection.read === false ? 0n : S2AP_READ) | (protection.write === true ? S2AP_WRITE : 0n);
    }
    return protection.noExecute === true ? bits | EXECUTE_NEVER : bits;
  }

  private largestLeaf(iova: bigint, physical: number, size: number): number {
    const fits = this.pageSizes.filter((leaf) => leaf <= size && iova % BigInt(leaf) === 0n && physical % leaf === 0);
    check(fits.length > 0, () => `0x${iova.toString(16)} with 0x${size.toString(16)} bytes left is not aligned to the granule`);
    return fits[fits.length - 1];
  }

  private levelOf(leaf: number): number {
    return 3 - (Math.log2(leaf) - this.granule) / this.bitsPerLevel;
  }

  private indexAt(iova: bigint, level: number): number {
    const shift = this.granule + (3 - level) * this.bitsPerLevel;
    const entries = level === this.startLevel ? this.rootEntries : 1 << this.bitsPerLevel;
    return Number((iova >> BigInt(shift)) & BigInt(entries - 1));
  }

  /** Descends to the table of `level`, making what is missing. */
  private async tableFor(iova: bigint, level: number): Promise<Table> {
    let table = this.root;
    for (let at = this.startLevel; at < level; at++) {
      const index = this.indexAt(iova, at);
      let next = table.children.get(index);
      if (next === undefined) {
        check((table.entries[index] & VALID) === 0n, () => `0x${iova.toString(16)} is mapped by a block already`);
        const entries = 1 << this.bitsPerLevel;
        next = { address: await this.memory.allocateZeroed(entries * 8), entries: new BigUint64Array(entries), children: new Map() };
        table.children.set(index, next);
        await this.writeEntries(table, index, [BigInt(next.address) | TABLE_OR_PAGE]);
      }
      table = next;
    }
    return table;
  }

  private async mapRun(iova: bigint, physical: number, leaf: number, count: number, attributes: bigint): Promise<number> {
    const level = this.levelOf(leaf);
    const table = await this.tableFor(iova, level);
    const first = this.indexAt(iova, level);
    const run = Math.min(count, table.entries.length - first);
    const type = level === 3 ? TABLE_OR_PAGE : VALID;
    const values: bigint[] = [];
    for (let i = 0; i < run; i++) {
      check((table.entries[first + i] & VALID) === 0n, () => `0x${(iova + BigInt(i * leaf)).toString(16)} is mapped already`);
      values.push(BigInt(physical + i * leaf) | attributes | type);
    }
    await this.writeEntries(table, first, values);
    return run;
  }

  /** Takes away what an entry of leaf size maps: a leaf, or the whole table below. Returns its bytes. */
  private async unmapOne(iova: bigint, leaf: number, observer: UnmapObserver): Promise<number> {
    const level = this.levelOf(leaf);
    let table = this.root;
    for (let at = this.startLevel; at < level; at++) {
      const next = table.children.get(this.indexAt(iova, at));
      check(next !== undefined, () => `0x${iova.toString(16)} is not mapped by leaves of ${leaf} bytes`);
      table = next;
    }
    const index = this.indexAt(iova, level);
    check((table.entries[index] & VALID) !== 0n, () => `0x${iova.toString(16)} is not mapped`);
    const below = table.children.get(index);
    await this.writeEntries(table, index, [0n]);
    if (below === undefined) {
      await observer.page(iova, leaf);
    } else {
      await observer.walk(iova, leaf);
      table.children.delete(index);
      const free = (gone: Table): void => {
        gone.children.forEach(free);
        this.memory.release(gone.address);
      };
      free(below);
    }
    return leaf;
  }

  private async writeEntries(table: Table, index: number, values: readonly bigint[]): Promise<void> {
    const bytes = new Uint8Array(values.length * 8);
    const view = new DataView(bytes.buffer);
    values.forEach((value, i) => {
      table.entries[index + i] = value;
      view.setBigUint64(i * 8, value, true);
    });
    await this.memory.write(table.address + index * 8, bytes);
  }

  /** The physical address that an IOVA is mapped to; null where it is not. */
  lookup(iova: bigint): number | null {
    let table = this.root;
    for (let level = this.startLevel; level <= 3; level++) {
      const index = this.indexAt(iova, level);
      const next = table.children.get(index);
      if (next !== undefined) {
        table = next;
        continue;
      }
      const entry = table.entries[index];
      if ((entry & VALID) === 0n) {
        return null;
      }
      const size = 1n << BigInt(this.granule + (3 - level) * this.bitsPerLevel);
      return Number((entry & ADDRESS_MASK & ~(size - 1n)) | (iova & (size - 1n)));
    }
    return null;
  }
}

interface Geometry {
  readonly startLevel: number;
  readonly rootEntries: number;
}

/** Where the walk starts, and how large the first table is; stage 2 concatenates up to 16 tables instead of a level 0 (DDI 0487, D8.2.2). */
function tableGeometry(stage: 1 | 2, granule: number, inputBits: number): Geometry {
  const perLevel = granule - 3;
  const bits = inputBits - granule;
  const levels = Math.ceil(bits / perLevel);
  const rootEntries = 1 << (bits - (levels - 1) * perLevel);
  const startLevel = 4 - levels;
  if (stage === 2 && startLevel === 0 && rootEntries <= 16) {
    return { startLevel: 1, rootEntries: rootEntries << perLevel };
  }
  return { startLevel, rootEntries };
}
