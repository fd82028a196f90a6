/**
 * A random, legal guest of two accelerated SMMUs with passed-through functions, and an emulated twin of each stream:
 * another StreamID whose entry leads to the same context descriptors, translated in software. What is owed is what
 * Arm IHI 0070 asks for: 3.21 and 4.3 (configuration), 3.17 and 4.4 (translations, by the ASID that the cached
 * descriptors have), 3.9 and 4.5 (ATS).
 */
import { ACCESS_READ, ACCESS_WRITE } from "../../src/translation/index.js";
import { buildCd, buildL1Cd, buildL1Std, buildSte } from "../../src/smmuv3/spec/index.js";
import type { AccelerationProperties } from "../../src/smmuv3/index.js";
import { A, B, Board, C, D, E, encodeCommand, F, type GuestSmmu, OP, RAM_BASE } from "../smmuv3/accel/rig.js";
import { Random } from "./random.js";
import type { Play, Step, Weights } from "./three-views.js";
import { readStreams } from "./three-views-smmu-reading.js";
import { ADDRESSES, type Change, type Format, MARK, MARK_MASK, type Space, TableEditor, TARGETS, TARGETS_END } from "./three-views-tables.js";

export interface SmmuPlayOptions {
  readonly properties: AccelerationProperties;
  /** Two-level stream tables. */
  readonly twoLevel: boolean;
  /** Steps of bounded work at once, so that what takes more is met half done. */
  readonly stepsAtOnce?: number;
}

/** Looks at CMDQ_CONS for one list of commands, at the most. */
const MOST_POLLS = 1000;

/** What comes how often. */
export const SMMU_WEIGHTS: Weights = {
  map: 10,
  unmap: 5,
  protect: 3,
  split: 4,
  retable: 4,
  reroot: 4,
  asid: 4,
  descriptor: 9,
  leaf: 3,
  stream: 8,
  level1: 3,
  settle: 8,
  enable: 3,
  bypass: 1,
  bus: 2,
  plug: 2,
  reset: 1,
  flr: 1,
  invalidate: 3,
  recycle: 2,
};

const RAM = 0x200_0000;
const FIRST_PAGE = 0x10_0000;
const LAST_PAGE = 0x3f_f000;
/** Level 1 stream tables of both, and where the linear ones are (as the rig has them). */
const LEVEL1 = 0x7_0000;
const LINEAR = 0x40_0000;
const STREAM_BITS = 13;
const SPLIT = 6;
const PORTS = 3;
const SUBSTREAMS = [0, 1, 2, 63, 64, 70];
const HOST = [
  [A, B, C],
  [E, F],
  [D],
] as const;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** AP[2:1], AF, nG; tables: APTable. */
const access = (random: Random): bigint => (random.oneIn(8) ? 0n : 0x40n) | (random.oneIn(4) ? 0x80n : 0n);
const FORMAT: Format = {
  addressMask: 0x0000_ffff_ffff_f000n,
  base: RAM_BASE,
  present: (entry) => (entry & 1n) !== 0n,
  isLeaf: (entry, level) => level === 1 || (level <= 3 && (entry & 2n) === 0n),
  leaf: (level, target, random) => BigInt(target) | 0xc01n | access(random) | (level === 1 ? 2n : 0n),
  part: (entry, level, target) => target | (entry & 0xfc1n) | (level === 1 ? 2n : 0n),
  table: (page) => BigInt(page) | 3n,
  protect: (entry, isLeaf, random) =>
    isLeaf ? (entry & ~0xc0n) | access(random) : (entry & ~(3n << 61n)) | (random.oneIn(3) ? 1n << 62n : 0n) | (random.oneIn(6) ? 1n << 61n : 0n),
};

interface Due {
  /** Configuration, translations, ATCs: in this order. */
  readonly phase: 0 | 1 | 2;
  readonly text: string;
  readonly command: Int32Array;
}
interface Debt {
  readonly dues: readonly Due[];
  /** Buses that what is stale concerns beside those that lead to these now. */
  readonly buses: ReadonlySet<number>;
  readonly space?: Space;
  readonly contexts?: Contexts;
  /** A stream led to these, which may be cached: they are used under its StreamID until that is invalidated. */
  readonly former?: { readonly bus: number; readonly contexts: Contexts };
  /** ASIDs that descriptors had, which may be cached. */
  readonly asids: ReadonlyArray<{ space: Space; asid: number }>;
}

/** A context descriptor table. */
interface Contexts {
  readonly name: string;
  readonly bits: number;
  readonly twoLevel: boolean;
  readonly page: number;
  /** Leaf tables by SubstreamID >> 6. */
  readonly leaves: Map<number, number>;
  readonly spaces: Map<number, Space>;
}
interface Stream {
  kind: "invalid" | "abort" | "bypass" | "translate";
  contexts: Contexts;
  ats: boolean;
  /** S1DSS. */
  rule: number;
}

/** Memory of the guest for its tables. */
class Pages {
  private readonly free: number[] = [];
  quarantine: number[] = [];

  constructor(private readonly board: Board) {
    for (let page = LAST_PAGE; page >= FIRST_PAGE; page -= 0x1000) {
      this.free.push(page);
    }
  }

  page(): number | null {
    const page = this.free.pop();
    if (page !== undefined) {
      this.board.quads.fill(0n, page / 8, page / 8 + 512);
    }
    return page ?? null;
  }

