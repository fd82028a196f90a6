import { describe, expect, it } from "vitest";
import type { HardwareFunction } from "../../../src/host/simulated/hardware/index.js";
import { hostInput, nestedRig, PAGE_GLOBAL_RW, PAGE_RW, type Rig, S2_PAGE_RW, ste } from "./rig.js";

const IOVA = 0x1000_0000;
const OLD = 0x4080_0000;
const NEW = 0x4090_0000;
const CERROR_ILL = 1;

/** Writes 4 bytes at the IOVA and tells which guest page they came to; "fault" for none. */
function where(rig: Rig, fn: HardwareFunction, pages: readonly number[] = [OLD, NEW], iova = IOVA): number | "fault" {
  for (const page of pages) {
    rig.ram.write(page - 0x4000_0000, new Uint8Array(4096));
  }
  const { status } = rig.dma(fn, { operation: 3, target: BigInt(iova), length: 4, pattern: -1 });
  if (status !== 2) {
    return "fault";
  }
  return pages.find((page) => rig.guestBytes(page + (iova % 4096), 1)[0] === 0xff) ?? NaN;
}

const sid = 0x100n << 32n;
const vmid1 = 1n << 32n;
const asid5 = 5n << 48n;
const va = BigInt(IOVA);

describe("stage-1 translations stay until they are invalidated", () => {
  /** Commands as two 64-bit words; fields by Arm IHI 0070, 4.4. */
  const dropping: Array<[string, bigint, bigint]> = [
    ["TLBI_NH_VA", 0x12n | vmid1 | asid5, va | 1n],
    ["TLBI_NH_VAA", 0x13n | vmid1, va | 1n],
    ["TLBI_NH_ASID", 0x11n | vmid1 | asid5, 0n],
    ["TLBI_NH_ALL", 0x10n | vmid1, 0n],
    ["TLBI_S12_VMALL", 0x28n | vmid1, 0n],
    ["TLBI_NSNH_ALL", 0x30n, 0n],
    // A range of (NUM + 1) << SCALE pages of 4K (TG 1): 8 pages that end with the one in question.
    ["TLBI_NH_VA by range", 0x12n | (7n << 12n) | vmid1 | asid5, (va - 0x7000n) | (1n << 10n)],
  ];
  it.each(dropping)("%s drops one", (_name, low, high) => {
    const { rig, fn, stage1 } = nestedRig();
    expect(where(rig, fn)).toBe(OLD);
    stage1.map(IOVA, NEW, PAGE_RW);
    expect(where(rig, fn)).toBe(OLD);
    expect(rig.command(low, high)).toBe(0);
    expect(where(rig, fn)).toBe(NEW);
  });

  const keeping: Array<[string, bigint, bigint]> = [
    ["another page's TLBI_NH_VA", 0x12n | vmid1 | asid5, (va + 0x1000n) | 1n],
    ["another ASID's TLBI_NH_VA", 0x12n | vmid1 | (6n << 48n), va | 1n],
    ["another ASID's TLBI_NH_ASID", 0x11n | vmid1 | (6n << 48n), 0n],
    ["another VMID's TLBI_NH_ALL", 0x10n | (2n << 32n), 0n],
    ["another VMID's TLBI_S12_VMALL", 0x28n | (2n << 32n), 0n],
    ["TLBI_S2_IPA, which is about stage 2 alone", 0x2an | vmid1, BigInt(OLD) | 1n],
    ["CFGI_STE", 0x03n | sid, 1n],
    ["CFGI_CD", 0x05n | sid, 1n],
    ["CFGI_CD_ALL", 0x06n | sid, 0n],
    ["CFGI_ALL", 0x04n, 31n],
    ["SYNC", 0x46n, 0n],
    ["a range before the page", 0x12n | (7n << 12n) | vmid1 | asid5, (va - 0x8000n) | (1n << 10n)],
  ];
  it.each(keeping)("%s does not", (_name, low, high) => {
    const { rig, fn, stage1 } = nestedRig();
    expect(where(rig, fn)).toBe(OLD);
    stage1.map(IOVA, NEW, PAGE_RW);
    expect(rig.command(low, high)).toBe(0);
    expect(where(rig, fn)).toBe(OLD);
  });

  it("global ones are not an ASID's, but an address's", () => {
    const { rig, fn, stage1 } = nestedRig();
    stage1.map(IOVA, OLD, PAGE_GLOBAL_RW);
    expect(where(rig, fn)).toBe(OLD);
    stage1.map(IOVA, NEW, PAGE_GLOBAL_RW);
    rig.command(0x11n | vmid1 | asid5);
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x12n | vmid1 | asid5, va);
    expect(where(rig, fn)).toBe(NEW);
  });

  it("blocks go with any address in them", () => {
    const { rig, fn, stage1 } = nestedRig();
    const block = 0x2000_0000;
    stage1.mapBlock(block, 0x4080_0000, PAGE_RW);
    expect(where(rig, fn, [OLD + 0x3000], block + 0x3000)).toBe(OLD + 0x3000);
    stage1.mapBlock(block, 0x40a0_0000, PAGE_RW);
    expect(where(rig, fn, [OLD + 0x3000], block + 0x3000)).toBe(OLD + 0x3000);
    rig.command(0x12n | vmid1 | asid5, BigInt(block + 0x3000));
    expect(where(rig, fn, [0x40a0_3000], block + 0x3000)).toBe(0x40a0_3000);
  });

  it("an unmapped page can still be written until then: what a forgotten invalidation does", () => {
    const { rig, fn, stage1 } = nestedRig();
    expect(where(rig, fn)).toBe(OLD);
    stage1.map(IOVA, 0, 0n);
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x12n | vmid1 | asid5, va | 1n);
    expect(where(rig, fn)).toBe("fault");
  });
});

