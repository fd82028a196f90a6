import { MEMORY_OK, type WordMemory } from "../../memory/index.js";
import { tracePropagateEvent } from "./trace.js";
import type { SmmuInterrupts } from "./interrupts.js";
import { indexMask, type RegisterFile } from "./register-file.js";
import { EVENT_WORDS, eventName, GERROR, Q_OVERFLOW, REG } from "../spec/index.js";

/** log2 of the bytes of a record. */
const RECORD_BITS = 5;

/** The event queue in the guest's memory (Arm IHI 0070, 7.2 and 7.4). */
export class EventQueue {
  /** Records written, and lost to a full, disabled or aborting queue. */
  recorded = 0;
  lost = 0;
  /** Records written by event number. */
  readonly byNumber = new Int32Array(256);

  constructor(
    private readonly registers: RegisterFile,
    private readonly memory: WordMemory,
    private readonly interrupts: SmmuInterrupts,
  ) {}

  /** Events found no room, here or before they came here (7.4): OVFLG toggles once until it is acknowledged. */
  overflow(): void {
    const { registers } = this;
    const prod = registers.word(REG.EVENTQ_PROD_PAGE0);
    if (registers.eventQueueEnabled && ((prod ^ registers.word(REG.EVENTQ_CONS_PAGE0)) & Q_OVERFLOW.inPlace) === 0) {
      registers.set(REG.EVENTQ_PROD_PAGE0, prod ^ Q_OVERFLOW.inPlace);
    }
  }

  /** Writes a record of eight words from index `base` on, or loses it as 7.2.1 says. */
  record(words: ArrayLike<number>, base = 0): void {
    const registers = this.registers;
    // 7.2.1: not writable while disabled, or while an abort is not acknowledged; lost without a trace.
    if (!registers.eventQueueEnabled || (registers.activeErrors & GERROR.EVENTQ_ABT_ERR.inPlace) !== 0) {
      this.lost++;
      return;
    }
    const log2Size = registers.eventQueueLog2Size;
    const mask = indexMask(log2Size);
    const entries = 1 << log2Size;
    const prod = registers.word(REG.EVENTQ_PROD_PAGE0);
    const cons = registers.word(REG.EVENTQ_CONS_PAGE0);
    const used = (prod - cons) & mask;
    if (used >= entries) {
      // 3.5.1: indexes that do not fit together count as full.
      this.overflow();
      this.lost++;
      return;
    }
    if (tracePropagateEvent.on) {
      tracePropagateEvent.emit(eventName(words[base] & 0xff), words[base + 1]);
    }
    const address = registers.queueBase(REG.EVENTQ_BASE, log2Size + RECORD_BITS) + (prod & (entries - 1)) * (EVENT_WORDS * 4);
    const high = Math.floor(address / 0x1_0000_0000);
    const low = address | 0;
    for (let word = 0; word < EVENT_WORDS; word += 2) {
      if (this.memory.store64(high, low + word * 4, words[base + word + 1], words[base + word]) !== MEMORY_OK) {
        // 7.2.2, a synchronous abort: PROD stays, what was written is not visible.
        this.lost++;
        this.interrupts.activate(GERROR.EVENTQ_ABT_ERR.inPlace);
        return;
      }
    }
    registers.set(REG.EVENTQ_PROD_PAGE0, (prod & ~mask) | ((prod + 1) & mask));
    this.recorded++;
    this.byNumber[words[base] & 0xff]++;
    // 3.18.2: the interrupt is for the step from empty to not empty.
    if (used === 0) {
      this.interrupts.eventQueueNotEmpty();
    }
  }
}