  needed(): number {
    const page = this.page();
    if (page === null) {
      throw new Error("the guest of this test has no memory left");
    }
    return page;
  }

  reuse(): void {
    this.free.push(...this.quarantine.splice(0).reverse());
  }
}

/** One SMMU's driver in the guest. */
class Driver {
  readonly spaces: Space[] = [];
  readonly contexts: Contexts[] = [];
  readonly streams = new Map<number, Stream>();
  private readonly level2 = new Map<number, number>();
  debts: Debt[] = [];
  private readonly retired = new Set<number>();
  enabled = false;
  aborts = false;

  constructor(
    private readonly board: Board,
    readonly guest: GuestSmmu,
    readonly buses: readonly number[],
    private readonly options: SmmuPlayOptions,
    private readonly pages: Pages,
    editor: TableEditor,
  ) {
    const random = new Random(11);
    for (let n = 0; n < 4; n++) {
      const space: Space = { name: `space ${n}`, format: FORMAT, domain: 1 + n, root: pages.needed(), levels: 4 };
      this.spaces.push(space);
      ADDRESSES.forEach((address) => void editor.map(space, address, 1 + random.below(2), random));
    }
    const substreams = Number(options.properties.ssidsize);
    for (let n = 0; n < 3; n++) {
      const bits = substreams === 0 || n === 2 ? 0 : n === 0 ? 7 : 6;
      this.contexts.push({ name: `descriptors ${n}`, bits, twoLevel: bits === 7, page: pages.needed(), leaves: new Map(), spaces: new Map() });
      this.storeDescriptor(this.contexts[n], 0, this.spaces[n]);
    }
    buses.forEach((bus, n) => {
      this.streams.set(bus, { kind: n < 3 ? "translate" : "abort", contexts: this.contexts[n % 3], ats: n === 1 && options.properties.ats === true, rule: 2 });
      this.storeLevel1(bus, true);
      this.storeStream(bus);
    });
    this.start();
  }

  // ---- tables ----

  get levelOne(): number {
    return LEVEL1 + this.guest.index * 0x1000;
  }

  /** A bus's streams in use are in one span of level 2. */
  storeLevel1(bus: number, on: boolean): void {
    if (!this.options.twoLevel) {
      return;
    }
    let table = this.level2.get(bus);
    if (table === undefined) {
      table = this.pages.needed();
      this.level2.set(bus, table);
    }
    this.board.store(this.levelOne + 8 * ((bus << 8) >> SPLIT), on ? buildL1Std({ SPAN: SPLIT + 1, L2PTR: RAM_BASE + table }) : buildL1Std({}));
  }

  isLevel1On(bus: number): boolean {
    return !this.options.twoLevel || (this.board.load(this.levelOne + 8 * ((bus << 8) >> SPLIT)) & 31n) !== 0n;
  }

  moveLevel2(bus: number): void {
    this.pages.quarantine.push(this.level2.get(bus)!);
    this.level2.set(bus, this.pages.needed());
    this.storeStream(bus);
    this.storeLevel1(bus, true);
  }

  storeStream(bus: number): void {
    const { kind, contexts, ats, rule } = this.streams.get(bus)!;
    const words = {
      invalid: () => buildSte({ V: 0, CONFIG: 5 }),
      abort: () => buildSte({ V: 1, CONFIG: 0 }),
      bypass: () => buildSte({ V: 1, CONFIG: 4, SHCFG: 1 }),
      translate: () =>
        buildSte({
          V: 1,
          CONFIG: 5,
          S1CONTEXTPTR: RAM_BASE + contexts.page,
          S1CDMAX: contexts.bits,
          S1FMT: contexts.twoLevel ? 1 : 0,
          S1DSS: contexts.bits === 0 ? 0 : rule,
          S1CIR: 1,
          S1COR: 1,
          S1CSH: 3,
          SHCFG: 1,
          EATS: ats ? 1 : 0,
        }),
    }[kind]();
    for (const stream of [bus << 8, twinOf(bus)]) {
      this.board.store(this.options.twoLevel ? this.level2.get(bus)! + 64 * (stream & 63) : LINEAR + this.guest.index * (64 << STREAM_BITS) + 64 * stream, words);
    }
  }

  descriptorAt(contexts: Contexts, substream: number): number {
    if (!contexts.twoLevel) {
      return contexts.page + 64 * substream;
    }
    let leaf = contexts.leaves.get(substream >> 6);
    if (leaf === undefined) {
      leaf = this.pages.needed();
      contexts.leaves.set(substream >> 6, leaf);
      this.board.store(contexts.page + 8 * (substream >> 6), buildL1Cd({ V: 1, L2PTR: RAM_BASE + leaf }));
    }
    return leaf + 64 * (substream & 63);
  }

  storeDescriptor(contexts: Contexts, substream: number, space: Space | null): void {
    const at = this.descriptorAt(contexts, substream);
    if (space === null) {
      contexts.spaces.delete(substream);
      this.board.store(at, new Int32Array(16));
      return;
    }
    contexts.spaces.set(substream, space);
    this.board.store(at, buildCd({ V: 1, T0SZ: 16, TG0: 0, IPS: 5, AA64: 1, EPD1: 1, R: 1, A: 1, ASET: 1, ASID: space.domain, TTB0: RAM_BASE + space.root, MAIR0: 0xff }));
  }

  // ---- registers and queue ----

