import type { WordMemory } from "../../memory/index.js";
import { AGAIN, Budget, NEXT, QueueDrain, type Scheduler, type StepResult, STOPPED } from "../../nesting/index.js";
import type { Log } from "../../support/index.js";
import { BATCH_REFUSED, type SmmuBackend, UNFINISHED } from "./backend.js";
import { tracePositions, traceTlbi } from "./queue-trace.js";
import {
  traceCfgiCd,
  traceCfgiSte,
  traceCfgiSteRange,
  traceCmdqConsume,
  traceCmdqConsumeError,
  traceCmdqConsumeOut,
  traceCmdqOpcode,
  traceCommandName,
  traceConfigRange,
} from "./trace.js";
import type { SmmuInterrupts } from "./interrupts.js";
import { CommandRules, dropCached, type StreamTranslator } from "../lookup/index.js";
import { indexMask, type RegisterFile } from "./register-file.js";
import {
  CERROR_ABT,
  CERROR_ATC_INV_SYNC,
  CERROR_ILL,
  CERROR_NONE,
  CFGI_RANGE_ALL,
  CMD,
  CMD_WORDS,
  CMDQ_CONS,
  commandName,
  extract,
  get,
  GERROR,
  IDR1,
  OP,
  REG,
  SYNC_CS_IRQ,
} from "../spec/index.js";

/** log2 of the bytes of a command. */
const COMMAND_BITS = 4;

/** CMD_SYNCs that may wait for one batch. */
const MOST_JOINED = 64;
/** 32-bit words kept of each: the commands of the batch before it, the position behind it, its four words. */
const JOINED_WORDS = 2 + CMD_WORDS;

/** What the command queue works on. */
export interface CommandQueueParts {
  readonly id: string;
  readonly registers: RegisterFile;
  readonly memory: WordMemory;
  readonly interrupts: SmmuInterrupts;
  readonly log: Log;
  readonly scheduler: Scheduler;
  readonly stepsAtOnce: number;
}

/**
 * The command queue (Arm IHI 0070, chapter 4 and 7.1). Commands that the host is to run are batched and go to the
 * backend before what has to come behind them, when the batch is full, at an error and at the end of a drain; at a
 * CMD_SYNC behind which nothing is published. A CMD_SYNC with more behind it, as where several processors have
 * published together, joins the batch and is done when the host has done what is before it. CMDQ_CONS passes a
 * batched command only when the host has done it.
 */
export class CommandQueue extends QueueDrain {
  /** Errors signalled, by CERROR_ code. */
  readonly errors = new Int32Array(4);
  backend: SmmuBackend | null = null;
  private translator: StreamTranslator;
  private rules: CommandRules;
  /** An ATC_INV did not complete; the next CMD_SYNC says so. */
  private atcFailed = false;
  private flushError = CERROR_NONE;
  /**
   * The command of which a part is done already, as four words and its position (-1: none). A part that the batch
   * lost, or that the guest took back by something between, is not done: then the command begins anew.
   */
  private readonly begun = new Int32Array(CMD_WORDS);
  private begunAt = -1;
  /** CMD_SYNCs that wait for the batch. */
  private readonly joined = new Int32Array(MOST_JOINED * JOINED_WORDS);
  private joinedCount = 0;
  /** The batch may have an ATC_INV, whose time-out the very next CMD_SYNC has to tell (7.1). */
  private mayTimeOut = false;

  constructor(
    private readonly parts: CommandQueueParts,
    translator: StreamTranslator,
  ) {
    super(parts.memory, parts.scheduler, new Budget(parts.stepsAtOnce));
    this.translator = translator;
    this.rules = new CommandRules(parts.registers.idr);
  }

  /** The ID registers have changed. */
  identify(translator: StreamTranslator): void {
    this.translator = translator;
    this.rules = new CommandRules(this.parts.registers.idr);
  }

