import { describe, expect, it } from "vitest";
import {
  addAccessControl,
  addAri,
  addAts,
  addCapability,
  addExtendedCapability,
  addPasid,
  ConfigSpace,
  findCapability,
  findExtendedCapability,
  MsiCapability,
  MsixCapability,
  PciFunction,
  plugFunction,
  removeCapability,
} from "../../src/pci/index.js";
import { makeMachine, RAM_BASE } from "./machine.js";

class Plain extends PciFunction {
  constructor() {
    super("plain", "p", "endpoint", { vendorId: 1, deviceId: 2, classCode: 0 }, 4096);
  }
}

describe("capability lists", () => {
  it("link the newest conventional capability first and extended ones in order", () => {
    const config = new ConfigSpace(4096, { vendorId: 1, deviceId: 2, classCode: 0 });
    addCapability(config, 0x01, 0x40, 8);
    addCapability(config, 0x05, 0x48, 14);
    addCapability(config, 0x10, 0x60, 0x3c);
    expect([config.bytes[0x34], config.bytes[0x61], config.bytes[0x49], config.bytes[0x41]]).toEqual([0x60, 0x48, 0x40, 0]);
    expect(config.get16(0x06) & 0x10).toBe(0x10);
    removeCapability(config, 0x05);
    expect(findCapability(config, 0x05)).toBe(0);
    expect(findCapability(config, 0x01)).toBe(0x40);
    addExtendedCapability(config, 0x0001, 2, 0x100, 0x48);
    addAccessControl(config, 0x148);
    addAri(config, 0x150, 3);
    addAts(config, 0x158, 8);
    addPasid(config, 0x160, 16, true, false);
    // Header words by PCIe 7.6.3: id, version, next.
    expect([0x100, 0x148, 0x150, 0x158, 0x160].map((at) => config.get32(at).toString(16))).toEqual(["14820001", "1501000d", "1581000e", "1601000f", "1001b"]);
    expect(findExtendedCapability(config, 0x001b)).toBe(0x160);
    expect(findExtendedCapability(config, 0x0010)).toBe(0);
    // ARI next function 15:8; ATS page aligned and queue depth; PASID width 12:8 and execute.
    expect(config.get16(0x154)).toBe(0x0300);
    expect(config.get16(0x15c)).toBe(0x0028);
    expect(config.get16(0x164)).toBe(0x1002);
    config.write(0x166, 2, 0xffff);
    expect(config.get16(0x166)).toBe(0x0003);
    config.write(0x15e, 2, 0xffff);
    expect(config.get16(0x15e)).toBe(0x801f);
  });

  it("do not run in circles on a list that a guest could not make, and refuse what does not fit", () => {
    const config = new ConfigSpace(256, { vendorId: 1, deviceId: 2, classCode: 0 });
    config.bytes[0x34] = 0x40;
    config.bytes[0x40] = 1;
    config.bytes[0x41] = 0x40;
    expect(findCapability(config, 5)).toBe(0);
    expect(findExtendedCapability(config, 1)).toBe(0);
    expect(() => addCapability(config, 5, 0xf8, 24)).toThrow(RangeError);
    expect(() => addExtendedCapability(config, 1, 1, 0x100, 8)).toThrow(RangeError);
  });
});

describe("MSI", () => {
  function make(options: { vectors: number; is64?: boolean; perVectorMask?: boolean }) {
    const machine = makeMachine();
    const fn = new Plain();
    const msi = new MsiCapability(fn, { offset: 0x50, ...options });
    plugFunction(fn, machine.root.bus, 8);
    machine.root.configWrite(8, 4, 2, 4);
    return { ...machine, fn, msi, put: (offset: number, size: number, value: number) => machine.root.configWrite(8, offset, size, value) };
  }

  it("writes the message with the vector in its low bits", () => {
    const { msi, put, memory } = make({ vectors: 8 });
    put(0x54, 4, RAM_BASE + 0x40);
    put(0x5c, 2, 0x1230);
    expect(msi.raise(0)).toBe(false);
    put(0x52, 2, 0x0001 | (2 << 4));
    expect(msi.raise(3)).toBe(true);
    expect(memory.readWord(RAM_BASE + 0x40, 4)).toBe(0x1233n);
    // Four vectors are enabled: vector 6 is folded onto 2.
    msi.raise(6);
    expect(memory.readWord(RAM_BASE + 0x40, 4)).toBe(0x1232n);
  });

  it("keeps a masked message pending until it is unmasked", () => {
    const { msi, put, memory } = make({ vectors: 4, perVectorMask: true });
    put(0x54, 4, RAM_BASE + 0x40);
    put(0x52, 2, 0x0001 | (2 << 4));
    put(0x60, 4, 0b0010);
    expect(msi.raise(1)).toBe(true);
    expect(msi.isPending(1)).toBe(true);
    expect(memory.readWord(RAM_BASE + 0x40, 4)).toBe(0n);
    put(0x60, 4, 0);
    expect(msi.isPending(1)).toBe(false);
    expect(memory.readWord(RAM_BASE + 0x40, 4)).toBe(1n);
  });

  it("has a 32-bit form", () => {
    const { msi, put, fn } = make({ vectors: 1, is64: false });
    put(0x54, 4, 0xffff_ffff);
    put(0x58, 4, 0xffff_ffff);
    expect(msi.message(0)).toEqual({ address: 0xffff_fffcn, data: 0xffff });
    expect(fn.config.get16(0x52) & 0x80).toBe(0);
  });
});