  /** As after a reset: nothing is known of the caches, so all of them are emptied before SMMUEN. */
  start(): void {
    const { guest } = this;
    this.enabled = false;
    this.aborts = false;
    guest.enable(0xc);
    if (this.options.twoLevel) {
      guest.set64(0x80, RAM_BASE + this.levelOne);
      guest.set(0x88, (1 << 16) | (SPLIT << 6) | STREAM_BITS);
    }
    this.submit([encodeCommand(OP.CFGI_STE_RANGE, { SID: 0, RANGE: 31 }), encodeCommand(OP.TLBI_NSNH_ALL)], new Random(1));
    this.debts = [];
    this.released();
  }

  enable(on: boolean): void {
    this.enabled = on;
    this.guest.cr0(on ? 0xd : 0xc);
  }

  submit(commands: readonly Int32Array[], random: Random): void {
    const { guest } = this;
    const piecewise = random.oneIn(4);
    for (let at = 0; at < commands.length; ) {
      const count = piecewise ? 1 : Math.min(40, commands.length - at);
      guest.submit(...commands.slice(at, at + count), ...(piecewise && random.oneIn(2) ? [] : [encodeCommand(OP.SYNC)]));
      at += count;
    }
    guest.submit(encodeCommand(OP.SYNC));
    // A guest that polls has the rest done.
    for (let polls = 0; guest.cons !== guest.produced && !guest.commandError && polls < MOST_POLLS; polls++);
    if (guest.commandError || guest.cons !== guest.produced) {
      throw new Error(`smmu${guest.index}: the command queue stands at ${guest.cons} of ${guest.produced}, CERROR ${guest.cerror}`);
    }
  }

  private send(dues: readonly Due[], random: Random): void {
    if (dues.length > 0) {
      this.submit(
        dues.flatMap(({ command }, n) => (n > 0 && dues[n - 1].phase !== dues[n].phase && dues[n].phase === 2 ? [encodeCommand(OP.SYNC), command] : [command])),
        random,
      );
    }
  }

  private released(): void {
    this.pages.reuse();
    this.retired.clear();
  }

  // ---- what is owed ----

  /** `quiet`: nobody else owes anything either, so that pages can be used again. */
  owe(debt: Debt, random: Random, quiet: boolean): string {
    const text = debt.dues.map((due) => due.text).join("; ");
    if (debt.dues.length === 0) {
      return "nothing is due";
    }
    if (random.oneIn(3)) {
      this.debts.push(debt);
      return `owed: ${text}`;
    }
    this.send(debt.dues, random);
    if (quiet && this.debts.length === 0) {
      this.released();
    }
    return `then ${text}`;
  }

  settle(random: Random, quiet: boolean): string {
    let dues = this.debts.splice(0).flatMap((debt) => debt.dues);
    if (random.oneIn(2)) {
      dues = ([0, 1, 2] as const).flatMap((phase) => dues.filter((due) => due.phase === phase));
    }
    this.send(dues, random);
    if (quiet) {
      this.released();
    }
    return dues.map(({ text }) => text).join("; ");
  }

  /** What a bus's function does may be stale. */
  isOwed(bus: number): boolean {
    const stream = this.streams.get(bus)!;
    return this.debts.some(
      ({ buses, space, contexts }) =>
        buses.has(bus) || (contexts !== undefined && stream.contexts === contexts) || (space !== undefined && [...stream.contexts.spaces.values()].includes(space)),
    );
  }

  busesOf(space: Space): Set<number> {
    return new Set([...this.streams].filter(([, { contexts }]) => [...contexts.spaces.values()].includes(space)).map(([bus]) => bus));
  }

  busesWith(contexts: Contexts): Set<number> {
    return new Set([
      ...[...this.streams].filter(([, stream]) => stream.contexts === contexts).map(([bus]) => bus),
      ...this.debts.flatMap(({ former }) => (former?.contexts === contexts ? [former.bus] : [])),
    ]);
  }

  asidsOf(space: Space): Set<number> {
    return new Set([space.domain, ...this.debts.flatMap((debt) => debt.asids.filter((one) => one.space === space).map(({ asid }) => asid))]);
  }

  /** Mostly one that a stream in use leads to. */
  space(random: Random): Space {
    const used = random.oneIn(5) ? [] : this.spaces.filter((space) => [...this.busesOf(space)].some((bus) => this.streams.get(bus)!.kind === "translate"));
    return random.pick(used.length === 0 ? this.spaces : used);
  }

  freshAsid(random: Random): number {
    for (;;) {
      const asid = 1 + random.below(30);
      if (!this.retired.has(asid) && !this.spaces.some((space) => space.domain === asid)) {
        return asid;
      }
    }
  }

  retire(asid: number): void {
    this.retired.add(asid);
  }

  streamDues(bus: number, leafOnly: boolean, random: Random): Due[] {
    const choice = random.below(6);
    if (choice === 0) {
      return [{ phase: 0, text: "CFGI_ALL", command: encodeCommand(OP.CFGI_STE_RANGE, { SID: random.below(9999), RANGE: 31 }) }];
    }
    if (choice === 1) {
      const range = 3 + random.below(6);
      return [{ phase: 0, text: `CFGI_STE_RANGE ${hex(bus << 8)} ${range}`, command: encodeCommand(OP.CFGI_STE_RANGE, { SID: bus << 8, RANGE: range }) }];
    }
    return [bus << 8, twinOf(bus)].map((stream) => {
      const leaf = leafOnly && random.oneIn(2) ? 1 : 0;
      return { phase: 0, text: `CFGI_STE ${hex(stream)} leaf ${leaf}`, command: encodeCommand(OP.CFGI_STE, { SID: stream, LEAF: leaf }) };
    });
  }

