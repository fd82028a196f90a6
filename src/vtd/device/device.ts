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
import { countsByName, deposit, extract, get, getAddress, highWord, type Log, lowWord, toBigInt } from "../../support/index.js";
import { onEventLoop, type Scheduler, STEPS_AT_ONCE } from "../../nesting/index.js";
import type { VtdBackend, VtdForBackend } from "./backend.js";
import { DEFAULT_VTD_PROPERTIES, type VtdProperties } from "./capabilities.js";
import * as trace from "./trace.js";
import { EventMessage, type MessageSender } from "./event-message.js";
import { CacheInvalidations } from "./cache-invalidations.js";
import { FaultLog } from "./fault-log.js";
import { InvalidationQueue } from "./invalidation-queue.js";
import { REGISTER_BYTES, RegisterFile } from "./register-file.js";
import { SoftwareSpace } from "./software-path.js";
import {
  CAP,
  CCMD,
  faultName,
  FRCD,
  GCMD,
  GRANULARITY_SELECTIVE,
  IOTLB_REG,
  IQA,
  IRTA,
  IVA,
  REG,
  RTADDR,
  TTM_LEGACY,
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

const WIDE_REGISTERS: ReadonlySet<number> = new Set([
  REG.CAP,
  REG.ECAP,
  REG.RTADDR,
  REG.CCMD,
  REG.IQH,
  REG.IQT,
  REG.IQA,
  REG.IQERCD,
  REG.IRTA,
  REG.PQH,
  REG.PQT,
  REG.PQA,
]);

/**
 * A VT-d remapping unit: registers, global commands, invalidation (registers and queue), faults, interrupt
 * remapping, and the software translation for emulated functions. What passed-through functions need is
 * asked of `backend`, in the guest's order.
 */
export class VtdDevice implements MmioHandler, VtdForBackend {
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
  private readonly invalidations = new CacheInvalidations(this);
  /** Spaces of emulated functions, as QEMU names them: vtd-SLOT.FUNCTION. */
  private readonly spaces = new FunctionMap(
    (_bus, devfn) => new SoftwareSpace(`vtd-${(devfn >> 3).toString(16).padStart(2, "0")}.${(devfn & 7).toString(16)}`, this),
  );
  private server: VtdBackend | null = null;
  /** Called when remapped interrupts may have changed: cached routes are to be made anew. */
  onInterruptsChanged: () => void = () => {};
  private readonly pageRequests: EventMessage;
  /** RTADDR and IRTA as the last SRTP and SIRTP took them. */
  private readonly rootTable = new Int32Array(2);
  private readonly interruptTable = new Int32Array(2);
  readonly scheduler: Scheduler;
  readonly stepsAtOnce: number;
  /** What registers, by their offset, tell once the passed-through functions have followed; bits of GSTS that do not show it yet. */
  private readonly untold = new Map<number, () => void>();
  private untoldStatus = 0;

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
    const out = { address: toBigInt(remapper.outAddressHigh, remapper.outAddressLow), data: remapper.outData >>> 0 };
    if (answer === INTERRUPT_REMAPPED && trace.traceIrRemap.on) {
      const { entry } = remapper;
      trace.traceIrRemap.emit(remapper.index, entry.level ? 1 : 0, entry.vector, entry.deliveryMode, entry.destination >>> 0, entry.logical ? 1 : 0);
    }
    if (trace.traceIrRemapMsi.on) {
      trace.traceIrRemapMsi.emit(address, data >>> 0, out.address, out.data);
    }
    return out;
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
      this.keepUp();
      if (offset === REG.IQH && this.queue.unfinished) {
        // There was more than is done at once: a guest that polls gets it done.
        this.queue.drain();
      }
      const low = registers.read(offset) ^ (offset === REG.GSTS ? this.untoldStatus : 0);
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
      this.globalCommand(this.registers.word(REG.GSTS), lowWord(value));
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

  /** Registers take aligned accesses of 4 bytes, and of 8 where they are 64 bits wide (11.2). */
  private served(offset: number, size: number, what: string): boolean {
    const { ivaOffset, iotlbOffset, faultOffset, faultRecords } = this.registers;
    const wide =
      WIDE_REGISTERS.has(offset) ||
      offset === ivaOffset ||
      offset === iotlbOffset ||
      (offset >= faultOffset && offset < faultOffset + 16 * faultRecords && offset % 8 === 0);
    if (offset >= 0 && offset + size <= REGISTER_BYTES && ((size === 4 && offset % 4 === 0) || (size === 8 && wide))) {
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
      this.contextCommand();
    } else if (last === registers.iotlbOffset + 4) {
      this.iotlbCommand();
    } else if (last >= registers.faultOffset && (last - registers.faultOffset) / 4 % 4 === FRCD.F.word) {
      faults.recordsWritten();
    }
  }

  // ---- what is told when the passed-through functions have followed ----

  private whenFollowed(offset: number, tell: () => void): void {
    this.untold.set(offset, tell);
    this.tell();
  }

  /** Bits of GSTS show a command as done when it is. */
  private tellStatus(bits: number): void {
    this.untoldStatus |= bits;
    this.whenFollowed(REG.GSTS, () => {
      this.untoldStatus = 0;
    });
  }

  /** Nothing is told as done while a function is on tables that may be stale, as no wait descriptor is done then. */
  private tell(): void {
    if (this.untold.size > 0 && (this.backend?.progress ?? "done") === "done") {
      const told = [...this.untold.values()];
      this.untold.clear();
      told.forEach((tell) => tell());
    }
  }

  /** A guest that polls gets the work done, and has the host asked again. */
  private keepUp(): void {
    if (this.untold.size > 0 && this.backend?.progress === "refused") {
      this.backend.retryRefused();
    }
    if (this.backend?.progress === "working") {
      this.backend.proceed();
    }
    this.tell();
  }

  followed(): void {
    this.tell();
    this.drain();
  }

  private drain(): void {
    if (this.status(GCMD.QIE.inPlace)) {
      this.queue.drain();
    }
  }

  // ---- global commands (11.4.4) ----

  /**
   * A write to GCMD: bits that differ from GSTS, and the set-pointer bits, are commands. All are done when
   * the write returns. Software has to give one at a time; several are done in the order in which a driver
   * gives them: pointers before enables.
   */
  private globalCommand(status: number, value: number): void {
    if (trace.traceRegWriteGcmd.on) {
      trace.traceRegWriteGcmd.emit(status, value);
    }
    const enables = GCMD.TE.inPlace | GCMD.QIE.inPlace | GCMD.IRE.inPlace | GCMD.CFI.inPlace;
    const pulses = GCMD.SRTP.inPlace | GCMD.SIRTP.inPlace | GCMD.WBF.inPlace;
    const commands = ((status ^ value) & enables) | (value & pulses);
    if ((commands & (commands - 1)) !== 0) {
      this.log.guestError("vtd.gcmd", () => `${this.id}: GCMD 0x${(value >>> 0).toString(16)} gives several commands at once (status 0x${(status >>> 0).toString(16)})`);
    }
    const on = (bit: number): boolean => (value & bit) !== 0;
    const { intremap, dmaTranslation } = this.properties;
    if ((commands & GCMD.SRTP.inPlace) !== 0) {
      this.setRootTable();
    }
    if ((commands & GCMD.SIRTP.inPlace) !== 0 && intremap) {
      this.setInterruptTable();
    }
    if ((commands & GCMD.QIE.inPlace) !== 0) {
      this.enableQueue(on(GCMD.QIE.inPlace));
    }
    if ((commands & GCMD.CFI.inPlace) !== 0 && intremap) {
      this.report(GCMD.CFI.inPlace, on(GCMD.CFI.inPlace));
      this.programTranslator();
      this.onInterruptsChanged();
    }
    if ((commands & GCMD.IRE.inPlace) !== 0 && intremap) {
      this.report(GCMD.IRE.inPlace, on(GCMD.IRE.inPlace));
      this.programTranslator();
      this.onInterruptsChanged();
      if (trace.traceIrEnable.on) {
        trace.traceIrEnable.emit(on(GCMD.IRE.inPlace) ? 1 : 0);
      }
    }
    if ((commands & GCMD.TE.inPlace) !== 0 && dmaTranslation) {
      this.report(GCMD.TE.inPlace, on(GCMD.TE.inPlace));
      if (trace.traceDmarEnable.on) {
        trace.traceDmarEnable.emit(on(GCMD.TE.inPlace) ? 1 : 0);
      }
      this.programTranslator();
      this.dropCaches();
      this.backend?.tablesChanged();
      this.tellStatus(GCMD.TE.inPlace);
    }
    this.restartFaults();
    // WBF: CAP.RWBF is 0, there is no write buffer to flush and WBFS stays clear (11.4.4.1).
  }

  /** 7.2.1: with neither translation nor remapping the next fault goes to the first record. */
  private restartFaults(): void {
    if (!this.translationEnabled && !this.interruptRemappingEnabled) {
      this.faults.reset();
    }
  }

  private report(bit: number, on: boolean): void {
    const status = this.registers.word(REG.GSTS);
    this.registers.set(REG.GSTS, on ? status | bit : status & ~bit);
  }

  /** CAP.ESRTPS: setting the pointer invalidates context cache, PASID cache and IOTLB, too (6.6). */
  private setRootTable(): void {
    const { registers } = this;
    this.rootTable[0] = registers.word(REG.RTADDR);
    this.rootTable[1] = registers.word(REG.RTADDR + 4);
    this.report(GCMD.SRTP.inPlace, true);
    if (trace.traceRegDmarRoot.on) {
      trace.traceRegDmarRoot.emit(this.rootTableAddress, this.tableMode === 1 ? 1 : 0);
    }
    this.programTranslator();
    this.dropCaches();
    this.backend?.tablesChanged();
    this.tellStatus(GCMD.SRTP.inPlace);
  }

  /** Context cache, PASID cache and IOTLB. */
  private dropCaches(): void {
    if (trace.traceContextCacheReset.on) {
      trace.traceContextCacheReset.emit();
    }
    if (trace.tracePasidCacheReset.on) {
      trace.tracePasidCacheReset.emit();
    }
    this.translator.reset();
  }

  private setInterruptTable(): void {
    const { registers } = this;
    this.interruptTable[0] = registers.word(REG.IRTA);
    this.interruptTable[1] = registers.word(REG.IRTA + 4);
    this.report(GCMD.SIRTP.inPlace, true);
    if (trace.traceRegIrRoot.on) {
      trace.traceRegIrRoot.emit(this.interruptTableAddress, this.interruptTableEntries);
    }
    this.programTranslator();
    // CAP.ESIRTPS is clear: software invalidates (6.7); dropping more than asked for is always right.
    this.invalidations.interruptEntries(-1, 0);
  }

  private enableQueue(on: boolean): void {
    if (trace.traceInvQiEnable.on) {
      trace.traceInvQiEnable.emit(on ? 1 : 0);
    }
    if (on) {
      this.queue.enable();
      this.report(GCMD.QIE.inPlace, true);
      this.drain();
      return;
    }
    if (this.queue.waiting) {
      this.log.guestError("vtd.queue-off", () => `${this.id}: queued invalidation is switched off with descriptors waiting; they are lost`);
    }
    this.queue.disable();
    this.report(GCMD.QIE.inPlace, false);
  }

  // ---- register-based invalidation (11.4.6) ----

  /** Not beside queued invalidation, and in legacy mode alone (6.5.1, 11.4.6.1). */
  private get registersInvalidate(): boolean {
    return !this.status(GCMD.QIE.inPlace) && this.tableMode === TTM_LEGACY;
  }

  private contextCommand(): void {
    const { registers } = this;
    const high = registers.word(REG.CCMD + 4);
    if ((high & CCMD.ICC.inPlace) === 0) {
      return;
    }
    const low = registers.word(REG.CCMD);
    const granularity = this.registersInvalidate ? extract(high, CCMD.CIRG) : 0;
    if (granularity === 0) {
      // 11.4.6.1: CAIG 0 tells that nothing was done.
      this.log.guestError("vtd.ccmd", () => `${this.id}: CCMD 0x${toBigInt(high, low).toString(16)} is not performed`);
    } else {
      this.invalidations.contextCache(granularity, extract(low, CCMD.DID), extract(low, CCMD.SID), extract(high, CCMD.FM));
    }
    this.whenFollowed(REG.CCMD, () => registers.set(REG.CCMD + 4, deposit(high & ~CCMD.ICC.inPlace, CCMD.CAIG, granularity)));
  }

  private iotlbCommand(): void {
    const { registers } = this;
    const at = registers.iotlbOffset + 4;
    const high = registers.word(at);
    if ((high & IOTLB_REG.IVT.inPlace) === 0) {
      return;
    }
    const iva = [registers.word(registers.ivaOffset), registers.word(registers.ivaOffset + 4)];
    const asked = this.registersInvalidate ? extract(high, IOTLB_REG.IIRG) : 0;
    // 11.4.6.3: a larger mask than CAP.MAMV is an incorrect request, too.
    const granularity = asked === GRANULARITY_SELECTIVE && get(iva, IVA.AM) > get(registers.cap, CAP.MAMV) ? 0 : asked;
    if (granularity === 0) {
      this.log.guestError("vtd.iotlb", () => `${this.id}: IOTLB 0x${toBigInt(high, 0).toString(16)} is not performed`);
    } else {
      this.invalidations.iotlb(granularity, extract(high, IOTLB_REG.DID), iva[1], iva[0] & IVA.ADDR.lowMask, get(iva, IVA.AM));
    }
    this.whenFollowed(at, () => registers.set(at, deposit(high & ~IOTLB_REG.IVT.inPlace, IOTLB_REG.IAIG, granularity)));
  }

  /** Tells translator and remapper what the registers say. Caches stay. */
  private programTranslator(): void {
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

  /** Reset: registers and caches as at the start, then the backend. */
  reset(): void {
    this.registers.reset();
    this.faults.reset();
    this.queue.reset();
    this.rootTable.fill(0);
    this.interruptTable.fill(0);
    this.untold.clear();
    this.untoldStatus = 0;
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
