import { xorshift32 } from "../../../bench/random.js";
import { describe, expect, test } from "vitest";
import { UNFINISHED } from "../../../src/smmuv3/device/backend.js";
import { A, B, Board, C, encodeCommand, EXPLICIT, IOVA, OP } from "./rig.js";

const SYNC = encodeCommand(OP.SYNC);
const hex = (...words: number[]): string => words.map((word) => (word >>> 0).toString(16)).join(" ");
const text = (words: Int32Array): string => hex(...words);

const vaa = (page: number): Int32Array => encodeCommand(OP.TLBI_NH_VAA, { ADDRESS: BigInt(page) << 12n, LEAF: 1 });
const asid = (n: number): Int32Array => encodeCommand(OP.TLBI_NH_ASID, { ASID: n });
const cd = (sid: number): Int32Array => encodeCommand(OP.CFGI_CD, { SID: sid, LEAF: 1 });
const atc = (sid: number): Int32Array => encodeCommand(OP.ATC_INV, { SID: sid, ATC_SIZE: 52 });

function booted(properties = EXPLICIT): Board {
  const board = new Board({ properties: [properties] });
  board.plug(A);
  board.plug(B, 1);
  board.number(0, 9);
  board.number(1, 10);
  board.smmu.ste(0x900, board.stage1(board.table(), { EATS: properties.ats === true ? 1 : 0 }));
  board.smmu.ste(0xa00, board.stage1(board.table(), { EATS: properties.ats === true ? 1 : 0 }));
  board.freeze();
  board.smmu.enable();
  board.invalidations.length = 0;
  return board;
}

/** Commands that went to the host and came back as done, in order. */
function doneIn(board: Board, act: () => void): string[] {
  const from = board.invalidations.length;
  act();
  return board.invalidations.slice(from).flat();
}

