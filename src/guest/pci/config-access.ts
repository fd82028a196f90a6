/**
 * Configuration space of a host bridge's functions: ECAM (PCIe 6.0, 7.2.2), or the ports 0xcf8 and 0xcfc (PCI
 * 3.0, 3.2.2.3.2) where there is none; those reach the first 256 bytes. Offsets in bytes.
 */
import type { MachinePort, PortSize } from "../../port/index.js";
import { GuestFailure } from "../failure.js";
import type { HostBridgeDescription } from "../firmware/description.js";

export interface ConfigAccess {
  readonly port: MachinePort;
  /** Extended configuration space is reached too. */
  readonly extended: boolean;
  read(bus: number, devfn: number, offset: number, size: PortSize): Promise<number>;
  write(bus: number, devfn: number, offset: number, size: PortSize, value: number): Promise<void>;
}

const ADDRESS = 0xcf8;
const DATA = 0xcfc;
const ENABLE = 0x8000_0000;

/** How the bridge's functions are reached. Throws GuestFailure where they are not. */
export function configAccess(port: MachinePort, host: HostBridgeDescription): ConfigAccess {
  return host.ecamBase === null ? new PortAccess(port) : new EcamAccess(port, host.ecamBase, host.busStart);
}

class EcamAccess implements ConfigAccess {
  readonly extended = true;

  constructor(
    readonly port: MachinePort,
    private readonly base: number,
    private readonly busStart: number,
  ) {}

  private address(bus: number, devfn: number, offset: number): number {
    return this.base + (bus - this.busStart) * 0x10_0000 + devfn * 0x1000 + offset;
  }

  async read(bus: number, devfn: number, offset: number, size: PortSize): Promise<number> {
    return Number(await this.port.read(this.address(bus, devfn, offset), size));
  }

  write(bus: number, devfn: number, offset: number, size: PortSize, value: number): Promise<void> {
    return this.port.write(this.address(bus, devfn, offset), size, BigInt.asUintN(size * 8, BigInt(value)));
  }
}

class PortAccess implements ConfigAccess {
  readonly extended = false;

  constructor(readonly port: MachinePort) {}

  private async select(bus: number, devfn: number, offset: number): Promise<number> {
    if (this.port.writePort === undefined) {
      throw new GuestFailure("the firmware describes no ECAM, and the machine has no I/O ports");
    }
    await this.port.writePort(ADDRESS, 4, (ENABLE | (bus << 16) | (devfn << 8) | (offset & 0xfc)) >>> 0);
    return DATA + (offset & 3);
  }

  async read(bus: number, devfn: number, offset: number, size: PortSize): Promise<number> {
    const at = await this.select(bus, devfn, offset);
    return (await this.port.readPort!(at, size)) >>> 0;
  }

  async write(bus: number, devfn: number, offset: number, size: PortSize, value: number): Promise<void> {
    const at = await this.select(bus, devfn, offset);
    await this.port.writePort!(at, size, value >>> 0);
  }
}
