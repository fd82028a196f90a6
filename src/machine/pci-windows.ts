/**
 * How the memory of a host bridge is divided between root buses: a kernel that gets its tables from us takes each root
 * bus for a host bridge of its own, and windows of two bridges may not overlap (ACPI 6.5, 6.2.2).
 */
import { PcieRootPort, type PciBus } from "../pci/index.js";
import type { Range } from "./ram-layout.js";

/** BARs of 64 bits below a root bus and what its ports reserve for others, in bytes. */
function demandOf(root: PciBus): number {
  let sum = 0;
  for (const fn of root.allFunctions()) {
    if (fn.bus?.rootBus === root) {
      sum += fn.bars.reduce((bytes, bar) => bytes + (bar.is64 ? bar.size : 0), fn instanceof PcieRootPort ? Number(fn.reserve.prefetch64 ?? 0n) : 0);
    }
  }
  return sum;
}

const powerAbove = (bytes: number): number => 2 ** Math.ceil(Math.log2(Math.max(bytes, 1)));
const powerBelow = (bytes: number): number => 2 ** Math.floor(Math.log2(bytes));

/** Bytes of 64-bit memory that root buses want: four times their BARs each, so that those can be aligned and others plugged. */
export function wideMemory(roots: readonly PciBus[]): number {
  return roots.length * Math.max(...roots.map((root) => 4 * powerAbove(demandOf(root))));
}

/**
 * Each root bus gets an equal share of each window, a power of two at a multiple of itself; pcie.0 (the first) what is
 * left at the start, which is no less.
 */
export function splitWindows(windows: readonly Range[], roots: readonly PciBus[]): Range[][] {
  const shares: Range[][] = roots.map(() => []);
  for (const { base, size } of windows) {
    let end = base + size;
    const share = powerBelow(size / roots.length);
    for (let n = roots.length - 1; n > 0; n--) {
      const start = Math.floor((end - share) / share) * share;
      shares[n].push({ base: start, size: share });
      end = start;
    }
    shares[0].push({ base, size: end - base });
  }
  return shares;
}
