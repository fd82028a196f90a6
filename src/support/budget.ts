/**
 * Bounded work: what one register access, one timer or one message may do before others get their turn. A
 * guest fills a queue with half a million commands by one write; the rest of what it asks for is done later,
 * and the registers tell truly how far the work is.
 */

/**
 * Steps done at once: some milliseconds. A step is an entry of a queue or a table, of the guest, read and
 * acted on in this process.
 */
export const STEPS_AT_ONCE = 4096;

/** What a host call costs in steps, beside the entries that it takes along. */
export const HOST_CALL_STEPS = 4;

/** What an entry of a table that is not present costs: most are not. */
export const EMPTY_ENTRY_STEPS = 1 / 16;

/** Steps that are left to whoever works; one object for all that a drain causes. */
export class Budget {
  /** May fall below zero: work that cannot be divided is done to its end. */
  left: number;
  private before = 0;

  constructor(readonly size: number = STEPS_AT_ONCE) {
    this.left = size;
  }

  refill(): void {
    this.before = this.taken;
    this.left = this.size;
  }

  /** Steps taken since it was made. */
  get taken(): number {
    return this.before + this.size - this.left;
  }

  get spent(): boolean {
    return this.left <= 0;
  }
}

/** Runs work once, soon, outside of the caller. */
export type Scheduler = (work: () => void) => void;

/** After the events that wait already, so that sockets and timers get their turn. */
export const onEventLoop: Scheduler = (work) => {
  setImmediate(work);
};

/** Work that goes on later until it is finished; asking twice is asking once. */
export class Continuation {
  private wanted = false;
  private scheduled = false;

  constructor(
    private readonly scheduler: Scheduler,
    private readonly work: () => void,
  ) {}

  /** There is work left, which is to go on soon. */
  get pending(): boolean {
    return this.wanted;
  }

  request(): void {
    this.wanted = true;
    if (!this.scheduled) {
      this.scheduled = true;
      this.scheduler(() => {
        this.scheduled = false;
        if (this.wanted) {
          this.wanted = false;
          this.work();
        }
      });
    }
  }

  /** The work is finished, or not wanted any more. */
  cancel(): void {
    this.wanted = false;
  }
}
