/**
 * What may be used after an invalidation. A translation is made and used, something that it came from is changed,
 * invalidations follow, and it is used again. Where they cover what was changed, the change has to show; where they
 * do not, both the old and the new are right (Intel VT-d 5.10, 6.2 and 6.5: hardware may drop what it holds at any time).
 */
import { build, CONTEXT, PASID_DIRECTORY, PASID_ENTRY, ROOT, SM_CONTEXT, SM_ROOT } from "./structures.js";
import { PGTT_FIRST_STAGE, PGTT_SECOND_STAGE, TT_UNTRANSLATED_ONLY, TTM_LEGACY, TTM_SCALABLE } from "../../../src/vtd/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import { allocatorOf, putWords, type Words } from "../memory-image.js";
import type { VtdCase } from "./image.js";
import { DATA, EMPTY, isInterruptRange, POOL } from "./layout.js";
import { HIGH_EDU_DEVFN, LOW_EDU_DEVFN, type Offer } from "./machines.js";
import { shiftOf, TableTree } from "./table-tree.js";

export interface Invalidation {
  /** Two 64-bit words; null where registers do it. */
  readonly descriptor: readonly [bigint, bigint] | null;
  /** CCMD, or IVA and IOTLB. */
  readonly registers: { readonly ccmd: bigint } | { readonly iva: bigint; readonly iotlb: bigint } | null;
  readonly name: string;
  readonly covers: { readonly context: boolean; readonly pasid: boolean; readonly iotlb: boolean };
}

export interface CachingCase {
  readonly before: VtdCase;
  readonly after: VtdCase;
  readonly scalable: boolean;
  /** By registers, with the queue off. */
  readonly byRegisters: boolean;
  readonly invalidations: readonly Invalidation[];
  /** The unit is obliged to use what is there now. */
  readonly covered: boolean;
  readonly notes: readonly string[];
}

const DEVFNS = [LOW_EDU_DEVFN, HIGH_EDU_DEVFN];
const READ_WRITE = 3n;
const PRESENT_WRITE_USER = 7n;

type Change = "leaf" | "table" | "context" | "pasid" | "directory";

