/**
 * A walk over a guest's second-stage tables that can be interrupted anywhere: who follows them does so in steps,
 * since a hostile guest's tables lead in circles.
 */
import { type AddressSpace, MEMORY_OK, type WordMemory } from "../../memory/index.js";
import { type Budget, EMPTY_ENTRY_STEPS, GuestLimit } from "../../nesting/index.js";
import { toNumber } from "../../support/index.js";
import type { X86Tables } from "../../translation/index.js";
import * as trace from "./trace.js";
import type { MirrorRuns } from "./mirror-runs.js";
import { INTERRUPT_RANGE_FIRST, INTERRUPT_RANGE_LAST, SS_PS, SS_R, SS_W } from "../spec/index.js";

/** Entries that one walk reads, and parts of leaves that it finds, at the most. */
const MOST_READS = 1 << 22;

/** The last IOVA that any tables translate, in bytes. */
export const EVERYWHERE = 2 ** 57;

/** What a step of the walk ended with: `found` holds a part of a run, the budget is spent, the walk is over. */
export type WalkStep = "found" | "spent" | "over";

/** A leaf, or adjacent ones of one table that lead to adjacent pages. */
interface Run {
  readonly iova: number;
  readonly bytes: number;
  readonly gpa: number;
  readonly access: number;
  done: number;
}

/** Tables on the way at the most: five levels. */
const MOST_LEVELS = 5;

export class MirrorWalk {
  /**
   * A part of a run, after "found". Parts come in the order of their IOVAs and do not overlap. `populated`: RAM or ROM
   * is behind all of it, else nothing is.
   */
  readonly found = { iova: 0, bytes: 0, gpa: 0, access: 0, populated: false };
  /** The range, and the leaves that reach beyond it. */
  from = 0;
  to = 0;
  private reads = 0;
  /** Tables on the way, the outermost first: where, the next entry and the last one, IOVA of entry 0, access so far. */
  private depth = 0;
  private readonly tableHigh = new Int32Array(MOST_LEVELS);
  private readonly tableLow = new Int32Array(MOST_LEVELS);
  private readonly next = new Int32Array(MOST_LEVELS);
  private readonly end = new Int32Array(MOST_LEVELS);
  private readonly base = new Float64Array(MOST_LEVELS);
  private readonly access = new Int32Array(MOST_LEVELS);
  /** The run at hand, and how much of it is done. */
  private run: Run | null = null;
  private first = 0;
  private last = 0;

  /** A walk over all of the tables. */
  constructor(
    private readonly tables: X86Tables,
    private readonly memory: AddressSpace,
    private readonly words: WordMemory,
    private readonly runs: MirrorRuns,
  ) {
    this.begin(0, EVERYWHERE);
  }

  /** Begins anew. `first`, `last`: IOVAs in bytes, inclusive. */
  begin(first: number, last: number): void {
    const { tables } = this;
    this.first = first;
    this.last = Math.min(last, 2 ** tables.inputBits - 1);
    this.from = first;
    this.to = last;
    this.reads = 0;
    this.depth = 0;
    this.run = null;
    this.enter(tables.baseHigh, tables.baseLow, 0, SS_R | SS_W);
  }

  /** Goes on to the next part, as far as the budget lasts. Throws GuestLimit. */
  step(budget: Budget): WalkStep {
    while (!budget.spent) {
      if (this.run !== null) {
        this.count();
        budget.left--;
        if (this.part(this.run)) {
          return "found";
        }
      } else if (this.depth === 0) {
        return "over";
      } else if (this.next[this.depth - 1] > this.end[this.depth - 1]) {
        this.depth--;
      } else {
        this.count();
        budget.left -= this.readEntry(budget) ? 1 : EMPTY_ENTRY_STEPS;
      }
    }
    return "spent";
  }

  private count(): void {
    if (++this.reads > MOST_READS) {
      throw new GuestLimit("the guest's second-stage tables have more entries than are mirrored");
    }
  }

  /** Level of the entries of the innermost table: 1 has pages of 4 KiB. */
  private get level(): number {
    return this.tables.levels - (this.depth - 1);
  }

  private enter(high: number, low: number, base: number, access: number): void {
    const at = this.depth++;
    const span = 2 ** (3 + 9 * this.level);
    this.tableHigh[at] = high;
    this.tableLow[at] = low;
    this.base[at] = base;
    this.access[at] = access;
    this.next[at] = Math.max(0, Math.floor((this.first - base) / span));
    this.end[at] = Math.min(511, Math.floor((this.last - base) / span));
    if (trace.tracePageWalkLevel.on) {
      trace.tracePageWalkLevel.emit(toNumber(high, low), this.level, base, Math.min(base + 512 * span, 2 ** this.tables.inputBits));
    }
  }

