/**
 * The architecture's invalidation queue, plainly (Intel VT-d 5.10, 6.5.2 and 11.4.8), with switches for what QEMU does
 * instead: what `reference.ts` is for translation. Descriptors are four 64-bit words; narrow ones use two.
 */
import type { Offer } from "./machines.js";

export const QUEUE_QUIRKS = ["V-30", "V-31", "V-32", "V-33", "V-34", "V-35", "V-36", "V-37", "V-38", "V-39", "V-40", "V-41", "V-43"] as const;
export type QueueQuirk = (typeof QUEUE_QUIRKS)[number];

export type Descriptor = readonly [bigint, bigint, bigint, bigint];

/** Why FSTS.IQE is set (11.4.8.9). */
const [INVALID_TAIL, INVALID_TYPE, RESERVED, WIDTH, UNALIGNED, TABLE_MODE] = [1, 3, 4, 5, 6, 7];
const LARGEST_MASK = 18n;

const part = (value: bigint, top: number, bottom: number): bigint => (value >> BigInt(bottom)) & ((1n << BigInt(top - bottom + 1)) - 1n);

/** Reserved bits of the first two words (6.5.2.1 to 6.5.2.8). */
const RESERVED_BITS: Readonly<Record<number, readonly [bigint, bigint]>> = {
  1: [0xfffc_0000_0000_f1c0n, ~0n],
  2: [0xffff_ffff_0000_f100n, 0xf80n],
  3: [0x000f_0000_ffe0_01f0n, 0xffen],
  4: [0xffff_0000_07ff_f1e0n, ~0n],
  5: [0xffff_f180n, 3n],
  6: [0xfff0_0000_0000_f1c0n, 0xf80n],
  7: [0xfff0_0000_0000_f1c0n, ~0n],
  8: [0n, 0x7fen],
};

/** V-36: QEMU 7.2's. Those of type 4 are not looked at. */
const OLD_RESERVED_BITS: Readonly<Record<number, readonly [bigint, bigint]>> = {
  1: [0xfffc_0000_0000_ffc0n, ~0n],
  2: [0xffff_ffff_0000_ff00n, 0xf80n],
  3: [0xffff_0000_ffe0_fff8n, 0xffen],
  5: [0xffff_ff80n, 3n],
};

/** V-37: QEMU 11.1's, where they are others. */
const NEW_RESERVED_BITS: Readonly<Record<number, readonly [bigint, bigint]>> = {
  3: [0xffff_0000_ffe0_f1f0n, 0xffen],
  8: [0xfff0_0000_0000_f000n, 0x7fen],
};

/** What registers show of the queue. */
export interface QueueState {
  readonly head: bigint;
  readonly enabled: boolean;
  readonly error: boolean;
  readonly reason: number;
  /** ICS.IWC, IECTL.IP, FECTL.IP. */
  readonly complete: boolean;
  readonly completionPending: boolean;
  readonly faultPending: boolean;
}

export class QueueModel {
  private tail = 0n;
  private head = 0n;
  /** IQA as written, and what of it counts since QIE was set. */
  private written = { base: 0, size: 0, wide: false };
  private queue = { base: 0, size: 0, wide: false };
  private enabled = false;
  private error = false;
  private reason = 0;
  private complete = false;
  private completionPending = false;
  private faultPending = false;
  private completionMasked = true;
  private faultMasked = true;
  private mode = 0;
  /** V-33. */
  private lastWasWait = true;
  private readonly memory = new Map<number, bigint>();
  /** 32-bit status words by address. */
  readonly status = new Map<number, number>();

  constructor(
    private readonly offer: Offer,
    private readonly quirks: Pick<ReadonlySet<QueueQuirk>, "has">,
  ) {}

  get state(): QueueState {
    const { enabled, error, complete, completionPending, faultPending } = this;
    return { head: this.head, enabled, error, reason: this.reason, complete, completionPending, faultPending };
  }

  get headOffset(): bigint {
    return this.head;
  }

  store(address: number, words: readonly bigint[]): void {
    words.forEach((word, n) => this.memory.set(address + 8 * n, word));
  }

  // ---- registers ----

  setMode(mode: number): void {
    this.mode = this.offer.scalableMode ? mode : 0;
  }

  setQueue(base: number, size: number, wide: boolean): void {
    this.written = { base, size, wide };
  }

  enable(on: boolean): void {
    if (on === this.enabled) {
      return;
    }
    if (on) {
      // V-32: without scalable mode DW is nothing.
      const wide = this.written.wide && (this.offer.scalableMode || !this.quirks.has("V-32"));
      this.queue = { ...this.written, wide };
      this.enabled = true;
      this.run();
      return;
    }
    if (this.quirks.has("V-33") && !(this.head === this.tail && this.lastWasWait)) {
      return;
    }
    this.enabled = false;
    this.head = 0n;
  }

  writeTail(tail: bigint): void {
    if (this.quirks.has("V-35") && this.wideNow && (tail & 0x10n) !== 0n) {
      if (!this.quirks.has("V-43")) {
        this.fail(UNALIGNED);
      }
      return;
    }
    this.tail = tail;
    this.run();
  }

  private get wideNow(): boolean {
    return this.written.wide && this.offer.scalableMode;
  }

