/** Arm's PL031 real-time clock (Arm DDI 0224C): seconds since 1970, and an alarm. */
import { ArmCell } from "../arm-cell.js";

const DR = 0x00;
const MR = 0x04;
const LR = 0x08;
const CR = 0x0c;
const IMSC = 0x10;
const RIS = 0x14;
const MIS = 0x18;
const ICR = 0x1c;

/** What counts time. */
export interface SecondClock {
  /** Seconds since 1970. */
  now(): number;
  /** Calls back once after so many seconds, if `stop` of what it returns has not been called; keeps no process alive. */
  after(seconds: number, ring: () => void): { stop(): void };
}

export const WALL_CLOCK: SecondClock = {
  now: () => Math.floor(Date.now() / 1000),
  after: (seconds, ring) => {
    // Timers of Node.js have 31 bits of milliseconds.
    const timer = setTimeout(ring, Math.min(seconds * 1000, 2 ** 31 - 1)).unref();
    return { stop: () => clearTimeout(timer) };
  },
};

export class Pl031 extends ArmCell {
  /** What the guest has loaded, less the clock's time then. */
  private offset = 0;
  private match = 0;
  private loaded = 0;
  private mask = 0;
  private raw = 0;
  private alarm: { stop(): void } | null = null;

  constructor(
    private readonly clock: SecondClock,
    private readonly setLine: (level: boolean) => void,
  ) {
    super([0x31, 0x10, 0x04, 0x00]);
  }

  reset(): void {
    this.alarm?.stop();
    this.alarm = null;
    this.mask = 0;
    this.raw = 0;
    this.update();
  }

  private get count(): number {
    return (this.clock.now() + this.offset) >>> 0;
  }

  protected readRegister(offset: number): number {
    switch (offset) {
      case DR:
        return this.count;
      case MR:
        return this.match;
      case LR:
        return this.loaded;
      case CR:
        return 1;
      case IMSC:
        return this.mask;
      case RIS:
        return this.raw;
      case MIS:
        return this.raw & this.mask;
      default:
        return 0;
    }
  }

  protected writeRegister(offset: number, value: number): void {
    switch (offset) {
      case MR:
        this.match = value;
        this.setAlarm();
        break;
      case LR:
        this.loaded = value;
        this.offset = value - this.clock.now();
        this.setAlarm();
        break;
      case IMSC:
        this.mask = value & 1;
        break;
      case ICR:
        this.raw &= ~value;
        break;
    }
    this.update();
  }

  private setAlarm(): void {
    this.alarm?.stop();
    const wait = (this.match - this.count) >>> 0;
    if (wait === 0) {
      this.alarm = null;
      this.raw = 1;
    } else {
      this.alarm = this.clock.after(wait, () => {
        this.setAlarm();
        this.update();
      });
    }
  }

  private update(): void {
    this.setLine((this.raw & this.mask) !== 0);
  }
}
