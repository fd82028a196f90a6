import {
  featuresOf,
  INTERRUPT_BLOCKED,
  INTERRUPT_REMAPPED,
  InterruptRemapper,
  type RootPointer,
  type VtdFeatures,
  VtdTranslator,
  descriptorTypeName,
} from "../lookup/index.js";
import type { AddressSpace, DmaSpace, MmioHandler, RamWordMemory } from "../../memory/index.js";
import { FunctionMap, type PciBus } from "../../pci/index.js";
import { countsByName, get, getAddress, highWord, type Log, lowWord, toBigInt } from "../../support/index.js";
import { onEventLoop, type Scheduler, STEPS_AT_ONCE } from "../../nesting/index.js";
import type { VtdBackend, VtdForBackend } from "./backend.js";
import { DEFAULT_VTD_PROPERTIES, type VtdProperties } from "./capabilities.js";
import * as trace from "./trace.js";
import { EventMessage, type MessageSender } from "./event-message.js";
import { CacheInvalidations } from "./cache-invalidations.js";
import { Completions } from "./completions.js";
import { FaultLog } from "./fault-log.js";
import { type CommandedUnit, GlobalCommands } from "./global-commands.js";
import { InvalidationQueue } from "./invalidation-queue.js";
import { REGISTER_BYTES, RegisterFile } from "./register-file.js";
import { RegisterInvalidation } from "./register-invalidation.js";
import { SoftwareSpace } from "./software-path.js";
import {
  faultName,
  FRCD,
  GCMD,
  IQA,
  IRTA,
  REG,
  RTADDR,
} from "../spec/index.js";

/** What an intel-iommu is made of; addresses are guest-physical. */
export interface VtdDeviceOptions {
  /** The user's id. */
  readonly id: string;
  readonly properties: Partial<VtdProperties>;
  /** System memory: where translated DMA goes. */
  readonly memory: AddressSpace;
  /** The RAM of the same address space, for queues and tables. */
  readonly words: RamWordMemory;
  /** Delivers the unit's own interrupt messages, untranslated. */
  readonly sendMessage: MessageSender;
  readonly log: Log;
  /** Runs what is left of bounded work; default: on the event loop. */
  readonly scheduler?: Scheduler;
  /** Steps of bounded work done at once (`src/support/budget.ts`). */
  readonly stepsAtOnce?: number;
}

/** What a unit did, for the account. */
export interface VtdCounters {
  /** Descriptors done: all, and by type. */
  readonly descriptors: number;
  readonly descriptorsByType: Readonly<Record<string, number>>;
  readonly waits: number;
  /** Descriptors that the host has done, and batches sent to it. */
  readonly forwarded: number;
  readonly flushes: number;
  readonly queueErrors: number;
  /** Faults recorded, by reason too; lost to a full record or collapsed into a pending one. */
  readonly faults: number;
  readonly faultsByReason: Readonly<Record<string, number>>;
  readonly faultsLost: number;
  readonly faultsCollapsed: number;
  readonly interrupts: { readonly fault: number; readonly completion: number };
}

/**
 * A VT-d remapping unit: registers, global commands, invalidation (registers and queue), faults, interrupt
 * remapping, and the software translation for emulated functions. What passed-through functions need is
 * asked of `backend`, in the guest's order.
 */
export class VtdDevice implements MmioHandler, VtdForBackend, CommandedUnit {
  /** Bytes of the register region. */
  static readonly regionBytes = REGISTER_BYTES;

  readonly id: string;
  readonly properties: VtdProperties;
  readonly registers: RegisterFile;
  readonly faults: FaultLog;
  readonly queue: InvalidationQueue;
  /** The translation of emulated functions, and of all interrupts. */
  readonly translator: VtdTranslator;
  readonly remapper: InterruptRemapper;
  readonly invalidations = new CacheInvalidations(this);
  /** Spaces of emulated functions, as QEMU names them: vtd-SLOT.FUNCTION. */
  private readonly spaces = new FunctionMap(
    (_bus, devfn) => new SoftwareSpace(`vtd-${(devfn >> 3).toString(16).padStart(2, "0")}.${(devfn & 7).toString(16)}`, this),
  );
  private server: VtdBackend | null = null;
  /** Called when remapped interrupts may have changed: cached routes are to be made anew. */
  onInterruptsChanged: () => void = () => {};
  private readonly pageRequests: EventMessage;
  /** RTADDR and IRTA as the last SRTP and SIRTP took them. */
  readonly rootTable = new Int32Array(2);
  readonly interruptTable = new Int32Array(2);
  readonly scheduler: Scheduler;
  readonly stepsAtOnce: number;
  readonly completions = new Completions(() => this.backend);
  private readonly commands = new GlobalCommands(this);
  private readonly registerInvalidation: RegisterInvalidation;

