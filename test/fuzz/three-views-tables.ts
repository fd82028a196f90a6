/**
 * What a guest's memory manager does to page tables of four levels (4: the first table, 1: pages of 4 KiB): leaves of all sizes come, change and go, superpages are
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

/** What entries of an architecture's tables look like. */
export interface Format {
  /** The address in an entry, below bit 52. */
  readonly addressMask: bigint;
  present(entry: bigint): boolean;
  /** Of a present entry. */
  isLeaf(entry: bigint, level: number): boolean;
  /** A leaf with permissions of some kind. */
  leaf(level: number, target: number, random: Random): bigint;
  /** The part of a superpage as an entry of a lower level. */
  part(entry: bigint, level: number, target: bigint): bigint;
  table(page: number): bigint;
  /** Other permissions in an entry. */
  protect(entry: bigint, isLeaf: boolean, random: Random): bigint;
  /** The first address of memory. */
  readonly base: number;
}

/** Page tables and the tag that they are cached under. */
export interface Space {
  readonly name: string;
  readonly format: Format;
  /** Domain id or ASID. */
  domain: number;
  /** Offset of the first table in memory. */
  root: number;
  readonly levels: number;
}

/** What changed: 2^`bits` bytes around an address; whether entries were present before; whether only leaves changed. */
export interface Change {
  readonly address: bigint;
  readonly bits: number;
  readonly addedOnly: boolean;
  /** A leaf was there before, of this level (0: none), whatever came in its place. */
  readonly leafBefore: number;
  readonly leafOnly: boolean;
  readonly text: string;
}

/** Where guests map to: RAM, from its start, whose pages tell their addresses. */
export const TARGETS = 0x80_0000;
export const TARGETS_END = 0x200_0000;
/** What the first word of a target holds, beside its address. The second takes writes. */
export const MARK = 0x5eedn << 48n;
export const MARK_MASK = 0xffffn << 48n;
/** Input addresses that end inside of targets wherever a leaf of any size leads. */
export const ADDRESSES = [
  0x1_0080_0000n, 0x1_0080_1000n, 0x1_009f_f000n, 0x1_00a0_0000n, 0x1_0100_5000n, 0x1_4080_0000n, 0x81_0080_1000n, 0x90_0000n, 0x90_1000n, 0x4080_0000n,
] as const;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

export class TableEditor {
  constructor(private readonly memory: TableMemory) {}

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
      if (!space.format.present(entry) || space.format.isLeaf(entry, level)) {
        break;
      }
      table = this.pageOf(space, entry);
    }
    return out;
  }

  private leaf(space: Space, level: number, random: Random): bigint {
    const { format } = space;
    const bytes = 2 ** (3 + 9 * level);
    return format.leaf(level, format.base + (level >= 3 ? 0 : TARGETS + bytes * random.below((TARGETS_END - TARGETS) / bytes)), random);
  }

  /** The page that a table's entry leads to, as an offset in memory. */
  private pageOf(space: Space, entry: bigint): number {
    return Number(entry & space.format.addressMask) - space.format.base;
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
    const split = space.format.present(last.entry) && last.level > level;
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
        const base = from & space.format.addressMask & ~(bytes * 512n - 1n);
        const whole = from;
        this.memory.store(page, ...Array.from({ length: 512 }, (_unused, i) => space.format.part(whole, at, base + BigInt(i) * bytes)));
        from = this.memory.load(this.slot(page, at, address));
      }
    }
    for (let at = level; at < last.level; at++) {
      const page = tables[last.level - 1 - at];
      this.memory.store(this.slot(page, at, address), value);
      value = space.format.table(page + space.format.base);
    }
    return this.replace(space, address, last, value, `${verb} a level ${level} leaf ${hex(leaf)}`);
  }

  private replace(space: Space, address: bigint, { at, entry, level }: { at: number; entry: bigint; level: number }, value: bigint, verb: string, keep = false): Change {
    const wasLeaf = !space.format.present(entry) || space.format.isLeaf(entry, level);
    const isLeaf = !space.format.present(value) || space.format.isLeaf(value, level);
    this.memory.store(at, value);
    if (!wasLeaf && !keep) {
      this.release(space, this.pageOf(space, entry), level - 1);
    }
    return {
      address,
      bits: 3 + 9 * level,
      leafBefore: space.format.present(entry) && wasLeaf ? level : 0,
      addedOnly: !space.format.present(entry),
      leafOnly: wasLeaf && isLeaf,
      text: `${space.name} at ${hex(address)}: ${verb}; the level ${level} entry ${hex(entry)} becomes ${hex(value)}`,
    };
  }

  private release(space: Space, table: number, level: number): void {
    if (level > 1) {
      for (let i = 0; i < 512; i++) {
        const entry = this.memory.load(table + 8 * i);
        if (space.format.present(entry) && !space.format.isLeaf(entry, level)) {
          this.release(space, this.pageOf(space, entry), level - 1);
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
    const way = this.path(space, address).filter(({ entry }) => space.format.present(entry));
    if (way.length === 0) {
      return null;
    }
    return this.replace(space, address, random.oneIn(3) ? random.pick(way) : way[way.length - 1], 0n, "unmap");
  }

  /** Other permissions in an entry of any level. */
  protect(space: Space, address: bigint, random: Random): Change | null {
    const way = this.path(space, address).filter(({ entry }) => space.format.present(entry));
    if (way.length === 0) {
      return null;
    }
    const one = random.oneIn(2) ? random.pick(way) : way[way.length - 1];
    const value = space.format.protect(one.entry, space.format.isLeaf(one.entry, one.level), random);
    return value === one.entry ? null : this.replace(space, address, one, value, "protect", true);
  }

  /** A superpage becomes a table of the same translations, of which one may be another. */
  split(space: Space, address: bigint, random: Random): Change | null {
    const last = this.path(space, address).at(-1)!;
    if (last.level === 1 || !space.format.present(last.entry)) {
      return null;
    }
    const level = 1 + random.below(last.level - 1);
    return this.put(space, address, level, this.leaf(space, level, random), "split for");
  }

  /** A table is replaced by a copy in which an entry is another. */
  retable(space: Space, address: bigint, random: Random): Change | null {
    const way = this.path(space, address).filter(({ entry, level }) => space.format.present(entry) && !space.format.isLeaf(entry, level));
    const one = way.length === 0 ? undefined : random.pick(way);
    const page = one === undefined ? null : this.memory.page();
    if (one === undefined || page === null) {
      return null;
    }
    this.memory.copy(this.pageOf(space, one.entry), page);
    const level = one.level - 1;
    const at = this.slot(page, level, address);
    const old = this.memory.load(at);
    if (!space.format.present(old) || space.format.isLeaf(old, level)) {
      this.memory.store(at, level > 3 ? 0n : random.oneIn(4) ? 0n : this.leaf(space, level, random));
    }
    this.memory.release(this.pageOf(space, one.entry));
    return this.replace(space, address, one, (one.entry & ~space.format.addressMask) | BigInt(page + space.format.base), "another table", true);
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
      if (space.format.present(entry) && !space.format.isLeaf(entry, space.levels)) {
        const under = this.memory.page();
        if (under !== null) {
          this.memory.copy(this.pageOf(space, entry), under);
          this.memory.store(this.slot(under, space.levels - 1, address), this.leaf(space, space.levels - 1, random));
          this.memory.store(at, (entry & ~space.format.addressMask) | BigInt(under + space.format.base));
        }
      }
    }
    return old;
  }
}
