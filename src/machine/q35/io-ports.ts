/** A PC's I/O space: 64 Ki ports, of which ranges are somebody's. Others read as all ones. */
import type { MmioHandler } from "../../memory/index.js";
import type { PortSpace } from "../accesses.js";

interface PortRange {
  readonly name: string;
  readonly first: number;
  readonly count: number;
  readonly handler: MmioHandler;
}

/** `offset` of its accesses is the port's number. */
export class IoPorts implements PortSpace {
  private readonly ranges: PortRange[] = [];

  /** Gives `count` ports from `first` on to a handler, whose offsets count from `first`. Earlier ranges go before later ones. */
  add(name: string, first: number, count: number, handler: MmioHandler): void {
    this.ranges.push({ name, first, count, handler });
  }

  /** Of the range that a port is of, for the account. */
  nameOf(port: number): string {
    return this.find(port, 1)?.name ?? "no port";
  }

  read(port: number, size: number): bigint {
    const range = this.find(port, size);
    return range === undefined ? (1n << BigInt(8 * size)) - 1n : range.handler.read(port - range.first, size);
  }

  write(port: number, size: number, value: bigint): void {
    const range = this.find(port, size);
    range?.handler.write(port - range.first, size, value);
  }

  private find(port: number, size: number): PortRange | undefined {
    return this.ranges.find(({ first, count }) => port >= first && port + size <= first + count);
  }
}

/** Where configuration mechanism #1 is (PCI Local Bus 3.0, 3.2.2.3.2): address at 0xcf8, data at 0xcfc. */
export const CONFIG_ADDRESS = 0xcf8;
const ENABLE = 0x8000_0000;

/** Configuration accesses by ports; offsets 0 to 3 are the address, 4 to 7 the data. */
export class ConfigPorts implements MmioHandler {
  private address = 0;

  constructor(
    private readonly configuration: {
      configRead(bdf: number, offset: number, size: number): number;
      configWrite(bdf: number, offset: number, size: number, value: number): void;
    },
  ) {}

  reset(): void {
    this.address = 0;
  }

  read(offset: number, size: number): bigint {
    if (offset < 4) {
      return size === 4 ? BigInt(this.address >>> 0) : (1n << BigInt(8 * size)) - 1n;
    }
    if (!this.enabled) {
      return (1n << BigInt(8 * size)) - 1n;
    }
    return BigInt(this.configuration.configRead(this.bdf, this.register(offset), size) >>> 0);
  }

  write(offset: number, size: number, value: bigint): void {
    if (offset < 4) {
      if (offset === 0 && size === 4) {
        this.address = Number(value & 0xffff_ffffn);
      }
    } else if (this.enabled) {
      this.configuration.configWrite(this.bdf, this.register(offset), size, Number(value & 0xffff_ffffn));
    }
  }

  private get enabled(): boolean {
    return (this.address & ENABLE) !== 0;
  }

  private get bdf(): number {
    return (this.address >>> 8) & 0xffff;
  }

  private register(offset: number): number {
    return (this.address & 0xfc) + (offset - 4);
  }
}