  reset(): void {
    this.forget();
    this.atcFailed = false;
    this.begunAt = -1;
    this.joinedCount = 0;
  }

  /** CR0.CMDQEN has changed: the guest may set the queue's registers, and what they name is another queue. */
  enableChanged(): void {
    this.begunAt = -1;
  }

  protected get pending(): number {
    return this.backend === null ? 0 : this.backend.pending;
  }

  protected get capacity(): number {
    return this.backend === null ? 1 : this.backend.capacity;
  }

  protected get ready(): boolean {
    return this.parts.registers.commandQueueEnabled;
  }

  protected begin(): number {
    const { registers } = this.parts;
    const log2Size = registers.commandQueueLog2Size;
    // None is left of the drain before, unless it broke.
    this.joinedCount = 0;
    this.mask = indexMask(log2Size);
    this.entries = 1 << log2Size;
    this.base = registers.queueBase(REG.CMDQ_BASE, log2Size + COMMAND_BITS);
    return registers.word(REG.CMDQ_CONS) & this.mask;
  }

  protected waits(at: number): boolean {
    const { registers } = this.parts;
    const left = ((registers.word(REG.CMDQ_PROD) & this.mask) - at) & this.mask;
    if (left === 0 || !registers.commandQueueEnabled) {
      return false;
    }
    if (traceCmdqConsume.on) {
      tracePositions(traceCmdqConsume, registers.word(REG.CMDQ_PROD), at, this.entries);
    }
    // 7.1: nothing is consumed while the error is active.
    if ((registers.activeErrors & GERROR.CMDQ_ERR.inPlace) !== 0) {
      return false;
    }
    if (left > this.entries) {
      // 3.5.1: inconsistent indexes; nothing is consumed until they are mended.
      this.parts.log.guestError(
        "smmuv3.cmdq-indexes",
        () => `${this.parts.id}: CMDQ_PROD is ${left} entries ahead of CMDQ_CONS in a queue of ${this.entries}`,
      );
      return false;
    }
    return true;
  }

  protected step(at: number, next: number): StepResult {
    if (!this.fetch(at)) {
      return this.failBehindBatch(CERROR_ABT, at);
    }
    const command = this.entry;
    if (this.begunAt >= 0 && !(this.begunAt === at && this.begun.every((word, index) => word === command[index]))) {
      this.begunAt = -1;
    }
    const opcode = (this.kind = command[0] & CMD.OPCODE.mask);
    if (traceCmdqOpcode.on) {
      traceCmdqOpcode.emitFrom(this.parts.id, traceCommandName(opcode));
    }
    if (!this.rules.admit(command)) {
      return this.failBehindBatch(CERROR_ILL, at);
    }
    return this.execute(opcode, at, next);
  }

  /** Does the legal command at queue index `at`. */
  private execute(opcode: number, at: number, next: number): StepResult {
    const command = this.entry;
    switch (opcode) {
      case OP.SYNC:
        return this.sync(at, next);
      case OP.CFGI_STE:
        return this.configureOne(command[1] >>> 0, at);
      case OP.CFGI_STE_RANGE:
        return this.configureRange(command[1] >>> 0, get(command, CMD.RANGE), at);
      case OP.CFGI_CD:
      case OP.CFGI_CD_ALL:
        if (traceCfgiCd.on) {
          traceCfgiCd.emit(command[1]);
        }
        dropCached(this.translator, command);
        return this.forward();
      case OP.TLBI_NH_ALL:
      case OP.TLBI_NH_ASID:
      case OP.TLBI_NH_VA:
      case OP.TLBI_NH_VAA:
      case OP.TLBI_NSNH_ALL:
        traceTlbi(command, this.rules.stage2);
        dropCached(this.translator, command);
        return this.forward();
      case OP.ATC_INV:
        // 4.5.1: ignored while SMMUEN is 0.
        if (!this.parts.registers.translationEnabled) {
          return NEXT;
        }
        this.mayTimeOut = true;
        return this.forward();
      case OP.PREFETCH_CONFIG:
      case OP.PREFETCH_ADDR:
        // 4.2: a hint; nothing is fetched ahead, and nothing has to be in order with it.
        return NEXT;
      case OP.TLBI_S12_VMALL:
      case OP.TLBI_S2_IPA:
        // Stage 2 is the software's alone.
        if (!this.flush(at)) {
          return STOPPED;
        }
        traceTlbi(command, this.rules.stage2);
        dropCached(this.translator, command);
        return NEXT;
      default:
        return this.failBehindBatch(CERROR_ILL, at);
    }
  }

