import { describe, expect, it } from "vitest";
import { type EventStream, HostError, type IommufdDevice } from "../../../src/iommufd/index.js";
import { Log } from "../../../src/support/index.js";
import { HostFaults } from "../../../src/vtd/accel/events.js";
import { R } from "../rig.js";
import { A, Board, contextDevice, IOVA, iotlbPages, pasidCache, SHADOWED } from "./rig.js";

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
    // Bus 7 has no root entry.
    expect([board.read64(R.FRCD + 8) & 0xffffn, (board.read64(R.FRCD + 8) >> 32n) & 0xffn]).toEqual([0x700n, 0x39n]);
    board.vtd.write(R.FRCD + 12, 4, 0x8000_0000n);
    board.number(0, 1);
    board.acceleration.busNumbersChanged();
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

  it("that the host refuses to read are told once, as an overflow to the guest, and not asked for again", () => {
    let reads = 0;
    let lost = 0;
    let listener: (() => void) | null = null;
    const stream: EventStream = {
      fd: null,
      read: () => {
        reads++;
        throw new HostError("read VT-d faults", "EIO", "");
      },
      onReadable: (wanted) => (listener = wanted),
      close: () => {},
    };
    const log = new Log();
    const device = { name: "vfio-pci (host 0000:01:00.0)", openVtdFaults: () => stream } as unknown as IommufdDevice;
    const faults = HostFaults.open(device, { sourceId: 0x100, reasonOf: () => 1, recordFault: () => {}, faultsLost: () => lost++ }, log);
    for (let wakes = 0; wakes < 3; wakes++) {
      (listener as (() => void) | null)?.();
    }
    expect([reads, lost, listener]).toEqual([1, 1, null]);
    faults!.resume();
    (listener as (() => void) | null)?.();
    expect([reads, lost, listener]).toEqual([2, 2, null]);
    expect(new Set(log.warnings())).toEqual(new Set([
      "vfio-pci (host 0000:01:00.0): read VT-d faults: EIO: it is read no more, and faults of the hardware do not reach the guest until it is reset",
    ]));
  });

  it("end with the function, and leave nothing", () => {
    const board = nested();
    board.close();
    expect(board.live()).toEqual({});
  });
});

