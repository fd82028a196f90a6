import { levelShift } from "./geometry.js";
import {
  FIRST,
  FIRST_SUPERVISOR,
  FIRST_WRITE_PROTECT,
  SECOND,
  STAGE1,
  STAGE1_PAN,
  STAGE1_WXN,
  STAGE2,
  STAGE2_XNX,
} from "./permissions.js";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_RESERVED_FAULT,
  WALK_TRANSLATION_FAULT,
  type StageTables,
  type Tables,
  type X86Tables,
} from "./types.js";

/** VMSAv8-64 descriptors hold 48-bit output addresses (no FEAT_LPA, no FEAT_LPA2). */
const MOST_OUTPUT_BITS = 48;

/** x86 page-size bit: set in a leaf above the last level. */
const PAGE_SIZE = 0x80;

/** Levels are -1 to 3; tables by level are indexed by the level and this. */
export const LEVEL_OFFSET = 1;

/** What a level's descriptors are by their low words. */
export class LevelRules {
  /** A table is, and a leaf is, what equals the value under the mask. What is neither is a translation fault. */
  tableMask = 0;
  tableValue = -1;
  leafMask = 0;
  leafValue = -1;
  /** Bits that have to be zero in a table, and in a leaf. */
  tableReserved = 0;
  leafReserved = 0;
}

/**
 * One stage's tables in the form that walks read: the format of its descriptors as masks, small integers
 * only, one shape whoever made the tables.
 */
export class StageConfig {
  granuleBits = 12;
  startLevel = 0;
  /** Base of the first table; its size is 1 << firstTableBits bytes and the base is aligned to it. */
  baseHigh = 0;
  baseLow = 0;
  /** Mask of the index into the first table (concatenated tables have up to 4 bits more than others). */
  firstIndexMask = 0;
  /** Bits of an input address, and of an output address, that have to be zero. */
  inputBeyondHigh = 0;
  inputBeyondLow = 0;
  outputBeyondHigh = 0;
  outputBeyondLow = 0;
  /** What a stage-2 input beyond its bits is: a WALK_* code. */
  inputBeyondCode = WALK_TRANSLATION_FAULT;
  /** x86 first stage: high-word bits of an input address that are all equal, or the address is not canonical; else 0. */
  canonicalHigh = 0;
  /** The first table's base is no output address: every walk ends with an address size fault. */
  baseFaults = false;

  /** High-word bits of a descriptor that belong to its address. */
  addressHigh = 0xffff;
  /** Low-word bits without any of which a descriptor is not there. */
  presentBits = 1;
  /** Bit 0 where it alone says so, else 0. */
  presentBit = 1;
  /** What descriptors are by their low words, by level: see LEVEL_OFFSET. */
  readonly levels: readonly LevelRules[] = [new LevelRules(), new LevelRules(), new LevelRules(), new LevelRules(), new LevelRules()];
  /** High-word bits that have to be zero in a table descriptor and in a leaf; what it is when reserved bits are not. */
  tableReservedHigh = 0;
  leafReservedHigh = 0;
  reservedCode = WALK_ADDRESS_SIZE_FAULT;
  /** 1 where bit 11 of a stage-1 leaf says that it is not global, else 0. */
  globalBit = 1;

  /**
   * What entries permit: PERMISSIONS at `controls`, or-ed with these bits of the tables' high words (or-ed), of the
   * leaf's high word (both shifted by ATTRIBUTE_SHIFT) and of its low word.
   */
  controls = 0;
  hierarchicalMask = 0;
  highMask = 0;
  lowMask = 0;
  /** x86: each entry has permissions, and a translation what all of them grant; else the leaf's decide. */
  permissionsPerEntry = false;
  /** x86 first stage: without U/S an unprivileged access is refused before anything else. */
  hasUserBit = false;

