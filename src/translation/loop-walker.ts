import { MEMORY_OK, type WordMemory } from "../memory/index.js";
import { levelShift } from "./geometry.js";
import { REQUIRED_PERMISSIONS, STAGE1_PERMISSIONS, STAGE2_PERMISSIONS } from "./permissions.js";
import { StageConfig } from "./stage-config.js";
import {
  ACCESS_READ,
  WALK_ACCESS_FLAG_FAULT,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_TRANSLATION_FAULT,
  type StageTables,
} from "./types.js";

/**
 * Walks VMSAv8-64 translation tables in physical memory (Arm DDI 0487 D8.2, D8.3): stage 1, stage 2, and
 * stage 1 with every descriptor fetch and the output going through stage 2.
 *
 * A walk returns a WALK_* code and leaves its results in the fields below; they hold until the next walk.
 * Nothing is cached and nothing is written to memory (no HTTU: a clear access flag is a fault unless
 * disabled, DBM is ignored).
 */
export class LoopWalker {
  /** Output address of exactly the input address; after WALK_OK. Physical, or an IPA after walkStage1 alone. */
  outHigh = 0;
  outLow = 0;
  /** log2 bytes of the mapping that holds it; of a nested walk the smaller of both stages'. */
  outPageBits = 0;
  /** PERM_* that all walked stages grant. */
  outPermissions = 0;
  /** Level of the descriptor that ended the walk; of a nested walk stage 1's. */
  outLevel = 0;
  /** 1 where stage 1 says that the translation is the same for all ASIDs (nG clear); 0 for stage 2 alone. */
  outGlobal = 0;

  /** Which stage faulted: 1 or 2. */
  faultStage = 1;
  /** Lookup level of the fault. */
  faultLevel = 0;
  /** 1 where stage 2 faulted on the fetch of a stage-1 descriptor (event CLASS TT), else 0 (CLASS IN). */
  faultOnTableWalk = 0;
  /** The IPA of a stage-2 fault, all its bits; else 0. */
  faultHigh = 0;
  faultLow = 0;
  /** Physical address of the descriptor that could not be fetched (F_WALK_EABT.FetchAddr); after WALK_EXTERNAL_ABORT. */
  fetchHigh = 0;
  fetchLow = 0;

  private tables1: StageTables | undefined;
  private tables2: StageTables | undefined;
  private config1!: StageConfig;
  private config2!: StageConfig;

  /** Result of `descend`. */
  private leafHigh = 0;
  private leafLow = 0;
  private leafBits = 0;
  private leafLevel = 0;
  private tableAttributes = 0;

  /** Result of `load`. */
  private loadedHigh = 0;
  private loadedLow = 0;

  constructor(protected readonly memory: WordMemory) {}

  /**
   * Stage 1 alone. `iova` is reduced to the tables' input bits: the caller chose the tables and checked the
   * bits above with `selectStage1Range`.
   */
  walkStage1(tables: StageTables, iovaHigh: number, iovaLow: number, access: number): number {
    this.useStage1(tables);
    return this.stage1(false, iovaHigh, iovaLow, access);
  }

  /** Stage 2 alone. An IPA beyond the tables' input bits is a translation fault of level 0. */
  walkStage2(tables: StageTables, ipaHigh: number, ipaLow: number, access: number): number {
    this.useStage2(tables);
    const code = this.stage2(ipaHigh, ipaLow, access);
    if (code !== WALK_OK) {
      this.faultOnTableWalk = 0;
      return code;
    }
    this.outLevel = this.leafLevel;
    this.outGlobal = 0;
    return WALK_OK;
  }

  /** Stage 1 whose addresses are IPAs that stage 2 translates. */
  walkNested(stage1: StageTables, stage2: StageTables, iovaHigh: number, iovaLow: number, access: number): number {
    this.useStage1(stage1);
    this.useStage2(stage2);
    return this.stage1(true, iovaHigh, iovaLow, access);
  }

  /** The tables' configuration; the last one of each stage is kept. */
  protected useStage1(tables: StageTables): StageConfig {
    if (tables !== this.tables1) {
      this.config1 = new StageConfig(tables);
      this.tables1 = tables;
    }
    return this.config1;
  }

