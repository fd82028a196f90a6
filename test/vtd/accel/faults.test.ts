import { describe, expect, it } from "vitest";
import { R } from "../rig.js";
import { A, Board, IOVA, pasidCache } from "./rig.js";

const nested = (): Board => {
  const board = new Board();
  board.plug(A);
  board.context(A);
  board.entry(A, 0, board.firstStage(board.table(), 5));
  board.entry(A, 9, board.firstStage(0, 5));
  board.start();
  return board;
};

describe("first-stage faults of the hardware", () => {
  it("reach the guest's fault record, with the guest's source id", () => {
    const board = nested();
    board.number(0, 7);
    expect(board.dmaWrite(A, IOVA + 0x5000n, 1n)).toBe(false);
    board.number(0, 1);
    board.vtd.acceleration.busNumbersChanged();
    expect(board.dmaWrite(A, IOVA + 0x5000n, 1n)).toBe(false);
    const record = board.read64(R.FRCD + 8);
    expect([Number(record & 0xffffn), Number((record >> 32n) & 0xffn), record >> 63n]).toEqual([board.sid(A), 0x71, 1n]);
    expect(board.read64(R.FRCD)).toBe(IOVA + 0x5000n);
    expect(board.read(R.FSTS)).toBe(2);
  });

  it("carry the PASID", () => {
    const board = nested();
    expect(board.dmaWrite(A, IOVA + 0x5000n, 1n, 9)).toBe(false);
    const record = board.read64(R.FRCD + 8);
    expect([Number((record >> 40n) & 0xfffffn), (record >> 31n) & 1n]).toEqual([9, 1n]);
  });

  it("are silent where the guest's entry has fault reporting off", () => {
    const board = nested();
    const entry = [...board.firstStage(0, 5)];
    entry[0] |= 2n;
    board.entry(A, 0, entry);
    board.run(pasidCache(5, 0));
    expect(board.dmaWrite(A, IOVA + 0x5000n, 1n)).toBe(false);
    expect(board.read(R.FSTS)).toBe(0);
  });

  it("end with the function, and leave nothing", () => {
    const board = nested();
    board.close();
    expect(board.live()).toEqual({});
  });
});
