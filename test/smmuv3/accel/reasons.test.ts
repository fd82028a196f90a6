import { describe, expect, test } from "vitest";
import { A, B, Board, encodeCommand, OP } from "./rig.js";

const reasonOf = (board: Board, at = 0): string | null => board.smmu.acceleration.describeFunctions()[at].reason;
const CFGI_ALL = encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 });

/** Function A on bus 9: StreamID 0x900. */
function plugged(): Board {
  const board = new Board();
  board.plug(A);
  board.number(0, 9);
  board.freeze();
  return board;
}

describe("why a function is blocked", () => {
  test("is nothing where it is not", () => {
    const board = plugged();
    expect(reasonOf(board)).toBeNull();
    board.smmu.ste(0x900, board.stage1(board.table()));
    board.smmu.enable();
    expect([reasonOf(board), board.probe(A)]).toEqual([null, "table 0"]);
  });

  test.each([
    ["V is 0", new Int32Array(16), "the entry of StreamID 0x900 is not valid: V is 0 (IHI 0070, 5.2)"],
    ["Config is abort", Int32Array.of(1, ...Array<number>(15).fill(0)), "the entry of StreamID 0x900 has Config 0b000: abort (IHI 0070, 5.2)"],
  ])("%s", (_what, words, reason) => {
    const board = plugged();
    board.smmu.ste(0x900, words);
    board.smmu.enable();
    expect([reasonOf(board), board.probe(A)]).toEqual([reason, "abort"]);
    board.smmu.ste(0x900, board.stage1(board.table()));
    board.smmu.submit(CFGI_ALL);
    expect([reasonOf(board), board.probe(A)]).toEqual([null, "table 0"]);
  });

  test("an illegal entry: what is illegal in it", () => {
    const board = plugged();
    // Stage 2 is not offered with accel=on.
    board.smmu.ste(0x900, Int32Array.of(1 | (6 << 1), ...Array<number>(15).fill(0)));
    board.smmu.enable();
    expect(reasonOf(board)).toMatch(/^the entry of StreamID 0x900 is illegal: .+: C_BAD_STE \(IHI 0070, 5\.2\)$/);
  });

  test("SMMUEN = 0 with GBPA.ABORT, no bus number, a StreamID beyond the table, one that cannot be fetched, one of two", () => {
    const board = plugged();
    board.smmu.set(0x44, 0x8010_0000);
    expect(reasonOf(board)).toBe("SMMUEN is 0 and GBPA.ABORT is 1 (IHI 0070, 6.3.14)");
    board.smmu.ste(0x900, board.stage1(board.table()));
    board.smmu.enable();
    expect(reasonOf(board)).toBeNull();
    board.number(0, 0);
    expect(reasonOf(board)).toBe("the guest has given its bus no number");
    board.number(0, 9);
    expect(reasonOf(board)).toBeNull();
    board.plug(B, 1);
    board.number(1, 9);
    expect(reasonOf(board, 1)).toMatch(/^StreamID 0x900 is that of .+, too$/);
    board.number(1, 10);
    board.smmu.set(0x20, 0);
    board.smmu.set(0x88, 4);
    board.smmu.set(0x20, 0xd);
    expect(reasonOf(board)).toBe("StreamID 0x900 is beyond the stream table: C_BAD_STREAMID (IHI 0070, 6.3.25 and 7.3.3)");
    board.smmu.set(0x20, 0);
    board.smmu.set(0x88, 16);
    board.smmu.set(0x84, 0x7f);
    board.smmu.set(0x20, 0xd);
    expect(reasonOf(board)).toBe("the entry of StreamID 0x900 cannot be fetched: F_STE_FETCH (IHI 0070, 7.3.4)");
  });

  test("the host refuses its table", () => {
    const board = plugged();
    board.smmu.ste(0x900, board.stage1(board.table()));
    board.observer.failOn({ operation: "HWPT_ALLOC", nth: 1, errno: "ENOMEM" });
    board.smmu.enable();
    expect(reasonOf(board)).toBe("the host refused its table: HWPT_ALLOC: ENOMEM (made to fail by a test); it is blocked");
    board.smmu.submit(CFGI_ALL);
    expect([reasonOf(board), board.probe(A)]).toEqual([null, "table 0"]);
  });
});