  descriptorDues(contexts: Contexts, substream: number, leafOnly: boolean, random: Random): Due[] {
    return [...this.busesWith(contexts)].flatMap((bus) =>
      [bus << 8, twinOf(bus)].map((stream): Due => {
        switch (random.below(6)) {
          case 0:
            return { phase: 0, text: `CFGI_CD_ALL ${hex(stream)}`, command: encodeCommand(OP.CFGI_CD_ALL, { SID: stream }) };
          case 1:
            return { phase: 0, text: `CFGI_STE ${hex(stream)} leaf 0`, command: encodeCommand(OP.CFGI_STE, { SID: stream }) };
          default: {
            const leaf = leafOnly && random.oneIn(2) ? 1 : 0;
            // 4.3.3: without substreams the SubstreamID is ignored.
            const ssid = Number(this.options.properties.ssidsize) === 0 ? random.below(8) : substream;
            return { phase: 0, text: `CFGI_CD ${hex(stream)} substream ${ssid} leaf ${leaf}`, command: encodeCommand(OP.CFGI_CD, { SID: stream, SSID: ssid, LEAF: leaf }) };
          }
        }
      }),
    );
  }

  asidDue(asid: number, random: Random): Due {
    switch (random.below(8)) {
      case 0:
        return { phase: 1, text: "TLBI_NH_ALL", command: encodeCommand(OP.TLBI_NH_ALL, {}) };
      case 1:
        return { phase: 1, text: "TLBI_NSNH_ALL", command: encodeCommand(OP.TLBI_NSNH_ALL, {}) };
      default:
        return { phase: 1, text: `TLBI_NH_ASID ${asid}`, command: encodeCommand(OP.TLBI_NH_ASID, { ASID: asid }) };
    }
  }

  /** By address: 4.4.1.1, and 4.4.2 for what LEAF leaves. */
  pageDues(change: Change, asid: number, random: Random): Due[] {
    const { leafBefore, bits, address } = change;
    if (random.oneIn(3)) {
      return [this.asidDue(asid, random)];
    }
    const any = random.oneIn(4);
    const name = any ? "TLBI_NH_VAA" : "TLBI_NH_VA";
    const tags = any ? {} : { ASID: asid };
    const due = (at: bigint, fields: Record<string, number>): Due => ({
      phase: 1,
      text: `${name}${any ? "" : ` ${asid}`} ${hex(at)} ${JSON.stringify(fields)}`,
      command: encodeCommand(any ? OP.TLBI_NH_VAA : OP.TLBI_NH_VA, { ...tags, ADDRESS: Number(at), ...fields }),
    });
    const base = address & ~((1n << BigInt(bits)) - 1n);
    const ranges = this.options.properties.ril === true;
    if (leafBefore > 0) {
      // A block goes by any address in it; TTL says which level its leaf has.
      const at = base + BigInt(random.below(2 ** (bits - 12))) * 4096n;
      const leaf = random.oneIn(2) ? 1 : 0;
      if (!ranges || random.oneIn(2)) {
        return [due(at, { LEAF: leaf })];
      }
      const ttl = 4 - leafBefore;
      return random.oneIn(2) ? [due(base, { LEAF: leaf, TG: 1, TTL: ttl })] : [due(base, { LEAF: leaf, TG: 1, SCALE: bits - 12, NUM: 0, ...(bits === 12 ? { TTL: 3 } : {}) })];
    }
    // A table goes: all of its range, without LEAF.
    if (!ranges || bits > 39) {
      return [this.asidDue(asid, random)];
    }
    const scale = bits - 12 - random.below(4);
    return [due(base, { LEAF: 0, TG: 1, SCALE: scale, NUM: 2 ** (bits - 12 - scale) - 1 })];
  }

  /** ATCs of functions that have one: 3.9.1, after the translations. */
  atcDues(buses: Iterable<number>, substream: number | null, change: Change | null, random: Random): Due[] {
    if (this.options.properties.ats !== true) {
      return [];
    }
    const numbers = substream === 0 ? [0, null] : [substream];
    return [...buses].flatMap((bus) => numbers.map((substream) => this.atcDue(bus, substream, change, random)));
  }

  private atcDue(bus: number, substream: number | null, change: Change | null, random: Random): Due {
      const small = change !== null && change.bits < 64 && random.oneIn(2);
      const range = small ? { ATC_SIZE: change.bits - 12, ADDRESS: Number(change.address & ~((1n << BigInt(change.bits)) - 1n)) } : { ATC_SIZE: 52 };
      // Of SubstreamID 0 both: S1DSS may let requests without one through its descriptor.
      const which = substream === null ? {} : { SSV: 1, SSID: substream };
      return { phase: 2, text: `ATC_INV ${hex(bus << 8)} ${JSON.stringify({ ...range, ...which })}`, command: encodeCommand(OP.ATC_INV, { SID: bus << 8, ...range, ...which }) };
  }

