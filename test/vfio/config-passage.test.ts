import { describe, expect, test } from "vitest";
import { ForwardingDevice, ForwardingHost } from "../../src/host/instruments/index.js";
import { HostError, type RegionInfo, type VfioDevice, VfioRegion } from "../../src/iommufd/index.js";
import { PciePciBridge, plugFunction } from "../../src/pci/index.js";
import { A, Board } from "../smmuv3/accel/rig.js";
import { BDF, capability, extended } from "./rig.js";

const VENDOR = 0x09;
const VPD = 0x03;
const EXPRESS = 0x10;

/** A host's configuration space that a test writes by hand, and what was asked of it since it was set up. */
function machine(prepare: (bytes: Uint8Array, view: DataView) => void = () => {}, place: "port" | "root" | "conventional" = "port") {
  const bytes = new Uint8Array(4096);
  const asked: string[] = [];
  let refuses = false;
  class Device extends ForwardingDevice {
    private ready = false;

    override bind(iommufd: number): number {
      const id = super.bind(iommufd);
      super.regionRead(VfioRegion.CONFIG, 0, bytes);
      prepare(bytes, new DataView(bytes.buffer));
      this.ready = true;
      return id;
    }

    override regionRead(index: number, offset: number, out: Uint8Array): void {
      if (index !== VfioRegion.CONFIG || !this.ready) {
        super.regionRead(index, offset, out);
        return;
      }
      asked.push(`read ${offset.toString(16)} ${out.length}`);
      if (refuses) {
        throw new HostError("read", "EIO", "");
      }
      out.set(bytes.subarray(offset, offset + out.length));
    }

    override regionWrite(index: number, offset: number, data: Uint8Array): void {
      if (index === VfioRegion.CONFIG) {
        asked.push(`write ${offset.toString(16)} ${Buffer.from(data).toString("hex")}`);
        if (refuses) {
          throw new HostError("write", "EIO", "");
        }
        bytes.set(data, offset);
      }
      super.regionWrite(index, offset, data);
    }
  }
  class Telling extends ForwardingHost {
    protected override wrapDevice(device: VfioDevice): VfioDevice {
      return new Device(device);
    }
  }
  const board = new Board();
  const host = new Telling(board.observed);
  let bdf = BDF;
  if (place === "port") {
    board.plug(A, 0, { host });
    board.number(0, 9);
  } else if (place === "root") {
    plugFunction(board.make(A, { host }), board.pci.bus, 0x40);
    bdf = 0x40;
  } else {
    const bridge = new PciePciBridge({ id: "bridge" });
    plugFunction(bridge, board.pci.bus, 0x40);
    board.pci.configWrite(0x40, 0x18, 4, 0x0009_0900);
    plugFunction(board.make(A, { host }), bridge.secondaryBuses[0], 8);
    bdf = 0x908;
  }
  asked.length = 0;
  const read = (offset: number, size = 4): number => board.pci.configRead(bdf, offset, size);
  const write = (offset: number, size: number, value: number): void => board.pci.configWrite(bdf, offset, size, value);
  return { board, bytes, asked, read, write, refuse: (on: boolean) => void (refuses = on) };
}

/** Links a capability into the host's list, in front. */
function link(bytes: Uint8Array, at: number, id: number, content: readonly number[] = []): void {
  bytes.set([id, bytes[0x34], ...content], at);
  bytes[0x34] = at;
}

/** An extended list of these capabilities, 0x40 bytes each, from 0x100 on. */
function extend(view: DataView, ids: readonly number[]): void {
  ids.forEach((id, n) => view.setUint32(0x100 + 0x40 * n, (id | (1 << 16) | ((n + 1 < ids.length ? 0x140 + 0x40 * n : 0) << 20)) >>> 0, true));
}

