import { describe, expect, it } from "vitest";
import { IommuTestdev } from "../../src/devices/index.js";
import type { DmaSpace } from "../../src/memory/index.js";
import { plugFunction, setupIommu } from "../../src/pci/index.js";
import { makeMachine, RAM_BASE } from "../pci/machine.js";

const BAR = 0x1200_0000;
const IOVA = 0x8080_6045_6000n;

function make(target: number | null = RAM_BASE + 0x1000) {
  const machine = makeMachine();
  const { root, memory } = machine;
  const space: DmaSpace = {
    name: "iommu",
    kind: "iommu",
    read: () => -1,
    write: (iova, data, attributes) => (target !== null && iova === IOVA ? memory.writeBytes(target, data, attributes) : -1),
    translate: () => null,
  };
  setupIommu(root.bus, { getAddressSpace: () => space });
  const device = new IommuTestdev({ id: "t", systemMemory: memory });
  plugFunction(device, root.bus, 8);
  root.configWrite(8, 0x10, 4, BAR);
  root.configWrite(8, 4, 2, 6);
  const read = (offset: number): number => Number(memory.readWord(BAR + offset, 4));
  const write = (offset: number, value: number): void => memory.writeWord(BAR + offset, 4, BigInt(value >>> 0));
  /** As QEMU's qtest does it (tests/qtest/libqos/qos-iommu-testdev.c). */
  const trigger = (length: number, attributes: number, gpa = RAM_BASE + 0x1000): number => {
    write(0x04, Number(IOVA & 0xffff_ffffn));
    write(0x08, Number(IOVA >> 32n));
    write(0x1c, gpa);
    write(0x20, 0);
    write(0x0c, length);
    write(0x18, attributes);
    write(0x14, 1);
    expect(read(0x10)).toBe(0xffff_fffe);
    expect(read(0x00)).toBe(0);
    return read(0x10);
  };
  return { ...machine, device, read, write, trigger };
}

/** Non-secure, marked valid. */
const NONSECURE = (1 << 1) | (1 << 3);

describe("iommu-testdev, by QEMU's protocol", () => {
  it("writes 0x12345678 through the IOMMU and finds it at the expected address", () => {
    const { trigger, memory, read, device } = make();
    expect(trigger(4, NONSECURE)).toBe(0);
    expect(memory.readWord(RAM_BASE + 0x1000, 4)).toBe(0x1234_5678n);
    expect(trigger(7, 0)).toBe(0);
    expect(memory.readWord(RAM_BASE + 0x1004, 4)).toBe(0x0034_5678n);
    // The request is consumed: without arming again there is none.
    expect(read(0x00)).toBe(0);
    expect(read(0x10)).toBe(0xdead_0005);
    expect(device.counters).toEqual({ transactions: 2, bytes: 11, faults: 0 });
  });

  it("starts idle and keeps its registers", () => {
    const { read, write, root } = make();
    expect([read(0x04), read(0x0c), read(0x10), read(0x14), read(0x18), read(0x24)]).toEqual([0, 0, 0xffff_ffff, 0, 2, 0]);
    for (const offset of [0x04, 0x08, 0x0c, 0x10, 0x18, 0x1c, 0x20]) {
      write(offset, 0x1000 + offset);
      expect(read(offset)).toBe(0x1000 + offset);
    }
    write(0x14, 1);
    expect(read(0x10)).toBe(0xffff_fffe);
    write(0x14, 0);
    expect(read(0x10)).toBe(0xffff_ffff);
    root.reset();
    root.configWrite(8, 0x10, 4, BAR);
    root.configWrite(8, 4, 2, 6);
    expect([read(0x04), read(0x10), read(0x18)]).toEqual([0, 0xffff_ffff, 2]);
  });

  it("tells why it failed", () => {
    expect(make().trigger(0, NONSECURE)).toBe(0xdead_0001);
    expect(make().trigger(0xffff_ffff, NONSECURE)).toBe(0xdead_0001);
    expect(make(null).trigger(4, NONSECURE)).toBe(0xdead_0002);
    expect(make().trigger(4, NONSECURE, 0x3000_0000)).toBe(0xdead_0003);
    expect(make().trigger(4, NONSECURE, RAM_BASE + 0x2000)).toBe(0xdead_0004);
    // Secure with the Non-secure space, Non-secure with the Secure space.
    expect(make().trigger(4, NONSECURE | 1)).toBe(0xdead_0006);
    expect(make().trigger(4, 1 << 3)).toBe(0xdead_0006);
    // Spaces that this IOMMU has no streams of.
    expect(make().trigger(4, (1 << 3) | 1)).toBe(0xdead_0002);
    expect(make().trigger(4, (1 << 3) | (2 << 1))).toBe(0xdead_0002);
  });

  it("takes 32-bit accesses only, and does not run by DMA or without bus mastering", () => {
    const { memory, read, write, device, root, trigger } = make();
    memory.writeWord(BAR + 0x08, 8, 0x5_0000_0006n);
    expect([read(0x08), read(0x0c)]).toEqual([0, 0]);
    write(0x14, 1);
    expect(device.mmio.read(0, 4, { requesterId: 8, pasid: -1, execute: false, privileged: false })).toBe(0n);
    expect(read(0x10)).toBe(0xffff_fffe);
    root.configWrite(8, 4, 2, 2);
    expect(trigger(4, NONSECURE)).toBe(0xdead_0002);
  });
});
