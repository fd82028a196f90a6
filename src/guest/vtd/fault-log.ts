/** The primary fault log (Intel VT-d 5.x, 7.2): fault recording registers, read and cleared as Linux's dmar_fault does. */
import { extract, get, getWide } from "../../support/index.js";
import { FAULT, FAULT_RECORD_BYTES, FRCD, FSTS, REG, faultName } from "../../vtd/spec/index.js";
import type { DecodedEvent } from "../iommu/events.js";
import type { VtdFeatures } from "./features.js";
import type { VtdRegisters } from "./registers.js";

/** AT: the request asked for a translation, which leaves no other trace. */
const SECOND_STAGE_REASONS: ReadonlySet<number> = new Set([
  FAULT.PAGING_ENTRY_ACCESS,
  FAULT.WRITE,
  FAULT.READ,
  FAULT.PAGING_ENTRY_RESERVED,
  FAULT.ADDRESS_BEYOND_MGAW,
  FAULT.SM_SS_ACCESS,
  FAULT.SM_SS_NOT_PERMITTED,
  FAULT.SM_SS_RESERVED,
  FAULT.SM_SS_ROOT_ACCESS,
]);
const WALK_REASONS: ReadonlySet<number> = new Set<number>([
  ...SECOND_STAGE_REASONS,
  FAULT.SM_FS_ACCESS,
  FAULT.SM_FS_NOT_PRESENT,
  FAULT.SM_FS_RESERVED,
  FAULT.SM_FS_ROOT_ACCESS,
  FAULT.SM_NOT_CANONICAL,
  FAULT.SM_PRIVILEGE,
  FAULT.SM_EXECUTE,
  FAULT.SM_WRITE,
  FAULT.SM_READ,
]);

/** Decodes a record of four words. */
export function decodeFault(words: Int32Array, unit: string): DecodedEvent {
  const number = get(words, FRCD.FR);
  const event = {
    iommu: unit,
    name: faultName(number),
    number,
    streamId: get(words, FRCD.SID),
    substreamId: get(words, FRCD.PP) === 1 ? get(words, FRCD.PV) : null,
    inputAddress: getWide(words, FRCD.FI),
    ipa: 0n,
    fetchAddress: 0n,
    // Types 01 and 11 are a read and an AtomicOp; an AtomicOp is told by T2 (11.4.7.6).
    read: get(words, FRCD.T1) === 1 && get(words, FRCD.T2) === 0,
    instruction: get(words, FRCD.EXE) === 1,
    privileged: get(words, FRCD.PRIV) === 1,
    stage2: SECOND_STAGE_REASONS.has(number),
    faultClass: null,
    stall: false,
    stag: 0,
    translationRelated: WALK_REASONS.has(number),
    words: [...words].map((word) => word >>> 0),
  };
  return { ...event, text: describe(event, get(words, FRCD.AT)) };
}

function describe(event: Omit<DecodedEvent, "text">, type: number): string {
  const pasid = event.substreamId === null ? "" : ` PASID 0x${event.substreamId.toString(16)}`;
  const kind = `${["", "translation request ", "translated ", ""][type]}${event.read ? "read" : "write"}`;
  return `${event.name} source-id 0x${event.streamId.toString(16)}${pasid} ${kind} 0x${event.inputAddress.toString(16)}`;
}

export class FaultLog {
  /** How often records were lost. */
  overflows = 0;

  constructor(
    private readonly registers: VtdRegisters,
    private readonly features: VtdFeatures,
  ) {}

  /** Takes the pending records from the one on that FSTS names, and clears what says that there are some. */
  async drain(sink: (event: DecodedEvent) => void): Promise<void> {
    const { offset, count } = this.features.faultRecords;
    const fsts = await this.registers.read32(REG.FSTS);
    if (extract(fsts, FSTS.PPF) === 1) {
      let index = extract(fsts, FSTS.FRI);
      for (let taken = 0; taken < count; taken++, index = (index + 1) % count) {
        const at = offset + index * FAULT_RECORD_BYTES;
        const last = await this.registers.read32(at + 12);
        if (get(Int32Array.of(0, 0, 0, last), FRCD.F) === 0) {
          break;
        }
        const words = Int32Array.of(await this.registers.read32(at), await this.registers.read32(at + 4), await this.registers.read32(at + 8), last);
        await this.registers.write32(at + 12, FRCD.F.inPlace);
        sink(decodeFault(words, this.registers.name));
      }
    }
    if (extract(fsts, FSTS.PFO) === 1) {
      this.overflows++;
    }
    const clear = fsts & (FSTS.PFO.inPlace | FSTS.PPF.inPlace | FSTS.PRO.inPlace);
    if (clear !== 0) {
      await this.registers.write32(REG.FSTS, clear);
    }
  }
}
