import { loadSettled, MEMORY_CHANGED, MEMORY_OK, type WordMemory } from "../memory/index.js";
import { highWord, lowWord } from "../support/index.js";
import { levelShift } from "./geometry.js";
import { ATTRIBUTE_SHIFT, PERMISSIONS, REQUIRED_PERMISSIONS } from "./permissions.js";
import { LEVEL_OFFSET, StageConfig } from "./stage-config.js";
import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  PERM_ALL,
  PERM_PRIVILEGED_SHIFT,
  PERM_READ,
  WALK_ACCESS_FLAG_FAULT,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_TRANSLATION_FAULT,
  WALK_UPDATE_FAULT,
  type Tables,
} from "./types.js";

/** An entry was changed by another while its bits were to be set: the walk begins again. Seen by no caller. */
const WALK_CHANGED = -100;

/** Walks of one access that begin again, before it ends with an update fault: entries that change all the time. */
const MOST_RESTARTS = 16;

/**
 * Walks translation tables in physical memory: stage 1, stage 2, and stage 1 with every descriptor fetch and
 * the output going through stage 2. VMSAv8-64 (Arm DDI 0487 D8.2, D8.3) and Intel VT-d's first and second stage
 * (specification 3.6 to 3.8) are the same walk with other masks (`StageConfig`).
 *
 * A walk returns a WALK_* code and leaves its results in the fields below; they hold until the next walk.
 * Nothing is cached. VMSAv8-64 tables are not written (no HTTU: a clear access flag is a fault unless disabled,
 * DBM is ignored). In x86 tables the walk sets accessed bits in each entry that it uses, and the dirty bit of
 * the leaf that a write ends at: in one step with the entry being what the walk has read (VT-d specification 3.6.3).
 */
export class LoopWalker {
  /** Output address of exactly the input address; after WALK_OK. Physical, or an IPA after walkStage1 alone. */
  outHigh = 0;
  outLow = 0;
  /** log2 bytes of the mapping that holds it; of a nested walk the smaller of both stages'. */
  outPageBits = 0;
  /** log2 bytes of the leaf itself; of a nested walk stage 1's. */
  outLeafBits = 0;
  /** PERM_* that all walked stages grant. */
  outPermissions = 0;
  /** Level of the descriptor that ended the walk; of a nested walk stage 1's. */
  outLevel = 0;
  /** 1 where stage 1 says that the translation is the same for all ASIDs (nG clear); 0 for stage 2 alone and for x86 tables. */
  outGlobal = 0;
  /** Not 0 where a leaf's dirty bit is kept and still clear: who caches the translation leaves the write permissions out, so that a write walks. */
  outClean = 0;

  /** Which stage faulted: 1 or 2. */
  faultStage = 1;
  /** Lookup level of the fault. */
  faultLevel = 0;
  /** 1 where stage 2 faulted on the fetch of a stage-1 descriptor (event CLASS TT), or on the update of its accessed and dirty bits; else 0 (CLASS IN). */
  faultOnTableWalk = 0;
  /** Lookup level of the stage-1 descriptor whose fetch or update stage 2 faulted on; after faultOnTableWalk. */
  faultTableLevel = 0;
  /**
   * What was not permitted, after WALK_PERMISSION_FAULT: ACCESS_PRIVILEGED alone where an x86 first stage has the
   * page for supervisors only, else those of ACCESS_READ, ACCESS_WRITE and ACCESS_EXECUTE that were asked for and
   * denied. 0 for a stage-1 table in Device memory (protectedTableWalk).
   */
  faultAccess = 0;
  /** The IPA of a stage-2 fault, all its bits; else 0. */
  faultHigh = 0;
  faultLow = 0;
  /** Physical address of the descriptor that could not be fetched (F_WALK_EABT.FetchAddr); after WALK_EXTERNAL_ABORT. */
  fetchHigh = 0;
  fetchLow = 0;

  private tables1: Tables | undefined;
  private tables2: Tables | undefined;
  private readonly configs1 = new WeakMap<Tables, StageConfig>();
  private readonly configs2 = new WeakMap<Tables, StageConfig>();
  private config1!: StageConfig;
  private config2!: StageConfig;

