import { type AddressSpace, DISCARDED, type DmaAttributes, REFUSED, RESOLVED, TranslatedSpace } from "../../memory/index.js";
import { type Log, toBigInt } from "../../support/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../translation/index.js";
import {
  traceRecordEvent,
  traceTranslateAbort,
  traceTranslateBypass,
  traceTranslateDisable,
  traceTranslateSuccess,
} from "./trace.js";
import { BYPASSED, READ_AS_ZERO, type StreamTranslator, TRANSLATED } from "../lookup/index.js";
import { EVENT, eventName, get, STE, STE_WORDS } from "../spec/index.js";

/** What the software path needs of its SMMU. */
export interface TranslatingSmmu {
  readonly id: string;
  readonly translator: StreamTranslator;
  /** Where translated accesses go. */
  readonly memory: AddressSpace;
  readonly log: Log;
  recordEvent(record: Int32Array): void;
  fetchStreamTableEntry(streamId: number, out: Int32Array): number;
}

/**
 * The address space of one emulated function behind an SMMU. The StreamID is the requester id that comes
 * with each access, so it follows when the guest renumbers buses.
 */
export class SoftwareSpace extends TranslatedSpace {
  private readonly entry = new Int32Array(STE_WORDS);

  constructor(
    name: string,
    private readonly smmu: TranslatingSmmu,
  ) {
    super(name, smmu.memory);
  }

  protected resolve(high: number, low: number, isWrite: boolean, attributes: DmaAttributes, quiet: boolean): number {
    const { translator } = this.smmu;
    const answer = translator.translate(attributes.requesterId, attributes.pasid, high, low, accessOf(isWrite, attributes));
    if (!quiet) {
      this.trace(answer, high, low, isWrite, attributes.requesterId);
      if (translator.hasEvent) {
        this.record(attributes.requesterId, high, low);
      }
    }
    if (answer === TRANSLATED || answer === BYPASSED) {
      this.outHigh = translator.outHigh;
      this.outLow = translator.outLow;
      this.outPageBits = translator.outPageBits;
      return RESOLVED;
    }
    return answer === READ_AS_ZERO ? DISCARDED : REFUSED;
  }

  private record(streamId: number, high: number, low: number): void {
    const { translator, log, id } = this.smmu;
    const number = translator.event[0] & 0xff;
    if (traceRecordEvent.on) {
      traceRecordEvent.emit(eventName(number), streamId);
    }
    const inputAddress = toBigInt(high, low);
    log.fault(
      "smmuv3.event",
      () =>
        `${id}: ${eventName(number)} for StreamID 0x${streamId.toString(16)} at 0x${inputAddress.toString(16)}` +
        (number <= EVENT.C_BAD_CD && translator.reason !== "" ? `: ${translator.reason}` : ""),
      () => ({ iommu: id, number, streamId, substreamId: null, inputAddress }),
    );
    this.smmu.recordEvent(translator.event);
  }

  /** 1, 2, or 3 for both, as QEMU numbers them: the low bits of STE.Config (IHI 0070, 5.2). For traces alone. */
  private stageOf(streamId: number): number {
    return this.smmu.fetchStreamTableEntry(streamId, this.entry) < 0 ? 0 : get(this.entry, STE.CONFIG) & 3;
  }

  private trace(answer: number, high: number, low: number, isWrite: boolean, streamId: number): void {
    const { translator } = this.smmu;
    if (answer === TRANSLATED) {
      if (traceTranslateSuccess.on) {
        traceTranslateSuccess.emit(
          this.name,
          streamId,
          toBigInt(high, low),
          toBigInt(translator.outHigh, translator.outLow),
          isWrite ? ACCESS_WRITE : ACCESS_READ,
          this.stageOf(streamId),
        );
      }
    } else if (answer === BYPASSED) {
      const event = translator.enabled ? traceTranslateBypass : traceTranslateDisable;
      if (event.on) {
        event.emit(this.name, streamId, toBigInt(high, low), isWrite ? 1 : 0);
      }
    } else if (traceTranslateAbort.on) {
      traceTranslateAbort.emit(this.name, streamId, toBigInt(high, low), isWrite ? 1 : 0);
    }
  }
}

function accessOf(isWrite: boolean, attributes: DmaAttributes): number {
  return (
    (isWrite ? ACCESS_WRITE : ACCESS_READ) |
    (attributes.execute && !isWrite ? ACCESS_EXECUTE : 0) |
    (attributes.privileged ? ACCESS_PRIVILEGED : 0)
  );
}
