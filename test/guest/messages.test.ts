import { describe, expect, it } from "vitest";
import { type ConfigAccess, enableMsi, InterruptController, messageController, PciFunction } from "../../src/guest/index.js";
import type { MachinePort } from "../../src/port/index.js";

describe("vectors of local APICs", () => {
  it("are handed out round about, and begin again after the last", async () => {
    const interrupts = new InterruptController({} as MachinePort);
    const controller = messageController({} as MachinePort, interrupts, { kind: "apic", doorbell: 0xfee0_0000, firstSpi: 0, spiCount: 0 }, { wired: new Set(), firstVector: 0xea });
    const source = { deviceId: 0, requesterId: 0x100, remapper: null };
    const take = async (count: number): Promise<number[]> =>
      (await controller.take(source, 0n, Array.from({ length: count }, () => () => {}))).messages.map(({ data }) => data);
    expect(await take(3)).toEqual([0xea, 0xeb, 0x31]);
    // All that there are: 0x31 to 0xeb, of which three are taken.
    expect(await take(200)).toEqual(Array.from({ length: 0xea - 0x32 }, (_unused, i) => 0x32 + i));
    expect(await take(1)).toEqual([]);
  });
});

describe("MSI", () => {
  it("is enabled for one message, whatever number the function had before", async () => {
    const bytes = new DataView(new ArrayBuffer(256));
    const config: ConfigAccess = {
      port: {} as MachinePort,
      extended: false,
      read: (_bus, _devfn, offset, size) => Promise.resolve(size === 1 ? bytes.getUint8(offset) : size === 2 ? bytes.getUint16(offset, true) : bytes.getUint32(offset, true)),
      write: (_bus, _devfn, offset, size, value) =>
        Promise.resolve(size === 1 ? bytes.setUint8(offset, value) : size === 2 ? bytes.setUint16(offset, value, true) : bytes.setUint32(offset, value, true)),
    };
    const fn = new PciFunction(config, 1, 0, null);
    fn.capabilities.set(5, 0x40);
    // 64-bit addresses, 32 messages offered (5 in bits 3:1) and enabled (5 in bits 6:4).
    bytes.setUint16(0x42, 0x80 | 0x50 | 0x0a | 1, true);
    await enableMsi(fn, { address: 0x1_fee0_0000n, data: 0x31 });
    expect(bytes.getUint16(0x42, true)).toBe(0x80 | 0x0a | 1);
    expect([bytes.getUint32(0x44, true), bytes.getUint32(0x48, true), bytes.getUint16(0x4c, true)]).toEqual([0xfee0_0000, 1, 0x31]);
    // INTx is off.
    expect(bytes.getUint16(4, true)).toBe(0x400);
  });
});
