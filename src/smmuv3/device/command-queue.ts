import { MEMORY_OK, type WordMemory } from "../../memory/index.js";
import { type Log, toBigInt, type TraceEvent } from "../../support/index.js";
import type { SmmuBackend } from "./backend.js";
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
  traceRangeInval,
  traceTlbAll,
  traceTlbAsidVmid,
  traceTlbVmid,
  traceTlbVmidStage1,
  traceTlbiNh,
  traceTlbiNhAsid,
  traceTlbiNsnh,
  traceTlbiS12Vmid,
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

/** `flush` has failed and has put CMDQ_CONS where it belongs already. */
const PLACED = -1;

/** What the command queue works on. */
export interface CommandQueueParts {
  readonly id: string;
  readonly registers: RegisterFile;
  readonly memory: WordMemory;
  readonly interrupts: SmmuInterrupts;
  readonly log: Log;
}

/**
 * The command queue (Arm IHI 0070, chapter 4 and 7.1). A drain takes each entry of the queue once at the
 * most; commands that the host is to run are batched and go to the backend at a CMD_SYNC, before every
 * configuration command, when the batch is full, at an error and at the end. CMDQ_CONS passes a batched
 * command only when the host has done it.
 */
export class CommandQueue {
  /** Commands consumed, by opcode. */
  readonly consumed = new Int32Array(256);
  /** Commands that the host has done, and the calls that took them. */
  forwarded = 0;
  flushes = 0;
  /** Errors signalled, by CERROR_ code. */
  readonly errors = new Int32Array(4);
  /** Entries read from memory. */
  fetches = 0;
  /** A drain has ended with commands left that came while it was under way. */
  unfinished = false;

  backend: SmmuBackend | null = null;
  private translator: StreamTranslator;
  private rules: CommandRules;
  private draining = false;
  private readonly command = new Int32Array(CMD_WORDS);
  /** Queue indexes, with wrap flag, of the commands in the backend's batch. */
  private positions = new Int32Array(0);
  private batched = 0;
  /** An ATC_INV did not complete; the next CMD_SYNC says so. */
  private atcFailed = false;
  private flushError = CERROR_NONE;
  /** Of the drain under way: the queue's address in bytes, its entries, the mask of an index with its wrap flag. */
  private base = 0;
  private entries = 1;
  private mask = 1;

  constructor(
    private readonly parts: CommandQueueParts,
    translator: StreamTranslator,
  ) {
    this.translator = translator;
    this.rules = new CommandRules(parts.registers.idr);
  }

  /** The ID registers have changed. */
  identify(translator: StreamTranslator): void {
    this.translator = translator;
    this.rules = new CommandRules(this.parts.registers.idr);
  }

  reset(): void {
    this.batched = 0;
    this.atcFailed = false;
    this.unfinished = false;
  }

  /** Processes what is in the queue. A call from within (a CMD_SYNC's message may hit the SMMU's own registers) leaves it to the outer one. */
  drain(): void {
    const { registers } = this.parts;
    if (this.draining || !registers.commandQueueEnabled) {
      return;
    }
    this.draining = true;
    try {
      this.run();
    } finally {
      this.batched = 0;
      this.draining = false;
    }
  }

