/** A context entry and a PASID entry out of what a unit keeps of them: the fields that it goes by, the others zero. Equal words mean the same to it. */
import { pack } from "../../support/index.js";
import { CONTEXT, CONTEXT_ENTRY_WORDS, FSPM_5_LEVELS, PASID_ENTRY, PASID_ENTRY_WORDS, SM_CONTEXT, SM_CONTEXT_ENTRY_WORDS } from "../spec/index.js";
import type { ContextView } from "./context-entry.js";
import { PASID_FIRST_STAGE, PASID_NESTED, PASID_SECOND_STAGE, type PasidView } from "./pasid-entry.js";

/** Four words, in scalable mode eight; all zero but FPD: it lets nothing through. */
export function keptContext(view: ContextView): Int32Array {
  const { scalable, reason, stage2 } = view;
  const words = new Int32Array(scalable ? SM_CONTEXT_ENTRY_WORDS : CONTEXT_ENTRY_WORDS);
  if (reason !== 0) {
    return pack(CONTEXT, words, { FPD: view.faultsDisabled });
  }
  if (!scalable) {
    return pack(CONTEXT, words, {
      P: 1,
      FPD: view.faultsDisabled,
      TT: view.type,
      DID: view.domain,
      ...(stage2 === undefined ? {} : { AW: stage2.levels - 2, SSPTPTR: stage2.baseHigh * 0x1_0000_0000 + (stage2.baseLow >>> 0) }),
    });
  }
  return pack(SM_CONTEXT, words, {
    P: 1,
    FPD: view.faultsDisabled,
    DTE: view.deviceTlb,
    PASIDE: view.pasids,
    PDTS: Math.log2(view.pasidLimit) - 13,
    PASIDDIRPTR: view.directory,
    RID_PASID: view.ridPasid,
    RID_PRIV: view.ridPrivileged,
  });
}

/** Sixteen words; all zero but FPD: it lets nothing through. */
export function keptPasid(view: PasidView): Int32Array {
  const words = new Int32Array(PASID_ENTRY_WORDS);
  if (view.kind <= 0) {
    return pack(PASID_ENTRY, words, { FPD: view.faultsDisabled });
  }
  const first = view.kind === PASID_FIRST_STAGE || view.kind === PASID_NESTED;
  const second = view.kind === PASID_SECOND_STAGE || view.kind === PASID_NESTED;
  return pack(PASID_ENTRY, words, {
    P: 1,
    FPD: view.faultsDisabled,
    PGTT: view.kind,
    DID: view.domain,
    PWSNP: view.walkSnoop,
    PGSNP: view.pageSnoop,
    SRE: view.supervisor,
    ERE: view.execute,
    ...(second ? { AW: view.secondStageLevels - 2, SSADE: view.accessedDirty, SSPTPTR: view.secondStagePointer } : {}),
    ...(first ? { FSPM: view.firstStageLevels === 5 ? FSPM_5_LEVELS : 0, WPE: view.writeProtect, NXE: view.executeDisable, EAFE: view.extendedAccessed, FSPTPTR: view.firstStagePointer } : {}),
  });
}
