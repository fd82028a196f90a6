import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  WALK_ACCESS_FLAG_FAULT,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_TRANSLATION_FAULT,
  type StageTables,
} from "../../src/translation/index.js";

/**
 * A second implementation of the walks to compare with: BigInt, one rule a line, slow, sharing no code with
 * the walkers but the codes.
 */
export interface OracleResult {
  code: number;
  out?: bigint;
  pageBits?: number;
  permissions?: number;
  level?: number;
  global?: boolean;
  faultStage?: number;
  faultLevel?: number;
  faultOnTableWalk?: boolean;
  faultIpa?: bigint;
  fetch?: bigint;
}

/** The 64-bit word at a physical address, or undefined where nothing answers. */
export type Load = (address: bigint) => bigint | undefined;

interface Leaf {
  descriptor: bigint;
  level: number;
  bits: number;
  tables: bigint[];
}

const bits = (value: bigint, high: number, low: number): bigint => (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
const bit = (value: bigint, at: number): boolean => bits(value, at, at) === 1n;

export class Oracle {
  constructor(private readonly load: Load) {}

  walkStage1(tables: StageTables, iova: bigint, access: number): OracleResult {
    return this.stage1(tables, undefined, iova, access);
  }

  walkNested(stage1: StageTables, stage2: StageTables, iova: bigint, access: number): OracleResult {
    return this.stage1(stage1, stage2, iova, access);
  }

  walkStage2(tables: StageTables, ipa: bigint, access: number): OracleResult {
    const result = this.stage2(tables, ipa, access);
    return result.code === WALK_OK ? { ...result, global: false } : { ...result, faultOnTableWalk: false };
  }

  private stage1(stage1: StageTables, stage2: StageTables | undefined, iova: bigint, access: number): OracleResult {
    const input = iova & ((1n << BigInt(stage1.inputBits)) - 1n);
    const leaf = this.find(1, stage1, stage2, input);
    if ("code" in leaf) {
      return leaf;
    }
    const d = leaf.descriptor;
    const hierarchical = stage1.hierarchicalDisabled ? [] : leaf.tables;
    const el0 = bit(d, 6) && !hierarchical.some((t) => bit(t, 61));
    const readOnly = bit(d, 7) || hierarchical.some((t) => bit(t, 62));
    const uxn = bit(d, 54) || hierarchical.some((t) => bit(t, 60));
    const pxn = bit(d, 53) || hierarchical.some((t) => bit(t, 59));
    const el0Write = el0 && !readOnly;
    const el1Data = !(stage1.privilegedAccessNever === true && el0);
    const el0Execute = !uxn && !(stage1.writeImpliesNoExecute && el0Write);
    const el1Execute = !pxn && !el0Write && !(stage1.writeImpliesNoExecute && !readOnly);
    const permissions =
      (el0 ? 1 : 0) | (el0Write ? 2 : 0) | (el0Execute ? 4 : 0) | (el1Data ? 8 : 0) | (el1Data && !readOnly ? 16 : 0) | (el1Execute ? 32 : 0);
    if (!allowed(permissions, access)) {
      return fault(WALK_PERMISSION_FAULT, 1, leaf.level);
    }
    const out = address(leaf, input);
    const ok = { code: WALK_OK, out, pageBits: leaf.bits, permissions, level: leaf.level, global: !bit(d, 11) };
    if (stage2 === undefined) {
      return ok;
    }
    const second = this.stage2(stage2, out, access);
    if (second.code !== WALK_OK) {
      return { ...second, faultOnTableWalk: false };
    }
    return { ...ok, out: second.out, pageBits: Math.min(leaf.bits, second.pageBits!), permissions: permissions & second.permissions! };
  }

  private stage2(tables: StageTables, ipa: bigint, access: number): OracleResult & { device?: boolean } {
    if (ipa >> BigInt(tables.inputBits) !== 0n) {
      return { ...fault(WALK_TRANSLATION_FAULT, 2, 0), faultIpa: ipa };
    }
    const leaf = this.find(2, tables, undefined, ipa);
    if ("code" in leaf) {
      return { ...leaf, faultIpa: ipa };
    }
    const d = leaf.descriptor;
    const xn = Number(bits(d, 54, 53));
    const el0Execute = tables.executeNeverPerPrivilege === true ? xn === 0 || xn === 1 : xn < 2;
    const el1Execute = tables.executeNeverPerPrivilege === true ? xn === 0 || xn === 3 : xn < 2;
    const data = Number(bits(d, 7, 6));
    const permissions = data | (data << 3) | (el0Execute ? 4 : 0) | (el1Execute ? 32 : 0);
    if (!allowed(permissions, access)) {
      return { ...fault(WALK_PERMISSION_FAULT, 2, leaf.level), faultIpa: ipa };
    }
    return { code: WALK_OK, out: address(leaf, ipa), pageBits: leaf.bits, permissions, level: leaf.level, device: bits(d, 5, 4) === 0n };
  }

  private find(stage: 1 | 2, tables: StageTables, through: StageTables | undefined, input: bigint): Leaf | OracleResult {
    const granule = tables.granuleBits;
    const stride = granule - 3;
    const outputBits = BigInt(Math.min(48, tables.outputBits));
    const shiftOf = (level: number): number => granule + stride * (3 - level);
    const tableBytes = 1n << BigInt(Math.max(4, tables.inputBits - shiftOf(tables.startLevel) + 3));
    let table = (BigInt(tables.baseHigh >>> 0) << 32n) | BigInt(tables.baseLow >>> 0);
    table -= table % tableBytes;
    if (table >> outputBits !== 0n) {
      return fault(WALK_ADDRESS_SIZE_FAULT, stage, 0);
    }
    const passed: bigint[] = [];
    for (let level = tables.startLevel; ; level++) {
      const top = level === tables.startLevel ? tables.inputBits : shiftOf(level) + stride;
      const index = top > shiftOf(level) ? bits(input, top - 1, shiftOf(level)) : 0n;
      let at = table + index * 8n;
      if (through !== undefined) {
        const second = this.stage2(through, at, ACCESS_READ);
        if (second.code !== WALK_OK) {
          return { ...second, faultOnTableWalk: true };
        }
        if (through.protectedTableWalk === true && second.device === true) {
          return { ...fault(WALK_PERMISSION_FAULT, 2, second.level!), faultIpa: at, faultOnTableWalk: true };
        }
        at = second.out!;
      }
      const descriptor = this.load(at);
      if (descriptor === undefined) {
        return { ...fault(WALK_EXTERNAL_ABORT, stage, level), fetch: at };
      }
      const blocks = granule === 12 ? [1, 2] : [2];
      if (!bit(descriptor, 0) || (!bit(descriptor, 1) && !blocks.includes(level))) {
        return fault(WALK_TRANSLATION_FAULT, stage, level);
      }
      const isTable = level < 3 && bit(descriptor, 1);
      const low = isTable ? granule : shiftOf(level);
      const next = bits(descriptor, 47, low) << BigInt(low);
      if (next >> outputBits !== 0n) {
        return fault(WALK_ADDRESS_SIZE_FAULT, stage, level);
      }
      if (!isTable) {
        if (!bit(descriptor, 10) && !tables.accessFlagFaultsDisabled) {
          return fault(WALK_ACCESS_FLAG_FAULT, stage, level);
        }
        return { descriptor, level, bits: shiftOf(level), tables: passed };
      }
      passed.push(descriptor);
      table = next;
    }
  }
}

function address(leaf: Leaf, input: bigint): bigint {
  return (bits(leaf.descriptor, 47, leaf.bits) << BigInt(leaf.bits)) | bits(input, leaf.bits - 1, 0);
}

function allowed(permissions: number, access: number): boolean {
  const own = (access & ACCESS_PRIVILEGED) !== 0 ? permissions >> 3 : permissions;
  const read = (access & ACCESS_EXECUTE) !== 0 ? (own & 4) !== 0 : (access & ACCESS_READ) === 0 || (own & 1) !== 0;
  return read && ((access & ACCESS_WRITE) === 0 || (own & 2) !== 0);
}

function fault(code: number, faultStage: 1 | 2, faultLevel: number): OracleResult {
  return { code, faultStage, faultLevel, faultOnTableWalk: false, faultIpa: 0n };
}
