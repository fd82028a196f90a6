import { describe, expect, test } from "vitest";
import { VEVENT_ARM_SMMUV3_BYTES, VEVENT_HEADER_BYTES, VEVENTQ_FLAG_LOST_EVENTS, HostError, type EventStream, type Iommufd } from "../../../src/iommufd/index.js";
import { Log } from "../../../src/support/index.js";
import { EVENT } from "../../../src/smmuv3/spec/index.js";
import { VeventReader } from "../../../src/smmuv3/accel/events.js";
import type { SmmuForBackend } from "../../../src/smmuv3/index.js";
import { A, B, Board, EVENTQ_BITS, IOVA } from "./rig.js";

function booted(): Board {
  const board = new Board();
  board.plug(A);
  board.plug(B, 1);
  board.number(0, 9);
  board.number(1, 10);
  board.smmu.ste(0x900, board.stage1(board.table()));
  board.smmu.ste(0xa00, board.stage1(board.table()));
  board.freeze();
  board.smmu.enable();
  return board;
}

const fault = (board: Board, address: string, iova: number): void => expect(board.dmaWrite(address, iova, 1n)).toBe(false);

describe("a fault of the hardware", () => {
  test("is an event in the guest's queue with the guest's StreamID, and an interrupt", () => {
    const board = booted();
    expect(board.hardware(A).sourceId).toBe(0x100);
    fault(board, A, IOVA + 0x3000);
    fault(board, B, 0x5_1234_5678);
    const events = board.smmu.events();
    expect(events.map((event) => [event[0] & 0xff, event[1], event[4] >>> 0, event[5]])).toEqual([
      [EVENT.F_TRANSLATION, 0x900, IOVA + 0x3000, 0],
      [EVENT.F_TRANSLATION, 0xa00, 0x1234_5678, 5],
    ]);
    expect(board.smmu.pulses.filter((pulse) => pulse === "eventq").length).toBe(1);
    expect(board.smmu.acceleration.eventCounts).toEqual({ delivered: 2, lost: 0 });
  });

  test("on an abort table or in stage 2 is not the guest's to see", () => {
    const board = booted();
    board.smmu.ste(0x900, new Int32Array(16));
    board.smmu.configure(0x900);
    fault(board, A, IOVA);
    board.smmu.cr0(0xc);
    fault(board, B, 0x1000);
    expect(board.smmu.events()).toEqual([]);
  });

  test("is told by C_BAD_CD where the guest's context descriptor is bad", () => {
    const board = booted();
    board.store(board.descriptor(0) - 0x4000_0000, new Int32Array(16));
    fault(board, A, IOVA);
    expect(board.smmu.events().map((event) => [event[0] & 0xff, event[1]])).toEqual([[EVENT.C_BAD_CD, 0x900]]);
  });

  test("overflows the guest's queue as the architecture says, and is counted", () => {
    const board = booted();
    const room = 1 << EVENTQ_BITS;
    for (let i = 0; i < room + 3; i++) {
      fault(board, A, IOVA + 0x10_0000 + i * 0x1000);
    }
    expect(board.smmu.overflowed).toBe(true);
    expect(board.smmu.events().length).toBe(room);
    expect(board.smmu.overflowed).toBe(false);
    fault(board, A, IOVA + 0x20_0000);
    expect(board.smmu.events().length).toBe(1);
  });

  test("is lost while EVENTQEN is clear; a new vEVENTQ comes with it", () => {
    const board = booted();
    expect(board.live().veventq).toBe(1);
    board.smmu.cr0(0x9);
    expect(board.live().veventq).toBeUndefined();
    fault(board, A, IOVA + 0x3000);
    expect(board.smmu.events()).toEqual([]);
    board.smmu.cr0(0xd);
    expect(board.live().veventq).toBe(1);
    fault(board, A, IOVA + 0x4000);
    expect(board.smmu.events().map((event) => event[4])).toEqual([IOVA + 0x4000]);
    expect(board.smmu.acceleration.eventCounts).toEqual({ delivered: 1, lost: 0 });
  });

  test("one of before that could not be destroyed is not in the way for ever", () => {
    const board = booted();
    board.observer.failOn({ operation: "DESTROY", nth: 1, errno: "EBUSY" });
    board.smmu.cr0(0x9);
    board.smmu.cr0(0xd);
    fault(board, A, IOVA + 0x4000);
    expect(board.smmu.events().length).toBe(1);
    expect(board.live().veventq).toBe(1);
  });

  test("has a vEVENTQ for any size of the guest's queue", () => {
    const board = new Board();
    board.plug(A);
    for (const bits of [0, 5, 19]) {
      board.smmu.cr0(0);
      board.smmu.set64(0xa0, 0x4060_0000 + bits);
      board.smmu.cr0(4);
      expect(board.live().veventq, `2^${bits}`).toBe(1);
    }
  });
});