  acknowledgeError(): void {
    this.error = false;
    this.reason = 0;
    this.faultPending = false;
    if (!this.quirks.has("V-31")) {
      this.run();
    }
  }

  acknowledgeCompletion(): void {
    this.complete = false;
    this.completionPending = false;
  }

  maskCompletion(on: boolean): void {
    this.completionMasked = on;
    this.completionPending &&= on;
  }

  maskFault(on: boolean): void {
    this.faultMasked = on;
    this.faultPending &&= on;
  }

  // ---- the queue ----

  private fail(reason: number): void {
    if (!this.error) {
      this.error = true;
      this.faultPending = this.faultMasked;
    }
    this.reason = this.quirks.has("V-30") ? 0 : reason;
  }

  private run(): void {
    const { base, size, wide } = this.queue;
    const bytes = wide ? 32n : 16n;
    const end = 4096n << BigInt(size);
    while (this.enabled && !this.error) {
      if (wide && (this.tail & 0x10n) !== 0n) {
        this.fail(UNALIGNED);
        return;
      }
      if (this.tail >= end) {
        this.fail(INVALID_TAIL);
        return;
      }
      if (this.head === this.tail) {
        return;
      }
      const at = base + Number(this.head);
      const words = [0, 8, 16, 24].map((n) => (wide || n < 16 ? (this.memory.get(at + n) ?? 0n) : 0n));
      const reason = this.problem(words, wide);
      this.lastWasWait = typeOf(words[0], this.quirks.has("V-38")) === 5;
      if (reason !== null) {
        this.fail(reason);
        return;
      }
      const next = (this.head + bytes) % end;
      if (typeOf(words[0], this.quirks.has("V-38")) === 5) {
        this.wait(words);
      }
      this.head = next;
    }
  }

  private wait([low, high]: readonly bigint[]): void {
    if ((low & 0x20n) !== 0n) {
      this.status.set(Number(high), Number(low >> 32n));
    }
    if ((low & 0x10n) !== 0n && !this.complete) {
      this.complete = true;
      this.completionPending = this.completionMasked;
    }
  }

  /** A reason, or null for a descriptor in order. */
  private problem(words: readonly bigint[], wide: boolean): number | null {
    const { offer, quirks } = this;
    const type = typeOf(words[0], quirks.has("V-38"));
    if (quirks.has("V-39")) {
      return this.oldProblem(type, words, wide);
    }
    if (!quirks.has("V-34")) {
      if (this.mode > 1) {
        return TABLE_MODE;
      }
      if (wide !== (this.mode === 1) && (wide ? !offer.scalableMode : true)) {
        return WIDTH;
      }
    }
    if (type === 9 && quirks.has("V-40")) {
      // Only with PP, and words 2 and 3 do not count.
      return (words[0] & 0xfff0_0000_0000_01e0n) !== 0n || (words[1] & 0xffff_ffff_ffff_f003n) !== 0n || (words[0] & 0x10n) === 0n ? RESERVED : null;
    }
    const scalable = quirks.has("V-40") || offer.scalableMode;
    const offered = [false, true, true, quirks.has("V-40") || offer.deviceIotlb, true, true, scalable, scalable, quirks.has("V-40") || (scalable && offer.deviceIotlb)][type] ?? false;
    if (!offered || (!quirks.has("V-34") && this.mode === 0 && type >= 6)) {
      return INVALID_TYPE;
    }
    if (quirks.has("V-34") && !wide && type >= 6) {
      return RESERVED;
    }
    const [low, high] = (quirks.has("V-37") ? NEW_RESERVED_BITS[type] : undefined) ?? RESERVED_BITS[type];
    if ((words[0] & low) !== 0n || (words[1] & high) !== 0n || (words[2] | words[3]) !== 0n) {
      return RESERVED;
    }
    return this.granularityProblem(type, words);
  }

  private granularityProblem(type: number, [low, high]: readonly bigint[]): number | null {
    const granularity = part(low, 5, 4);
    switch (type) {
      case 1:
        return granularity === 0n ? RESERVED : null;
      case 2:
        return granularity === 0n || (granularity === 3n && part(high, 5, 0) > LARGEST_MASK) ? RESERVED : null;
      case 5: {
        const asked = this.quirks.has("V-41") ? low & 0x30n : low & 0x70n;
        return asked === 0n ? RESERVED : null;
      }
      case 6:
        return granularity < 2n ? RESERVED : null;
      case 7:
        return granularity === 2n ? RESERVED : null;
      default:
        return null;
    }
  }

  private oldProblem(type: number, words: readonly bigint[], _wide: boolean): number | null {
    if (type === 0 || type > 7) {
      return INVALID_TYPE;
    }
    const [low, high] = OLD_RESERVED_BITS[type] ?? [0n, 0n];
    if ((words[0] & low) !== 0n || (words[1] & high) !== 0n) {
      return RESERVED;
    }
    return type > 5 ? null : this.granularityProblem(type, words);
  }
}

/** `narrow`: V-38, the type's upper bits are not looked at. */
function typeOf(low: bigint, narrow: boolean): number {
  return Number(part(low, 3, 0)) | (narrow ? 0 : Number(part(low, 11, 9)) << 4);
}