  /** Those of every SubstreamID that leads to a space. */
  spaceAtcDues(space: Space, change: Change | null, random: Random): Due[] {
    return this.contexts.flatMap((contexts) =>
      [...contexts.spaces]
        .filter(([, one]) => one === space)
        .flatMap(([substream]) => this.atcDues(this.busesWith(contexts), contexts.bits === 0 ? null : substream, change, random)),
    );
  }

  oweChange(space: Space, change: Change, random: Random, quiet: boolean): string {
    if (change.addedOnly) {
      return "nothing is due";
    }
    const dues = [...this.asidsOf(space)].flatMap((asid) => this.pageDues(change, asid, random));
    return this.owe({ dues: [...dues, ...this.spaceAtcDues(space, change, random)], buses: this.busesOf(space), space, asids: [] }, random, quiet);
  }

  /** All descriptors of a space are written again: another first table, another ASID. Translations go by the old ASID. */
  rewrite(space: Space, asid: number, random: Random, quiet: boolean): string {
    const old = space.domain;
    const dues: Due[] = [];
    space.domain = asid;
    if (old !== asid) {
      this.retire(old);
    }
    for (const contexts of this.contexts) {
      for (const [substream, one] of contexts.spaces) {
        if (one === space) {
          this.storeDescriptor(contexts, substream, space);
          dues.push(...this.descriptorDues(contexts, substream, true, random));
        }
      }
    }
    dues.push(this.asidDue(old, random), ...this.spaceAtcDues(space, null, random));
    return `ASID ${old} becomes ${asid}; ${this.owe({ dues, buses: this.busesOf(space), space, asids: [{ space, asid: old }] }, random, quiet)}`;
  }

  changeDescriptor(random: Random, quiet: boolean): string | null {
    const contexts = random.pick(this.contexts);
    const substream = contexts.bits === 0 ? 0 : random.pick(SUBSTREAMS.filter((one) => one < 2 ** contexts.bits));
    const space = random.oneIn(4) ? null : random.pick(this.spaces);
    const old = contexts.spaces.get(substream) ?? null;
    if (old === space) {
      return null;
    }
    const added = contexts.twoLevel && !contexts.leaves.has(substream >> 6);
    this.storeDescriptor(contexts, substream, space);
    const dues = [
      ...this.descriptorDues(contexts, substream, !added, random),
      ...(old === null ? [] : this.atcDues(this.busesWith(contexts), contexts.bits === 0 ? null : substream, null, random)),
    ];
    const text = `${contexts.name} ${substream}: ${old?.name ?? "none"} becomes ${space === null ? "none" : `${space.name}, ASID ${space.domain}`}`;
    const asids = old === null ? [] : [{ space: old, asid: old.domain }];
    return `${text}; ${this.owe({ dues, buses: this.busesWith(contexts), contexts, asids }, random, quiet)}`;
  }

  /** A leaf table of descriptors goes, or is replaced by one with others. */
  changeLeaf(random: Random, quiet: boolean): string | null {
    const contexts = this.contexts.find(({ twoLevel }) => twoLevel);
    const leaf = contexts === undefined || contexts.leaves.size === 0 ? undefined : random.pick([...contexts.leaves]);
    if (contexts === undefined || leaf === undefined) {
      return null;
    }
    const [index, page] = leaf;
    this.pages.quarantine.push(page);
    contexts.leaves.delete(index);
    const at = contexts.page + 8 * index;
    const fresh = random.oneIn(2);
    const dues: Due[] = [];
    const asids: Array<{ space: Space; asid: number }> = [];
    const olds = [...contexts.spaces].filter(([substream]) => substream >> 6 === index);
    const keep = this.board.load(at);
    this.board.store(at, new Int32Array(2));
    if (fresh) {
      const table = this.pages.needed();
      contexts.leaves.set(index, table);
    }
    const texts: string[] = [];
    for (const [substream, old] of olds) {
      const space = !fresh || random.oneIn(3) ? null : random.oneIn(2) ? old : random.pick(this.spaces);
      contexts.spaces.delete(substream);
      if (space !== null) {
        this.storeDescriptor(contexts, substream, space);
      }
      texts.push(`${substream}: ${old.name} becomes ${space?.name ?? "none"}`);
      dues.push(...this.descriptorDues(contexts, substream, false, random), ...this.atcDues(this.busesWith(contexts), substream, null, random));
      asids.push({ space: old, asid: old.domain });
    }
    if (olds.length === 0) {
      dues.push(...this.descriptorDues(contexts, index * 64, false, random));
    }
    if (fresh) {
      this.board.store(at, buildL1Cd({ V: 1, L2PTR: RAM_BASE + contexts.leaves.get(index)! }));
    }
    return `${contexts.name} leaf ${index}, was ${hex(keep)}, ${fresh ? "is another" : "goes"}: ${texts.join(", ")}; ${this.owe({ dues, buses: this.busesWith(contexts), contexts, asids }, random, quiet)}`;
  }

