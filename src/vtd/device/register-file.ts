import { extract, get } from "../../support/index.js";
import { capabilityRegister, extendedCapabilityRegister, VERSION, type VtdProperties } from "./capabilities.js";
import {
  CAP,
  CCMD,
  ECAP,
  EVENT_CONTROL,
  FAULT_RECORD_BYTES,
  FRCD,
  FSTS,
  ICS,
  IOTLB_REG_OFFSET,
  IQ_POINTER_MASK,
  REG,
} from "../spec/index.js";

/** Bytes of the register region. The registers end within the first 0x240 of them; the rest reads as zero. */
export const REGISTER_BYTES = 0x1000;
const FILE_WORDS = 0x240 / 4;

const index = (offset: number): number => offset >> 2;

/**
 * The registers: what is stored, which writes count, what reads. What a write sets off is the device's.
 * Masks are QEMU 11.1's, which are those of Intel VT-d 11.4 for what CAP and ECAP show.
 */
/** 64 bits wide; those whose place depends on the capabilities come with them. */
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

export class RegisterFile {
  readonly words = new Int32Array(FILE_WORDS);
  /** Offset in bytes of IVA, with IOTLB behind it, and of the fault recording registers; their number. */
  readonly ivaOffset: number;
  readonly iotlbOffset: number;
  readonly faultOffset: number;
  readonly faultRecords: number;
  private readonly initial = new Int32Array(FILE_WORDS);
  private readonly stored = new Int32Array(FILE_WORDS);
  private readonly cleared = new Int32Array(FILE_WORDS);
  private readonly hidden = new Int32Array(FILE_WORDS);

  constructor(properties: VtdProperties) {
    const cap = capabilityRegister(properties);
    const ecap = extendedCapabilityRegister(properties);
    this.ivaOffset = get(ecap, ECAP.IRO) * 16;
    this.iotlbOffset = this.ivaOffset + IOTLB_REG_OFFSET;
    this.faultOffset = (get(cap, CAP.FRO_LOW) | (get(cap, CAP.FRO_HIGH) << 8)) * 16;
    this.faultRecords = get(cap, CAP.NFR) + 1;

    const { initial } = this;
    initial[index(REG.VER)] = VERSION;
    initial.set(cap, index(REG.CAP));
    initial.set(ecap, index(REG.ECAP));
    initial[index(REG.FECTL)] = EVENT_CONTROL.IM.inPlace;
    initial[index(REG.IECTL)] = EVENT_CONTROL.IM.inPlace;

    const allow = (offset: number, low: number, high?: number): void => {
      this.stored[index(offset)] = low;
      if (high !== undefined) {
        this.stored[index(offset) + 1] = high;
      }
    };
    // Global commands read as zero: what they brought about is in GSTS (11.4.4.1).
    allow(REG.RTADDR, ~0x3ff, -1);
    // CCMD.SID and FM are write-only, IVA altogether; the granularity that was performed is read-only (11.4.6).
    allow(REG.CCMD, -1, CCMD.FM.inPlace | CCMD.CIRG.inPlace | CCMD.ICC.inPlace);
    this.hidden[index(REG.CCMD)] = CCMD.SID.inPlace;
    this.hidden[index(REG.CCMD) + 1] = CCMD.FM.inPlace;
    allow(this.ivaOffset, ~0xf80, -1);
    this.hidden[index(this.ivaOffset)] = -1;
    this.hidden[index(this.ivaOffset) + 1] = -1;
    allow(this.iotlbOffset, 0, 0xb003_ffff | 0);
    this.cleared[index(REG.FSTS)] = FSTS.PFO.inPlace | FSTS.IQE.inPlace;
    allow(REG.FECTL, EVENT_CONTROL.IM.inPlace);
    allow(REG.FEDATA, 0xffff);
    allow(REG.FEADDR, ~3);
    allow(REG.IQT, IQ_POINTER_MASK, 0);
    allow(REG.IQA, ~0x7f8, -1);
    this.cleared[index(REG.ICS)] = ICS.IWC.inPlace;
    allow(REG.IECTL, EVENT_CONTROL.IM.inPlace);
    allow(REG.IEDATA, -1);
    allow(REG.IEADDR, ~3);
    allow(REG.IRTA, ~0x7f0, -1);
    if (extract(ecap[0], ECAP.EIM) !== 0) {
      // Upper halves of the message addresses go with 32-bit APIC ids (11.4.7.5, 11.4.8.8).
      allow(REG.FEUADDR, -1);
      allow(REG.IEUADDR, -1);
    }
    if (get(ecap, ECAP.PRS) !== 0) {
      allow(REG.PQH, 0x7_ffe0, 0);
      allow(REG.PQT, 0x7_ffe0, 0);
      allow(REG.PQA, ~0xff8, -1);
      this.cleared[index(REG.PRS)] = 3;
      allow(REG.PECTL, EVENT_CONTROL.IM.inPlace);
      initial[index(REG.PECTL)] = 0;
      allow(REG.PEDATA, 0xffff);
      allow(REG.PEADDR, ~3);
      allow(REG.PEUADDR, -1);
    }
    for (let record = 0; record < this.faultRecords; record++) {
      const last = index(this.faultOffset) + (record * FAULT_RECORD_BYTES) / 4 + FRCD.F.word;
      this.cleared[last] = FRCD.F.inPlace;
    }
    this.reset();
  }

  reset(): void {
    this.words.set(this.initial);
  }

  /** The stored word at a multiple of 4. */
  word(offset: number): number {
    return this.words[index(offset)];
  }

  set(offset: number, value: number): void {
    this.words[index(offset)] = value;
  }

  /** What a 32-bit read gives: signed word. */
  read(offset: number): number {
    const at = index(offset);
    return at < FILE_WORDS ? this.words[at] & ~this.hidden[at] : 0;
  }

  /** A 32-bit write: bits that may be stored are, bits that are cleared by 1 are cleared. False where nothing of the word can be written. */
  write(offset: number, value: number): boolean {
    const at = index(offset);
    if (at >= FILE_WORDS || (this.stored[at] | this.cleared[at]) === 0) {
      return false;
    }
    const kept = this.words[at] & ~this.stored[at];
    this.words[at] = (kept & ~(value & this.cleared[at])) | (value & this.stored[at]);
    return true;
  }

  get cap(): Int32Array {
    return this.initial.subarray(index(REG.CAP), index(REG.CAP) + 2);
  }

  get ecap(): Int32Array {
    return this.initial.subarray(index(REG.ECAP), index(REG.ECAP) + 2);
  }

  /** They take aligned accesses of 4 bytes, and of 8 where they are 64 bits wide (11.2). */
  serves(offset: number, size: number): boolean {
    const { ivaOffset, iotlbOffset, faultOffset, faultRecords } = this;
    const wide =
      WIDE_REGISTERS.has(offset) ||
      offset === ivaOffset ||
      offset === iotlbOffset ||
      (offset >= faultOffset && offset < faultOffset + 16 * faultRecords && offset % 8 === 0);
    return offset >= 0 && offset + size <= REGISTER_BYTES && ((size === 4 && offset % 4 === 0) || (size === 8 && wide));
  }
}