  constructor(private readonly options: VtdDeviceOptions) {
    this.scheduler = options.scheduler ?? onEventLoop;
    this.stepsAtOnce = options.stepsAtOnce ?? STEPS_AT_ONCE;
    this.id = options.id;
    this.properties = { ...DEFAULT_VTD_PROPERTIES, ...options.properties };
    const { log, memory, words, sendMessage } = options;
    this.registers = new RegisterFile(this.properties);
    this.faults = new FaultLog(options.id, this.registers, sendMessage, log);
    this.queue = new InvalidationQueue({
      id: options.id,
      registers: this.registers,
      words,
      memory,
      faults: this.faults,
      target: this.invalidations,
      send: sendMessage,
      log,
      addressBits: this.properties.awBits,
      scheduler: this.scheduler,
      stepsAtOnce: this.stepsAtOnce,
    });
    const features = featuresOf(toBigInt(this.registers.cap[1], this.registers.cap[0]), toBigInt(this.registers.ecap[1], this.registers.ecap[0]), this.properties.awBits);
    // An emulated unit's walks are coherent, whatever ECAP.SMPWCS says.
    this.translator = new VtdTranslator(words, features, { coherentWalks: true });
    this.remapper = new InterruptRemapper(words, features);
    this.registerInvalidation = new RegisterInvalidation({ id: options.id, registers: this.registers, invalidations: this.invalidations, completions: this.completions, log });
    this.pageRequests = new EventMessage(this.registers, REG.PECTL, sendMessage);
  }

  /** Who serves the passed-through functions; null: there are none now. */
  get backend(): VtdBackend | null {
    return this.server === null || this.server.functionCount === 0 ? null : this.server;
  }

  set backend(backend: VtdBackend | null) {
    this.server = backend;
  }

  /**
   * The address space of the emulated function, or bridge, at (bus, devfn): always the same one. Source ids come with
   * the accesses, so nothing has to follow when the guest renumbers buses.
   */
  softwareSpace(bus: PciBus, devfn: number): DmaSpace {
    return this.spaces.at(bus, devfn);
  }

  get log(): Log {
    return this.options.log;
  }

  /** System memory behind the unit. */
  get memory(): AddressSpace {
    return this.options.memory;
  }

  get words(): RamWordMemory {
    return this.options.words;
  }

  // ---- the state that the guest has programmed ----

  /** GSTS.TES: requests are translated. */
  get translationEnabled(): boolean {
    return this.status(GCMD.TE.inPlace);
  }

  /** GSTS.IRES: interrupts are remapped. */
  get interruptRemappingEnabled(): boolean {
    return this.status(GCMD.IRE.inPlace);
  }

  /** Address of the root table in use, guest-physical. */
  get rootTableAddress(): number {
    return getAddress(this.rootTable, RTADDR.RTA) % 2 ** this.properties.awBits;
  }

  /** RTADDR.TTM as the last SRTP took it; legacy where scalable mode is not offered. */
  get tableMode(): number {
    return this.properties.scalableMode ? get(this.rootTable, RTADDR.TTM) : 0;
  }

  /** The interrupt remapping table in use: guest-physical address and number of entries. */
  get interruptTableAddress(): number {
    return getAddress(this.interruptTable, IRTA.ADDR) % 2 ** this.properties.awBits;
  }

  get interruptTableEntries(): number {
    return 2 << get(this.interruptTable, IRTA.S);
  }

  /** IRTA.EIME: destinations are 32-bit APIC ids. */
  get extendedInterruptMode(): boolean {
    return this.properties.eim && get(this.interruptTable, IRTA.EIME) !== 0;
  }

