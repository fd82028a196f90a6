/** Global commands (Intel VT-d 11.4.4): what a write to GCMD does. */
import type { Log } from "../../support/index.js";
import { GCMD, REG } from "../spec/index.js";
import type { VtdBackend } from "./backend.js";
import type { CacheInvalidations } from "./cache-invalidations.js";
import type { VtdProperties } from "./capabilities.js";
import type { Completions } from "./completions.js";
import type { FaultLog } from "./fault-log.js";
import type { InvalidationQueue } from "./invalidation-queue.js";
import type { RegisterFile } from "./register-file.js";
import * as trace from "./trace.js";

/** What they act on. */
export interface CommandedUnit {
  readonly id: string;
  readonly properties: VtdProperties;
  readonly registers: RegisterFile;
  readonly faults: FaultLog;
  readonly queue: InvalidationQueue;
  readonly invalidations: CacheInvalidations;
  readonly completions: Completions;
  readonly backend: VtdBackend | null;
  readonly log: Log;
  /** RTADDR and IRTA as the last SRTP and SIRTP took them, and what they say. */
  readonly rootTable: Int32Array;
  readonly interruptTable: Int32Array;
  readonly rootTableAddress: number;
  readonly tableMode: number;
  readonly interruptTableAddress: number;
  readonly interruptTableEntries: number;
  /** GSTS.TES and IRES. */
  readonly translationEnabled: boolean;
  readonly interruptRemappingEnabled: boolean;
  onInterruptsChanged(): void;
  /** Has the translation do what the registers say. Caches stay. */
  programTranslator(): void;
  /** Context cache, PASID cache and IOTLB of the software path. */
  dropCaches(): void;
  /** Does what is in the queue. */
  drain(): void;
}

export class GlobalCommands {
  constructor(private readonly unit: CommandedUnit) {}

  /**
   * A write to GCMD: bits that differ from GSTS, and the set-pointer bits, are commands. All are done when
   * the write returns. Software has to give one at a time; several are done in the order in which a driver
   * gives them: pointers before enables.
   */
  write(value: number): void {
    const { unit } = this;
    const status = unit.registers.word(REG.GSTS);
    if (trace.traceRegWriteGcmd.on) {
      trace.traceRegWriteGcmd.emit(status, value);
    }
    const enables = GCMD.TE.inPlace | GCMD.QIE.inPlace | GCMD.IRE.inPlace | GCMD.CFI.inPlace;
    const pulses = GCMD.SRTP.inPlace | GCMD.SIRTP.inPlace | GCMD.WBF.inPlace;
    const commands = ((status ^ value) & enables) | (value & pulses);
    if ((commands & (commands - 1)) !== 0) {
      unit.log.guestError("vtd.gcmd", () => `${unit.id}: GCMD 0x${(value >>> 0).toString(16)} gives several commands at once (status 0x${(status >>> 0).toString(16)})`);
    }
    const on = (bit: number): boolean => (value & bit) !== 0;
    const { intremap, dmaTranslation } = unit.properties;
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
      unit.programTranslator();
      unit.onInterruptsChanged();
    }
    if ((commands & GCMD.IRE.inPlace) !== 0 && intremap) {
      this.report(GCMD.IRE.inPlace, on(GCMD.IRE.inPlace));
      unit.programTranslator();
      unit.onInterruptsChanged();
      if (trace.traceIrEnable.on) {
        trace.traceIrEnable.emit(on(GCMD.IRE.inPlace) ? 1 : 0);
      }
    }
    if ((commands & GCMD.TE.inPlace) !== 0 && dmaTranslation) {
      this.report(GCMD.TE.inPlace, on(GCMD.TE.inPlace));
      if (trace.traceDmarEnable.on) {
        trace.traceDmarEnable.emit(on(GCMD.TE.inPlace) ? 1 : 0);
      }
      unit.programTranslator();
      unit.dropCaches();
      unit.backend?.tablesChanged();
      unit.completions.tellStatus(GCMD.TE.inPlace);
    }
    this.restartFaults();
    // WBF: CAP.RWBF is 0, there is no write buffer to flush and WBFS stays clear (11.4.4.1).
  }

  /** 7.2.1: with neither translation nor remapping the next fault goes to the first record. */
  private restartFaults(): void {
    const { unit } = this;
    if (!unit.translationEnabled && !unit.interruptRemappingEnabled) {
      unit.faults.reset();
    }
  }

  private report(bit: number, on: boolean): void {
    const { registers } = this.unit;
    const status = registers.word(REG.GSTS);
    registers.set(REG.GSTS, on ? status | bit : status & ~bit);
  }

  /** CAP.ESRTPS: setting the pointer invalidates context cache, PASID cache and IOTLB, too (6.6). */
  private setRootTable(): void {
    const { unit } = this;
    const { registers } = unit;
    unit.rootTable[0] = registers.word(REG.RTADDR);
    unit.rootTable[1] = registers.word(REG.RTADDR + 4);
    this.report(GCMD.SRTP.inPlace, true);
    if (trace.traceRegDmarRoot.on) {
      trace.traceRegDmarRoot.emit(unit.rootTableAddress, unit.tableMode === 1 ? 1 : 0);
    }
    unit.programTranslator();
    unit.dropCaches();
    unit.backend?.tablesChanged();
    unit.completions.tellStatus(GCMD.SRTP.inPlace);
  }

  private setInterruptTable(): void {
    const { unit } = this;
    const { registers } = unit;
    unit.interruptTable[0] = registers.word(REG.IRTA);
    unit.interruptTable[1] = registers.word(REG.IRTA + 4);
    this.report(GCMD.SIRTP.inPlace, true);
    if (trace.traceRegIrRoot.on) {
      trace.traceRegIrRoot.emit(unit.interruptTableAddress, unit.interruptTableEntries);
    }
    unit.programTranslator();
    // CAP.ESIRTPS is clear: software invalidates (6.7); dropping more than asked for is always right.
    unit.invalidations.interruptEntries(-1, 0);
  }

  private enableQueue(on: boolean): void {
    const { unit } = this;
    if (trace.traceInvQiEnable.on) {
      trace.traceInvQiEnable.emit(on ? 1 : 0);
    }
    if (on) {
      unit.queue.enable();
      this.report(GCMD.QIE.inPlace, true);
      unit.drain();
      return;
    }
    if (unit.queue.waiting) {
      unit.log.guestError("vtd.queue-off", () => `${unit.id}: queued invalidation is switched off with descriptors waiting; they are lost`);
    }
    unit.queue.disable();
    this.report(GCMD.QIE.inPlace, false);
  }
}