  /** Result of `descend`. */
  private leafHigh = 0;
  private leafLow = 0;
  private leafBits = 0;
  private leafLevel = 0;
  /** What the descriptors grant, and the leaf's own address, as the tables that led there have it. */
  private leafPermissions = 0;
  private leafAtHigh = 0;
  private leafAtLow = 0;

  /** The memory's flat part as `load` knows it. */
  private knownBase = -1;
  private knownBytes = 0;
  private flatPartHigh = 0;
  private flatPartLow = 0;
  private flatPartWords = 0;

  /** Result of `load`: the walk's own. */
  loadedHigh = 0;
  loadedLow = 0;
  private restarts = 0;

  constructor(protected readonly memory: WordMemory) {}

  /**
   * Stage 1 alone. Of VMSAv8-64 tables `iova` is reduced to the tables' input bits: the caller chose the tables
   * and checked the bits above with `selectStage1Range`. Of a VT-d first stage the whole address counts.
   */
  walkStage1(tables: Tables, iovaHigh: number, iovaLow: number, access: number): number {
    this.useStage1(tables);
    return this.untilUnchanged(false, iovaHigh, iovaLow, access);
  }

  /** Stage 2 alone. An IPA beyond the tables' input bits is a translation fault of level 0 (x86: an address size fault). */
  walkStage2(tables: Tables, ipaHigh: number, ipaLow: number, access: number): number {
    this.useStage2(tables);
    this.restarts = 0;
    let code: number;
    do {
      code = this.stage2(ipaHigh, ipaLow, access);
    } while (code === WALK_CHANGED);
    if (code !== WALK_OK) {
      this.faultOnTableWalk = 0;
      return code;
    }
    this.outLevel = this.leafLevel;
    this.outGlobal = 0;
    return WALK_OK;
  }

  /** Stage 1 whose addresses are IPAs that stage 2 translates. */
  walkNested(stage1: Tables, stage2: Tables, iovaHigh: number, iovaLow: number, access: number): number {
    this.useStage1(stage1);
    this.useStage2(stage2);
    return this.untilUnchanged(true, iovaHigh, iovaLow, access);
  }

  private untilUnchanged(nested: boolean, iovaHigh: number, iovaLow: number, access: number): number {
    this.restarts = 0;
    for (;;) {
      const code = this.stage1(nested, iovaHigh, iovaLow, access);
      if (code !== WALK_CHANGED) {
        return code;
      }
    }
  }

  /** The tables' configuration, made once. */
  protected useStage1(tables: Tables): StageConfig {
    if (tables !== this.tables1) {
      this.config1 = configOf(this.configs1, tables, 1);
      this.tables1 = tables;
    }
    return this.config1;
  }

  protected useStage2(tables: Tables): StageConfig {
    if (tables !== this.tables2) {
      this.config2 = configOf(this.configs2, tables, 2);
      this.tables2 = tables;
    }
    return this.config2;
  }

