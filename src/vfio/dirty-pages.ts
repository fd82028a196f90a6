/** Dirty pages beside those of the stage-2 tables: of mirrors, and of what devices could write until it left one. */
import type { DirtySource } from "../iommufd/index.js";

/** Bytes of a page of the dirty bitmap. */
export const DIRTY_PAGE = 4096;

/** Sets the bits of a bitmap (of pages from `address` on) for the bytes of a range; those outside of it are left out. */
export function setDirty(bitmap: Uint8Array, address: number, start: number, bytes: number): void {
  const first = Math.max(0, Math.floor((start - address) / DIRTY_PAGE));
  const end = Math.min(bitmap.length * 8, Math.ceil((start + bytes - address) / DIRTY_PAGE));
  for (let page = first; page < end; page++) {
    bitmap[page >> 3] |= 1 << (page & 7);
  }
}

export class DirtyPages {
  private readonly sources = new Set<DirtySource>();
  /** Bytes by their first address (guest-physical), that were writable in a mirror and are so no more. */
  private readonly left = new Map<number, number>();

  all(): readonly DirtySource[] {
    return [...this.sources];
  }

  add(source: DirtySource): void {
    this.sources.add(source);
  }

  remove(source: DirtySource): void {
    this.sources.delete(source);
  }

  note(address: number, bytes: number): void {
    this.left.set(address, Math.max(bytes, this.left.get(address) ?? 0));
  }

  /** Notes the pages of a bitmap, of pages from `address` on. */
  noteAll(address: number, bitmap: Uint8Array): void {
    const pages = bitmap.length * 8;
    const isSet = (page: number): boolean => page < pages && (bitmap[page >> 3] & (1 << (page & 7))) !== 0;
    for (let page = 0; page < pages; page++) {
      const first = page;
      while (isSet(page)) {
        page++;
      }
      if (page > first) {
        this.note(address + first * DIRTY_PAGE, (page - first) * DIRTY_PAGE);
      }
    }
  }

  forget(): void {
    this.left.clear();
  }

  /** As IoAddressSpace.readDirtyPages. Throws HostError. */
  read(address: number, bitmap: Uint8Array, clear: boolean): void {
    for (const source of this.sources) {
      source.read(address, bitmap, clear);
    }
    const end = address + bitmap.length * 8 * DIRTY_PAGE;
    for (const [start, bytes] of [...this.left]) {
      if (start >= end || start + bytes <= address) {
        continue;
      }
      setDirty(bitmap, address, start, bytes);
      if (clear) {
        this.left.delete(start);
        for (const [from, to] of [[start, address], [end, start + bytes]]) {
          if (from < to) {
            this.note(from, to - from);
          }
        }
      }
    }
  }
}