  /** False: the entry is passed over. */
  private readEntry(budget: Budget): boolean {
    const { tables, words } = this;
    const at = this.depth - 1;
    const { level } = this;
    const index = this.next[at]++;
    if (words.load64(this.tableHigh[at], this.tableLow[at] + 8 * index) !== MEMORY_OK) {
      if (trace.tracePageWalkSkipRead.on) {
        const iova = this.base[at] + index * 2 ** (3 + 9 * level);
        trace.tracePageWalkSkipRead.emit(iova, iova + 2 ** (3 + 9 * level));
      }
      return false;
    }
    const low = words.loadedLow;
    const high = words.loadedHigh;
    const allowed = this.access[at] & low & (SS_R | SS_W);
    const address = (high & 0x000f_ffff) * 2 ** 32 + ((low & -4096) >>> 0);
    if (allowed === 0 || address >= 2 ** tables.outputBits) {
      // Not present, or with address bits that are reserved: a fault of whoever uses it.
      if (allowed !== 0 && trace.tracePageWalkSkipReserve.on) {
        const iova = this.base[at] + index * 2 ** (3 + 9 * level);
        trace.tracePageWalkSkipReserve.emit(iova, iova + 2 ** (3 + 9 * level));
      }
      return false;
    }
    const span = 2 ** (3 + 9 * level);
    const iova = this.base[at] + index * span;
    if (level > 1 && (low & SS_PS) === 0) {
      this.enter(high & 0x000f_ffff, low & -4096, iova, allowed);
    } else if (level === 1 || (level === 2 ? tables.pages2m : level === 3 && tables.pages1g)) {
      const gpa = address - (address % span);
      const bytes = this.runs.joins(level, iova) ? this.follow(gpa, allowed, budget) : span;
      this.run = { iova, bytes, gpa, access: allowed, done: 0 };
      this.from = Math.min(this.from, iova);
      this.to = Math.max(this.to, iova + bytes - 1);
    }
    return true;
  }

  /** Passes the entries behind a leaf that go on with it. Returns the bytes of all. `gpa` of the leaf. */
  private follow(gpa: number, allowed: number, budget: Budget): number {
    const { words } = this;
    const at = this.depth - 1;
    const span = 2 ** (3 + 9 * this.level);
    const isLeaf = this.level === 1 ? 0 : SS_PS;
    let bytes = span;
    while (this.next[at] <= this.end[at] && words.load64(this.tableHigh[at], this.tableLow[at] + 8 * this.next[at]) === MEMORY_OK) {
      const low = words.loadedLow;
      const address = (words.loadedHigh & 0x000f_ffff) * 2 ** 32 + ((low & -4096) >>> 0);
      if ((this.access[at] & low & (SS_R | SS_W)) !== allowed || (low & isLeaf) !== isLeaf || address - (address % span) !== gpa + bytes || address >= 2 ** this.tables.outputBits) {
        break;
      }
      this.count();
      budget.left--;
      this.next[at]++;
      bytes += span;
    }
    return bytes;
  }

  /** The next part of the run: what one section of memory is behind, or none. False: it is no mapping. */
  private part(run: Run): boolean {
    const { found } = this;
    const rest = run.bytes - run.done;
    const section = this.memory.findPopulated(run.gpa + run.done);
    found.iova = run.iova + run.done;
    found.gpa = run.gpa + run.done;
    found.populated = section !== null;
    found.bytes =
      section === null
        ? Math.max(4096, Math.min(rest, this.nextSection(found.gpa) - found.gpa))
        : Math.min(rest, section.address + section.size - found.gpa);
    found.access = section === null || section.region.takesDma ? run.access : run.access & ~SS_W;
    const withinInterrupts = found.iova >= INTERRUPT_RANGE_FIRST && found.iova <= INTERRUPT_RANGE_LAST;
    if (withinInterrupts) {
      // 3.15: requests to it are interrupts, whatever the tables say.
      found.bytes = Math.min(rest, INTERRUPT_RANGE_LAST + 1 - found.iova);
    } else if (found.iova < INTERRUPT_RANGE_FIRST) {
      found.bytes = Math.min(found.bytes, INTERRUPT_RANGE_FIRST - found.iova);
    }
    run.done += found.bytes;
    if (run.done >= run.bytes) {
      this.run = null;
    }
    return !withinInterrupts && found.access !== 0 && (section === null || section.region.ram !== null || section.region.device !== null);
  }

  private nextSection(address: number): number {
    for (const section of this.memory.populatedSections()) {
      if (section.address > address) {
        return section.address;
      }
    }
    return Infinity;
  }
}