  private stage1(nested: boolean, iovaHigh: number, iovaLow: number, access: number): number {
    const config = this.config1;
    // VT-d specification 3.6: bits above the width equal its highest one.
    const sign = iovaHigh & config.canonicalHigh;
    if (sign !== 0 && sign !== config.canonicalHigh) {
      return this.fault(1, WALK_ADDRESS_SIZE_FAULT, config.startLevel);
    }
    const high = iovaHigh & ~config.inputBeyondHigh;
    const low = iovaLow & ~config.inputBeyondLow;
    const code = this.descend(config, nested, high, low, access);
    if (code !== WALK_OK) {
      return code;
    }
    let permissions = this.leafPermissions;
    const level = this.leafLevel;
    const pageBits = this.leafBits;
    const global = (~this.leafLow >>> 11) & config.globalBit;
    const leafHigh = this.leafHigh;
    const leafLow = this.leafLow;
    const leafAtHigh = this.leafAtHigh;
    const leafAtLow = this.leafAtLow;
    this.combine(config, low);
    let outHigh = this.outHigh;
    let outLow = this.outLow;
    let outPageBits = pageBits;
    let clean = 0;
    if (nested) {
      const nestedCode = this.stage2(outHigh, outLow, access);
      if (nestedCode !== WALK_OK) {
        this.faultOnTableWalk = 0;
        return nestedCode;
      }
      outHigh = this.outHigh;
      outLow = this.outLow;
      outPageBits = Math.min(pageBits, this.outPageBits);
      permissions &= this.outPermissions;
      clean = this.outClean;
    }
    // The leaf's own bits come last: an access that stage 2 refuses leaves no trace in it.
    const bits = wantedBits(config, access);
    if ((leafLow & bits) !== bits) {
      const updateCode = this.update(config, nested, leafAtHigh, leafAtLow, leafHigh, leafLow, bits, level);
      if (updateCode !== WALK_OK) {
        return updateCode;
      }
    }
    this.outHigh = outHigh;
    this.outLow = outLow;
    this.outPageBits = outPageBits;
    this.outLeafBits = pageBits;
    this.outPermissions = permissions;
    this.outLevel = level;
    this.outGlobal = global;
    this.outClean = clean | (~(leafLow | bits) & config.dirtyBit);
    return WALK_OK;
  }

  /** Stage 2 of one IPA, checked against `access`; fills out*, or the fault but for faultOnTableWalk. */
  private stage2(ipaHigh: number, ipaLow: number, access: number): number {
    const config = this.config2;
    let code: number;
    if ((ipaHigh & config.inputBeyondHigh) !== 0 || (ipaLow & config.inputBeyondLow) !== 0) {
      // DDI 0487 D8.2.4: outside the input range, a level 0 translation fault. VT-d specification 3.7: beyond the width.
      code = this.fault(2, config.inputBeyondCode, config.inputBeyondCode === WALK_TRANSLATION_FAULT ? 0 : config.startLevel);
    } else {
      code = this.descend(config, false, ipaHigh, ipaLow, access);
    }
    if (code === WALK_OK) {
      const bits = wantedBits(config, access);
      if ((this.leafLow & bits) !== bits) {
        code = this.update(config, false, this.leafAtHigh, this.leafAtLow, this.leafHigh, this.leafLow, bits, this.leafLevel);
      }
      if (code === WALK_OK) {
        this.outClean = ~(this.leafLow | bits) & config.dirtyBit;
        this.combine(config, ipaLow);
        this.outPageBits = this.leafBits;
        this.outLeafBits = this.leafBits;
        this.outPermissions = this.leafPermissions;
        return WALK_OK;
      }
    }
    this.faultHigh = ipaHigh;
    this.faultLow = ipaLow;
    return code;
  }

  /** Puts the leaf's address and the input's offset in its page together into out. */
  private combine(config: StageConfig, low: number): void {
    const offsetMask = (1 << this.leafBits) - 1;
    this.outHigh = this.leafHigh & config.addressHigh;
    this.outLow = (this.leafLow & ~offsetMask) | (low & offsetMask);
  }

