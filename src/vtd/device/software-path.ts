import { type AddressSpace, type DmaAttributes, REFUSED, RESOLVED, TranslatedSpace } from "../../memory/index.js";
import { toBigInt } from "../../support/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../translation/index.js";
import { traceDmarTranslate, traceTranslatePt } from "./trace.js";
import { BYPASSED, TRANSLATED, type VtdTranslator } from "../lookup/index.js";

/** What the software path needs of its unit. */
export interface TranslatingUnit {
  readonly translator: VtdTranslator;
  /** Where translated accesses go. */
  readonly memory: AddressSpace;
  /** Takes a fault recording register's four words. */
  recordFault(record: Int32Array): void;
}

/**
 * The address space of one emulated function behind a VT-d unit. The source id is the requester id that comes
 * with each access, so it follows when the guest renumbers buses. An interrupt message is a write to the
 * interrupt range of system memory, where the machine has it remapped.
 */
export class SoftwareSpace extends TranslatedSpace {
  constructor(
    name: string,
    private readonly unit: TranslatingUnit,
  ) {
    super(name, unit.memory);
  }

  protected resolve(high: number, low: number, isWrite: boolean, attributes: DmaAttributes, quiet: boolean): number {
    const { translator } = this.unit;
    const access =
      (isWrite ? ACCESS_WRITE : ACCESS_READ) |
      (attributes.execute && !isWrite ? ACCESS_EXECUTE : 0) |
      (attributes.privileged ? ACCESS_PRIVILEGED : 0);
    const answer = translator.translate(attributes.requesterId, attributes.pasid, high, low, access);
    if (translator.hasFault && !quiet) {
      this.unit.recordFault(translator.record);
    }
    if (answer < 0) {
      return REFUSED;
    }
    this.outHigh = translator.outHigh;
    this.outLow = translator.outLow;
    this.outPageBits = translator.outPageBits;
    if (!quiet) {
      this.trace(answer, high, low, attributes.requesterId);
    }
    return RESOLVED;
  }

  private trace(answer: number, high: number, low: number, sourceId: number): void {
    if (answer === TRANSLATED && traceDmarTranslate.on) {
      traceDmarTranslate.emit(
        sourceId >> 8,
        (sourceId >> 3) & 0x1f,
        sourceId & 7,
        toBigInt(high, low),
        toBigInt(this.outHigh, this.outLow),
        (1n << BigInt(this.outPageBits)) - 1n,
      );
    } else if (answer === BYPASSED && this.unit.translator.enabled && traceTranslatePt.on) {
      traceTranslatePt.emit(sourceId, toBigInt(high, low));
    }
  }
}
