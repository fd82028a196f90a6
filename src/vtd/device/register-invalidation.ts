/** Register-based invalidation (Intel VT-d 6.5.1, 11.4.6): CCMD, and IVA with IOTLB. */
import { deposit, extract, get, type Log, toBigInt } from "../../support/index.js";
import { CAP, CCMD, GCMD, GRANULARITY_SELECTIVE, IOTLB_REG, IVA, REG, TTM_LEGACY } from "../spec/index.js";
import type { CacheInvalidations } from "./cache-invalidations.js";
import type { Completions } from "./completions.js";
import type { RegisterFile } from "./register-file.js";

export interface RegisterInvalidationParts {
  readonly id: string;
  readonly registers: RegisterFile;
  readonly invalidations: CacheInvalidations;
  readonly completions: Completions;
  readonly log: Log;
}

export class RegisterInvalidation {
  constructor(private readonly parts: RegisterInvalidationParts) {}

  /** Not beside queued invalidation, and in legacy mode alone (6.5.1, 11.4.6.1). */
  private get registersInvalidate(): boolean {
    return (this.parts.registers.word(REG.GSTS) & GCMD.QIE.inPlace) === 0 && this.parts.invalidations.tableMode === TTM_LEGACY;
  }

  /** CCMD was written. */
  contextCommand(): void {
    const { registers, completions } = this.parts;
    const high = registers.word(REG.CCMD + 4);
    if ((high & CCMD.ICC.inPlace) === 0) {
      return;
    }
    const low = registers.word(REG.CCMD);
    const granularity = this.registersInvalidate ? extract(high, CCMD.CIRG) : 0;
    if (granularity === 0) {
      // 11.4.6.1: CAIG 0 tells that nothing was done.
      this.parts.log.guestError("vtd.ccmd", () => `${this.parts.id}: CCMD 0x${toBigInt(high, low).toString(16)} is not performed`);
    } else {
      this.parts.invalidations.contextCache(granularity, extract(low, CCMD.DID), extract(low, CCMD.SID), extract(high, CCMD.FM));
    }
    completions.whenFollowed(REG.CCMD, () => registers.set(REG.CCMD + 4, deposit(high & ~CCMD.ICC.inPlace, CCMD.CAIG, granularity)));
  }

  /** IOTLB was written. */
  iotlbCommand(): void {
    const { registers, completions } = this.parts;
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
      this.parts.log.guestError("vtd.iotlb", () => `${this.parts.id}: IOTLB 0x${toBigInt(high, 0).toString(16)} is not performed`);
    } else {
      this.parts.invalidations.iotlb(granularity, extract(high, IOTLB_REG.DID), iva[1], iva[0] & IVA.ADDR.lowMask, get(iva, IVA.AM));
    }
    completions.whenFollowed(at, () => registers.set(at, deposit(high & ~IOTLB_REG.IVT.inPlace, IOTLB_REG.IAIG, granularity)));
  }
}
