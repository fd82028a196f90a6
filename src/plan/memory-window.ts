/** Memory for BARs: the window above 4 GiB is made large enough for all, with their alignment; the one below is as it is. */
import type { HostDescription } from "../host/simulated/file/index.js";
import { roomyWindow } from "../machine/index.js";
import { byteText, Refusal } from "../support/index.js";
import type { FunctionFacts } from "./host-facts.js";
import type { PlannedWindow } from "./report/index.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** What there is without being asked for: virt's VIRT_HIGH_PCIE_MMIO, q35's pci-hole64-size. */
const USUAL = { virt: 512 * GIB, q35: 32 * GIB } as const;
/** The window below 4 GiB: from 0x10000000 to 0x3efeffff, and from 0xc0000000 to 0xfebfffff. */
const LOW_WINDOW = { virt: 0x2eff_0000, q35: 0x3ec0_0000 } as const;
/** virt refuses more for highmem-mmio-size. */
const MOST = 2 ** 46;
/** A bridge's windows are multiples of it (PCI-to-PCI Bridge 1.2, 3.2.5.8). */
const BRIDGE_UNIT = MIB;
/** What firmware keeps below a port that can be plugged (QEMU docs/pcie.txt). */
const HOT_PLUG_UNIT = 2 * MIB;

/** Bytes that functions want below a port, or an expander. */
export interface BarNeeds {
  /** Below 4 GiB: of 32 bits, or not prefetchable (a bridge has no other window for those). */
  readonly low: number;
  /** Above: prefetchable and of 64 bits, with alignment. */
  readonly high: number;
  /** The largest alignment of `high`. */
  readonly alignment: number;
  /** All BARs of 64 bits, without alignment, and what spare ports keep. */
  readonly wide: number;
}

const up = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit;
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
const powerAbove = (bytes: number): number => 2 ** Math.ceil(Math.log2(Math.max(bytes, 1)));

/** Below one port: its windows are aligned as the largest BAR is. */
function demandOf(slot: readonly FunctionFacts[]): BarNeeds {
  const bars = slot.flatMap(({ description }) => description.bars);
  const isHigh = (bar: (typeof bars)[number]): boolean => bar.is64 && bar.prefetchable;
  const windowOf = (sizes: readonly number[]): number => up(sum(sizes), Math.max(BRIDGE_UNIT, ...sizes));
  const high = bars.filter(isHigh).map(({ size }) => size);
  const low = bars.filter((bar) => !isHigh(bar)).map(({ size }) => size);
  return {
    low: Math.max(windowOf(low), HOT_PLUG_UNIT),
    high: high.length === 0 ? 0 : windowOf(high),
    alignment: Math.max(BRIDGE_UNIT, ...high),
    wide: sum(bars.filter(({ is64 }) => is64).map(({ size }) => size)),
  };
}

/** What a spare port keeps free: as much as the largest function's prefetchable memory beside it; null: firmware's 2 MiB do. */
export function portReserve(slots: ReadonlyArray<readonly FunctionFacts[]>): number | null {
  const largest = Math.max(0, ...slots.map((slot) => powerAbove(demandOf(slot).high)));
  return largest > HOT_PLUG_UNIT ? largest : null;
}

export function barNeeds(slots: ReadonlyArray<readonly FunctionFacts[]>, spare: number): BarNeeds {
  const demands = slots.map(demandOf);
  const kept = portReserve(slots) ?? HOT_PLUG_UNIT;
  const alignment = Math.max(spare > 0 ? kept : BRIDGE_UNIT, ...demands.map((one) => one.alignment));
  return {
    low: sum(demands.map(({ low }) => low)) + spare * HOT_PLUG_UNIT,
    high: up(sum(demands.map(({ high }) => high)) + spare * kept, alignment),
    alignment,
    wide: sum(demands.map(({ wide }) => wide)) + (portReserve(slots) === null ? 0 : spare * kept),
  };
}

/** @throws Refusal where BARs of 32 bits, or that are not prefetchable, have no room below 4 GiB */
export function checkLowWindow(board: "virt" | "q35", needs: readonly BarNeeds[]): void {
  const low = sum(needs.map((one) => one.low));
  if (low > LOW_WINDOW[board]) {
    throw new Refusal("BARs have no room below 4 GiB", {
      found: `BARs of 32 bits, and those that are not prefetchable, want ${byteText(low)} below 4 GiB; ${board} has ${byteText(LOW_WINDOW[board])} there`,
      wouldWork: "fewer functions",
    });
  }
}

/** @throws Refusal where processors do not address the end of the window */
function checkReach({ name, addressBits }: HostDescription, end: number, said: string): void {
  if (addressBits !== null && end > 2 ** addressBits) {
    throw new Refusal(`Address space limit 2^${addressBits} is too low`, {
      found: `${said}; with the guest's memory below it the window ends at ${byteText(end)}, and processors of ${name} address ${byteText(2 ** addressBits)}`,
      wouldWork: "fewer functions with large BARs, or a smaller --memory",
    });
  }
}

/** @throws Refusal where no window is large enough */
export function planWindow(board: "virt" | "q35", needs: readonly BarNeeds[], host: HostDescription, memory: number): PlannedWindow {
  const usual = USUAL[board];
  // The largest alignment first: no hole is left between expanders.
  const wanted = sum(needs.map(({ high }) => high));
  const said = wanted === 0 ? "no BAR is for above 4 GiB" : `BARs above 4 GiB want ${byteText(wanted)} with their alignment`;
  if (board === "q35") {
    // QEMU rounds to GiB, and begins at a GiB above memory: a power of two more than the largest alignment leaves room for that.
    const size = powerAbove(wanted + Math.max(0, ...needs.map(({ alignment }) => alignment)));
    checkReach(host, 4 * GIB + memory + Math.max(size, usual), said);
    return size <= usual ? { size: null, because: [`${said}: QEMU's ${byteText(usual)} do`] } : { size, because: [`${said}, and the window's start is aligned to a GiB alone: QEMU's ${byteText(usual)} do not do`] };
  }
  const roomy = roomyWindow([0, ...needs.map(({ wide }) => wide)], Math.max(usual, powerAbove(wanted)));
  if (roomy > MOST) {
    throw new Refusal("highmem-mmio-size cannot be set to so much", { found: said, wouldWork: `fewer functions: ${byteText(MOST)} is the most` });
  }
  // It begins at a multiple of its size.
  checkReach(host, up(Math.max(256 * GIB, GIB + memory), roomy) + roomy, said);
  return roomy <= usual ? { size: null, because: [`${said}: QEMU's ${byteText(usual)} do`] } : { size: roomy, because: [`${said}: QEMU's ${byteText(usual)} do not do with as much again to align them below ${needs.length + 1} root buses, and it takes powers of two`] };
}
