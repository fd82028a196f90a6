/** What is told of guests' entries that are read for passed-through functions: faults for the guest, trace events, words for people. */
import { hex, toBigInt } from "../../support/index.js";
import type { VtdForBackend } from "../device/index.js";
import { type ContextView, FaultRecords, KIND_UNTRANSLATED } from "../lookup/index.js";
import { FAULT, FAULT_RECORD_WORDS, faultName } from "../spec/index.js";
import * as trace from "./trace.js";

export class EntryFaults {
  private readonly record = new Int32Array(FAULT_RECORD_WORDS);

  private readonly records: FaultRecords;

  constructor(private readonly unit: VtdForBackend) {
    this.records = new FaultRecords(this.record, unit.features);
  }

  /** A context entry was read. `words`: of it; `reason` 0: it is in order. */
  traceContext(sourceId: number, reason: number, context: ContextView, words: Int32Array): void {
    const [bus, slot, fn] = [sourceId >> 8, (sourceId >> 3) & 0x1f, sourceId & 7];
    if (reason === FAULT.ROOT_NOT_PRESENT || reason === FAULT.SM_ROOT_NOT_PRESENT) {
      if (trace.traceReNotPresent.on) {
        trace.traceReNotPresent.emit(bus);
      }
    } else if ((reason === FAULT.CONTEXT_NOT_PRESENT || reason === FAULT.SM_CONTEXT_NOT_PRESENT) && trace.traceCeNotPresent.on) {
      trace.traceCeNotPresent.emit(bus, sourceId & 0xff);
    }
    if (reason !== 0 && trace.traceReplayCeInvalid.on) {
      trace.traceReplayCeInvalid.emit(bus, slot, fn);
    } else if (reason === 0 && trace.traceReplayCeValid.on) {
      const mode = context.scalable ? "scalable mode" : "legacy mode";
      trace.traceReplayCeValid.emit(mode, bus, slot, fn, context.domain, toBigInt(words[3], words[2]), toBigInt(words[1], words[0]));
    }
  }

  /** Records a fault reason (0: there is none) of a function or a PASID (-1: of requests without one), but where it is to be silent. */
  recordUnless(silent: boolean, reason: number, sourceId: number, pasid: number): void {
    if (silent) {
      if (reason !== 0 && trace.traceFaultDisabled.on) {
        trace.traceFaultDisabled.emit();
      }
      return;
    }
    this.records.fill(reason, sourceId, pasid, KIND_UNTRANSLATED, 0, 0, 0);
    this.unit.recordFault(this.record);
  }
}

/** Nothing is there, as for a function that nobody uses: no mistake. */
export function isAbsent(reason: number): boolean {
  return (
    reason === FAULT.ROOT_NOT_PRESENT ||
    reason === FAULT.CONTEXT_NOT_PRESENT ||
    reason === FAULT.SM_ROOT_NOT_PRESENT ||
    reason === FAULT.SM_CONTEXT_NOT_PRESENT
  );
}

/** `CONTEXT_NOT_PRESENT (fault reason 0x2)`, as the guest's fault record would have it. */
export function reasonText(reason: number): string {
  return `${faultName(reason)} (fault reason ${hex(reason)})`;
}
