import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  PERM_EXECUTE,
  PERM_PRIVILEGED_EXECUTE,
  PERM_PRIVILEGED_READ,
  PERM_PRIVILEGED_SHIFT,
  PERM_PRIVILEGED_WRITE,
  PERM_READ,
  PERM_WRITE,
} from "./types.js";

/**
 * The PERM_* bits that an access needs, by its ACCESS_* bits. An instruction fetch needs execution only;
 * an access that neither reads nor writes (a probe) needs nothing.
 */
export const REQUIRED_PERMISSIONS: Uint8Array = Uint8Array.from({ length: 16 }, (_unused, access) => {
  let needed = 0;
  if ((access & ACCESS_EXECUTE) !== 0) {
    needed |= PERM_EXECUTE;
  } else if ((access & ACCESS_READ) !== 0) {
    needed |= PERM_READ;
  }
  if ((access & ACCESS_WRITE) !== 0) {
    needed |= PERM_WRITE;
  }
  return (access & ACCESS_PRIVILEGED) !== 0 ? needed << PERM_PRIVILEGED_SHIFT : needed;
});

/** Whether permissions (PERM_*) allow an access (ACCESS_*). */
export function permits(permissions: number, access: number): boolean {
  return (REQUIRED_PERMISSIONS[access & 15] & ~permissions) === 0;
}

/** Offsets into PERMISSIONS: where each format begins, and a stage's controls, to be or-ed. */
export const STAGE1 = 0;
export const STAGE1_WXN = 0x1000;
export const STAGE1_PAN = 0x2000;
export const STAGE2 = 0x4000;
/** Stage 2 where XN is two bits (FEAT_XNX). */
export const STAGE2_XNX = 0x10;
export const SECOND = 0x4100;
export const FIRST = 0x8000;
export const FIRST_WRITE_PROTECT = 8;
export const FIRST_SUPERVISOR = 0x10;
/** By how much a high word's attributes are shifted to be part of an index; a low word's are not shifted. */
export const ATTRIBUTE_SHIFT = 19;

/**
 * What entries of the four formats permit, in one sparse table, so that a walk indexes one constant with masked
 * words and shifts that do not depend on the format.
 */
export const PERMISSIONS = new Uint8Array(0x9020);
for (let i = 0; i < 1024; i++) {
  PERMISSIONS[STAGE1 | ((i & 3) << 6) | (i & 0xc) | ((i & 0x3f0) << 4)] = stage1Permissions(i);
}
for (let i = 0; i < 32; i++) {
  PERMISSIONS[STAGE2 | ((i & 3) << 6) | (i & 0x1c)] = stage2Permissions(i);
  PERMISSIONS[FIRST | ((i & 3) << 1) | ((i & 4) << 10) | (i & 0x18)] = firstPermissions(i);
}
for (let i = 0; i < 4; i++) {
  PERMISSIONS[SECOND | i] = secondPermissions(i);
}

/**
 * VMSAv8-64 stage 1, by what the tables say: index bits 3:0 are the leaf's UXN, PXN, AP[2], AP[1], bits 7:4 the
 * or of the tables' APTable[1], APTable[0], UXNTable, PXNTable, bit 8 WXN, bit 9 PAN.
 */
function stage1Permissions(index: number): number {
  // DDI 0487 D8.4.2: APTable[1] takes away writes, APTable[0] everything of EL0, UXNTable and PXNTable execution.
  const unprivileged = (index & 1) !== 0 && (index & 0x40) === 0;
  const readOnly = (index & 2) !== 0 || (index & 0x80) !== 0;
  const pxn = (index & 4) !== 0 || (index & 0x10) !== 0;
  const uxn = (index & 8) !== 0 || (index & 0x20) !== 0;
  const wxn = (index & 0x100) !== 0;
  const pan = (index & 0x200) !== 0;
  // DDI 0487 D8.4.1, AP[2:1]: EL1 reads always, writes unless AP[2]; EL0 the same where AP[1] is set.
  const unprivilegedWrite = unprivileged && !readOnly;
  let permissions = 0;
  if (unprivileged) {
    permissions |= PERM_READ | (readOnly ? 0 : PERM_WRITE);
  }
  if (!(pan && unprivileged)) {
    permissions |= PERM_PRIVILEGED_READ | (readOnly ? 0 : PERM_PRIVILEGED_WRITE);
  }
  if (!uxn && !(wxn && unprivilegedWrite)) {
    permissions |= PERM_EXECUTE;
  }
  // What EL0 may write is treated as PXN; WXN takes execution from what the same privilege may write.
  if (!pxn && !unprivilegedWrite && !(wxn && !readOnly)) {
    permissions |= PERM_PRIVILEGED_EXECUTE;
  }
  return permissions;
}

/** VMSAv8-64 stage 2: index bits 1:0 are S2AP, bits 3:2 XN[1:0], bit 4 says that XN tells the privileges apart. */
function stage2Permissions(index: number): number {
  const xn = (index >> 2) & 3;
  let permissions = 0;
  if ((index & 1) !== 0) {
    permissions |= PERM_READ | PERM_PRIVILEGED_READ;
  }
  if ((index & 2) !== 0) {
    permissions |= PERM_WRITE | PERM_PRIVILEGED_WRITE;
  }
  // DDI 0487 D8.4.3: without FEAT_XNX XN[1] is XN and XN[0] is ignored; with it 00 both, 01 EL0 only, 10 none, 11 EL1 only.
  const both = (index & STAGE2_XNX) === 0 ? (xn & 2) === 0 : xn === 0;
  const xnx = (index & STAGE2_XNX) !== 0;
  if (both || (xnx && xn === 1)) {
    permissions |= PERM_EXECUTE;
  }
  if (both || (xnx && xn === 3)) {
    permissions |= PERM_PRIVILEGED_EXECUTE;
  }
  return permissions;
}

/**
 * One entry of a VT-d first stage; a translation has what all its entries grant. Index bits 2:0 are XD (where it
 * counts), U/S and R/W of the entry, bit 3 is WPE, bit 4 SRE (VT-d specification 3.6.2).
 */
function firstPermissions(index: number): number {
  const writable = (index & 1) !== 0;
  const execute = (index & 4) === 0;
  let permissions = 0;
  if ((index & 2) !== 0) {
    permissions |= PERM_READ | (writable ? PERM_WRITE : 0) | (execute ? PERM_EXECUTE : 0);
  }
  if ((index & FIRST_SUPERVISOR) !== 0) {
    const write = writable || (index & FIRST_WRITE_PROTECT) === 0;
    permissions |= PERM_PRIVILEGED_READ | (write ? PERM_PRIVILEGED_WRITE : 0) | (execute ? PERM_PRIVILEGED_EXECUTE : 0);
  }
  return permissions;
}

/** The same of a second stage: index bits 1:0 are W and R; a fetch is a read, as execution is not told apart (ECAP.ERS clear). */
function secondPermissions(index: number): number {
  return (
    ((index & 1) !== 0 ? PERM_READ | PERM_PRIVILEGED_READ | PERM_EXECUTE | PERM_PRIVILEGED_EXECUTE : 0) |
    ((index & 2) !== 0 ? PERM_WRITE | PERM_PRIVILEGED_WRITE : 0)
  );
}
