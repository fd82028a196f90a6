import { type AddressSpace, type DmaAttributes, DMA_FAULT, DMA_OK, type DmaSpace } from "../memory/index.js";
import { highWord, type Log, lowWord, toBigInt, toNumber } from "../support/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../translation/index.js";
import {
  traceRecordEvent,
  traceTranslateAbort,
  traceTranslateBypass,
  traceTranslateDisable,
  traceTranslateSuccess,
} from "./device-trace.js";
import { BYPASSED, READ_AS_ZERO, type StreamTranslator, TRANSLATED } from "./lookup/index.js";
import { EVENT, eventName, get, STE, STE_WORDS } from "./spec/index.js";

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

/** Largest piece that one translation is used for, in bits of bytes. */
const PIECE_BITS = 30;

/**
 * The address space of one emulated function behind an SMMU. The StreamID is the requester id that comes
 * with each access, so it follows when the guest renumbers buses.
 */
export class SoftwareSpace implements DmaSpace {
  readonly kind = "iommu";
  private readonly entry = new Int32Array(STE_WORDS);

  constructor(
    readonly name: string,
    private readonly smmu: TranslatingSmmu,
  ) {}

  read(iova: bigint, out: Uint8Array, attributes: DmaAttributes): number {
    return this.transfer(iova, out, false, attributes);
  }

  write(iova: bigint, data: Uint8Array, attributes: DmaAttributes): number {
    return this.transfer(iova, data, true, attributes);
  }

  translate(iova: bigint, attributes: DmaAttributes): number | null {
    const { translator } = this.smmu;
    const answer = translator.translate(
      attributes.requesterId,
      attributes.pasid,
      highWord(iova),
      lowWord(iova),
      accessOf(true, attributes),
    );
    return answer === TRANSLATED || answer === BYPASSED ? toNumber(translator.outHigh, translator.outLow) : null;
  }

  /**
   * Translates piece by piece, each within what one translation covers. Bytes before a fault are transferred;
   * a read brings zeros for the rest, as QEMU's devices get them.
   */
  private transfer(iova: bigint, bytes: Uint8Array, isWrite: boolean, attributes: DmaAttributes): number {
    const { translator, memory } = this.smmu;
    const access = accessOf(isWrite, attributes);
    let high = highWord(iova);
    let low = lowWord(iova);
    let done = 0;
    while (done < bytes.length) {
      const answer = translator.translate(attributes.requesterId, attributes.pasid, high, low, access);
      this.trace(answer, high, low, isWrite, attributes.requesterId);
      if (translator.hasEvent) {
        this.record(attributes.requesterId, high, low);
      }
      const translated = answer === TRANSLATED || answer === BYPASSED;
      if (!translated && answer !== READ_AS_ZERO) {
        if (!isWrite) {
          bytes.fill(0, done);
        }
        return DMA_FAULT;
      }
      const size = 2 ** (translated ? Math.min(translator.outPageBits, PIECE_BITS) : 12);
      const step = Math.min(bytes.length - done, size - (low & (size - 1)));
      const piece = bytes.subarray(done, done + step);
      if (translated) {
        const address = toNumber(translator.outHigh, translator.outLow);
        const code = isWrite ? memory.writeBytes(address, piece, attributes) : memory.readBytes(address, piece, attributes);
        if (code !== DMA_OK) {
          return code;
        }
      } else if (!isWrite) {
        piece.fill(0);
      }
      done += step;
      const next = (low >>> 0) + step;
      low = next | 0;
      high = (high + (next > 0xffff_ffff ? 1 : 0)) | 0;
    }
    return DMA_OK;
  }

  private record(streamId: number, high: number, low: number): void {
    const { translator, log, id } = this.smmu;
    const number = translator.event[0] & 0xff;
    if (traceRecordEvent.on) {
      traceRecordEvent.emit(eventName(number), streamId);
    }
    log.guestError(
      "smmuv3.event",
      () =>
        `${id}: ${eventName(number)} for StreamID 0x${streamId.toString(16)} at 0x${toBigInt(high, low).toString(16)}` +
        (number <= EVENT.C_BAD_CD && translator.reason !== "" ? `: ${translator.reason}` : ""),
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