  private status(bit: number): boolean {
    return (this.registers.word(REG.GSTS) & bit) !== 0;
  }

  // ---- interrupts ----

  /**
   * An interrupt message that a function or the I/O APIC writes to the interrupt range (guest-physical
   * 0xfee00000 to 0xfeefffff), as remapped. Null: it is blocked, and the fault is recorded.
   */
  remapInterrupt(requesterId: number, address: bigint, data: number): { address: bigint; data: number } | null {
    const { remapper } = this;
    if (trace.traceIrRemapMsiReq.on) {
      trace.traceIrRemapMsiReq.emit(address, data >>> 0);
    }
    const answer = remapper.remap(requesterId, lowWord(address), data);
    if (answer === INTERRUPT_BLOCKED) {
      if (remapper.hasFault) {
        this.recordFault(remapper.record);
      }
      return null;
    }
    const out = remappedMessage(remapper);
    if (answer === INTERRUPT_REMAPPED && trace.traceIrRemap.on) {
      const { entry } = remapper;
      trace.traceIrRemap.emit(remapper.index, entry.level ? 1 : 0, entry.vector, entry.deliveryMode, entry.destination >>> 0, entry.logical ? 1 : 0);
    }
    if (trace.traceIrRemapMsi.on) {
      trace.traceIrRemapMsi.emit(address, data >>> 0, out.address, out.data);
    }
    return out;
  }

  /** Where such a message would go, were it sent now: nothing has been requested, so nothing is recorded. Null: it would be blocked. */
  interruptTarget(requesterId: number, address: bigint, data: number): { address: bigint; data: number } | null {
    const { remapper } = this;
    return remapper.remap(requesterId, lowWord(address), data) === INTERRUPT_BLOCKED ? null : remappedMessage(remapper);
  }

  /** Where the root table is: what the translator uses. */
  get root(): RootPointer {
    return this.translator;
  }

  get features(): VtdFeatures {
    return this.translator.features;
  }

  faultsLost(): void {
    this.faults.overflow();
  }

  /** Records a fault: four words of a fault recording register. */
  recordFault(record: ArrayLike<number>): void {
    this.faults.record(record);
  }

  // ---- registers ----

  read(offset: number, size: number): bigint {
    const { registers } = this;
    let value = 0n;
    if (this.served(offset, size, "read")) {
      this.completions.keepUp();
      if (offset === REG.IQH && this.queue.unfinished) {
        // There was more than is done at once: a guest that polls gets it done.
        this.queue.drain();
      }
      const low = registers.read(offset) ^ (offset === REG.GSTS ? this.completions.statusBits : 0);
      value = toBigInt(size === 8 ? registers.read(offset + 4) : 0, low);
    }
    if (trace.traceRegRead.on) {
      trace.traceRegRead.emit(offset, size);
    }
    return value;
  }

  write(offset: number, size: number, value: bigint): void {
    if (trace.traceRegWrite.on) {
      trace.traceRegWrite.emit(offset, size, value);
    }
    if (!this.served(offset, size, "write")) {
      return;
    }
    this.backend?.retryRefused();
    if (offset === REG.GCMD) {
      this.commands.write(lowWord(value));
    } else {
      this.writeRegister(offset, size, value);
    }
  }

  private writeRegister(offset: number, size: number, value: bigint): void {
    const low = this.registers.write(offset, lowWord(value));
    const high = size === 8 && this.registers.write(offset + 4, highWord(value));
    if (!low && !high && value !== 0n) {
      this.log.guestError(
        "vtd.ignored-write",
        () => `${this.id}: ${size} byte write of 0x${value.toString(16)} to 0x${offset.toString(16)} is ignored: read-only, or not there`,
      );
    }
    this.written(offset, size, value);
  }

  private served(offset: number, size: number, what: string): boolean {
    if (this.registers.serves(offset, size)) {
      return true;
    }
    this.log.guestError("vtd.access", () => `${this.id}: ${size} byte ${what} at 0x${offset.toString(16)} is not served`);
    return false;
  }

