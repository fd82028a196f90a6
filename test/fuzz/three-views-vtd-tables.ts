/**
 * What a guest's memory manager does to VT-d page tables: leaves of all sizes come, change and go, superpages are
 * split and joined, tables are replaced. Each change tells what has to be invalidated after it.
 */
import type { Random } from "./random.js";

/** Memory of a guest for its tables. */
export interface TableMemory {
  load(address: number): bigint;
  store(address: number, ...words: bigint[]): void;
  /** Copies a page. */
  copy(from: number, to: number): void;
  /** An empty page; null: none is left. */
  page(): number | null;
  /** A page is no longer part of tables; it may be cached until all is invalidated. */
  release(page: number): void;
}

/** Page tables and the domain that they are for. */
export interface Space {
  readonly name: string;
  readonly first: boolean;
  domain: number;
  root: number;
  readonly levels: number;
}

/** What changed: 2^`bits` bytes around an address; whether entries were present before; whether only leaves changed. */
export interface Change {
  readonly address: bigint;
  readonly bits: number;
  readonly addedOnly: boolean;
  readonly leafOnly: boolean;
  readonly text: string;
}

const ADDRESS = 0x000f_ffff_ffff_f000n;
const LARGE = 0x80n;
/** Where guests map to: RAM whose pages tell their addresses. */
export const TARGETS = 0x80_0000;
export const TARGETS_END = 0x200_0000;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

export class TableEditor {
  constructor(private readonly memory: TableMemory) {}

  private present(space: Space, entry: bigint): boolean {
    return (entry & (space.first ? 1n : 3n)) !== 0n;
  }

  private isLeaf(entry: bigint, level: number): boolean {
    return level === 1 || (level <= 3 && (entry & LARGE) !== 0n);
  }

  private slot(table: number, level: number, address: bigint): number {
    return table + 8 * Number((address >> BigInt(3 + 9 * level)) & 0x1ffn);
  }

  /** Entries on the way down, from the top to a leaf or a hole. */
  private path(space: Space, address: bigint): Array<{ at: number; entry: bigint; level: number }> {
    const out = [];
    let table = space.root;
    for (let level = space.levels; level >= 1; level--) {
      const at = this.slot(table, level, address);
      const entry = this.memory.load(at);
      out.push({ at, entry, level });
      if (!this.present(space, entry) || this.isLeaf(entry, level)) {
        break;
      }
      table = Number(entry & ADDRESS);
    }
    return out;
  }

  /** Permission bits: mostly all. */
  private access(space: Space, random: Random): bigint {
    if (space.first) {
      return 1n | (random.oneIn(4) ? 0n : 2n) | (random.oneIn(8) ? 0n : 4n);
    }
    return random.oneIn(4) ? 1n : 3n;
  }

  private leaf(space: Space, level: number, random: Random): bigint {
    const bytes = 2 ** (3 + 9 * level);
    const target = level >= 3 ? 0 : TARGETS + bytes * random.below((TARGETS_END - TARGETS) / bytes);
    return BigInt(target) | this.access(space, random) | (level > 1 ? LARGE : 0n);
  }

  private tableEntry(space: Space, table: number): bigint {
    return BigInt(table) | (space.first ? 7n : 3n);
  }

  /** Maps a leaf of a level, whatever is there: tables are made, superpages split, tables joined. */
  map(space: Space, address: bigint, level: number, random: Random): Change | null {
    return this.put(space, address, level, this.leaf(space, level, random), "map");
  }

  private put(space: Space, address: bigint, level: number, leaf: bigint, verb: string): Change | null {
    const way = this.path(space, address);
    const last = way.find((one) => one.level === level) ?? way[way.length - 1];
    let value = leaf;
    // Tables from the bottom up, complete before the entry that leads to them.
    const split = this.present(space, last.entry) && last.level > level;
    let from = last.entry;
    const tables: number[] = [];
    for (let at = last.level - 1; at >= level; at--) {
      const page = this.memory.page();
      if (page === null) {
        tables.forEach((one) => this.memory.release(one));
        return null;
      }
      tables.push(page);
      if (split) {
        const bytes = 1n << BigInt(3 + 9 * at);
        const base = from & ADDRESS & ~(bytes * 512n - 1n);
        const bits = (from & 7n) | (at > 1 ? LARGE : 0n);
        this.memory.store(page, ...Array.from({ length: 512 }, (_unused, i) => (base + BigInt(i) * bytes) | bits));
        from = this.memory.load(this.slot(page, at, address));
      }
    }
    for (let at = level; at < last.level; at++) {
      const page = tables[last.level - 1 - at];
      this.memory.store(this.slot(page, at, address), value);
      value = this.tableEntry(space, page);
    }
    return this.replace(space, address, last, value, `${verb} a level ${level} leaf ${hex(leaf)}`);
  }

