/** What the driver writes into the unit's tables (Linux intel_pasid_setup_*, domain_context_mapping_one), by literal bits. */
import { describe, expect, test } from "vitest";
import { HwptAllocFlags } from "../../../src/iommufd/index.js";
import { A, B, GuestTables, LEGACY, Rig, UNSNOOPED } from "./rig.js";

function words(rig: Rig, address: number, count: number): bigint[] {
  const bytes = new Uint8Array(8 * count);
  rig.host.hardware.memory.read(address, bytes);
  const view = new DataView(bytes.buffer);
  return [...Array(count).keys()].map((i) => view.getBigUint64(8 * i, true));
}

const PAGE = 0xf_ffff_ffff_f000n;

/** The scalable-mode context entry of a requester id, four 64-bit words. */
function scalableContext(rig: Rig, requesterId: number, unit = rig.unit()): bigint[] {
  const root = unit.rootTable + (requesterId >> 8) * 16 + ((requesterId & 0x80) >> 4);
  const [entry] = words(rig, root, 1);
  expect(entry & 1n).toBe(1n);
  return words(rig, Number(entry & PAGE) + (requesterId & 0x7f) * 32, 4);
}

/** The PASID entry, eight 64-bit words. */
function pasidEntry(rig: Rig, requesterId: number, pasid: number, unit = rig.unit()): bigint[] {
  const [context] = scalableContext(rig, requesterId, unit);
  const [directory] = words(rig, Number(context & PAGE) + (pasid >> 6) * 8, 1);
  return (directory & 1n) === 0n ? [] : words(rig, Number(directory & PAGE) + (pasid & 63) * 64, 8);
}

describe("scalable mode", () => {
  test("context entries have the function's PASID directory, device TLB and PASID enable", () => {
    const rig = new Rig();
    const [low, high] = scalableContext(rig, 0x1700);
    // P, DTE, PASIDE; PDTS 3: 2^10 directory entries for 16 bits of PASID.
    expect([low & 0xfffn, high]).toEqual([1n | (1n << 2n) | (1n << 3n) | (3n << 9n), 0n]);
    const plain = new Rig({ pasidBits: 0, deviceTlb: false });
    expect(scalableContext(plain, 0x1700)[0] & 0xfffn).toBe(1n);
  });

  test("a first stage of the kernel", () => {
    const rig = new Rig();
    const a = rig.bind(A);
    a.device.attach(rig.ioas);
    const entry = pasidEntry(rig, 0x1700, 0);
    // P, PGTT 001; DID 1, PWSNP, PGSNP; four levels.
    expect(entry.map((word, i) => (i === 2 ? word & 0xfffn : word))).toEqual([1n | (1n << 6n), 1n | (1n << 23n) | (1n << 24n), 0n, 0n, 0n, 0n, 0n, 0n]);
    const [top] = words(rig, Number(entry[2] & PAGE), 1);
    expect(top & 0xfffn).toBe(0x27n);
    a.device.detach();
    expect(pasidEntry(rig, 0x1700, 0)).toEqual(Array(8).fill(0n));
  });

  test("a nesting parent that tracks dirty pages, and a nested table with all of a guest's flags", () => {
    const rig = new Rig({ extendedAccess: true });
    const a = rig.bind(A);
    const parent = rig.parent(a.devId, HwptAllocFlags.DIRTY_TRACKING | HwptAllocFlags.PASID);
    rig.bind(B).device.attach(parent);
    a.device.attach(parent);
    const own = pasidEntry(rig, 0x1700, 0);
    // P, AW 2 (48 bits), PGTT 010.
    expect([own[0] & 0xfffn, own[1], own[2]]).toEqual([1n | (2n << 2n) | (2n << 6n), 1n | (1n << 23n), 0n]);
    rig.iommufd.hwptSetDirtyTracking(parent, true);
    expect(pasidEntry(rig, 0x1700, 0)[0]).toBe(own[0] | (1n << 9n));
    const tables = new GuestTables(rig.ram);
    a.device.attach(rig.nested(a.devId, parent, tables, { flags: 7, hwptFlags: HwptAllocFlags.PASID }), 100);
    const nested = pasidEntry(rig, 0x1700, 100);
    // PGTT 011 with SSADE; DID 2; SRE, WPE, EAFE.
    expect(nested.slice(0, 3)).toEqual([own[0] + (1n << 6n) + (1n << 9n), 2n | (1n << 23n) | (1n << 24n), BigInt(tables.root) | 1n | (1n << 4n) | (1n << 7n)]);
    rig.iommufd.hwptSetDirtyTracking(parent, false);
    expect(pasidEntry(rig, 0x1700, 100)[0] & (1n << 9n)).toBe(0n);
    a.device.detach(100);
    expect(pasidEntry(rig, 0x1700, 100)).toEqual([]);
  });

  test("leaves of a second stage have the snoop bit where the unit has snoop control, and nothing has it else", () => {
    const rig = new Rig();
    const leafOf = (address: string, requesterId: number, unit: string): bigint => {
      const bound = rig.bind(address);
      const parent = rig.parent(bound.devId);
      bound.device.attach(parent);
      let table = pasidEntry(rig, requesterId, 0, rig.unit(unit))[0];
      for (const index of [0, 1]) {
        [table] = words(rig, Number(table & PAGE) + 8 * index, 1);
      }
      return words(rig, Number(table & PAGE), 1)[0];
    };
    // R, W, large page; SNP is bit 11.
    expect([leafOf(A, 0x1700, "dmar0"), leafOf(UNSNOOPED, 0x6000, "dmar2")].map((leaf) => leaf & 0xfffn)).toEqual([0x883n, 0x083n]);
    expect(pasidEntry(rig, 0x6000, 0, rig.unit("dmar2"))[1] & (1n << 24n)).toBe(0n);
  });
});

describe("legacy mode", () => {
  test("context entries have the table, its width and the domain id", () => {
    const rig = new Rig(LEGACY);
    const context = (requesterId: number): bigint[] => {
      const [entry] = words(rig, rig.unit().rootTable + (requesterId >> 8) * 16, 1);
      return words(rig, Number(entry & PAGE) + (requesterId & 0xff) * 16, 2);
    };
    expect(context(0x1700)).toEqual([0n, 0n]);
    const a = rig.bind(A);
    a.device.attach(rig.ioas);
    const [low, high] = context(0x1700);
    // P, TT 01: untranslated and translated requests, translation requests; AW 2, DID 1.
    expect([low & 0xfffn, high]).toEqual([1n | (1n << 2n), 2n | (1n << 8n)]);
    a.device.detach();
    expect(context(0x1700)).toEqual([0n, 0n]);
  });
});
