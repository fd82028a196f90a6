/**
 * A random, legal guest of a VT-d unit with passed-through functions, and an emulated twin of each: another source
 * id whose context entry leads to the same tables. What is owed is what Intel VT-d 5.10 asks for: 6.1 (caching
 * mode), 6.5.2 and 6.5.3 (which invalidation covers what, by the ids that the cached entries have), 6.6 (SRTP
 * with CAP.ESRTPS owes nothing).
 */
import { type Errno, HostError } from "../../src/iommufd/index.js";
import { Refusal } from "../../src/support/index.js";
import { ACCESS_READ, ACCESS_WRITE } from "../../src/translation/index.js";
import type { VtdProperties } from "../../src/vtd/index.js";
import { Board, HOST_FUNCTIONS, hostDescription, iotlbDomain, iotlbGlobal, contextGlobal, pasidCache, pasidCacheDomain, pasidCacheGlobal, piotlbAll, wait } from "../vtd/accel/rig.js";
import { R, TE } from "../vtd/rig.js";
import { Random } from "./random.js";
import type { Play, Step, Weights } from "./three-views.js";
import { readTables } from "./three-views-vtd-reading.js";
import { ADDRESSES, type Change, type Format, MARK, MARK_MASK, type Space as Tables, TableEditor, TARGETS, TARGETS_END } from "./three-views-tables.js";

export interface VtdPlayOptions {
  readonly properties: Partial<VtdProperties>;
  /** Host calls fail at random: then a function may be blocked, and is right again after the next invalidation of all. */
  readonly failing?: boolean;
  /** Steps of bounded work at once, so that what takes more is met half done. */
  readonly stepsAtOnce?: number;
}

/** What comes how often. */
export const VTD_WEIGHTS: Weights = {
  map: 10,
  unmap: 5,
  protect: 3,
  split: 4,
  retable: 4,
  reroot: 4,
  domain: 4,
  pasid: 10,
  directory: 3,
  context: 4,
  root: 1,
  settle: 8,
  srtp: 4,
  mode: 2,
  te: 3,
  queue: 1,
  bus: 2,
  plug: 2,
  reset: 1,
  flr: 1,
  master: 2,
  invalidate: 3,
  recycle: 2,
};
/** Where host calls fail. */
export const VTD_FAILING_WEIGHTS: Weights = { ...VTD_WEIGHTS, recover: 3 };

const FAILURES: ReadonlyArray<readonly [operation: string, errno: Errno]> = [
  ["HWPT_ALLOC", "ENOMEM"],
  ["VFIO_ATTACH_IOMMUFD_PT", "ENOMEM"],
  ["VFIO_ATTACH_IOMMUFD_PT", "EBUSY"],
  ["HWPT_INVALIDATE", "ENOMEM"],
  ["HWPT_INVALIDATE", "EIO"],
  ["IOAS_ALLOC", "ENOMEM"],
  ["IOAS_MAP", "ENOMEM"],
];

const FIRST_PAGE = 0x20_0000;
const LAST_PAGE = TARGETS - 0x1000;
const ROOTS = { scalable: [0x10_0000, 0x10_1000], legacy: [0x10_2000, 0x10_3000] };
const BUSES = [1, 2, 3, 4, 5];
const UPPER = [0xffff_8000_0080_0000n, 0xffff_8000_0080_1000n];
const PASIDS = [0, 1, 2, 63, 64, 70];
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

const LARGE = 0x80n;
const entries = (present: bigint, permissions: bigint, table: bigint, access: (random: Random) => bigint): Format => ({
  addressMask: 0x000f_ffff_ffff_f000n,
  base: 0,
  present: (entry) => (entry & present) !== 0n,
  isLeaf: (entry, level) => level === 1 || (level <= 3 && (entry & LARGE) !== 0n),
  leaf: (level, target, random) => BigInt(target) | access(random) | (level > 1 ? LARGE : 0n),
  part: (entry, level, target) => target | (entry & permissions) | (level > 1 ? LARGE : 0n),
  table: (page) => BigInt(page) | table,
  protect: (entry, _isLeaf, random) => (entry & ~permissions) | access(random),
});
/** 9.9: P, R/W, U/S; 9.10: R, W. Mostly all is allowed. */
const FIRST_STAGE = entries(1n, 7n, 7n, (random) => 1n | (random.oneIn(4) ? 0n : 2n) | (random.oneIn(8) ? 0n : 4n));
const SECOND_STAGE = entries(3n, 3n, 3n, (random) => (random.oneIn(4) ? 1n : 3n));

interface Space extends Tables {
  readonly first: boolean;
}

type Descriptor = readonly [bigint, bigint?];
interface Due {
  /** Context cache, PASID cache, IOTLB: in this order. */
  readonly phase: 0 | 1 | 2;
  readonly text: string;
  readonly descriptor: Descriptor;
}
/** What is owed. */
interface Debt {
  readonly dues: readonly Due[];
  /** Buses whose functions may use what is stale, beside those that lead to these now; null: any. */
  readonly buses: ReadonlySet<number> | null;
  readonly space?: Space;
  readonly directory?: Directory;
  /** First-stage tags that may be cached although no entry has them. */
  readonly tags: ReadonlyArray<{ space: Space; domain: number; pasid: number }>;
}

type Entry = { readonly kind: "first" | "second"; readonly space: Space } | { readonly kind: "pass"; readonly domain: number };
interface Directory {
  page: number;
  /** PASID tables by PASID >> 6. */
  readonly blocks: Map<number, number>;
  readonly entries: Map<number, Entry>;
}
interface Slot {
  directory: Directory | null;
  pasids: boolean;
  legacy: Entry | null;
}

export class VtdPlay implements Play {
  private readonly board: Board;
  private readonly editor: TableEditor;
  private readonly spaces: Space[] = [];
  private readonly directories: Directory[] = [];
  private readonly slots = new Map<number, Slot>();
  private readonly passDomains = [900, 901];
  private readonly free: number[] = [];
  private quarantine: number[] = [];
  private domainQuarantine = new Set<number>();
  private debts: Debt[] = [];
  private scalable = true;
  private rootIndex = 0;
  private enabled = false;
  private queued = true;
  private token = 1n;
  /** Without caching mode, what became present and was not told of: bus and PASID. */
  private readonly untold = new Set<string>();
  private focus: bigint[] = [];
  /** A host call may have failed since the last invalidation of all. */
  private mayBeBlocked = false;
  private readonly portOf = new Map<string, number>();