  changeStream(random: Random, quiet: boolean): string {
    const bus = random.pick(this.buses);
    const stream = this.streams.get(bus)!;
    const before = { ...stream };
    stream.kind = random.pick(["translate", "translate", "translate", "translate", "bypass", "abort", "invalid"] as const);
    stream.contexts = random.oneIn(2) ? stream.contexts : random.pick(this.contexts);
    stream.ats = this.options.properties.ats === true && random.oneIn(2);
    stream.rule = random.oneIn(4) ? random.below(2) : 2;
    this.storeStream(bus);
    const dues = [...this.streamDues(bus, true, random), ...(before.ats ? this.atcEverything(bus) : [])];
    const asids = [...before.contexts.spaces.values()].map((space) => ({ space, asid: space.domain }));
    return `stream ${hex(bus << 8)}: ${before.kind} ${before.contexts.name} becomes ${stream.kind} ${stream.contexts.name}, ATS ${stream.ats}, S1DSS ${stream.rule}; ${this.owe({ dues, buses: new Set([bus]), former: { bus, contexts: before.contexts }, asids }, random, quiet)}`;
  }

  private atcEverything(bus: number): Due[] {
    if (this.options.properties.ats !== true) {
      return [];
    }
    const substreams = Number(this.options.properties.ssidsize) === 0 ? [] : [{ SSV: 1, GLOBAL: 1 }];
    return [{}, ...substreams].map((which) => ({
      phase: 2,
      text: `ATC_INV ${hex(bus << 8)} all ${JSON.stringify(which)}`,
      command: encodeCommand(OP.ATC_INV, { SID: bus << 8, ATC_SIZE: 52, ...which }),
    }));
  }

  changeLevel1(random: Random, quiet: boolean): string | null {
    if (!this.options.twoLevel) {
      return null;
    }
    const bus = random.pick(this.buses);
    const on = this.isLevel1On(bus);
    const former = { bus, contexts: this.streams.get(bus)!.contexts };
    let text: string;
    if (on && random.oneIn(2)) {
      Object.assign(this.streams.get(bus)!, { kind: random.oneIn(3) ? "abort" : "translate", contexts: random.pick(this.contexts) });
      this.moveLevel2(bus);
      text = "another level 2 table";
    } else {
      this.storeLevel1(bus, !on);
      text = on ? "level 2 goes" : "level 2 comes";
    }
    const dues = [...this.streamDues(bus, false, random), ...this.atcEverything(bus)];
    return `bus ${bus}: ${text}; ${this.owe({ dues, buses: new Set([bus]), former, asids: this.spaces.map((space) => ({ space, asid: space.domain })) }, random, quiet)}`;
  }

  extra(random: Random): Due {
    const asid = 1 + random.below(30);
    const bus = random.pick(this.buses);
    return random.pick([
      () => this.asidDue(asid, random),
      () => this.streamDues(bus, true, random)[0],
      () => ({ phase: 0, text: `CFGI_CD_ALL ${hex(bus << 8)}`, command: encodeCommand(OP.CFGI_CD_ALL, { SID: bus << 8 }) }) as Due,
      () => this.pageDues({ address: random.pick(ADDRESSES), bits: 12, addedOnly: false, leafBefore: 1, leafOnly: true, text: "" }, asid, random)[0],
    ])();
  }
}

export class SmmuPlay implements Play {
  private readonly board: Board;
  private readonly pages: Pages;
  private readonly editor: TableEditor;
  private readonly drivers: Driver[];
  private focus: bigint[] = [];
  private readonly placed = new Map<string, number>();
  private token = 1n;

  constructor(private readonly options: SmmuPlayOptions) {
    const { properties, stepsAtOnce } = options;
    const board = (this.board = new Board({ properties: [properties, properties, properties], ports: PORTS, ramBytes: RAM, stepsAtOnce }));
    for (let page = TARGETS; page < TARGETS_END; page += 0x1000) {
      board.quads[page / 8] = MARK | BigInt(RAM_BASE + page);
    }
    this.pages = new Pages(board);
    const { pages } = this;
    this.editor = new TableEditor({
      load: (address) => board.load(address),
      store: (address, ...words) => board.quads.set(words.map((word) => BigInt.asUintN(64, word)), address / 8),
      copy: (from, to) => void board.quads.copyWithin(to / 8, from / 8, from / 8 + 512),
      page: () => pages.page(),
      release: (page) => void pages.quarantine.push(page),
    });
    // The third is on the physical SMMU of the first.
    HOST.forEach((functions, n) => functions.forEach((address, port) => this.plug(address, n, port, false)));
    board.freeze();
    this.drivers = board.smmus.map((guest, n) => new Driver(board, guest, [9, 10, 11, 12].map((bus) => bus + 5 * n), options, pages, this.editor));
    this.drivers.forEach((driver, n) => driver.buses.slice(0, PORTS).forEach((bus, port) => board.number(n * PORTS + port, bus)));
    this.drivers.forEach((driver) => driver.enable(true));
  }

  private plug(address: string, smmu: number, port: number, hotplugged: boolean): void {
    this.board.plug(address, smmu * PORTS + port, { hotplugged });
    this.placed.set(address, smmu * PORTS + port);
  }

  private get quiet(): boolean {
    return this.drivers.every(({ debts }) => debts.length === 0);
  }

  step([operation, seed]: Step): string | null {
    const random = new Random(seed);
    const n = random.below(10) < 5 ? 0 : random.below(this.drivers.length);
    // What this step is about, and what earlier ones were that is still owed: used by all before, looked at by all after.
    this.focus = [...new Set([random.pick(ADDRESSES), random.pick(ADDRESSES), ...(this.quiet ? [] : this.focus.slice(0, 4))])];
    this.use(this.drivers[n], random);
    const text = this.act(operation, random, n);
    if (text !== null) {
      this.compare(random, this.drivers[n]);
    }
    return text === null ? null : `smmu${n}: ${text}`;
  }

