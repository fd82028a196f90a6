import { describe, expect, it } from "vitest";
import { C, CMDQ, name, R, RecordingBackend, Rig } from "./rig.js";

const ILL = 1;
const ATC = 3;

function rigWith(capacity: number, log2 = 6): { rig: Rig; backend: RecordingBackend } {
  const rig = new Rig({ ats: true });
  const backend = new RecordingBackend(capacity);
  rig.smmu.backend = backend;
  rig.start(log2, 4, 0xd);
  backend.calls.length = 0;
  return { rig, backend };
}

describe("batches", () => {
  it("are one call per drain, in order", () => {
    const { rig, backend } = rigWith(100);
    rig.submit(C.nhAll(), C.nhAsid(1), C.nhVa(2, 0x1000n), C.nhVaa(0x2000n), C.nsnhAll(), C.cd(3, 4), C.cdAll(5), C.atc(6));
    expect(backend.calls).toEqual(["flush 10:0 11:10000 12:20000 13:0 30:0 5:3 6:5 40:6"]);
    expect(rig.cons).toBe(8);
  });

  it("end before a configuration command, when they are full, and with the queue", () => {
    const { rig, backend } = rigWith(3);
    rig.submit(C.nhAsid(1), C.sync(), C.nhAsid(2), C.ste(7), C.nhAsid(3), C.all(), ...[4, 5, 6, 7].map(C.nhAsid));
    expect(backend.calls).toEqual([
      "flush 11:10000 11:20000",
      "install 7-7",
      "flush 11:30000",
      "install 0-ffff",
      "flush 11:40000 11:50000 11:60000",
      "flush 11:70000",
    ]);
  });

  it("leave out what is nobody's, which is done at its place", () => {
    const { rig, backend } = rigWith(8);
    backend.strangers.add(9);
    rig.submit(C.cd(9), C.atc(9), C.nhAsid(1), C.cd(9), C.sync());
    expect(backend.calls).toEqual(["flush 11:10000"]);
    expect([rig.cons, rig.smmu.counters().commands, rig.smmu.counters().forwarded]).toEqual([5, 5, 1]);
  });

  it("do not hold a command that comes after an illegal one", () => {
    const { rig, backend } = rigWith(8);
    rig.submit(C.nhAsid(1), C.illegal(), C.nhAsid(2));
    expect(backend.calls).toEqual(["flush 11:10000"]);
    expect(rig.cons).toBe(1);
  });

  it("carry no bits to the host that are reserved for this SMMU: no VMID without stage 2, no SubstreamID without substreams", () => {
    const { rig } = rigWith(8);
    const seen: string[] = [];
    const backend = new RecordingBackend();
    rig.smmu.backend = backend;
    const forward = backend.forward.bind(backend);
    backend.forward = (...words) => {
      seen.push(words.map((word) => (word >>> 0).toString(16)).join(" "));
      return forward(...words);
    };
    const ones = 0xffff_ffff_ffff_ffffn;
    for (const opcode of [0x10n, 0x11n, 0x12n, 0x13n, 0x30n]) {
      rig.submit([(ones & ~0xffn) | opcode, ones]);
    }
    rig.submit([(ones & ~0x4ffn) | 0x05n, ones], [(ones & ~0x4ffn) | 0x06n, ones], [(ones & ~0xcffn) | 0x40n, (ones & ~0x3fn) | 52n]);
    expect(rig.commandError).toBe(false);
    // NUM, SCALE; ASID; LEAF, TTL, TG, address; StreamID.
    expect(seen).toEqual([
      "10 0 0 0",
      "11 ffff0000 0 0",
      "1f1f012 ffff0000 ffffff01 ffffffff",
      "1f1f013 0 ffffff01 ffffffff",
      "30 0 0 0",
      "5 ffffffff 1 0",
      "6 ffffffff 0 0",
      "40 ffffffff fffff034 ffffffff",
    ]);
  });

  it("take an ATC_INV with a SubstreamID where there are none as one without", () => {
    const { rig, backend } = rigWith(8);
    rig.submit([0x40n | (1n << 11n) | (5n << 32n), 52n], C.sync());
    expect([rig.cons, backend.calls]).toEqual([2, ["flush 40:5"]]);
  });

  it("survive a backend that breaks", () => {
    const { rig, backend } = rigWith(8);
    const flush = backend.flush.bind(backend);
    backend.flush = () => {
      flush();
      throw new Error("broken");
    };
    expect(() => rig.submit(C.nhAsid(1), C.sync())).toThrow("broken");
    backend.flush = flush;
    rig.submit(C.nhAsid(2), C.sync());
    expect([rig.cons, rig.commandError]).toEqual([4, false]);
  });

  it("ignore ATC_INV while SMMUEN is 0", () => {
    const { rig, backend } = rigWith(8);
    rig.set(R.CR0, 0xc);
    backend.calls.length = 0;
    rig.submit(C.atc(1), C.sync());
    expect([rig.cons, backend.calls]).toEqual([2, []]);
  });
});