describe("stage-2 translations", () => {
  it("of a stage-2-only stream go by TLBI_S2_IPA; nested ones by stage 1's commands", () => {
    const { rig, stage2 } = nestedRig();
    const other = rig.fn(1);
    // Config 6, VMID 1.
    const nested = rig.nestedSte(0, 1, stage2);
    const dwords = new BigUint64Array(nested.buffer);
    rig.install(other, ste(0xdn, 1n << 44n, dwords[2], dwords[3]));
    expect(where(rig, other, [OLD, NEW], OLD)).toBe(OLD);
    expect(where(rig, rig.fn())).toBe(OLD);
    stage2.map(OLD, rig.hpa(NEW), S2_PAGE_RW);
    rig.command(0x2an | (1n << 32n), BigInt(OLD + 0x1000));
    rig.command(0x10n | (2n << 32n));
    expect(where(rig, other, [OLD, NEW], OLD)).toBe(OLD);
    rig.command(0x2an | (1n << 32n), BigInt(OLD));
    expect(where(rig, other, [OLD, NEW], OLD)).toBe(NEW);
    expect(where(rig, rig.fn())).toBe(OLD);
    rig.command(0x10n | (1n << 32n));
    expect(where(rig, rig.fn())).toBe(NEW);
  });
});

describe("configurations stay until they are invalidated", () => {
  it.each([
    ["CFGI_STE", 0x03n | sid, 1n],
    ["CFGI_STE_RANGE", 0x04n | sid, 8n],
    ["CFGI_ALL", 0x04n, 31n],
  ])("%s drops the entry and the contexts reached by it", (_name, low, high) => {
    const { rig, fn } = nestedRig();
    expect(where(rig, fn)).toBe(OLD);
    fn.smmu!.writeSte(fn.sourceId, ste(1n));
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x03n | (0x200n << 32n), 1n);
    rig.command(0x04n | (0x400n << 32n), 8n);
    rig.command(0x05n | sid, 1n);
    rig.command(0x30n);
    expect(where(rig, fn)).toBe(OLD);
    rig.command(low, high);
    expect(where(rig, fn)).toBe("fault");
    expect(rig.events).toEqual([]);
  });

  it.each([
    ["CFGI_CD", 0x05n | sid, 1n],
    ["CFGI_CD_ALL", 0x06n | sid, 0n],
    ["CFGI_STE", 0x03n | sid, 1n],
  ])("%s drops the context", (_name, low, high) => {
    const { rig, fn, cd } = nestedRig();
    const other = rig.stage1();
    other.map(IOVA, NEW, PAGE_RW);
    expect(where(rig, fn)).toBe(OLD);
    rig.writeCd(cd, other.root, 6);
    rig.command(0x30n);
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x05n | (1n << 12n) | sid, 1n);
    rig.command(low, high);
    expect(where(rig, fn)).toBe(NEW);
  });
});

