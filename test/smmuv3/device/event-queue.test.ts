import { describe, expect, it } from "vitest";
import { buildEvent, EVENT } from "../../../src/smmuv3/spec/index.js";
import { EVENTQ, R, Rig } from "./rig.js";

const record = (sid: number): Int32Array => buildEvent(EVENT.C_BAD_STE, { SID: sid });

describe("the event queue", () => {
  it("takes records as they are, little-endian, at PROD", () => {
    const rig = new Rig();
    rig.start();
    rig.smmu.recordEvent(Int32Array.of(0x10 | 0x800, 0x123, 0, 0x88, 0x5678_9000, 0x1234, 0x4000_0000, 0x9));
    expect(rig.load(EVENTQ, 4)).toEqual([0x123_0000_0810n, 0x88_0000_0000n, 0x1234_5678_9000n, 0x9_4000_0000n]);
    expect(rig.get(R.EVENTQ_PROD)).toBe(1);
    expect(rig.smmu.counters()).toMatchObject({ events: 1, eventsByName: { F_TRANSLATION: 1 }, eventsLost: 0 });
  });

  it("wraps, and interrupts when it stops being empty", () => {
    const rig = new Rig();
    rig.start(4, 1);
    rig.smmu.recordEvent(record(1));
    rig.smmu.recordEvent(record(2));
    expect([rig.get(R.EVENTQ_PROD), rig.pulses]).toEqual([2, ["eventq"]]);
    rig.set(R.EVENTQ_CONS, 1);
    rig.smmu.recordEvent(record(3));
    expect([rig.get(R.EVENTQ_PROD), rig.pulses.length]).toEqual([3, 1]);
    expect(rig.load(EVENTQ, 1)[0] >> 32n).toBe(3n);
    rig.set(R.EVENTQ_CONS, 3);
    rig.smmu.recordEvent(record(4));
    expect([rig.get(R.EVENTQ_PROD), rig.pulses.length]).toEqual([0, 2]);
    expect(rig.load(EVENTQ + 32, 1)[0] >> 32n).toBe(4n);
  });

  it("toggles OVFLG once for an overflow until it is acknowledged", () => {
    const rig = new Rig();
    rig.start(4, 0);
    rig.smmu.recordEvent(record(1));
    expect(rig.get(R.EVENTQ_PROD)).toBe(1);
    rig.smmu.recordEvent(record(2));
    rig.smmu.recordEvent(record(3));
    expect(rig.get(R.EVENTQ_PROD)).toBe(0x8000_0001);
    // Room again, overflow not acknowledged: records go on.
    rig.set(R.EVENTQ_CONS, 1);
    rig.smmu.recordEvent(record(4));
    expect(rig.get(R.EVENTQ_PROD)).toBe(0x8000_0000);
    rig.set(R.EVENTQ_CONS, 0x8000_0001);
    rig.smmu.recordEvent(record(5));
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
    expect(rig.smmu.counters()).toMatchObject({ events: 2, eventsLost: 3 });
    expect(rig.load(EVENTQ, 1)[0] >> 32n).toBe(4n);
  });

  it("shows records lost on the way as an overflow", () => {
    const rig = new Rig();
    rig.smmu.recordLostEvents();
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
    rig.start();
    rig.smmu.recordLostEvents();
    rig.smmu.recordLostEvents();
    expect(rig.get(R.EVENTQ_PROD)).toBe(0x8000_0000);
    rig.set(R.EVENTQ_CONS, 0x8000_0000);
    rig.smmu.recordLostEvents();
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
  });

  it("drops everything while it is disabled, without an overflow", () => {
    const rig = new Rig();
    rig.start(4, 0);
    rig.set(R.CR0, 8);
    rig.smmu.recordEvent(record(1));
    rig.smmu.recordEvent(record(2));
    expect([rig.get(R.EVENTQ_PROD), rig.pulses]).toEqual([0, []]);
  });

  it("counts indexes that do not fit as full", () => {
    const rig = new Rig();
    rig.start(4, 2, 0);
    rig.set(R.EVENTQ_PROD, 1);
    rig.set(R.EVENTQ_CONS, 3);
    rig.set(R.CR0, 4);
    rig.smmu.recordEvent(record(1));
    expect(rig.get(R.EVENTQ_PROD)).toBe(0x8000_0001);
  });

  it("reports a write that aborts, and takes nothing until that is acknowledged", () => {
    const rig = new Rig();
    rig.start(4, 4, 0);
    rig.set64(R.EVENTQ_BASE, 0x1000_0000n + 4n);
    rig.set(R.CR0, 4);
    rig.smmu.recordEvent(record(1));
    expect([rig.get(R.EVENTQ_PROD), rig.get(R.GERROR), rig.pulses]).toEqual([0, 4, ["gerror"]]);
    rig.set(R.CR0, 0);
    rig.set64(R.EVENTQ_BASE, EVENTQ + 4);
    rig.set(R.CR0, 4);
    rig.smmu.recordEvent(record(2));
    expect(rig.get(R.EVENTQ_PROD)).toBe(0);
    rig.acknowledge();
    rig.smmu.recordEvent(record(3));
    expect([rig.get(R.EVENTQ_PROD), rig.pulses]).toEqual([1, ["gerror", "eventq"]]);
  });

  it("is silent where EVENTQ_IRQEN is 0", () => {
    const rig = new Rig();
    rig.start();
    rig.set(R.IRQ_CTRL, 1);
    rig.smmu.recordEvent(record(1));
    expect(rig.pulses).toEqual([]);
  });
});

describe("messages instead of wires (IDR0.MSI)", () => {
  function messageRig(): Rig {
    const rig = new Rig({ msi: true });
    rig.set64(R.EVENTQ_IRQ_CFG0, 0x8_0809_0040n);
    rig.set(R.EVENTQ_IRQ_CFG0 + 8, 0x11);
    rig.set64(R.GERROR_IRQ_CFG0, 0x0809_0040n);
    rig.set(R.GERROR_IRQ_CFG0 + 8, 0x22);
    rig.start();
    return rig;
  }

  it("go where the *_IRQ_CFG registers say", () => {
    const rig = messageRig();
    rig.smmu.recordEvent(record(1));
    rig.submit([0x99n, 0n]);
    expect(rig.messages).toEqual([
      { address: 0x8_0809_0040, data: 0x11 },
      { address: 0x0809_0040, data: 0x22 },
    ]);
  });

  it("tell in GERROR that they aborted", () => {
    const rig = messageRig();
    rig.messageLimit = 0x1_0000_0000;
    rig.smmu.recordEvent(record(1));
    // MSI_EVENTQ_ABT_ERR, told by the message of GERROR.
    expect([rig.get(R.GERROR), rig.messages]).toEqual([0x20, [{ address: 0x0809_0040, data: 0x22 }]]);
    rig.acknowledge();
    rig.messageLimit = 0;
    rig.submit([0x99n, 0n]);
    expect((rig.get(R.GERROR) ^ rig.get(R.GERRORN)) & 0xff).toBe(0x81);
  });

  it("are not sent to address 0", () => {
    const rig = new Rig({ msi: true });
    rig.start();
    rig.smmu.recordEvent(record(1));
    expect([rig.messages, rig.pulses]).toEqual([[], ["eventq"]]);
  });
});
