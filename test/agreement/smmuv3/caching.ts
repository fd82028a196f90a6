/**
 * What may be used after an invalidation. A translation is made and used, something that it came from is changed, commands
 * follow, and it is used again. Where a command covers what was changed, the change has to show; where none does, both
 * the old and the new are right (Arm IHI 0070 3.17, 4.3, 4.4: an SMMU may drop what it holds at any time).
 */
import { stage1StartLevel, stage2StartLevel, type GranuleBits } from "../../../src/translation/index.js";
import { buildCd, buildSte, encodeCommand, OP } from "../../../src/smmuv3/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import { allocatorOf, putWords, type Words } from "../memory-image.js";
import type { TranslationCase } from "./image.js";
import { DATA, POOL } from "./layout.js";
import { EDU_DEVFN } from "./machines.js";
import { type Step, TableTree } from "./table-tree.js";

export interface CachingCase {
  readonly before: TranslationCase;
  readonly after: TranslationCase;
  readonly commands: readonly Int32Array[];
  /** The commands oblige the SMMU to use what is there now. */
  readonly covered: boolean;
  /** The same where a command with an ASID concerns that ASID's translations alone, global or not (S-46). */
  readonly coveredByAsid: boolean;
  readonly notes: readonly string[];
}

const LEAF1 = (1n << 10n) | (1n << 6n);
const LEAF2 = (1n << 10n) | (3n << 6n) | (15n << 2n);
const NOT_GLOBAL = 1n << 11n;
const TG = { 12: 1, 14: 2, 16: 3 } as const;
const TG0 = { 12: 0, 14: 2, 16: 1 } as const;
const OUTPUT_44 = 4;
/** Table size that has the StreamIDs of both devices. */
const STREAM_BITS = 8;

