import { RamBlock, RamWordMemory } from "../src/memory/index.js";
import { highWord, lowWord } from "../src/support/index.js";
import type { Tables } from "../src/translation/index.js";
import { xorshift32 } from "./random.js";

/** Whose descriptors: VMSAv8-64 or Intel VT-d. */
export type WalkFormat = "vmsa" | "vtd";

/**
 * The tables and address sequences of the walk benches: 65,536 pages of 4 KiB and 64 blocks of 2 MiB in
 * stage 1, the guest's 2 GiB in 4-KiB pages in stage 2, table pages and data scattered, in the same places
 * whatever the format. The C program gets them as a file.
 */
export interface WalkImage {
  readonly memory: RamWordMemory;
  readonly stage1: Tables;
  readonly stage2: Tables;
  /** Low and high words of IOVAs, in turn. */
  readonly sequences: Readonly<Record<SequenceName, Int32Array>>;
  /** The same for the C program (see bench/c/walk.c). */
  readonly file: Uint8Array;
}

export const sequenceNames = ["uniform", "hot90", "sequential"] as const;
export type SequenceName = (typeof sequenceNames)[number];

const PAGE = 4096;
const HOST_BASE = 0x8_0000_0000;
const HOST_BYTES = 0x1_0000_0000;
const GUEST_BASE = 0x4000_0000;
const GUEST_PAGES = 524_288;
const PAGES = 65_536;
const BLOCKS = 64;
const BLOCK = 0x20_0000;
const PAGES_IOVA = 0x7f00_0000_0000;
const BLOCKS_IOVA = 0x7f80_0000_0000;
const SEQUENCE = 1 << 17;

/** Low bits of descriptors that allow everything and have nothing left to be set. */
interface Bits {
  readonly table1: number;
  readonly page1: number;
  readonly block1: number;
  readonly table2: number;
  readonly page2: number;
}

const BITS: Readonly<Record<WalkFormat, Bits>> = {
  // AP read and write for all, inner shareable, access flag, not global; stage 2 normal memory, S2AP read and write.
  vmsa: { table1: 3, page1: 0xf43, block1: 0xf41, table2: 3, page2: 0x7ff },
  // P, R/W, U/S, accessed, of leaves dirty, page size; second stage R and W.
  vtd: { table1: 0x27, page1: 0x67, block1: 0xe7, table2: 3, page2: 3 },
};