/** A reader on a stream that the test fills, and an SMMU that writes down what it is told. */
function reader(): { push: (...records: Array<{ sequence: number; data?: number; lost?: boolean; cut?: number }>) => void; told: string[]; log: Log; events: VeventReader; fail: () => void; reads: () => number } {
  const chunks: Uint8Array[] = [];
  const told: string[] = [];
  let listener: (() => void) | null = null;
  let failing = false;
  let reads = 0;
  const stream: EventStream = {
    fd: null,
    read: () => {
      reads++;
      if (failing) {
        throw new HostError("read", "EIO", "");
      }
      return chunks.shift() ?? null;
    },
    onReadable: (wanted) => (listener = wanted),
    close: () => {},
  };
  const iommufd = { veventqAlloc: () => ({ id: 7, stream }), destroy: () => {} } as unknown as Iommufd;
  const smmu = {
    id: "smmu0",
    eventQueueLog2Size: 6,
    recordEvent: (words: Int32Array) => told.push(`event ${words[0] & 0xff}`),
    recordLostEvents: () => told.push("lost"),
  } as unknown as SmmuForBackend;
  const log = new Log();
  const events = VeventReader.open(smmu, iommufd, 1, log);
  return {
    told,
    log,
    events,
    reads: () => reads,
    fail: () => {
      failing = true;
      listener?.();
    },
    push: (...records) => {
      const parts = records.map(({ sequence, data, lost, cut }) => {
        const bytes = new Uint8Array(VEVENT_HEADER_BYTES + (lost === true ? 0 : VEVENT_ARM_SMMUV3_BYTES));
        const view = new DataView(bytes.buffer);
        view.setUint32(0, lost === true ? VEVENTQ_FLAG_LOST_EVENTS : 0, true);
        view.setUint32(4, sequence, true);
        if (lost !== true) {
          view.setUint8(8, data ?? 0);
        }
        return bytes.subarray(0, cut ?? bytes.length);
      });
      chunks.push(Uint8Array.from(parts.flatMap((part) => [...part])));
      listener!();
    },
  };
}

describe("what a vEVENTQ says of its losses", () => {
  test("a gap in the sequence is told before the event that follows it", () => {
    const { push, told, events, log } = reader();
    push({ sequence: 0, data: 1 }, { sequence: 1, data: 2 }, { sequence: 4, data: 3 });
    expect(told).toEqual(["event 1", "event 2", "lost", "event 3"]);
    expect([events.delivered, events.lost]).toEqual([3, 2]);
    expect(log.warnings()).toEqual(["vEVENTQ(type 1 id 7): lost 2 event(s); the guest sees an overflow of its event queue"]);
  });

  test("a header with the flag alone: the events up to its number, and the count goes on behind it", () => {
    const { push, told, events } = reader();
    push({ sequence: 0, data: 1 }, { sequence: 2, lost: true });
    push({ sequence: 3, data: 4 });
    expect(told).toEqual(["event 1", "lost", "event 4"]);
    expect([events.delivered, events.lost]).toEqual([2, 2]);
  });

  test("sequence numbers start again after INT_MAX", () => {
    const { push, told, events } = reader();
    push({ sequence: 0x7fff_ffff, lost: true }, { sequence: 0, data: 5 }, { sequence: 1, data: 6 });
    expect(told).toEqual(["lost", "event 5", "event 6"]);
    expect(events.lost).toBe(2 ** 31);
  });

  test("a record that is cut off is told, not made up", () => {
    const { push, told, log } = reader();
    push({ sequence: 0, data: 1 }, { sequence: 1, data: 2, cut: 24 });
    expect(told).toEqual(["event 1"]);
    expect(log.warnings()).toEqual(["vEVENTQ(type 1 id 7): short read(64/80 bytes)"]);
  });

  test("a read that the host refuses is told once, as an overflow to the guest, and not made again", () => {
    const { fail, log, told, reads } = reader();
    fail();
    fail();
    expect([told, reads()]).toEqual([["lost"], 1]);
    expect(log.warnings()).toEqual([
      "vEVENTQ(type 1 id 7): read failed (EIO): it is read no more, and faults of the hardware do not reach the guest until it turns its event queue off and on",
    ]);
  });

  test("what is taken at once is bounded, of a stream that never ends too", () => {
    let reads = 0;
    let listener: (() => void) | null = null;
    const record = new Uint8Array(VEVENT_HEADER_BYTES + VEVENT_ARM_SMMUV3_BYTES);
    const stream = {
      fd: null,
      read: () => {
        new DataView(record.buffer).setUint32(4, reads++, true);
        return record;
      },
      onReadable: (wanted: (() => void) | null) => (listener = wanted),
      close: () => {},
    };
    const asked: number[] = [];
    const iommufd = { veventqAlloc: ({ depth }: { depth: number }) => (asked.push(depth), { id: 7, stream }), destroy: () => {} } as unknown as Iommufd;
    let events = 0;
    for (const eventQueueLog2Size of [3, 8, 19]) {
      const smmu = { id: "smmu0", eventQueueLog2Size, recordEvent: () => events++, recordLostEvents: () => {} } as unknown as SmmuForBackend;
      VeventReader.open(smmu, iommufd, 1, new Log());
    }
    // What a guest can make the kernel hold is bounded, too.
    expect(asked).toEqual([8, 256, 256]);
    listener!();
    expect([reads, events]).toEqual([4, 4]);
    listener!();
    expect(events).toBe(8);
  });
});
