/** Keeps BARs where the guest has put them: in the hierarchy's memory container, as far as the windows of the bridges above forward them. */
import { MemoryRegion } from "../memory/index.js";
import type { BridgeWindow } from "./bridge.js";
import type { PciBus } from "./bus.js";
import type { Bar, PciFunction } from "./function.js";

interface Piece {
  readonly address: number;
  readonly size: number;
  /** Bytes into the BAR. */
  readonly offset: number;
}

interface Mapped extends Piece {
  readonly region: MemoryRegion;
}

/** PCI memory space reaches up to the physical address size that the machines have. */
const ADDRESS_LIMIT = 2n ** 52n;

function windowsAbove(bus: PciBus): BridgeWindow[][] {
  const levels: BridgeWindow[][] = [];
  for (let at: PciBus | null = bus; at !== null && !at.isRoot; at = at.parentBus) {
    const bridge = at.bridge;
    if (bridge !== null && "windows" in bridge) {
      levels.push((bridge as PciFunction & { windows(): BridgeWindow[] }).windows());
    }
  }
  return levels;
}

/**
 * Where a BAR answers now: nothing unless the function decodes memory and the address is one (not 0, not
 * all ones as while sizing, no wrap), cut by the windows of every bridge above.
 */
export function barPieces(fn: PciFunction, bar: Bar): Piece[] {
  if (fn.bus === null || !fn.decodesMemory) {
    return [];
  }
  const start = fn.barAddress(bar);
  const last = start + BigInt(bar.size) - 1n;
  if (start === 0n || last >= ADDRESS_LIMIT || (!bar.is64 && last >= 0xffff_ffffn)) {
    return [];
  }
  const base = Number(start);
  let pieces: Piece[] = [{ address: base, size: bar.size, offset: 0 }];
  for (const windows of windowsAbove(fn.bus)) {
    const cut: Piece[] = [];
    for (const piece of pieces) {
      let covered = piece.address;
      const end = piece.address + piece.size;
      for (const window of [...windows].sort((a, b) => a.base - b.base)) {
        const from = Math.max(covered, window.base);
        const to = Math.min(end, window.limit + 1);
        if (from < to) {
          cut.push({ address: from, size: to - from, offset: from - base });
          covered = to;
        }
      }
    }
    pieces = cut;
  }
  return pieces;
}

export class BarMapper {
  private readonly mapped = new Map<Bar, Mapped[]>();

  constructor(
    /** PCI memory space: byte n is PCI address n. */
    readonly memory: MemoryRegion,
  ) {}

  /** Brings the BARs of `fn` and of all functions behind it to where they belong now. */
  update(fn: PciFunction): void {
    this.place(fn);
    for (const bus of fn.secondaryBuses) {
      if (!bus.isRoot) {
        for (const behind of bus.functions.values()) {
          this.update(behind);
        }
      }
    }
  }

  /** Places where the BAR answers now, as `update` left them. */
  placesOf(bar: Bar): ReadonlyArray<{ address: number; size: number }> {
    return this.mapped.get(bar) ?? [];
  }

  private place(fn: PciFunction): void {
    for (const bar of fn.bars) {
      const before = this.mapped.get(bar) ?? [];
      const after = barPieces(fn, bar);
      if (before.length === after.length && before.every((piece, i) => piece.address === after[i].address && piece.size === after[i].size)) {
        continue;
      }
      for (const piece of before) {
        this.memory.remove(piece.region);
      }
      const now = after.map((piece) => ({
        ...piece,
        region: piece.size === bar.size ? bar.region : MemoryRegion.alias(`${bar.region.name}@${piece.offset}`, bar.region, piece.offset, piece.size),
      }));
      for (const piece of now) {
        this.memory.add(piece.address, piece.region, 1);
      }
      if (now.length > 0) {
        this.mapped.set(bar, now);
      } else {
        this.mapped.delete(bar);
      }
    }
  }
}