export function makeWalkImage(format: WalkFormat): WalkImage {
  const bits = BITS[format];
  const random = xorshift32(20_260_101);
  const ram = new RamBlock("bench", HOST_BYTES, 0);
  const memory = new RamWordMemory();
  memory.place(HOST_BASE, ram);
  const words = ram.wordWindow(0);
  const tablePages = new Set<number>();

  // Host pages in a random order: the first for the guest's pages, the rest for stage 2's tables.
  const hostPages = shuffled(HOST_BYTES / PAGE, random);
  const hostOf = (guestPage: number): number => HOST_BASE + hostPages[guestPage] * PAGE;
  let nextHost = GUEST_PAGES;
  const newHostTable = (): number => HOST_BASE + hostPages[nextHost++] * PAGE;

  // Guest pages in a random order for stage 1's tables, from the upper half: the blocks take the lower one.
  const guestPages = shuffled(GUEST_PAGES / 2, random);
  let nextGuest = 0;
  const newGuestTable = (): number => GUEST_BASE + (GUEST_PAGES / 2 + guestPages[nextGuest++]) * PAGE;

  const store = (address: number, value: number): void => {
    const at = (address - HOST_BASE) / 4;
    words[at] = lowWord(value);
    words[at + 1] = highWord(value);
    tablePages.add(address - (address % PAGE));
  };
  const load = (address: number): number => {
    const at = (address - HOST_BASE) / 4;
    return (words[at + 1] >>> 0) * 0x1_0000_0000 + (words[at] >>> 0);
  };
  /** Puts a leaf at `level` for `input`; `toHost` says where an address in a table is in memory. */
  const map = (root: number, input: number, leaf: number, level: number, tableBits: number, newTable: () => number, toHost: (a: number) => number): void => {
    let table = root;
    for (let at = 0; ; at++) {
      const index = Math.floor(input / 2 ** (39 - 9 * at)) % 512;
      const entry = toHost(table) + index * 8;
      if (at === level) {
        store(entry, leaf);
        return;
      }
      let next = load(entry);
      if (next === 0) {
        next = newTable() + tableBits;
        store(entry, next);
      }
      table = next - tableBits;
    }
  };
  const identity = (address: number): number => address;
  const throughGuest = (address: number): number => hostOf((address - GUEST_BASE) / PAGE);

  const root2 = newHostTable();
  for (let page = 0; page < GUEST_PAGES; page++) {
    map(root2, GUEST_BASE + page * PAGE, hostOf(page) + bits.page2, 3, bits.table2, newHostTable, identity);
  }
  const root1 = newGuestTable();
  const data = shuffled(GUEST_PAGES / 2, random);
  for (let page = 0; page < PAGES; page++) {
    map(root1, PAGES_IOVA + page * PAGE, GUEST_BASE + data[page] * PAGE + bits.page1, 3, bits.table1, newGuestTable, throughGuest);
  }
  for (let block = 0; block < BLOCKS; block++) {
    map(root1, BLOCKS_IOVA + block * BLOCK, GUEST_BASE + block * BLOCK + bits.block1, 2, bits.table1, newGuestTable, throughGuest);
  }

  const anywhere = (): number =>
    random() % 16 === 0
      ? BLOCKS_IOVA + (random() % BLOCKS) * BLOCK + (random() % (BLOCK / 8)) * 8
      : PAGES_IOVA + (random() % PAGES) * PAGE + (random() % 512) * 8;
  // Nine of ten addresses lie in a tenth of the pages.
  const hot = Array.from({ length: PAGES / 10 }, () => PAGES_IOVA + (random() % PAGES) * PAGE);
  const sequences: Record<SequenceName, Int32Array> = {
    uniform: sequence(anywhere),
    hot90: sequence(() => (random() % 10 === 0 ? anywhere() : hot[random() % hot.length] + (random() % 512) * 8)),
    // 64-byte accesses one after the other.
    sequential: sequence((i) => PAGES_IOVA + ((i * 64) % (PAGES * PAGE))),
  };
  return {
    memory,
    stage1: tablesAt(format, 1, root1),
    stage2: tablesAt(format, 2, root2),
    sequences,
    file: serialise(words, [...tablePages], [HOST_BASE, HOST_BYTES, root1, root2], sequences),
  };
}

function tablesAt(format: WalkFormat, stage: 1 | 2, base: number): Tables {
  const common = { baseHigh: highWord(base), baseLow: lowWord(base), inputBits: 48, outputBits: 48 };
  return format === "vtd"
    ? { ...common, format: stage === 1 ? "first" : "second", levels: 4, pages2m: true, pages1g: true }
    : {
        ...common,
        granuleBits: 12,
        startLevel: 0,
        accessFlagFaultsDisabled: false,
        hierarchicalDisabled: false,
        writeImpliesNoExecute: false,
      };
}

function sequence(next: (index: number) => number): Int32Array {
  const words = new Int32Array(SEQUENCE * 2);
  for (let i = 0; i < SEQUENCE; i++) {
    const address = next(i);
    words[i * 2] = lowWord(address);
    words[i * 2 + 1] = highWord(address);
  }
  return words;
}

/** Little-endian 64-bit words: the numbers, page count, length of a sequence, the pages (address, content), the sequences. */
function serialise(
  words: Int32Array,
  pages: readonly number[],
  numbers: readonly number[],
  sequences: Readonly<Record<SequenceName, Int32Array>>,
): Uint8Array {
  const header = [...numbers, pages.length, SEQUENCE];
  const out = new Int32Array(header.length * 2 + pages.length * (2 + PAGE / 4) + sequenceNames.length * SEQUENCE * 2);
  let at = 0;
  const put = (value: number): void => {
    out[at++] = lowWord(value);
    out[at++] = highWord(value);
  };
  header.forEach(put);
  for (const page of pages) {
    put(page);
    const first = (page - HOST_BASE) / 4;
    out.set(words.subarray(first, first + PAGE / 4), at);
    at += PAGE / 4;
  }
  for (const name of sequenceNames) {
    out.set(sequences[name], at);
    at += SEQUENCE * 2;
  }
  return new Uint8Array(out.buffer);
}

/** Numbers from 0 to n - 1 in a random order. */
function shuffled(n: number, random: () => number): Int32Array {
  const list = Int32Array.from({ length: n }, (_unused, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const other = random() % (i + 1);
    [list[i], list[other]] = [list[other], list[i]];
  }
  return list;
}