describe("a batch", () => {
  test("takes all commands up to a CMD_SYNC in one host call, as they are, in order", () => {
    const board = booted();
    const commands = [
      asid(3),
      encodeCommand(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x1234_5000n, TG: 1, NUM: 7, SCALE: 2, TTL: 3, LEAF: 1 }),
      cd(0x900),
      encodeCommand(OP.CFGI_CD_ALL, { SID: 0xa00 }),
      encodeCommand(OP.TLBI_NH_ALL),
      encodeCommand(OP.TLBI_NSNH_ALL),
      atc(0xa00),
      vaa(5),
    ];
    board.smmu.submit(...commands, SYNC);
    expect(board.invalidations).toEqual([commands.map(text)]);
    expect(board.smmu.cons).toBe(board.smmu.produced);
    expect(board.smmu.acceleration.invalidateCalls).toBe(1);
    expect(board.smmu.acceleration.forwarded).toBe(8);
  });

  // Arm IHI 0070, 4.3.3, 4.4.1.1, 4.5.1: a host with more features would take these fields at their word, and Linux 7.3
  // refuses what is reserved on its SMMU.
  test("carries no field that is ignored for this guest or in its combination", () => {
    const board = booted({ ...EXPLICIT, ssidsize: 0 });
    board.smmu.submit(
      encodeCommand(OP.CFGI_CD, { SID: 0x900, SSID: 5, LEAF: 1 }),
      encodeCommand(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x1234_5000n, NUM: 16, SCALE: 3, TTL: 2 }),
      encodeCommand(OP.TLBI_NH_VAA, { ADDRESS: 0x1234_5000n, TG: 2, TTL: 1, NUM: 3 }),
      encodeCommand(OP.ATC_INV, { SID: 0x900, SSID: 7, SSV: 1, GLOBAL: 1, ATC_SIZE: 52 }),
      SYNC,
    );
    expect([board.smmu.cerror, board.smmu.cons]).toEqual([0, board.smmu.produced]);
    expect(board.invalidations).toEqual([
      [
        cd(0x900),
        encodeCommand(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x1234_5000n }),
        encodeCommand(OP.TLBI_NH_VAA, { ADDRESS: 0x1234_5000n, TG: 2, NUM: 3 }),
        atc(0x900),
      ].map(text),
    ]);
  });

  test("keeps the SubstreamID where there are substreams, and where SSV says that it is one", () => {
    const board = booted({ ...EXPLICIT, ssidsize: 10 });
    board.smmu.submit(
      encodeCommand(OP.CFGI_CD, { SID: 0x900, SSID: 5, LEAF: 1 }),
      encodeCommand(OP.ATC_INV, { SID: 0x900, SSID: 7, SSV: 1, GLOBAL: 1, ATC_SIZE: 52 }),
      encodeCommand(OP.ATC_INV, { SID: 0x900, SSID: 7, GLOBAL: 1, ATC_SIZE: 52 }),
      SYNC,
    );
    expect(board.invalidations).toEqual([
      [encodeCommand(OP.CFGI_CD, { SID: 0x900, SSID: 5, LEAF: 1 }), encodeCommand(OP.ATC_INV, { SID: 0x900, SSID: 7, SSV: 1, GLOBAL: 1, ATC_SIZE: 52 }), atc(0x900)].map(text),
    ]);
  });

  test("of commands that are legal for this guest is never refused by a kernel that judges them", () => {
    const random = xorshift32(0x2545_f491);
    for (const properties of [EXPLICIT, { ...EXPLICIT, ssidsize: 10 }, { ...EXPLICIT, ril: false, ats: false }]) {
      const board = booted(properties);
      const opcodes = [OP.CFGI_CD, OP.CFGI_CD_ALL, OP.TLBI_NH_ALL, OP.TLBI_NH_ASID, OP.TLBI_NH_VA, OP.TLBI_NH_VAA, OP.TLBI_NSNH_ALL, OP.ATC_INV];
      let sent = 0;
      for (let n = 0; n < 1500; n++) {
        const opcode = opcodes[n % opcodes.length];
        // Now and then few bits, so that combinations that are legal without ranges come too.
        const mask = (): number => (n % 3 === 0 ? random() & random() & random() : random());
        const words = Int32Array.of((mask() & ~0x4ff) | opcode, mask(), mask(), mask());
        words[1] = [OP.CFGI_CD, OP.CFGI_CD_ALL, OP.ATC_INV].includes(opcode as 5) ? 0x900 : words[1];
        board.smmu.submit(words);
        if (board.smmu.commandError) {
          // What the guest's own rules refuse was not sent.
          expect(board.invalidations, text(words)).toEqual([]);
          board.smmu.skipFailed();
        }
        sent += board.invalidations.length;
        board.invalidations.length = 0;
      }
      expect(sent).toBeGreaterThan(500);
    }
  });

  test("ends with what is published, and goes on past a CMD_SYNC and a configuration command that changes nothing", () => {
    const board = booted();
    board.smmu.submit(asid(1), SYNC);
    board.smmu.submit(asid(2), encodeCommand(OP.CFGI_STE, { SID: 0x1000, LEAF: 1 }), SYNC, asid(3), vaa(1));
    expect(board.invalidations).toEqual([[text(asid(1))], [text(asid(2)), text(asid(3)), text(vaa(1))]]);
    expect(board.smmu.cons).toBe(board.smmu.produced);
  });

  test("is on the host before a changed entry is installed", () => {
    const board = booted();
    const order: string[] = [];
    board.observer.onCall = (operation) => order.push(operation);
    board.smmu.ste(0x900, board.stage1(1));
    board.smmu.submit(asid(1), encodeCommand(OP.CFGI_STE, { SID: 0x900, LEAF: 1 }), asid(2), SYNC);
    board.observer.onCall = null;
    expect(order).toEqual(["HWPT_INVALIDATE", "HWPT_ALLOC", "VFIO_ATTACH_IOMMUFD_PT", "DESTROY", "HWPT_INVALIDATE"]);
  });

  test("leaves out commands for streams of nobody, and they count as done in their place", () => {
    const board = booted();
    board.smmu.submit(cd(0x123), asid(1), cd(0x124), atc(0x125), asid(2), encodeCommand(OP.CFGI_CD_ALL, { SID: 0x126 }), SYNC);
    expect(board.invalidations).toEqual([[text(asid(1)), text(asid(2))]]);
    expect(board.smmu.cons).toBe(board.smmu.produced);
    board.smmu.submit(cd(0x123), SYNC);
    expect(board.invalidations.length, "nothing to send").toBe(1);
    expect(board.smmu.commandError).toBe(false);
  });

  test("is taken apart into calls of at most 4096 commands", () => {
    const board = booted();
    const { acceleration } = board.smmu;
    for (let i = 0; i < acceleration.capacity; i++) {
      expect(acceleration.forward(OP.TLBI_NH_ASID, i << 16, 0, 0)).toBe(true);
    }
    expect(acceleration.pending).toBe(acceleration.capacity);
    expect(acceleration.flush()).toBe(0);
    expect([acceleration.flushHandled, acceleration.pending, board.invalidations[0].length]).toEqual([4096, 0, 4096]);
  });

  test("without IDR3.RIL has no command with range fields: it is illegal, and goes nowhere", () => {
    const board = booted({ ...EXPLICIT, ril: false });
    board.smmu.submit(encodeCommand(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x1234_5000n, TG: 1, NUM: 7, SCALE: 2, TTL: 3, LEAF: 1 }), SYNC);
    expect([board.smmu.cerror, board.smmu.cons, board.invalidations.length]).toEqual([1, board.smmu.produced - 2, 0]);
  });

  test("takes the invalidations that unchanged entries ask for along", () => {
    const board = booted();
    board.smmu.submit(...Array.from({ length: 50 }, () => encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 })), SYNC);
    expect(board.invalidations.map((batch) => batch.length)).toEqual([100]);
    expect(board.invalidations[0].slice(0, 2)).toEqual([0x900, 0xa00].map((SID) => text(encodeCommand(OP.CFGI_CD_ALL, { SID }))));
    // Refused, the command that asked for it is the one in error.
    const start = board.smmu.cons;
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled: 3 });
    board.smmu.submit(asid(1), encodeCommand(OP.CFGI_STE, { SID: 0x900 }), encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }), SYNC);
    expect([board.smmu.cerror, board.smmu.cons - start]).toEqual([1, 2]);
  });

  test("a refused batch before a changed entry leaves the entry uninstalled", () => {
    const board = booted();
    const start = board.smmu.cons;
    board.smmu.ste(0xa00, board.stage1(1));
    board.smmu.ste(0x900, board.stage1(1));
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled: 1 });
    board.smmu.submit(asid(1), asid(2), encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }), SYNC);
    expect([board.smmu.cerror, board.smmu.cons - start, board.probe(A)]).toEqual([1, 1, "table 0"]);
    board.smmu.set(0x64, board.smmu.get(0x60));
    expect([board.smmu.cons, board.probe(A), board.probe(B)]).toEqual([board.smmu.produced, "table 1", "table 1"]);
  });

  test("refused with what the command itself has put there is told at the command", () => {
    const board = booted();
    board.smmu.submit(asid(1), SYNC);
    const start = board.smmu.cons;
    board.smmu.ste(0xa00, board.stage1(0));
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled: 0 });
    board.smmu.configureAll();
    expect([board.smmu.cerror, board.smmu.cons, board.probe(B)]).toEqual([1, start, "table 1"]);
    board.smmu.set(0x64, board.smmu.get(0x60));
    expect([board.smmu.commandError, board.smmu.cons, board.probe(B)]).toEqual([false, board.smmu.produced, "table 0"]);
  });

  test("refused after another of the same command is told at the command, not at an older one that is done", () => {
    const board = booted();
    board.plug(C, 2);
    board.number(2, 11);
    board.smmu.ste(0xb00, board.stage1(board.table()));
    board.smmu.configureAll();
    const start = board.smmu.cons;
    // A batch before the first function's change, and one with the second's invalidation before the third's change.
    board.smmu.ste(0x900, board.stage1(2));
    board.smmu.ste(0xb00, board.stage1(0));
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 2, errno: "EIO", handled: 0 });
    board.smmu.submit(asid(1), asid(2), encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }), SYNC);
    expect([board.smmu.cerror, board.smmu.cons - start, board.probe(A), board.probe(C)]).toEqual([1, 2, "table 2", "table 2"]);
    expect(board.smmu.smmu.counters().commandsByName).toMatchObject({ CMD_TLBI_NH_ASID: 2 });
    board.smmu.set(0x64, board.smmu.get(0x60));
    expect([board.smmu.commandError, board.smmu.cons, board.probe(C)]).toEqual([false, board.smmu.produced, "table 0"]);
  });

  test("entries of more functions than the budget lasts for are installed by and by", () => {
    const board = booted();
    const { acceleration, smmu } = board.smmu;
    board.smmu.ste(0x900, board.stage1(1));
    board.smmu.ste(0xa00, board.stage1(0));
    smmu.budget.left = 1;
    expect(acceleration.installEntries(0, 0xffff, false)).toBe(UNFINISHED);
    expect([board.probe(A), board.probe(B)]).toEqual(["table 1", "table 1"]);
    smmu.budget.left = 1;
    const made = board.observer.calls.get("HWPT_ALLOC");
    expect(acceleration.installEntries(0, 0xffff, true)).toBe(0);
    expect([board.probe(A), board.probe(B), board.observer.calls.get("HWPT_ALLOC")]).toEqual(["table 1", "table 0", made! + 1]);
  });

  test("without ATS an ATC_INV is illegal and goes nowhere", () => {
    const board = booted({ ...EXPLICIT, ats: false });
    board.smmu.submit(asid(1), atc(0x900), asid(2), SYNC);
    expect(board.smmu.cerror).toBe(1);
    expect(board.smmu.cons).toBe(board.smmu.produced - 3);
    expect(board.invalidations).toEqual([[text(asid(1))]]);
  });

  test("reaches the hardware: a translation is stale before, gone after", () => {
    const board = booted();
    expect(board.probe(A)).toBe("table 0");
    // The whole table goes; the TLB does not know yet.
    board.store(board.descriptor(0) - 0x4000_0000, new Int32Array(16));
    expect(board.probe(A)).toBe("table 0");
    board.smmu.submit(cd(0x900), encodeCommand(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: BigInt(IOVA), LEAF: 1 }), SYNC);
    expect(board.probe(A)).toBe("abort");
    expect(board.probe(B)).toBe("table 1");
  });
});

