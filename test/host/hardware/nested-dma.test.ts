import { describe, expect, it } from "vitest";
import { GUEST_BASE, MSI_WINDOW, nestedRig, PAGE_RO, PAGE_RW, Rig, S2_PAGE_RO, ste } from "./rig.js";

const DONE = 2;
const DONE_FAULT = 6;
const IOVA = 0x1000_0000;
const DATA = 0x4080_0000;
/** Event numbers and the CLASS, S2 and RnW bits of an event's word 3 (Arm IHI 0070, 7.3). */
const F_TRANSLATION = 0x10;
const F_PERMISSION = 0x13;
const S2 = 0x80;
const CLASS_TT = 0x100;
const CLASS_IN = 0x200;
const RNW = 8;

describe("nested DMA", () => {
  it("reads and writes guest memory through both stages", () => {
    const { rig, fn } = nestedRig();
    const text = new TextEncoder().encode("through both stages");
    rig.ram.write(DATA + 0xff8 - GUEST_BASE, text);
    expect(rig.dma(fn, { operation: 0, source: BigInt(IOVA + 0xff8), target: BigInt(IOVA + 0x5ff4), length: text.length })).toEqual({
      status: DONE,
      fault: 0n,
      bytes: text.length,
    });
    expect(new TextDecoder().decode(rig.guestBytes(DATA + 0x5ff4, text.length))).toBe("through both stages");
    expect(rig.events).toEqual([]);
    // A request ends at a 4 KiB boundary of either side: 8, 4 and 7 bytes, each read and written.
    expect(fn.counters).toMatchObject({ transactions: 6, bytes: 2 * text.length, faults: 0 });
    expect(rig.smmu.counters.walks).toBe(4);
    expect(rig.smmu.counters.tlbHits).toBe(2);
  });

  it("aborts without an event where nobody has written the stream's entry", () => {
    const rig = new Rig();
    expect(rig.dma(rig.fn(), { operation: 3, target: 0x4000_0000n, length: 64 })).toEqual({ status: DONE_FAULT, fault: 0x4000_0000n, bytes: 0 });
    expect(rig.events).toEqual([]);
    expect(rig.smmu.counters.faults).toBe(1);
  });

  it("stops at the first page that is not mapped, with the architecture's event", () => {
    const { rig, fn } = nestedRig();
    expect(rig.dma(fn, { operation: 3, target: BigInt(IOVA + 0xe000), length: 0x4000, pattern: 0x55aa55aa })).toEqual({
      status: DONE_FAULT,
      fault: BigInt(IOVA + 0x1_0000),
      bytes: 0x2000,
    });
    expect(rig.guestBytes(DATA + 0xfffc, 4)).toEqual(Uint8Array.of(0xaa, 0x55, 0xaa, 0x55));
    expect(rig.events).toEqual([Int32Array.of(F_TRANSLATION, 0x100, 0, CLASS_IN, IOVA + 0x1_0000, 0, 0, 0)]);
  });

  it("fetches stage-1 descriptors through stage 2, and reports the IPA that stage 2 does not map", () => {
    const { rig, fn, stage1, stage2 } = nestedRig();
    const table = stage1.slot(IOVA) & ~0xfff;
    stage2.map(table, 0, 0n);
    expect(rig.dma(fn, { operation: 1, source: BigInt(IOVA + 0x2010), length: 16 }).status).toBe(DONE_FAULT);
    expect(rig.events).toEqual([Int32Array.of(F_TRANSLATION, 0x100, 0, S2 | CLASS_TT | RNW, IOVA + 0x2010, 0, table, 0)]);
  });

  it("puts stage-1 tables where stage 2 says they are, not where their IPA is", () => {
    const { rig, fn, stage1, stage2 } = nestedRig();
    // The level 3 table moves to another host page; the IPA stays.
    const table = stage1.slot(IOVA) & ~0xfff;
    const moved = rig.hpa(0x4100_0000);
    for (let i = 0; i < 512; i++) {
      rig.write64(moved + i * 8, rig.read64(rig.hpa(table) + i * 8));
      rig.write64(rig.hpa(table) + i * 8, 0n);
    }
    stage2.map(table, moved, 0x7ffn);
    rig.flush();
    expect(rig.dma(fn, { operation: 3, target: BigInt(IOVA), length: 4096 }).status).toBe(DONE);
  });

  it("grants what both stages grant", () => {
    const { rig, fn, stage1, stage2 } = nestedRig();
    stage1.map(IOVA, DATA, PAGE_RO);
    stage2.map(DATA + 0x1000, rig.hpa(DATA + 0x1000), S2_PAGE_RO);
    expect(rig.dma(fn, { operation: 1, source: BigInt(IOVA), length: 4096 }).status).toBe(DONE);
    expect(rig.dma(fn, { operation: 2, target: BigInt(IOVA), length: 4096 }).status).toBe(DONE_FAULT);
    expect(rig.dma(fn, { operation: 1, source: BigInt(IOVA + 0x1000), length: 4096 }).status).toBe(DONE);
    expect(rig.dma(fn, { operation: 2, target: BigInt(IOVA + 0x1000), length: 4096 }).status).toBe(DONE_FAULT);
    expect(rig.events).toEqual([
      Int32Array.of(F_PERMISSION, 0x100, 0, CLASS_IN, IOVA, 0, 0, 0),
      Int32Array.of(F_PERMISSION, 0x100, 0, S2 | CLASS_IN, IOVA + 0x1000, 0, DATA + 0x1000, 0),
    ]);
  });

  it("uses the context of the PASID: two-level by nothing, one table of 2^4 CDs", () => {
    const { rig, fn, stage1, stage2 } = nestedRig();
    const contexts = rig.guestTable();
    const other = rig.stage1();
    other.map(IOVA, DATA + 0x10_0000, PAGE_RW);
    rig.writeCd(contexts, stage1.root, 5);
    rig.writeCd(contexts + 3 * 64, other.root, 6);
    rig.install(fn, rig.nestedSte(contexts, 1, stage2, { cdMax: 4, s1dss: 2 }));
    expect(rig.dma(fn, { operation: 3, target: BigInt(IOVA), length: 4, pattern: 1 }).status).toBe(DONE);
    expect(rig.dma(fn, { operation: 3, target: BigInt(IOVA), length: 4, pattern: 3, pasid: 3 }).status).toBe(DONE);
    expect(rig.guestBytes(DATA, 4)).toEqual(Uint8Array.of(1, 0, 0, 0));
    expect(rig.guestBytes(DATA + 0x10_0000, 4)).toEqual(Uint8Array.of(3, 0, 0, 0));
    // A PASID whose CD is not valid, and one beyond the table: C_BAD_CD (0x0a), C_BAD_SUBSTREAMID (0x08).
    expect(rig.dma(fn, { operation: 3, target: BigInt(IOVA), length: 4, pasid: 2 }).status).toBe(DONE_FAULT);
    expect(rig.dma(fn, { operation: 3, target: BigInt(IOVA), length: 4, pasid: 16 }).status).toBe(DONE_FAULT);
    expect(rig.events.map((event) => [event[0] & 0xff, event[0] >>> 12])).toEqual([
      [0x0a, 2],
      [0x08, 16],
    ]);
  });

  it("bypasses by the entry, and reports a StreamID beyond the table", () => {
    const { rig, fn } = nestedRig();
    rig.install(fn, ste(0x9n, 1n << 44n));
    expect(rig.dma(fn, { operation: 3, target: BigInt(rig.hpa(DATA)), length: 4, pattern: 7 }).status).toBe(DONE);
    expect(rig.guestBytes(DATA, 4)).toEqual(Uint8Array.of(7, 0, 0, 0));
    // Nothing answers beyond RAM: a bus error, no event of the SMMU.
    expect(rig.dma(fn, { operation: 3, target: 0x30_0000_0000n, length: 4 }).status).toBe(DONE_FAULT);
    expect(rig.events).toEqual([]);
    expect(rig.smmu.translate(0x4000, -1, 0, 0, 2)).toBe(false);
    expect(rig.events[0][0]).toBe(0x02);
  });
});

