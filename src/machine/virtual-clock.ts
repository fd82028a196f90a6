/** The machine's time under -accel qtest (QEMU_CLOCK_VIRTUAL): it stands still but for the client's steps. */
import type { SteppedClock } from "../port/index.js";

interface Timer {
  readonly time: bigint;
  readonly run: () => void;
}

export class VirtualClock implements SteppedClock {
  private time = 0n;
  private timers: Timer[] = [];
  /** False while the machine is stopped (-S): time can be stepped, but no timer is due. */
  running = true;

  get now(): bigint {
    return this.time;
  }

  get deadline(): bigint | null {
    return this.running && this.timers.length > 0 ? this.timers[0].time : null;
  }

  /** Runs `run` once at `time`, in nanoseconds. @returns cancels it */
  at(time: bigint, run: () => void): () => void {
    const timer = { time, run };
    const later = this.timers.findIndex((other) => other.time > time);
    this.timers.splice(later < 0 ? this.timers.length : later, 0, timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  advanceTo(time: bigint): void {
    for (let { deadline } = this; deadline !== null && deadline <= time; { deadline } = this) {
      this.time = deadline > this.time ? deadline : this.time;
      this.timers.shift()!.run();
    }
    this.time = time > this.time ? time : this.time;
  }
}
