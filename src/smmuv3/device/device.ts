import type { AddressSpace, DmaSpace, MmioHandler, WordMemory } from "../../memory/index.js";
import { type Budget, onEventLoop, readUntilStable, type Scheduler, STEPS_AT_ONCE } from "../../nesting/index.js";
import { FunctionMap, type PciBus } from "../../pci/index.js";
import { countsByName, highWord, type Log, lowWord, toBigInt } from "../../support/index.js";
import type { AcceleratedFeatures, SmmuBackend, SmmuForBackend } from "./backend.js";
import { CommandQueue } from "./command-queue.js";
import { traceReadMmio, traceResetExit, traceStore, traceWriteGerrorn, traceWriteMmio } from "./trace.js";
import { EventQueue } from "./event-queue.js";
import { idRegisters, type SmmuProperties } from "./id-registers.js";
import { SmmuInterrupts, type MsiWriter, type SmmuInterruptLines } from "./interrupts.js";
import { featuresOf, StreamTranslator, type UnitCachesOptions } from "../lookup/index.js";
import { RegisterFile } from "./register-file.js";
import { WIDE_REGISTERS } from "./register-rules.js";
import { SoftwareSpace } from "./software-path.js";
import {
  commandName,
  CR0,
  CR2,
  eventName,
  extract,
  GBPA,
  getAddress,
  IDR1,
  OP,
  REG,
  REGISTER_BYTES,
  STE_WORDS,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
} from "../spec/index.js";

/** What an SMMUv3 is made of; addresses are guest-physical. */
export interface SmmuV3Options {
  /** The user's id. */
  readonly id: string;
  readonly properties: SmmuProperties;
  /** System memory: where translated DMA goes. */
  readonly memory: AddressSpace;
  /** The RAM of the same address space, for queues, configuration and tables. */
  readonly words: WordMemory;
  readonly lines: SmmuInterruptLines;
  /** Sends the SMMU's own messages; needed with `properties.msi` only. */
  readonly writeMsi?: MsiWriter;
  readonly log: Log;
  readonly translator?: UnitCachesOptions;
  /** Runs what is left of bounded work; default: on the event loop. */
  readonly scheduler?: Scheduler;
  /** Steps of bounded work done at once (`src/support/budget.ts`). */
  readonly stepsAtOnce?: number;
}

/** What an SMMU did, for the account. */
export interface SmmuCounters {
  /** Commands consumed: all, and by the architecture's name. */
  readonly commands: number;
  readonly commandsByName: Readonly<Record<string, number>>;
  readonly syncs: number;
  /** Commands that the host has done, and batches sent to it. */
  readonly forwarded: number;
  readonly flushes: number;
  /** Command queue errors signalled. */
  readonly commandErrors: number;
  /** Event records written, by name too, and lost. */
  readonly events: number;
  readonly eventsByName: Readonly<Record<string, number>>;
  readonly eventsLost: number;
  readonly interrupts: { readonly eventq: number; readonly cmdqSync: number; readonly gerror: number };
}

/**
 * An SMMUv3: registers, queues, interrupts, and the software translation for emulated functions. What
 * passed-through functions need is asked of `backend`, in the guest's order.
 */
export class SmmuV3 implements MmioHandler, SmmuForBackend {
  /** Bytes of the register region: two pages of 64 KiB. */
  static readonly regionBytes = REGISTER_BYTES;

  readonly id: string;
  readonly registers: RegisterFile;
  readonly interrupts: SmmuInterrupts;
  readonly events: EventQueue;
  readonly commands: CommandQueue;
  /** The translation of emulated functions; made anew when the features change. */
  translator: StreamTranslator;
  private propertiesNow: SmmuProperties;
  private frozen = false;
  private readonly spaces = new FunctionMap((bus, devfn) => new SoftwareSpace(`smmuv3-iommu-memory-region-${devfn}-${bus.id}`, this));
  private readonly scratch = new Int32Array(STE_WORDS);
  private readonly baseWords = new Int32Array(2);

  constructor(private readonly options: SmmuV3Options) {
    this.id = options.id;
    this.propertiesNow = options.properties;
    this.registers = new RegisterFile(idRegisters(options.properties));
    this.interrupts = new SmmuInterrupts(this.registers, options.lines, options.writeMsi ?? (() => false));
    this.events = new EventQueue(this.registers, options.words, this.interrupts);
    this.translator = this.makeTranslator();
    this.commands = new CommandQueue(
      {
        id: options.id,
        registers: this.registers,
        memory: options.words,
        interrupts: this.interrupts,
        log: options.log,
        scheduler: options.scheduler ?? onEventLoop,
        stepsAtOnce: options.stepsAtOnce ?? STEPS_AT_ONCE,
      },
      this.translator,
    );
    this.programTranslator();
  }