describe("MSI-X", () => {
  function make() {
    const machine = makeMachine();
    const fn = new Plain();
    const msix = new MsixCapability(fn, { offset: 0x70, vectors: 3, tableBar: 0, tableOffset: 0x1000, pbaBar: 0, pbaOffset: 0x1800 });
    plugFunction(fn, machine.root.bus, 8);
    machine.root.configWrite(8, 4, 2, 4);
    const changes: string[] = [];
    msix.onVectorChanged = (vector, live) => changes.push(`${vector}${live ? "+" : "-"}`);
    return { ...machine, fn, msix, changes, control: (value: number) => machine.root.configWrite(8, 0x72, 2, value) };
  }

  it("tells its size and places, and starts masked", () => {
    const { fn, msix } = make();
    expect([fn.config.get32(0x70) & 0xffff_00ff, fn.config.get32(0x74), fn.config.get32(0x78)]).toEqual([0x0002_0011, 0x1000, 0x1800]);
    expect([0, 1, 2].map((vector) => msix.isMasked(vector))).toEqual([true, true, true]);
    expect(msix.table.read(12, 4)).toBe(1n);
  });

  it("sends what the table says once enabled and unmasked, and tells its owner of every change", () => {
    const { msix, memory, changes, control } = make();
    msix.table.write(16, 8, BigInt(RAM_BASE + 0x83));
    msix.table.write(24, 4, 0xabcdn);
    msix.table.write(28, 4, 0xffff_fff0n);
    expect(changes).toEqual(["1-", "1-", "1-"]);
    expect(msix.raise(1)).toBe(false);
    control(0x8000);
    expect(changes.slice(3)).toEqual(["0-", "1+", "2-"]);
    expect(msix.raise(1)).toBe(true);
    // Address bits 1:0 are not kept.
    expect(memory.readWord(RAM_BASE + 0x80, 4)).toBe(0xabcdn);
    expect(msix.table.read(28, 4)).toBe(0n);
    expect(msix.raise(7)).toBe(false);
  });

  it("holds messages back while the function or the vector is masked, and sends them after", () => {
    const { msix, memory, control } = make();
    control(0xc000);
    msix.table.write(0, 8, BigInt(RAM_BASE));
    msix.table.write(8, 8, 0x5n);
    msix.raise(0);
    msix.table.write(40, 8, (1n << 32n) | 6n);
    expect(msix.pba.read(0, 8)).toBe(1n);
    expect(memory.readWord(RAM_BASE, 4)).toBe(0n);
    control(0x8000);
    expect(memory.readWord(RAM_BASE, 4)).toBe(5n);
    expect(msix.pba.read(0, 4)).toBe(0n);
    msix.table.write(32, 4, BigInt(RAM_BASE + 8));
    msix.raise(2);
    expect(msix.isPending(2)).toBe(true);
    msix.table.write(44, 4, 0n);
    expect(memory.readWord(RAM_BASE + 8, 4)).toBe(6n);
  });

  it("drops accesses that are not 4 or 8 bytes, or beyond the table; reset masks and forgets", () => {
    const { msix, changes, control } = make();
    msix.table.write(0, 2, 0xffffn);
    msix.table.write(48, 4, 1n);
    msix.table.write(4, 8, 1n);
    expect(changes).toEqual([]);
    expect(msix.table.read(0, 1)).toBe(0n);
    expect(msix.table.read(44, 8)).toBe(0n);
    control(0x8000);
    msix.table.write(0, 8, 0x1000n);
    msix.table.write(12, 4, 0n);
    changes.length = 0;
    msix.reset();
    expect(changes).toEqual(["0-", "1-", "2-"]);
    expect(msix.message(0).address).toBe(0n);
    expect(msix.isMasked(0)).toBe(true);
  });
});
