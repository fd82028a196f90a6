import { describe, expect, it } from "vitest";
import { STEPS_AT_ONCE } from "../../../src/nesting/index.js";
import { UNFINISHED } from "../../../src/smmuv3/device/backend.js";
import type { SmmuProperties } from "../../../src/smmuv3/index.js";
import { C, CMDQ, R, RecordingBackend, Rig } from "./rig.js";

const CERROR_ILL = 1;
const CERROR_ABT = 2;

describe("a drain", () => {
  it("consumes what is there, in order, past the wrap", () => {
    const rig = new Rig();
    const backend = new RecordingBackend();
    rig.smmu.backend = backend;
    rig.start(2);
    for (let n = 0; n < 20; n++) {
      rig.submit(C.nhAsid(n), C.ste(n), C.sync());
      expect(rig.cons).toBe(rig.prod);
    }
    expect(rig.commandError).toBe(false);
    expect(backend.done.slice(-4)).toEqual(["11:120000", "install 12-12", "11:130000", "install 13-13"]);
    expect(rig.smmu.counters()).toMatchObject({
      commands: 60,
      commandsByName: { CMD_TLBI_NH_ASID: 20, CMD_CFGI_STE: 20, CMD_SYNC: 20 },
      syncs: 20,
      forwarded: 20,
    });
  });

  it("takes a full queue", () => {
    const rig = new Rig();
    rig.start(3);
    rig.submit(...Array.from({ length: 8 }, () => C.sync()));
    expect(rig.prod).toBe(8);
    expect(rig.cons).toBe(8);
    expect(rig.smmu.commands.fetches).toBe(8);
  });

  it("takes a queue of one entry", () => {
    const rig = new Rig();
    rig.start(0);
    rig.submit(C.sync());
    expect([rig.prod, rig.cons]).toEqual([1, 1]);
    rig.submit(C.sync());
    expect([rig.prod, rig.cons]).toEqual([0, 0]);
  });

  it("waits until the queue is enabled", () => {
    const rig = new Rig();
    rig.start();
    rig.set(R.CR0, 0);
    rig.submit(C.sync());
    expect(rig.cons).toBe(0);
    rig.set(R.CR0, 8);
    expect(rig.cons).toBe(1);
  });

  it.each([
    ["PROD behind CONS without a wrap", 5, 3],
    ["PROD more than the queue ahead", 0, 0x15],
  ])("consumes nothing while indexes do not fit: %s", (_name, cons, prod) => {
    const rig = new Rig();
    rig.start(4);
    rig.set(R.CR0, 0);
    rig.set(R.CMDQ_CONS, cons);
    rig.set(R.CMDQ_PROD, prod);
    rig.set(R.CR0, 8);
    expect([rig.cons, rig.commandError, rig.smmu.commands.fetches]).toEqual([cons, false, 0]);
    expect(rig.log.lines.length).toBe(1);
    rig.store(CMDQ, ...C.sync(), ...C.sync(), ...C.sync(), ...C.sync(), ...C.sync(), ...C.sync(), ...C.sync());
    rig.set(R.CMDQ_PROD, cons + 1);
    expect(rig.cons).toBe(cons + 1);
  });

  it("ignores index bits above the wrap flag", () => {
    const rig = new Rig();
    rig.start(2);
    rig.put(C.sync());
    rig.set(R.CMDQ_PROD, 0xf_fff8 | 1);
    expect(rig.cons).toBe(1);
  });

  it("aligns the base to the queue's size", () => {
    const rig = new Rig();
    rig.start(6);
    rig.set(R.CR0, 0);
    rig.set64(R.CMDQ_BASE, CMDQ + 0x3e0 + 6);
    rig.set(R.CR0, 8);
    rig.submit(C.illegal());
    expect(rig.cerror).toBe(CERROR_ILL);
  });
});