  /** CMD_SYNC (4.7.3): all before it is done when it is consumed, and it is consumed before its signal is seen (3.18). */
  private sync(at: number, next: number): StepResult {
    if (this.joins(next)) {
      const place = this.joinedCount++ * JOINED_WORDS;
      this.joined[place] = this.pending;
      this.joined[place + 1] = next;
      this.joined.set(this.entry.subarray(0, CMD_WORDS), place + 2);
      return NEXT;
    }
    if (!this.flush(at)) {
      return STOPPED;
    }
    if (this.atcFailed) {
      // 7.1: at the CMD_SYNC; repeated after the acknowledgement it has nothing left to wait for.
      this.atcFailed = false;
      return this.fail(CERROR_ATC_INV_SYNC);
    }
    // The flush has fetched nothing, so that the entry is still this one.
    this.syncDone(next, this.entry, 0);
    return NEXT;
  }

  /** A CMD_SYNC waits for the batch with what is published behind it: one call to the host does for all of them. */
  private joins(next: number): boolean {
    return (
      this.pending > 0 &&
      !this.mayTimeOut &&
      !this.atcFailed &&
      this.joinedCount < MOST_JOINED &&
      (this.parts.registers.word(REG.CMDQ_PROD) & this.mask) !== next
    );
  }

  /** The CMD_SYNC whose four words are at `at` of `words` is done. */
  private syncDone(next: number, words: Int32Array, at: number): void {
    this.place(next);
    if (get(words, CMD.SYNC_CS, at) === SYNC_CS_IRQ) {
      this.parts.interrupts.syncComplete(words[at + 3], words[at + 2] & CMD.SYNC_MSIADDRESS.lowMask, words[at + 1]);
    }
  }

  /** Those that waited for what is done are done in their order; the others are looked at again when the queue goes on. */
  protected override batchDone(count: number): void {
    const waiting = this.joinedCount;
    this.joinedCount = 0;
    this.mayTimeOut = false;
    for (let n = 0; n < waiting && !this.isForgotten; n++) {
      const place = n * JOINED_WORDS;
      if (this.joined[place] > count) {
        break;
      }
      this.syncDone(this.joined[place + 1], this.joined, place + 2);
    }
  }

  private configureOne(sid: number, at: number): StepResult {
    if (traceCfgiSte.on) {
      traceCfgiSte.emit(sid);
    }
    this.translator.invalidateSte(sid);
    return this.install(sid, sid, at);
  }

  private configureRange(sid: number, range: number, at: number): StepResult {
    // 4.3.2: the low RANGE + 1 bits of the StreamID are ignored; with 31 all of it.
    const span = 2 ** (range + 1);
    const first = range === CFGI_RANGE_ALL ? 0 : sid - (sid % span);
    const last = first + span - 1;
    if (traceCfgiSteRange.on) {
      traceCfgiSteRange.emit(first, last);
    }
    if (traceConfigRange.on) {
      traceConfigRange.emit(first, last);
    }
    this.translator.invalidateSteRange(sid, range);
    return this.install(first, last, at);
  }

