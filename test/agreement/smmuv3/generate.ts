/**
 * Images from a seed: a valid stream table, STE, CD and tables of a random shape, then nothing, one or two things
 * changed. Physical addresses stay where both machines have the same: RAM, or nothing at all.
 */
import { stage1StartLevel, stage2StartLevel, type GranuleBits } from "../../../src/translation/index.js";
import {
  AddressField, buildCd, buildL1Std, buildSte, CD, type Field, get, getAddress, put, putAddress, STE, STE_CONFIG_BYPASS,
  STRTAB_FMT_2LEVEL, STRTAB_FMT_LINEAR,
} from "../../../src/smmuv3/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import { type Allocator, allocatorOf, putWords, type Words } from "../memory-image.js";
import type { Access, TranslationCase } from "./image.js";
import { DATA, HOLE, isSafe, POOL, RAM } from "./layout.js";
import { EDU_DEVFN, TESTDEV_DEVFN } from "./machines.js";
import { type Step, TableTree } from "./table-tree.js";

export interface GeneratorOptions {
  readonly twoLevelStreamTable: boolean;
  readonly stages: "1" | "2" | "nested";
  /** Addresses beyond 48 bits reach the SMMU; else there are few. */
  readonly wide: boolean;
  /** The machine has an iommu-testdev besides edu. */
  readonly testdev: boolean;
}

const GIB = 0x4000_0000;
/** Zeroed RAM to which wrong addresses lead. */
const EMPTY = 0x5000_0000;
const GRANULES: readonly GranuleBits[] = [12, 14, 16];
const TG0 = { 12: 0, 14: 2, 16: 1 } as const;
const TG1 = { 12: 2, 14: 1, 16: 3 } as const;
/** Bits of the SMMU's addresses: IDR5.OAS. */
const OAS = 44;

/** Stage 1 descriptors: AP[2:1] = 0b01, AF; stage 2: S2AP = 0b11, AF. */
const ACCESS_FLAG = 1n << 10n;

export function generate(random: Random, options: GeneratorOptions): TranslationCase {
  return new Generator(random, options).generate();
}

class Generator {
  private readonly words: Words = new Map();
  private readonly notes: string[] = [];
  private readonly stage1Steps: Step[] = [];
  private readonly stage2Steps: Step[] = [];
  private ste: Int32Array = new Int32Array(16);
  private cd: Int32Array | null = null;
  private iova = 0n;
  /** Where the data of the main access lies. */
  private data = 0;

  constructor(
    private readonly random: Random,
    private readonly options: GeneratorOptions,
  ) {}

  generate(): TranslationCase {
    const { random } = this;
    this.data = DATA.base + 8 * random.below(DATA.size / 8 - 16);
    const config = this.pickConfig();
    const stage1 = config === 5 || config === 7;
    const stage2 = config === 6 || config === 7;
    this.notes.push(`Config ${config}`);
    const tree2 = stage2 ? this.stage2Tree() : null;
    const delta = tree2 === null ? 0 : this.pickDelta(tree2.inputBits);
    const seen = (physical: number): bigint => BigInt(physical + delta);
    let contextPointer = EMPTY;
    if (stage1) {
      contextPointer = this.allocate(64, 64);
      this.cd = this.stage1(seen);
    } else {
      this.iova = seen(this.data);
    }
    if (tree2 !== null) {
      const pages = [this.data, ...(stage1 ? [contextPointer, ...this.stage1Steps.map((step) => step.address)] : [])];
      pages.forEach((page) => this.mapStage2(tree2, page, delta));
    }
    this.ste = buildSte({
      V: 1,
      CONFIG: config,
      S1CONTEXTPTR: stage1 ? seen(contextPointer) : EMPTY,
      S2VMID: random.below(4),
      S2AA64: 1,
      S2R: random.oneIn(4) ? 0 : 1,
      S2AFFD: random.oneIn(8) ? 1 : 0,
      S2PTW: random.oneIn(8) ? 1 : 0,
      S2TTB: BigInt(tree2?.base ?? EMPTY),
      S2T0SZ: tree2 === null ? 20 : 64 - tree2.inputBits,
      S2SL0: tree2 === null ? 1 : (tree2.granuleBits === 12 ? 2 : 3) - tree2.startLevel,
      S2TG: tree2 === null ? 0 : TG0[tree2.granuleBits],
      S2PS: random.pick([1, 2, 3, 4, 4, 4, 5, 5, 6]),
      S1DSS: random.below(4),
      SHCFG: random.below(4),
      MTCFG: random.below(2),
    });
    const mutations = random.pick([0, 0, 0, 1, 1, 1, 1, 2]);
    for (let n = 0; n < mutations; n++) {
      this.mutate();
    }
    if (get(this.ste, STE.CONFIG) === 5 && config === 7 && !isSafe(BigInt(contextPointer + delta))) {
      put(this.ste, STE.CONFIG, config);
    }
    const registers = this.streamTable();
    if (this.cd !== null) {
      this.put(contextPointer, this.cd);
    }
    return { words: this.words, ste: this.ste, cd: this.cd, registers, accesses: this.accesses(registers.enabled), notes: this.notes };
  }