describe("an error", () => {
  it("stops at the command, tells the reason, and goes on when it is acknowledged", () => {
    const rig = new Rig();
    rig.start();
    rig.submit(C.ste(1), C.illegal(), C.sync(1));
    expect([rig.cons, rig.cerror, rig.get(R.GERROR), rig.pulses]).toEqual([1, CERROR_ILL, 1, ["gerror"]]);
    // Neither a new index nor CR0 lets it go on.
    rig.set(R.CMDQ_PROD, rig.prod);
    rig.set(R.CR0, 0);
    rig.set(R.CR0, 8);
    expect([rig.cons, rig.pulses.length]).toEqual([1, 1]);
    // The same command again: the error becomes active anew.
    rig.acknowledge();
    expect([rig.cons, rig.get(R.GERROR), rig.get(R.GERRORN), rig.pulses.length]).toEqual([1, 0, 1, 2]);
    // The guest puts another in its place.
    rig.store(CMDQ + 16, ...C.sync());
    rig.acknowledge();
    expect([rig.cons, rig.commandError, rig.pulses.slice(2)]).toEqual([3, false, ["sync"]]);
  });

  it("lets the guest take commands back: PROD moves to CONS", () => {
    const rig = new Rig();
    rig.start();
    rig.submit(C.illegal(), C.illegal());
    rig.set(R.CMDQ_PROD, 0);
    rig.acknowledge();
    expect([rig.cons, rig.commandError]).toEqual([0, false]);
  });

  it("is CERROR_ABT where the command cannot be fetched", () => {
    const rig = new Rig();
    rig.start();
    rig.set(R.CR0, 0);
    rig.set64(R.CMDQ_BASE, 0x1000_0000n + 4n);
    rig.set(R.CR0, 8);
    rig.set(R.CMDQ_PROD, 1);
    expect([rig.cons, rig.cerror, rig.commandError]).toEqual([0, CERROR_ABT, true]);
  });

  it("raises no interrupt that is not enabled", () => {
    const rig = new Rig();
    rig.start();
    rig.set(R.IRQ_CTRL, 4);
    rig.submit(C.illegal());
    expect([rig.commandError, rig.pulses]).toEqual([true, []]);
  });
});

const opcode = (value: number): readonly [bigint, bigint] => [BigInt(value), 0n];
const ssec = ([low, high]: readonly [bigint, bigint]): readonly [bigint, bigint] => [low | (1n << 10n), high];
const range = (op: number, num: number, scale: number, tg: number, ttl: number): readonly [bigint, bigint] => [
  BigInt(op | (num << 12) | (scale << 20)),
  BigInt((tg << 10) | (ttl << 8)),
];

type Verdict = readonly [string, Partial<SmmuProperties>, readonly [bigint, bigint], boolean];