describe("registers that are the host's", () => {
  test("are read from it each time and written to it by their own width: status, a vendor's capability, VPD, Device Control 2, link, errors", () => {
    const { bytes, asked, read, write } = machine((host, view) => {
      link(host, 0xc0, VENDOR, [16, 1, 2, 3, 4]);
      link(host, 0xd0, VPD, [0, 0, 9, 9, 9, 9]);
      extend(view, [0x01, 0x0b]);
    });
    bytes[0xc4] = 0x77;
    expect(read(0xc4, 1)).toBe(0x77);
    write(0xc4, 2, 0x1234);
    write(0xd2, 2, 0x8004);
    write(0x06, 2, 0xf900);
    write(0x104, 4, 0xffff_ffff);
    write(0x144, 1, 5);
    expect(asked).toEqual(["read c4 1", "write c4 3412", "write d2 0480", "write 6 00f9", "write 104 ffffffff", "write 144 05"]);
    expect([read(0xc4, 2), read(0x104)]).toEqual([0x1234, 0xffff_ffff]);
  });

  test("Device Control 2 reaches the device of the simulated host", () => {
    const board = new Board();
    board.plug(A, 0);
    board.number(0, 9);
    const at = capability(board, EXPRESS) + 0x28;
    board.pci.configWrite(BDF, at, 2, 0x8000);
    expect([board.hardware(A).configRead(at, 2), board.pci.configRead(BDF, at, 2)]).toEqual([0x8000, 0x8000]);
  });

  test("an access that has bits of both goes to the host without this side's bytes", () => {
    const { asked, write } = machine();
    // Command is this side's to keep and to send; status beside it is the host's.
    write(4, 4, 0xf900_0006);
    expect(asked).toEqual(["write 4 0600", "write 6 00f9"]);
    asked.length = 0;
    // Interrupt line and pin are this side's.
    write(0x3c, 4, 0x0102_0304);
    expect(asked).toEqual(["write 3e 0201"]);
  });

  test("that it refuses read as ones, keep what is known, and are told of a few times", () => {
    const { board, read, write, refuse, bytes } = machine((host) => link(host, 0xc0, VENDOR, [16, 1]));
    const status = read(6, 2);
    refuse(true);
    for (let n = 0; n < 100; n++) {
      expect([read(0xc2, 2), read(6, 2)]).toEqual([0xffff, 0xffff]);
      write(0xc2, 2, 0);
    }
    refuse(false);
    expect([read(0xc2, 2), read(6, 2), bytes[0xc0]]).toEqual([0x0110, status, VENDOR]);
    expect(board.log.lines.length).toBeLessThan(25);
  });
});

describe("registers that are this side's", () => {
  test("ask the host nothing: base addresses, the list's links, MSI and MSI-X, interrupt line", () => {
    const { board, asked, read, write } = machine();
    const msix = capability(board, 0x11);
    asked.length = 0;
    for (let at = 0x10; at < 0x28; at += 4) {
      write(at, 4, 0xffff_ffff);
      read(at);
    }
    write(0x3c, 1, 11);
    expect([read(0x3c, 1), read(0x34, 1), read(msix, 4) & 0xff]).toEqual([11, 0x40, 0x11]);
    write(msix + 2, 2, 0x4000);
    read(msix + 4);
    expect(asked).toEqual([]);
  });

  test("header type bit 7 is the slot's, whatever the host's function has", () => {
    const { read, write } = machine((host) => (host[0x0e] |= 0x80));
    expect(read(0x0e, 1)).toBe(0);
    write(0x0e, 1, 0xff);
    expect(read(0x0e, 1) & 0x80).toBe(0);
  });

  test("capabilities that no machine serves are out of the list with their registers, and the list stays whole", () => {
    const { board, asked, read, write } = machine((_host, view) => {
      extend(view, [0x10, 0x01, 0x0e, 0x03, 0x24, 0x13, 0x0f]);
      view.setUint32(0x100 + 0x24, 0x1234_5678, true);
      view.setUint32(0x180 + 4, 0x0000_0100, true);
    });
    expect([...extended(board)]).toEqual([[0x01, 0x140], [0x03, 0x1c0], [0x0f, 0x280]]);
    expect([read(0x100), read(0x124), read(0x184)]).toEqual([0x1400_0000, 0, 0]);
    asked.length = 0;
    write(0x124, 4, 1);
    expect(asked).toEqual([]);
  });

  test("a resizable BAR offers the size that it has, and no other", () => {
    const { read, write, asked } = machine((_host, view) => {
      extend(view, [0x15]);
      // Two BARs: 2^8 MiB of many, 2^30 MiB (PCIe 7.8.6.3).
      view.setUint32(0x104, 0x0fff_fff0, true);
      view.setUint32(0x108, (8 << 8) | (2 << 5), true);
      view.setUint32(0x10c, 0x0fff_fff0, true);
      view.setUint32(0x110, (30 << 8) | 2, true);
    });
    expect([0x104, 0x108, 0x10c, 0x110].map((at) => read(at))).toEqual([1 << 12, 0x840, 0, 0x4_1e02]);
    write(0x108, 4, 0x0900);
    expect([read(0x108), asked]).toEqual([0x840, []]);
  });
});

