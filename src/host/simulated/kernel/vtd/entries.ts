/**
 * The context and PASID table entries that the kernel's driver writes (Linux drivers/iommu/intel/pasid.c,
 * iommu.c; Intel VT-d 9.3, 9.4, 9.6).
 */
import { putAddress } from "../../../../support/index.js";
import {
  CONTEXT,
  CONTEXT_ENTRY_WORDS,
  FSPM_4_LEVELS,
  FSPM_5_LEVELS,
  PASID_ENTRY,
  PASID_ENTRY_WORDS,
  PGTT_FIRST_STAGE,
  PGTT_NESTED,
  PGTT_SECOND_STAGE,
  SM_CONTEXT,
  SM_CONTEXT_ENTRY_WORDS,
  TT_DEVICE_TLB,
  TT_UNTRANSLATED_ONLY,
} from "../../../../vtd/spec/index.js";
import type { GuestTable } from "./nested-domain.js";
import type { VtdPagingDomain } from "./paging-domain.js";
import type { PasidTable } from "./pasid-table.js";
import { compose } from "./remapping-tables.js";

/** Legacy mode: requests go through a second stage, or (null) are blocked. */
export function legacyContext(domain: VtdPagingDomain | null, domainId: number, ats: boolean): Int32Array {
  if (domain === null) {
    return new Int32Array(CONTEXT_ENTRY_WORDS);
  }
  const words = compose(CONTEXT_ENTRY_WORDS, [
    [CONTEXT.P, 1],
    [CONTEXT.TT, ats ? TT_DEVICE_TLB : TT_UNTRANSLATED_ONLY],
    [CONTEXT.AW, domain.levels - 2],
    [CONTEXT.DID, domainId],
  ]);
  putAddress(words, CONTEXT.SSPTPTR, domain.root);
  return words;
}

/** Scalable mode: the function's PASID table; requests without PASID use PASID 0. */
export function scalableContext(pasids: PasidTable, ats: boolean, pasidsAllowed: boolean): Int32Array {
  const words = compose(SM_CONTEXT_ENTRY_WORDS, [
    [SM_CONTEXT.P, 1],
    [SM_CONTEXT.DTE, ats],
    [SM_CONTEXT.PASIDE, pasidsAllowed],
    [SM_CONTEXT.PDTS, pasids.sizeField],
  ]);
  putAddress(words, SM_CONTEXT.PASIDDIRPTR, pasids.directory);
  return words;
}

/** A domain of the kernel's own, first or second stage. */
export function pagingEntry(domain: VtdPagingDomain, domainId: number, snoopedWalks: boolean): Int32Array {
  const first = domain.stage === 1;
  const words = compose(PASID_ENTRY_WORDS, [
    [PASID_ENTRY.P, 1],
    [PASID_ENTRY.PGTT, first ? PGTT_FIRST_STAGE : PGTT_SECOND_STAGE],
    [PASID_ENTRY.DID, domainId],
    [PASID_ENTRY.PWSNP, snoopedWalks],
    // A second stage has the snoop bit in its leaves.
    [PASID_ENTRY.PGSNP, first && domain.enforcedSnoop],
    [PASID_ENTRY.AW, first ? 0 : domain.levels - 2],
    [PASID_ENTRY.SSADE, !first && domain.isTracking],
    [PASID_ENTRY.FSPM, first && domain.levels === 5 ? FSPM_5_LEVELS : FSPM_4_LEVELS],
  ]);
  putAddress(words, first ? PASID_ENTRY.FSPTPTR : PASID_ENTRY.SSPTPTR, domain.root);
  return words;
}

/** A guest's first stage on top of a parent. */
export function nestedEntry(guest: GuestTable, parent: VtdPagingDomain, domainId: number, snoopedWalks: boolean): Int32Array {
  const words = compose(PASID_ENTRY_WORDS, [
    [PASID_ENTRY.P, 1],
    [PASID_ENTRY.PGTT, PGTT_NESTED],
    [PASID_ENTRY.DID, domainId],
    [PASID_ENTRY.PWSNP, snoopedWalks],
    [PASID_ENTRY.PGSNP, parent.enforcedSnoop],
    [PASID_ENTRY.AW, parent.levels - 2],
    [PASID_ENTRY.SSADE, parent.isTracking],
    [PASID_ENTRY.FSPM, guest.addressBits === 57 ? FSPM_5_LEVELS : FSPM_4_LEVELS],
    [PASID_ENTRY.SRE, guest.supervisor],
    // Linux sets WPE together with SRE alone: without supervisor requests it has no meaning.
    [PASID_ENTRY.WPE, guest.supervisor && guest.writeProtect],
    [PASID_ENTRY.EAFE, guest.extendedAccess],
  ]);
  putAddress(words, PASID_ENTRY.SSPTPTR, parent.root);
  putAddress(words, PASID_ENTRY.FSPTPTR, guest.pointer);
  return words;
}
