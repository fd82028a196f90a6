import { describe, expect, it } from "vitest";
import { EfiClock } from "../../../src/machine/virt/efi-clock.js";
import { EventDevice } from "../../../src/machine/virt/event-device.js";
import { Pl031, type SecondClock } from "../../../src/machine/virt/pl031.js";
import { Pl061 } from "../../../src/machine/virt/pl061.js";
import type { VirtBoard } from "../../../src/machine/index.js";
import { build } from "../build.js";

class Clock implements SecondClock {
  time = 1_000_000;
  private alarms: Array<{ at: number; ring: () => void }> = [];

  now(): number {
    return this.time;
  }

  after(seconds: number, ring: () => void): { stop(): void } {
    const alarm = { at: this.time + seconds, ring };
    this.alarms.push(alarm);
    return { stop: () => void (this.alarms = this.alarms.filter((one) => one !== alarm)) };
  }

  pass(seconds: number): void {
    this.time += seconds;
    this.alarms.filter(({ at }) => at <= this.time).forEach((alarm) => {
      this.alarms = this.alarms.filter((one) => one !== alarm);
      alarm.ring();
    });
  }

  get waiting(): number {
    return this.alarms.length;
  }
}

describe("PL031", () => {
  const make = (): { clock: Clock; rtc: Pl031; read(at: number): number; write(at: number, value: number): void; line(): boolean } => {
    const clock = new Clock();
    let level = false;
    const rtc = new Pl031(clock, (to) => (level = to));
    return { clock, rtc, read: (at) => Number(rtc.read(at, 4)), write: (at, value) => rtc.write(at, 4, BigInt(value)), line: () => level };
  };

  it("counts seconds from what was loaded, and has its identification", () => {
    const { clock, read, write } = make();
    expect([read(0), read(0x0c), read(0xfe0), read(0xfe4), read(0xfe8)]).toEqual([1_000_000, 1, 0x31, 0x10, 0x04]);
    write(0x08, 500);
    clock.pass(7);
    expect([read(0), read(0x08)]).toEqual([507, 500]);
  });

  it("interrupts at its alarm, while that is unmasked, until it is cleared; a reset stops it", () => {
    const { clock, rtc, read, write, line } = make();
    write(0x10, 1);
    write(0x04, 1_000_010);
    clock.pass(9);
    expect([line(), read(0x14)]).toEqual([false, 0]);
    clock.pass(1);
    expect([line(), read(0x14), read(0x18)]).toEqual([true, 1, 1]);
    write(0x1c, 1);
    expect([line(), read(0x14), clock.waiting]).toEqual([false, 0, 0]);
    write(0x04, 1_000_100);
    expect(clock.waiting).toBe(1);
    rtc.reset();
    expect(clock.waiting).toBe(0);
  });
});

describe("PL061", () => {
  it("tells inputs under the mask of the address, and drives only what is an output", () => {
    const gpio = new Pl061(() => {});
    gpio.setInput(3, true);
    expect([gpio.read(0x3fc, 1), gpio.read(8 << 2, 1), gpio.read(4 << 2, 1)]).toEqual([8n, 8n, 0n]);
    gpio.write(0x3fc, 1, 0xffn);
    expect(gpio.read(0x3fc, 1)).toBe(8n);
    gpio.write(0x400, 1, 0x01n);
    gpio.write(0x3fc, 1, 0xffn);
    expect(gpio.read(0x3fc, 1)).toBe(9n);
  });

  it("interrupts at edges as IBE and IEV say, or at a level", () => {
    let level = false;
    const gpio = new Pl061((to) => (level = to));
    gpio.write(0x410, 1, 8n);
    gpio.write(0x408, 1, 8n);
    gpio.setInput(3, true);
    expect([level, gpio.read(0x418, 1)]).toEqual([true, 8n]);
    gpio.write(0x41c, 1, 8n);
    expect(level).toBe(false);
    gpio.setInput(3, false);
    expect(level).toBe(true);
    gpio.write(0x41c, 1, 8n);
    gpio.write(0x408, 1, 0n);
    gpio.write(0x40c, 1, 8n);
    gpio.write(0x404, 1, 8n);
    gpio.setInput(3, true);
    expect([level, gpio.read(0x414, 1)]).toEqual([true, 8n]);
    gpio.setInput(3, false);
    expect([level, gpio.read(0x414, 1)]).toEqual([false, 0n]);
  });
});

describe("EFI's clock", () => {
  it("tells an EFI_TIME in UTC by accesses of any width", () => {
    const clock = new EfiClock({ now: () => Date.UTC(2026, 10, 30, 18, 5, 59) / 1000 });
    expect(clock.read(0, 8)).toBe(0x003b_0512_1e0b_07ean);
    expect([clock.read(0, 2), clock.read(2, 1), clock.read(8, 8), clock.read(16, 4)]).toEqual([2026n, 11n, 0n, 0n]);
  });
});

describe("the event device", () => {
  it("tells once what has happened", () => {
    let pulses = 0;
    const events = new EventDevice(() => pulses++);
    events.pressPowerButton();
    expect([pulses, events.read(0), events.read(0)]).toEqual([1, 2n, 0n]);
  });
});

describe("the power button of a virt board", () => {
  it("is a line to the GPIO and an edge of the event device", async () => {
    const { machine } = build("-M virt -nodefaults -m 64");
    machine.start();
    const board = machine.board as VirtBoard;
    const lines: Array<[number, boolean]> = [];
    board.interrupts.taker = { message: () => {}, line: (intid, high) => void lines.push([intid, high]) };
    board.memory.writeWord(0x903_0410, 1, 8n);
    board.memory.writeWord(0x903_0408, 1, 8n);
    machine.powerDown();
    expect(lines).toEqual([[41, true], [41, false], [39, true]]);
    expect(board.memory.readWord(0x908_0000, 4)).toBe(2n);
    // The key is let go.
    await expect.poll(() => Number(board.memory.readWord(0x903_03fc, 1))).toBe(0);
    machine.reset();
    expect(board.memory.readWord(0x903_0410, 1)).toBe(0n);
    machine.shutdown();
  });
});