  /** What follows a write; `size` 8 has written both halves. */
  private written(offset: number, size: number, value: bigint): void {
    const { registers, faults, queue } = this;
    const last = offset + size - 4;
    switch (offset) {
      case REG.FSTS:
        faults.statusWritten();
        // 6.5.2.11: the queue goes on once software has cleared the error.
        this.drain();
        return;
      case REG.FECTL:
        if (trace.traceRegWriteFectl.on) {
          trace.traceRegWriteFectl.emit(value);
        }
        faults.event.deliver();
        return;
      case REG.ICS:
        queue.statusWritten();
        return;
      case REG.IECTL:
        if (trace.traceRegWriteIectl.on) {
          trace.traceRegWriteIectl.emit(value);
        }
        queue.completion.deliver();
        return;
      case REG.PECTL:
        this.pageRequests.deliver();
        return;
      case REG.IQT:
        if (trace.traceInvQiTail.on) {
          trace.traceInvQiTail.emit(registers.word(REG.IQT) >>> (get(registers.words, IQA.DW, REG.IQA / 4) === 0 ? 4 : 5));
        }
        this.drain();
        return;
    }
    if (last === REG.CCMD + 4) {
      this.registerInvalidation.contextCommand();
    } else if (last === registers.iotlbOffset + 4) {
      this.registerInvalidation.iotlbCommand();
    } else if (last >= registers.faultOffset && (last - registers.faultOffset) / 4 % 4 === FRCD.F.word) {
      faults.recordsWritten();
    }
  }

  followed(): void {
    this.completions.tell();
    this.drain();
  }

  /** Does what is in the queue. */
  drain(): void {
    if (this.status(GCMD.QIE.inPlace)) {
      this.queue.drain();
    }
  }

  /** Tells translator and remapper what the registers say. Caches stay. */
  programTranslator(): void {
    const { translator, remapper } = this;
    translator.enabled = this.translationEnabled;
    translator.rootTable = this.rootTableAddress;
    translator.mode = this.tableMode;
    remapper.enabled = this.interruptRemappingEnabled;
    remapper.compatibility = this.status(GCMD.CFI.inPlace);
    remapper.table = this.interruptTableAddress;
    remapper.log2Entries = get(this.interruptTable, IRTA.S) + 1;
    remapper.extended = this.extendedInterruptMode;
  }

  /** Context cache, PASID cache and IOTLB. */
  dropCaches(): void {
    if (trace.traceContextCacheReset.on) {
      trace.traceContextCacheReset.emit();
    }
    if (trace.tracePasidCacheReset.on) {
      trace.tracePasidCacheReset.emit();
    }
    this.translator.reset();
  }

  /** Reset: registers and caches as at the start, then the backend. */
  reset(): void {
    this.registers.reset();
    this.faults.reset();
    this.queue.reset();
    this.rootTable.fill(0);
    this.interruptTable.fill(0);
    this.completions.forget();
    this.programTranslator();
    if (trace.traceResetExit.on) {
      trace.traceResetExit.emit();
    }
    this.dropCaches();
    this.invalidations.interruptEntries(-1, 0);
    this.backend?.reset();
  }

  /** The machine is gone: nothing is done later. */
  dispose(): void {
    this.queue.dispose();
    this.server?.dispose();
  }

  counters(): VtdCounters {
    const { queue, faults } = this;
    const descriptorsByType = countsByName(queue.consumed, descriptorTypeName);
    return {
      descriptors: Object.values(descriptorsByType).reduce((sum, count) => sum + count, 0),
      descriptorsByType,
      waits: descriptorsByType.wait ?? 0,
      forwarded: queue.forwarded,
      flushes: queue.flushes,
      queueErrors: queue.errors,
      faults: faults.recorded,
      faultsByReason: countsByName(faults.byReason, faultName),
      faultsLost: faults.lost,
      faultsCollapsed: faults.collapsed,
      interrupts: { fault: faults.event.sent, completion: queue.completion.sent },
    };
  }
}

function remappedMessage({ outAddressHigh, outAddressLow, outData }: InterruptRemapper): { address: bigint; data: number } {
  return { address: toBigInt(outAddressHigh, outAddressLow), data: outData >>> 0 };
}