  protected useStage2(tables: StageTables): StageConfig {
    if (tables !== this.tables2) {
      this.config2 = new StageConfig(tables);
      this.tables2 = tables;
    }
    return this.config2;
  }

  private stage1(nested: boolean, iovaHigh: number, iovaLow: number, access: number): number {
    const config = this.config1;
    const high = iovaHigh & ~config.inputBeyondHigh;
    const low = iovaLow & ~config.inputBeyondLow;
    const code = this.descend(config, nested, high, low);
    if (code !== WALK_OK) {
      return code;
    }
    // The attributes: UXN, PXN of bits 54:53, AP[2:1] of bits 7:6; the tables' of bits 62:59 (DDI 0487 D8.3).
    const permissions =
      STAGE1_PERMISSIONS[
        config.stage1Controls |
          (((this.tableAttributes & config.hierarchicalMask) >>> 27) << 4) |
          (((this.leafHigh >>> 21) & 3) << 2) |
          ((this.leafLow >>> 6) & 3)
      ];
    if ((REQUIRED_PERMISSIONS[access & 15] & ~permissions) !== 0) {
      return this.fault(1, WALK_PERMISSION_FAULT, this.leafLevel);
    }
    const level = this.leafLevel;
    const pageBits = this.leafBits;
    const global = (this.leafLow & 0x800) === 0 ? 1 : 0;
    this.combine(low);
    this.outPageBits = pageBits;
    this.outPermissions = permissions;
    if (nested) {
      const nestedCode = this.stage2(this.outHigh, this.outLow, access);
      if (nestedCode !== WALK_OK) {
        this.faultOnTableWalk = 0;
        return nestedCode;
      }
      this.outPermissions &= permissions;
      this.outPageBits = Math.min(pageBits, this.outPageBits);
    }
    this.outLevel = level;
    this.outGlobal = global;
    return WALK_OK;
  }

  /** Stage 2 of one IPA, checked against `access`; fills out*, or the fault but for faultOnTableWalk. */
  private stage2(ipaHigh: number, ipaLow: number, access: number): number {
    const config = this.config2;
    let code: number;
    if ((ipaHigh & config.inputBeyondHigh) !== 0 || (ipaLow & config.inputBeyondLow) !== 0) {
      // DDI 0487 D8.2.4: outside the input range, a level 0 translation fault.
      code = this.fault(2, WALK_TRANSLATION_FAULT, 0);
    } else {
      code = this.descend(config, false, ipaHigh, ipaLow, 2);
    }
    if (code === WALK_OK) {
      const permissions =
        STAGE2_PERMISSIONS[config.stage2Controls | (((this.leafHigh >>> 21) & 3) << 2) | ((this.leafLow >>> 6) & 3)];
      if ((REQUIRED_PERMISSIONS[access & 15] & ~permissions) !== 0) {
        code = this.fault(2, WALK_PERMISSION_FAULT, this.leafLevel);
      } else {
        this.combine(ipaLow);
        this.outPageBits = this.leafBits;
        this.outPermissions = permissions;
        return WALK_OK;
      }
    }
    this.faultHigh = ipaHigh;
    this.faultLow = ipaLow;
    return code;
  }

  /** Puts the leaf's address and the input's offset in its page together into out. */
  private combine(low: number): void {
    const offsetMask = (1 << this.leafBits) - 1;
    this.outHigh = this.leafHigh & 0xffff;
    this.outLow = (this.leafLow & ~offsetMask) | (low & offsetMask);
  }

