import { beforeEach, describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory } from "../../src/memory/index.js";
import { highWord, lowWord, toBigInt } from "../../src/support/index.js";
import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  PageWalker,
  Tlb,
  Translator,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_RESERVED_FAULT,
  WALK_TRANSLATION_FAULT,
  WALK_UPDATE_FAULT,
  type X86Tables,
} from "../../src/translation/index.js";

// First-stage bits as Linux's pgtable_types.h has them (_PAGE_*), second-stage ones as its intel/iommu.h (DMA_PTE_*, DMA_SL_PTE_*).
const P = 1n;
const RW = 2n;
const US = 4n;
const A = 1n << 5n;
const D = 1n << 6n;
const PS = 1n << 7n;
const PAT_LARGE = 1n << 12n;
const G = 1n << 8n;
const EA = 1n << 10n;
const NX = 1n << 63n;
const READ = 1n;
const WRITE = 2n;
const LARGE = 1n << 7n;
const SL_A = 1n << 8n;
const SL_D = 1n << 9n;
const SNP = 1n << 11n;
const TM = 1n << 62n;

const BASE = 0x4000_0000;
const ROM = 0x8000_0000;
const BYTES = 1 << 20;

const first = (more: Partial<X86Tables> = {}): X86Tables => ({
  format: "first",
  levels: 4,
  baseHigh: 0,
  baseLow: BASE,
  inputBits: 48,
  outputBits: 39,
  pages2m: true,
  pages1g: true,
  ...more,
});
const second = (more: Partial<X86Tables> = {}): X86Tables => ({ ...first(), format: "second", baseLow: BASE + 0x8000, ...more });

// Permissions as text: user, then supervisor.
const shown = (permissions: number): string =>
  [..."rwxrwx"].map((letter, i) => ((permissions >> i) & 1 ? letter : "-")).join("");

/** First-stage tables from BASE on, second-stage ones from BASE + 0x8000 on; ROM answers reads only. */
class Image {
  readonly memory = new RamWordMemory();
  readonly walker = new PageWalker(this.memory);
  private readonly rom = new RamBlock("rom", 0x10000, ROM);

  constructor() {
    this.memory.place(BASE, new RamBlock("ram", BYTES, BASE));
    this.memory.place(ROM, this.rom, 0, 0x10000, false);
  }

  put(address: number, entry: bigint): void {
    expect(this.memory.store64(highWord(address), lowWord(address), Number(BigInt.asIntN(32, entry >> 32n)), Number(BigInt.asIntN(32, entry)))).toBe(0);
  }

  putRom(offset: number, entry: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, entry), true);
    this.rom.write(offset, bytes);
  }

  get(address: number): bigint {
    expect(this.memory.load64(highWord(address), lowWord(address))).toBe(0);
    return BigInt.asUintN(64, toBigInt(this.memory.loadedHigh, this.memory.loadedLow));
  }

  /** Tables of four levels to `leaf` for input 0x1000, in pages from `base` on. */
  chain(base: number, bits: bigint, leaf: bigint): void {
    for (let i = 0; i < 3; i++) {
      this.put(base + i * 0x1000, BigInt(base + (i + 1) * 0x1000) | bits);
    }
    this.put(base + 0x3000 + 8, leaf);
  }

  get out(): bigint {
    return BigInt.asUintN(64, toBigInt(this.walker.outHigh, this.walker.outLow));
  }

  get faultAddress(): bigint {
    return BigInt.asUintN(64, toBigInt(this.walker.faultHigh, this.walker.faultLow));
  }
}

let image: Image;
beforeEach(() => {
  image = new Image();
});