  /** VMSAv8-64: descriptor bit 10 where its absence is a fault, else 0. */
  accessFlag = 0;
  protectedTableWalk = false;
  /** x86: bits that the walk sets in each entry it uses, and in the leaf of a write; 0 where it keeps none. */
  accessedBits = 0;
  dirtyBit = 0;
  updatesFault = false;
  /** What stage 2 has to permit of an entry whose accessed or dirty bit is to be set. */
  updateAccess = ACCESS_WRITE;

  /** @param stage which stage they are walked as: VMSAv8-64 tables do not tell it */
  constructor(
    tables: Tables,
    readonly stage: 1 | 2,
  ) {
    if (tables.format === undefined) {
      this.takeVmsa(tables);
    } else {
      this.takeX86(tables);
    }
  }

  private takeVmsa(tables: StageTables): void {
    const granuleBits = tables.granuleBits;
    this.granuleBits = granuleBits;
    this.startLevel = tables.startLevel;
    const firstShift = levelShift(granuleBits, tables.startLevel);
    const firstIndexBits = Math.max(0, tables.inputBits - firstShift);
    this.firstIndexMask = (1 << firstIndexBits) - 1;
    // The first table may be as small as one descriptor; TTBs have no bits below 16 (IHI 0070 5.4 CD.TTB0).
    const tableBits = Math.max(4, firstIndexBits + 3);
    this.baseHigh = tables.baseHigh & 0xffff;
    this.baseLow = tables.baseLow & ~((1 << tableBits) - 1);
    this.inputBeyondHigh = beyondHigh(tables.inputBits);
    this.inputBeyondLow = beyondLow(tables.inputBits);
    const outputBits = Math.min(MOST_OUTPUT_BITS, tables.outputBits);
    this.outputBeyondHigh = beyondHigh(outputBits);
    this.outputBeyondLow = beyondLow(outputBits);
    this.baseFaults = (tables.baseHigh & this.outputBeyondHigh) !== 0 || (this.baseLow & this.outputBeyondLow) !== 0;
    this.tableReservedHigh = this.leafReservedHigh = 0xffff & this.outputBeyondHigh;
    for (let level = 0; level <= 3; level++) {
      const rules = this.levels[level + LEVEL_OFFSET];
      // DDI 0487 D8.3.1: 0b11 is a table or, at the last level, a page; 0b01 a block where the level has blocks, else reserved.
      rules.tableMask = rules.leafMask = 3;
      rules.tableValue = level < 3 ? 3 : -1;
      rules.leafValue = level === 3 ? 3 : hasBlocks(granuleBits, level) ? 1 : -1;
      // A block's bits below its size are ignored; the largest block is 1 GiB.
      rules.tableReserved = this.outputBeyondLow & (-1 << granuleBits);
      rules.leafReserved = this.outputBeyondLow & (-1 << Math.min(31, levelShift(granuleBits, level)));
    }
    this.accessFlag = tables.accessFlagFaultsDisabled ? 0 : 0x400;
    // UXN, PXN (stage 2: XN) of bits 54:53; AP[2:1] (S2AP) of bits 7:6; the tables' of bits 62:59 (DDI 0487 D8.3).
    this.highMask = 0x60_0000;
    this.lowMask = 0xc0;
    if (this.stage === 1) {
      this.hierarchicalMask = tables.hierarchicalDisabled ? 0 : 0x7800_0000;
      this.controls =
        STAGE1 |
        (tables.writeImpliesNoExecute ? STAGE1_WXN : 0) |
        (tables.privilegedAccessNever === true ? STAGE1_PAN : 0);
    } else {
      this.globalBit = 0;
      this.controls = STAGE2 | (tables.executeNeverPerPrivilege === true ? STAGE2_XNX : 0);
    }
    this.protectedTableWalk = tables.protectedTableWalk === true;
  }