describe("message-signalled interrupts", () => {
  const target = { address: BigInt(MSI_WINDOW + 0x40), data: 0x1234 };

  it("go through both stages to the doorbell", () => {
    const { rig, fn, stage1 } = nestedRig();
    stage1.map(MSI_WINDOW, MSI_WINDOW, PAGE_RW);
    fn.setMsi(2, target);
    fn.raise(2);
    expect(rig.messages).toEqual([{ fn, address: rig.hardware.msiDoorbell, data: 0x1234 }]);
    rig.dma(fn, { operation: 3, target: BigInt(IOVA), length: 64, control: (2 << 16) | 0x80 });
    expect(rig.messages.length).toBe(2);
    expect(fn.counters.messages).toBe(2);
  });

  it("fault where the guest has not mapped the window: an event, no interrupt", () => {
    const { rig, fn } = nestedRig();
    fn.setMsi(2, target);
    fn.raise(2);
    expect(rig.messages).toEqual([]);
    expect(rig.events).toEqual([Int32Array.of(F_TRANSLATION, 0x100, 0, CLASS_IN, MSI_WINDOW + 0x40, 0, 0, 0)]);
    expect(fn.counters.faults).toBe(1);
  });

  it("are kept pending while the vector is masked, and are nothing while MSI-X is off", () => {
    const { rig, fn, stage1 } = nestedRig();
    stage1.map(MSI_WINDOW, MSI_WINDOW, PAGE_RW);
    fn.raise(1);
    fn.setMsi(0, target);
    expect(rig.messages).toEqual([]);
    fn.raise(1);
    const pending = new Uint8Array(1);
    fn.regionRead(0, 0x6000, pending);
    expect(pending[0]).toBe(2);
    fn.setMsi(1, { ...target, data: 9 });
    expect(rig.messages.map((message) => message.data)).toEqual([9]);
    fn.setMsi(0, null);
    fn.setMsi(1, null);
    fn.raise(1);
    expect(rig.messages.length).toBe(1);
  });

  it("are 32 bits at the register and nothing elsewhere in its page", () => {
    const { rig, fn, stage1 } = nestedRig();
    stage1.map(MSI_WINDOW, MSI_WINDOW, PAGE_RW);
    expect(rig.dma(fn, { operation: 3, target: target.address, length: 8, pattern: 1 }).status).toBe(DONE);
    expect(rig.dma(fn, { operation: 3, target: target.address + 4n, length: 4, pattern: 1 }).status).toBe(DONE);
    expect(rig.messages).toEqual([]);
    expect(rig.dma(fn, { operation: 3, target: target.address, length: 4, pattern: 77 }).status).toBe(DONE);
    expect(rig.messages.map((message) => message.data)).toEqual([77]);
  });
});
