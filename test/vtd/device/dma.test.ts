import { describe, expect, it } from "vitest";
import { DMA_FAULT, DMA_OK, type DmaAttributes } from "../../../src/memory/index.js";
import { PciRoot } from "../../../src/pci/index.js";
import { CFI, IRE, R, Rig, SIRTP, SRTP, TE } from "../rig.js";

/** Source id 00:03.0. */
const SID = 0x18;
const from = (extra: Partial<DmaAttributes> = {}): DmaAttributes => ({ requesterId: SID, pasid: -1, execute: false, privileged: false, ...extra });

const ROOT = 0x10_0000;
const CONTEXT = 0x10_1000;
const DIRECTORY = 0x10_2000;
const PASIDS = 0x10_3000;
const TABLE = 0x10_4000;
const PAGE = 0x20_0000;
const IRT = 0x30_0000;

/** Four levels of page tables for one page, entries with the given low bits. */
function mapPage(rig: Rig, iova: bigint, page: number, bits: bigint, base = TABLE): void {
  for (let level = 4; level >= 1; level--) {
    const table = base + (4 - level) * 0x1000;
    const index = Number((iova >> BigInt(3 + 9 * level)) & 0x1ffn);
    rig.store(table + 8 * index, BigInt(level === 1 ? page : table + 0x1000) | bits);
  }
}

function legacy(type: bigint): Rig {
  const rig = new Rig();
  rig.store(ROOT, BigInt(CONTEXT) | 1n, 0n);
  rig.store(CONTEXT + 16 * SID, BigInt(TABLE) | (type << 2n) | 1n, 2n | (5n << 8n));
  rig.write64(R.RTADDR, BigInt(ROOT));
  rig.command(SRTP);
  rig.command(TE);
  return rig;
}

function scalable(pgtt: bigint, properties = {}): Rig {
  const rig = new Rig({ scalableMode: true, ...properties });
  rig.store(ROOT, BigInt(CONTEXT) | 1n, 0n);
  rig.store(CONTEXT + 32 * SID, BigInt(DIRECTORY) | 1n | 8n, 0n, 0n, 0n);
  rig.store(DIRECTORY, BigInt(PASIDS) | 1n);
  const entry = (pasid: number): void =>
    rig.store(PASIDS + 64 * pasid, 1n | (pgtt << 6n) | (2n << 2n) | (pgtt === 2n ? BigInt(TABLE) : 0n), 9n, pgtt === 1n ? BigInt(TABLE) : 0n, 0n, 0n, 0n, 0n, 0n);
  entry(0);
  entry(5);
  rig.write64(R.RTADDR, BigInt(ROOT) | 0x400n);
  rig.command(SRTP);
  rig.command(TE);
  return rig;
}

const spaceOf = (rig: Rig): ReturnType<Rig["vtd"]["softwareSpace"]> =>
  rig.vtd.softwareSpace(new PciRoot({ systemMemory: rig.space }).bus, SID);
const write = (rig: Rig, iova: bigint, attributes = from()): number => spaceOf(rig).write(iova, Uint8Array.of(1, 2, 3, 4), attributes);
const IOVA = 0x12_3456_7000n;