  private pickConfig(): number {
    const { random } = this;
    if (random.oneIn(24)) {
      return random.below(8);
    }
    switch (this.options.stages) {
      case "1":
        return 5;
      case "2":
        return 6;
      default:
        return random.pick([5, 5, 6, 6, 7, 7, 7, 7]);
    }
  }

  private readonly allocate: Allocator = allocatorOf(POOL);

  /** Puts 32-bit words at an address. */
  private put(address: number, words: Int32Array): void {
    putWords(this.words, address, words);
  }

  // ---- stage 1 ----

  /** Tables for the main access, and the CD that points to them. */
  private stage1(seen: (physical: number) => bigint): Int32Array {
    const { random } = this;
    const granuleBits = random.pick(GRANULES);
    const upper = random.oneIn(this.options.wide ? 3 : 16);
    const size = this.pickSize(16, 39);
    const tree = new TableTree(this.words, this.allocate, granuleBits, stage1StartLevel(granuleBits, 64 - size), 64 - size, seen);
    const level = random.pick(TableTree.leafLevels(granuleBits).filter((one) => one >= tree.startLevel));
    const leafBits = BigInt(granuleBits + (granuleBits - 3) * (3 - level));
    const target = seen(this.data);
    const within = (random.wide() & ((1n << BigInt(64 - size)) - 1n) & ~((1n << leafBits) - 1n)) | (target & ((1n << leafBits) - 1n));
    const steps = tree.map(within, target, level, this.stage1Leaf(), () => this.tableAttributes());
    this.stage1Steps.push(...(steps ?? []));
    this.iova = upper ? BigInt.asUintN(64, (-1n << BigInt(64 - size)) | within) : within;
    const tagged = random.oneIn(this.options.wide ? 4 : 16);
    const other = { TG: random.pick(GRANULES), TTB: seen(EMPTY), TSZ: this.pickSize(16, 39), EPD: random.below(2) };
    const own = { TG: granuleBits, TTB: seen(tree.base), TSZ: size, EPD: 0 };
    const [low, high] = upper ? [other, own] : [own, other];
    if (tagged) {
      this.iova = (this.iova & 0x00ff_ffff_ffff_ffffn) | (BigInt(random.below(256)) << 56n);
    }
    return buildCd({
      V: 1,
      AA64: 1,
      A: 1,
      R: random.oneIn(5) ? 0 : 1,
      IPS: random.pick([1, 2, 3, 4, 4, 4, 5, 5]),
      T0SZ: low.TSZ,
      TG0: TG0[low.TG],
      EPD0: low.EPD,
      TTB0: low.TTB,
      T1SZ: high.TSZ,
      TG1: TG1[high.TG],
      EPD1: high.EPD,
      TTB1: high.TTB,
      TBI0: tagged && !upper ? 1 : random.below(2),
      TBI1: tagged && upper ? 1 : random.below(2),
      AFFD: random.oneIn(6) ? 1 : 0,
      WXN: random.below(2),
      UWXN: random.below(2),
      HAD0: random.oneIn(3) ? 1 : 0,
      HAD1: random.oneIn(3) ? 1 : 0,
      ASID: random.below(8),
      ASET: random.below(2),
      MAIR0: 0x44ff,
    });
  }