  /** Follows tables to the leaf of an address within the input range. Leaves leaf*, tableAttributes. */
  private descend(config: StageConfig, nested: boolean, high: number, low: number, stage: 1 | 2 = 1): number {
    const granuleBits = config.granuleBits;
    const stride = granuleBits - 3;
    let level = config.startLevel;
    let shift = levelShift(granuleBits, level);
    let tableHigh = config.baseHigh;
    let tableLow = config.baseLow;
    let mask = config.firstIndexMask;
    let attributes = 0;
    if (config.baseFaults) {
      return this.fault(stage, WALK_ADDRESS_SIZE_FAULT, 0);
    }
    for (;;) {
      const index = (shift >= 32 ? high >>> (shift - 32) : (high << (32 - shift)) | (low >>> shift)) & mask;
      let entryHigh = tableHigh;
      let entryLow = tableLow | (index << 3);
      if (nested) {
        const code = this.stage2(entryHigh, entryLow, ACCESS_READ);
        if (code !== WALK_OK) {
          this.faultOnTableWalk = 1;
          return code;
        }
        // DDI 0487 D8.4.3, HCR_EL2.PTW; IHI 0070 5.2 STE.S2PTW: tables are not in Device memory (MemAttr[3:2] zero).
        if (this.config2.protectedTableWalk && (this.leafLow & 0x30) === 0) {
          this.faultHigh = entryHigh;
          this.faultLow = entryLow;
          this.faultOnTableWalk = 1;
          return this.fault(2, WALK_PERMISSION_FAULT, this.leafLevel);
        }
        entryHigh = this.outHigh;
        entryLow = this.outLow;
      }
      if (!this.load(entryHigh, entryLow)) {
        this.fetchHigh = entryHigh;
        this.fetchLow = entryLow;
        return this.fault(stage, WALK_EXTERNAL_ABORT, level);
      }
      const descriptorLow = this.loadedLow;
      const descriptorHigh = this.loadedHigh;
      const kind = descriptorLow & 3;
      // DDI 0487 D8.3.1: bit 0 clear is invalid; 0b01 is a block where the level has blocks, else reserved.
      if ((kind & 1) === 0 || (kind === 1 && !hasBlocks(granuleBits, level))) {
        return this.fault(stage, WALK_TRANSLATION_FAULT, level);
      }
      const isTable = kind === 3 && level < 3;
      // A block's bits below its size are ignored; the largest block is 1 GiB.
      const addressLow = descriptorLow & (-1 << (isTable ? granuleBits : shift));
      if ((descriptorHigh & 0xffff & config.outputBeyondHigh) !== 0 || (addressLow & config.outputBeyondLow) !== 0) {
        return this.fault(stage, WALK_ADDRESS_SIZE_FAULT, level);
      }
      if (!isTable) {
        if ((descriptorLow & config.accessFlag) !== config.accessFlag) {
          return this.fault(stage, WALK_ACCESS_FLAG_FAULT, level);
        }
        this.leafHigh = descriptorHigh;
        this.leafLow = descriptorLow;
        this.leafBits = shift;
        this.leafLevel = level;
        this.tableAttributes = attributes;
        return WALK_OK;
      }
      attributes |= descriptorHigh;
      tableHigh = descriptorHigh & 0xffff;
      tableLow = addressLow;
      level++;
      shift -= stride;
      mask = (1 << stride) - 1;
    }
  }

  /** Loads a descriptor: from the flat part at once, from elsewhere by asking the memory. */
  private load(high: number, low: number): boolean {
    const memory = this.memory;
    const offset = high * 0x1_0000_0000 + (low >>> 0) - memory.flatBase;
    if (offset >= 0 && offset < memory.flatBytes) {
      const at = offset / 4;
      this.loadedLow = memory.flat[at];
      this.loadedHigh = memory.flat[at + 1];
      return true;
    }
    if (memory.load64(high, low) !== MEMORY_OK) {
      return false;
    }
    this.loadedLow = memory.loadedLow;
    this.loadedHigh = memory.loadedHigh;
    return true;
  }

  private fault(stage: 1 | 2, code: number, level: number): number {
    this.faultStage = stage;
    this.faultLevel = level;
    if (stage === 1) {
      this.faultOnTableWalk = 0;
      this.faultHigh = 0;
      this.faultLow = 0;
    }
    return code;
  }
}

/** Levels that have block descriptors with 48-bit addresses: 1 and 2 with 4K, 2 with 16K and 64K (DDI 0487 D8.3.1). */
function hasBlocks(granuleBits: number, level: number): boolean {
  return level === 2 || (level === 1 && granuleBits === 12);
}