describe("a batch that the host takes in part", () => {
  const commands = [vaa(0), cd(0x77), vaa(1), vaa(2), atc(0x78), vaa(3), vaa(4)];
  /** Positions in the queue of those that are forwarded. */
  const forwarded = [0, 2, 3, 5, 6];
  const sent = forwarded.map((at) => text(commands[at]));

  test.each([0, 1, 2, 3, 4])("%i of five: those before it, which Linux has not issued, are sent again, and CMDQ_CONS is at the refused one", (handled) => {
    const board = booted();
    const start = board.smmu.cons;
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled });
    const first = doneIn(board, () => board.smmu.submit(...commands, SYNC));
    expect(first).toEqual(sent.slice(0, handled));
    expect(board.smmu.commandError).toBe(true);
    expect(board.smmu.cerror).toBe(1);
    expect(board.smmu.cons - start).toBe(forwarded[handled]);
    expect(board.log.lines.map((line) => line.text).join("\n")).toContain("HWPT_INVALIDATE EIO");
    // The guest acknowledges without a change: the rest is done, once.
    const second = doneIn(board, () => board.smmu.set(0x64, board.smmu.get(0x60)));
    expect(second).toEqual(sent.slice(handled));
    expect(board.smmu.cons).toBe(board.smmu.produced);
  });

  test.each([0, 1, 2, 3, 4])("%i of five, and the guest replaces the command as Linux does", (handled) => {
    const board = booted();
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled });
    const done = doneIn(board, () => {
      board.smmu.submit(...commands, SYNC);
      board.smmu.skipFailed();
    });
    expect(done).toEqual(sent.filter((_command, n) => n !== handled));
    expect(board.smmu.cons).toBe(board.smmu.produced);
  });

  test("the failure is told before an illegal command that follows, and before a change of configuration", () => {
    const board = booted();
    const start = board.smmu.cons;
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled: 1 });
    board.smmu.ste(0x900, board.stage1(1));
    board.smmu.submit(vaa(0), vaa(1), encodeCommand(OP.CFGI_STE, { SID: 0x900, LEAF: 1 }), SYNC);
    expect(board.smmu.cons - start).toBe(1);
    expect(board.probe(A), "not yet").toBe("table 0");
    board.smmu.set(0x64, board.smmu.get(0x60));
    expect(board.probe(A)).toBe("table 1");
  });

  test.each([1, 2])("an ATC_INV that times out (entry_num %i) is consumed, all else is done, and the CMD_SYNC tells", (handled) => {
    const board = booted();
    const start = board.smmu.cons;
    // Linux's entry_num is the last of the block, wherever the ATC_INV is in it; none of the block is known to be done.
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "ETIMEDOUT", handled });
    const done = doneIn(board, () => board.smmu.submit(vaa(0), atc(0x900), vaa(1), SYNC, vaa(2)));
    expect(done).toEqual([vaa(0), vaa(1)].map(text));
    expect(board.smmu.cerror).toBe(3);
    expect(board.smmu.cons - start).toBe(3);
    expect(doneIn(board, () => board.smmu.set(0x64, board.smmu.get(0x60)))).toEqual([text(vaa(2))]);
    expect(board.smmu.cons).toBe(board.smmu.produced);
  });

  test("a failure for ever is a bounded log and bounded work", () => {
    const board = booted();
    for (let i = 0; i < 300; i++) {
      board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO" });
      board.smmu.submit(vaa(i), SYNC);
      board.smmu.skipFailed();
    }
    expect(board.smmu.cons).toBe(board.smmu.produced);
    expect(board.log.lines.length).toBeLessThan(40);
  });
});

