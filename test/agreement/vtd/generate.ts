/**
 * Images from a seed: a valid root, context, PASID and page table of a random shape, then nothing, one or two things
 * changed. Physical addresses stay where both machines have the same: RAM, or nothing at all.
 */
import { put, putAddress } from "../../../src/support/index.js";
import {
  CONTEXT, PASID_DIRECTORY, PASID_ENTRY, PGTT_FIRST_STAGE, PGTT_NESTED, PGTT_PASS_THROUGH, PGTT_SECOND_STAGE, ROOT, SM_CONTEXT, SM_ROOT,
  TT_DEVICE_TLB, TT_PASS_THROUGH, TT_UNTRANSLATED_ONLY, TTM_LEGACY, TTM_SCALABLE,
} from "../../../src/vtd/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import { allocatorOf, putWords, type Words } from "../memory-image.js";
import type { Access, VtdCase } from "./image.js";
import { DATA, EMPTY, HOLE, isInterruptRange, isSafe, POOL } from "./layout.js";
import { HIGH_EDU_DEVFN, LOW_EDU_DEVFN, type Offer, TESTDEV_DEVFN } from "./machines.js";
import { build, type Fields, type Values } from "./structures.js";
import { shiftOf, type Step, TableTree } from "./table-tree.js";

const ADDRESS_MASK = 0xf_ffff_ffff_f000n;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

export function generateVtd(random: Random, offer: Offer, hasTestdev: boolean): VtdCase {
  return new Generator(random, offer, hasTestdev).generate();
}

interface Structure {
  readonly name: string;
  readonly words: Int32Array;
  readonly layout: Fields;
}

class Generator {
  private readonly words: Words = new Map();
  private readonly notes: string[] = [];
  private readonly allocate = allocatorOf(POOL);
  private readonly structures: Structure[] = [];
  private steps: Step[] = [];
  private iova = 0n;
  private data = 0;
  private passesThrough = false;

  constructor(
    private readonly random: Random,
    private readonly offer: Offer,
    private readonly hasTestdev: boolean,
  ) {}

  generate(): VtdCase {
    const { random, offer } = this;
    this.data = DATA.base + 8 * random.below(DATA.size / 8 - 16);
    const scalable = offer.scalableMode && !random.oneIn(4);
    const place = scalable ? this.scalable() : this.legacy();
    const mutations = random.pick([0, 0, 0, 1, 1, 1, 1, 2]);
    for (let n = 0; n < mutations; n++) {
      this.mutate();
    }
    const base = this.allocate(4096, 4096);
    // Bus 0.
    putWords(this.words, base, place().words);
    let rootTable = BigInt(base) | (BigInt(scalable ? TTM_SCALABLE : TTM_LEGACY) << 10n);
    if (random.oneIn(24)) {
      rootTable = random.oneIn(2) ? BigInt(this.wrongAddress()) | (rootTable & 0xc00n) : (rootTable & ~0xc00n) | (BigInt(random.below(4)) << 10n);
      this.notes.push(`RTADDR ${hex(rootTable)}`);
    }
    const enabled = !random.oneIn(40);
    return { words: this.words, rootTable, enabled, accesses: this.accesses(enabled), watched: this.steps.map(({ address }) => address), notes: this.notes };
  }

  private structure(name: string, layout: Fields, words: number, values: Values): Structure {
    const one = { name, layout, words: build(layout, words, values) };
    this.structures.push(one);
    return one;
  }

  // ---- legacy mode ----

  /** The returned function puts the structures into memory once they are as they shall be, but the root entry, which it returns. */
  private legacy(): () => Structure {
    const { random, offer } = this;
    const type = random.pick([TT_UNTRANSLATED_ONLY, TT_UNTRANSLATED_ONLY, TT_UNTRANSLATED_ONLY, TT_PASS_THROUGH, ...(offer.deviceIotlb ? [TT_DEVICE_TLB] : [])]);
    const levels = this.pickLevels();
    this.notes.push(`legacy, TT ${type}, ${levels} levels`);
    this.passesThrough = type === TT_PASS_THROUGH;
    const tree = this.passesThrough ? null : this.tree(levels, () => this.secondStage(), 3);
    if (this.passesThrough) {
      this.iova = BigInt(this.data);
    }
    const context = this.structure("context", CONTEXT, 4, {
      P: 1, FPD: this.rarely(), TT: type, SSPTPTR: tree?.base ?? (random.oneIn(2) ? EMPTY : 0), AW: levels - 2, IGNORED: random.oneIn(3) ? random.below(16) : 0, DID: random.below(0x1_0000),
    });
    const table = this.allocate(4096, 4096);
    const root = this.structure("root", ROOT, 4, { P: 1, CTP: table });
    return () => {
      [LOW_EDU_DEVFN, HIGH_EDU_DEVFN, TESTDEV_DEVFN].forEach((devfn) => putWords(this.words, table + 16 * devfn, context.words));
      return root;
    };
  }

