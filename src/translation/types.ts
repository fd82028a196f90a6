/**
 * What a walk over VMSAv8-64 tables needs and gives (Arm DDI 0487, chapter D8). The same code serves the
 * vIOMMU's software path and the simulated hardware.
 */

/** Access of a transaction, or-ed. A plain data read by an unprivileged master is ACCESS_READ alone. */
export const ACCESS_READ = 1;
export const ACCESS_WRITE = 2;
/** Instruction fetch (InD). It is checked against the execute permission alone: VMSAv8-64 has execute-only pages (DDI 0487 D8.4.1). */
export const ACCESS_EXECUTE = 4;
/** Privileged (PnU). */
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

/** One stage's tables, decoded from a CD, an STE or a kernel's page table. Immutable once made. */
export interface StageTables {
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
  /** Stage 1 only: writable implies not executable (CD.WXN), and writable by EL0 implies not privileged-executable (CD.UWXN). */
  readonly writeImpliesNoExecute: boolean;
  /** Kept for the record: what EL0 may write is never privileged-executable in VMSAv8-64, whatever CD.UWXN says (IHI 0070 5.4). */
  readonly unprivilegedWriteImpliesNoPrivilegedExecute: boolean;
  /** Stage 1 only: no privileged data access to what EL0 may access (CD.PAN). Default false. */
  readonly privilegedAccessNever?: boolean;
  /** Stage 2 only: XN[1:0] tells privileged from unprivileged execution (SMMU_IDR3.XNX). Default false: XN[1] alone counts. */
  readonly executeNeverPerPrivilege?: boolean;
  /** Stage 2 only: a stage-1 descriptor in Device memory is a permission fault (STE.S2PTW). Default false. */
  readonly protectedTableWalk?: boolean;
}