describe("DMA of emulated functions", () => {
  it("goes through untranslated while TE is clear", () => {
    const rig = new Rig();
    expect(write(rig, BigInt(PAGE))).toBe(DMA_OK);
    expect(rig.load32(PAGE)).toBe(0x0403_0201);
  });

  it("goes through second-stage tables in legacy mode, or past them", () => {
    const rig = legacy(0n);
    mapPage(rig, IOVA, PAGE, 3n);
    expect(write(rig, IOVA + 4n)).toBe(DMA_OK);
    expect(rig.load32(PAGE + 4)).toBe(0x0403_0201);
    const past = legacy(2n);
    expect(write(past, BigInt(PAGE))).toBe(DMA_OK);
    expect(past.load32(PAGE)).toBe(0x0403_0201);
  });

  it.each([
    ["first stage", 1n, { fsts: true, pasidBits: 20 }, 7n],
    ["second stage", 2n, { pasidBits: 20 }, 3n],
  ] as const)("goes through %s tables in scalable mode, with and without PASID", (_name, pgtt, properties, bits) => {
    const rig = scalable(pgtt, properties);
    mapPage(rig, IOVA, PAGE, bits);
    expect(write(rig, IOVA)).toBe(DMA_OK);
    expect(rig.load32(PAGE)).toBe(0x0403_0201);
    expect(write(rig, IOVA + 8n, from({ pasid: 5 }))).toBe(DMA_OK);
    expect(rig.load32(PAGE + 8)).toBe(0x0403_0201);
    expect(write(rig, IOVA, from({ pasid: 6 }))).toBe(DMA_FAULT);
    expect(rig.read(R.FRCD + 12) >>> 0).toBe(0x8000_0659);
  });

  it("uses what is cached until the guest invalidates it", () => {
    const rig = legacy(0n);
    mapPage(rig, IOVA, PAGE, 3n);
    expect(write(rig, IOVA)).toBe(DMA_OK);
    mapPage(rig, IOVA, PAGE + 0x1000, 3n);
    expect(write(rig, IOVA)).toBe(DMA_OK);
    expect(rig.load32(PAGE + 0x1000)).toBe(0);
    rig.startQueue();
    rig.run(0x32n | (5n << 16n), IOVA);
    expect(write(rig, IOVA)).toBe(DMA_OK);
    expect(rig.load32(PAGE + 0x1000)).toBe(0x0403_0201);
  });

  it("forgets everything when the root table pointer is set", () => {
    const rig = legacy(0n);
    mapPage(rig, IOVA, PAGE, 3n);
    expect(write(rig, IOVA)).toBe(DMA_OK);
    rig.store(CONTEXT + 16 * SID, 0n, 0n);
    expect(write(rig, IOVA)).toBe(DMA_OK);
    rig.command(SRTP);
    expect(write(rig, IOVA)).toBe(DMA_FAULT);
  });
});

describe("faults", () => {
  const record = (rig: Rig): string => `${rig.read64(R.FRCD + 8).toString(16)} ${rig.read64(R.FRCD).toString(16)}`;

  it("are recorded with source, reason, address and type, and told of once", () => {
    const rig = legacy(0n);
    rig.write(R.FEDATA, 0x61);
    rig.write(R.FEADDR, 0xfee0_3000);
    rig.write(R.FECTL, 0);
    expect(write(rig, IOVA + 0x123n)).toBe(DMA_FAULT);
    // F, write, reason 5 (no write permission), source id 0x18; the address without its page offset.
    expect(record(rig)).toBe("8000000500000018 1234567000");
    expect(rig.read(R.FSTS)).toBe(2);
    expect(rig.messages).toEqual([{ address: 0xfee0_3000n, data: 0x61 }]);
    // The same source: collapsed. Another: no room, overflow, no further message.
    write(rig, IOVA + 0x5000n);
    expect(rig.read(R.FSTS)).toBe(2);
    write(rig, IOVA, from({ requesterId: 0x20 }));
    expect(rig.read(R.FSTS)).toBe(3);
    expect(rig.messages).toHaveLength(1);
    expect(rig.vtd.counters()).toMatchObject({ faults: 1, faultsLost: 1, faultsCollapsed: 1 });
  });

  it("can be recorded again when software has served the record and the overflow", () => {
    const rig = legacy(0n);
    write(rig, IOVA);
    write(rig, IOVA, from({ requesterId: 0x20 }));
    rig.write(R.FRCD + 12, 0x8000_0000);
    expect(rig.read(R.FSTS)).toBe(1);
    expect(rig.read(R.FECTL)).toBe(0xc000_0000);
    rig.write(R.FSTS, 1);
    expect([rig.read(R.FSTS), rig.read(R.FECTL)]).toEqual([0, 0x8000_0000]);
    spaceOf(rig).read(IOVA, new Uint8Array(4), from());
    expect(record(rig)).toBe("c000000600000018 1234567000");
  });

  it("carry the PASID", () => {
    const rig = scalable(1n, { fsts: true, pasidBits: 20 });
    write(rig, IOVA, from({ pasid: 5 }));
    // PP (bit 31 of the third word), PASID in bits 59:40, reason 0x71: no first-stage entry.
    expect(record(rig)).toBe("8000057180000018 1234567000");
  });

  it("are not recorded where FPD says so", () => {
    const rig = legacy(0n);
    rig.store(CONTEXT + 16 * SID, BigInt(TABLE) | 3n, 2n | (5n << 8n));
    rig.command(SRTP);
    expect(write(rig, IOVA)).toBe(DMA_FAULT);
    expect(rig.read(R.FSTS)).toBe(0);
  });
});

