import { AIDR_VALUE, CORESIGHT_IDS, QUEUE_LOG2_LIMIT } from "./id-registers.js";
import {
  GBPA_STORED,
  GUARD_CMDQEN,
  GUARD_CR1,
  GUARD_EVENTQ_IRQEN,
  GUARD_EVENTQEN,
  GUARD_GERROR_IRQEN,
  GUARD_NONE,
  GUARD_READ_ONLY,
  GUARD_SMMUEN,
  registerRules,
} from "./register-rules.js";
import { CR0, extract, GBPA, IDR1, IRQ_CTRL, Q_BASE, Q_OVERFLOW, REG } from "../spec/index.js";

/** GBPA after reset: SHCFG "use incoming", ABORT 0, as QEMU's model (6.3.14: IMPLEMENTATION DEFINED). */
export const GBPA_RESET = 0x1000;

/** Page 0's registers below 0x100, one signed 32-bit word each. */
const FILE_WORDS = 64;

const index = (offset: number): number => offset >> 2;

/** Mask of a queue index with its wrap flag, for 2^log2Size entries (Arm IHI 0070, 3.5.1). */
export function indexMask(log2Size: number): number {
  return (2 << log2Size) - 1;
}

/**
 * The registers of both pages: what is stored, which writes count, what reads. What a write sets off is
 * the device's. Page 1 is an alias of page 0, one of the two behaviours that Arm IHI 0070, 6.2 allows, so
 * EVENTQ_PROD and EVENTQ_CONS are at 0xa8 and 0xac on both.
 */
export class RegisterFile {
  /** Values as read, by offset / 4. */
  readonly words = new Int32Array(FILE_WORDS);
  /** IDR0 to IDR5: a view of `words`. */
  readonly idr = this.words.subarray(0, 6);
  /** Page 0 as it reads, for who looks without asking; null: nobody does. */
  private shown: Int32Array | null = null;
  private readonly masks = new Int32Array(FILE_WORDS);
  private readonly guards = new Uint8Array(FILE_WORDS);

  constructor(idr: ArrayLike<number>) {
    this.identify(idr);
  }

  /** Takes other ID registers and resets. */
  identify(idr: ArrayLike<number>): void {
    this.idr.set(idr);
    this.masks.fill(0);
    this.guards.fill(GUARD_READ_ONLY);
    for (const rule of registerRules(idr)) {
      this.masks[index(rule.offset)] = rule.mask;
      this.guards[index(rule.offset)] = rule.guard;
    }
    this.reset();
  }

  /** Reset values: QEMU's where the architecture leaves them open. */
  reset(): void {
    this.words.fill(0, this.idr.length);
    this.words[index(REG.AIDR)] = AIDR_VALUE;
    this.words[index(REG.GBPA)] = GBPA_RESET;
    this.words[index(REG.CMDQ_BASE)] = QUEUE_LOG2_LIMIT;
    this.words[index(REG.EVENTQ_BASE)] = QUEUE_LOG2_LIMIT;
    this.show(this.shown);
  }

  /**
   * Keeps a page of 64 KiB what reads of page 0 give, for processors that read it as memory; null: no longer.
   * A word is stored after all that was written to memory before it: an index follows the entries that it is of.
   */
  show(page: Int32Array | null): void {
    this.shown = page;
    if (page !== null) {
      for (let offset = 0; offset < 0x1000; offset += 4) {
        Atomics.store(page, index(offset), this.read(offset));
      }
    }
  }

  /** Another value reads at an offset. */
  private shows(offset: number): void {
    if (this.shown !== null) {
      Atomics.store(this.shown, index(offset), this.read(offset));
      if (offset === REG.CMDQ_BASE) {
        this.shows(REG.CMDQ_CONS);
      } else if (offset === REG.EVENTQ_BASE) {
        this.shows(REG.EVENTQ_PROD_PAGE0);
      }
    }
  }

  /** The stored word at an offset below 0x100 (a multiple of 4). */
  word(offset: number): number {
    return this.words[index(offset)];
  }

  set(offset: number, value: number): void {
    this.words[index(offset)] = value;
    this.shows(offset);
  }

  /** What a 32-bit read of page 0 gives: signed word; `offset` is a multiple of 4. */
  read(offset: number): number {
    if (offset >= REG.IDREGS && offset < 0x1000) {
      return CORESIGHT_IDS[(offset - REG.IDREGS) >> 2];
    }
    switch (offset) {
      // Index bits above the wrap flag are RAZ in what the SMMU writes itself (6.3.28, 6.3.30).
      case REG.CMDQ_CONS:
        return this.word(offset) & (0x7f00_0000 | indexMask(this.commandQueueLog2Size));
      case REG.EVENTQ_PROD_PAGE0:
        return this.word(offset) & (Q_OVERFLOW.inPlace | indexMask(this.eventQueueLog2Size));
      default:
        return offset < FILE_WORDS * 4 ? this.words[index(offset)] : 0;
    }
  }