export function generateCachingCase(random: Random, stages: "1" | "2" | "nested"): CachingCase {
  const kind = stages === "nested" ? random.pick(["1", "2", "nested", "nested"] as const) : stages;
  const words: Words = new Map();
  const allocate = allocatorOf(POOL);
  const put = (address: number, image: Int32Array): void => putWords(words, address, image);
  const granuleBits: GranuleBits = random.pick([12, 14, 16]);
  const size = 16 + random.below(20);
  const inputBits = 64 - size;
  const [pageA, pageB] = [0, 1].map((n) => DATA.base + (2 * random.below(4) + n) * 0x1_0000);
  const offset = 4 * random.below(2 ** granuleBits / 4);
  const asid = random.below(4);
  const vmid = random.below(4);
  const global = random.oneIn(3);
  const iova = ((random.wide() & ((1n << BigInt(inputBits)) - 1n)) >> 16n) << 16n;
  const level = random.oneIn(3) && stage1StartLevel(granuleBits, inputBits) <= 2 ? 2 : 3;
  const blockBits = granuleBits + (granuleBits - 3) * (3 - level);
  const target = (page: number): bigint => (level === 3 ? BigInt(page) : page === pageA ? BigInt(DATA.base) : 0x5000_0000n);
  const within = level === 3 ? BigInt(offset) : BigInt(pageA - DATA.base + offset);
  const base = level === 3 ? iova : (iova >> BigInt(blockBits)) << BigInt(blockBits);
  const address = base | within;

  const steps1: Step[] = [];
  const steps2: Step[] = [];
  let cdAddress = 0x5000_0000;
  let secondCd = 0;
  const stage2Bits = 40;
  const sl0 = 1;
  const tree2 = kind === "1" ? null : new TableTree(words, allocate, granuleBits, stage2StartLevel(granuleBits, sl0, stage2Bits, 44), stage2Bits);
  if (kind !== "2") {
    const make = (page: number, tag: number): Int32Array => {
      const tree = new TableTree(words, allocate, granuleBits, stage1StartLevel(granuleBits, inputBits), inputBits);
      const made = tree.map(base, target(page), level, LEAF1 | (global ? 0n : NOT_GLOBAL), () => 0n) ?? [];
      if (page === pageA) {
        steps1.push(...made);
      }
      if (tree2 !== null) {
        [tree.base, ...made.map((step) => step.address)].forEach((at) => tree2.map(BigInt(at), BigInt(at), 3, LEAF2, () => 0n));
      }
      return buildCd({ V: 1, AA64: 1, A: 1, R: 1, IPS: OUTPUT_44, T0SZ: size, TG0: TG0[granuleBits], TTB0: BigInt(tree.base), EPD1: 1, T1SZ: 16, TG1: 2, ASID: tag });
    };
    cdAddress = allocate(64, 64);
    put(cdAddress, make(pageA, asid));
    secondCd = allocate(64, 64);
    put(secondCd, make(pageB, asid + 8));
    [cdAddress, secondCd].forEach((at) => tree2?.map(BigInt(at), BigInt(at), 3, LEAF2, () => 0n));
    // A block of stage 1 is more than a page of stage 2: the page that is used is what stage 2 maps.
    [BigInt(pageA), BigInt(pageB), target(pageB) | within].forEach((at) => tree2?.map((at >> 16n) << 16n, (at >> 16n) << 16n, 3, LEAF2, () => 0n));
    steps2.push(...(tree2 === null ? [] : findSteps(tree2, words, (target(pageA) | within) & ~((1n << BigInt(granuleBits)) - 1n), granuleBits, stage2Bits)));
  } else {
    // Stage 2 alone: the input is the IPA.
    steps2.push(...(tree2!.map(base & ((1n << 40n) - 1n), target(pageA), level, LEAF2, () => 0n) ?? []));
  }
  const input = kind === "2" ? address & ((1n << 40n) - 1n) : address;
  const config = { "1": 5, "2": 6, nested: 7 }[kind];
  const makeSte = (values: { config: number; pointer: number }): Int32Array =>
    buildSte({
      V: 1, CONFIG: values.config, S1CONTEXTPTR: BigInt(values.pointer), S1DSS: 2, S2VMID: vmid, S2AA64: 1, S2R: 1, S2PS: OUTPUT_44,
      S2T0SZ: 64 - stage2Bits, S2SL0: sl0, S2TG: TG0[granuleBits], S2TTB: BigInt(tree2?.base ?? 0x5000_0000),
    });
  const ste = makeSte({ config, pointer: cdAddress });
  const table = allocate(64 << STREAM_BITS, 64 << STREAM_BITS);
  put(table + 64 * EDU_DEVFN, ste);

  // What is changed.
  const changed: Words = new Map(words);
  const set = (at: number, image: Int32Array): void => putWords(changed, at, image);
  const changes = kind === "2" ? (["leaf2", "table2", "ste"] as const) : kind === "1" ? (["leaf1", "table1", "cd", "ste", "leaf1"] as const) : (["leaf1", "table1", "cd", "ste", "leaf2", "leaf1"] as const);
  const change = random.pick(changes);
  /** The stream translates no more. */
  let ends = false;
  switch (change) {
    case "leaf1": {
      const { address: at } = steps1[steps1.length - 1];
      changed.set(at, random.oneIn(3) ? 0n : ((words.get(at) ?? 0n) & ~0xffff_ffff_f000n) | target(pageB));
      break;
    }
    case "leaf2": {
      const { address: at } = steps2[steps2.length - 1];
      changed.set(at, kind === "nested" || random.oneIn(3) ? 0n : ((words.get(at) ?? 0n) & ~0xffff_ffff_f000n) | target(pageB));
      break;
    }
    case "table1":
      changed.set(steps1[Math.max(0, steps1.length - 2)].address, 0n);
      break;
    case "table2":
      changed.set(steps2[Math.max(0, steps2.length - 2)].address, 0n);
      break;
    case "cd":
      for (let n = 0; n < 64; n += 8) {
        changed.set(cdAddress + n, words.get(secondCd + n) ?? 0n);
      }
      break;
    default:
      ends = random.oneIn(2) || kind === "2";
      set(table + 64 * EDU_DEVFN, makeSte(ends ? { config: 0, pointer: cdAddress } : { config, pointer: secondCd }));
  }
  const onlyOneLevel = (change === "table1" && steps1.length < 2) || (change === "table2" && steps2.length < 2);

  // What is invalidated.
  const commands: Int32Array[] = [];
  const notes: string[] = [`stage ${kind}, granule ${granuleBits}, level ${level}, ${global ? "global" : `ASID ${asid}`}, VMID ${vmid}`, `changed: ${change}`];
  let covered = false;
  let coveredByAsid = false;
  for (let n = random.below(2); n >= 0; n--) {
    const made = randomInvalidation(random, { stages, kind, ends, change: onlyOneLevel ? (change === "table1" ? "leaf1" : "leaf2") : change, asid, vmid, global, input, granuleBits, level, leaves: change !== "table1" && change !== "table2" || onlyOneLevel });
    commands.push(made.words);
    covered ||= made.covers;
    coveredByAsid ||= made.coversByAsid ?? made.covers;
    notes.push(`${made.name}${made.covers ? " (covers)" : ""}`);
  }
  commands.push(encodeCommand(OP.SYNC));
  const access = { device: "edu", write: false, iova: input, length: 4, expected: pageA + offset } as const;
  const registers = { strtabBase: BigInt(table), strtabBaseConfig: STREAM_BITS, enabled: true, recordInvalidStreams: true, globalAbort: false };
  const image = (memory: Words): TranslationCase => ({ words: memory, ste, cd: null, registers, accesses: [access], notes });
  return { before: image(words), after: image(changed), commands, covered, coveredByAsid, notes };
}