  private act(operation: string, random: Random, n: number): string | null {
    const { board } = this;
    const driver = this.drivers[n];
    const { quiet } = this;
    switch (operation) {
      case "map":
      case "unmap":
      case "protect":
      case "split":
      case "retable": {
        const space = driver.space(random);
        const address = this.focus[0];
        const change = operation === "map" ? this.editor.map(space, address, random.pick([1, 1, 1, 2, 2, 3]), random) : this.editor[operation](space, address, random);
        return change === null ? null : `${change.text}; ${driver.oweChange(space, change, random, quiet)}`;
      }
      case "reroot": {
        const space = driver.space(random);
        const old = this.editor.reroot(space, this.focus[0], random);
        if (old === null) {
          return null;
        }
        this.pages.quarantine.push(old);
        return `${space.name} at ${hex(space.root)}; ${driver.rewrite(space, random.oneIn(3) ? driver.freshAsid(random) : space.domain, random, quiet)}`;
      }
      case "asid": {
        const space = driver.space(random);
        const edited = random.oneIn(2) ? this.editor.map(space, this.focus[0], random.pick([1, 1, 2, 3]), random) : null;
        return `${edited === null ? "" : `${edited.text}; `}${space.name}: ${driver.rewrite(space, driver.freshAsid(random), random, quiet)}`;
      }
      case "recycle": {
        const space = driver.space(random);
        const root = this.pages.page();
        if (root === null) {
          return null;
        }
        this.editor.free(space);
        space.root = root;
        ADDRESSES.forEach((address) => void (random.oneIn(2) && this.editor.map(space, address, random.pick([1, 2, 3]), random)));
        return `${space.name} begins again at ${hex(root)}; ${driver.rewrite(space, driver.freshAsid(random), random, quiet)}`;
      }
      case "descriptor":
        return driver.changeDescriptor(random, quiet);
      case "leaf":
        return driver.changeLeaf(random, quiet);
      case "stream":
        return driver.changeStream(random, quiet);
      case "level1":
        return driver.changeLevel1(random, quiet);
      case "settle":
        return driver.debts.length === 0 ? null : driver.settle(random, this.drivers.every((one) => one === driver || one.debts.length === 0));
      case "enable":
        driver.enable(!driver.enabled);
        return `SMMUEN ${driver.enabled}`;
      case "bypass":
        driver.aborts = !driver.aborts;
        driver.guest.gbpa(driver.aborts);
        return `GBPA.ABORT ${driver.aborts}`;
      case "bus":
        return this.renumber(random, n);
      case "plug": {
        const address = random.pick(HOST[n]);
        if (board.functions.has(address)) {
          // The last one takes the vIOMMU along; that comes back with the first.
          board.unplug(address);
          return `unplug ${address}`;
        }
        this.plug(address, n, HOST[n].indexOf(address as never), true);
        return `plug ${address}`;
      }
      case "reset":
        this.drivers.forEach((one) => {
          one.guest.smmu.reset();
          one.start();
          one.enable(true);
        });
        return "reset of all";
      case "flr": {
        const fn = [...board.functions.values()];
        if (fn.length === 0) {
          return null;
        }
        const one = random.pick(fn);
        one.reset();
        return `${one.id} is reset`;
      }
      case "invalidate": {
        const due = driver.extra(random);
        driver.submit([due.command], random);
        return due.text;
      }
      default:
        throw new Error(`no operation '${operation}'`);
    }
  }

  private renumber(random: Random, n: number): string {
    const { board } = this;
    const port = n * PORTS + random.below(PORTS);
    const taken = board.ports.filter((_one, other) => other !== port).map(({ secondaryBus }) => secondaryBus);
    const bus = random.pick([0, ...this.drivers[n].buses].filter((one) => one === 0 || !taken.includes(one)));
    board.number(port, bus);
    return `port ${port} has bus ${bus}`;
  }

  // ---- the three views ----