describe("a VT-d first stage", () => {
  const walk = (tables: X86Tables, access = ACCESS_READ, high = 0, low = 0x1234): number => image.walker.walkStage1(tables, high, low, access);

  it("translates pages of three sizes through four levels", () => {
    image.chain(BASE, P | RW | US, 0x12_3456_7000n | P | RW | US | G);
    expect(walk(first())).toBe(WALK_OK);
    expect(image.out).toBe(0x12_3456_7234n);
    expect([image.walker.outPageBits, image.walker.outLevel, image.walker.outGlobal]).toEqual([12, 3, 0]);
    image.put(BASE + 0x2000, 0x12_3460_0000n | P | RW | US | PS | PAT_LARGE);
    expect(walk(first(), ACCESS_READ, 0, 0x12_3456)).toBe(WALK_OK);
    expect(image.out).toBe(0x12_3472_3456n);
    expect([image.walker.outPageBits, image.walker.outLevel]).toEqual([21, 2]);
    image.put(BASE + 0x1000, 0x12_4000_0000n | P | RW | US | PS | PAT_LARGE);
    expect(walk(first(), ACCESS_READ, 0, 0x3212_3456)).toBe(WALK_OK);
    expect(image.out).toBe(0x12_7212_3456n);
    expect([image.walker.outPageBits, image.walker.outLevel]).toEqual([30, 1]);
  });

  it("translates the upper half and refuses what is not canonical", () => {
    const tables = first();
    image.put(BASE + 511 * 8, BigInt(BASE + 0x1000) | P | RW | US);
    image.put(BASE + 0x1000 + 511 * 8, 0x4000_0000n | P | RW | US | PS);
    expect(walk(tables, ACCESS_READ, -1, -0x1000)).toBe(WALK_OK);
    expect(image.out).toBe(0x7fff_f000n);
    for (const high of [0x8000, 0x1_0000, 0x7fff_ffff, -0x8001 << 0, 0xffff]) {
      expect(walk(tables, ACCESS_READ, high, 0), high.toString(16)).toBe(WALK_ADDRESS_SIZE_FAULT);
      expect([image.walker.faultStage, image.walker.faultLevel]).toEqual([1, 0]);
    }
    expect(walk(tables, ACCESS_READ, 0x7fff, 0)).toBe(WALK_TRANSLATION_FAULT);
  });

  it("walks five levels of 57 bits", () => {
    const tables = first({ levels: 5, inputBits: 57, baseLow: BASE + 0x7000 });
    image.chain(BASE, P | RW | US, 0x7000n | P | US);
    image.put(BASE + 0x7000 + 0xab * 8, BigInt(BASE) | P | RW | US);
    expect(walk(tables, ACCESS_READ, 0xab_0000, 0x1008)).toBe(WALK_OK);
    expect(image.out).toBe(0x7008n);
    expect(image.get(BASE + 0x7000 + 0xab * 8) & A).toBe(A);
    expect(walk(tables, ACCESS_READ, 0xac_0000, 0)).toBe(WALK_TRANSLATION_FAULT);
    expect(image.walker.faultLevel).toBe(-1);
    expect(walk(tables, ACCESS_READ, 0x100_0000, 0)).toBe(WALK_ADDRESS_SIZE_FAULT);
    // The page-size bit of a PML5 entry is reserved.
    image.put(BASE + 0x7000, BigInt(BASE) | P | RW | US | PS);
    expect(walk(tables)).toBe(WALK_RESERVED_FAULT);
  });

  it("takes from user requests what any level lacks, from supervisors only what XD and WPE say", () => {
    const permissions = (tables: X86Tables, table: bigint, leaf: bigint): string => {
      image.chain(BASE, P | RW | US | table, 0x7000n | P | leaf);
      // A walk of no access tells the permissions without being refused.
      expect(walk(tables, 0)).toBe(WALK_OK);
      return shown(image.walker.outPermissions);
    };
    const supervisor = first({ supervisor: true });
    expect(permissions(first(), 0n, RW | US)).toBe("rwx---");
    expect(permissions(supervisor, 0n, RW | US)).toBe("rwxrwx");
    expect(permissions(supervisor, 0n, US)).toBe("r-xrwx");
    expect(permissions(first({ supervisor: true, writeProtect: true }), 0n, US)).toBe("r-xr-x");
    expect(permissions(supervisor, 0n, RW)).toBe("---rwx");
    expect(permissions(supervisor, 0n, RW | US | NX)).toBe("rwxrwx");
    expect(permissions(first({ supervisor: true, executeDisable: true }), 0n, RW | US | NX)).toBe("rw-rw-");
    expect(permissions(first({ supervisor: true, executeDisable: true }), NX, RW | US)).toBe("rw-rw-");
  });

  it("says what was denied: the user bit before reads and writes", () => {
    image.chain(BASE, P | RW | US, 0x7000n | P | US);
    expect(walk(first(), ACCESS_READ | ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
    expect([image.walker.faultAccess, image.walker.faultLevel]).toEqual([ACCESS_WRITE, 3]);
    image.put(BASE + 0x1000, BigInt(BASE + 0x2000) | P | RW);
    expect(walk(first(), ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
    expect([image.walker.faultAccess, image.walker.faultLevel]).toEqual([ACCESS_PRIVILEGED, 1]);
    expect(walk(first({ supervisor: true }), ACCESS_WRITE | ACCESS_PRIVILEGED)).toBe(WALK_OK);
    expect(walk(first({ supervisor: true, writeProtect: true }), ACCESS_WRITE | ACCESS_PRIVILEGED)).toBe(WALK_PERMISSION_FAULT);
    expect(image.walker.faultAccess).toBe(ACCESS_WRITE);
    image.chain(BASE, P | RW | US, 0x7000n | P | US | NX);
    expect(walk(first({ executeDisable: true }), ACCESS_READ | ACCESS_EXECUTE)).toBe(WALK_PERMISSION_FAULT);
    expect(image.walker.faultAccess).toBe(ACCESS_EXECUTE);
  });

  it("faults on reserved bits: addresses beyond the host's width, low bits of large pages, the size bit where there is none", () => {
    const leaf = P | RW | US;
    const ofPage = (entry: bigint): number => (image.chain(BASE, leaf, entry), walk(first()));
    const of2m = (entry: bigint, tables = first()): number => (image.chain(BASE, leaf, 0n), image.put(BASE + 0x2000, entry), walk(tables));
    const of1g = (entry: bigint, tables = first()): number => (image.chain(BASE, leaf, 0n), image.put(BASE + 0x1000, entry), walk(tables));
    for (let bit = 39n; bit <= 51n; bit++) {
      expect(ofPage(leaf | (1n << bit)), `bit ${bit}`).toBe(WALK_RESERVED_FAULT);
      expect(of2m(leaf | BigInt(BASE + 0x3000) | (1n << bit)), `table, bit ${bit}`).toBe(WALK_RESERVED_FAULT);
    }
    for (const bit of [3n, 4n, 7n, 8n, 9n, 10n, 11n, 38n, 52n, 58n, 62n, 63n]) {
      expect(ofPage(leaf | (1n << bit)), `bit ${bit}`).toBe(WALK_OK);
    }
    for (let bit = 13n; bit <= 20n; bit++) {
      expect(of2m(leaf | PS | (1n << bit)), `bit ${bit}`).toBe(WALK_RESERVED_FAULT);
      expect(image.walker.faultLevel).toBe(2);
    }
    for (let bit = 13n; bit <= 29n; bit++) {
      expect(of1g(leaf | PS | (1n << bit)), `bit ${bit}`).toBe(WALK_RESERVED_FAULT);
    }
    expect(of2m(leaf | PS | PAT_LARGE)).toBe(WALK_OK);
    expect(of2m(leaf | PS, first({ pages2m: false }))).toBe(WALK_RESERVED_FAULT);
    expect(of1g(leaf | PS | PAT_LARGE)).toBe(WALK_OK);
    expect(of1g(leaf | PS, first({ pages1g: false }))).toBe(WALK_RESERVED_FAULT);
    image.put(BASE, BigInt(BASE + 0x1000) | leaf | PS);
    expect(walk(first())).toBe(WALK_RESERVED_FAULT);
    expect(image.walker.faultLevel).toBe(0);
  });

  it("looks at presence before permissions, and at them before reserved bits", () => {
    image.chain(BASE, P | RW | US, 1n << 45n);
    expect(walk(first(), ACCESS_WRITE)).toBe(WALK_TRANSLATION_FAULT);
    image.chain(BASE, P | RW | US, P | (1n << 45n));
    expect(walk(first(), ACCESS_READ)).toBe(WALK_PERMISSION_FAULT);
    image.chain(BASE, P | RW | US, P | US | (1n << 45n));
    expect(walk(first(), ACCESS_READ)).toBe(WALK_RESERVED_FAULT);
  });

  it("sets accessed bits in each entry that it uses and the dirty bit of the leaf of a write", () => {
    const leaf = 0x7000n | P | RW | US;
    image.chain(BASE, P | RW | US, leaf);
    expect(walk(first(), ACCESS_READ)).toBe(WALK_OK);
    expect(image.walker.outClean).not.toBe(0);
    for (let i = 0; i < 3; i++) {
      expect(image.get(BASE + i * 0x1000)).toBe(BigInt(BASE + (i + 1) * 0x1000) | P | RW | US | A);
    }
    expect(image.get(BASE + 0x3008)).toBe(leaf | A);
    expect(walk(first(), ACCESS_WRITE)).toBe(WALK_OK);
    expect(image.walker.outClean).toBe(0);
    expect(image.get(BASE + 0x3008)).toBe(leaf | A | D);
    expect(image.get(BASE + 0x2000) & D).toBe(0n);
    expect(walk(first(), ACCESS_READ)).toBe(WALK_OK);
    expect(image.walker.outClean).toBe(0);
    expect(walk(first({ extendedAccessed: true }), ACCESS_READ)).toBe(WALK_OK);
    expect(image.get(BASE + 0x3008)).toBe(leaf | A | D | EA);
    expect(image.get(BASE + 0x1000) & EA).toBe(EA);
  });

  it("marks the tables above a faulting entry and not that entry", () => {
    image.chain(BASE, P | RW | US, 0x7000n | P | US);
    expect(walk(first(), ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
    expect(image.get(BASE + 0x2000) & A).toBe(A);
    expect(image.get(BASE + 0x3008)).toBe(0x7000n | P | US);
  });

  it("faults where the bits cannot be written: memory that refuses, a walk that is not snooped", () => {
    image.putRom(0, BigInt(BASE + 0x1000) | P | RW | US);
    image.chain(BASE, P | RW | US, 0x7000n | P | RW | US);
    const inRom = first({ baseLow: ROM });
    expect(walk(inRom)).toBe(WALK_UPDATE_FAULT);
    expect([image.walker.faultStage, image.walker.faultLevel, image.walker.fetchLow >>> 0]).toEqual([1, 0, ROM]);
    image.putRom(0, BigInt(BASE + 0x1000) | P | RW | US | A);
    expect(walk(inRom)).toBe(WALK_OK);
    expect(walk(first({ unsnoopedWalk: true }), ACCESS_WRITE)).toBe(WALK_UPDATE_FAULT);
    expect(image.walker.faultLevel).toBe(0);
    expect(image.get(BASE + 0x3008) & D).toBe(0n);
  });

  it("aborts where an entry cannot be fetched", () => {
    image.chain(BASE, P | RW | US, 0n);
    image.put(BASE + 0x1000, 0x7000_0000n | P | RW | US);
    expect(walk(first())).toBe(WALK_EXTERNAL_ABORT);
    expect([image.walker.faultStage, image.walker.faultLevel, image.walker.fetchLow]).toEqual([1, 2, 0x7000_0000]);
  });
});

describe("a VT-d second stage", () => {
  const walk = (tables: X86Tables, access = ACCESS_READ, high = 0, low = 0x1234): number => image.walker.walkStage2(tables, high, low, access);

  it("is present with R or W, and grants what all levels grant", () => {
    image.chain(BASE + 0x8000, READ | WRITE, 0x7000n | WRITE);
    expect(walk(second(), ACCESS_WRITE)).toBe(WALK_OK);
    expect(image.out).toBe(0x7234n);
    expect(shown(image.walker.outPermissions)).toBe("-w--w-");
    expect(image.walker.outClean).toBe(0);
    expect(image.get(BASE + 0xb008)).toBe(0x7000n | WRITE);
    expect(walk(second(), ACCESS_READ)).toBe(WALK_PERMISSION_FAULT);
    expect([image.walker.faultStage, image.walker.faultLevel, image.walker.faultAccess]).toEqual([2, 3, ACCESS_READ]);
    expect(image.faultAddress).toBe(0x1234n);
    image.put(BASE + 0x9000, BigInt(BASE + 0xa000) | READ);
    expect(walk(second(), ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
    expect([image.walker.faultLevel, image.walker.faultAccess]).toEqual([1, ACCESS_WRITE]);
    image.put(BASE + 0xa000, BigInt(BASE + 0xb000) | 4n);
    expect(walk(second(), ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
    expect(image.walker.faultLevel).toBe(2);
  });

  it("walks three levels of 39 bits and five of 57, and refuses addresses beyond", () => {
    image.chain(BASE + 0x8000, READ | WRITE, 0x7000n | READ);
    const three = second({ levels: 3, inputBits: 39, baseLow: BASE + 0x9000 });
    expect(walk(three)).toBe(WALK_OK);
    expect(walk(three, ACCESS_READ, 0x80, 0)).toBe(WALK_ADDRESS_SIZE_FAULT);
    expect(image.walker.faultStage).toBe(2);
    expect(image.faultAddress).toBe(0x80_0000_0000n);
    const five = second({ levels: 5, inputBits: 57, baseLow: BASE + 0x7000 });
    image.put(BASE + 0x7000 + 3 * 8, BigInt(BASE + 0x8000) | READ | WRITE);
    expect(walk(five, ACCESS_READ, 0x3_0000, 0x1234)).toBe(WALK_OK);
    expect(walk(five, ACCESS_READ, 0x200_0000, 0x1234)).toBe(WALK_ADDRESS_SIZE_FAULT);
    expect(walk(second(), ACCESS_READ, 0x1_0000, 0)).toBe(WALK_ADDRESS_SIZE_FAULT);
    // The smaller MGAW counts.
    expect(walk(second({ inputBits: 39 }), ACCESS_READ, 0x80, 0)).toBe(WALK_ADDRESS_SIZE_FAULT);
  });

  it("faults on reserved bits: SNP and TM where not supported, in tables always", () => {
    const rw = READ | WRITE;
    const leaf = (entry: bigint, tables = second()): number => (image.chain(BASE + 0x8000, rw, 0x7000n | rw | entry), walk(tables));
    const table = (entry: bigint, tables = second()): number =>
      (image.chain(BASE + 0x8000, rw, 0x7000n | rw), image.put(BASE + 0xa000, BigInt(BASE + 0xb000) | rw | entry), walk(tables));
    for (const bit of [2n, 3n, 6n, 7n, 8n, 9n, 10n, 38n, 52n, 61n, 63n]) {
      expect(leaf(1n << bit), `bit ${bit}`).toBe(WALK_OK);
    }
    for (const bit of [11n, 39n, 51n, 62n]) {
      expect(leaf(1n << bit), `bit ${bit}`).toBe(WALK_RESERVED_FAULT);
      expect(table(1n << bit), `table, bit ${bit}`).toBe(WALK_RESERVED_FAULT);
    }
    const more = second({ snoopControl: true, transientMapping: true });
    expect(leaf(SNP | TM, more)).toBe(WALK_OK);
    expect(table(SNP, more)).toBe(WALK_RESERVED_FAULT);
    expect(table(TM, more)).toBe(WALK_RESERVED_FAULT);
    image.put(BASE + 0xa000, 0x1000n | LARGE | rw);
    expect(walk(second())).toBe(WALK_RESERVED_FAULT);
    image.put(BASE + 0xa000, 0x20_0000n | LARGE | rw);
    expect(walk(second())).toBe(WALK_OK);
    expect([image.out, image.walker.outPageBits]).toEqual([0x20_1234n, 21]);
    expect(walk(second({ pages2m: false }))).toBe(WALK_RESERVED_FAULT);
    image.put(BASE + 0x9000, 0x4000_0000n | LARGE | rw);
    expect(walk(second())).toBe(WALK_OK);
    expect([image.out, image.walker.outPageBits]).toEqual([0x4000_1234n, 30]);
    expect(walk(second({ pages1g: false }))).toBe(WALK_RESERVED_FAULT);
  });

  it("keeps its accessed and dirty bits only where they are enabled", () => {
    const rw = READ | WRITE;
    image.chain(BASE + 0x8000, rw, 0x7000n | rw);
    expect(walk(second(), ACCESS_WRITE)).toBe(WALK_OK);
    expect(image.get(BASE + 0xb008)).toBe(0x7000n | rw);
    const tracked = second({ accessedDirty: true });
    expect(walk(tracked)).toBe(WALK_OK);
    expect(image.walker.outClean).not.toBe(0);
    expect(image.get(BASE + 0xb008)).toBe(0x7000n | rw | SL_A);
    expect(image.get(BASE + 0x8000) & (SL_A | SL_D)).toBe(SL_A);
    expect(walk(tracked, ACCESS_WRITE)).toBe(WALK_OK);
    expect(image.walker.outClean).toBe(0);
    expect(image.get(BASE + 0xb008)).toBe(0x7000n | rw | SL_A | SL_D);
    expect(walk(second({ accessedDirty: true, unsnoopedWalk: true }), ACCESS_WRITE)).toBe(WALK_OK);
  });
});

describe("a first stage over a second", () => {
  const rw = READ | WRITE;
  const LEAF2 = BASE + 0xb000;

  /** Guest page n is at BASE + n pages; the first stage is in guest pages 0 to 3, IOVA 0x1000 is guest page 5. */
  beforeEach(() => {
    image.chain(BASE + 0x8000, rw, 0n);
    for (let page = 0; page < 8; page++) {
      image.put(LEAF2 + page * 8, BigInt(BASE + page * 0x1000) | rw);
    }
    for (let i = 0; i < 3; i++) {
      image.put(BASE + i * 0x1000, BigInt((i + 1) * 0x1000) | P | RW | US);
    }
    image.put(BASE + 0x3008, 0x5000n | P | RW | US);
  });
  const tables = first({ baseLow: 0 });
  const walk = (access = ACCESS_READ, stage2 = second(), stage1 = tables): number => image.walker.walkNested(stage1, stage2, 0, 0x1234, access);

  it("takes table addresses and the output through the second stage, and what both permit", () => {
    expect(walk()).toBe(WALK_OK);
    expect(image.out).toBe(BigInt(BASE + 0x5234));
    expect(image.walker.outClean).not.toBe(0);
    image.put(LEAF2 + 5 * 8, BigInt(BASE + 0x5000) | READ);
    expect(walk()).toBe(WALK_OK);
    expect(shown(image.walker.outPermissions)).toBe("r-x---");
    expect(walk(ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
    expect([image.walker.faultStage, image.walker.faultOnTableWalk, image.walker.faultAccess]).toEqual([2, 0, ACCESS_WRITE]);
    expect(image.faultAddress).toBe(0x5234n);
    // The write that the second stage refused left the first stage's page clean.
    expect(image.get(BASE + 0x3008)).toBe(0x5000n | P | RW | US | A);
  });

  it("needs the second stage's read permission for entries, its write permission where a bit has to be set", () => {
    image.put(LEAF2 + 2 * 8, BigInt(BASE + 0x2000) | READ);
    expect(walk()).toBe(WALK_PERMISSION_FAULT);
    expect(image.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1, faultTableLevel: 2, faultLevel: 3, faultAccess: ACCESS_WRITE });
    expect(image.faultAddress).toBe(0x2000n);
    // With the bits set there is nothing to write.
    image.put(BASE + 0x2000, 0x3000n | P | RW | US | A);
    expect(walk()).toBe(WALK_OK);
    image.put(LEAF2 + 2 * 8, BigInt(BASE + 0x2000) | WRITE);
    expect(walk()).toBe(WALK_PERMISSION_FAULT);
    expect(image.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1, faultTableLevel: 2, faultAccess: ACCESS_READ });
    image.put(LEAF2 + 2 * 8, BigInt(BASE + 0x2000) | rw);
    image.put(LEAF2 + 3 * 8, BigInt(BASE + 0x3000) | READ);
    image.put(BASE + 0x3008, 0x5000n | P | RW | US | A);
    expect(walk()).toBe(WALK_OK);
    expect(walk(ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
    expect(image.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1, faultTableLevel: 3, faultAccess: ACCESS_WRITE });
    expect(image.faultAddress).toBe(0x3008n);
  });

  it("tells missing, out of range and unreachable second-stage entries of tables from those of the output", () => {
    expect(walk()).toBe(WALK_OK);
    image.put(LEAF2 + 1 * 8, 0n);
    expect(walk()).toBe(WALK_TRANSLATION_FAULT);
    expect(image.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1, faultTableLevel: 1 });
    image.put(BASE, 0x100_0000_0000n | P | RW | US | A);
    const wide = first({ baseLow: 0, outputBits: 46 });
    expect(walk(ACCESS_READ, second({ inputBits: 39, levels: 3, baseLow: BASE + 0x9000 }), wide)).toBe(WALK_ADDRESS_SIZE_FAULT);
    expect(image.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1, faultTableLevel: 1 });
    expect(image.faultAddress).toBe(0x100_0000_0000n);
    image.put(BASE, 0x1000n | P | RW | US | A);
    image.put(LEAF2 + 1 * 8, BigInt(BASE + 0x1000) | rw);
    image.put(LEAF2 + 5 * 8, 0n);
    expect(walk()).toBe(WALK_TRANSLATION_FAULT);
    expect(image.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 0 });
    image.put(BASE + 0xa000, 0x7000_0000n | rw);
    expect(walk()).toBe(WALK_EXTERNAL_ABORT);
    expect(image.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1, faultTableLevel: 0, fetchLow: 0x7000_0000 });
  });

  it("marks the second stage's page of a first-stage entry dirty when it sets a bit there, and only then", () => {
    const tracked = second({ accessedDirty: true });
    expect(walk(ACCESS_READ, tracked)).toBe(WALK_OK);
    for (let page = 0; page <= 3; page++) {
      expect(image.get(LEAF2 + page * 8) & (SL_A | SL_D), `page ${page}`).toBe(SL_A | SL_D);
    }
    expect(image.get(LEAF2 + 5 * 8) & (SL_A | SL_D)).toBe(SL_A);
    for (let page = 0; page <= 3; page++) {
      image.put(LEAF2 + page * 8, BigInt(BASE + page * 0x1000) | rw);
    }
    expect(walk(ACCESS_READ, tracked)).toBe(WALK_OK);
    for (let page = 0; page <= 3; page++) {
      expect(image.get(LEAF2 + page * 8) & (SL_A | SL_D), `page ${page}`).toBe(SL_A);
    }
    expect(walk(ACCESS_WRITE, tracked)).toBe(WALK_OK);
    expect(image.walker.outClean).toBe(0);
    expect(image.get(LEAF2 + 3 * 8) & SL_D).toBe(SL_D);
    expect(image.get(LEAF2 + 5 * 8) & SL_D).toBe(SL_D);
    expect(image.get(BASE + 0x3008)).toBe(0x5000n | P | RW | US | A | D);
  });
});

describe("a TLB before x86 tables", () => {
  it("does not let a write pass that has to mark its page", () => {
    image.chain(BASE, P | RW | US, 0x7000n | P | RW | US);
    const translator = new Translator(image.walker, new Tlb(64));
    const at = (access: number): number => translator.translate(5, 7, first(), undefined, 0, 0x1234, access);
    expect(at(ACCESS_READ)).toBe(WALK_OK);
    expect(at(ACCESS_READ)).toBe(WALK_OK);
    expect(translator.walks).toBe(1);
    expect(at(ACCESS_WRITE)).toBe(WALK_OK);
    expect(image.get(BASE + 0x3008) & D).toBe(D);
    expect(translator.walks).toBe(2);
    expect(at(ACCESS_WRITE)).toBe(WALK_OK);
    expect(translator.walks).toBe(2);
  });
});
