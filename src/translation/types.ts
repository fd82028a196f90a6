/**
 * What a walk over page tables needs and gives: VMSAv8-64 (Arm DDI 0487, chapter D8), and the first-stage and
 * second-stage tables of Intel VT-d (specification 4.1, chapters 3.6 to 3.8 and 9). The same code serves the
 * vIOMMUs' software path and the simulated hardware.
 */

/** Access of a transaction, or-ed. A plain data read by an unprivileged master is ACCESS_READ alone. */
export const ACCESS_READ = 1;
export const ACCESS_WRITE = 2;
/** Instruction fetch (InD). It is checked against the execute permission alone: VMSAv8-64 has execute-only pages (DDI 0487 D8.4.1). */
export const ACCESS_EXECUTE = 4;
/** Privileged (PnU; with VT-d the PASID prefix's privileged-mode-requested bit). */
export const ACCESS_PRIVILEGED = 8;

/**
 * Permissions of a translation, or-ed: three for unprivileged accesses, and the same three moved by
 * PERM_PRIVILEGED_SHIFT for privileged ones. `permits` in permissions.ts checks an access against them.
 */
export const PERM_READ = 1;
export const PERM_WRITE = 2;
export const PERM_EXECUTE = 4;
export const PERM_PRIVILEGED_READ = 8;
export const PERM_PRIVILEGED_WRITE = 16;
export const PERM_PRIVILEGED_EXECUTE = 32;
export const PERM_PRIVILEGED_SHIFT = 3;
export const PERM_ALL = 63;

/** Results of a walk. Zero is success, every fault is negative. */
export const WALK_OK = 0;
export const WALK_TRANSLATION_FAULT = -1;
export const WALK_ACCESS_FLAG_FAULT = -2;
export const WALK_PERMISSION_FAULT = -3;
export const WALK_ADDRESS_SIZE_FAULT = -4;
/** A descriptor could not be fetched (external abort): F_WALK_EABT. */
export const WALK_EXTERNAL_ABORT = -5;
/** A descriptor has a reserved bit set (x86 tables; address bits beyond the host's width are such). */
export const WALK_RESERVED_FAULT = -6;
/** An accessed or dirty bit could not be written: the memory refused it, or the walk is not snooped (X86Tables.unsnoopedWalk). */
export const WALK_UPDATE_FAULT = -7;

/** One stage's tables in either family of formats. Immutable once made: walkers know them by identity. */
export type Tables = StageTables | X86Tables;

/** VMSAv8-64: one stage's tables, decoded from a CD, an STE or a kernel's page table. Immutable once made. */
export interface StageTables {
  /** What tells them from X86Tables. */
  readonly format?: undefined;
  /** log2 of the granule in bytes: 12, 14 or 16. */
  readonly granuleBits: 12 | 14 | 16;
  /** Bits of input address that the tables cover: 64 - TxSZ. */
  readonly inputBits: number;
  /** Level of the first lookup, 0 to 3 (derived from inputBits for stage 1, S2SL0 for stage 2). */
  readonly startLevel: number;
  /** Table base address, aligned to the (concatenated) first table. */
  readonly baseHigh: number;
  readonly baseLow: number;
  /** Bits of output address (effective IPS or S2PS): larger ones in a descriptor are an address size fault. */
  readonly outputBits: number;
  /** Access flag faults are disabled (CD.AFFD, STE.S2AFFD). */
  readonly accessFlagFaultsDisabled: boolean;
  /** Stage 1 only: hierarchical attributes of table descriptors are ignored (CD.HPD0/HPD1). */
  readonly hierarchicalDisabled: boolean;
  /** Stage 1 only: writable implies not executable (CD.WXN). What EL0 may write is never privileged-executable, whatever CD.UWXN says (VMSAv8-64). */
  readonly writeImpliesNoExecute: boolean;
  /** Stage 1 only: no privileged data access to what EL0 may access (CD.PAN). Default false. */
  readonly privilegedAccessNever?: boolean;
  /** Stage 2 only: XN[1:0] tells privileged from unprivileged execution (SMMU_IDR3.XNX). Default false: XN[1] alone counts. */
  readonly executeNeverPerPrivilege?: boolean;
  /** Stage 2 only: a stage-1 descriptor in Device memory is a permission fault (STE.S2PTW). Default false. */
  readonly protectedTableWalk?: boolean;
}

/**
 * Intel VT-d: one stage's tables of 4-KiB pages and 512 entries each, decoded from a context entry or a PASID
 * table entry (specification 3.6, 3.7, 9.8, 9.9). Immutable once made.
 *
 * Levels in results count as for VMSAv8-64: 3 is a table of 4-KiB pages, 2 one of 2 MiB (directory), 1 one of
 * 1 GiB, 0 one of 512 GiB (PML4), -1 a PML5.
 */
export interface X86Tables {
  /** "first": bits P, R/W, U/S as the processor has them; "second": R and W, an entry with neither is not present. */
  readonly format: "first" | "second";
  /** 4 or 5 of a first stage, 3 to 5 of a second stage. */
  readonly levels: 3 | 4 | 5;
  /** Address of the first table; bits 11:0 are ignored. */
  readonly baseHigh: number;
  readonly baseLow: number;
  /**
   * Bits of input address, at most what the levels resolve. First stage, 48 or 57: the bits above equal the
   * highest of them (canonical); second stage, the smaller of AGAW and MGAW: the bits above are zero. Else
   * WALK_ADDRESS_SIZE_FAULT.
   */
  readonly inputBits: number;
  /** Host address width: address bits from here to 51 are reserved in entries. */
  readonly outputBits: number;
  /** Entries of 2 MiB and of 1 GiB are supported (second stage CAP.SLLPS, first stage CAP.FL1GP); else the page-size bit is reserved. */
  readonly pages2m: boolean;
  readonly pages1g: boolean;
  /** First stage: privileged requests are allowed (PASID entry SRE); without it they have no permission. Default false. */
  readonly supervisor?: boolean;
  /** First stage: R/W counts for privileged writes too (WPE). Default false. */
  readonly writeProtect?: boolean;
  /** First stage: bit 63 of an entry forbids instruction fetches; else it is ignored. Default false. */
  readonly executeDisable?: boolean;
  /** First stage: the extended-accessed bit (10) is set beside the accessed bit (EAFE). Default false. */
  readonly extendedAccessed?: boolean;
  /** Second stage: bits 8 and 9 are accessed and dirty bits that the walk keeps (SSADE). Default false; a first stage always keeps its own. */
  readonly accessedDirty?: boolean;
  /** Second stage: bit 11 of a leaf is the snoop behaviour (ECAP.SC, scalable mode); else it is reserved. Default false. */
  readonly snoopControl?: boolean;
  /** Second stage: bit 62 of a leaf is transient mapping, ignored here (device TLBs of old revisions); else it is reserved. Default false. */
  readonly transientMapping?: boolean;
  /** The walk does not snoop caches (PWSNP clear on hardware that heeds it): an accessed or dirty bit that has to be set is WALK_UPDATE_FAULT. */
  readonly unsnoopedWalk?: boolean;
  /** First stage, nested: its accessed and dirty bits are set where the second stage lets them be read alone (erratum 772415). Default false. */
  readonly updatesReadOnly?: boolean;
}