  /** TxSZ: mostly anything valid, often at a bound. */
  private pickSize(least: number, most: number): number {
    const { random } = this;
    return random.oneIn(3) ? random.pick([least, least + 1, most - 1, most, 24, 25, 28, 32]) : least + random.below(most - least + 1);
  }

  private stage1Leaf(): bigint {
    const { random } = this;
    const permissions = random.oneIn(3) ? BigInt(random.below(4)) : 1n;
    return (
      (BigInt(random.below(8)) << 2n) |
      (permissions << 6n) |
      (BigInt(random.below(4)) << 8n) |
      (random.oneIn(10) ? 0n : ACCESS_FLAG) |
      (BigInt(random.below(2)) << 11n) |
      (random.oneIn(6) ? 1n << 52n : 0n) |
      (random.oneIn(4) ? BigInt(random.below(4)) << 53n : 0n)
    );
  }

  /** NSTable, APTable, UXNTable, PXNTable. */
  private tableAttributes(): bigint {
    const { random } = this;
    return random.oneIn(5) ? BigInt(random.below(32)) << 59n : 0n;
  }

  // ---- stage 2 ----

  private stage2Tree(): TableTree {
    const { random } = this;
    for (;;) {
      const granuleBits = random.pick(GRANULES);
      const inputBits = 64 - this.pickSize(64 - OAS, 39);
      const level = stage2StartLevel(granuleBits, random.below(3), inputBits, OAS);
      if (level >= 0) {
        return new TableTree(this.words, this.allocate, granuleBits, level, inputBits);
      }
    }
  }

  /** What an intermediate address is beside the physical one. */
  private pickDelta(inputBits: number): number {
    const { random } = this;
    const far = GIB * random.below(2 ** Math.max(0, Math.min(OAS, inputBits) - 30));
    return random.pick([-0x4100_0000, -GIB, 0, far].filter((delta) => delta + DATA.base + DATA.size <= 2 ** inputBits));
  }

  private mapStage2(tree: TableTree, physical: number, delta: number): void {
    const { random } = this;
    const fits = TableTree.leafLevels(tree.granuleBits).filter((level) => level >= tree.startLevel && delta % 2 ** (tree.granuleBits + (tree.granuleBits - 3) * (3 - level)) === 0);
    const level = random.oneIn(3) ? random.pick(fits) : 3;
    const permissions = random.oneIn(8) ? BigInt(random.below(4)) : 3n;
    const attributes =
      (BigInt(random.below(16)) << 2n) |
      (permissions << 6n) |
      (BigInt(random.below(4)) << 8n) |
      (random.oneIn(14) ? 0n : ACCESS_FLAG) |
      (random.oneIn(6) ? 1n << 52n : 0n) |
      (random.oneIn(4) ? BigInt(random.below(4)) << 53n : 0n);
    const steps = tree.map(BigInt(physical + delta), BigInt(physical), level, attributes, () => 0n);
    this.stage2Steps.push(...(steps ?? []));
  }

  // ---- the stream table ----

