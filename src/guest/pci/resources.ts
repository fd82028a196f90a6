/** Places BARs and bridge windows in the host bridge's memory windows. */
import type { HostBridgeDescription } from "../firmware/description.js";
import { CAP_EXPRESS, COMMAND_MASTER, COMMAND_MEMORY, PCI, type Bar, type PciFunction } from "./function.js";

const MIB = 1024 * 1024;
/** What an empty hot-plug slot gets of each window, as Linux's pci=hpmmiosize (2 MiB) does. */
const HOTPLUG_BYTES = 2 * MIB;
/** PCIe Capabilities register: Slot Implemented; Slot Capabilities: Hot-Plug Capable. */
const SLOT_IMPLEMENTED = 0x100;
const SLOT_HOTPLUG_CAPABLE = 0x40;

/** A bus that no bridge leads to. */
export interface RootBus {
  readonly number: number;
  readonly functions: PciFunction[];
  /** Highest bus number below it. */
  subordinate: number;
}

type Space = "memory" | "prefetch";

interface Window {
  readonly arena: Arena;
  readonly range: readonly [number, number];
}

/** A range of PCI addresses that is handed out from the bottom up. */
class Arena {
  private next: number;

  constructor(
    base: number,
    private readonly end: number,
    /** What is added to a PCI address to get the CPU's. */
    readonly toCpu: number,
  ) {
    this.next = base;
  }

  take(size: number, align: number): number | null {
    const at = Math.ceil(this.next / align) * align;
    if (at + size > this.end) {
      return null;
    }
    this.next = at + size;
    return at;
  }
}

interface Arenas {
  readonly memory: Arena | null;
  readonly prefetch: Arena | null;
}

/** BARs that found no place, for the account. */
export interface Unplaced {
  readonly fn: PciFunction;
  readonly bar: number;
  readonly size: number;
  /** It may be in the prefetchable window, whose addresses have 64 bits. */
  readonly prefetchable64: boolean;
}

/** The arenas of a host bridge; kept, since a hot-plugged function takes from what is left below its port. */
export class ResourceMap {
  private readonly root: Arenas;
  private readonly below = new Map<PciFunction, Arenas>();
  readonly unplaced: Unplaced[] = [];

  constructor(host: HostBridgeDescription) {
    const arena = (kind: "mem32" | "mem64"): Arena | null => {
      const window = host.windows.find((candidate) => candidate.kind === kind);
      return window === undefined
        ? null
        : new Arena(window.pciBase, window.pciBase + window.size, window.cpuBase - window.pciBase);
    };
    this.root = { memory: arena("mem32"), prefetch: arena("mem64") };
  }

  /** Sizes and places everything below the root buses, writes BARs and windows, turns decoding and mastering on. */
  async assign(roots: readonly RootBus[]): Promise<void> {
    for (const root of roots) {
      for (const fn of root.functions.flatMap((f) => [...f.walk()])) {
        await fn.sizeBars();
      }
    }
    // All root buses share the host bridge's windows: the largest wish of all comes first.
    await this.placeBus(
      roots.flatMap((root) => root.functions),
      this.root,
      true,
    );
  }

  /** The same for what was plugged below a port. */
  async assignBelow(bridge: PciFunction): Promise<void> {
    for (const child of bridge.children) {
      for (const fn of child.walk()) {
        await fn.sizeBars();
      }
    }
    // The old function's addresses are free again: the whole window is handed out anew.
    await this.placeBus(bridge.children, (await this.windowOf(bridge)) ?? { memory: null, prefetch: null }, false);
  }

