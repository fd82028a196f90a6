/** Page tables in the guest's RAM, of any format whose tables are filled by whole levels; the drivers bring the formats. */
import { check } from "../failure.js";
import type { GuestMemory } from "../memory.js";

export interface Protection {
  readonly read?: boolean;
  readonly write?: boolean;
  /** Device memory (Arm: Device-nGnRE). */
  readonly device?: boolean;
  readonly noExecute?: boolean;
  /** First stage: privileged accesses only. */
  readonly privileged?: boolean;
}

/** What an unmap tells of itself, so that the TLBs can be told. */
export interface UnmapObserver {
  /** A leaf of `size` bytes is gone; may be gathered. */
  page(iova: bigint, size: number): Promise<void>;
  /** A whole table below `iova` is gone: to be invalidated at once, walk caches included. */
  walk(iova: bigint, size: number): Promise<void>;
}

/** How tables of one architecture look: geometry and entries. Levels count towards 3, whose entries are pages. */
export interface PageTableFormat {
  readonly stage: 1 | 2;
  /** log2 of the smallest page. */
  readonly granule: number;
  readonly inputBits: number;
  readonly outputBits: number;
  /** -1 to 2. */
  readonly startLevel: number;
  /** Entries of the first table, which may be several tables side by side. */
  readonly rootEntries: number;
  /** Leaf sizes in bytes, smallest first. */
  readonly pageSizes: readonly number[];
  present(entry: bigint): boolean;
  tableEntry(address: number): bigint;
  attributes(protection: Protection): bigint;
  leafEntry(physical: number, level: number, attributes: bigint): bigint;
}

const ADDRESS_MASK = 0x000f_ffff_ffff_f000n;

interface Table {
  readonly address: number;
  readonly entries: BigUint64Array;
  readonly children: Map<number, Table>;
}

export class PageTable {
  private readonly bitsPerLevel: number;

  private constructor(
    private readonly memory: GuestMemory,
    readonly format: PageTableFormat,
    private readonly root: Table,
  ) {
    this.bitsPerLevel = format.granule - 3;
  }

  static async create(memory: GuestMemory, format: PageTableFormat): Promise<PageTable> {
    const address = await memory.allocateZeroed(format.rootEntries * 8);
    return new PageTable(memory, format, { address, entries: new BigUint64Array(format.rootEntries), children: new Map<number, Table>() });
  }

  get stage(): 1 | 2 {
    return this.format.stage;
  }

  /** log2 of the smallest page. */
  get granule(): number {
    return this.format.granule;
  }

  get inputBits(): number {
    return this.format.inputBits;
  }

  get outputBits(): number {
    return this.format.outputBits;
  }

  get startLevel(): number {
    return this.format.startLevel;
  }

  /** Guest-physical address of the first table. */
  get rootAddress(): number {
    return this.root.address;
  }

  /** Leaf sizes in bytes, smallest first. */
  get pageSizes(): readonly number[] {
    return this.format.pageSizes;
  }

  /** Maps `size` bytes with the largest leaves that fit. Throws GuestFailure where something is mapped there already. */
  async map(iova: bigint, physical: number, size: number, protection: Protection): Promise<void> {
    const smallest = this.pageSizes[0];
    check(
      iova % BigInt(smallest) === 0n && physical % smallest === 0 && size % smallest === 0 && size > 0,
      () => `map of 0x${iova.toString(16)} to 0x${physical.toString(16)}, 0x${size.toString(16)} bytes, is not aligned to the granule`,
    );
    const attributes = this.format.attributes(protection);
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
    const entries = level === this.startLevel ? this.format.rootEntries : 1 << this.bitsPerLevel;
    return Number((iova >> BigInt(shift)) & BigInt(entries - 1));
  }

  /** Descends to the table of `level`, making what is missing. */
  private async tableFor(iova: bigint, level: number): Promise<Table> {
    let table = this.root;
    for (let at = this.startLevel; at < level; at++) {
      const index = this.indexAt(iova, at);
      let next = table.children.get(index);
      if (next === undefined) {
        check(!this.format.present(table.entries[index]), () => `0x${iova.toString(16)} is mapped by a block already`);
        const entries = 1 << this.bitsPerLevel;
        next = { address: await this.memory.allocateZeroed(entries * 8), entries: new BigUint64Array(entries), children: new Map() };
        table.children.set(index, next);
        await this.writeEntries(table, index, [this.format.tableEntry(next.address)]);
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
    const values: bigint[] = [];
    for (let i = 0; i < run; i++) {
      check(!this.format.present(table.entries[first + i]), () => `0x${(iova + BigInt(i * leaf)).toString(16)} is mapped already`);
      values.push(this.format.leafEntry(physical + i * leaf, level, attributes));
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
    check(this.format.present(table.entries[index]), () => `0x${iova.toString(16)} is not mapped`);
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
      if (!this.format.present(entry)) {
        return null;
      }
      const size = 1n << BigInt(this.granule + (3 - level) * this.bitsPerLevel);
      return Number((entry & ADDRESS_MASK & ~(size - 1n)) | (iova & (size - 1n)));
    }
    return null;
  }
}