export function generateCachingCase(random: Random, offer: Offer): CachingCase {
  const scalable = offer.scalableMode && !random.oneIn(4);
  const firstStage = scalable && offer.fsts;
  const words: Words = new Map();
  const allocate = allocatorOf(POOL);
  const levels = firstStage || (offer.awBits === 48 && random.oneIn(2)) ? 4 : 3;
  const [pageA, pageB] = [0, 1].map((n) => DATA.base + (2 * random.below(8) + n) * 0x1000);
  const offset = 4 * random.below(1024);
  const level = random.oneIn(3) ? 2 : 1;
  const domain = random.below(4);
  const devfn = random.pick(DEVFNS);
  const bits = BigInt(12 + 9 * levels - 1);
  const within = (1n << BigInt(shiftOf(level))) - 1n;
  let base: bigint;
  do {
    base = random.wide() & ((1n << bits) - 1n) & ~within;
  } while (isInterruptRange(base));
  const iova = base | (BigInt(pageA + offset) & within);
  const attributes = (): bigint => (firstStage ? PRESENT_WRITE_USER : READ_WRITE);
  /** A tree that maps the address to its place in a page; of a large page, to RAM that is zero. */
  const make = (page: number): { tree: TableTree; steps: NonNullable<ReturnType<TableTree["map"]>> } => {
    const tree = new TableTree(words, allocate, levels);
    const output = level === 1 ? BigInt(page) : page === pageA ? BigInt(DATA.base) : BigInt(EMPTY);
    return { tree, steps: tree.map(iova, output, level, attributes) ?? [] };
  };
  const [one, other] = [make(pageA), make(pageB)];
  const pointer = (tree: TableTree): Record<string, number> => (firstStage ? { FSPTPTR: tree.base } : { SSPTPTR: tree.base });
  const pasidEntry = (tree: TableTree, present = 1): Int32Array =>
    build(PASID_ENTRY, 16, { P: present, AW: levels - 2, PGTT: firstStage ? PGTT_FIRST_STAGE : PGTT_SECOND_STAGE, DID: domain, ...pointer(tree) });
  const root = allocate(4096, 4096);
  const contexts = allocate(4096, 4096);
  const at = { context: 0, pasid: 0, directory: 0 };
  let contextOf: (changed: boolean) => Int32Array;
  const changed: Words = new Map();
  if (scalable) {
    const [tables, others] = [0, 1].map(() => allocate(4096, 4096));
    const [directories, otherDirectories] = [0, 1].map(() => allocate(4096, 4096));
    putWords(words, tables, pasidEntry(one.tree));
    putWords(words, others, pasidEntry(other.tree));
    putWords(words, directories, build(PASID_DIRECTORY, 2, { P: 1, SMPTBLPTR: tables }));
    putWords(words, otherDirectories, build(PASID_DIRECTORY, 2, { P: 1, SMPTBLPTR: others }));
    contextOf = (next) => build(SM_CONTEXT, 8, { P: 1, PASIDDIRPTR: next ? otherDirectories : directories });
    at.pasid = tables;
    at.directory = directories;
    at.context = contexts + 32 * (devfn & 0x7f);
    putWords(words, root, build(SM_ROOT, 4, { LP: 1, LCTP: contexts, UP: 1, UCTP: contexts }));
    putWords(changed, at.directory, build(PASID_DIRECTORY, 2, { P: 1, SMPTBLPTR: others }));
  } else {
    contextOf = (next) => build(CONTEXT, 4, { P: 1, TT: TT_UNTRANSLATED_ONLY, SSPTPTR: (next ? other : one).tree.base, AW: levels - 2, DID: domain });
    at.context = contexts + 16 * devfn;
    putWords(words, root, build(ROOT, 4, { P: 1, CTP: contexts }));
  }
  putWords(words, at.context, contextOf(false));

  const change = random.pick<Change>(scalable ? ["leaf", "leaf", "table", "context", "pasid", "directory"] : ["leaf", "leaf", "table", "context"]);
  const after: Words = new Map(words);
  const gone = random.oneIn(3);
  const steps = one.steps;
  const replace = (from: number, image: Words): void => image.forEach((word, address) => (address >= from && address < from + 64 ? after.set(address, word) : undefined));
  switch (change) {
    case "leaf": {
      const leaf = steps[steps.length - 1].address;
      after.set(leaf, gone ? 0n : (words.get(other.steps[steps.length - 1].address) ?? 0n));
      break;
    }
    case "table": {
      const step = random.below(steps.length - 1);
      after.set(steps[step].address, gone ? 0n : (words.get(other.steps[step].address) ?? 0n));
      break;
    }
    case "context":
      putWords(after, at.context, gone ? new Int32Array(scalable ? 8 : 4) : contextOf(true));
      break;
    case "pasid":
      putWords(after, at.pasid, pasidEntry(other.tree, gone ? 0 : 1));
      break;
    case "directory":
      if (gone) {
        after.set(at.directory, 0n);
      } else {
        replace(at.directory, changed);
      }
  }
  const byRegisters = !scalable && random.oneIn(2);
  const held: Held = { domain, devfn, iova, firstStage, scalable };
  const invalidations = invalidationsOf(random, held, change, byRegisters);
  const does = (what: keyof Invalidation["covers"]): number => invalidations.findIndex(({ covers }) => covers[what]);
  const last = (what: keyof Invalidation["covers"]): number => invalidations.reduce((found, { covers }, n) => (covers[what] ? n : found), -1);
  // What was made from a stale structure may itself be held: the order counts (6.2.2, 6.5.2).
  const context = change === "context" ? does("context") : 0;
  const pasid = scalable && change !== "leaf" && change !== "table" ? (context < 0 ? -1 : last("pasid") >= context ? last("pasid") : -1) : context;
  const covered = context >= 0 && pasid >= 0 && last("iotlb") >= (change === "leaf" || change === "table" ? 0 : pasid);
  const image = (content: Words): VtdCase => ({
    words: content,
    rootTable: BigInt(root) | (BigInt(scalable ? TTM_SCALABLE : TTM_LEGACY) << 10n),
    enabled: true,
    accesses: [{ device: "edu", devfn, write: false, iova, length: 4, expected: pageA }],
    watched: [],
    notes: [],
  });
  return {
    before: image(words),
    after: image(after),
    scalable,
    byRegisters,
    invalidations,
    covered,
    notes: [`${scalable ? (firstStage ? "first stage" : "second stage") : "legacy"}, ${change}${gone ? " gone" : ""} of level ${level}, domain ${domain}, iova 0x${iova.toString(16)}`, ...invalidations.map(({ name }) => name)],
  };
}

interface Held {
  readonly domain: number;
  readonly devfn: number;
  readonly iova: bigint;
  readonly firstStage: boolean;
  readonly scalable: boolean;
}

function invalidationsOf(random: Random, held: Held, change: Change, byRegisters: boolean): Invalidation[] {
  const structure = change === "context" || change === "pasid" || change === "directory";
  const out: Invalidation[] = [];
  if (structure || random.oneIn(4)) {
    if (change === "context" || random.oneIn(3)) {
      out.push(contextInvalidation(random, held));
    }
    if (held.scalable && (structure || random.oneIn(3)) && !random.oneIn(6)) {
      out.push(pasidInvalidation(random, held));
    }
  }
  if (!random.oneIn(6)) {
    out.push(held.firstStage && !random.oneIn(3) ? pasidIotlbInvalidation(random, held, change) : iotlbInvalidation(random, held, change));
  }
  return byRegisters ? out : out.map((one) => ({ ...one, registers: null }));
}