  constructor(private readonly options: VtdPlayOptions) {
    this.board = new Board(options.properties, hostDescription(), options.stepsAtOnce);
    for (let page = FIRST_PAGE; page <= LAST_PAGE; page += 0x1000) {
      this.free.push(page);
    }
    this.free.reverse();
    for (let page = TARGETS; page < TARGETS_END; page += 0x1000) {
      this.board.store(page, MARK | BigInt(page));
    }
    this.editor = new TableEditor({
      load: (address) => this.board.load(address),
      store: (address, ...words) => this.board.store(address, ...words),
      copy: (from, to) => void this.board.quads.copyWithin(to / 8, from / 8, from / 8 + 512),
      page: () => this.page(),
      release: (page) => void this.quarantine.push(page),
    });
    this.scalable = this.board.vtd.properties.scalableMode;
    this.firmwareTables();
    HOST_FUNCTIONS.forEach((address, port) => {
      this.board.plug(address, port === 1 ? 1 : 0);
      this.portOf.set(address, port);
    });
    this.board.startQueue();
    this.setRoot();
    this.enable(true);
  }

  // ---- memory ----

  private page(): number | null {
    const page = this.free.pop();
    if (page === undefined) {
      return null;
    }
    this.board.quads.fill(0n, page / 8, page / 8 + 512);
    return page;
  }

  private needed(): number {
    const page = this.page();
    if (page === null) {
      throw new Error("the guest of this test has no memory left");
    }
    return page;
  }

  /** Tables as a guest has them at its start: one bus after another, context entries for all, nothing present. */
  private firmwareTables(): void {
    const { board } = this;
    const contexts = new Map<number, number>();
    for (const bus of [0, ...BUSES]) {
      contexts.set(bus, this.needed());
      const legacy = this.needed();
      for (const root of ROOTS.scalable) {
        board.store(root + 16 * bus, BigInt(contexts.get(bus)!) | 1n, 0n);
      }
      for (const root of ROOTS.legacy) {
        board.store(root + 16 * bus, BigInt(legacy) | 1n, 0n);
      }
    }
    // A bus less in the other root tables.
    board.store(ROOTS.scalable[1] + 16 * BUSES[1], 0n, 0n);
    board.store(ROOTS.legacy[1] + 16 * BUSES[2], 0n, 0n);
    const { fsts } = board.vtd.properties;
    const space = (first: boolean, levels: number): void => {
      this.spaces.push({ format: first ? FIRST_STAGE : SECOND_STAGE, name: `${first ? "first" : "second"}-stage space ${this.spaces.length}`, first, levels, domain: 0, root: this.needed() });
    };
    if (fsts) {
      [4, 4, 4, 4].forEach((levels) => space(true, levels));
    }
    if (!fsts || this.mirrors) {
      [4, 4, 3].forEach((levels) => space(false, levels));
    }
    this.spaces.forEach((one, n) => (one.domain = 1 + n));
    for (let n = 0; n < 3; n++) {
      this.directories.push({ page: this.needed(), blocks: new Map(), entries: new Map() });
    }
    for (const bus of BUSES) {
      this.slots.set(bus, { directory: null, pasids: true, legacy: null });
    }
    const random = new Random(7);
    for (const one of this.spaces) {
      for (const address of this.addresses(one)) {
        this.editor.map(one, address, 1 + random.below(2), random);
      }
    }
    BUSES.slice(0, 3).forEach((bus, n) => {
      const slot = this.slots.get(bus)!;
      slot.directory = this.directories[n];
      this.storeContext(bus);
      if (fsts) {
        this.storeEntry(slot.directory, 0, { kind: "first", space: this.spaces[n] });
      } else if (this.board.vtd.properties.scalableMode) {
        this.storeEntry(slot.directory, 0, { kind: "second", space: this.spaces[n % 2] });
      }
      slot.legacy = this.spaces.some((one) => !one.first) ? { kind: "second", space: this.spaces.find((one) => !one.first)! } : { kind: "pass", domain: 900 };
      this.storeContext(bus);
    });
    this.releaseAll();
  }

  /** Passed-through functions can have mirrors of second stages. */
  private get mirrors(): boolean {
    return this.board.vtd.properties.cachingMode;
  }

  private get caching(): boolean {
    return this.board.vtd.properties.cachingMode;
  }

  private addresses(space: Space): readonly bigint[] {
    return space.first ? [...ADDRESSES, ...UPPER] : ADDRESSES.filter((address) => address < (space.levels === 3 ? 2n ** 39n : 2n ** 48n));
  }

  /** Legacy and scalable context entries of a bus, for the function and its twin. */
  private storeContext(bus: number): void {
    const slot = this.slots.get(bus)!;
    for (const source of [bus << 8, twinOf(bus)]) {
      const upper = this.tableOf(ROOTS.scalable[0], source) + 32 * (source & 0x7f);
      const { directory } = slot;
      this.board.store(upper, directory === null ? 0n : BigInt(directory.page) | 1n | (slot.pasids && this.board.vtd.properties.pasidBits > 0 ? 8n : 0n), 0n, 0n, 0n);
      const lower = this.tableOf(ROOTS.legacy[0], source) + 16 * (source & 0xff);
      const { legacy } = slot;
      if (legacy === null) {
        this.board.store(lower, 0n, 0n);
      } else if (legacy.kind === "pass") {
        this.board.store(lower, 1n | (2n << 2n), 2n | (BigInt(legacy.domain) << 8n));
      } else {
        this.board.store(lower, BigInt(legacy.space.root) | 1n, BigInt(legacy.space.levels - 2) | (BigInt(legacy.space.domain) << 8n));
      }
    }
  }

  private tableOf(root: number, source: number): number {
    // The context tables are the same under each root, which may lack a bus.
    const entry = this.board.load(root + 16 * (source >> 8)) || this.board.load(root + 0x1000 + 16 * (source >> 8)) || this.board.load(root - 0x1000 + 16 * (source >> 8));
    return Number(entry & ~0xfffn);
  }

  private wordsOf(entry: Entry): bigint[] {
    if (entry.kind === "pass") {
      return [1n | (4n << 6n) | (2n << 2n), BigInt(entry.domain), 0n];
    }
    const { space } = entry;
    return space.first ? [1n | (1n << 6n), BigInt(space.domain), BigInt(space.root)] : [1n | (2n << 6n) | (BigInt(space.levels - 2) << 2n) | BigInt(space.root), BigInt(space.domain), 0n];
  }