/** The host's call fails so often in a row, and as many tries as there are. */
function failing(board: Board, times: number, errno: "ENOMEM" | "EFAULT" | "EINTR" | "EIO" | "ETIMEDOUT", handled: number): void {
  for (let nth = 1; nth <= times; nth++) {
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth, errno, handled });
  }
}

/** Function A's page goes; its invalidation is one of three in a batch. */
const unmapAndInvalidate = (board: Board): void => {
  expect(board.probe(A)).toBe("table 0");
  board.store(board.descriptor(0) - 0x4000_0000, new Int32Array(16));
  expect(board.probe(A), "cached").toBe("table 0");
  board.smmu.submit(cd(0x900), encodeCommand(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: BigInt(IOVA), LEAF: 1 }), asid(77), SYNC);
};

describe("an invalidation that the host could not do", () => {
  test.each([
    ["ENOMEM", Infinity],
    ["ENOMEM", 2],
    ["EFAULT", 0],
    ["EINTR", 1],
    ["EIO", Infinity],
    ["ETIMEDOUT", 2],
  ] as const)("%s with entry_num %d: all of the batch again, and nothing is stale", (errno, handled) => {
    const board = booted();
    failing(board, 2, errno, handled);
    unmapAndInvalidate(board);
    expect(board.probe(A)).toBe("abort");
    expect(board.probe(B)).toBe("table 1");
    expect([board.smmu.commandError, board.smmu.cons]).toEqual([false, board.smmu.produced]);
    expect(board.invalidations.map((batch) => batch.length)).toEqual([3]);
    expect(board.log.lines.map((line) => line.text)).toEqual([`arm-smmuv3 'smmu0': HWPT_INVALIDATE ${errno} for a batch of 3 command(s): sent again, and done`]);
  });

  test("that is before a refused one in its block, is done again before the queue stops", () => {
    const board = booted();
    failing(board, 1, "EIO", 2);
    unmapAndInvalidate(board);
    expect(board.smmu.cerror).toBe(1);
    expect(board.probe(A)).toBe("abort");
  });

  test.each([3, 50])("again and again (%i calls): the functions are blocked, until all that may be stale is invalidated", (times) => {
    const board = booted();
    failing(board, times, "ENOMEM", Infinity);
    unmapAndInvalidate(board);
    expect([board.smmu.commandError, board.smmu.cons]).toEqual([false, board.smmu.produced]);
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "abort"]);
    expect(board.log.lines.map((line) => line.text)).toEqual([
      "arm-smmuv3 'smmu0': the host could not do 3 invalidation(s) of the guest: HWPT_INVALIDATE ENOMEM; its functions are blocked until it can",
    ]);
    // A guest that configures its functions anew gets no stale translation either.
    if (times > 3) {
      board.smmu.submit(encodeCommand(OP.CFGI_STE, { SID: 0x900, LEAF: 1 }), SYNC);
      expect([board.smmu.commandError, board.probe(A)]).toEqual([false, "abort"]);
      board.observer.clearFailures();
    }
    board.invalidations.length = 0;
    board.smmu.submit(asid(5), SYNC);
    expect(board.invalidations[1]).toEqual([
      text(encodeCommand(OP.TLBI_NSNH_ALL)),
      text(encodeCommand(OP.CFGI_CD_ALL, { SID: 0x900 })),
      text(encodeCommand(OP.CFGI_CD_ALL, { SID: 0xa00 })),
    ]);
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "table 1"]);
    expect(Object.values(board.smmu.tables())).toEqual(["nested", "nested"]);
  });

  test("and a function that cannot be blocked: the queue stops at the first of the batch", () => {
    const board = booted();
    const start = board.smmu.cons;
    failing(board, 3, "ENOMEM", Infinity);
    board.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "EBUSY" });
    unmapAndInvalidate(board);
    expect([board.smmu.cerror, board.smmu.cons - start]).toEqual([1, 0]);
    // The guest skips that one, and all is invalidated nevertheless.
    board.smmu.skipFailed();
    expect(board.probe(A)).toBe("abort");
    expect(Object.values(board.smmu.tables())).toEqual(["nested", "nested"]);
  });
});
