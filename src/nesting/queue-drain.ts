/**
 * The draining of a guest's invalidation queue, for both architectures: entries are fetched and acted on in their
 * order, those for the host are collected and sent in one call, and the register that tells how far the work is
 * passes a collected entry only when the host has done it. One drain does bounded work; the rest follows when the
 * event loop is free, or when the guest looks.
 */
import type { BatchAccount } from "../iommufd/index.js";
import { loadWords, PHYSICAL_BITS, type WordMemory } from "../memory/index.js";
import { type Budget, Continuation, HOST_CALL_STEPS, type Scheduler } from "../support/index.js";

/** What became of an entry: it is done, or in the batch. */
export const NEXT = 0;
/** The queue has stopped: an error is signalled, and the position told. */
export const STOPPED = 1;
/** Part of it is done. It is looked at again, with what the queue holds then. */
export const AGAIN = 2;

/** It has to wait for work of others, who call `drain` when that is done; until then it is looked at when the guest looks. */
export const WAITING = 3;

export type StepResult = typeof NEXT | typeof STOPPED | typeof AGAIN | typeof WAITING;

export abstract class QueueDrain {
  /** Entries consumed, by opcode or type. */
  readonly consumed = new Int32Array(256);
  /** Entries read from memory; batches sent to the host, and entries of them that it has done. */
  fetches = 0;
  flushes = 0;
  forwarded = 0;
  /** Of the last batch: how many entries it had, and how many of them the host has done. */
  private sent = 0;
  private taken = 0;
  /** A drain has ended with entries left that could have been done: it goes on soon, or when the guest looks. */
  unfinished = false;

  /** The entry that is being done: 32-bit words. */
  protected readonly entry = new Int32Array(8);
  /** What is being done: an index of `consumed`. */
  protected kind = 0;
  /** The queue: its address and the log2 of an entry's bytes, how many there are, the bits of a position. */
  protected base = 0;
  protected shift = 4;
  protected entries = 0;
  protected mask = 0;
  private draining = false;
  /** The queue was forgotten from within a drain, by a message to the unit's own registers: nothing more is told of it. */
  private forgotten = false;
  /** Positions of the entries in the backend's batch. */
  private positions = new Int32Array(64);
  private batched = 0;
  /** Kinds of the entries since the last flush: those behind a refused one are not consumed after all. */
  private readonly kinds: Uint8Array;
  private counted = 0;
  private readonly more: Continuation;
  /** What is unfinished is this queue's to go on with. */
  private goesOn = true;

  protected constructor(
    private readonly words: WordMemory,
    scheduler: Scheduler,
    readonly budget: Budget,
  ) {
    this.kinds = new Uint8Array(budget.size + 1);
    this.more = new Continuation(scheduler, () => this.drain());
  }

  /** Entries in the backend's batch, and how many fit. */
  protected abstract get pending(): number;
  protected abstract get capacity(): number;
  /** The queue is on. */
  protected abstract get ready(): boolean;
  /** Reads the registers; returns the position of the first entry. */
  protected abstract begin(): number;
  /** Whether an entry is to be done at a position; asked before each, as what was done may have changed all. */
  protected abstract waits(at: number): boolean;
  /** Does the entry at a position, or puts it into the batch, and sets `kind`. `next`: the position behind it. */
  protected abstract step(at: number, next: number): StepResult;
  /** Sends the batch. Returns which of its entries is the first that is not done; -1: all are. */
  protected abstract send(): number;
  /** The host has refused the entry at a position, which `place` has told already. */
  protected abstract refused(at: number): void;
  /** Of the batch, the first `count` entries are done (all: Infinity), and the rest is not to be waited for. */
  protected batchDone(_count: number): void {}
  /** Tells how far the work is. */
  protected abstract place(at: number): void;
  /** All is done that can be done now, and told. */
  protected abstract ended(at: number): void;

  /** Does what is in the queue. A call from within (a message may hit the unit's own registers) leaves it to the outer one. */
  drain(): void {
    if (this.draining || !this.ready) {
      return;
    }
    this.draining = true;
    this.more.cancel();
    try {
      this.run();
    } finally {
      this.batched = 0;
      this.draining = false;
    }
    if (this.unfinished && this.goesOn) {
      this.more.request();
    }
  }

  /** Nothing goes on by itself any more. */
  dispose(): void {
    this.more.cancel();
  }