/** Command, features, and whether it is CERROR_ILL (Arm IHI 0070, chapter 4). */
const VERDICTS: readonly Verdict[] = [
  ["PREFETCH_CONFIG", {}, C.prefetch(1), false],
  ["PREFETCH_CONFIG of a StreamID out of range", {}, C.prefetch(0xffff_ffff), false],
  ["PREFETCH_ADDR", {}, opcode(0x02), false],
  ["PREFETCH_CONFIG, SSEC", {}, ssec(C.prefetch(1)), true],
  ["CFGI_STE, SSEC", {}, ssec(C.ste(1)), true],
  ["CFGI_STE of a StreamID out of range", {}, C.ste(0x1_0000), false],
  ["CFGI_STE_RANGE, SSEC", {}, ssec(C.steRange(0, 3)), true],
  ["CFGI_ALL, SSEC", {}, ssec(C.all()), true],
  ["CFGI_CD, SSEC", {}, ssec(C.cd(1)), true],
  ["CFGI_CD without stage 1", { stage: "2" }, C.cd(1), true],
  ["CFGI_CD_ALL without stage 1", { stage: "2" }, C.cdAll(1), true],
  ["CFGI_VMS_PIDM", {}, opcode(0x07), true],
  ["TLBI_NH_ALL", {}, C.nhAll(), false],
  ["TLBI_NH_ALL without stage 1", { stage: "2" }, C.nhAll(), true],
  ["TLBI_NH_ASID without stage 1", { stage: "2" }, C.nhAsid(1), true],
  ["TLBI_NH_VA without stage 1", { stage: "2" }, C.nhVa(1, 0x1000n), true],
  ["TLBI_NH_VAA without stage 1", { stage: "2" }, C.nhVaa(0x1000n), true],
  ["TLBI_EL3_ALL", {}, opcode(0x18), true],
  ["TLBI_EL3_VA", {}, opcode(0x1a), true],
  ["TLBI_EL2_ALL", {}, opcode(0x20), true],
  ["TLBI_EL2_ASID", {}, opcode(0x21), true],
  ["TLBI_EL2_VA", {}, opcode(0x22), true],
  ["TLBI_EL2_VAA", {}, opcode(0x23), true],
  ["TLBI_S12_VMALL without stage 2", {}, opcode(0x28), true],
  ["TLBI_S12_VMALL", { stage: "nested" }, opcode(0x28), false],
  ["TLBI_S2_IPA without stage 2", {}, opcode(0x2a), true],
  ["TLBI_S2_IPA", { stage: "2" }, opcode(0x2a), false],
  ["TLBI_NSNH_ALL", { stage: "2" }, C.nsnhAll(), false],
  ["ATC_INV without ATS", {}, C.atc(1), true],
  ["ATC_INV", { ats: true }, C.atc(1), false],
  ["ATC_INV, SSEC", { ats: true }, ssec(C.atc(1)), true],
  ["ATC_INV of everything", { ats: true }, [0x40n, 52n], false],
  ["ATC_INV, Size 53", { ats: true }, [0x40n, 53n], true],
  ["PRI_RESP", { ats: true }, opcode(0x41), true],
  ["RESUME", {}, opcode(0x44), true],
  ["STALL_TERM", {}, opcode(0x45), true],
  ["SYNC, SIG_NONE", {}, C.sync(0), false],
  ["SYNC, SIG_SEV", {}, C.sync(2), false],
  ["SYNC, CS 3", {}, C.sync(3), true],
  ["opcode 0", {}, opcode(0x00), true],
  ["opcode 0x08", {}, opcode(0x08), true],
  ["opcode 0x50 (TLBI_S_EL2_ALL)", {}, opcode(0x50), true],
  ["opcode 0x70 (DPTI_ALL)", {}, opcode(0x70), true],
  ["opcode 0x80", {}, opcode(0x80), true],
  ["opcode 0xff", {}, opcode(0xff), true],
  ["a range", {}, range(0x12, 3, 2, 1, 0), false],
  ["a range without RIL: TG", { ril: false }, range(0x12, 0, 0, 1, 0), true],
  ["a range without RIL: NUM", { ril: false }, range(0x13, 1, 0, 0, 0), true],
  ["a range without RIL: SCALE", { ril: false }, range(0x12, 0, 1, 0, 0), true],
  ["a range without RIL: TTL", { ril: false }, range(0x12, 0, 0, 0, 3), true],
  ["no range without RIL", { ril: false }, C.nhVa(1, 0x1000n), false],
  ["TG with NUM, SCALE and TTL 0", {}, range(0x12, 0, 0, 1, 0), true],
  ["TG with NUM, SCALE and TTL 0, by IPA", { stage: "2" }, range(0x2a, 0, 0, 3, 0), true],
  ["TG with nothing but SCALE[5], which is reserved", {}, range(0x12, 0, 32, 1, 0), true],
  ["TG with TTL", {}, range(0x12, 0, 0, 1, 3), false],
  ["16K with TTL 1, which counts as 0", {}, range(0x12, 0, 0, 2, 1), true],
  ["16K with TTL 2", {}, range(0x12, 0, 0, 2, 2), false],
  ["the widest range", {}, range(0x13, 31, 31, 3, 0), false],
];

describe("legality", () => {
  it.each(VERDICTS)("%s", (_name, properties, command, illegal) => {
    const rig = new Rig(properties);
    rig.smmu.backend = new RecordingBackend();
    rig.start(4, 4, 0xd);
    rig.submit(command);
    expect([rig.cons, rig.commandError]).toEqual(illegal ? [0, true] : [1, false]);
    if (illegal) {
      expect(rig.cerror).toBe(CERROR_ILL);
    }
    expect((rig.smmu.backend as RecordingBackend).pending).toBe(0);
  });

  it("covers every opcode that is not named: reserved", () => {
    const known = new Set([1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x13, 0x28, 0x2a, 0x30, 0x40, 0x46]);
    const rig = new Rig({ stage: "nested", ats: true });
    rig.start();
    for (let value = 0; value < 256; value++) {
      const before = rig.cons;
      rig.submit(opcode(value));
      expect([value, rig.commandError]).toEqual([value, !known.has(value)]);
      if (rig.commandError) {
        rig.store(CMDQ + (before & 15) * 16, ...C.sync());
        rig.acknowledge();
      }
      expect(rig.cons).toBe(rig.prod);
    }
  });
});