const NOTHING = { context: false, pasid: false, iotlb: false };

function contextInvalidation(random: Random, held: Held): Invalidation {
  const granularity = 1 + random.below(3);
  const domain = random.oneIn(3) ? random.below(4) : held.domain;
  const source = random.oneIn(3) ? random.pick([...DEVFNS, held.devfn ^ 1, held.devfn ^ 4]) : held.devfn;
  const mask = random.below(4);
  const ignored = [0, 4, 6, 7][mask];
  const mine = domain === held.domain || held.scalable;
  const context = granularity === 1 || (granularity === 2 ? mine : mine && (source | ignored) === (held.devfn | ignored));
  return {
    descriptor: [1n | (BigInt(granularity) << 4n) | (BigInt(domain) << 16n) | (BigInt(source) << 32n) | (BigInt(mask) << 48n), 0n],
    registers: { ccmd: (1n << 63n) | (BigInt(granularity) << 61n) | (BigInt(mask) << 32n) | (BigInt(source) << 16n) | BigInt(domain) },
    name: `context cache ${granularity}, domain ${domain}, source ${source.toString(16)}, mask ${mask}`,
    covers: { ...NOTHING, context },
  };
}

function pasidInvalidation(random: Random, held: Held): Invalidation {
  const granularity = random.pick([0, 1, 3]);
  const domain = random.oneIn(3) ? random.below(4) : held.domain;
  const number = random.oneIn(4) ? 1 : 0;
  const pasid = granularity === 3 || (domain === held.domain && (granularity === 0 || number === 0));
  return {
    descriptor: [7n | (BigInt(granularity) << 4n) | (BigInt(domain) << 16n) | (BigInt(number) << 32n), 0n],
    registers: null,
    name: `PASID cache ${granularity}, domain ${domain}, PASID ${number}`,
    covers: { ...NOTHING, pasid },
  };
}

/** Address and mask near what is held. */
function range(random: Random, held: Held, change: Change): { address: bigint; mask: number; leafOnly: boolean; fits: boolean } {
  const mask = random.oneIn(3) ? random.below(19) : random.below(3);
  const size = 1n << BigInt(12 + mask);
  const near = random.oneIn(3) ? held.iova ^ (1n << BigInt(12 + random.below(12))) : held.iova;
  const address = (near / size) * size;
  const leafOnly = random.oneIn(3);
  return { address, mask, leafOnly, fits: held.iova / size === address / size && (!leafOnly || change === "leaf") };
}

function iotlbInvalidation(random: Random, held: Held, change: Change): Invalidation {
  const granularity = 1 + random.below(3);
  const domain = random.oneIn(3) ? random.below(4) : held.domain;
  const { address, mask, leafOnly, fits } = range(random, held, change);
  const iotlb = granularity === 1 || (domain === held.domain && (granularity === 2 || (fits && !held.firstStage)));
  const place = address | BigInt(mask) | (leafOnly ? 0x40n : 0n);
  return {
    descriptor: [2n | (BigInt(granularity) << 4n) | (BigInt(domain) << 16n), granularity === 3 ? place : 0n],
    registers: { iva: place, iotlb: (1n << 63n) | (BigInt(granularity) << 60n) | (BigInt(domain) << 32n) },
    name: `IOTLB ${granularity}, domain ${domain}${granularity === 3 ? `, 0x${address.toString(16)} mask ${mask}${leafOnly ? " leaf" : ""}` : ""}`,
    covers: { ...NOTHING, iotlb },
  };
}

function pasidIotlbInvalidation(random: Random, held: Held, change: Change): Invalidation {
  const granularity = 2 + random.below(2);
  const domain = random.oneIn(4) ? random.below(4) : held.domain;
  const number = random.oneIn(5) ? 1 : 0;
  const { address, mask, leafOnly, fits } = range(random, held, change);
  const iotlb = domain === held.domain && number === 0 && (granularity === 2 || fits);
  return {
    descriptor: [6n | (BigInt(granularity) << 4n) | (BigInt(domain) << 16n) | (BigInt(number) << 32n), granularity === 3 ? address | BigInt(mask) | (leafOnly ? 0x40n : 0n) : 0n],
    registers: null,
    name: `PASID IOTLB ${granularity}, domain ${domain}, PASID ${number}${granularity === 3 ? `, 0x${address.toString(16)} mask ${mask}${leafOnly ? " leaf" : ""}` : ""}`,
    covers: { ...NOTHING, iotlb },
  };
}