  private run(): void {
    const { registers } = this.parts;
    const log2Size = registers.commandQueueLog2Size;
    const mask = (this.mask = indexMask(log2Size));
    const entries = (this.entries = 1 << log2Size);
    this.base = registers.queueBase(REG.CMDQ_BASE, log2Size + COMMAND_BITS);
    const command = this.command;
    let at = registers.word(REG.CMDQ_CONS) & mask;
    let error = CERROR_NONE;
    let budget = entries;
    this.unfinished = false;

    while (registers.commandQueueEnabled) {
      const left = ((registers.word(REG.CMDQ_PROD) & mask) - at) & mask;
      if (left === 0) {
        break;
      }
      if (traceCmdqConsume.on) {
        this.tracePositions(traceCmdqConsume, at);
      }
      // 7.1: nothing is consumed while the error is active.
      if ((registers.activeErrors & GERROR.CMDQ_ERR.inPlace) !== 0) {
        break;
      }
      if (left > entries) {
        // 3.5.1: inconsistent indexes; nothing is consumed until they are mended.
        this.parts.log.guestError(
          "smmuv3.cmdq-indexes",
          () => `${this.parts.id}: CMDQ_PROD is ${left} entries ahead of CMDQ_CONS in a queue of ${entries}`,
        );
        break;
      }
      if (budget === 0) {
        this.unfinished = true;
        break;
      }
      budget--;
      if (!this.fetch(at)) {
        error = CERROR_ABT;
      } else {
        const opcode = command[0] & CMD.OPCODE.mask;
        if (traceCmdqOpcode.on) {
          traceCmdqOpcode.emit(traceCommandName(opcode));
        }
        error = this.rules.admit(command) ? this.execute(opcode, at, (at + 1) & mask) : CERROR_ILL;
        if (error === CERROR_NONE) {
          this.consumed[opcode]++;
          at = (at + 1) & mask;
          continue;
        }
      }
      break;
    }
    // What is batched is older than the command that failed: its failure comes first.
    if (error !== PLACED && this.flush(at) === PLACED) {
      error = PLACED;
    }
    if (error !== CERROR_NONE) {
      this.fail(error === PLACED ? this.flushError : error);
    }
    if (traceCmdqConsumeOut.on) {
      this.tracePositions(traceCmdqConsumeOut, registers.word(REG.CMDQ_CONS));
    }
  }

  /** Guest-physical address of the command at a queue index. */
  private addressOf(at: number): number {
    return this.base + (at & (this.entries - 1)) * (CMD_WORDS * 4);
  }

  /** Reads the command at a queue index into `command`. False: external abort. */
  private fetch(at: number): boolean {
    const memory = this.parts.memory;
    const address = this.addressOf(at);
    const command = this.command;
    this.fetches++;
    const offset = address - memory.flatBase;
    if (offset >= 0 && offset < memory.flatBytes) {
      const word = offset / 4;
      command[0] = memory.flat[word];
      command[1] = memory.flat[word + 1];
      command[2] = memory.flat[word + 2];
      command[3] = memory.flat[word + 3];
      return true;
    }
    const high = Math.floor(address / 0x1_0000_0000);
    const low = address | 0;
    if (memory.load64(high, low) !== MEMORY_OK) {
      return false;
    }
    command[0] = memory.loadedLow;
    command[1] = memory.loadedHigh;
    if (memory.load64(high, low + 8) !== MEMORY_OK) {
      return false;
    }
    command[2] = memory.loadedLow;
    command[3] = memory.loadedHigh;
    return true;
  }

  /** Runs the legal command at queue index `at`. Returns a CERROR_ code for this command, or PLACED. */
  private execute(opcode: number, at: number, next: number): number {
    const command = this.command;
    switch (opcode) {
      case OP.SYNC:
        return this.sync(at, next);
      case OP.CFGI_STE:
        return this.flush(at) === PLACED ? PLACED : this.configureOne(command[1] >>> 0);
      case OP.CFGI_STE_RANGE:
        return this.flush(at) === PLACED ? PLACED : this.configureRange(command[1] >>> 0, get(command, CMD.RANGE));
      case OP.CFGI_CD:
      case OP.CFGI_CD_ALL:
        if (traceCfgiCd.on) {
          traceCfgiCd.emit(command[1]);
        }
        dropCached(this.translator, command);
        return this.forward(at, next);
      case OP.TLBI_NH_ALL:
      case OP.TLBI_NH_ASID:
      case OP.TLBI_NH_VA:
      case OP.TLBI_NH_VAA:
      case OP.TLBI_NSNH_ALL:
        this.traceTlbi(opcode);
        dropCached(this.translator, command);
        return this.forward(at, next);
      case OP.ATC_INV:
        // 4.5.1: ignored while SMMUEN is 0.
        return this.parts.registers.translationEnabled ? this.forward(at, next) : CERROR_NONE;
      case OP.PREFETCH_CONFIG:
      case OP.PREFETCH_ADDR:
        // 4.2: a hint; nothing is fetched ahead, and nothing has to be in order with it.
        return CERROR_NONE;
      case OP.TLBI_S12_VMALL:
      case OP.TLBI_S2_IPA:
        // Stage 2 is the software's alone.
        if (this.flush(at) === PLACED) {
          return PLACED;
        }
        this.traceTlbi(opcode);
        dropCached(this.translator, command);
        return CERROR_NONE;
      default:
        return CERROR_ILL;
    }
  }

