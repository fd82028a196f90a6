/** Type-1 functions (PCIe 7.5.1.3): bus numbers, forwarding windows, the bus behind. */
import { PciBus, type BusRules } from "./bus.js";
import type { ConfigSpace } from "./config-space.js";
import { PciFunction, type FunctionKind, type PciIdentity } from "./function.js";

const COMMAND = 0x04;
const PRIMARY_BUS = 0x18;
const SECONDARY_BUS = 0x19;
const SUBORDINATE_BUS = 0x1a;
const IO_BASE = 0x1c;
const MEMORY_BASE = 0x20;
const PREFETCHABLE_BASE = 0x24;
const PREFETCHABLE_UPPER = 0x28;
const BRIDGE_CONTROL = 0x3e;
const SECONDARY_BUS_RESET = 0x40;

export interface BridgeOptions {
  readonly isExpress: boolean;
  readonly singleSlot?: boolean;
  readonly hotplug?: boolean;
  readonly firstSlot?: number;
  readonly rules?: BusRules;
  /** Windows start closed (base above limit), not at address 0. */
  readonly closedWindows?: boolean;
  /** The bridge is conventional itself: requests from below have its own requester id, not one of the bus behind it. */
  readonly ownRequester?: boolean;
  /** Default 4096: PCI Express. */
  readonly configBytes?: 256 | 4096;
  /** Bits of the bridge control register that can be written. */
  readonly bridgeControl?: number;
}

/** Addresses that a bridge passes on to its secondary bus, both inclusive. */
export interface BridgeWindow {
  readonly base: number;
  readonly limit: number;
}

/** The bridge has no I/O window and takes no I/O Space Enable (pcie-root-port with io-reserve=0). */
export function forwardNoPorts(config: ConfigSpace): void {
  config.writable[COMMAND] &= ~1;
  config.writable.fill(0, IO_BASE, IO_BASE + 2);
}

export abstract class PciBridge extends PciFunction {
  readonly secondary: PciBus;

  constructor(model: string, id: string, kind: FunctionKind, identity: PciIdentity, options: BridgeOptions) {
    super(model, id, kind, identity, options.configBytes ?? 4096);
    const { config } = this;
    config.bytes[0x0e] = 1;
    // Subsystem ids are no registers of a type-1 header: they are in a capability.
    config.set32(0x2c, 0);
    config.allow(PRIMARY_BUS, 4, 0x00ff_ffff);
    config.allow(IO_BASE, 2, 0xf0f0);
    config.allow(MEMORY_BASE, 4, 0xfff0_fff0);
    config.allow(PREFETCHABLE_BASE, 4, 0xfff0_fff0);
    config.allow(PREFETCHABLE_UPPER, 4, 0xffff_ffff);
    config.allow(PREFETCHABLE_UPPER + 4, 4, 0xffff_ffff);
    // 64-bit prefetchable window (type bits 3:0 = 1, read-only).
    config.set32(PREFETCHABLE_BASE, 0x0001_0001);
    if (options.closedWindows === true) {
      config.set16(IO_BASE, 0x00f0);
      config.set32(MEMORY_BASE, 0x0000_fff0);
      config.set32(PREFETCHABLE_BASE, 0x0001_fff1);
    }
    config.allow(BRIDGE_CONTROL, 2, options.bridgeControl ?? 0x005f);
    this.secondary = new PciBus(id, this, {
      isRoot: false,
      isExpress: options.isExpress,
      singleSlot: options.singleSlot,
      hotplug: options.hotplug,
      firstSlot: options.firstSlot,
      ownRequester: options.ownRequester,
      rules: options.rules,
    });
    this.secondaryBuses.push(this.secondary);
  }

  override get secondaryBus(): number {
    return this.config.bytes[SECONDARY_BUS];
  }

  override get subordinateBus(): number {
    return this.config.bytes[SUBORDINATE_BUS];
  }

  /** What the bridge forwards downstream now; none while command.Memory Space Enable is clear. */
  windows(): BridgeWindow[] {
    const windows: BridgeWindow[] = [];
    if (!this.decodesMemory) {
      return windows;
    }
    const { config } = this;
    const base = (config.get16(MEMORY_BASE) & 0xfff0) * 0x1_0000;
    const limit = (config.get16(MEMORY_BASE + 2) & 0xfff0) * 0x1_0000 + 0xf_ffff;
    if (base <= limit) {
      windows.push({ base, limit });
    }
    const high = config.get32(PREFETCHABLE_UPPER) * 0x1_0000_0000;
    const highLimit = config.get32(PREFETCHABLE_UPPER + 4) * 0x1_0000_0000;
    const prefetchable = high + (config.get16(PREFETCHABLE_BASE) & 0xfff0) * 0x1_0000;
    const prefetchableLimit = highLimit + (config.get16(PREFETCHABLE_BASE + 2) & 0xfff0) * 0x1_0000 + 0xf_ffff;
    if (prefetchable <= prefetchableLimit) {
      windows.push({ base: prefetchable, limit: prefetchableLimit });
    }
    return windows;
  }

  override configWrite(offset: number, size: number, value: number): void {
    const numbers = this.config.get16(SECONDARY_BUS);
    const control = this.config.get16(BRIDGE_CONTROL);
    super.configWrite(offset, size, value);
    if (offset < 0x30 && offset + size > PREFETCHABLE_UPPER) {
      this.decodingChanged();
    }
    if (this.config.get16(SECONDARY_BUS) !== numbers) {
      this.bus?.topology?.busNumbersChanged();
    }
    if ((this.config.get16(BRIDGE_CONTROL) & ~control & SECONDARY_BUS_RESET) !== 0) {
      this.resetSecondary();
    }
  }

  /** A hot reset of everything behind (PCIe 6.6.1). */
  resetSecondary(): void {
    for (const fn of [...this.secondary.allFunctions()]) {
      fn.reset();
    }
  }

  override reset(): void {
    const numbers = this.config.get16(SECONDARY_BUS);
    super.reset();
    if (this.config.get16(SECONDARY_BUS) !== numbers) {
      this.bus?.topology?.busNumbersChanged();
    }
  }
}
