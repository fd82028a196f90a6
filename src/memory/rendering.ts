/** A tree of regions as a flat list of disjoint sections in address order, and what such lists are asked. */
import type { MemoryRegion } from "./region.js";

/** A disjoint piece of an address space. */
export interface MemorySection {
  readonly region: MemoryRegion;
  /** Bytes into the region. */
  readonly offset: number;
  /** Address in the space. */
  readonly address: number;
  /** Bytes. */
  readonly size: number;
}

/** The tree as disjoint sections in address order. */
export function render(root: MemoryRegion): MemorySection[] {
  const sections: MemorySection[] = [];

  /** Index of the first section that ends beyond `address`. */
  function firstBeyond(address: number): number {
    let low = 0;
    let high = sections.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sections[middle].address + sections[middle].size > address) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  /** Puts a section over what is there; what it covers in part is cut. */
  function overlay(section: MemorySection): void {
    const end = section.address + section.size;
    const first = firstBeyond(section.address);
    const replacement: MemorySection[] = [section];
    let beyond = first;
    for (; beyond < sections.length && sections[beyond].address < end; beyond++) {
      const other = sections[beyond];
      const otherEnd = other.address + other.size;
      if (other.address < section.address) {
        replacement.unshift({ ...other, size: section.address - other.address });
      }
      if (otherEnd > end) {
        const cut = end - other.address;
        replacement.push({ region: other.region, offset: other.offset + cut, address: end, size: otherEnd - end });
      }
    }
    sections.splice(first, beyond - first, ...replacement);
  }

  /** Draws `region`, whose byte 0 is at `base`, clipped to [start, end). */
  function draw(region: MemoryRegion, base: number, start: number, end: number, depth: number): void {
    const from = Math.max(start, base);
    const to = Math.min(end, base + region.size);
    if (!region.enabled || from >= to || depth > 32) {
      return;
    }
    if (region.kind === "alias") {
      draw(region.target!, base - region.ramOffset, from, to, depth + 1);
      return;
    }
    if (region.kind !== "container") {
      overlay({ region, offset: from - base, address: from, size: to - from });
    }
    for (const child of region.layers) {
      draw(child.region, base + child.offset, from, to, depth + 1);
    }
  }

  draw(root, 0, 0, root.size, 0);
  return sections;
}

/** The section at an address, of a list in address order. */
export function search(sections: readonly MemorySection[], address: number): MemorySection | null {
  let low = 0;
  let high = sections.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const section = sections[middle];
    if (address < section.address) {
      high = middle - 1;
    } else if (address >= section.address + section.size) {
      low = middle + 1;
    } else {
      return section;
    }
  }
  return null;
}

/** Sections of discardable RAM cut into granules, without those that are discarded. */
export function withoutDiscarded(sections: MemorySection[]): MemorySection[] {
  if (sections.every(({ region }) => region.granule === 0)) {
    return sections;
  }
  return sections.flatMap((section) => {
    const { region, offset, address, size } = section;
    const { granule } = region;
    if (granule === 0) {
      return [section];
    }
    const pieces: MemorySection[] = [];
    for (let at = 0; at < size; ) {
      const step = Math.min(size - at, granule - ((offset + at) % granule));
      if (!region.isDiscarded(offset + at)) {
        pieces.push({ region, offset: offset + at, address: address + at, size: step });
      }
      at += step;
    }
    return pieces;
  });
}

/** What of two lists in address order is in one only. */
export function difference(before: readonly MemorySection[], after: readonly MemorySection[]): { gone: MemorySection[]; come: MemorySection[] } {
  const gone: MemorySection[] = [];
  const come: MemorySection[] = [];
  let old = 0;
  let now = 0;
  while (old < before.length || now < after.length) {
    const a = before[old] as MemorySection | undefined;
    const b = after[now] as MemorySection | undefined;
    if (a !== undefined && b !== undefined && a.address === b.address && a.size === b.size && a.offset === b.offset && a.region === b.region) {
      old++;
      now++;
    } else if (b === undefined || (a !== undefined && a.address <= b.address)) {
      gone.push(a!);
      old++;
    } else {
      come.push(b);
      now++;
    }
  }
  return { gone, come };
}