  /** Largest alignment first, windows and BARs alike. */
  private async placeBus(functions: readonly PciFunction[], arenas: Arenas, onRoot: boolean): Promise<void> {
    const wishes: Array<Need & { place: () => Promise<void> }> = [];
    const windows = new Map<PciFunction, { memory: Window | null; prefetch: Window | null }>();
    for (const fn of functions) {
      for (const bar of fn.bars) {
        wishes.push({ size: bar.size, align: bar.size, place: () => this.placeBar(fn, bar, arenas, onRoot) });
      }
      if (fn.isBridge) {
        const open: { memory: Window | null; prefetch: Window | null } = { memory: null, prefetch: null };
        windows.set(fn, open);
        for (const space of ["memory", "prefetch"] as const) {
          const need = await demand(fn, space);
          wishes.push({
            ...need,
            place: () => {
              open[space] = openWindow(arenas[space], need);
              return Promise.resolve();
            },
          });
        }
      }
    }
    for (const wish of wishes.sort(byAlignment)) {
      await wish.place();
    }
    for (const fn of functions) {
      const open = windows.get(fn);
      if (open !== undefined) {
        await writeWindows(fn, open.memory?.range ?? null, open.prefetch?.range ?? null);
        const inside = { memory: open.memory?.arena ?? null, prefetch: open.prefetch?.arena ?? null };
        this.below.set(fn, inside);
        await this.placeBus(fn.children, inside, false);
      }
      const placedAll = fn.bars.every((bar) => bar.cpuAddress !== null);
      // A bridge passes on what comes from below; other functions master the bus when they have a domain.
      await fn.setCommand((placedAll ? COMMAND_MEMORY : 0) | (fn.isBridge ? COMMAND_MASTER : 0));
    }
  }

  private async placeBar(fn: PciFunction, bar: Bar, arenas: Arenas, onRoot: boolean): Promise<void> {
    // Behind a bridge only what is 64 bits wide and prefetchable may use the prefetchable window; on a root bus any 64-bit BAR may.
    const order = bar.is64 && (bar.prefetchable || onRoot) ? [arenas.prefetch, arenas.memory] : [arenas.memory];
    for (const arena of order) {
      const at = arena?.take(bar.size, bar.size) ?? null;
      if (arena !== null && at !== null) {
        await fn.write32(PCI.BAR0 + bar.index * 4, at % 0x1_0000_0000);
        if (bar.is64) {
          await fn.write32(PCI.BAR0 + bar.index * 4 + 4, Math.floor(at / 0x1_0000_0000));
        }
        bar.cpuAddress = at + arena.toCpu;
        return;
      }
    }
    this.unplaced.push({ fn, bar: bar.index, size: bar.size, prefetchable64: order.length > 1 });
  }

  private async windowOf(bridge: PciFunction): Promise<Arenas | null> {
    const arenas = this.below.get(bridge);
    if (arenas === undefined) {
      return null;
    }
    const memory = await readWindow(bridge, "memory");
    const prefetch = await readWindow(bridge, "prefetch");
    const again = (range: readonly [number, number] | null, old: Arena | null): Arena | null =>
      range === null || old === null ? null : new Arena(range[0], range[1], old.toCpu);
    return { memory: again(memory, arenas.memory), prefetch: again(prefetch, arenas.prefetch) };
  }
}

/** Bytes and alignment of a BAR or of a window. */
interface Need {
  readonly size: number;
  readonly align: number;
}

const byAlignment = (a: Need, b: Need): number => b.align - a.align || b.size - a.size;

/** What everything below a bridge needs of a window, laid out as placeBus does it. */
async function demand(bridge: PciFunction, space: Space): Promise<Need> {
  const needs: Need[] = [];
  for (const child of bridge.children) {
    for (const bar of child.bars) {
      if ((bar.is64 && bar.prefetchable ? "prefetch" : "memory") === space) {
        needs.push({ size: bar.size, align: bar.size });
      }
    }
    if (child.isBridge) {
      needs.push(await demand(child, space));
    }
  }
  let end = 0;
  for (const need of needs.sort(byAlignment)) {
    end = Math.ceil(end / need.align) * need.align + need.size;
  }
  if (await isHotplugPort(bridge)) {
    end = Math.max(end, HOTPLUG_BYTES);
  }
  const reserved = (await readReserve(bridge))[space];
  const size = Math.ceil(Math.max(end, reserved) / MIB) * MIB;
  // What comes later may be one BAR that fills what is reserved.
  return { size, align: Math.max(MIB, ...needs.map((need) => need.align), reserved === 0 ? 0 : 2 ** Math.floor(Math.log2(reserved))) };
}

/** What QEMU's root port asks firmware to keep free below it; 0: nothing. */
export interface Reserve {
  readonly buses: number;
  readonly memory: number;
  readonly prefetch: number;
}