// 4.7.3: a CMD_SYNC is done when all before it is; it may be done later.
describe("several CMD_SYNCs that are published together", () => {
  /** A rig whose messages are written down with what the host has done by then, and with CMDQ_CONS. */
  function joining(capacity = 64): { rig: Rig; backend: RecordingBackend; seen: string[] } {
    const rig = new Rig({ ats: true, msi: true });
    const backend = new RecordingBackend(capacity);
    rig.smmu.backend = backend;
    rig.start(6, 4, 0xd);
    backend.calls.length = 0;
    const seen: string[] = [];
    rig.onMessage = (address, data) => seen.push(`${data} to ${address.toString(16)} at ${rig.cons}, done ${backend.done.length}`);
    return { rig, backend, seen };
  }

  it("wait for one call to the host, and are told in their order, each with its own position", () => {
    const { rig, backend, seen } = joining();
    rig.submit(C.nhAsid(1), C.syncMessage(0x100n, 11), C.nhAsid(2), C.nhAsid(3), C.syncMessage(0x200n, 12), C.nhAsid(4), C.syncMessage(0x300n, 13));
    expect(backend.calls).toEqual(["flush 11:10000 11:20000 11:30000 11:40000"]);
    expect(seen).toEqual(["11 to 100 at 2, done 4", "12 to 200 at 5, done 4", "13 to 300 at 7, done 4"]);
    expect([rig.cons, rig.smmu.counters().commands]).toEqual([7, 7]);
  });

  it("are told up to the command that the host refuses, and not behind it", () => {
    const { rig, backend, seen } = joining();
    let failing = true;
    backend.judge = (word0, word1) => (failing && name(word0, word1) === "11:20000" ? ILL : 0);
    rig.submit(C.nhAsid(1), C.syncMessage(0x100n, 11), C.nhAsid(2), C.syncMessage(0x200n, 12), C.nhAsid(3), C.syncMessage(0x300n, 13));
    expect(seen).toEqual(["11 to 100 at 2, done 1"]);
    expect([rig.cons, rig.cerror, rig.commandError, rig.smmu.counters().commands]).toEqual([2, ILL, true, 2]);
    failing = false;
    rig.acknowledge();
    expect(seen).toEqual(["11 to 100 at 2, done 1", "12 to 200 at 4, done 3", "13 to 300 at 6, done 3"]);
    expect([rig.cons, rig.smmu.counters().commands]).toEqual([6, 6]);
  });

  it("are told before a younger command fails: a configuration command, and one that is illegal", () => {
    const { rig, backend, seen } = joining();
    let failing = true;
    backend.installCode = () => (failing ? ILL : 0);
    rig.submit(C.nhAsid(1), C.syncMessage(0x100n, 11), C.ste(7), C.nhAsid(2), C.syncMessage(0x200n, 12), C.illegal());
    expect(seen).toEqual(["11 to 100 at 2, done 1"]);
    expect([rig.cons, rig.cerror]).toEqual([2, ILL]);
    failing = false;
    rig.acknowledge();
    expect(seen.slice(1)).toEqual(["12 to 200 at 5, done 3"]);
    expect([rig.cons, rig.cerror]).toEqual([5, ILL]);
  });

  it("do not wait behind an ATC_INV, whose time-out the first of them tells", () => {
    const { rig, backend, seen } = joining();
    backend.judge = (word0, word1) => (name(word0, word1) === "40:2" ? ATC : 0);
    rig.submit(C.nhAsid(1), C.syncMessage(0x100n, 11), C.atc(2), C.syncMessage(0x200n, 12), C.nhAsid(3), C.syncMessage(0x300n, 13));
    expect(seen).toEqual(["11 to 100 at 2, done 1"]);
    expect([rig.cons, rig.cerror]).toEqual([3, ATC]);
    rig.acknowledge();
    expect(seen.slice(1)).toEqual(["12 to 200 at 4, done 1", "13 to 300 at 6, done 2"]);
  });

  it("are told where a message turns the queue off: what they wait for is done", () => {
    const { rig, seen } = joining();
    const told = rig.onMessage;
    rig.onMessage = (address, data) => {
      told(address, data);
      rig.set(R.CR0, 0);
    };
    rig.submit(C.nhAsid(1), C.syncMessage(0x100n, 11), C.nhAsid(2), C.syncMessage(0x200n, 12), C.nhAsid(3));
    expect(seen).toEqual(["11 to 100 at 2, done 3", "12 to 200 at 4, done 3"]);
    expect(rig.commandError).toBe(false);
  });

  it("are as many as a queue holds", () => {
    const { rig, backend, seen } = joining(1000);
    const pairs = Array.from({ length: 31 }, (_, n) => [C.nhAsid(n + 1), C.syncMessage(BigInt(0x100 + 4 * n), n)]).flat();
    rig.submit(...pairs);
    rig.submit(...pairs);
    expect([backend.calls.length, seen.length, backend.done.length, rig.cons]).toEqual([2, 62, 62, 124 & 127]);
  });
});