it("CFGI_CD has no SubstreamID where the SMMU has no substreams", () => {
  const input = hostInput();
  const smmus = [{ ...input.smmus[0], idr1: "0x02730010" }];
  const { rig, fn, cd } = nestedRig({ input: { ...input, smmus, functions: input.functions.map((one) => ({ ...one, pasidBits: 0 })) } });
  const other = rig.stage1();
  other.map(IOVA, NEW, PAGE_RW);
  expect(where(rig, fn)).toBe(OLD);
  rig.writeCd(cd, other.root, 6);
  rig.command(0x05n | (7n << 12n) | sid, 1n);
  expect(where(rig, fn)).toBe(NEW);
});

describe("two virtual machines", () => {
  it("with the same ASID and IOVA are apart by VMID, in hits and in invalidations", () => {
    const { rig, fn, stage1, stage2 } = nestedRig();
    const other = rig.fn(1);
    const otherStage1 = rig.stage1();
    const otherCd = rig.guestTable();
    otherStage1.map(IOVA, NEW, PAGE_RW);
    rig.writeCd(otherCd, otherStage1.root, 5);
    rig.install(other, rig.nestedSte(otherCd, 2, stage2));
    expect(where(rig, fn)).toBe(OLD);
    expect(where(rig, other)).toBe(NEW);
    stage1.map(IOVA, 0, 0n);
    otherStage1.map(IOVA, 0, 0n);
    rig.command(0x12n | (2n << 32n) | asid5, va);
    expect(where(rig, other)).toBe("fault");
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x12n | vmid1 | asid5, va);
    expect(where(rig, fn)).toBe("fault");
  });
});

describe("commands", () => {
  it("that this SMMU does not have are illegal", () => {
    const { rig } = nestedRig();
    // EL2, EL3, CFGI_VMS_PIDM, PRI_RESP, RESUME, STALL_TERM, undefined; and SSEC.
    for (const opcode of [0x07n, 0x18n, 0x1an, 0x20n, 0x21n, 0x22n, 0x23n, 0x41n, 0x44n, 0x45n, 0x00n, 0x47n, 0xffn]) {
      expect(rig.command(opcode)).toBe(CERROR_ILL);
    }
    for (const opcode of [0x01n, 0x02n, 0x03n, 0x04n, 0x05n, 0x06n, 0x40n]) {
      expect(rig.command(opcode | (1n << 10n))).toBe(CERROR_ILL);
      expect(rig.command(opcode)).toBe(0);
    }
    expect(rig.smmu.counters.commands.get(0x03)).toBe(3);
  });

  it("CMD_SYNC writes its message where it asks for one", () => {
    const { rig } = nestedRig();
    const flag = rig.hpa(0x4100_0000);
    rig.command(0x46n | (1n << 12n) | (0x1234n << 32n), BigInt(flag));
    expect(rig.read64(flag)).toBe(0x1234n);
    rig.command(0x46n | (2n << 12n) | (0x99n << 32n), BigInt(flag));
    expect(rig.read64(flag)).toBe(0x1234n);
  });
});