  private storeEntry(directory: Directory, pasid: number, entry: Entry | null): void {
    let block = directory.blocks.get(pasid >> 6);
    if (block === undefined) {
      block = this.needed();
      directory.blocks.set(pasid >> 6, block);
      this.board.store(directory.page + 8 * (pasid >> 6), BigInt(block) | 1n);
    }
    const words = entry === null ? [0n, 0n, 0n] : this.wordsOf(entry);
    this.board.store(block + 64 * (pasid & 63), words[0], words[1], words[2], 0n, 0n, 0n, 0n, 0n);
    if (entry === null) {
      directory.entries.delete(pasid);
    } else {
      directory.entries.set(pasid, entry);
    }
  }

  // ---- registers ----

  private setRoot(): void {
    const { board } = this;
    const root = (this.scalable ? ROOTS.scalable : ROOTS.legacy)[this.rootIndex];
    board.vtd.write(R.RTADDR, 8, BigInt(root) | (this.scalable ? 0x400n : 0n));
    board.command(0x4000_0000);
    board.goOn();
    // 6.6: with CAP.ESRTPS everything is invalidated.
    this.releaseAll();
  }

  private enable(on: boolean): void {
    const { board } = this;
    if (on) {
      board.command(TE);
    } else {
      board.stop();
    }
    board.goOn();
    this.enabled = on;
  }

  /** Nothing is owed any more. */
  private releaseAll(): void {
    this.debts = [];
    this.untold.clear();
    this.free.push(...this.quarantine.splice(0).reverse());
    this.domainQuarantine.clear();
  }

  private send(descriptors: readonly Due[], random: Random): void {
    const { board } = this;
    if (descriptors.length === 0) {
      return;
    }
    for (const { phase, text } of descriptors) {
      if (phase < 2 && text.endsWith("global")) {
        this.untold.clear();
      } else if (phase === 0) {
        const source = Number(/ source (\S+)/.exec(text)?.[1] ?? -1);
        [...this.untold].filter((one) => source < 0 || one.startsWith(`${source >> 8}:`)).forEach((one) => this.untold.delete(one));
      } else if (phase === 1) {
        // Domain narrows nothing that has become present.
        const pasid = / pasid (\d+)$/.exec(text)?.[1];
        for (const one of [...this.untold]) {
          if (pasid === undefined || one.endsWith(`:${pasid}`)) {
            this.untold.delete(one);
          }
        }
      }
    }
    if (!this.queued) {
      for (const { descriptor } of descriptors) {
        this.byRegister(descriptor);
        this.board.goOn();
      }
      this.toldOfRequestsWithoutPasid();
      return;
    }
    const piecewise = random.oneIn(4);
    for (const { descriptor } of descriptors) {
      board.queue(descriptor);
      if (piecewise) {
        board.kick();
      } else if (random.oneIn(6)) {
        board.queue(wait(Number(this.token & 0xffffn)));
      }
    }
    this.complete();
  }

  /** A wait, and what follows: the queue is done. */
  private complete(): void {
    const { board } = this;
    if (!this.queued) {
      return;
    }
    const status = Number((this.token += 0x1_0001n) & 0xffff_ffffn);
    board.run(wait(status));
    board.goOn();
    for (let tries = 0; this.options.failing === true && (board.read(R.FSTS) & 0x10) !== 0; tries++) {
      // 6.5.2.11: the queue goes on when software has cleared the error.
      if (tries === 8) {
        board.observer.clearFailures();
      }
      board.vtd.write(R.FSTS, 4, 0x10n);
      board.goOn();
    }
    if ((board.read(R.FSTS) & 0x10) !== 0) {
      throw new Error(`the queue stands with IQE, IQERCD ${hex(board.read64(R.IQERCD))}`);
    }
    if (Number(board.load(0x1e_0000) & 0xffff_ffffn) !== status) {
      throw new Error(`the wait descriptor is not done: IQH ${board.read(R.IQH)}, IQT ${board.read(R.IQT)}, FSTS ${board.read(R.FSTS)}, GSTS ${hex(board.read(R.GSTS))}`);
    }
    this.toldOfRequestsWithoutPasid();
  }

  /** Without caching mode requests without PASID are looked at whenever the queue has done its work. */
  private toldOfRequestsWithoutPasid(): void {
    for (const one of [...this.untold]) {
      if (one.endsWith(":0")) {
        this.untold.delete(one);
      }
    }
  }

  /** 11.4.6. */
  private byRegister([low, high = 0n]: Descriptor): void {
    const { vtd } = this.board;
    const granularity = (low >> 4n) & 3n;
    if ((low & 0xfn) === 1n) {
      vtd.write(R.CCMD, 8, (1n << 63n) | (granularity << 61n) | (((low >> 48n) & 3n) << 32n) | (((low >> 32n) & 0xffffn) << 16n) | ((low >> 16n) & 0xffffn));
      return;
    }
    vtd.write(R.IVA, 8, high);
    vtd.write(R.IOTLB, 8, (1n << 63n) | (granularity << 60n) | (((low >> 16n) & 0xffffn) << 32n));
  }

  // ---- what is owed ----

  /** First-stage tags under which translations of a space may be cached. */
  private tagsOf(space: Space): Array<{ domain: number; pasid: number }> {
    const tags = new Map<string, { domain: number; pasid: number }>();
    for (const directory of this.directories) {
      for (const [pasid, entry] of directory.entries) {
        if (entry.kind !== "pass" && entry.space === space) {
          tags.set(`${space.domain}:${pasid}`, { domain: space.domain, pasid });
        }
      }
    }
    for (const debt of this.debts) {
      for (const { space: of, domain, pasid } of debt.tags) {
        if (of === space) {
          tags.set(`${domain}:${pasid}`, { domain, pasid });
        }
      }
    }
    return [...tags.values()];
  }

  private busesOf(space: Space): Set<number> | null {
    if (this.debts.some((debt) => debt.tags.some((tag) => tag.space === space))) {
      return null;
    }
    const buses = new Set<number>();
    for (const [bus, { directory, legacy }] of this.slots) {
      const entries = this.scalable ? [...(directory?.entries.values() ?? [])] : [legacy];
      if (entries.some((entry) => entry !== null && entry.kind !== "pass" && entry.space === space)) {
        buses.add(bus);
      }
    }
    return buses;
  }

  /** What a bus's function does may be stale. */
  private isOwed(bus: number): boolean {
    const slot = this.slots.get(bus)!;
    const entries = this.scalable ? [...(slot.directory?.entries.values() ?? [])] : [slot.legacy];
    return this.debts.some(
      ({ buses, space, directory }) =>
        buses === null ||
        buses.has(bus) ||
        (directory !== undefined && slot.directory === directory) ||
        (space !== undefined && entries.some((entry) => entry !== null && entry.kind !== "pass" && entry.space === space)),
    );
  }