describe("CMD_SYNC", () => {
  it("signals by wire with SIG_IRQ only, whatever IRQ_CTRL says", () => {
    const rig = new Rig();
    rig.start();
    rig.set(R.IRQ_CTRL, 0);
    rig.submit(C.sync(0), C.sync(2));
    expect(rig.pulses).toEqual([]);
    rig.submit(C.sync(1), C.syncMessage(0x4030_0000n, 7));
    expect(rig.pulses).toEqual(["sync", "sync"]);
    expect(rig.messages).toEqual([]);
  });

  it("writes its message with IDR0.MSI, after CMDQ_CONS has passed it", () => {
    const rig = new Rig({ msi: true });
    const seen: number[] = [];
    rig.onMessage = () => seen.push(rig.cons);
    rig.start();
    rig.submit(C.ste(1), C.syncMessage(0x8_4030_0004n, 0xdead_beef), C.syncMessage(0n, 5));
    expect(rig.messages).toEqual([{ address: 0x8_4030_0004, data: 0xdead_beef }]);
    expect(seen).toEqual([2]);
  });

  it("reports a message that aborts as a global error, and is consumed", () => {
    const rig = new Rig({ msi: true });
    rig.messageLimit = 0x5000_0000;
    rig.start();
    rig.submit(C.syncMessage(0x5000_0000n, 1), C.sync());
    expect([rig.cons, rig.get(R.GERROR), rig.pulses]).toEqual([2, 0x10, ["sync", "gerror"]]);
  });

  it("cannot make the queue run for ever by a message to CMDQ_PROD", () => {
    const rig = new Rig({ msi: true });
    rig.start(2);
    // Each CMD_SYNC writes CMDQ_PROD one further.
    rig.onMessage = (_address, data) => rig.set(R.CMDQ_PROD, data);
    for (let n = 0; n < 4; n++) {
      rig.store(CMDQ + n * 16, ...C.syncMessage(0x900_0098n, 0));
    }
    let next = 0;
    rig.onMessage = () => rig.set(R.CMDQ_PROD, (++next + 1) & 7);
    rig.set(R.CMDQ_PROD, 1);
    // What one access does is bounded; it goes on by itself, and where the guest polls CMDQ_CONS.
    expect(rig.smmu.commands.fetches).toBe(STEPS_AT_ONCE);
    rig.get(R.CMDQ_CONS);
    expect(rig.smmu.commands.fetches).toBe(2 * STEPS_AT_ONCE);
    rig.later.shift()!();
    expect(rig.smmu.commands.fetches).toBe(3 * STEPS_AT_ONCE);
    rig.smmu.reset();
    rig.later.shift()!();
    expect([rig.smmu.commands.fetches, rig.later.length]).toEqual([3 * STEPS_AT_ONCE, 0]);
  });
});

describe("more than is done at once", () => {
  const COMMANDS = 10_000;

  function filled(): { rig: Rig; backend: RecordingBackend } {
    const rig = new Rig();
    const backend = new RecordingBackend(4096);
    rig.smmu.backend = backend;
    rig.start(14);
    rig.submit(...Array.from({ length: COMMANDS }, (_unused, n) => C.nhAsid(n)));
    return { rig, backend };
  }

  it("yields with CMDQ_CONS at what is done, and goes on when the event loop is free, in order", () => {
    const { rig, backend } = filled();
    const done = rig.smmu.registers.word(R.CMDQ_CONS);
    expect(done).toBe(STEPS_AT_ONCE);
    expect(backend.done.length).toBe(done);
    for (let runs = 0; rig.later.length > 0; runs++) {
      expect(runs).toBeLessThan(3);
      rig.later.shift()!();
    }
    expect(rig.cons).toBe(COMMANDS);
    expect(backend.done).toEqual(Array.from({ length: COMMANDS }, (_unused, n) => `11:${(((n & 0xffff) << 16) >>> 0).toString(16)}`));
    expect(rig.smmu.counters()).toMatchObject({ commands: COMMANDS, forwarded: COMMANDS });
  });

  it("is done by a guest that polls, and nothing is left for later then", () => {
    const { rig, backend } = filled();
    expect([rig.cons, rig.cons]).toEqual([2 * STEPS_AT_ONCE, COMMANDS]);
    while (rig.later.length > 0) {
      rig.later.shift()!();
    }
    expect(backend.done.length).toBe(COMMANDS);
  });

  it("stops where the queue is switched off, or the SMMU reset, meanwhile", () => {
    for (const stop of [(rig: Rig) => rig.set(R.CR0, 0), (rig: Rig) => rig.smmu.reset()]) {
      const { rig, backend } = filled();
      stop(rig);
      rig.later.shift()!();
      expect([backend.done.length, rig.later.length]).toEqual([STEPS_AT_ONCE, 0]);
    }
  });

  it("an error meanwhile stops it, and its acknowledgement lets it go on", () => {
    const rig = new Rig();
    const backend = new RecordingBackend(4096);
    rig.smmu.backend = backend;
    rig.start(14);
    rig.submit(...Array.from({ length: 5000 }, (_unused, n) => (n === 4500 ? C.illegal() : C.nhAsid(n))), C.sync());
    rig.later.shift()!();
    expect([rig.smmu.registers.word(R.CMDQ_CONS) & 0xf_ffff, rig.cerror, rig.later.length]).toEqual([4500, 1, 0]);
    expect(rig.smmu.counters().commands).toBe(4500);
  });
});