  private streamTable(): TranslationCase["registers"] {
    const { random } = this;
    const twoLevels = this.options.twoLevelStreamTable;
    let log2Size = 8 + random.below(3);
    let split = 0;
    let base: number;
    if (twoLevels) {
      split = random.pick([6, 8, 10]);
      log2Size = random.pick([8, 10, 12, 16]);
      const entries = 2 ** Math.max(0, log2Size - split);
      base = this.allocate(Math.max(64, entries * 8), Math.max(64, entries * 8));
      for (const number of new Set([TESTDEV_DEVFN >> split, EDU_DEVFN >> split])) {
        const span = random.oneIn(12) ? random.below(32) : random.oneIn(4) ? split + 1 : Math.min(split + 1, 9);
        const bytes = 64 * 2 ** Math.min(split, Math.max(0, Math.min(span, split + 1) - 1));
        const leaf = this.allocate(bytes, bytes);
        const wrong = random.oneIn(24);
        const pointer = wrong ? this.wrongAddress() : leaf;
        this.put(base + 8 * number, buildL1Std({ SPAN: span, L2PTR: BigInt(pointer) & 0xff_ffff_ffff_ffc0n }));
        if (span !== split + 1 || wrong) {
          this.notes.push(`L1STD ${number}: SPAN ${span}, L2PTR ${hex(pointer)}, SPLIT ${split}`);
        }
        for (const sid of [TESTDEV_DEVFN, EDU_DEVFN]) {
          if (sid >> split === number && (sid % 2 ** split) * 64 < bytes) {
            this.put(leaf + (sid % 2 ** split) * 64, this.ste);
          }
        }
      }
    } else {
      base = this.allocate(64 * 2 ** log2Size, 64 * 2 ** log2Size);
      for (const sid of [TESTDEV_DEVFN, EDU_DEVFN]) {
        this.put(base + sid * 64, this.ste);
      }
    }
    let format = twoLevels ? STRTAB_FMT_2LEVEL : STRTAB_FMT_LINEAR;
    let address = BigInt(base);
    if (random.oneIn(16)) {
      const kind = random.below(4);
      log2Size = kind === 0 ? random.below(8) : log2Size;
      split = kind === 1 ? random.below(32) : split;
      format = kind === 2 && !twoLevels ? random.pick([0, 2, 3]) : format;
      address = kind === 3 ? BigInt(this.wrongAddress()) : address;
      this.notes.push(`stream table: LOG2SIZE ${log2Size}, SPLIT ${split}, FMT ${format}, at ${hex(address)}`);
    }
    const enabled = !random.oneIn(48);
    const globalAbort = !enabled && random.oneIn(2);
    if (!enabled) {
      this.notes.push(`SMMUEN 0, GBPA.ABORT ${Number(globalAbort)}`);
    }
    return { strtabBase: address, strtabBaseConfig: (format << 16) | (split << 6) | log2Size, enabled, globalAbort, recordInvalidStreams: !random.oneIn(4) };
  }

  // ---- what is changed ----

  private mutate(): void {
    const { random } = this;
    const choices: Array<() => void> = [() => this.mutateStructure("STE", STE, this.ste)];
    if (this.cd !== null) {
      const { cd } = this;
      choices.push(() => this.mutateStructure("CD", CD, cd), () => this.mutateStructure("CD", CD, cd));
    }
    for (const [name, steps] of [["stage 1", this.stage1Steps], ["stage 2", this.stage2Steps]] as const) {
      if (steps.length > 0) {
        const change = (): void => this.mutateDescriptor(name, random.pick(steps));
        choices.push(change, change, change);
      }
    }
    random.pick(choices)();
  }

  private mutateStructure(name: string, layout: Readonly<Record<string, Field | AddressField>>, words: Int32Array): void {
    const { random } = this;
    const field = random.pick(Object.keys(layout));
    const f = layout[field];
    if (f instanceof AddressField) {
      if (random.oneIn(2)) {
        // An address that leads elsewhere: most of these end in the same event, so not too often.
        const value = this.wrongAddress();
        putAddress(words, f, value);
        this.notes.push(`${name}.${field} ${hex(value)}`);
        return;
      }
      const bit = random.below(words.length * 32);
      const before = words[bit >> 5];
      words[bit >> 5] ^= 1 << (bit & 31);
      if (!this.addressesAreSafe(layout, words)) {
        words[bit >> 5] = before;
        return;
      }
      this.notes.push(`${name} bit ${bit} flipped`);
      return;
    }
    const value = random.word() & f.mask;
    put(words, f, value);
    this.notes.push(`${name}.${field} ${value >>> 0}`);
  }

