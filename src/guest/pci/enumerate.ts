/**
 * Finds all functions of a host bridge and gives bus numbers. Expander buses (pxb-pcie) are further root
 * buses whose numbers are fixed and to which no bridge leads: a bus that answers and is not below a bridge.
 */
import type { HostBridgeDescription } from "../firmware/description.js";
import { GuestFailure } from "../failure.js";
import type { ConfigAccess } from "./config-access.js";
import { readReserve, type RootBus } from "./resources.js";
import { PCI, PORT_DOWNSTREAM, PORT_ROOT, PciFunction } from "./function.js";

export interface EnumerationOptions {
  /**
   * Bus numbers left out below each root bus before the first bridge, as far as there is room: another value
   * gives the functions other bus numbers, and so other StreamIDs.
   */
  readonly skipBuses?: number;
}

/** Scans the host bridge's buses and numbers what is below. Throws GuestFailure where the bus numbers do not suffice. */
export async function enumerateBuses(
  config: ConfigAccess,
  bridge: HostBridgeDescription,
  options: EnumerationOptions = {},
): Promise<RootBus[]> {
  const scanner = new Scanner(config);
  const roots: RootBus[] = [];
  // A bridge that still has numbers (kexec) makes buses answer that are not root buses. Taking its numbers away
  // when its own bus is seen, in ascending order, leaves the root buses alone.
  for (let bus = bridge.busStart; bus <= bridge.busEnd; bus++) {
    const functions = await scanner.scanBus(bus, null);
    if (functions.length > 0) {
      for (const found of functions.filter((f) => f.isBridge)) {
        await found.write32(PCI.PRIMARY_BUS, 0);
      }
      roots.push({ number: bus, functions, subordinate: bus });
    }
  }
  for (const [i, root] of roots.entries()) {
    const limit = (roots[i + 1]?.number ?? bridge.busEnd + 1) - 1;
    await scanner.numberBelow(root, limit, 0);
    const room = limit - root.subordinate;
    const skip = Math.min(options.skipBuses ?? 0, room);
    if (skip > 0 && root.functions.some((f) => f.isBridge)) {
      for (const found of root.functions.filter((f) => f.isBridge)) {
        await found.write32(PCI.PRIMARY_BUS, 0);
      }
      await scanner.numberBelow(root, limit, skip);
    }
  }
  return roots;
}

/** Looks for functions that came to a bridge's secondary bus since it was numbered (hotplug); bridges below get the numbers up to its subordinate. */
export async function rescanBelow(config: ConfigAccess, bridge: PciFunction): Promise<PciFunction[]> {
  const scanner = new Scanner(config);
  const found = await scanner.scanBus(bridge.secondary, bridge);
  let next = bridge.secondary + 1;
  for (const child of found.filter((f) => f.isBridge)) {
    next = await scanner.numberBridge(child, next, bridge.subordinate);
  }
  bridge.children.splice(0, bridge.children.length, ...found);
  return found.flatMap((f) => [...f.walk()]);
}

class Scanner {
  constructor(private readonly config: ConfigAccess) {}

  async scanBus(bus: number, parent: PciFunction | null): Promise<PciFunction[]> {
    const found: PciFunction[] = [];
    // Below a root or downstream port there is one device, numbered 0 (PCIe 6.0, 7.3.1).
    const single = parent !== null && (parent.portType === PORT_ROOT || parent.portType === PORT_DOWNSTREAM);
    for (let device = 0; device < (single ? 1 : 32); device++) {
      const first = new PciFunction(this.config, bus, device << 3, parent);
      if (!(await first.probe())) {
        continue;
      }
      found.push(first);
      if (((await first.read8(PCI.HEADER_TYPE)) & 0x80) !== 0) {
        for (let fn = 1; fn < 8; fn++) {
          const other = new PciFunction(this.config, bus, (device << 3) | fn, parent);
          if (await other.probe()) {
            found.push(other);
          }
        }
      }
    }
    return found;
  }

  async numberBelow(root: RootBus, limit: number, skip: number): Promise<void> {
    let next = root.number + 1 + skip;
    for (const bridge of root.functions.filter((f) => f.isBridge)) {
      next = await this.numberBridge(bridge, next, limit);
    }
    root.subordinate = next - 1;
  }

  /** Numbers a bridge and all below, from `next` on; returns the first number that is still free. */
  async numberBridge(bridge: PciFunction, next: number, limit: number): Promise<number> {
    if (next > limit) {
      throw new GuestFailure(`no bus number is left for bridge ${bridge.name}: the next root bus begins at ${limit + 1}`);
    }
    bridge.secondary = next;
    // While it is scanned everything up to the limit is forwarded, as Linux does.
    await this.writeNumbers(bridge, limit);
    const children = await this.scanBus(bridge.secondary, bridge);
    bridge.children.splice(0, bridge.children.length, ...children);
    let free = next + 1;
    for (const child of children.filter((f) => f.isBridge)) {
      free = await this.numberBridge(child, free, limit);
    }
    free = Math.max(free, Math.min(next + 1 + (await readReserve(bridge)).buses, limit + 1));
    bridge.subordinate = free - 1;
    await this.writeNumbers(bridge, bridge.subordinate);
    return free;
  }

  private writeNumbers(bridge: PciFunction, subordinate: number): Promise<void> {
    return bridge.write32(PCI.PRIMARY_BUS, bridge.bus | (bridge.secondary << 8) | (subordinate << 16));
  }
}