  /** CMD_SYNC (4.7.3): all before it is done when it is consumed, and it is consumed before its signal is seen (3.18). */
  private sync(at: number, next: number): number {
    if (this.flush(at) === PLACED) {
      return PLACED;
    }
    if (this.atcFailed) {
      // 7.1: at the CMD_SYNC; repeated after the acknowledgement it has nothing left to wait for.
      this.atcFailed = false;
      return CERROR_ATC_INV_SYNC;
    }
    this.placeCons(next);
    const command = this.command;
    if (get(command, CMD.SYNC_CS) === SYNC_CS_IRQ) {
      this.parts.interrupts.syncComplete(command[3], command[2] & CMD.SYNC_MSIADDRESS.lowMask, command[1]);
    }
    return CERROR_NONE;
  }

  private configureOne(sid: number): number {
    if (traceCfgiSte.on) {
      traceCfgiSte.emit(sid);
    }
    this.translator.invalidateSte(sid);
    return this.install(sid, sid);
  }

  private configureRange(sid: number, range: number): number {
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
    return this.install(first, last);
  }

  /** 4.1.7: StreamIDs beyond IDR1.SIDSIZE have no effect. */
  private install(first: number, last: number): number {
    const limit = 2 ** extract(this.parts.registers.idr[1], IDR1.SIDSIZE);
    return this.backend === null || first >= limit ? CERROR_NONE : this.backend.installEntries(first, Math.min(last, limit - 1));
  }

  /** Gives the command to the backend's batch. */
  private forward(at: number, next: number): number {
    const backend = this.backend;
    const command = this.command;
    if (backend === null || !backend.forward(command[0], command[1], command[2], command[3])) {
      return CERROR_NONE;
    }
    this.remember(at);
    if (backend.pending < backend.capacity) {
      return CERROR_NONE;
    }
    // The command itself is in the batch: it is counted as consumed by the caller, unless the flush fails.
    this.consumed[command[0] & CMD.OPCODE.mask]++;
    const result = this.flush(next);
    if (result !== PLACED) {
      this.consumed[command[0] & CMD.OPCODE.mask]--;
    }
    return result;
  }

  private remember(at: number): void {
    const n = this.batched;
    if (n >= this.positions.length) {
      const positions = new Int32Array(Math.max(64, n * 2));
      positions.set(this.positions);
      this.positions = positions;
    }
    this.positions[n] = at;
    this.batched = n + 1;
  }

  /**
   * Sends the batch. Returns CERROR_NONE with CMDQ_CONS at `next` (everything before it is done), or PLACED
   * with CMDQ_CONS at the command that failed and the code in `flushError`.
   */
  private flush(next: number): number {
    if (this.batched > 0) {
      const backend = this.backend!;
      const count = this.batched;
      this.batched = 0;
      const error = backend.flush();
      this.flushes++;
      // 4.5.1: an ATC_INV that timed out is consumed; the next CMD_SYNC tells.
      this.atcFailed ||= backend.flushTimedOut;
      if (error !== CERROR_NONE) {
        const done = Math.min(Math.max(0, backend.flushHandled), count - 1);
        this.forwarded += done;
        const failed = this.positions[done];
        this.uncount(failed, next);
        this.placeCons(failed);
        this.flushError = error;
        return PLACED;
      }
      this.forwarded += count;
    }
    this.placeCons(next);
    return CERROR_NONE;
  }

  /** Takes the commands from `failed` up to, and without, `next` out of the counts: they will be processed again. */
  private uncount(failed: number, next: number): void {
    const saved = [this.command[0], this.command[1], this.command[2], this.command[3]];
    for (let at = failed; at !== next; at = (at + 1) & this.mask) {
      if (this.fetch(at)) {
        this.consumed[this.command[0] & CMD.OPCODE.mask]--;
      }
      this.fetches--;
    }
    this.command.set(saved);
  }