  /** Who serves the passed-through functions; null: nobody. */
  get backend(): SmmuBackend | null {
    return this.commands.backend;
  }

  set backend(backend: SmmuBackend | null) {
    this.commands.backend = backend;
  }

  /** The properties as the ID registers show them now. */
  get properties(): SmmuProperties {
    return this.propertiesNow;
  }

  get log(): Log {
    return this.options.log;
  }

  /** System memory behind the SMMU. */
  get memory(): AddressSpace {
    return this.options.memory;
  }

  // ---- what the backend asks ----

  get budget(): Budget {
    return this.commands.budget;
  }

  get translationEnabled(): boolean {
    return this.registers.translationEnabled;
  }

  get globalBypassAborts(): boolean {
    return extract(this.registers.word(REG.GBPA), GBPA.ABORT) !== 0;
  }

  get eventQueueEnabled(): boolean {
    return this.registers.eventQueueEnabled;
  }

  get eventQueueLog2Size(): number {
    return this.registers.eventQueueLog2Size;
  }

  get idr(): Int32Array {
    return this.registers.idr;
  }

  get streamIdLimit(): number {
    return 2 ** extract(this.registers.idr[1], IDR1.SIDSIZE);
  }

  fetchStreamTableEntry(streamId: number, out: Int32Array): number {
    const { table } = this.translator;
    return readUntilStable((words) => table.fetch(streamId, words), out, this.scratch);
  }

  recordEvent(record: Int32Array): void {
    this.events.record(record);
  }

  recordLostEvents(): void {
    this.events.overflow();
  }

  /** Sets what the ID registers offer, and resets. Throws Error once the machine runs (`freeze`). */
  applyFeatures(features: AcceleratedFeatures): void {
    if (this.frozen) {
      throw new Error(`${this.id}: the ID registers are frozen`);
    }
    this.propertiesNow = {
      ...this.propertiesNow,
      ril: features.ril,
      ats: features.ats,
      oas: features.oasBits,
      ssidsize: features.ssidBits,
      cd2l: features.cd2l,
    };
    this.registers.identify(idRegisters(this.propertiesNow));
    this.translator = this.makeTranslator();
    this.commands.identify(this.translator);
    this.programTranslator();
  }

  /** The machine starts: ID registers hold constant values from now on (6.2). */
  freeze(): void {
    this.frozen = true;
  }

  // ---- registers ----

  read(offset: number, size: number): bigint {
    const at = this.placeOf(offset, size, "read");
    let value = 0n;
    if (at >= 0) {
      if (at === REG.CMDQ_CONS && this.commands.unfinished) {
        // There was more than is done at once: a guest that polls gets it done.
        this.commands.drain();
      }
      value = toBigInt(size === 8 ? this.registers.read(at + 4) : 0, this.registers.read(at));
    }
    if (traceReadMmio.on) {
      traceReadMmio.emit(at < 0 ? offset : at, value, size, 0);
    }
    return value;
  }

  write(offset: number, size: number, value: bigint): void {
    if (traceStore.on) {
      traceStore.emit(this.id, offset, value, size);
    }
    const at = this.placeOf(offset, size, "write");
    if (at >= 0) {
      const stored = this.writeWord(at, lowWord(value)) && (size === 4 || this.writeWord(at + 4, highWord(value)));
      if (!stored) {
        this.log.guestError(
          "smmuv3.ignored-write",
          () => `${this.id}: ${size} byte write of 0x${value.toString(16)} to 0x${offset.toString(16)} is ignored: read-only, guarded by an enable, or not there`,
        );
      }
      this.written(at);
    }
    if (traceWriteMmio.on) {
      traceWriteMmio.emit(at < 0 ? offset : at, value, size, 0);
    }
  }

  /** The offset in page 0 of an access that can be served; -1: RAZ/WI (6.2: illegal accesses). */
  private placeOf(offset: number, size: number, what: string): number {
    const at = offset & 0xffff;
    const served =
      offset >= 0 && offset < REGISTER_BYTES && ((size === 4 && (at & 3) === 0) || (size === 8 && WIDE_REGISTERS.has(at)));
    if (!served) {
      this.log.guestError("smmuv3.access", () => `${this.id}: ${size} byte ${what} at 0x${offset.toString(16)} is RAZ/WI`);
      return -1;
    }
    return at;
  }

