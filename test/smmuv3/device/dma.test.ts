import { describe, expect, it } from "vitest";
import { DMA_DECODE_ERROR, DMA_FAULT, DMA_OK, type DmaAttributes, type DmaSpace } from "../../../src/memory/index.js";
import { PciBus } from "../../../src/pci/index.js";
import { SoftwareIommuOps, type SmmuProperties } from "../../../src/smmuv3/index.js";
import { C, EVENTQ, R, Rig } from "./rig.js";

const bus = new PciBus("pcie.0", null, { isRoot: true, isExpress: true });

function from(requesterId: number, more: Partial<DmaAttributes> = {}): DmaAttributes {
  return { requesterId, pasid: -1, execute: false, privileged: false, ...more };
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/**
 * The memory and the register writes of QEMU's qtest programs (tests/qtest/libqos/qos-smmuv3.c): the
 * device's write of 0x12345678 to the IOVA has to land at 0x4ecba567.
 */
const QTEST_IOVA = 0x80_8060_4567n;
const QTEST_GPA = 0x4ecb_a567;
const QTEST_STRTAB = 0x4e17_9000;
const QTEST_SID = 1;

function qtestRig(stage: SmmuProperties["stage"], config: number): Rig {
  const rig = new Rig({ stage }, 256);
  const ste = QTEST_STRTAB + QTEST_SID * 64;
  rig.store(ste, 0x4e17_8fc0n | BigInt((config << 1) | 1));
  rig.store(ste + 0x10, 0x000d_0094_0000_0000n, 0x4e4d_0000n);
  if (config !== 6) {
    rig.store(0x4e17_8fc0, 0x1e20_6204_c000_0010n, 0x4e4d_0001n, 1n);
  }
  const tables = [0x4e4d_0000, 0x4e4d_1000, 0x4e4d_2000, 0x4e4d_3000];
  const next = [1, 2, 3].map((n) => BigInt(tables[n]) | 0x8000_0000_0000_0003n);
  const index = (address: bigint, level: number): number => Number((address >> BigInt(39 - 9 * level)) & 0x1ffn) * 8;
  const map = (input: bigint, output: bigint, attributes: bigint): void => {
    for (let level = 0; level < 3; level++) {
      rig.store(tables[level] + index(input, level), next[level]);
    }
    rig.store(tables[3] + index(input, 3), (output & 0xffff_ffff_f000n) | attributes);
  };
  if (config === 7) {
    for (let level = 0; level < 4; level++) {
      map(BigInt(tables[level] + index(QTEST_IOVA, level)), BigInt(tables[level] + index(QTEST_IOVA, level)), 0x0400_0000_0000_0763n);
    }
    map(0x4e17_8fc0n, 0x4e17_8fc0n, 0x0400_0000_0000_0763n);
  }
  map(QTEST_IOVA, 0x4ecb_a000n, config === 6 ? 0x0400_0000_0000_07e3n : 0x0400_0000_0000_0763n);
  map(0x4ecb_a000n, 0x4ecb_a000n, 0x0400_0000_0000_07e3n);
  if (config === 7) {
    map(QTEST_IOVA, 0x4ecb_a000n, 0x0400_0000_0000_0763n);
  }
  // qsmmu_program_bank, with its values.
  rig.set(R.GBPA, 0x8000_0000);
  rig.set(R.CR0, 0);
  rig.set(R.CR1, 0x0d75);
  rig.set64(R.CMDQ_BASE, 0x4e16_b00an);
  rig.set(R.CMDQ_CONS, 0);
  rig.set(R.CMDQ_PROD, 0);
  rig.set64(R.EVENTQ_BASE, 0x4e16_f00an);
  rig.set(0xa8, 0);
  rig.set(0xac, 0);
  rig.set(R.STRTAB_BASE_CFG, 5);
  rig.set64(R.STRTAB_BASE, BigInt(QTEST_STRTAB));
  rig.set(R.CR0, 0xd);
  return rig;
}

describe("QEMU's qtest programs", () => {
  it.each([
    ["stage 1", "1", 5],
    ["stage 2", "2", 6],
    ["nested", "nested", 7],
  ] as const)("%s", (_name, stage, config) => {
    const rig = qtestRig(stage, config);
    const space = new SoftwareIommuOps(rig.smmu).getAddressSpace(bus, QTEST_SID);
    expect(space.write(QTEST_IOVA, word(0x1234_5678), from(QTEST_SID))).toBe(DMA_OK);
    const seen = new Uint8Array(4);
    rig.space.readBytes(QTEST_GPA, seen);
    expect([...seen]).toEqual([0x78, 0x56, 0x34, 0x12]);
    const back = new Uint8Array(4);
    expect(space.read(QTEST_IOVA, back, from(QTEST_SID))).toBe(DMA_OK);
    expect([...back]).toEqual([...seen]);
    expect(space.translate(QTEST_IOVA, from(QTEST_SID))).toBe(QTEST_GPA);
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
    // Nothing else is mapped.
    expect(space.write(QTEST_IOVA + 0x1000n, word(1), from(QTEST_SID))).toBe(DMA_FAULT);
    expect(rig.get(R.EVENTQ_PROD)).toBe(config === 6 ? 0 : 1);
  });
});

const STRTAB = 0x4000_0000;
const CD = 0x4001_0000;
const L1 = 0x4002_0000;
const L2 = 0x4002_1000;
const L3 = 0x4002_2000;

/** Pages at IOVA 0x1000 (of ASID 7), 0x2000 and, read-only, 0x3000; StreamIDs 0x100 (stage 1), 0x101 (bypass), 0x102 (abort), 0x103 (not valid). */
function machine(properties: Partial<SmmuProperties> = {}): { rig: Rig; space: DmaSpace } {
  const rig = new Rig(properties);
  rig.store(STRTAB + 0x100 * 64, BigInt(CD) | 0xbn);
  rig.store(STRTAB + 0x101 * 64, 9n, 0x1000_0000_0000n);
  rig.store(STRTAB + 0x102 * 64, 1n);
  // T0SZ 25 (39 bits: level 1), 4K, EPD1, V; IPS 4, AA64, R, A, ASID 7.
  rig.store(CD, 0x7_6204_c000_0019n, BigInt(L1));
  rig.store(L1, BigInt(L2) | 3n);
  rig.store(L2, BigInt(L3) | 3n);
  rig.store(L3 + 8, 0x4030_5000n | 0xf63n, 0x4030_3000n | 0x763n, 0x4030_1000n | 0x7e3n);
  rig.set64(R.STRTAB_BASE, BigInt(STRTAB));
  rig.set(R.STRTAB_BASE_CFG, 9);
  rig.set(R.CR2, 2);
  rig.start(4, 4, 0xd);
  return { rig, space: rig.smmu.softwareSpace(bus, 0) };
}

function event(rig: Rig, n = 0): bigint[] {
  return rig.load(EVENTQ + n * 32, 4);
}

describe("DMA through the SMMU", () => {
  it("is split where pages are", () => {
    const { rig, space } = machine();
    const data = Uint8Array.from({ length: 0x1600 }, (_unused, n) => n * 7);
    expect(space.write(0x1900n, data, from(0x100))).toBe(DMA_OK);
    const one = new Uint8Array(0x700);
    rig.space.readBytes(0x4030_5900, one);
    expect(one).toEqual(data.slice(0, 0x700));
    const two = new Uint8Array(0xf00);
    rig.space.readBytes(0x4030_3000, two);
    expect(two).toEqual(data.slice(0x700));
    const all = new Uint8Array(0x1600);
    expect(space.read(0x1900n, all, from(0x100))).toBe(DMA_OK);
    expect(all).toEqual(data);
  });

  it("keeps what came before the fault, whose record is whole", () => {
    const { rig, space } = machine();
    const data = new Uint8Array(0x2000).fill(0xa5);
    // The third page is read-only: permission fault, write, class IN.
    expect(space.write(0x2000n, data, from(0x100))).toBe(DMA_FAULT);
    const page = new Uint8Array(0x1000);
    rig.space.readBytes(0x4030_3000, page);
    expect(page.every((byte) => byte === 0xa5)).toBe(true);
    expect(event(rig)).toEqual([0x100_0000_0013n, 0x200_0000_0000n, 0x3000n, 0n]);
    // Not mapped: translation fault, privileged read.
    expect(space.read(0x1_2345_6000n, new Uint8Array(1), from(0x100, { privileged: true }))).toBe(DMA_FAULT);
    expect(event(rig, 1)).toEqual([0x100_0000_0010n, 0x20a_0000_0000n, 0x1_2345_6000n, 0n]);
    expect(rig.pulses).toEqual(["eventq"]);
    expect(rig.log.lines.map((line) => line.text)).toEqual([
      "smmu0: F_PERMISSION for StreamID 0x100 at 0x3000",
      "smmu0: F_TRANSLATION for StreamID 0x100 at 0x123456000",
    ]);
  });

  it("has the StreamID of the access: it follows when buses are renumbered", () => {
    const { rig, space } = machine();
    expect(space.write(0x4030_0000n, word(1), from(0x101))).toBe(DMA_OK);
    expect(space.write(0x4030_0000n, word(1), from(0x102))).toBe(DMA_FAULT);
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
    expect(space.write(0x4030_0000n, word(1), from(0x103))).toBe(DMA_FAULT);
    expect(event(rig)).toEqual([0x103_0000_0004n, 0n, 0n, 0n]);
    expect(space.write(0x4030_0000n, word(1), from(0x200))).toBe(DMA_FAULT);
    expect(event(rig, 1)).toEqual([0x200_0000_0002n, 0n, 0n, 0n]);
  });

  it("records C_BAD_STREAMID with CR2.RECINVSID only", () => {
    const { rig, space } = machine();
    rig.set(R.CR0, 0);
    rig.set(R.CR2, 0);
    rig.set(R.CR0, 0xd);
    expect(space.write(0n, word(1), from(0x200))).toBe(DMA_FAULT);
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
  });

  it("is refused by GBPA.ABORT or bypasses while SMMUEN is 0", () => {
    const { rig, space } = machine();
    rig.set(R.CR0, 0xc);
    expect(space.write(0x4030_0000n, word(0x55), from(0x100))).toBe(DMA_OK);
    expect(rig.load(0x4030_0000, 1)[0] & 0xffn).toBe(0x55n);
    rig.set(R.GBPA, 0x8010_0000);
    expect(space.write(0x4030_0000n, word(0x66), from(0x100))).toBe(DMA_FAULT);
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
  });

  it("tells where nothing answers behind the translation", () => {
    const { space } = machine();
    expect(space.write(0x1000_0000n, word(1), from(0x101))).toBe(DMA_DECODE_ERROR);
  });

  it("uses substreams", () => {
    const { rig, space } = machine({ ssidsize: 8 });
    // S1CDMAX 1, S1DSS 0; the CD of SubstreamID 1 is the one above.
    rig.store(STRTAB + 0x100 * 64, 0x4001_0000n | 0xbn | (1n << 59n), 0n);
    rig.store(CD + 64, ...rig.load(CD, 2));
    expect(space.write(0x1000n, word(1), from(0x100, { pasid: 1 }))).toBe(DMA_OK);
    expect(space.write(0x1000n, word(1), from(0x100))).toBe(DMA_FAULT);
    expect(event(rig)).toEqual([0x100_0000_0006n, 0n, 0n, 0n]);
    expect(space.write(0x1000n, word(1), from(0x100, { pasid: 2 }))).toBe(DMA_FAULT);
    expect(event(rig, 1)).toEqual([0x100_0000_2008n, 0n, 0n, 0n]);
  });

  it("translates for a route without recording", () => {
    const { rig, space } = machine();
    expect(space.translate(0x1234n, from(0x100))).toBe(0x4030_5234);
    expect(space.translate(0x3234n, from(0x100))).toBe(null);
    expect(space.translate(0x9999_9000n, from(0x100))).toBe(null);
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
  });

  it("has one address space for each place on a bus", () => {
    const { rig } = machine();
    const ops = new SoftwareIommuOps(rig.smmu);
    const other = new PciBus("pcie.1", null, { isRoot: true, isExpress: true });
    expect(ops.getAddressSpace(bus, 8)).toBe(ops.getAddressSpace(bus, 8));
    expect(ops.getAddressSpace(bus, 8)).not.toBe(ops.getAddressSpace(bus, 16));
    expect(ops.getAddressSpace(bus, 8)).not.toBe(ops.getAddressSpace(other, 8));
  });
});

describe("caches are stale until a command says otherwise", () => {
  const writes = (space: DmaSpace, sid = 0x100): number => space.write(0x1000n, word(1), from(sid));

  it.each([
    ["TLBI_NH_ALL", C.nhAll()],
    ["TLBI_NH_ASID", C.nhAsid(7)],
    ["TLBI_NH_VA", C.nhVa(7, 0x1000n)],
    ["TLBI_NH_VAA", C.nhVaa(0x1000n)],
    ["TLBI_NSNH_ALL", C.nsnhAll()],
    ["a range of TLBI_NH_VA", [0x12n | (1n << 12n) | (7n << 48n), (1n << 10n) | 1n] as const],
  ])("%s drops a translation", (_name, command) => {
    const { rig, space } = machine();
    expect(writes(space)).toBe(DMA_OK);
    rig.store(L3 + 8, 0n);
    expect(writes(space)).toBe(DMA_OK);
    rig.submit(C.nhAsid(8), C.nhVa(7, 0x2000n), C.ste(0x100), C.sync());
    expect(writes(space)).toBe(DMA_OK);
    rig.submit(command, C.sync());
    expect(writes(space)).toBe(DMA_FAULT);
  });

  it.each([
    ["CFGI_STE", C.ste(0x100)],
    ["CFGI_STE_RANGE", C.steRange(0x107, 2 + 5)],
    ["CFGI_ALL", C.all()],
  ])("%s drops an STE", (_name, command) => {
    const { rig, space } = machine();
    expect(writes(space)).toBe(DMA_OK);
    rig.store(STRTAB + 0x100 * 64, 1n);
    rig.submit(C.ste(0x101), C.steRange(0x200, 3), C.cdAll(0x100), C.sync());
    expect(writes(space)).toBe(DMA_OK);
    rig.submit(command, C.sync());
    expect(writes(space)).toBe(DMA_FAULT);
  });

  it.each([
    ["CFGI_CD", C.cd(0x100)],
    // 4.3.3: without substreams the SubstreamID is ignored.
    ["CFGI_CD of a SubstreamID", C.cd(0x100, 5)],
    ["CFGI_CD_ALL", C.cdAll(0x100)],
    ["CFGI_STE", C.ste(0x100)],
  ])("%s drops a CD", (_name, command) => {
    const { rig, space } = machine();
    expect(writes(space)).toBe(DMA_OK);
    rig.store(CD, 0n);
    rig.submit(C.cd(0x101), C.sync());
    expect(writes(space)).toBe(DMA_OK);
    rig.submit(command, C.sync());
    expect(writes(space)).toBe(DMA_FAULT);
    expect(event(rig)).toEqual([0x100_0000_000an, 0n, 0n, 0n]);
  });

  it("a reset drops everything", () => {
    const { rig, space } = machine();
    expect(writes(space)).toBe(DMA_OK);
    rig.smmu.reset();
    rig.store(STRTAB + 0x100 * 64, 1n);
    rig.set64(R.STRTAB_BASE, BigInt(STRTAB));
    rig.set(R.STRTAB_BASE_CFG, 9);
    rig.set(R.CR0, 1);
    expect(writes(space)).toBe(DMA_FAULT);
  });
});

describe("fetchStreamTableEntry", () => {
  it("gives the guest's words, or says that there are none", () => {
    const { rig } = machine();
    const out = new Int32Array(16);
    expect(rig.smmu.fetchStreamTableEntry(0x101, out)).toBe(0);
    expect([...out.slice(0, 4)]).toEqual([9, 0, 0, 0x1000]);
    expect(rig.smmu.fetchStreamTableEntry(0x200, out)).toBeLessThan(0);
    rig.set(R.CR0, 0);
    rig.set64(R.STRTAB_BASE, 0x1000_0000n);
    expect(rig.smmu.fetchStreamTableEntry(0x101, out)).toBeLessThan(0);
  });

  it("follows a two-level table", () => {
    const { rig } = machine();
    rig.set(R.CR0, 0);
    rig.store(0x4008_0000 + 4 * 8, 0x4000_0000n + 0x4000n + 7n);
    rig.set64(R.STRTAB_BASE, 0x4008_0000n);
    rig.set(R.STRTAB_BASE_CFG, 0x10000 | (6 << 6) | 16);
    const out = new Int32Array(16);
    expect(rig.smmu.fetchStreamTableEntry(0x101, out)).toBe(0);
    expect(out[0]).toBe(9);
    expect(rig.smmu.fetchStreamTableEntry(0x141, out)).toBeLessThan(0);
  });
});