describe("interrupt remapping", () => {
  const remapping = (extra = {}): Rig => {
    const rig = new Rig(extra);
    // Entry 3: present, vector 0x45, destination 7 (bits 15:8), only for source id 0x18.
    rig.store(IRT + 16 * 3, 1n | (0x45n << 16n) | (0x700n << 32n), BigInt(SID) | (1n << 18n));
    rig.write64(R.IRTA, BigInt(IRT) | 7n);
    rig.command(SIRTP);
    rig.command(IRE);
    return rig;
  };
  /** Remappable format: handle in bits 19:5, format in bit 4. */
  const message = (index: number): bigint => BigInt(0xfee0_0010 + (index << 5));

  it("leaves messages alone while it is off", () => {
    const rig = new Rig();
    expect(rig.vtd.remapInterrupt(SID, 0xfee0_0000n, 0x31)).toEqual({ address: 0xfee0_0000n, data: 0x31 });
  });

  it("makes the message that the entry describes", () => {
    const rig = remapping();
    expect(rig.vtd.remapInterrupt(SID, message(3), 0)).toEqual({ address: 0xfee0_7000n, data: 0x4045 });
  });

  it("blocks and records what the entry does not allow", () => {
    const rig = remapping();
    expect(rig.vtd.remapInterrupt(0x20, message(3), 0)).toBeNull();
    expect(rig.read64(R.FRCD + 8).toString(16)).toBe("8000002600000020");
    expect(rig.read64(R.FRCD) >> 48n).toBe(3n);
  });

  it("tells where a message would go without a fault of one that nobody has sent", () => {
    const rig = remapping();
    expect(rig.vtd.interruptTarget(SID, message(3), 0)).toEqual({ address: 0xfee0_7000n, data: 0x4045 });
    expect(rig.vtd.interruptTarget(0x20, message(3), 0)).toBeNull();
    expect([rig.read(R.FSTS), rig.read64(R.FRCD + 8)]).toEqual([0, 0n]);
  });

  it("blocks the compatibility format unless GCMD.CFI lets it through", () => {
    const rig = remapping();
    expect(rig.vtd.remapInterrupt(SID, 0xfee0_0000n, 0x31)).toBeNull();
    rig.command(CFI);
    expect(rig.vtd.remapInterrupt(SID, 0xfee0_0000n, 0x31)).toEqual({ address: 0xfee0_0000n, data: 0x31 });
  });

  it("uses an entry until the guest invalidates it, and tells the machine", () => {
    const rig = remapping();
    let told = 0;
    rig.vtd.onInterruptsChanged = () => told++;
    rig.vtd.remapInterrupt(SID, message(3), 0);
    rig.store(IRT + 16 * 3, 1n | (0x46n << 16n) | (0x700n << 32n), BigInt(SID) | (1n << 18n));
    expect(rig.vtd.remapInterrupt(SID, message(3), 0)?.data).toBe(0x4045);
    rig.startQueue();
    rig.run(0x14n | (3n << 32n));
    expect(told).toBe(1);
    expect(rig.vtd.remapInterrupt(SID, message(3), 0)?.data).toBe(0x4046);
  });
});