describe("faults of functions that are not on the guest's own tables", () => {
  const reason = (board: Board): number => Number((board.read64(R.FRCD + 8) >> 32n) & 0xffn);

  it.each([
    ["a write", (board: Board) => board.dmaWrite(A, 0x9000n, 1n), 5],
    ["a read", (board: Board) => board.hardware(A).readMemory(0, 0x9000, new Uint8Array(8), -1, 1, false), 6],
  ] as const)("reach the guest's record from a mirror in legacy mode: %s", (_name, act, expected) => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.start(false);
    expect(act(board)).toBe(false);
    const record = board.read64(R.FRCD + 8);
    expect([Number(record & 0xffffn), reason(board), board.read64(R.FRCD)]).toEqual([board.sid(A), expected, 0x9000n]);
  });

  it("reach it from a mirror of scalable mode, and of a function whose entry is not present", () => {
    const board = new Board({ ...SHADOWED, scalableMode: true, pasidBits: 20 });
    board.plug(A);
    board.context(A);
    board.entry(A, 0, [1n | (2n << 6n) | (2n << 2n) | BigInt(board.base(board.table(3n))), 5n, 0n]);
    board.start(true);
    board.dmaWrite(A, 0x9000n, 1n);
    expect(reason(board)).toBe(0x79);
    board.vtd.write(R.FRCD + 12, 4, 0x8000_0000n);
    // Mapped to be read.
    board.map(0, 0x9000n, 0x9000, 3n);
    board.store(board.base(0) + 0x3000 + 8 * 9, 0x9001n);
    board.run(iotlbPages(5, 0x9000n));
    board.dmaWrite(A, 0x9000n, 1n);
    expect(reason(board)).toBe(0x85);
    board.vtd.write(R.FRCD + 12, 4, 0x8000_0000n);
    board.entry(A, 0, []);
    board.run(pasidCache(5, 0));
    board.dmaWrite(A, 0x9000n, 1n);
    expect(reason(board)).toBe(0x59);
  });

  it("are silent with FPD of the context entry", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    const entry = 0x11_0000 + 0x1000 * (board.sid(A) >> 8);
    board.store(entry, board.load(entry) | 2n);
    board.start(false);
    board.dmaWrite(A, 0x9000n, 1n);
    expect(board.read(R.FSTS)).toBe(0);
  });

  it.each([
    ["that is not present", (board: Board) => board.entry(A, 5, []), 5, 0x59],
    ["whose table is not present", () => {}, 500, 0x51],
    ["that is in no order", (board: Board) => board.entry(A, 5, [1n | (7n << 6n), 5n, 0n]), 5, 0x5b],
    ["beyond the directory", () => {}, 2 ** 14 + 3, 0x46],
    ["of a context entry without PASIDs", (board: Board) => board.store(0x11_1000, board.load(0x11_1000) & ~8n), 9, 0x45],
    ["of a context entry that is gone", (board: Board) => board.context(A, false), 9, 0x41],
    ["in legacy mode", (board: Board) => board.setRoot(false), 9, 0x31],
  ] as const)("tell what the guest's own entries have against a PASID: one %s", (_name, change, pasid, expected) => {
    const board = nested();
    change(board);
    board.run(contextDevice(board.sid(A)));
    board.goOn();
    board.vtd.write(R.FRCD + 12, 4, 0x8000_0000n);
    expect(board.dmaWrite(A, IOVA, 1n, pasid)).toBe(false);
    const record = board.read64(R.FRCD + 8);
    expect([Number(record & 0xffffn), reason(board), Number((record >> 40n) & 0xfffffn), (record >> 31n) & 1n]).toEqual([board.sid(A), expected, pasid, 1n]);
  });

  it("are the host's where it has refused a PASID a table that the guest's entry names, and silent where FPD says so", () => {
    const board = nested();
    board.entry(A, 5, board.firstStage(0, 5));
    board.observer.failOn({ operation: "HWPT_ALLOC", nth: 1, errno: "ENOMEM" });
    board.run(pasidCache(5, 5));
    expect(board.acceleration.describeFunctions()[0].blockedPasids).toHaveLength(1);
    board.vtd.write(R.FRCD + 12, 4, 0x8000_0000n);
    const before = board.acceleration.faultsDelivered;
    board.dmaWrite(A, IOVA, 1n, 5);
    board.entry(A, 6, [1n | 2n | (7n << 6n), 5n, 0n]);
    board.dmaWrite(A, IOVA, 1n, 6);
    expect([board.acceleration.faultsDelivered - before, board.read64(R.FRCD + 8) >> 63n]).toEqual([0, 0n]);
  });

  it("of the first stage are silent with FPD of the context entry, too", () => {
    const board = nested();
    const entry = 0x11_0000 + 0x1000 * (board.sid(A) >> 8);
    board.store(entry, board.load(entry) | 2n);
    board.run(contextDevice(board.sid(A)));
    expect(board.dmaWrite(A, IOVA + 0x5000n, 1n)).toBe(false);
    expect(board.read(R.FSTS)).toBe(0);
  });

  it.each([
    ["an address that is not canonical", 0x8000_0000_0000n, 0x80],
    ["a read of the interrupt range", 0xfee0_0000n, 0x29],
  ] as const)("of a nested table: %s", (_name, address, expected) => {
    const board = nested();
    expect(board.hardware(A).readMemory(Number(address >> 32n), Number(BigInt.asIntN(32, address)), new Uint8Array(8), -1, 1, false)).toBe(false);
    expect(reason(board)).toBe(expected);
  });

  it("are not told of where translation is off or the guest passes through", () => {
    const board = new Board();
    board.plug(A);
    board.dmaWrite(A, 0x1_0000_0000n, 1n);
    board.context(A);
    board.entry(A, 0, board.passThrough(5));
    board.start();
    board.dmaWrite(A, 0x1_0000_0000n, 1n);
    expect(board.read(R.FSTS)).toBe(0);
  });
});