  private busesWith(directory: Directory): Set<number> {
    return new Set([...this.slots].filter(([, slot]) => slot.directory === directory).map(([bus]) => bus));
  }

  /** Covers 2^bits bytes around an address of a domain and PASID's first stage. */
  private firstStageDues(change: Change, domain: number, pasid: number, random: Random): Due[] {
    const all = (): Due[] => [this.piotlb(domain, pasid)];
    const choice = random.below(12);
    if (choice === 0) {
      return [this.iotlb(domain)];
    }
    if (choice === 1) {
      return [this.iotlb(-1)];
    }
    if (choice === 2) {
      // Table 23: what a first stage had a part in goes with its domain.
      return [this.pages(domain, -1, ADDRESSES[0], 12 + random.below(3), false)];
    }
    if (choice < 5 || change.bits > 30) {
      return all();
    }
    return this.pieces(change, random).map(([address, bits]) => this.pages(domain, pasid, address, bits, change.leafOnly && random.oneIn(2)));
  }

  private secondStageDues(change: Change, domain: number, random: Random): Due[] {
    const choice = random.below(8);
    if (choice === 0) {
      return [this.iotlb(-1)];
    }
    if (choice > 5 && this.scalable) {
      // Table 24: second-stage translations of the domain go, too.
      return [this.piotlb(domain, 0)];
    }
    if (choice < 4 || change.bits > 30) {
      return [this.iotlb(domain)];
    }
    return this.pieces(change, random).map(([address, bits]) => this.pages(domain, -1, address, bits, change.leafOnly && random.oneIn(2)));
  }

  /** A range as one, a larger one, or two halves. */
  private pieces({ address, bits }: Change, random: Random): Array<[bigint, number]> {
    const choice = random.below(4);
    if (choice === 0 && bits < 30) {
      return [[address, bits + 1 + random.below(30 - bits)]];
    }
    const base = address & ~((1n << BigInt(bits)) - 1n);
    if (choice === 1 && bits > 12) {
      return [
        [base, bits - 1],
        [base + (1n << BigInt(bits - 1)), bits - 1],
      ];
    }
    return [[address, bits]];
  }