  private placeCons(position: number): void {
    const { registers } = this.parts;
    registers.set(REG.CMDQ_CONS, (registers.word(REG.CMDQ_CONS) & CMDQ_CONS.ERR.inPlace) | position);
  }

  /** 7.1: the reason in CMDQ_CONS.ERR first, then the global error. */
  private fail(code: number): void {
    const { registers, log, id, interrupts } = this.parts;
    const cons = registers.word(REG.CMDQ_CONS) & ~CMDQ_CONS.ERR.inPlace;
    const fetched = this.fetch(cons);
    this.fetches--;
    const opcode = fetched ? this.command[0] & CMD.OPCODE.mask : 0;
    if (traceCmdqConsumeError.on) {
      traceCmdqConsumeError.emit(traceCommandName(opcode), code);
    }
    registers.set(REG.CMDQ_CONS, cons | (code << CMDQ_CONS.ERR.shift));
    this.errors[code & 3]++;
    log.guestError("smmuv3.command", () => {
      const what = fetched
        ? `${commandName(opcode)} (${[0, 1, 2, 3].map((n) => (this.command[n] >>> 0).toString(16).padStart(8, "0")).join(" ")})`
        : "a command that cannot be fetched";
      const name = code === CERROR_ILL ? "CERROR_ILL" : code === CERROR_ABT ? "CERROR_ABT" : "CERROR_ATC_INV_SYNC";
      return `${id}: ${name} at index ${cons & (this.entries - 1)}, address 0x${this.addressOf(cons).toString(16)}: ${what}`;
    });
    interrupts.activate(GERROR.CMDQ_ERR.inPlace);
  }

  private tracePositions(event: TraceEvent, at: number): void {
    const prod = this.parts.registers.word(REG.CMDQ_PROD);
    const wrap = (index: number): number => ((index & this.entries) !== 0 ? 1 : 0);
    event.emit(prod & (this.entries - 1), at & (this.entries - 1), wrap(prod), wrap(at));
  }

  private traceTlbi(opcode: number): void {
    const command = this.command;
    const vmid = this.rules.stage2 ? get(command, CMD.VMID) : -1;
    switch (opcode) {
      case OP.TLBI_NH_ALL:
        if (this.rules.stage2) {
          if (traceTlbiNh.on) {
            traceTlbiNh.emit(vmid);
          }
          if (traceTlbVmidStage1.on) {
            traceTlbVmidStage1.emit(vmid);
          }
        } else {
          if (traceTlbiNsnh.on) {
            traceTlbiNsnh.emit();
          }
          if (traceTlbAll.on) {
            traceTlbAll.emit();
          }
        }
        break;
      case OP.TLBI_NSNH_ALL:
        if (traceTlbiNsnh.on) {
          traceTlbiNsnh.emit();
        }
        if (traceTlbAll.on) {
          traceTlbAll.emit();
        }
        break;
      case OP.TLBI_NH_ASID:
        if (traceTlbiNhAsid.on) {
          traceTlbiNhAsid.emit(get(command, CMD.ASID));
        }
        if (traceTlbAsidVmid.on) {
          traceTlbAsidVmid.emit(get(command, CMD.ASID), vmid);
        }
        break;
      case OP.TLBI_S12_VMALL:
        if (traceTlbiS12Vmid.on) {
          traceTlbiS12Vmid.emit(vmid);
        }
        if (traceTlbVmid.on) {
          traceTlbVmid.emit(vmid);
        }
        break;
      case OP.TLBI_NH_VA:
      case OP.TLBI_NH_VAA:
      case OP.TLBI_S2_IPA:
        if (traceRangeInval.on) {
          const granule = get(command, CMD.TG);
          traceRangeInval.emit(
            vmid,
            opcode === OP.TLBI_NH_VA ? get(command, CMD.ASID) : -1,
            toBigInt(command[3], command[2] & CMD.ADDRESS.lowMask),
            granule,
            granule === 0 ? 1 : (get(command, CMD.NUM) + 1) * 2 ** get(command, CMD.SCALE),
            get(command, CMD.TTL),
            get(command, CMD.LEAF),
            opcode === OP.TLBI_S2_IPA ? 2 : 1,
          );
        }
        break;
    }
  }
}