  private pickLevels(): 3 | 4 {
    return this.offer.awBits === 39 || this.random.oneIn(3) ? 3 : 4;
  }

  private rarely(): number {
    return this.random.oneIn(8) ? 1 : 0;
  }

  // ---- scalable mode ----

  private scalable(): () => Structure {
    const { random, offer } = this;
    const usual = offer.fsts ? PGTT_FIRST_STAGE : PGTT_SECOND_STAGE;
    const type = random.pick([usual, usual, usual, usual, PGTT_PASS_THROUGH]);
    const levels = this.pickLevels();
    this.notes.push(`scalable, PGTT ${type}, ${levels} levels`);
    this.passesThrough = type === PGTT_PASS_THROUGH;
    let pointers: Values = {};
    if (this.passesThrough) {
      this.iova = BigInt(this.data);
    } else if (type === PGTT_FIRST_STAGE) {
      pointers = { FSPTPTR: this.tree(4, () => this.firstStage(), offer.fs1gp ? 3 : 2).base, WPE: random.below(2) };
      if ((this.iova >> 47n) !== 0n) {
        this.iova |= 0xffff_0000_0000_0000n;
      }
    } else {
      pointers = { SSPTPTR: this.tree(levels, () => this.secondStage(), 3).base };
    }
    const pasid = this.structure("PASID entry", PASID_ENTRY, 16, { P: 1, FPD: this.rarely(), AW: levels - 2, PGTT: type, DID: random.below(0x1_0000), ...pointers });
    const table = this.allocate(4096, 4096);
    const directory = this.structure("PASID directory entry", PASID_DIRECTORY, 2, { P: 1, FPD: this.rarely(), SMPTBLPTR: table });
    const ridPasid = random.oneIn(12) ? random.below(2 ** random.below(20)) : 0;
    // Entries of 8 bytes by PASID bits 19:6.
    const directories = this.allocate(8 * 2 ** 14, 4096);
    const context = this.structure("context", SM_CONTEXT, 8, {
      P: 1, FPD: this.rarely(), DTE: offer.deviceIotlb ? random.below(2) : 0, PASIDE: offer.pasidBits > 0 ? random.below(2) : 0, PDTS: random.below(8),
      PASIDDIRPTR: directories, RID_PASID: ridPasid,
    });
    if (ridPasid !== 0) {
      this.notes.push(`RID_PASID ${ridPasid}`);
    }
    const both = ridPasid !== 0 && random.oneIn(2);
    const [low, high] = [0, 1].map(() => this.allocate(4096, 4096));
    const root = this.structure("root", SM_ROOT, 4, { LP: 1, LCTP: low, UP: 1, UCTP: high });
    return () => {
      putWords(this.words, table + 64 * (ridPasid % 64), pasid.words);
      if (both) {
        putWords(this.words, table, pasid.words);
      }
      for (const number of new Set([ridPasid >> 6, 0])) {
        putWords(this.words, directories + 8 * number, directory.words);
      }
      [LOW_EDU_DEVFN, TESTDEV_DEVFN].forEach((devfn) => putWords(this.words, low + 32 * devfn, context.words));
      putWords(this.words, high + 32 * (HIGH_EDU_DEVFN - 0x80), context.words);
      return root;
    };
  }

  // ---- page tables ----

  private tree(levels: number, attributes: () => (leaf: boolean) => bigint, largest: number): TableTree {
    const { random } = this;
    const tree = new TableTree(this.words, this.allocate, levels);
    const level = random.pick([1, 1, 1, 2, 2, 3].filter((one) => one <= largest));
    const within = (1n << BigInt(shiftOf(level))) - 1n;
    const bits = BigInt(Math.min(12 + 9 * levels, this.offer.awBits));
    let high: bigint;
    do {
      high = random.wide() & ((1n << bits) - 1n) & ~within;
    } while (isInterruptRange(high));
    this.iova = high | (BigInt(this.data) & within);
    this.steps = tree.map(this.iova, BigInt(this.data), level, attributes()) ?? [];
    return tree;
  }

  private secondStage(): (leaf: boolean) => bigint {
    const { random, offer } = this;
    return (leaf) =>
      (random.oneIn(leaf ? 5 : 12) ? BigInt(random.below(4)) : 3n) |
      // Ignored: execute, memory type, and of tables all bits up to 6; 10:8; 63 and 61:52.
      (random.oneIn(2) ? (random.wide() & 0xbff0_0000_0000_077cn) : 0n) |
      (leaf && offer.snoopControl && random.oneIn(2) ? 0x800n : 0n);
  }