describe("a configuration command that is not finished at once", () => {
  function suspended(): { rig: Rig; asked: string[] } {
    const rig = new Rig();
    const backend = new RecordingBackend();
    const asked: string[] = [];
    rig.smmu.backend = backend;
    backend.installCode = (first, last, goOn) => {
      asked.push(`${first.toString(16)}-${last.toString(16)}${goOn ? " goes on" : ""}`);
      return asked.length < 3 ? UNFINISHED : 0;
    };
    rig.start();
    rig.submit(C.nhAsid(1), C.all(), C.sync());
    expect([rig.smmu.registers.word(R.CMDQ_CONS), asked]).toEqual([1, ["0-ffff"]]);
    return { rig, asked };
  }

  it("goes on where it was, and is consumed when it is done", () => {
    const { rig, asked } = suspended();
    rig.later.shift()!();
    expect([rig.smmu.registers.word(R.CMDQ_CONS), asked]).toEqual([1, ["0-ffff", "0-ffff goes on"]]);
    rig.later.shift()!();
    expect([rig.cons, asked.length, rig.later.length]).toEqual([3, 3, 0]);
    expect(rig.smmu.counters().commands).toBe(3);
  });

  it("begins anew where the guest has replaced it, or reset the SMMU, meanwhile", () => {
    const { rig, asked } = suspended();
    rig.store(CMDQ + 16, ...C.ste(5));
    rig.later.shift()!();
    expect(asked[1]).toBe("5-5");
    rig.smmu.reset();
    rig.start();
    rig.submit(C.nhAsid(1), C.ste(5));
    expect(asked[2]).toBe("5-5");
  });

  it("begins anew where the host has refused the batch that its first part was in", () => {
    const rig = new Rig();
    const backend = new RecordingBackend();
    const asked: boolean[] = [];
    rig.smmu.backend = backend;
    // Of the first function a CFGI_CD_ALL, and no more.
    backend.installEntries = (_first, _last, goOn) => {
      asked.push(goOn);
      backend.forward(6, 9, 0, 0);
      return asked.length < 2 ? UNFINISHED : 0;
    };
    let failing = true;
    backend.judge = () => (failing ? CERROR_ILL : 0);
    rig.start();
    rig.submit(C.nhAsid(1), C.all(), C.sync());
    expect([rig.cons, rig.commandError, asked]).toEqual([0, true, [false]]);
    failing = false;
    rig.store(CMDQ, ...C.sync());
    rig.acknowledge();
    expect([rig.cons, asked, backend.done]).toEqual([3, [false, false], ["6:9"]]);
  });

  it("begins anew where the queue was off meanwhile", () => {
    const { rig, asked } = suspended();
    rig.set(R.CR0, 0);
    rig.set(R.CMDQ_CONS, 1);
    rig.set(R.CR0, 8);
    expect([rig.smmu.registers.word(R.CMDQ_CONS), asked]).toEqual([1, ["0-ffff", "0-ffff"]]);
  });

  it("begins anew where others have been at its place", () => {
    const { rig, asked } = suspended();
    rig.store(CMDQ + 16, ...C.sync());
    rig.later.shift()!();
    expect([rig.cons, asked.length]).toEqual([3, 1]);
    // Twice around the queue to the same position.
    while (rig.prod !== 1) {
      rig.submit(C.sync());
    }
    rig.submit(C.all());
    expect(asked[1]).toBe("0-ffff");
  });
});

describe("configuration commands", () => {
  it.each([
    ["CFGI_STE", C.ste(0x1234), ["install 1234-1234"]],
    ["CFGI_STE_RANGE", C.steRange(0x1234, 3), ["install 1230-123f"]],
    ["CFGI_STE_RANGE over the limit", C.steRange(0x1234, 20), ["install 0-ffff"]],
    ["CFGI_ALL", C.steRange(0xffff_ffff, 31), ["install 0-ffff"]],
    ["CFGI_STE_RANGE beyond the limit", C.steRange(0xffff_0000, 15), []],
    ["CFGI_STE beyond the limit", C.ste(0x8000_0000), []],
  ])("%s", (_name, command, calls) => {
    const rig = new Rig();
    const backend = new RecordingBackend();
    rig.smmu.backend = backend;
    rig.start();
    rig.submit(command);
    expect(backend.calls.filter((call) => call.startsWith("install"))).toEqual(calls);
    expect(rig.cons).toBe(1);
  });
});