  private pages(domain: number, pasid: number, address: bigint, bits: number, leaf: boolean): Due {
    const mask = BigInt(bits - 12);
    const high = (address & ~((1n << BigInt(bits)) - 1n)) | mask | (leaf ? 0x40n : 0n);
    return pasid < 0
      ? { phase: 2, text: `IOTLB domain ${domain} ${hex(address)}+2^${bits}${leaf ? " leaf" : ""}`, descriptor: [0x32n | (BigInt(domain) << 16n), BigInt.asUintN(64, high)] }
      : {
          phase: 2,
          text: `P-IOTLB domain ${domain} ${hex(address)}+2^${bits}${leaf ? " leaf" : ""} pasid ${pasid}`,
          descriptor: [0x36n | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n), BigInt.asUintN(64, high)],
        };
  }

  private piotlb(domain: number, pasid: number): Due {
    return { phase: 2, text: `P-IOTLB domain ${domain} pasid ${pasid}`, descriptor: piotlbAll(domain, pasid) };
  }

  private iotlb(domain: number): Due {
    return domain < 0 ? { phase: 2, text: "IOTLB global", descriptor: iotlbGlobal } : { phase: 2, text: `IOTLB domain ${domain}`, descriptor: iotlbDomain(domain) };
  }

  private pasidCacheDue(domain: number, pasid: number, random: Random): Due {
    switch (random.below(6)) {
      case 0:
        return { phase: 1, text: "PASID-cache global", descriptor: pasidCacheGlobal };
      case 1:
        return { phase: 1, text: `PASID-cache domain ${domain}`, descriptor: pasidCacheDomain(domain) };
      default:
        return { phase: 1, text: `PASID-cache domain ${domain} pasid ${pasid}`, descriptor: pasidCache(domain, pasid) };
    }
  }

  private contextDue(bus: number, domain: number, random: Random): Due[] {
    if (random.oneIn(4)) {
      return [{ phase: 0, text: "context-cache global", descriptor: contextGlobal }];
    }
    if (!this.scalable && random.oneIn(4)) {
      return [{ phase: 0, text: `context-cache domain ${domain}`, descriptor: [0x21n | (BigInt(domain) << 16n)] }];
    }
    const mask = random.oneIn(3) ? 3n : 0n;
    return [bus << 8, twinOf(bus)].map((source) => ({
      phase: 0,
      text: `context-cache domain ${domain} source ${hex(source)} mask ${mask}`,
      descriptor: [0x31n | (BigInt(domain) << 16n) | (BigInt(source) << 32n) | (mask << 48n)],
    }));
  }

  private owe(debt: Debt, random: Random): string {
    const dues = debt.dues.map(({ text }) => text).join("; ");
    if (debt.dues.length === 0) {
      return "nothing is due";
    }
    if (random.oneIn(3)) {
      this.debts.push(debt);
      return `owed: ${dues}`;
    }
    if (random.oneIn(8)) {
      this.setRoot();
      return "then SRTP";
    }
    this.send(debt.dues, random);
    if (this.debts.length === 0) {
      this.releaseAll2();
    }
    return `then ${dues}`;
  }

  /** Pages and domains can be used again; what was not told of stays so. */
  private releaseAll2(): void {
    this.free.push(...this.quarantine.splice(0).reverse());
    this.domainQuarantine.clear();
  }

  private settleDebts(random: Random): string {
    const debts = this.debts;
    this.debts = [];
    let dues = debts.flatMap((debt) => debt.dues);
    if (random.oneIn(2)) {
      dues = ([0, 1, 2] as const).flatMap((phase) => dues.filter((due) => due.phase === phase));
      // What a later one covers need not be sent.
      dues = dues.filter((due) => !(due.text.includes("+2^") && due.text.startsWith("P-IOTLB") && dues.some((other) => covers(other.text, due.text))));
    }
    this.send(dues, random);
    this.releaseAll2();
    return dues.map(({ text }) => text).join("; ");
  }

  // ---- steps ----

  step([operation, seed]: Step): string | null {
    const random = new Random(seed);
    // What this step is about, and what earlier ones were that is still owed: used by all before, looked at by all after.
    const all = [...ADDRESSES, ...UPPER];
    this.focus = [...new Set([random.pick(all), random.pick(all), ...(this.debts.length === 0 ? [] : this.focus.slice(0, 4))])];
    this.use(random);
    if (this.options.failing === true && random.oneIn(3)) {
      const [call, errno] = random.pick(FAILURES);
      this.mayBeBlocked = true;
      this.board.observer.failOn({ operation: call, nth: 1 + random.below(2), errno });
    }
    if (this.options.stepsAtOnce !== undefined && this.queued && operation !== "queue" && random.oneIn(2)) {
      // More than is owed is always right: what it begins is under way while the step is done.
      this.board.run(...random.pick([[contextGlobal], [iotlbGlobal], this.scalable ? [pasidCacheGlobal] : [contextGlobal, iotlbGlobal]]));
    }
    const text = this.act(operation, random);
    // A guest polls until its commands are done; buses, plugs and resets leave work, too.
    this.board.goOn();
    if (text !== null) {
      this.compare(random);
    }
    return text;
  }

  /** Mostly one that a function uses now. */
  private space(random: Random): Space {
    const used = random.oneIn(5) ? [] : this.spaces.filter((space) => [...(this.busesOf(space) ?? [])].some((bus) => this.plugged(bus)));
    return random.pick(used.length === 0 ? this.spaces : used);
  }

  private plugged(bus: number): boolean {
    return [...this.board.functions.keys()].some((address) => this.board.ports[this.portOf.get(address)!].secondary.number === bus);
  }

  /** An address of this step that a space has. */
  private pick(space: Space, random: Random): bigint {
    const addresses = this.addresses(space);
    return this.focus.find((address) => addresses.includes(address)) ?? random.pick(addresses);
  }

  private act(operation: string, random: Random): string | null {
    const { board } = this;
    switch (operation) {
      case "map":
      case "unmap":
      case "protect":
      case "split":
      case "retable":
        return this.edit(operation, random);
      case "reroot":
        return this.reroot(random);
      case "domain":
        return this.changeDomain(random);
      case "pasid":
        return this.changePasid(random);
      case "directory":
        return this.changeDirectory(random);
      case "context":
        return this.changeContext(random);
      case "root":
        return this.changeRootEntry(random);
      case "settle":
        return this.debts.length === 0 ? null : this.settleDebts(random);
      case "srtp":
        this.rootIndex = random.below(2);
        this.setRoot();
        return `SRTP root ${this.rootIndex}, ${this.scalable ? "scalable" : "legacy"}`;
      case "mode":
        if (!board.vtd.properties.scalableMode || !this.mirrors) {
          return null;
        }
        if (!this.queued) {
          this.startQueue();
        }
        this.scalable = !this.scalable;
        this.setRoot();
        return `SRTP ${this.scalable ? "scalable" : "legacy"} mode, root ${this.rootIndex}`;
      case "te":
        this.enable(!this.enabled);
        return `TE ${this.enabled ? "on" : "off"}`;
      case "queue":
        if (this.scalable) {
          return null;
        }
        if (this.queued) {
          board.stopQueue();
          this.queued = false;
        } else {
          this.startQueue();
        }
        return `queue ${this.queued ? "on" : "off"}`;
      case "bus":
        return this.renumber(random);
      case "plug":
        return this.plug(random);
      case "reset":
        return this.reset();
      case "flr":
      case "master":
        return this.functionReset(operation, random);
      case "invalidate": {
        const due = this.extra(random);
        this.send([due], random);
        return due.text;
      }
      case "recycle":
        return this.recycle(random);
      case "recover":
        return this.recover(random);
      default:
        throw new Error(`no operation '${operation}'`);
    }
  }

  /** The host does again what it is asked, and all is invalidated. */
  private recover(random: Random): string {
    this.board.observer.clearFailures();
    this.settleDebts(random);
    this.send(
      [
        { phase: 0, text: "context-cache global", descriptor: contextGlobal },
        ...(this.scalable ? [{ phase: 1, text: "PASID-cache global", descriptor: pasidCacheGlobal } as const] : []),
        this.iotlb(-1),
      ],
      random,
    );
    this.mayBeBlocked = false;
    return "all is invalidated";
  }

  private startQueue(): void {
    this.board.startQueue();
    this.queued = true;
  }

  private edit(operation: "map" | "unmap" | "protect" | "split" | "retable", random: Random): string | null {
    const space = this.space(random);
    const address = this.pick(space, random);
    const change = operation === "map" ? this.editor.map(space, address, random.pick([1, 1, 1, 2, 2, 3]), random) : this.editor[operation](space, address, random);
    return change === null ? null : `${change.text}; ${this.oweChange(space, change, random)}`;
  }

  private oweChange(space: Space, change: Change, random: Random): string {
    // 6.1: a first stage's entries that are not present are in no cache, whatever CAP.CM says.
    if (change.addedOnly && (space.first || !this.caching)) {
      return "nothing is due";
    }
    const dues = space.first
      ? this.scalable
        ? this.tagsOf(space).flatMap(({ domain, pasid }) => this.firstStageDues(change, domain, pasid, random))
        : []
      : [...this.secondStageDomains(space)].flatMap((domain) => this.secondStageDues(change, domain, random));
    return this.owe({ dues, buses: this.busesOf(space), space, tags: [] }, random);
  }

  private secondStageDomains(space: Space): Set<number> {
    const domains = new Set(this.debts.flatMap((debt) => debt.tags.filter((tag) => tag.space === space).map(({ domain }) => domain)));
    if ((this.busesOf(space)?.size ?? 1) > 0) {
      domains.add(space.domain);
    }
    return domains;
  }

  /** The debts of an entry's change: 6.5.3.3, by the domain that the cached entry has. */
  private entryDues(old: Entry | undefined, oldDomain: number, pasid: number, random: Random): Due[] {
    if (old === undefined) {
      return [];
    }
    const cache = this.pasidCacheDue(oldDomain, pasid, random);
    const tlb =
      old.kind === "second"
        ? random.pick([() => this.iotlb(oldDomain), () => this.iotlb(-1), () => this.piotlb(oldDomain, pasid)])()
        : random.pick([() => this.piotlb(oldDomain, pasid), () => this.piotlb(oldDomain, pasid), () => this.iotlb(oldDomain), () => this.iotlb(-1)])();
    return [cache, tlb];
  }

  private presentDues(entry: Entry, pasid: number, random: Random): Due[] {
    if (!this.caching) {
      return [];
    }
    const domain = domainOf(entry);
    return [this.pasidCacheDue(domain, pasid, random), ...(entry.kind === "second" ? [this.iotlb(domain)] : [])];
  }

  private tag(entry: Entry, domain: number, pasid: number): Debt["tags"] {
    return entry.kind === "pass" ? [] : [{ space: entry.space, domain, pasid }];
  }

  /** Users of a space as PASID entries. */
  private *users(space: Space): Generator<{ directory: Directory; pasid: number }> {
    for (const directory of this.directories) {
      for (const [pasid, entry] of directory.entries) {
        if (entry.kind !== "pass" && entry.space === space) {
          yield { directory, pasid };
        }
      }
    }
  }

  /** Another first table, with the domain that it had, or another one. */
  private reroot(random: Random): string | null {
    const space = this.space(random);
    const oldRoot = this.editor.reroot(space, this.pick(space, random), random);
    if (oldRoot === null) {
      return null;
    }
    this.quarantine.push(oldRoot);
    return `${space.name} has its first table at ${hex(space.root)}; ${this.rewrite(space, random.oneIn(3) ? this.freshDomain(random) : space.domain, random)}`;
  }

  /** Another domain id for a space: alone, or after a change of its tables that is owed by the old id. */
  private changeDomain(random: Random): string | null {
    const space = this.space(random);
    const edited = random.oneIn(2) ? this.editor.map(space, this.pick(space, random), random.pick([1, 1, 2, 3]), random) : null;
    return `${edited === null ? "" : `${edited.text}; `}${space.name}: ${this.rewrite(space, this.freshDomain(random), random)}`;
  }

  private freshDomain(random: Random): number {
    for (;;) {
      const domain = 1 + random.below(40);
      if (!this.domainQuarantine.has(domain) && !this.spaces.some((space) => space.domain === domain)) {
        return domain;
      }
    }
  }

  /** All entries of a space are written again: another domain, another pointer. All that was cached goes by the old id. */
  private rewrite(space: Space, domain: number, random: Random): string {
    const old = space.domain;
    const dues: Due[] = [];
    const tags: Array<Debt["tags"][number]> = [];
    const buses = this.busesOf(space);
    space.domain = domain;
    if (old !== domain) {
      this.domainQuarantine.add(old);
    }
    for (const { directory, pasid } of this.users(space)) {
      const entry = directory.entries.get(pasid)!;
      this.storeEntry(directory, pasid, entry);
      tags.push(...this.tag(entry, old, pasid));
      if (this.scalable) {
        dues.push(...this.entryDues(entry, old, pasid, random));
      }
    }
    for (const [bus, slot] of this.slots) {
      if (slot.legacy !== null && slot.legacy.kind === "second" && slot.legacy.space === space) {
        this.storeContext(bus);
        if (!this.scalable) {
          dues.push(...this.contextDue(bus, old, random), random.oneIn(3) ? this.iotlb(-1) : this.iotlb(old));
          tags.push({ space, domain: old, pasid: -1 });
        }
      }
    }
    return `domain ${old} becomes ${domain}; ${this.owe({ dues, buses, space, tags }, random)}`;
  }

  private randomEntry(random: Random, pasid: number): Entry | null {
    if (random.oneIn(4)) {
      return null;
    }
    if (random.oneIn(6)) {
      return { kind: "pass", domain: random.pick(this.passDomains) };
    }
    const { fsts } = this.board.vtd.properties;
    const usable = this.spaces.filter((one) => one.first === fsts);
    return usable.length === 0 || (!fsts && pasid !== 0) ? null : { kind: fsts ? "first" : "second", space: random.pick(usable) };
  }

  private changePasid(random: Random): string | null {
    if (!this.board.vtd.properties.scalableMode) {
      return null;
    }
    const directory = random.pick(this.directories);
    const pasid = this.board.vtd.properties.pasidBits === 0 ? 0 : random.pick(PASIDS);
    const entry = this.randomEntry(random, pasid);
    const old = directory.entries.get(pasid);
    if (old === undefined && entry === null) {
      return null;
    }
    this.storeEntry(directory, pasid, entry);
    const dues = !this.scalable ? [] : old === undefined ? this.presentDues(entry!, pasid, random) : this.entryDues(old, domainOf(old), pasid, random);
    const buses = this.busesWith(directory);
    if (old === undefined && !this.caching && this.scalable) {
      buses.forEach((bus) => this.untold.add(`${bus}:${pasid}`));
    }
    const text = `directory ${this.directories.indexOf(directory)} pasid ${pasid}: ${describe(old)} becomes ${describe(entry)}`;
    return `${text}; ${this.owe({ dues, buses, directory, tags: old === undefined || !this.scalable ? [] : this.tag(old, domainOf(old), pasid) }, random)}`;
  }

  /** A PASID table goes, or is replaced by one with other entries. */
  private changeDirectory(random: Random): string | null {
    const directory = random.pick(this.directories);
    const blocks = [...directory.blocks];
    if (blocks.length === 0) {
      return null;
    }
    const [index, page] = random.pick(blocks);
    const pasids = [...directory.entries].filter(([pasid]) => pasid >> 6 === index);
    const dues: Due[] = [];
    const tags: Array<Debt["tags"][number]> = [];
    directory.blocks.delete(index);
    this.quarantine.push(page);
    const fresh = random.oneIn(2) ? this.page() : null;
    if (fresh === null) {
      this.board.store(directory.page + 8 * index, 0n);
    } else {
      directory.blocks.set(index, fresh);
    }
    const texts: string[] = [];
    for (const [pasid, old] of pasids) {
      const entry = fresh === null ? null : random.oneIn(2) ? old : this.randomEntry(random, pasid);
      directory.entries.delete(pasid);
      if (entry !== null) {
        this.storeEntry(directory, pasid, entry);
      }
      texts.push(`pasid ${pasid}: ${describe(old)} becomes ${describe(entry)}`);
      if (this.scalable) {
        dues.push(...this.entryDues(old, domainOf(old), pasid, random));
        tags.push(...this.tag(old, domainOf(old), pasid));
      }
    }
    if (fresh !== null) {
      this.board.store(directory.page + 8 * index, BigInt(fresh) | 1n);
    }
    return `directory ${this.directories.indexOf(directory)} table ${index} ${fresh === null ? "goes" : `is at ${hex(fresh)}`}: ${texts.join(", ")}; ${this.owe({ dues, buses: this.busesWith(directory), directory, tags }, random)}`;
  }

  private changeContext(random: Random): string | null {
    const bus = random.pick(BUSES);
    const slot = this.slots.get(bus)!;
    const dues: Due[] = [];
    let tags: Debt["tags"] = [];
    let text: string;
    if (this.scalable) {
      const old = slot.directory;
      slot.directory = random.oneIn(4) ? null : random.pick(this.directories);
      slot.pasids = !random.oneIn(4);
      text = `context of bus ${bus}: directory ${old === null ? "none" : this.directories.indexOf(old)} becomes ${slot.directory === null ? "none" : this.directories.indexOf(slot.directory)}, PASIDE ${slot.pasids}`;
      if (old !== null) {
        dues.push(...this.contextDue(bus, 0, random));
        if (random.oneIn(2)) {
          dues.push({ phase: 1, text: "PASID-cache global", descriptor: pasidCacheGlobal }, this.iotlb(-1));
        } else {
          // The tables of the old directory, as they are cached.
          for (const domain of new Set([...[...old.entries.values()].map(domainOf), ...this.debts.flatMap((debt) => debt.tags.map((tag) => tag.domain))])) {
            dues.push({ phase: 1, text: `PASID-cache domain ${domain}`, descriptor: pasidCacheDomain(domain) }, this.iotlb(domain));
          }
        }
      } else if (this.caching) {
        dues.push(...this.contextDue(bus, 0, random));
      } else if (slot.directory !== null) {
        PASIDS.forEach((pasid) => this.untold.add(`${bus}:${pasid}`));
      }
    } else {
      const seconds = this.spaces.filter((one) => !one.first);
      const old = slot.legacy;
      slot.legacy = random.oneIn(4) ? null : random.oneIn(4) || seconds.length === 0 ? { kind: "pass", domain: random.pick(this.passDomains) } : { kind: "second", space: random.pick(seconds) };
      text = `legacy context of bus ${bus}: ${describe(old)} becomes ${describe(slot.legacy)}`;
      if (old !== null) {
        dues.push(...this.contextDue(bus, domainOf(old), random), random.oneIn(3) ? this.iotlb(-1) : this.iotlb(domainOf(old)));
        tags = this.tag(old, domainOf(old), -1);
      } else if (this.caching) {
        const device = this.contextDue(bus, 0, random);
        dues.push(...device, ...(slot.legacy === null ? [] : [this.iotlb(domainOf(slot.legacy))]));
      } else if (slot.legacy !== null) {
        this.untold.add(`${bus}:0`);
      }
    }
    this.storeContext(bus);
    return `${text}; ${this.owe({ dues, buses: new Set([bus]), tags }, random)}`;
  }

  /** A bus's root entry goes or comes back. */
  private changeRootEntry(random: Random): string {
    const bus = random.pick(BUSES);
    const at = (this.scalable ? ROOTS.scalable : ROOTS.legacy)[this.rootIndex] + 16 * bus;
    const old = this.board.load(at);
    const table = old !== 0n ? 0n : BigInt(this.tableOf((this.scalable ? ROOTS.scalable : ROOTS.legacy)[0], bus << 8)) | 1n;
    // The other root keeps it: that is where it is found again.
    const other = (this.scalable ? ROOTS.scalable : ROOTS.legacy)[1 - this.rootIndex] + 16 * bus;
    if (this.board.load(other) === 0n) {
      this.board.store(other, old);
    }
    this.board.store(at, table);
    const dues: Due[] = [
      { phase: 0, text: "context-cache global", descriptor: contextGlobal },
      ...(this.scalable ? [{ phase: 1, text: "PASID-cache global", descriptor: pasidCacheGlobal } as const] : []),
      this.iotlb(-1),
    ];
    const due = old !== 0n || this.caching;
    if (!due) {
      PASIDS.forEach((pasid) => this.untold.add(`${bus}:${pasid}`));
    }
    return `root entry of bus ${bus} ${table === 0n ? "goes" : "comes"}; ${due ? this.owe({ dues, buses: new Set([bus]), tags: [] }, random) : "nothing is due"}`;
  }

  /** A space's tables are freed, and it begins again with another domain: pages and domain are used again later. */
  private recycle(random: Random): string | null {
    const space = this.space(random);
    const root = this.page();
    if (root === null) {
      return null;
    }
    this.editor.free(space);
    space.root = root;
    for (const address of this.addresses(space)) {
      if (random.oneIn(2)) {
        this.editor.map(space, address, random.pick([1, 2, 3]), random);
      }
    }
    return `${space.name} begins again at ${hex(root)}; ${this.rewrite(space, this.freshDomain(random), random)}`;
  }

  private extra(random: Random): Due {
    const domain = 1 + random.below(40);
    const all = [
      () => this.contextDue(random.pick(BUSES), this.scalable ? 0 : domain, random)[0],
      () => this.iotlb(domain),
      () => this.pages(domain, -1, random.pick(ADDRESSES), 12 + random.below(19), false),
      ...(this.scalable ? [() => this.pasidCacheDue(domain, random.pick(PASIDS), random), () => this.pasidCacheDue(domain, random.pick(PASIDS), random), () => this.piotlb(domain, random.pick(PASIDS))] : []),
    ];
    return random.pick(all)();
  }

  private renumber(random: Random): string | null {
    const { board } = this;
    const port = random.below(3);
    const taken = board.ports.filter((_one, n) => n !== port).map(({ secondary }) => secondary.number);
    const bus = random.pick([0, ...BUSES].filter((one) => one === 0 || !taken.includes(one)));
    board.number(port, bus);
    return `port ${port} has bus ${bus}`;
  }

  private plug(random: Random): string {
    const { board } = this;
    const address = random.pick(HOST_FUNCTIONS);
    if (board.functions.has(address)) {
      board.unplug(address);
      return `unplug ${address}`;
    }
    const iommufd = random.below(2);
    try {
      board.plug(address, iommufd, true);
    } catch (error) {
      if (!this.mayBeBlocked || !(error instanceof Refusal || error instanceof HostError)) {
        throw error;
      }
      return `plug of ${address} is refused: ${error.message}`;
    }
    const bus = board.ports[this.portOf.get(address)!].secondary.number;
    // What is there is bound at a plug.
    [...this.untold].filter((one) => one.startsWith(`${bus}:`)).forEach((one) => this.untold.delete(one));
    return `plug ${address} iommufd${iommufd}`;
  }

  private reset(): string {
    const { board } = this;
    board.vtd.reset();
    this.enabled = false;
    this.startQueue();
    if (!board.vtd.properties.scalableMode) {
      this.scalable = false;
    }
    this.setRoot();
    return "system reset, queue on, SRTP";
  }

  private functionReset(operation: string, random: Random): string | null {
    const fn = [...this.board.functions.values()];
    if (fn.length === 0) {
      return null;
    }
    const one = random.pick(fn);
    if (operation === "flr") {
      one.reset();
      return `${one.id} is reset`;
    }
    const on = !random.oneIn(3);
    one.configWrite(4, 2, on ? 6 : 2);
    if (on) {
      const bus = one.bus!.number;
      this.untold.delete(`${bus}:0`);
    }
    return `${one.id} bus mastering ${on ? "on" : "off"}`;
  }

  // ---- the three views ----

  private compare(random: Random): void {
    const { board } = this;
    const unit = {
      enabled: this.enabled,
      root: BigInt((this.scalable ? ROOTS.scalable : ROOTS.legacy)[this.rootIndex]),
      scalable: this.scalable,
      firstStage: board.vtd.properties.fsts,
      pasidBits: board.vtd.properties.pasidBits,
      addressBits: board.vtd.properties.awBits,
    };
    const load = (address: bigint): bigint | null => (address + 8n <= 0x200_0000n ? board.load(Number(address)) : null);
    const addresses = [...ADDRESSES, ...UPPER];
    for (const bus of BUSES) {
      const at = [...board.functions].find(([address]) => board.ports[this.portOf.get(address)!].secondary.number === bus);
      const stale = this.isOwed(bus);
      for (const pasid of [-1, ...(board.vtd.properties.pasidBits > 0 ? PASIDS.slice(1) : [])]) {
        const looked = at === undefined ? random.oneIn(8) : random.oneIn(4);
        const near = at !== undefined && this.isLikely(bus, pasid, random);
        for (const address of addresses) {
          if (!(near && this.focus.includes(address)) && !(looked && random.oneIn(3))) {
            continue;
          }
          for (const write of [false, true]) {
            const views = [
              ...(at === undefined ? [] : [{ name: "passed-through", source: bus << 8, go: this.passedThrough(at[0], pasid) }]),
              { name: "emulated", source: twinOf(bus), go: this.emulated(bus, pasid) },
            ];
            for (const { name, source, go } of views) {
              const plain = readTables(load, unit, source, pasid, address, write);
              const wanted = plain !== null && plain + 8n <= 0x200_0000n ? plain : null;
              if (!this.enabled && pasid >= 0) {
                // What becomes of PASIDs without translation no section says; nobody translates them.
                const found = this.probe(go, address, write, wanted);
                if (found !== null && found !== address) {
                  throw new Error(`${name} function of bus ${bus}, PASID ${pasid}: translated to ${typeof found === "bigint" ? hex(found) : found} with TE off`);
                }
                continue;
              }
              if (stale) {
                go(address + 8n, this.bytes, write);
                continue;
              }
              const found = this.probe(go, address, write, wanted);
              if (found === wanted || (name === "passed-through" && found === null && this.mayBeBlocked) || (name === "passed-through" && found === null && this.untold.has(`${bus}:${Math.max(pasid, 0)}`))) {
                continue;
              }
              throw new Error(
                `${name} function of bus ${bus} (${at?.[0] ?? "none"}), PASID ${pasid}, ${write ? "write" : "read"} of ${hex(address)}: reaches ${found === null ? "nothing" : typeof found === "string" ? found : hex(found)}, the tables say ${wanted === null ? "nothing" : hex(wanted)}\n${board.log.lines.slice(-4).map((line) => `  log: ${line.text}`).join("\n")}`,
              );
            }
          }
        }
      }
    }
  }

  /** There is an entry for a PASID, or it is looked at all the same. */
  private isLikely(bus: number, pasid: number, random: Random): boolean {
    return pasid < 0 || this.slots.get(bus)!.directory?.entries.has(pasid) === true || random.oneIn(5);
  }

  /** All functions use the addresses of a step: what may be cached is. */
  private use(random: Random): void {
    const { board } = this;
    for (const [address] of board.functions) {
      const bus = board.ports[this.portOf.get(address)!].secondary.number;
      for (const pasid of bus === 0 ? [] : [-1, ...(board.vtd.properties.pasidBits > 0 ? PASIDS.slice(1) : [])]) {
        if (!this.isLikely(bus, pasid, random)) {
          continue;
        }
        for (const go of [this.passedThrough(address, pasid), this.emulated(bus, pasid)]) {
          for (const iova of this.focus) {
            go(iova, this.bytes, false);
          }
        }
      }
    }
  }

  private passedThrough(address: string, pasid: number): Go {
    const device = this.board.hardware(address);
    return (iova, bytes, write) => {
      const high = Number(BigInt.asIntN(32, iova >> 32n));
      const low = Number(BigInt.asIntN(32, iova));
      return write ? device.writeMemory(high, low, bytes, pasid, ACCESS_WRITE, false) : device.readMemory(high, low, bytes, pasid, ACCESS_READ, false);
    };
  }

  private emulated(bus: number, pasid: number): Go {
    const source = twinOf(bus);
    const space = this.board.ops.getAddressSpace(this.board.pci.bus, source);
    const attributes = { requesterId: source, pasid, execute: false, privileged: false };
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
    if (wanted !== null && board.load(Number(wanted) + 8) === token) {
      return wanted;
    }
    for (let page = 0; page < 0x200_0000; page += 0x1000) {
      if (board.load(page + 8) === token) {
        return BigInt(page);
      }
    }
    return "a page that is not found";
  }

  finish(): void {
    const random = new Random(1);
    if (this.options.failing === true) {
      this.recover(random);
    } else {
      this.settleDebts(random);
    }
    this.compare(random);
    this.board.close();
    const left = this.board.live();
    if (Object.keys(left).length > 0) {
      throw new Error(`left on the host: ${JSON.stringify(left)}`);
    }
  }
}

type Go = (iova: bigint, bytes: Uint8Array, write: boolean) => boolean;

/** The source id of the twin of what is on a bus: a function of the root bus. */
function twinOf(bus: number): number {
  return 0x40 + 8 * bus;
}

function domainOf(entry: Entry): number {
  return entry.kind === "pass" ? entry.domain : entry.space.domain;
}

function describe(entry: Entry | null | undefined): string {
  return entry === null || entry === undefined ? "not present" : entry.kind === "pass" ? `pass-through, domain ${entry.domain}` : `${entry.space.name}, domain ${entry.space.domain}`;
}

/** A PASID-selective invalidation covers a page-selective one of the same tag. */
function covers(all: string, pages: string): boolean {
  const [, domain, pasid] = /domain (\d+) .* pasid (\d+)$/.exec(pages) ?? [];
  return all === `P-IOTLB domain ${domain} pasid ${pasid}`;
}