/** The descriptors of a stage-2 walk that is in the tables already. */
function findSteps(tree: TableTree, words: Words, ipa: bigint, granuleBits: number, inputBits: number): Step[] {
  const steps: Step[] = [];
  let table = tree.base;
  for (let level = tree.startLevel; level <= 3; level++) {
    const shift = granuleBits + (granuleBits - 3) * (3 - level);
    const index = Number((ipa & ((1n << BigInt(inputBits)) - 1n)) >> BigInt(shift)) % 2 ** (level === tree.startLevel ? inputBits - shift : granuleBits - 3);
    const address = table + 8 * index;
    steps.push({ level, address, leaf: level === 3, shift });
    table = Number((words.get(address) ?? 0n) & 0xffff_ffff_f000n);
  }
  return steps;
}

interface Held {
  readonly stages: "1" | "2" | "nested";
  readonly kind: "1" | "2" | "nested";
  readonly change: "leaf1" | "leaf2" | "table1" | "table2" | "cd" | "ste";
  readonly ends: boolean;
  readonly asid: number;
  readonly vmid: number;
  readonly global: boolean;
  readonly input: bigint;
  readonly granuleBits: GranuleBits;
  readonly level: number;
  /** A command for leaves alone is enough. */
  readonly leaves: boolean;
}

interface Invalidation {
  readonly words: Int32Array;
  readonly covers: boolean;
  readonly coversByAsid?: boolean;
  readonly name: string;
}