  /** Follows tables to the leaf of an address within the input range, which `access` may use. Leaves leaf*. */
  private descend(config: StageConfig, nested: boolean, high: number, low: number, access: number): number {
    const granuleBits = config.granuleBits;
    const stride = granuleBits - 3;
    const stage = config.stage;
    let level = config.startLevel;
    let shift = levelShift(granuleBits, level);
    let tableHigh = config.baseHigh;
    let tableLow = config.baseLow;
    let mask = config.firstIndexMask;
    let attributes = 0;
    let permissions = PERM_ALL;
    if (config.baseFaults) {
      return this.fault(stage, WALK_ADDRESS_SIZE_FAULT, 0);
    }
    for (;;) {
      const index = (shift >= 32 ? high >>> (shift - 32) : (high << (32 - shift)) | (low >>> shift)) & mask;
      const atHigh = tableHigh;
      const atLow = tableLow | (index << 3);
      let entryHigh = atHigh;
      let entryLow = atLow;
      if (nested) {
        const code = this.stage2(atHigh, atLow, ACCESS_READ);
        if (code !== WALK_OK) {
          this.faultOnTableWalk = 1;
          this.faultTableLevel = level;
          return code;
        }
        // DDI 0487 D8.4.3, HCR_EL2.PTW; IHI 0070 5.2 STE.S2PTW: tables are not in Device memory (MemAttr[3:2] zero).
        if (this.config2.protectedTableWalk && (this.leafLow & 0x30) === 0) {
          this.faultHigh = atHigh;
          this.faultLow = atLow;
          this.faultOnTableWalk = 1;
          this.faultTableLevel = level;
          this.faultAccess = 0;
          return this.fault(2, WALK_PERMISSION_FAULT, this.leafLevel);
        }
        entryHigh = this.outHigh;
        entryLow = this.outLow;
      }
      if (!this.load(entryHigh, entryLow, stage, level, atHigh, atLow)) {
        this.fetchHigh = entryHigh;
        this.fetchLow = entryLow;
        return this.fault(stage, WALK_EXTERNAL_ABORT, level);
      }
      const descriptorLow = this.loadedLow;
      const descriptorHigh = this.loadedHigh;
      const rules = config.levels[level + LEVEL_OFFSET];
      const isTable = (descriptorLow & rules.tableMask) === rules.tableValue;
      if (
        (descriptorLow & config.presentBits) === 0 ||
        (!isTable && (descriptorLow & rules.leafMask) !== rules.leafValue)
      ) {
        return this.fault(stage, WALK_TRANSLATION_FAULT, level);
      }
      if (config.permissionsPerEntry) {
        permissions &= grantedBy(config, 0, descriptorHigh, descriptorLow);
        if ((REQUIRED_PERMISSIONS[access & 15] & ~permissions) !== 0) {
          return this.deny(config, level, access, permissions);
        }
      }
      if (isTable) {
        if ((descriptorHigh & config.tableReservedHigh) !== 0 || (descriptorLow & rules.tableReserved) !== 0) {
          return this.fault(stage, config.reservedCode, level);
        }
        if ((descriptorLow & config.accessedBits) !== config.accessedBits) {
          const code = this.update(config, nested, atHigh, atLow, descriptorHigh, descriptorLow, config.accessedBits, level);
          if (code !== WALK_OK) {
            return code;
          }
        }
        attributes |= descriptorHigh;
        tableHigh = descriptorHigh & config.addressHigh;
        tableLow = descriptorLow & (-1 << granuleBits);
        level++;
        shift -= stride;
        mask = (1 << stride) - 1;
        continue;
      }
      if ((descriptorHigh & config.leafReservedHigh) !== 0 || (descriptorLow & rules.leafReserved) !== 0) {
        return this.fault(stage, config.reservedCode, level);
      }
      if ((descriptorLow & config.accessFlag) !== config.accessFlag) {
        return this.fault(stage, WALK_ACCESS_FLAG_FAULT, level);
      }
      if (!config.permissionsPerEntry) {
        permissions = grantedBy(config, attributes, descriptorHigh, descriptorLow);
        if ((REQUIRED_PERMISSIONS[access & 15] & ~permissions) !== 0) {
          return this.deny(config, level, access, permissions);
        }
      }
      this.leafHigh = descriptorHigh;
      this.leafLow = descriptorLow;
      this.leafBits = shift;
      this.leafLevel = level;
      this.leafPermissions = permissions;
      this.leafAtHigh = atHigh;
      this.leafAtLow = atLow;
      return WALK_OK;
    }
  }

