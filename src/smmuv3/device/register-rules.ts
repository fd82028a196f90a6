import {
  CR0,
  CR2,
  extract,
  IDR0,
  IDR5,
  IRQ_CTRL,
  OAS_BITS,
  REG,
  type Field,
} from "../spec/index.js";

/** What has to be 0 for a write to count: a register is "Guarded" by it (Arm IHI 0070, 6.2). */
export const GUARD_NONE = 0;
export const GUARD_SMMUEN = 1;
export const GUARD_CMDQEN = 2;
export const GUARD_EVENTQEN = 3;
export const GUARD_GERROR_IRQEN = 4;
export const GUARD_EVENTQ_IRQEN = 5;
/** Writes never count. */
export const GUARD_READ_ONLY = 6;
/** CR1: TABLE_* by SMMUEN, QUEUE_* by the queues' enables (6.3.11). */
export const GUARD_CR1 = 7;

/** How one 32-bit word of page 0 is written. */
export interface RegisterRule {
  readonly name: string;
  /** Bytes from the start of page 0; 64-bit registers have two rules. */
  readonly offset: number;
  /** Bits that a write stores; the rest is RES0. */
  readonly mask: number;
  readonly guard: number;
}

/** Bits of GBPA that are stored (6.3.14); UPDATE reads as 0 since an update is done when its write returns. */
export const GBPA_STORED = 0x001f_3f1f;

/**
 * The write rules for an SMMU with these IDR0 to IDR5. Where the architecture lets a guarded write either
 * apply or be ignored (SMMUv3.1 and earlier), it is ignored: the only behaviour from SMMUv3.2 on.
 * Registers that are not listed are RES0.
 */
export function registerRules(idr: ArrayLike<number>): RegisterRule[] {
  const has = (f: Field): boolean => extract(idr[0], f) !== 0;
  const pick = (present: boolean, f: Field): number => (present ? f.inPlace : 0);
  const msi = has(IDR0.MSI);
  // Address bits at and above the OAS are RES0 and need not be stored (6.3.21, 6.3.24, 6.3.26).
  const oas = OAS_BITS[extract(idr[5], IDR5.OAS)];
  const addressHigh = (1 << (Math.min(52, oas) - 32)) - 1;
  const hint = 1 << 30;

  const rules: RegisterRule[] = [];
  const rule = (name: string, offset: number, mask: number, guard: number): void => {
    rules.push({ name, offset, mask: mask | 0, guard });
  };

  for (let n = 0; n < 6; n++) {
    rule(`IDR${n}`, REG.IDR0 + 4 * n, 0, GUARD_READ_ONLY);
  }
  rule("IIDR", REG.IIDR, 0, GUARD_READ_ONLY);
  rule("AIDR", REG.AIDR, 0, GUARD_READ_ONLY);
  rule(
    "CR0",
    REG.CR0,
    CR0.SMMUEN.inPlace |
      CR0.EVENTQEN.inPlace |
      CR0.CMDQEN.inPlace |
      pick(has(IDR0.ATS), CR0.ATSCHK) |
      pick(has(IDR0.VMW), CR0.VMW),
    GUARD_NONE,
  );
  rule("CR0ACK", REG.CR0ACK, 0, GUARD_READ_ONLY);
  rule("CR1", REG.CR1, 0xfff, GUARD_CR1);
  rule(
    "CR2",
    REG.CR2,
    CR2.RECINVSID.inPlace |
      pick(has(IDR0.HYP), CR2.E2H) |
      pick(has(IDR0.BTM), CR2.PTM) |
      pick(has(IDR0.ATSRECERR), CR2.REC_CFG_ATS),
    GUARD_SMMUEN,
  );
  rule("STATUSR", REG.STATUSR, 0, GUARD_READ_ONLY);
  rule("GBPA", REG.GBPA, GBPA_STORED, GUARD_NONE);
  rule("IRQ_CTRL", REG.IRQ_CTRL, IRQ_CTRL.GERROR_IRQEN.inPlace | IRQ_CTRL.EVENTQ_IRQEN.inPlace, GUARD_NONE);
  rule("IRQ_CTRLACK", REG.IRQ_CTRLACK, 0, GUARD_READ_ONLY);
  rule("GERROR", REG.GERROR, 0, GUARD_READ_ONLY);
  // What of it counts is `RegisterFile.acknowledge`'s to say.
  rule("GERRORN", REG.GERRORN, 0, GUARD_NONE);
  const interrupt = (name: string, offset: number, guard: number): void => {
    // 6.3.21 to 6.3.23: RES0 without IDR0.MSI.
    rule(`${name}_IRQ_CFG0`, offset, msi ? ~3 : 0, guard);
    rule(`${name}_IRQ_CFG0+4`, offset + 4, msi ? addressHigh : 0, guard);
    rule(`${name}_IRQ_CFG1`, offset + 8, msi ? -1 : 0, guard);
    rule(`${name}_IRQ_CFG2`, offset + 12, msi ? 0x3f : 0, guard);
  };
  interrupt("GERROR", REG.GERROR_IRQ_CFG0, GUARD_GERROR_IRQEN);
  rule("STRTAB_BASE", REG.STRTAB_BASE, ~0x3f, GUARD_SMMUEN);
  rule("STRTAB_BASE+4", REG.STRTAB_BASE + 4, addressHigh | hint, GUARD_SMMUEN);
  rule("STRTAB_BASE_CFG", REG.STRTAB_BASE_CFG, has(IDR0.ST_LEVEL) ? 0x307ff : 0x3f, GUARD_SMMUEN);
  rule("CMDQ_BASE", REG.CMDQ_BASE, -1, GUARD_CMDQEN);
  rule("CMDQ_BASE+4", REG.CMDQ_BASE + 4, addressHigh | hint, GUARD_CMDQEN);
  rule("CMDQ_PROD", REG.CMDQ_PROD, 0xf_ffff, GUARD_NONE);
  rule("CMDQ_CONS", REG.CMDQ_CONS, 0x7f0f_ffff, GUARD_CMDQEN);
  rule("EVENTQ_BASE", REG.EVENTQ_BASE, -1, GUARD_EVENTQEN);
  rule("EVENTQ_BASE+4", REG.EVENTQ_BASE + 4, addressHigh | hint, GUARD_EVENTQEN);
  rule("EVENTQ_PROD", REG.EVENTQ_PROD_PAGE0, 0x800f_ffff, GUARD_EVENTQEN);
  rule("EVENTQ_CONS", REG.EVENTQ_CONS_PAGE0, 0x800f_ffff, GUARD_NONE);
  interrupt("EVENTQ", REG.EVENTQ_IRQ_CFG0, GUARD_EVENTQ_IRQEN);
  return rules;
}

/** Offsets (page 0) of the 64-bit registers that exist: they take aligned 64-bit accesses (6.2). */
export const WIDE_REGISTERS: ReadonlySet<number> = new Set<number>([
  REG.GERROR_IRQ_CFG0,
  REG.STRTAB_BASE,
  REG.CMDQ_BASE,
  REG.EVENTQ_BASE,
  REG.EVENTQ_IRQ_CFG0,
]);
