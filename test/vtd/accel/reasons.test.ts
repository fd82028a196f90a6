import { afterEach, describe, expect, it } from "vitest";
import { setTrace, setTraceSink } from "../../../src/support/index.js";
import { A, Board, pasidCache, pasidCacheGlobal } from "./rig.js";

afterEach(() => setTrace("*", false));

function blocked(board: Board): string[] {
  const [{ reason, blockedPasids }] = board.acceleration.describeFunctions();
  return [reason ?? "-", ...blockedPasids.map(({ pasid, reason: why }) => `${pasid}: ${why}`)];
}

describe("why a function or a PASID is blocked", () => {
  it("is told, in the account and as a trace event, until it has a table", () => {
    const lines: string[] = [];
    setTraceSink((line) => lines.push(line));
    setTrace("vtd_device_blocked", true);
    const board = new Board();
    const { devId } = board.plug(A);
    board.start();
    expect(blocked(board)).toEqual(["SM_ROOT_NOT_PRESENT (fault reason 0x39)"]);
    board.context(A);
    const present = board.firstStage(board.table(), 5);
    const reserved = [1n | (7n << 6n), 5n, 0n];
    board.entry(A, 0, present);
    board.entry(A, 7, reserved);
    board.run(pasidCacheGlobal);
    expect(blocked(board)).toEqual(["-", "7: SM_PASID_INVALID (fault reason 0x5b)"]);
    board.entry(A, 0, reserved);
    board.run(pasidCache(5, 0));
    expect(blocked(board)).toEqual(["SM_PASID_INVALID (fault reason 0x5b)", "7: SM_PASID_INVALID (fault reason 0x5b)"]);
    expect(lines).toEqual([
      `vtd_device_blocked dev_id ${devId} pasid 0: SM_ROOT_NOT_PRESENT (fault reason 0x39)`,
      `vtd_device_blocked dev_id ${devId} pasid 7: SM_PASID_INVALID (fault reason 0x5b)`,
      `vtd_device_blocked dev_id ${devId} pasid 0: SM_PASID_INVALID (fault reason 0x5b)`,
    ]);
    board.entry(A, 0, present);
    board.entry(A, 7, present);
    board.run(pasidCacheGlobal);
    expect(blocked(board)).toEqual(["-"]);
    board.entry(A, 7, []);
    board.run(pasidCache(5, 7));
    expect(blocked(board)).toEqual(["-"]);
    board.close();
  });

  it("is the host's word where the host refused a PASID's table, until it takes it", () => {
    const board = new Board();
    board.plug(A);
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.start();
    board.entry(A, 7, board.firstStage(board.table(), 5));
    board.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "ENOMEM" });
    board.run(pasidCache(5, 7));
    expect(blocked(board)).toEqual(["-", expect.stringMatching(/^7: .*ENOMEM/)]);
    board.observer.clearFailures();
    board.vtd.write(0x34, 4, 0x10n);
    board.run(pasidCache(5, 7));
    expect(blocked(board)).toEqual(["-"]);
    board.close();
  });

  it("is kept of 64 PASIDs, and told of the others as it happens", () => {
    let told = 0;
    const board = new Board();
    board.plug(A);
    board.context(A);
    for (let pasid = 1; pasid <= 100; pasid++) {
      board.entry(A, pasid, [1n | (7n << 6n), 5n, 0n]);
    }
    setTraceSink(() => told++);
    setTrace("vtd_device_blocked", true);
    board.start();
    expect([board.acceleration.describeFunctions()[0].blockedPasids.length, told]).toEqual([64, 101]);
    board.close();
  });
});