  private takeX86(tables: X86Tables): void {
    const first = tables.format === "first";
    this.startLevel = 4 - tables.levels;
    const firstShift = levelShift(12, this.startLevel);
    this.firstIndexMask = (1 << Math.min(9, Math.max(0, tables.inputBits - firstShift))) - 1;
    this.addressHigh = 0xf_ffff;
    this.baseHigh = tables.baseHigh & this.addressHigh;
    this.baseLow = tables.baseLow & ~0xfff;
    this.inputBeyondHigh = beyondHigh(tables.inputBits);
    this.inputBeyondLow = beyondLow(tables.inputBits);
    this.inputBeyondCode = WALK_ADDRESS_SIZE_FAULT;
    this.canonicalHigh = first ? beyondHigh(tables.inputBits - 1) : 0;
    this.outputBeyondHigh = beyondHigh(tables.outputBits) & this.addressHigh;
    this.outputBeyondLow = beyondLow(tables.outputBits);
    this.reservedCode = WALK_RESERVED_FAULT;
    // 9.8: bits 62:52 of first-stage entries are ignored, 63 is XD. 9.9: of second-stage ones 62 is transient mapping or reserved.
    this.tableReservedHigh = this.outputBeyondHigh | (first ? 0 : 0x4000_0000);
    this.leafReservedHigh = this.outputBeyondHigh | (first || tables.transientMapping === true ? 0 : 0x4000_0000);
    const addressReserved = this.outputBeyondLow & ~0xfff;
    // Bit 11 of second-stage leaves is SNP; elsewhere in that stage it is reserved.
    const leafReserved = addressReserved | (first || tables.snoopControl === true ? 0 : 0x800);
    for (let level = this.startLevel; level <= 3; level++) {
      const rules = this.levels[level + LEVEL_OFFSET];
      const large = level === 2 ? tables.pages2m : level === 1 && tables.pages1g;
      rules.tableMask = large ? PAGE_SIZE : 0;
      rules.tableValue = level === 3 ? -1 : 0;
      rules.leafMask = large ? PAGE_SIZE : 0;
      rules.leafValue = large ? PAGE_SIZE : level === 3 ? 0 : -1;
      rules.tableReserved = addressReserved | (first ? 0 : 0x800) | (large ? 0 : PAGE_SIZE);
      // Of a large page the bits below its size; bit 12 of first-stage ones is PAT.
      const offset = level === 3 ? 0 : (1 << levelShift(12, Math.max(1, level))) - 1;
      rules.leafReserved = leafReserved | (offset & (first ? ~0x1fff : ~0xfff));
    }
    this.presentBits = first ? 1 : 3;
    this.presentBit = first ? 1 : 0;
    this.globalBit = 0;
    this.permissionsPerEntry = true;
    this.hasUserBit = first;
    this.controls = first
      ? FIRST |
        (tables.writeProtect === true ? FIRST_WRITE_PROTECT : 0) |
        (tables.supervisor === true ? FIRST_SUPERVISOR : 0)
      : SECOND;
    this.highMask = first && tables.executeDisable === true ? 1 << 31 : 0;
    this.lowMask = first ? 6 : 3;
    if (first) {
      this.accessedBits = 0x20 | (tables.extendedAccessed === true ? 0x400 : 0);
      this.dirtyBit = 0x40;
    } else if (tables.accessedDirty === true) {
      this.accessedBits = 0x100;
      this.dirtyBit = 0x200;
    }
    this.updatesFault = tables.unsnoopedWalk === true;
    this.updateAccess = tables.updatesReadOnly === true ? ACCESS_READ : ACCESS_WRITE;
  }
}

/** Levels that have block descriptors with 48-bit addresses: 1 and 2 with 4K, 2 with 16K and 64K (DDI 0487 D8.3.1). */
function hasBlocks(granuleBits: number, level: number): boolean {
  return level === 2 || (level === 1 && granuleBits === 12);
}

/** High word of the address bits from `bits` on. */
function beyondHigh(bits: number): number {
  return bits >= 64 ? 0 : bits <= 32 ? -1 : -1 << (bits - 32);
}

/** Low word of the address bits from `bits` on. */
function beyondLow(bits: number): number {
  return bits >= 32 ? 0 : -1 << bits;
}
