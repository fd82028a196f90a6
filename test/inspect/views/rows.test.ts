/** Rows and counts as the page keeps them. */
import { describe, expect, it } from "vitest";
import { count, groups, rangeOf, seconds, short, sizeOf, sizeOfBits, typed } from "../../../src/inspect/page/views/numbers-in-words.js";
import { Samples } from "../../../src/inspect/page/views/samples.js";
import { TimelineRows, type RowFilter } from "../../../src/inspect/page/views/timeline-rows.js";
import { numbers, timelineRows } from "./fixtures.js";

const KINDS = ["store", "command", "host", "event", "interrupt", "dma", "machine"];
const all: RowFilter = { kinds: new Set(KINDS), iommu: "", function: "", text: "" };
const answer = (rows: ReturnType<typeof timelineRows>) => ({ on: true, rows, last: rows.at(-1)?.number ?? 0, first: 1 });

describe("rows of a time line", () => {
  it("are taken once each, found by number, and followed both ways", () => {
    const rows = new TimelineRows();
    expect(rows.add(answer(timelineRows(10)))).toBe(true);
    expect(rows.add(answer(timelineRows(10)))).toBe(false);
    expect(rows.add(answer(timelineRows(5, 8)))).toBe(true);
    expect([rows.length, rows.last]).toEqual([12, 12]);
    expect(rows.row(7)?.kind).toBe("command");
    expect(rows.row(13)).toBeNull();
    expect(rows.followers(6)).toEqual([7]);
    expect(rows.causes(rows.row(9)!).map(({ number }) => number)).toEqual([8, 7, 6]);
  });

  it("end a chain of causes at a row that is gone, or that names itself", () => {
    const rows = new TimelineRows();
    const [row] = timelineRows(1, 7);
    rows.add(answer([{ ...row, cause: 3 }, { ...row, number: 8, cause: 8 }]));
    expect(rows.causes(rows.row(7)!)).toEqual([]);
    expect(rows.causes(rows.row(8)!)).toEqual([]);
  });

  it("stay bounded: the oldest go, from what matches too", () => {
    const rows = new TimelineRows(100);
    rows.add(answer(timelineRows(90)));
    expect(rows.matching(all)).toHaveLength(90);
    rows.add(answer(timelineRows(30, 91)));
    expect(rows.length).toBe(100);
    expect(rows.row(20)).toBeNull();
    expect(rows.followers(16)).toEqual([]);
    const matched = rows.matching(all);
    expect([matched[0].number, matched.at(-1)!.number, matched.length]).toEqual([21, 120, 100]);
  });

  it("are filtered by kind, IOMMU, function and words, and what is new with them", () => {
    const rows = new TimelineRows();
    rows.add(answer(timelineRows(10)));
    const filter = { ...all, kinds: new Set(["event", "command"]), iommu: "smmu0", text: "F_TRANS  sid=0X100" };
    expect(rows.matching(filter).map(({ number }) => number)).toEqual([4, 9]);
    rows.add(answer(timelineRows(5, 11)));
    expect(rows.matching({ ...filter, kinds: new Set(filter.kinds) }).map(({ number }) => number)).toEqual([4, 9, 14]);
    expect(rows.matching({ ...all, function: "nvme1" })).toEqual([]);
    expect(rows.matching({ ...all, kinds: new Set() })).toEqual([]);
  });

  it("begin anew with a machine that did", () => {
    const rows = new TimelineRows();
    rows.add(answer(timelineRows(10)));
    expect(rows.matching(all)).toHaveLength(10);
    expect(rows.add(answer(timelineRows(3)))).toBe(true);
    expect(rows.matching(all).map(({ number }) => number)).toEqual([1, 2, 3]);
  });
});

describe("numbers over time", () => {
  it("are rates between moments; a machine that began anew begins anew", () => {
    const samples = new Samples();
    const row = { of: null, invalidations: 0, hostCalls: 0, exits: 0, faults: 0, dma: 0, dmaBytes: 0 };
    samples.add({ time: 0, rows: [row] });
    samples.add({ time: 0, rows: [row] });
    samples.add({ time: 500_000, rows: [{ ...row, faults: 10 }, { ...row, of: "nic0", faults: 4 }] });
    expect(samples.rates(null, "faults")).toEqual([{ time: 0.5, rate: 20 }]);
    expect(samples.rates("nic0", "faults")).toEqual([{ time: 0.5, rate: 8 }]);
    samples.add({ time: 400_000, rows: [row] });
    expect(samples.rates(null, "faults")).toEqual([]);
    samples.replace([0, 1, 2].map(numbers));
    expect(samples.rates(null, "hostCalls").map(({ rate }) => rate)).toEqual([120, 120]);
  });
});

describe("numbers in words", () => {
  it("are grouped, short and exact", () => {
    expect([groups("0x12345678abc"), groups("0x12345678"), groups("0x1000"), groups("all")]).toEqual([["123", "4567", "8abc"], ["1234", "5678"], null, null]);
    expect([count(1234567), seconds(1_234_567)]).toEqual(["1,234,567", "1.234567"]);
    expect([sizeOfBits(12), sizeOfBits(21), sizeOfBits(30), sizeOfBits(39), sizeOf(0), sizeOf(4096), sizeOf(1.5 * 2 ** 20), sizeOf(300 * 2 ** 30)]).toEqual(["4 KiB", "2 MiB", "1 GiB", "512 GiB", "0 B", "4.0 KiB", "1.5 MiB", "300 GiB"]);
    expect([short(0), short(0.25), short(12.4), short(1234), short(56_000), short(3_200_000)]).toEqual(["0", "0.3", "12", "1.2k", "56k", "3.2M"]);
  });

  it("of users are read with gaps, in hexadecimal or decimal, or not at all", () => {
    expect([typed(" 0x1234 5678 "), typed("0x10_00"), typed("4096"), typed("10g"), typed("")]).toEqual([0x12345678n, 0x1000n, 4096n, null, null]);
    expect(rangeOf("0x12345", 12)).toEqual({ first: 0x12000n, last: 0x12fffn });
    expect(rangeOf("0xffffffffffffffff", 21)).toEqual({ first: 0xffffffffffe00000n, last: 0xffffffffffffffffn });
  });
});