  /**
   * Stores a 32-bit write to page 0 as far as it counts.
   * Returns whether it did; GERRORN and GBPA have their own rules (`acknowledge`, `updateBypass`).
   */
  write(offset: number, value: number): boolean {
    if (offset >= FILE_WORDS * 4) {
      return false;
    }
    const at = index(offset);
    const guard = this.guards[at];
    if (guard === GUARD_CR1) {
      const open =
        ((this.cr0 & CR0.SMMUEN.inPlace) === 0 ? 0xfc0 : 0) |
        ((this.cr0 & (CR0.CMDQEN.inPlace | CR0.EVENTQEN.inPlace)) === 0 ? 0x3f : 0);
      this.set(offset, (this.words[at] & ~open) | (value & open));
      return open !== 0;
    }
    if (!this.open(guard)) {
      return false;
    }
    this.set(offset, value & this.masks[at]);
    return true;
  }

  private open(guard: number): boolean {
    switch (guard) {
      case GUARD_NONE:
        return true;
      case GUARD_SMMUEN:
        return (this.cr0 & CR0.SMMUEN.inPlace) === 0;
      case GUARD_CMDQEN:
        return (this.cr0 & CR0.CMDQEN.inPlace) === 0;
      case GUARD_EVENTQEN:
        return (this.cr0 & CR0.EVENTQEN.inPlace) === 0;
      case GUARD_GERROR_IRQEN:
        return (this.irqControl & IRQ_CTRL.GERROR_IRQEN.inPlace) === 0;
      case GUARD_EVENTQ_IRQEN:
        return (this.irqControl & IRQ_CTRL.EVENTQ_IRQEN.inPlace) === 0;
      default:
        return false;
    }
  }

  /**
   * A write to GERRORN: software toggles the bits of errors that are active. Toggling an inactive one is
   * CONSTRAINED UNPREDICTABLE (6.3.20); here such a bit keeps its value, so no error is made up.
   * Returns the errors acknowledged.
   */
  acknowledge(value: number): number {
    const active = this.activeErrors;
    const acknowledged = active & (value ^ this.word(REG.GERRORN));
    this.set(REG.GERRORN, this.word(REG.GERRORN) ^ acknowledged);
    return acknowledged;
  }

  /** Bits in which GERROR and GERRORN differ. */
  get activeErrors(): number {
    return this.word(REG.GERROR) ^ this.word(REG.GERRORN);
  }

  /**
   * A write to GBPA: without UPDATE it is ignored (6.3.14.1, the only behaviour from SMMUv3.2 on).
   * Returns whether the value has changed.
   */
  updateBypass(value: number): boolean {
    if ((value & GBPA.UPDATE.inPlace) === 0) {
      return false;
    }
    const before = this.word(REG.GBPA);
    this.set(REG.GBPA, value & GBPA_STORED);
    return before !== this.word(REG.GBPA);
  }

  get cr0(): number {
    return this.words[index(REG.CR0)];
  }

  get irqControl(): number {
    return this.words[index(REG.IRQ_CTRL)];
  }

  get translationEnabled(): boolean {
    return (this.cr0 & CR0.SMMUEN.inPlace) !== 0;
  }

  get eventQueueEnabled(): boolean {
    return (this.cr0 & CR0.EVENTQEN.inPlace) !== 0;
  }

  get commandQueueEnabled(): boolean {
    return (this.cr0 & CR0.CMDQEN.inPlace) !== 0;
  }

  /** log2 of the command queue's entries: CMDQ_BASE.LOG2SIZE, capped at IDR1.CMDQS (6.3.26). */
  get commandQueueLog2Size(): number {
    return Math.min(extract(this.word(REG.CMDQ_BASE), Q_BASE.LOG2SIZE), extract(this.idr[1], IDR1.CMDQS));
  }

  /** log2 of the event queue's entries, capped at IDR1.EVENTQS (6.3.29). */
  get eventQueueLog2Size(): number {
    return Math.min(extract(this.word(REG.EVENTQ_BASE), Q_BASE.LOG2SIZE), extract(this.idr[1], IDR1.EVENTQS));
  }

  /**
   * A queue's base address in bytes: bits below the queue's size, or below 32 bytes where it is smaller,
   * are taken as zero (6.3.26, 6.3.29).
   * @param offset REG.CMDQ_BASE or REG.EVENTQ_BASE
   * @param sizeBits log2 of the queue's bytes
   */
  queueBase(offset: number, sizeBits: number): number {
    const low = this.word(offset) & Q_BASE.ADDR.lowMask;
    const address = (this.word(offset + 4) & Q_BASE.ADDR.highMask) * 0x1_0000_0000 + (low >>> 0);
    return address - (address % 2 ** Math.max(5, sizeBits));
  }
}