function randomInvalidation(random: Random, held: Held): Invalidation {
  const { stages, kind, change } = held;
  const near = <T>(value: T, other: T): T => (random.oneIn(4) ? other : value);
  const sid = near(EDU_DEVFN, EDU_DEVFN + 1);
  const asid = near(held.asid, held.asid ^ 1);
  const vmid = near(held.vmid, held.vmid ^ 1);
  // 4.4.2: the VMID is compared where stage 2 is supported.
  const vmidFits = stages === "1" || vmid === held.vmid;
  const ofStage1 = change === "leaf1" || change === "table1";
  const ofStage2 = change === "leaf2" || change === "table2";
  const page = 1n << BigInt(held.granuleBits);
  const at = near(held.input, held.input ^ page) & ~0xfffn;
  const ranged = random.oneIn(2);
  const scale = ranged ? random.below(4) : 0;
  const num = ranged ? random.below(32) : 0;
  const granule = ranged ? near(held.granuleBits, random.pick([12, 14, 16] as const)) : 0;
  const level = ranged ? random.pick([0, 0, held.level, 3]) : 0;
  const leaf = random.below(2);
  const start = ranged ? ((at >> BigInt(granule)) - BigInt(random.below(3))) << BigInt(granule) : at;
  const illegal = ranged && num === 0 && scale === 0 && (level === 0 || (granule === 14 && level === 1));
  const from = start < 0n ? 0n : start;
  const range = { ADDRESS: from, LEAF: leaf, ...(ranged && !illegal ? { NUM: num, SCALE: scale, TG: TG[granule as GranuleBits], TTL: level } : {}) };
  const length = ranged && !illegal ? BigInt(num + 1) << BigInt(scale + granule) : 4096n;
  const inRange = ranged && !illegal
    ? granule === held.granuleBits && (level === 0 || level === held.level) && held.input >= from && held.input < from + length
    : held.input >> BigInt(held.granuleBits) === from >> BigInt(held.granuleBits);
  // A TTL says which level the leaf has: nothing of other levels need go.
  const addressFits = inRange && (leaf === 0 || held.leaves) && (held.leaves || level === 0);
  // What is global may serve the new ASID, too.
  const configuration = (fits: boolean): boolean => fits && (change === "cd" || change === "ste") && (!held.global || held.ends);
  const choices: Array<() => Invalidation> = [
    () => ({ words: encodeCommand(OP.CFGI_STE, { SID: sid, LEAF: leaf }), covers: configuration(sid === EDU_DEVFN), name: `CFGI_STE ${sid}` }),
    () => {
      const bits = random.below(9);
      const first = near(EDU_DEVFN, EDU_DEVFN ^ 0x100);
      return { words: encodeCommand(OP.CFGI_STE_RANGE, { SID: first, RANGE: bits }), covers: configuration(first >> (bits + 1) === EDU_DEVFN >> (bits + 1)), name: `CFGI_STE_RANGE ${first} ${bits}` };
    },
    () => ({ words: encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }), covers: configuration(true), name: "CFGI_ALL" }),
    () => ({ words: encodeCommand(OP.TLBI_NSNH_ALL), covers: ofStage1 || ofStage2, name: "TLBI_NSNH_ALL" }),
  ];
  if (stages !== "2") {
    choices.push(
      () => ({ words: encodeCommand(OP.CFGI_CD, { SID: sid, LEAF: leaf }), covers: change === "cd" && configuration(sid === EDU_DEVFN), name: `CFGI_CD ${sid}` }),
      () => ({ words: encodeCommand(OP.CFGI_CD_ALL, { SID: sid }), covers: change === "cd" && configuration(sid === EDU_DEVFN), name: `CFGI_CD_ALL ${sid}` }),
      () => ({ words: encodeCommand(OP.TLBI_NH_ALL, { VMID: vmid }), covers: ofStage1 && vmidFits, name: `TLBI_NH_ALL VMID ${vmid}` }),
      () => ({ words: encodeCommand(OP.TLBI_NH_ASID, { VMID: vmid, ASID: asid }), covers: ofStage1 && vmidFits && !held.global && asid === held.asid, name: `TLBI_NH_ASID VMID ${vmid} ASID ${asid}` }),
      () => ({ words: encodeCommand(OP.TLBI_NH_VA, { VMID: vmid, ASID: asid, ...range }), covers: ofStage1 && vmidFits && (held.global || asid === held.asid) && addressFits, coversByAsid: ofStage1 && vmidFits && asid === held.asid && addressFits, name: `TLBI_NH_VA VMID ${vmid} ASID ${asid} ${show(range)}` }),
      () => ({ words: encodeCommand(OP.TLBI_NH_VAA, { VMID: vmid, ...range }), covers: ofStage1 && vmidFits && addressFits, name: `TLBI_NH_VAA VMID ${vmid} ${show(range)}` }),
    );
  }
  if (stages !== "1") {
    choices.push(
      () => ({ words: encodeCommand(OP.TLBI_S12_VMALL, { VMID: vmid }), covers: (ofStage1 || ofStage2) && vmidFits, name: `TLBI_S12_VMALL VMID ${vmid}` }),
      // 4.4.3.2: what stage 1 had a part in stays.
      () => ({ words: encodeCommand(OP.TLBI_S2_IPA, { VMID: vmid, ...range }), covers: kind === "2" && ofStage2 && vmidFits && addressFits, name: `TLBI_S2_IPA VMID ${vmid} ${show(range)}` }),
    );
  }
  return random.pick(choices)();
}

function show(range: Readonly<Record<string, number | bigint>>): string {
  return Object.entries(range).map(([name, value]) => `${name} 0x${value.toString(16)}`).join(" ");
}
