/** A small firmware: walks ECAM depth first, numbers buses, sizes BARs, places them and the windows. Sees MMIO only. */
import type { AddressSpace } from "../../src/memory/index.js";
import { ECAM_BASE, LOW_WINDOW } from "./machine.js";

export interface FoundBar {
  readonly index: number;
  readonly size: number;
  address: number;
}

export interface Found {
  readonly bus: number;
  readonly devfn: number;
  readonly id: string;
  readonly isBridge: boolean;
  readonly secondary: number;
  readonly subordinate: number;
  readonly bars: FoundBar[];
  readonly children: Found[];
}

export class Enumerator {
  nextBus = 1;
  private nextAddress = LOW_WINDOW.base;

  constructor(private readonly memory: AddressSpace) {}

  read(bus: number, devfn: number, offset: number, size = 4): number {
    return Number(this.memory.readWord(ECAM_BASE + bus * 0x10_0000 + devfn * 0x1000 + offset, size));
  }

  write(bus: number, devfn: number, offset: number, value: number, size = 4): void {
    this.memory.writeWord(ECAM_BASE + bus * 0x10_0000 + devfn * 0x1000 + offset, size, BigInt(value >>> 0));
  }

  scan(bus: number): Found[] {
    const found: Found[] = [];
    for (let devfn = 0; devfn < 256; devfn++) {
      const id = this.read(bus, devfn, 0);
      if (id === 0xffff_ffff) {
        if (devfn % 8 === 0) {
          devfn += 7;
        }
        continue;
      }
      found.push(this.visit(bus, devfn, id));
      if (devfn % 8 === 0 && (this.read(bus, devfn, 0x0e, 1) & 0x80) === 0) {
        devfn += 7;
      }
    }
    return found;
  }

  private visit(bus: number, devfn: number, id: number): Found {
    const isBridge = (this.read(bus, devfn, 0x0e, 1) & 0x7f) === 1;
    const idText = `${(id & 0xffff).toString(16).padStart(4, "0")}:${(id >>> 16).toString(16).padStart(4, "0")}`;
    const bars = this.sizeBars(bus, devfn, isBridge ? 2 : 6);
    let children: Found[] = [];
    let secondary = 0;
    let subordinate = 0;
    if (isBridge) {
      secondary = this.nextBus++;
      this.write(bus, devfn, 0x18, bus | (secondary << 8) | (0xff << 16));
      const align = (): void => {
        this.nextAddress = Math.ceil(this.nextAddress / 0x10_0000) * 0x10_0000;
      };
      align();
      const base = this.nextAddress;
      children = this.scan(secondary);
      align();
      subordinate = this.nextBus - 1;
      this.write(bus, devfn, 0x1a, subordinate, 1);
      if (this.nextAddress > base) {
        this.write(bus, devfn, 0x20, ((base >>> 16) & 0xfff0) | ((((this.nextAddress - 1) >>> 16) & 0xfff0) << 16));
      } else {
        this.write(bus, devfn, 0x20, 0x0000_fff0);
      }
      this.write(bus, devfn, 0x24, 0x0001_fff1);
    }
    this.write(bus, devfn, 0x04, 0x0006, 2);
    return { bus, devfn, id: idText, isBridge, secondary, subordinate, bars, children };
  }

  private sizeBars(bus: number, devfn: number, count: number): FoundBar[] {
    const bars: FoundBar[] = [];
    for (let index = 0; index < count; index++) {
      const at = 0x10 + 4 * index;
      this.write(bus, devfn, at, 0xffff_ffff);
      const low = this.read(bus, devfn, at);
      if (low === 0 || (low & 1) === 1) {
        this.write(bus, devfn, at, 0);
        continue;
      }
      let mask = BigInt((low & ~0xf) >>> 0) | 0xffff_ffff_0000_0000n;
      const is64 = (low & 6) === 4;
      if (is64) {
        this.write(bus, devfn, at + 4, 0xffff_ffff);
        mask = (BigInt(this.read(bus, devfn, at + 4)) << 32n) | BigInt((low & ~0xf) >>> 0);
      }
      const size = Number(BigInt.asUintN(64, -mask));
      this.nextAddress = Math.ceil(this.nextAddress / size) * size;
      this.write(bus, devfn, at, this.nextAddress);
      if (is64) {
        this.write(bus, devfn, at + 4, 0);
      }
      bars.push({ index, size, address: this.nextAddress });
      this.nextAddress += size;
      index += is64 ? 1 : 0;
    }
    return bars;
  }
}
