import { beforeEach, describe, expect, it } from "vitest";
import {
  ContextView,
  GuestTables,
  PASID_FIRST_STAGE,
  PASID_INVALID,
  PASID_NOT_PRESENT,
  PASID_PASS_THROUGH,
  PasidView,
} from "../../../src/vtd/lookup/index.js";
import { FAULT } from "../../../src/vtd/spec/index.js";
import { Bench, firstStage, FULL, HOLE, passThrough, RAM_BASE, RID } from "./bench.js";

const SCE = 1n | 4n | 8n;

let b: Bench;
let tables: GuestTables;
let directory: number;
const context = new ContextView();
const view = new PasidView();
beforeEach(() => {
  b = new Bench();
  tables = new GuestTables(b.memory, FULL);
  directory = b.page();
  for (let page = 0; page < 32; page++) {
    b.page();
  }
});

function open(pdts = 0n): void {
  b.scalable(RID, BigInt(directory) | SCE | (pdts << 9n));
  expect(tables.readContext(b.translator, RID, context)).toBe(0);
}

function present(first = 0, end = 2 ** 20): [number, number][] {
  const found: [number, number][] = [];
  for (let pasid = first; pasid < Math.min(end, tables.pasidCount(context)); ) {
    const next = Math.min(end, (pasid | 63) + 1);
    const table = tables.readTable(context, pasid >>> 6);
    for (; table >= 0 && pasid < next; pasid++) {
      if (tables.readPasidOf(table, pasid, view) !== PASID_NOT_PRESENT) {
        found.push([pasid, view.kind]);
      }
    }
    pasid = next;
  }
  return found;
}

describe("a guest's tables", () => {
  it("are read without a cache", () => {
    const at = b.pasid(directory, 5, ...firstStage(RAM_BASE));
    open();
    expect(tables.readPasid(context, 5, view)).toBe(PASID_FIRST_STAGE);
    expect([view.firstStagePointer, view.domain, tables.entryWords[2]]).toEqual([RAM_BASE, 1, 1]);
    b.write(at, ...passThrough(9n));
    expect(tables.readPasid(context, 5, view)).toBe(PASID_PASS_THROUGH);
    expect([view.firstStagePointer, view.domain]).toEqual([0, 9]);
    expect(tables.readPasid(context, 6, view)).toBe(PASID_NOT_PRESENT);
    expect(tables.readPasid(context, 0x80, view)).toBe(PASID_NOT_PRESENT);
    expect(view.reason).toBe(FAULT.SM_DIRECTORY_NOT_PRESENT);
    expect(tables.readPasid(context, 0x2000, view)).toBe(PASID_NOT_PRESENT);
    b.scalable(RID, 0n);
    expect(tables.readContext(b.translator, RID, context)).toBe(FAULT.SM_CONTEXT_NOT_PRESENT);
  });

  it("have as many PASIDs as the directory and the unit", () => {
    open(7n);
    expect(tables.pasidCount(context)).toBe(2 ** 20);
    open(2n);
    expect(tables.pasidCount(context)).toBe(2 ** 15);
    tables = new GuestTables(b.memory, { ...FULL, pasidBits: 8 });
    expect(tables.pasidCount(context)).toBe(256);
    b.pasid(directory, 255, ...passThrough());
    b.pasid(directory, 256, ...passThrough());
    expect(tables.readPasid(context, 255, view)).toBe(PASID_PASS_THROUGH);
    expect(tables.readPasid(context, 256, view)).toBe(PASID_NOT_PRESENT);
    expect(present()).toEqual([[255, PASID_PASS_THROUGH]]);
  });

  it("are found table by table, entries that are in no order included", () => {
    for (const pasid of [0, 63, 64, 1000, 0xfffff]) {
      b.pasid(directory, pasid, ...passThrough());
    }
    b.pasid(directory, 1001, 1n);
    open(7n);
    expect(present()).toEqual([
      [0, PASID_PASS_THROUGH],
      [63, PASID_PASS_THROUGH],
      [64, PASID_PASS_THROUGH],
      [1000, PASID_PASS_THROUGH],
      [1001, PASID_INVALID],
      [0xfffff, PASID_PASS_THROUGH],
    ]);
    expect(present(1, 1001).map(([pasid]) => pasid)).toEqual([63, 64, 1000]);
    expect(present(64, 65).map(([pasid]) => pasid)).toEqual([64]);
    expect(present(65, 64)).toEqual([]);
  });

  it("cost what the scope holds: directory entries, and tables that are present", () => {
    for (const pasid of [5, 1000]) {
      b.pasid(directory, pasid, ...passThrough());
    }
    open(7n);
    tables.entriesRead = 0;
    present();
    expect(tables.entriesRead).toBe(2 ** 14 + 2 * 64);
    tables.entriesRead = 0;
    tables.readPasid(context, 1000, view);
    expect(tables.entriesRead).toBe(1);
    tables.entriesRead = 0;
    present(1000, 1001);
    expect(tables.entriesRead).toBe(2);
  });

  it("are passed over where a directory or a table is not there", () => {
    b.write64(directory, BigInt(HOLE) | 1n);
    b.write64(directory + 8, BigInt(RAM_BASE) | 5n);
    b.pasid(directory, 128, ...passThrough());
    open();
    expect(present().filter(([, kind]) => kind !== PASID_INVALID)).toEqual([[128, PASID_PASS_THROUGH]]);
    expect(tables.readPasid(context, 0, view)).toBe(PASID_INVALID);
    expect(view.reason).toBe(FAULT.SM_PASID_ACCESS);
    expect(tables.readPasid(context, 64, view)).toBe(PASID_INVALID);
    expect(view.reason).toBe(FAULT.SM_DIRECTORY_RESERVED);
  });

  it("are read again when an entry changes meanwhile", () => {
    const at = b.pasid(directory, 5, ...firstStage(RAM_BASE, 1n));
    open();
    const load = b.memory.load64.bind(b.memory);
    let loads = 0;
    // The guest writes the whole entry anew between the reading of the second and the third quadword.
    b.memory.load64 = (high: number, low: number): number => {
      if (low === at + 16 && loads++ === 0) {
        b.memory.load64 = load;
        b.write(at, ...firstStage(RAM_BASE + 0x1000, 2n));
      }
      return load(high, low);
    };
    expect(tables.readPasid(context, 5, view)).toBe(PASID_FIRST_STAGE);
    expect([view.domain, view.firstStagePointer]).toEqual([2, RAM_BASE + 0x1000]);
  });

  it("are given up on after a few readings of an entry that never rests", () => {
    const at = b.pasid(directory, 5, ...firstStage(RAM_BASE, 1n));
    open();
    const load = b.memory.load64.bind(b.memory);
    let domain = 1n;
    b.memory.load64 = (high: number, low: number): number => {
      if (low === at) {
        b.write64(at + 8, ++domain);
      }
      return load(high, low);
    };
    expect(tables.readPasid(context, 5, view)).toBe(PASID_FIRST_STAGE);
    expect(domain).toBeLessThan(8n);
  });
});