  /** Stores a word as its register's rule says. False where the write is ignored. */
  private writeWord(offset: number, value: number): boolean {
    const { registers } = this;
    switch (offset) {
      case REG.CR0:
        return this.writeCr0(value);
      case REG.GBPA:
        if (registers.updateBypass(value)) {
          this.programTranslator();
          if (!this.translationEnabled) {
            this.backend?.translationChanged();
          }
        }
        return (value & GBPA.UPDATE.inPlace) !== 0;
      case REG.IRQ_CTRL:
        registers.write(offset, value);
        registers.set(REG.IRQ_CTRLACK, registers.irqControl);
        return true;
      case REG.GERRORN: {
        const toggled = value ^ registers.word(REG.GERRORN);
        const acknowledged = registers.acknowledge(value);
        if (traceWriteGerrorn.on) {
          traceWriteGerrorn.emit(acknowledged, registers.word(REG.GERRORN));
        }
        return toggled === acknowledged;
      }
      case REG.EVENTQ_BASE:
      case REG.EVENTQ_BASE + 4: {
        const before = registers.word(offset);
        const stored = registers.write(offset, value);
        if (registers.word(offset) !== before) {
          this.backend?.eventQueueChanged();
        }
        return stored;
      }
      default:
        return registers.write(offset, value);
    }
  }

  /** CR0 and its effects; every update is complete when the write returns (6.3.9). */
  private writeCr0(value: number): boolean {
    const { registers } = this;
    const before = registers.cr0;
    registers.write(REG.CR0, value);
    registers.set(REG.CR0ACK, registers.cr0);
    const changed = before ^ registers.cr0;
    this.programTranslator();
    if ((changed & CR0.CMDQEN.inPlace) !== 0) {
      this.commands.enableChanged();
    }
    if ((changed & CR0.SMMUEN.inPlace) !== 0) {
      this.backend?.translationChanged();
    }
    if ((changed & CR0.EVENTQEN.inPlace) !== 0) {
      this.backend?.eventQueueChanged();
    }
    return true;
  }

  /** What follows a write to a register. */
  private written(offset: number): void {
    switch (offset) {
      case REG.CR0:
      case REG.CMDQ_PROD:
      case REG.GERRORN:
        // 7.1: an acknowledged error lets the queue go on, too.
        this.commands.drain();
        break;
      case REG.CR2:
      case REG.STRTAB_BASE:
      case REG.STRTAB_BASE + 4:
      case REG.STRTAB_BASE_CFG:
        this.programTranslator();
        break;
    }
  }

  /** Reset: registers and caches as at the start, then the backend. */
  reset(): void {
    this.registers.reset();
    this.commands.reset();
    this.translator.reset();
    this.programTranslator();
    this.backend?.reset();
    if (traceResetExit.on) {
      traceResetExit.emitFrom(this.id);
    }
  }

  /** The machine is gone: nothing is done later. */
  dispose(): void {
    this.commands.dispose();
  }

  // ---- software translation ----

  /** The address space of the emulated function, or bridge, at (bus, devfn): always the same one. */
  softwareSpace(bus: PciBus, devfn: number): DmaSpace {
    return this.spaces.at(bus, devfn);
  }

  counters(): SmmuCounters {
    const { commands, events } = this;
    return {
      commands: commands.consumed.reduce((sum, count) => sum + count, 0),
      commandsByName: countsByName(commands.consumed, commandName),
      syncs: commands.consumed[OP.SYNC],
      forwarded: commands.forwarded,
      flushes: commands.flushes,
      commandErrors: commands.errors.reduce((sum, count) => sum + count, 0),
      events: events.recorded,
      eventsByName: countsByName(events.byNumber, eventName),
      eventsLost: events.lost,
      interrupts: { ...this.interrupts.counts },
    };
  }

  private makeTranslator(): StreamTranslator {
    return new StreamTranslator(this.options.words, featuresOf(this.registers.idr), this.options.translator);
  }

  /** Tells the translator what the registers say. Caches stay: a change of SMMUEN need not invalidate (6.3.9.6). */
  private programTranslator(): void {
    const { registers, translator } = this;
    const cr0 = registers.cr0;
    const cr2 = registers.word(REG.CR2);
    const config = registers.word(REG.STRTAB_BASE_CFG);
    translator.enabled = extract(cr0, CR0.SMMUEN) !== 0;
    translator.atsCheck = extract(cr0, CR0.ATSCHK) !== 0;
    translator.recordInvalidSid = extract(cr2, CR2.RECINVSID) !== 0;
    translator.recordAtsErrors = extract(cr2, CR2.REC_CFG_ATS) !== 0;
    translator.globalAbort = this.globalBypassAborts;
    this.baseWords[0] = registers.word(REG.STRTAB_BASE);
    this.baseWords[1] = registers.word(REG.STRTAB_BASE + 4);
    translator.table.base = getAddress(this.baseWords, STRTAB_BASE.ADDR);
    translator.table.log2Size = extract(config, STRTAB_BASE_CFG.LOG2SIZE);
    translator.table.split = extract(config, STRTAB_BASE_CFG.SPLIT);
    translator.table.format = extract(config, STRTAB_BASE_CFG.FMT);
  }
}