  private replace(space: Space, address: bigint, { at, entry, level }: { at: number; entry: bigint; level: number }, value: bigint, verb: string, keep = false): Change {
    const wasLeaf = !this.present(space, entry) || this.isLeaf(entry, level);
    const isLeaf = !this.present(space, value) || this.isLeaf(value, level);
    this.memory.store(at, value);
    if (!wasLeaf && !keep) {
      this.release(space, Number(entry & ADDRESS), level - 1);
    }
    return {
      address,
      bits: 3 + 9 * level,
      addedOnly: !this.present(space, entry),
      leafOnly: wasLeaf && isLeaf,
      text: `${space.name} at ${hex(address)}: ${verb}; the level ${level} entry ${hex(entry)} becomes ${hex(value)}`,
    };
  }

  private release(space: Space, table: number, level: number): void {
    if (level > 1) {
      for (let i = 0; i < 512; i++) {
        const entry = this.memory.load(table + 8 * i);
        if (this.present(space, entry) && !this.isLeaf(entry, level)) {
          this.release(space, Number(entry & ADDRESS), level - 1);
        }
      }
    }
    this.memory.release(table);
  }

  /** Frees all of a space's tables. */
  free(space: Space): void {
    this.release(space, space.root, space.levels);
  }

  /** A leaf, or a table with all below it, goes. */
  unmap(space: Space, address: bigint, random: Random): Change | null {
    const way = this.path(space, address).filter(({ entry }) => this.present(space, entry));
    if (way.length === 0) {
      return null;
    }
    return this.replace(space, address, random.oneIn(3) ? random.pick(way) : way[way.length - 1], 0n, "unmap");
  }

  /** Other permissions in an entry of any level. */
  protect(space: Space, address: bigint, random: Random): Change | null {
    const way = this.path(space, address).filter(({ entry }) => this.present(space, entry));
    if (way.length === 0) {
      return null;
    }
    const one = random.oneIn(2) ? random.pick(way) : way[way.length - 1];
    const value = (one.entry & ~(space.first ? 7n : 3n)) | this.access(space, random);
    return value === one.entry ? null : this.replace(space, address, one, value, "protect", true);
  }

  /** A superpage becomes a table of the same translations, of which one may be another. */
  split(space: Space, address: bigint, random: Random): Change | null {
    const last = this.path(space, address).at(-1)!;
    if (last.level === 1 || !this.present(space, last.entry)) {
      return null;
    }
    const level = 1 + random.below(last.level - 1);
    return this.put(space, address, level, this.leaf(space, level, random), "split for");
  }

  /** A table is replaced by a copy in which an entry is another. */
  retable(space: Space, address: bigint, random: Random): Change | null {
    const way = this.path(space, address).filter(({ entry, level }) => this.present(space, entry) && !this.isLeaf(entry, level));
    const one = way.length === 0 ? undefined : random.pick(way);
    const page = one === undefined ? null : this.memory.page();
    if (one === undefined || page === null) {
      return null;
    }
    this.memory.copy(Number(one.entry & ADDRESS), page);
    const level = one.level - 1;
    const at = this.slot(page, level, address);
    const old = this.memory.load(at);
    if (!this.present(space, old) || this.isLeaf(old, level)) {
      this.memory.store(at, level > 3 ? 0n : random.oneIn(4) ? 0n : this.leaf(space, level, random));
    }
    this.memory.release(Number(one.entry & ADDRESS));
    return this.replace(space, address, one, (one.entry & ~ADDRESS) | BigInt(page), "another table", true);
  }

  /** The first table is replaced by a copy in which the entry of an address is gone, or leads to a copy again. Answers the old one. */
  reroot(space: Space, address: bigint, random: Random): number | null {
    const page = this.memory.page();
    if (page === null) {
      return null;
    }
    const old = space.root;
    this.memory.copy(old, page);
    space.root = page;
    if (random.oneIn(2)) {
      const at = this.slot(page, space.levels, address);
      const entry = this.memory.load(at);
      if (this.present(space, entry)) {
        const under = this.memory.page();
        if (under !== null) {
          this.memory.copy(Number(entry & ADDRESS), under);
          this.memory.store(this.slot(under, space.levels - 1, address), this.leaf(space, space.levels - 1, random));
          this.memory.store(at, (entry & ~ADDRESS) | BigInt(under));
        }
      }
    }
    return old;
  }
}