/** Eleven commands of all kinds that go to the host, with what it would do for each. */
const SEQUENCE = [
  C.nhAsid(1),
  C.cd(2),
  C.ste(3),
  C.nhVa(4, 0x4000n),
  C.nhVa(5, 0x5000n),
  C.prefetch(6),
  C.nhAsid(7),
  C.sync(),
  C.nhVaa(0x8000n),
  C.all(),
  C.nhAsid(11),
];
const DONE = ["11:10000", "5:2", "install 3-3", "12:40000", "12:50000", null, "11:70000", null, "13:0", "install 0-ffff", "11:b0000"];
const ALL_DONE = DONE.filter((done) => done !== null);

describe("a failure at any position, with batches of any size", () => {
  for (const capacity of [1, 2, 3, 4, 64]) {
    DONE.forEach((what, position) => {
      if (what === null) {
        return;
      }
      it(`capacity ${capacity}, command ${position}: ${what}`, () => {
        const { rig, backend } = rigWith(capacity);
        let failing = true;
        backend.judge = (word0, word1) => (failing && name(word0, word1) === what ? ILL : 0);
        backend.installCode = (first, last) => (failing && what === `install ${first.toString(16)}-${last.toString(16)}` ? ILL : 0);
        rig.submit(...SEQUENCE);
        // CMDQ_CONS is on the very command; all before it is done, nothing after it.
        expect([rig.cons, rig.cerror, rig.commandError]).toEqual([position, ILL, true]);
        expect(backend.done).toEqual(DONE.slice(0, position).filter((done) => done !== null));
        expect(rig.smmu.counters().commands).toBe(position);
        expect(rig.pulses).toEqual(["gerror"]);
        // The host would take it now: it goes on with that command, repeating and losing nothing.
        failing = false;
        rig.acknowledge();
        expect([rig.cons, rig.commandError]).toEqual([SEQUENCE.length, false]);
        expect(backend.done).toEqual(ALL_DONE);
        expect(rig.smmu.counters()).toMatchObject({ commands: SEQUENCE.length, forwarded: 7, commandErrors: 1 });
      });
    });
  }

  it("lets the guest put a CMD_SYNC in the command's place, as Linux does", () => {
    const { rig, backend } = rigWith(64);
    backend.judge = (word0, word1) => (name(word0, word1) === "12:50000" ? ILL : 0);
    rig.submit(...SEQUENCE);
    expect(rig.cons).toBe(4);
    rig.store(CMDQ + 4 * 16, ...C.sync());
    rig.acknowledge();
    expect(rig.cons).toBe(SEQUENCE.length);
    expect(backend.done).toEqual(ALL_DONE.filter((done) => done !== "12:50000"));
  });

  it("puts the older failure before a younger illegal command", () => {
    const { rig, backend } = rigWith(64);
    backend.judge = (word0) => ((word0 & 0xff) === 0x12 ? ILL : 0);
    rig.submit(C.nhAsid(1), C.nhVa(2, 0n), C.nhAsid(3), C.illegal());
    expect([rig.cons, backend.done]).toEqual([1, ["11:10000"]]);
  });

  it("works across the end of the queue", () => {
    const { rig, backend } = rigWith(64, 4);
    rig.submit(...Array.from({ length: 13 }, () => C.sync()));
    backend.judge = (_word0, word1) => (word1 >>> 16 === 5 ? ILL : 0);
    rig.submit(...[1, 2, 3, 4, 5, 6, 7].map(C.nhAsid));
    expect(rig.cons).toBe(17);
    backend.judge = () => 0;
    rig.acknowledge();
    expect([rig.cons, backend.done.length]).toEqual([20, 7]);
  });
});