const RED_HAT = 0x1b36;
/** QEMU's vendor capability (docs/pcie_pci_bridge.txt): its length, its type, and what is "nothing" in its fields. */
const RESERVE_BYTES = 32;
const RESERVE_TYPE = 1;
const NOTHING = 0xffff_ffff;

/** As firmware reads it (SeaBIOS pci_find_resource_reserve_capability, OVMF's PciHotPlugInitDxe). */
export async function readReserve(fn: PciFunction): Promise<Reserve> {
  if (fn.vendorId === RED_HAT && fn.isBridge) {
    for (const at of fn.vendorCapabilities) {
      if ((await fn.read8(at + 2)) >= RESERVE_BYTES && (await fn.read8(at + 3)) === RESERVE_TYPE) {
        const [buses, memory, prefetch32, low, high] = [await fn.read32(at + 4), await fn.read32(at + 16), await fn.read32(at + 20), await fn.read32(at + 24), await fn.read32(at + 28)];
        const prefetch64 = low === NOTHING && high === NOTHING ? 0 : high * 0x1_0000_0000 + low;
        return { buses: buses === NOTHING ? 0 : buses & 0xff, memory: memory === NOTHING ? 0 : memory, prefetch: Math.max(prefetch64, prefetch32 === NOTHING ? 0 : prefetch32) };
      }
    }
  }
  return { buses: 0, memory: 0, prefetch: 0 };
}

/** A port whose slot takes devices at run time. */
export async function isHotplugPort(fn: PciFunction): Promise<boolean> {
  const express = fn.capabilities.get(CAP_EXPRESS);
  if (express === undefined || !fn.isBridge) {
    return false;
  }
  const flags = await fn.read16(express + 2);
  return (flags & SLOT_IMPLEMENTED) !== 0 && ((await fn.read32(express + 0x14)) & SLOT_HOTPLUG_CAPABLE) !== 0;
}

function openWindow(from: Arena | null, { size, align }: Need): Window | null {
  if (from === null || size === 0) {
    return null;
  }
  const at = from.take(size, align);
  return at === null ? null : { arena: new Arena(at, at + size, from.toCpu), range: [at, at + size] };
}

/** Memory and prefetchable base and limit: address bits [31:20] in bits [15:4] (PCI-to-PCI Bridge 1.2, 3.2.5); a limit below the base closes the window. */
async function writeWindows(
  bridge: PciFunction,
  memory: readonly [number, number] | null,
  prefetch: readonly [number, number] | null,
): Promise<void> {
  const field = (address: number): number => (Math.floor((address % 0x1_0000_0000) / 0x10_0000) << 4) & 0xfff0;
  const high = (address: number): number => Math.floor(address / 0x1_0000_0000);
  const [memoryBase, memoryEnd] = memory ?? [0xfff0_0000, MIB];
  await bridge.write16(PCI.MEMORY_BASE, field(memoryBase));
  await bridge.write16(PCI.MEMORY_LIMIT, field(memoryEnd - 1));
  const [prefetchBase, prefetchEnd] = prefetch ?? [0xfff0_0000, MIB];
  await bridge.write16(PCI.PREFETCH_BASE, field(prefetchBase));
  await bridge.write16(PCI.PREFETCH_LIMIT, field(prefetchEnd - 1));
  await bridge.write32(PCI.PREFETCH_BASE_UPPER, high(prefetchBase));
  await bridge.write32(PCI.PREFETCH_LIMIT_UPPER, high(prefetchEnd - 1));
}

async function readWindow(bridge: PciFunction, space: Space): Promise<readonly [number, number] | null> {
  const [baseAt, limitAt] = space === "memory" ? [PCI.MEMORY_BASE, PCI.MEMORY_LIMIT] : [PCI.PREFETCH_BASE, PCI.PREFETCH_LIMIT];
  const upper = async (at: number): Promise<number> => (space === "memory" ? 0 : await bridge.read32(at));
  const base = ((await bridge.read16(baseAt)) >> 4) * MIB + (await upper(PCI.PREFETCH_BASE_UPPER)) * 0x1_0000_0000;
  const end = (((await bridge.read16(limitAt)) >> 4) + 1) * MIB + (await upper(PCI.PREFETCH_LIMIT_UPPER)) * 0x1_0000_0000;
  return base < end ? [base, end] : null;
}