  private addressesAreSafe(layout: Readonly<Record<string, Field | AddressField>>, words: Int32Array): boolean {
    return Object.values(layout).every((f) => !(f instanceof AddressField) || isSafe(BigInt(getAddress(words, f))));
  }

  /** An address that is not where the thing is. */
  private wrongAddress(): number {
    const { random } = this;
    return random.pick([HOLE + 0x1000 * random.below(1024), EMPTY, EMPTY + 64 * random.below(64), 2 ** 44 + RAM.base, 2 ** 43 + EMPTY, 2 ** 47 + EMPTY, 2 ** 50 + EMPTY, 2 ** 41 + EMPTY]);
  }

  private mutateDescriptor(name: string, { address, level, leaf, shift }: Step): void {
    const { random } = this;
    const before = this.words.get(address) ?? 0n;
    let after: bigint;
    switch (random.below(6)) {
      case 0:
        after = (before & ~3n) | BigInt(random.below(4)) | (level < 2 && random.oneIn(2) ? 1n << 43n : 0n);
        break;
      case 1:
        after = (before & ~0xffff_ffff_f000n) | (BigInt(this.wrongAddress()) & 0xffff_ffff_f000n);
        break;
      case 2:
        // Bits of the address that IPS or PS may not reach.
        after = before | (1n << BigInt(random.pick([32, 35, 36, 37, 41, 43, 44, 45, 46, 47])));
        break;
      case 3:
        after = before & ~ACCESS_FLAG;
        break;
      case 4:
        after = before ^ (1n << BigInt(random.pick([6, 7, 53, 54, 52, 59, 60, 61, 62, 63])));
        break;
      default:
        after = before ^ (1n << BigInt(random.below(64)));
    }
    // What is a block at a level without blocks may be taken for a large one: its start, too, has to be safe.
    const size = (after & 3n) === 1n && level < 3 ? BigInt(shift) : 12n;
    if (after === before || !isSafe(((after & 0xffff_ffff_f000n) >> size) << size)) {
      return;
    }
    this.words.set(address, after);
    this.notes.push(`${name} level ${level}${leaf ? " leaf" : ""}: ${hex(before)} becomes ${hex(after)}`);
  }

  // ---- accesses ----

  private accesses(enabled: boolean): Access[] {
    const { random } = this;
    const out: Access[] = [];
    const direct = !enabled || get(this.ste, STE.CONFIG) === STE_CONFIG_BYPASS;
    const add = (device: Access["device"], write: boolean, iova: bigint): void => {
      // QEMU repeats an access that fails for every 4 bytes of it: most are no longer.
      const length = random.oneIn(8) ? random.pick([1, 2, 8, 16, 64]) : 4;
      const inPage = Math.min(length, 4096 - Number(iova & 0xfffn));
      if (!direct || (isSafe(iova) && iova < 1n << 63n)) {
        out.push({ device, write, iova, length: inPage, expected: this.data });
      }
    };
    if (direct && random.oneIn(2)) {
      this.iova = BigInt(this.data);
    }
    add("edu", false, this.iova);
    add(this.options.testdev ? "testdev" : "edu", true, this.iova);
    if (random.oneIn(2)) {
      add("edu", random.oneIn(4), this.otherAddress());
    }
    return out;
  }

  /** A neighbour, the other range, or an address beyond the range. */
  private otherAddress(): bigint {
    const { random, iova } = this;
    switch (random.below(4)) {
      case 0:
        return iova ^ (1n << BigInt(random.below(64)));
      case 1:
        return BigInt.asUintN(64, iova + 4096n);
      case 2:
        return BigInt.asUintN(64, ~iova) & ~7n;
      default:
        return random.wide() & ~7n;
    }
  }
}

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