  /** Forgets what is under way: the queue's registers have other values. */
  protected forget(): void {
    this.forgotten = true;
    this.batched = 0;
    this.unfinished = false;
    this.more.cancel();
  }

  private run(): void {
    this.unfinished = false;
    this.goesOn = true;
    this.forgotten = false;
    this.counted = 0;
    this.budget.refill();
    let at = this.begin();
    while (this.waits(at)) {
      if (this.budget.spent) {
        this.unfinished = true;
        break;
      }
      this.budget.left--;
      const next = (at + 1) & this.mask;
      const result = this.step(at, next);
      if (result === STOPPED || this.forgotten) {
        return;
      }
      this.note(at);
      if (result !== NEXT) {
        this.unfinished = true;
        this.goesOn = result === AGAIN;
        break;
      }
      this.consumed[this.kind]++;
      this.kinds[this.counted++] = this.kind;
      at = next;
      if (this.pending >= this.capacity && !this.flush(at)) {
        return;
      }
    }
    if (this.flush(at)) {
      this.ended(at);
    }
  }

  /** What the batch has gained is of the entry at a position. */
  private note(at: number): void {
    const { pending } = this;
    if (pending > this.positions.length) {
      const larger = new Int32Array(Math.max(pending, 2 * this.positions.length));
      larger.set(this.positions);
      this.positions = larger;
    }
    for (let n = this.batched; n < pending; n++) {
      this.positions[n] = at;
    }
    this.batched = pending;
  }

  /** The last batch that went to the host; null: none yet. @param error the host's */
  lastBatch(error: string | null): BatchAccount | null {
    return this.flushes === 0 ? null : { first: this.sent === 0 ? null : this.positions[0] & (this.entries - 1), entries: this.sent, handled: this.taken, error };
  }

  /** The batch was sent while the entry was done, as what it asks for had to come behind. */
  protected batchSent(): void {
    this.sent = this.taken = this.batched;
    this.forwarded += this.batched;
    this.batched = 0;
    this.flushes++;
    this.batchDone(Infinity);
  }

  /** Sends the batch: then all before `next` is done. False: the queue has stopped at one that the host refused. */
  protected flush(next: number): boolean {
    if (this.pending > 0) {
      this.budget.left -= HOST_CALL_STEPS;
      const failed = this.send();
      if (failed >= 0) {
        this.refuse(failed, next);
        return false;
      }
      this.batchSent();
    }
    this.batched = 0;
    this.counted = 0;
    if (this.forgotten) {
      return false;
    }
    this.place(next);
    return true;
  }

  /**
   * One of the batch is not done: the queue is at its entry again, `next` being the first that is not counted. Behind
   * those whose positions are noted are what the entry at `next` itself has put there.
   */
  protected refuse(index: number, next: number): void {
    const at = index < this.batched ? this.positions[index] : next;
    this.flushes++;
    this.sent = this.batched;
    this.taken = Math.min(index, this.batched);
    this.forwarded += this.taken;
    this.batched = 0;
    for (let n = (next - at) & this.mask; n > 0; n--) {
      this.consumed[this.kinds[--this.counted]]--;
    }
    this.counted = 0;
    this.batchDone(index);
    if (!this.forgotten) {
      this.place(at);
      this.refused(at);
    }
  }

  /** The queue's registers have other values than when this drain began. */
  protected get isForgotten(): boolean {
    return this.forgotten;
  }

  /** Guest-physical address of the entry at a position. */
  protected addressOf(at: number): number {
    return this.base + (at & (this.entries - 1)) * (1 << this.shift);
  }

  /** Reads the entry at a position into `entry`. False: nothing answers there. */
  protected fetch(at: number): boolean {
    const { words, entry } = this;
    const address = this.addressOf(at);
    const count = 1 << (this.shift - 2);
    this.fetches++;
    const offset = address - words.flatBase;
    if (offset >= 0 && offset + 4 * count <= words.flatBytes) {
      const { flat } = words;
      const word = offset / 4;
      entry[0] = flat[word];
      entry[1] = flat[word + 1];
      entry[2] = flat[word + 2];
      entry[3] = flat[word + 3];
      for (let i = 4; i < count; i++) {
        entry[i] = flat[word + i];
      }
      return true;
    }
    return loadWords(words, address, PHYSICAL_BITS, entry, count);
  }
}
