/**
 * How the memory of a host bridge is divided between root buses: a kernel that gets its tables from us takes each root
 * bus for a host bridge of its own, and windows of two bridges may not overlap (ACPI 6.5, 6.2.2).
 */
import { PcieRootPort, type PciBus } from "../pci/index.js";
import type { Range } from "./ram-layout.js";

/** BARs of 64 bits below a root bus and what its ports reserve for others, in bytes. */
export function wideBarBytes(root: PciBus): number {
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
  return roots.length * Math.max(...roots.map((root) => 4 * powerAbove(wideBarBytes(root))));
}

/** Of a window: what a root bus gets at the least, where equal shares do not do. */
const LEAST_PARTS = 16;

/**
 * Each root bus gets an equal share of each window, a power of two at a multiple of itself; pcie.0 (the first) what is
 * left at the start, which is no less. Where BARs below one of them want more of a window above 4 GiB than half such a
 * share, which leaves room to align them, each gets a sixteenth of the window and the rest goes by what BARs want.
 */
export function splitWindows(windows: readonly Range[], roots: readonly PciBus[]): Range[][] {
  const shares = windows.map((window) => shareOut(window, roots.map((root) => (window.base < 2 ** 32 ? 0 : wideBarBytes(root)))));
  return roots.map((_root, n) => shares.map((one) => one[n]));
}

/** One window, by the bytes of BARs below each root bus. */
function shareOut({ base, size }: Range, demands: readonly number[]): Range[] {
  const equal = powerBelow(size / demands.length);
  const uneven = demands.some((demand) => 2 * demand > equal);
  const unit = uneven ? powerBelow(size / LEAST_PARTS) : equal;
  const spare = size - unit * demands.length;
  const wanted = demands.reduce((sum, demand) => sum + demand, 0);
  const shares: Range[] = demands.map(() => ({ base, size: 0 }));
  let end = base + size;
  for (let n = demands.length - 1; n > 0; n--) {
    const share = uneven ? unit + Math.max(Math.floor((spare * demands[n]) / wanted / unit) * unit, 0) : equal;
    const start = Math.floor((end - share) / unit) * unit;
    shares[n] = { base: start, size: share };
    end = start;
  }
  shares[0] = { base, size: end - base };
  return shares;
}

/**
 * Bytes of a window above 4 GiB, a power of two and `least` at the least, in which each root bus has half as much again as
 * its BARs want, so that a kernel can align them.
 * @param demands bytes of BARs of 64 bits below each root bus, pcie.0 first
 */
export function roomyWindow(demands: readonly number[], least: number): number {
  let size = least;
  while (shareOut({ base: size, size }, demands).some((share, n) => share.size < 1.5 * demands[n])) {
    size *= 2;
  }
  return size;
}

/**
 * Root buses whose BARs of 64 bits want more than their windows have, a line each.
 * @param cure says in words what gives the window above 4 GiB so many bytes
 */
export function crowdedWindows(windows: readonly Range[], roots: readonly PciBus[], cure: (bytes: number) => string): string[] {
  const demands = roots.map(wideBarBytes);
  const wide = windows.find(({ base }) => base >= 2 ** 32);
  const shares = wide === undefined ? roots.map(() => 0) : shareOut(wide, demands).map(({ size }) => size);
  if (demands.every((demand, n) => demand <= shares[n])) {
    return [];
  }
  const enough = roomyWindow(demands, wide?.size ?? 2 ** 39);
  return roots.flatMap((root, n) =>
    demands[n] <= shares[n]
      ? []
      : [`BARs below ${root.id} want ${gibibytes(demands[n])} of 64-bit memory, and their host bridge has ${gibibytes(shares[n])}: a kernel leaves some of them without an address; would work: ${cure(enough)}`],
  );
}

const gibibytes = (bytes: number): string => `${Math.ceil((10 * bytes) / 2 ** 30) / 10} GiB`;