  /** 4.1.7: StreamIDs beyond IDR1.SIDSIZE have no effect. */
  private install(first: number, last: number, at: number): StepResult {
    const limit = 2 ** extract(this.parts.registers.idr[1], IDR1.SIDSIZE);
    const { backend, entry } = this;
    if (backend === null || first >= limit) {
      return NEXT;
    }
    const goOn = this.begunAt >= 0;
    this.begunAt = -1;
    const sent = backend.flushes;
    const before = this.pending;
    const result = backend.installEntries(first, Math.min(last, limit - 1), goOn);
    this.atcFailed ||= backend.flushTimedOut;
    if (result === BATCH_REFUSED) {
      if (backend.flushes > sent + 1) {
        // One before it went well: all that is older than this command is done.
        this.batchSent();
      }
      this.flushError = CERROR_ILL;
      this.refuse(backend.flushHandled, at);
      return STOPPED;
    }
    if (backend.flushes !== sent) {
      this.batchSent();
    }
    // What the entries ask for may have ATC_INVs.
    this.mayTimeOut ||= this.pending > (backend.flushes === sent ? before : 0);
    switch (result) {
      case CERROR_NONE:
        return NEXT;
      case UNFINISHED:
        this.begun.set(entry.subarray(0, CMD_WORDS));
        this.begunAt = at;
        return AGAIN;
      default:
        return this.failBehindBatch(result, at);
    }
  }

  /** Gives the command to the backend's batch. */
  private forward(): StepResult {
    const command = this.entry;
    this.backend?.forward(command[0], command[1], command[2], command[3]);
    return NEXT;
  }

  protected send(): number {
    const backend = this.backend!;
    this.flushError = backend.flush();
    // 4.5.1: an ATC_INV that timed out is consumed; the next CMD_SYNC tells.
    this.atcFailed ||= backend.flushTimedOut;
    return this.flushError === CERROR_NONE ? -1 : backend.flushHandled;
  }

  protected refused(): void {
    this.fail(this.flushError);
  }

  protected place(position: number): void {
    const { registers } = this.parts;
    registers.set(REG.CMDQ_CONS, (registers.word(REG.CMDQ_CONS) & CMDQ_CONS.ERR.inPlace) | position);
  }

  protected ended(at: number): void {
    if (traceCmdqConsumeOut.on) {
      tracePositions(traceCmdqConsumeOut, this.parts.registers.word(REG.CMDQ_PROD), at, this.entries);
    }
  }

  /** What is batched is older than the command that failed: its failure comes first. */
  private failBehindBatch(code: number, at: number): StepResult {
    return this.flush(at) ? this.fail(code) : STOPPED;
  }

  /** 7.1: the reason in CMDQ_CONS.ERR first, then the global error. */
  private fail(code: number): StepResult {
    const { registers, log, id, interrupts } = this.parts;
    const cons = registers.word(REG.CMDQ_CONS) & ~CMDQ_CONS.ERR.inPlace;
    this.begunAt = -1;
    const fetched = this.fetch(cons);
    this.fetches--;
    const opcode = fetched ? this.entry[0] & CMD.OPCODE.mask : 0;
    if (traceCmdqConsumeError.on) {
      traceCmdqConsumeError.emitFrom(id, traceCommandName(opcode), code);
    }
    registers.set(REG.CMDQ_CONS, cons | (code << CMDQ_CONS.ERR.shift));
    this.errors[code & 3]++;
    log.guestError("smmuv3.command", () => {
      const what = fetched
        ? `${commandName(opcode)} (${[0, 1, 2, 3].map((n) => (this.entry[n] >>> 0).toString(16).padStart(8, "0")).join(" ")})`
        : "a command that cannot be fetched";
      const name = code === CERROR_ILL ? "CERROR_ILL" : code === CERROR_ABT ? "CERROR_ABT" : "CERROR_ATC_INV_SYNC";
      return `${id}: ${name} at index ${cons & (this.entries - 1)}, address 0x${this.addressOf(cons).toString(16)}: ${what}`;
    });
    interrupts.activate(GERROR.CMDQ_ERR.inPlace);
    this.ended(cons);
    return STOPPED;
  }
}
