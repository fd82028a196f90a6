/** Submission and completion queues in host memory (4.1, 4.6). */
import type { NvmeHost } from "./host.js";
import { CQ_ENTRY_BYTES, SQ_ENTRY_BYTES } from "./spec.js";

/** An address of two words, the lower first. */
export type Address = readonly [low: number, high: number];

function entryAt(base: Address, offset: number): { low: number; high: number } {
  const low = (base[0] >>> 0) + offset;
  return { low: low >>> 0, high: (base[1] + Math.floor(low / 0x1_0000_0000)) | 0 };
}

export class CompletionQueue {
  head = 0;
  tail = 0;
  /** Slots that commands under way will fill. */
  reserved = 0;
  /** Queues that use it. */
  users = 0;
  private phase = 1;
  private readonly body = new Int32Array(3);
  private readonly last = new Int32Array(1);
  private readonly bodyBytes = new Uint8Array(this.body.buffer);
  private readonly lastBytes = new Uint8Array(this.last.buffer);
  private readonly fence = new Int32Array(1);

  constructor(
    readonly id: number,
    private readonly base: Address,
    /** Entries, two at least. */
    readonly size: number,
    readonly vector: number,
    readonly interrupts: boolean,
  ) {}

  get isEmpty(): boolean {
    return this.head === this.tail;
  }

  /** Entries that the host has not taken yet. */
  get waiting(): number {
    return (this.tail - this.head + this.size) % this.size;
  }

  /** Entries that may be posted beside those that are promised; one slot stays empty (4.1.2). */
  get free(): number {
    return this.size - 1 - this.waiting - this.reserved;
  }

  /** The host has taken entries up to `head`; false: that many are not there. */
  take(head: number): boolean {
    if (head >= this.size || (head - this.head + this.size) % this.size > this.waiting) {
      return false;
    }
    this.head = head;
    return true;
  }

  /** Writes an entry at the tail. The dword with the phase tag goes last, so that who polls it finds the others. False: the memory failed. */
  post(host: NvmeHost, result: number, sqHead: number, sqId: number, commandId: number, status: number): boolean {
    const { low, high } = entryAt(this.base, this.tail * CQ_ENTRY_BYTES);
    this.body[0] = result;
    this.body[1] = 0;
    this.body[2] = sqHead | (sqId << 16);
    this.last[0] = commandId | (this.phase << 16) | (status << 17);
    if (!host.writeMemory(high, low, this.bodyBytes)) {
      return false;
    }
    Atomics.add(this.fence, 0, 0);
    if (!host.writeMemory(high, low + 12, this.lastBytes)) {
      return false;
    }
    this.tail++;
    if (this.tail === this.size) {
      this.tail = 0;
      this.phase ^= 1;
    }
    return true;
  }
}

export class SubmissionQueue {
  head = 0;
  tail = 0;
  /** Commands fetched and not completed, asynchronous event requests left out. */
  outstanding = 0;
  /** Being deleted: nothing is fetched any more. What to do when nothing is outstanding. */
  onIdle: (() => void) | null = null;

  constructor(
    readonly id: number,
    private readonly base: Address,
    /** Entries, two at least. */
    readonly size: number,
    readonly cq: CompletionQueue,
  ) {
    cq.users++;
  }

  get isEmpty(): boolean {
    return this.head === this.tail;
  }

  /** The host has put entries in up to `tail`; false: the queue has not that many slots free, or no such slot. */
  submit(tail: number): boolean {
    const { size, head } = this;
    if (tail >= size || (tail - head + size) % size < (this.tail - head + size) % size) {
      return false;
    }
    this.tail = tail;
    return true;
  }

  /** The entry at the head, read once, as sixteen words; null: the memory failed. */
  fetch(host: NvmeHost): Int32Array | null {
    const { low, high } = entryAt(this.base, this.head * SQ_ENTRY_BYTES);
    const words = new Int32Array(SQ_ENTRY_BYTES / 4);
    if (!host.readMemory(high, low, new Uint8Array(words.buffer))) {
      return null;
    }
    this.head = (this.head + 1) % this.size;
    return words;
  }
}