describe("the PCI Express capability says what the function is here", () => {
  const flags = (read: (offset: number, size: number) => number, at: number): number => read(at + 2, 2);

  test("an endpoint behind a port is one, with the host's link", () => {
    const { board, read } = machine();
    const at = capability(board, EXPRESS);
    expect([flags(read, at), read(at + 0x0c)]).toEqual([2, 0x104]);
  });

  test("on the root complex's bus it is integrated and has no link", () => {
    const { read } = machine(undefined, "root");
    const at = 0x60;
    expect([flags(read, at), read(at + 0x0c), read(at + 0x10), read(at + 0x2c)]).toEqual([0x92, 0, 0, 0]);
  });

  test("an integrated one behind a port has the slowest link; version 0 is 1", () => {
    const { read } = machine((_host, view) => view.setUint16(0x62, 0x90, true));
    expect([flags(read, 0x60), read(0x6c), read(0x70)]).toEqual([1, 0x11, 0x0011_0000]);
  });

  test("on a conventional bus there is none", () => {
    const { read } = machine(undefined, "conventional");
    const ids: number[] = [];
    for (let at = read(0x34, 1); at !== 0; at = read(at + 1, 1)) {
      ids.push(read(at, 1));
    }
    expect(ids).toEqual([0x01, 0x11]);
  });
});

describe("the expansion ROM", () => {
  class WithRom extends ForwardingDevice {
    override regionInfo(index: number): RegionInfo {
      return index === VfioRegion.ROM ? { size: 0x1000, readable: true, writable: false, areas: [] } : super.regionInfo(index);
    }

    override regionRead(index: number, offset: number, out: Uint8Array): void {
      if (index === VfioRegion.ROM) {
        out.forEach((_byte, i) => (out[i] = offset + i === 0 ? 0x55 : offset + i === 1 ? 0xaa : 0));
      } else {
        super.regionRead(index, offset, out);
      }
    }
  }
  class Rom extends ForwardingHost {
    protected override wrapDevice(device: VfioDevice): VfioDevice {
      return new WithRom(device);
    }
  }

  test("is hidden; with rombar=1 it is the device's, read only, where its enable and memory decoding are on", () => {
    const at = 0x1010_0000;
    const started = (rom: boolean) => {
      const board = new Board();
      board.plug(A, 0, { host: new Rom(board.observed), rom });
      board.number(0, 9);
      board.pci.configWrite(board.ports[0].bdf, 0x20, 4, 0x11f0_1000);
      board.pci.configWrite(board.ports[0].bdf, 4, 2, 6);
      board.pci.configWrite(BDF, 0x30, 4, 0xffff_ffff);
      return board;
    };
    expect(started(false).pci.configRead(BDF, 0x30, 4)).toBe(0);
    const board = started(true);
    expect(board.pci.configRead(BDF, 0x30, 4)).toBe(0xffff_f001);
    const signature = (): number => Number(board.space.readWord(at, 2));
    board.pci.configWrite(BDF, 0x30, 4, at);
    board.pci.configWrite(BDF, 4, 2, 2);
    expect(signature()).toBe(0);
    board.pci.configWrite(BDF, 0x30, 4, at | 1);
    expect(signature()).toBe(0xaa55);
    board.space.writeWord(at, 2, 0n);
    expect(signature()).toBe(0xaa55);
    board.pci.configWrite(BDF, 4, 2, 0);
    expect(signature()).toBe(0);
  });

  test("asked for where there is none is told", () => {
    const board = new Board();
    board.plug(A, 0, { rom: true });
    expect(board.log.lines.map(({ text }) => text)).toEqual([expect.stringContaining("no expansion ROM")]);
  });
});