  /**
   * Sets accessed and dirty bits in an x86 entry (VT-d specification 3.6.3, 3.7.2). Under a stage 2 that is a
   * write to the entry's guest-physical address, which stage 2 has to allow (3.8), and marks as it marks any. The entry
   * that the walk has read is `oldHigh`, `oldLow`: where memory has another by now, the walk is of no use any more.
   */
  private update(
    config: StageConfig,
    nested: boolean,
    atHigh: number,
    atLow: number,
    oldHigh: number,
    oldLow: number,
    bits: number,
    level: number,
  ): number {
    let entryHigh = atHigh;
    let entryLow = atLow;
    if (config.updatesFault) {
      return this.fault(config.stage, WALK_UPDATE_FAULT, level);
    }
    if (nested) {
      const code = this.stage2(atHigh, atLow, config.updateAccess);
      if (code !== WALK_OK) {
        this.faultOnTableWalk = 1;
        this.faultTableLevel = level;
        return code;
      }
      entryHigh = this.outHigh;
      entryLow = this.outLow;
    }
    const code = this.memory.compareExchange64(entryHigh, entryLow, oldHigh, oldLow, oldHigh, oldLow | bits);
    if (code === MEMORY_CHANGED && this.restarts++ < MOST_RESTARTS) {
      return WALK_CHANGED;
    }
    if (code !== MEMORY_OK) {
      this.fetchHigh = entryHigh;
      this.fetchLow = entryLow;
      return this.fault(config.stage, WALK_UPDATE_FAULT, level);
    }
    return WALK_OK;
  }

  /**
   * Loads a descriptor: from the flat part at once, from elsewhere (and beyond a 4-GiB boundary) by asking the memory.
   * Which one it is, and its address before stage 2, is for who tells of a walk.
   */
  protected load(high: number, low: number, _stage: 1 | 2, _level: number, _atHigh: number, _atLow: number): boolean {
    const memory = this.memory;
    if (memory.flatBase !== this.knownBase || memory.flatBytes !== this.knownBytes) {
      this.knowFlat(memory.flatBase, memory.flatBytes);
    }
    const at = (low - this.flatPartLow) >>> 2;
    if (high === this.flatPartHigh && at < this.flatPartWords) {
      return loadSettled(memory.flat, at, this) === MEMORY_OK;
    }
    if (memory.load64(high, low) !== MEMORY_OK) {
      return false;
    }
    this.loadedLow = memory.loadedLow;
    this.loadedHigh = memory.loadedHigh;
    return true;
  }

  /** Notes the part of the flat part that shares the high word of its first address. */
  private knowFlat(base: number, bytes: number): void {
    this.knownBase = base;
    this.knownBytes = bytes;
    this.flatPartHigh = highWord(base);
    this.flatPartLow = lowWord(base);
    this.flatPartWords = Math.min(bytes, 0x1_0000_0000 - (base % 0x1_0000_0000)) / 4;
  }

  /** A permission fault, with what was denied. */
  private deny(config: StageConfig, level: number, access: number, permissions: number): number {
    const privileged = (access & ACCESS_PRIVILEGED) !== 0;
    const own = privileged ? permissions >>> PERM_PRIVILEGED_SHIFT : permissions;
    // PERM_READ, PERM_WRITE and PERM_EXECUTE have the values of the accesses; a fetch needs execution only.
    const needed = (access & ACCESS_EXECUTE) !== 0 ? access & ~ACCESS_READ : access;
    this.faultAccess =
      config.hasUserBit && !privileged && (own & PERM_READ) === 0
        ? ACCESS_PRIVILEGED
        : needed & ~own & (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE);
    return this.fault(config.stage, WALK_PERMISSION_FAULT, level);
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

function configOf(known: WeakMap<Tables, StageConfig>, tables: Tables, stage: 1 | 2): StageConfig {
  let config = known.get(tables);
  if (config === undefined) {
    config = new StageConfig(tables, stage);
    known.set(tables, config);
  }
  return config;
}

/** What an access has to find set in an x86 leaf, or sets. */
function wantedBits(config: StageConfig, access: number): number {
  return config.accessedBits | ((access & ACCESS_WRITE) !== 0 ? config.dirtyBit : 0);
}

/** PERM_* of a descriptor; `attributes` are the or of the high words of the tables before it (DDI 0487 D8.3; VT-d specification 9.8, 9.9). */
function grantedBy(config: StageConfig, attributes: number, high: number, low: number): number {
  return PERMISSIONS[
    config.controls |
      (((attributes & config.hierarchicalMask) | (high & config.highMask)) >>> ATTRIBUTE_SHIFT) |
      (low & config.lowMask)
  ];
}