  private firstStage(): (leaf: boolean) => bigint {
    const { random } = this;
    return (leaf) =>
      1n |
      (random.oneIn(leaf ? 4 : 12) ? 0n : 2n) |
      (random.oneIn(14) ? 0n : 4n) |
      // Ignored: PWT, PCD, 11:8; 62:52 and 63 (XD). A and D as they may be.
      (random.oneIn(2) ? (random.wide() & 0xfff0_0000_0000_0f78n & (leaf ? -1n : ~0x40n)) : 0n);
  }

  // ---- what is changed ----

  private mutate(): void {
    const { random } = this;
    const choices: Array<() => void> = this.structures.map((one) => () => this.mutateStructure(one));
    if (this.steps.length > 0) {
      const change = (): void => this.mutateEntry(random.pick(this.steps));
      choices.push(change, change, change, change);
    }
    random.pick(choices)();
  }

  private mutateStructure({ name, layout, words }: Structure): void {
    const { random } = this;
    const field = random.pick(Object.keys(layout));
    const f = layout[field];
    const kind = random.below(4);
    if (kind < 2) {
      const bit = random.below(words.length * 32);
      words[bit >> 5] ^= 1 << (bit & 31);
      this.notes.push(`${name} bit ${bit} flipped`);
    } else if ("mask" in f) {
      const value = field === "PGTT" && random.oneIn(2) ? random.pick([PGTT_FIRST_STAGE, PGTT_SECOND_STAGE, PGTT_NESTED, PGTT_PASS_THROUGH]) : random.word() & f.mask;
      put(words, f, value);
      this.notes.push(`${name}.${field} ${value >>> 0}`);
    } else {
      const value = this.wrongAddress();
      putAddress(words, f, value);
      this.notes.push(`${name}.${field} ${hex(value)}`);
    }
  }

  /** An address that is not where the thing is. */
  private wrongAddress(): number {
    const { random } = this;
    return random.pick([HOLE + 0x1000 * random.below(1024), EMPTY, EMPTY + 0x1000 * random.below(64), 2 ** 38 + EMPTY, 2 ** 39 + EMPTY, 2 ** 40 + EMPTY, 2 ** 47 + EMPTY, 2 ** 48 + EMPTY, 2 ** 50 + EMPTY]);
  }

  private mutateEntry({ address, level, leaf }: Step): void {
    const { random } = this;
    const before = this.words.get(address) ?? 0n;
    let after: bigint;
    switch (random.below(7)) {
      case 0:
        after = before & ~BigInt(random.below(4));
        break;
      case 1:
        after = (before & ~ADDRESS_MASK) | BigInt(this.wrongAddress());
        break;
      case 2:
        // Bits of the address that the host's width may not reach.
        after = before | (1n << BigInt(random.pick([36, 38, 39, 40, 44, 46, 47, 48, 49, 50, 51])));
        break;
      case 3:
        // PS, SNP, transient mapping or I/O write, execute disable.
        after = before ^ (1n << BigInt(random.pick([7, 7, 11, 11, 62, 63])));
        break;
      case 4:
        // Within a large page's offset.
        after = before ^ (1n << BigInt(12 + random.below(18)));
        break;
      case 5:
        after = leaf ? (before & ~ADDRESS_MASK) | 0xfee0_0000n | (level === 1 ? BigInt(random.below(256)) << 12n : 0n) : before ^ 1n;
        break;
      default:
        after = random.oneIn(4) ? 2n ** 64n - 1n : before ^ (1n << BigInt(random.below(64)));
    }
    this.words.set(address, after);
    this.notes.push(`level ${level}${leaf ? " leaf" : ""}: ${hex(before)} becomes ${hex(after)}`);
  }

  // ---- accesses ----

  private accesses(enabled: boolean): Access[] {
    const { random } = this;
    const out: Access[] = [];
    const direct = !enabled || this.passesThrough;
    if (!enabled && random.oneIn(2)) {
      this.iova = BigInt(this.data);
    }
    const add = (write: boolean, iova: bigint, device: Access["device"] = "edu"): void => {
      // An access that fails is repeated for every 4 bytes of it: most are no longer.
      const length = random.oneIn(8) ? random.pick([1, 2, 8, 16, 64]) : 4;
      const inPage = Math.min(length, 4096 - Number(iova & 0xfffn));
      if (isInterruptRange(iova) || (direct && !(isSafe(iova) && iova < 1n << 63n))) {
        return;
      }
      out.push({ device, devfn: device === "edu" ? random.pick([LOW_EDU_DEVFN, HIGH_EDU_DEVFN]) : TESTDEV_DEVFN, write, iova, length: inPage, expected: this.data });
    };
    add(false, this.iova);
    add(true, this.iova, this.hasTestdev && random.oneIn(2) ? "testdev" : "edu");
    if (random.oneIn(2)) {
      add(random.oneIn(4), this.otherAddress());
    }
    return out;
  }

  /** A neighbour, or an address beyond the range. */
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
        return iova ^ (1n << BigInt(12 + random.below(36)));
    }
  }
}
