/** The interrupts of a machine as its guest takes them: what an interrupt controller keeps pending. */
import type { Interrupt } from "../port/index.js";
import type { Log } from "../support/index.js";

/** Interrupts that can be pending at once. A controller has a bit for each; here each costs an object. */
const PENDING_LIMIT = 2 ** 20;

/** Called with the number of an interrupt controller's line and its level. */
export type LineWatcher = (line: number, level: number) => void;

/** Pending interrupts, oldest first, and levels of lines. One that is pending already does not become pending twice. */
export abstract class InterruptLog {
  /** Messages that arrived, those that merged with a pending one included. */
  messagesDelivered = 0;
  private readonly pending = new Map<number, Interrupt>();
  private watchers: LineWatcher[] = [];

  constructor(protected readonly log: Log) {}

  /** Tells every level that a line is set to, edges as up and down. */
  watchLines(watcher: LineWatcher): void {
    this.watchers.push(watcher);
  }

  protected tell(line: number, level: number): void {
    for (const watcher of this.watchers) {
      watcher(line, level);
    }
  }

  take(): Interrupt[] {
    const taken = [...this.pending.values()];
    this.pending.clear();
    return taken;
  }

  /** What is pending, left as it is. */
  protected get waiting(): Iterable<Interrupt> {
    return this.pending.values();
  }

  /** Nothing is pending after a reset; lines keep their level. */
  reset(): void {
    this.pending.clear();
  }

  /** @param key what tells the interrupt from others */
  protected add(key: number, interrupt: Interrupt): void {
    if (this.pending.size < PENDING_LIMIT || this.pending.has(key)) {
      this.pending.set(key, interrupt);
    } else {
      this.log.guestError("interrupts.pending", () => `more than ${PENDING_LIMIT} interrupts are pending: this one is dropped`);
    }
  }
}