describe("an ATC_INV that does not complete", () => {
  it("is told at the CMD_SYNC; what is around it is done once", () => {
    const { rig, backend } = rigWith(64);
    let failing = true;
    backend.judge = (word0, word1) => (failing && name(word0, word1) === "40:2" ? ATC : 0);
    rig.submit(C.nhAsid(1), C.atc(2), C.nhAsid(3), C.atc(4), C.sync(1), C.nhAsid(5));
    expect([rig.cons, rig.cerror, rig.commandError, rig.pulses]).toEqual([4, ATC, true, ["gerror"]]);
    expect(backend.done).toEqual(["11:10000", "11:30000", "40:4"]);
    failing = false;
    rig.acknowledge();
    expect([rig.cons, rig.commandError, rig.pulses]).toEqual([6, false, ["gerror", "sync"]]);
    expect(backend.done).toEqual(["11:10000", "11:30000", "40:4", "11:50000"]);
  });

  it("is remembered over the end of a drain", () => {
    const { rig, backend } = rigWith(64);
    backend.judge = (word0) => ((word0 & 0xff) === 0x40 ? ATC : 0);
    rig.submit(C.atc(1), C.atc(2), C.atc(3));
    expect([rig.cons, rig.commandError]).toEqual([3, false]);
    expect(backend.calls.length).toBe(1);
    rig.submit(C.nhAll(), C.sync());
    expect([rig.cons, rig.cerror]).toEqual([4, ATC]);
    rig.acknowledge();
    expect([rig.cons, rig.commandError]).toEqual([5, false]);
  });

  it("is forgotten by a reset", () => {
    const { rig, backend } = rigWith(64);
    backend.judge = (word0) => ((word0 & 0xff) === 0x40 ? ATC : 0);
    rig.submit(C.atc(1));
    rig.smmu.reset();
    rig.start();
    rig.submit(C.sync());
    expect([rig.cons, rig.commandError]).toEqual([1, false]);
  });
});