  /** `about`: whose step it was; null: of all. What others have is looked at seldom. */
  private compare(random: Random, about: Driver | null): void {
    const { board } = this;
    const load = (address: bigint): bigint | null => (address >= BigInt(RAM_BASE) && address + 8n <= BigInt(RAM_BASE + RAM) ? board.load(Number(address) - RAM_BASE) : null);
    const substreamBits = Number(this.options.properties.ssidsize);
    for (const driver of this.drivers) {
      const { guest } = driver;
      const smmu = {
        enabled: driver.enabled,
        aborts: driver.aborts,
        table: BigInt(RAM_BASE + (this.options.twoLevel ? driver.levelOne : LINEAR + guest.index * (64 << STREAM_BITS))),
        twoLevel: this.options.twoLevel,
        split: SPLIT,
        size: STREAM_BITS,
        substreamBits,
      };
      for (const bus of driver.buses) {
        const address = [...board.functions.keys()].find((one) => board.ports[this.placed.get(one)!].secondaryBus === bus);
        const stale = driver.isOwed(bus);
        for (const substream of [-1, ...(substreamBits === 0 ? [] : SUBSTREAMS)]) {
          const looked = address === undefined ? random.oneIn(12) : random.oneIn(6);
          const near = address !== undefined && (about === null || about === driver) && this.isLikely(driver, bus, substream, random);
          for (const iova of ADDRESSES) {
            if (!(near && this.focus.includes(iova)) && !(looked && random.oneIn(3))) {
              continue;
            }
            for (const write of [false, true]) {
              const plain = readStreams(load, smmu, bus << 8, substream, iova, write);
              const wanted = plain !== null && load(plain) !== null ? plain : null;
              const stream = driver.streams.get(bus)!;
              const ats = driver.enabled && stream.kind === "translate" && stream.ats && driver.isLevel1On(bus);
              const views = [
                ...(address === undefined ? [] : [{ name: "passed-through", go: this.passedThrough(address, substream, false) }]),
                ...(address === undefined || !ats ? [] : [{ name: "passed-through, ATS,", go: this.passedThrough(address, substream, true) }]),
                { name: "emulated", go: this.emulated(guest, bus, substream) },
              ];
              for (const { name, go } of views) {
                if (stale) {
                  go(iova + 8n, this.bytes, write);
                  continue;
                }
                const found = this.probe(go, iova, write, wanted);
                // Without translation no section says what becomes of SubstreamIDs; nobody translates them.
                if (found === wanted || (!driver.enabled && substream >= 0 && (found === null || found === iova))) {
                  continue;
                }
                throw new Error(
                  `smmu${guest.index}: ${name} function of bus ${bus} (${address ?? "none"}), substream ${substream}, ${write ? "write" : "read"} of ${hex(iova)}: reaches ${found === null ? "nothing" : typeof found === "string" ? found : hex(found)}, the tables say ${wanted === null ? "nothing" : hex(wanted)}\n${board.log.lines.slice(-4).map((line) => `  log: ${line.text}`).join("\n")}`,
                );
              }
            }
          }
        }
      }
    }
  }

  /** There is a descriptor for a SubstreamID, or it is looked at all the same. */
  private isLikely(driver: Driver, bus: number, substream: number, random: Random): boolean {
    return substream < 0 || driver.streams.get(bus)!.contexts.spaces.has(substream) || random.oneIn(5);
  }

  /** All functions use the addresses of a step: what may be cached is. */
  private use(driver: Driver, random: Random): void {
    const { board } = this;
    for (const [address, at] of this.placed) {
      const bus = board.ports[at].secondaryBus;
      if (bus === 0 || !board.functions.has(address) || driver !== this.drivers[Math.floor(at / PORTS)]) {
        continue;
      }
      const { guest, streams } = driver;
      for (const substream of [-1, ...(Number(this.options.properties.ssidsize) === 0 ? [] : SUBSTREAMS)]) {
        if (!this.isLikely(driver, bus, substream, random)) {
          continue;
        }
        const ways = [this.passedThrough(address, substream, false), this.emulated(guest, bus, substream)];
        if (streams.get(bus)!.ats) {
          ways.push(this.passedThrough(address, substream, true));
        }
        for (const go of ways) {
          for (const iova of this.focus) {
            go(iova, this.bytes, false);
          }
        }
      }
    }
  }

  private passedThrough(address: string, substream: number, ats: boolean): Go {
    const device = this.board.hardware(address);
    return (iova, bytes, write) => {
      const high = Number(BigInt.asIntN(32, iova >> 32n));
      const low = Number(BigInt.asIntN(32, iova));
      return write ? device.writeMemory(high, low, bytes, substream, ACCESS_WRITE, ats) : device.readMemory(high, low, bytes, substream, ACCESS_READ, ats);
    };
  }

  private emulated(guest: GuestSmmu, bus: number, substream: number): Go {
    const source = twinOf(bus);
    const space = guest.smmu.softwareSpace(this.board.pci.bus, source & 0xff);
    const attributes = { requesterId: source, pasid: substream, execute: false, privileged: false };
    return (iova, bytes, write) => (write ? space.write(iova, bytes, attributes) : space.read(iova, bytes, attributes)) === 0;
  }

  private readonly bytes = new Uint8Array(8);
  private readonly view = new DataView(this.bytes.buffer);

  /** Where an access comes out: a page's address, null: nowhere. */
  private probe(go: Go, address: bigint, write: boolean, wanted: bigint | null): bigint | string | null {
    const { board, bytes, view } = this;
    if (!write) {
      if (!go(address, bytes, false)) {
        return null;
      }
      const value = view.getBigUint64(0, true);
      return (value & MARK_MASK) === MARK ? value & ~MARK_MASK : `a page that holds ${hex(value)}`;
    }
    const token = (this.token += 0x1_0000_0001n);
    view.setBigUint64(0, token, true);
    if (!go(address + 8n, bytes, true)) {
      return null;
    }
    const at = wanted === null ? -1 : (Number(wanted) - RAM_BASE) / 8 + 1;
    if (wanted !== null && board.quads[at] === token) {
      return wanted;
    }
    const hit = board.quads.indexOf(token);
    return hit < 0 ? "a page that is not found" : BigInt(RAM_BASE + 8 * (hit - 1));
  }

  finish(): void {
    const random = new Random(1);
    this.drivers.forEach((driver) => driver.settle(random, true));
    this.compare(random, null);
    this.board.close();
    const left = this.board.live();
    if (Object.keys(left).length > 0) {
      throw new Error(`left on the host: ${JSON.stringify(left)}`);
    }
  }
}

type Go = (iova: bigint, bytes: Uint8Array, write: boolean) => boolean;

/** The twin of what is on a bus: a function beside it. */
function twinOf(bus: number): number {
  return (bus << 8) | 8;
}
