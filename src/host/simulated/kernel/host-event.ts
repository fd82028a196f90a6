import type { HostEvent } from "../../../iommufd/index.js";

/** Runs a task in a turn of its own, as a poll loop would. */
export type Later = (task: () => void) => void;

/** An eventfd of the simulated process: it counts, and whoever listens is called later, once for all that came. */
export class SimulatedEvent implements HostEvent {
  readonly fd = null;
  private listener: (() => void) | null = null;
  private signalled = false;
  private waking = false;
  private closed = false;

  constructor(private readonly later: Later) {}

  signal(): void {
    if (!this.closed) {
      this.signalled = true;
      this.wake();
    }
  }

  onSignal(listener: (() => void) | null): void {
    this.listener = listener;
    this.wake();
  }

  close(): void {
    this.closed = true;
    this.listener = null;
  }

  private wake(): void {
    if (this.waking || !this.signalled || this.listener === null) {
      return;
    }
    this.waking = true;
    this.later(() => {
      this.waking = false;
      const { listener } = this;
      if (listener !== null && this.signalled) {
        this.signalled = false;
        listener();
      }
    });
  }
}
