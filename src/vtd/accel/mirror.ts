/**
 * A guest's second-stage tables for a passed-through function, mirrored into an IOAS of the host: each leaf, or
 * run of adjacent leaves, is a mapping there. What has changed comes with the guest's IOTLB invalidations, which with caching mode follow
 * every change (Intel VT-d 5.10, 6.1). The work is done in steps, since tables may be large, or lead in circles.
 */
import { HwptAllocFlags, HwptDataType, type Iommufd, type IommufdDevice } from "../../iommufd/index.js";
import type { AddressSpace, MemoryListener, MemorySection, WordMemory } from "../../memory/index.js";
import { type Budget, type Graveyard, GuestLimit, HOST_CALL_STEPS } from "../../nesting/index.js";
import type { Log } from "../../support/index.js";
import type { X86Tables } from "../../translation/index.js";
import * as trace from "./trace.js";
import { usableAddressBits } from "./compatibility.js";
import type { GuestDomains } from "./domains.js";
import type { Mapping } from "./mappings.js";
import { MirrorAreas, MOST_MAPPINGS } from "./mirror-areas.js";
import { MirrorRanges } from "./mirror-ranges.js";
import type { MirrorRuns } from "./mirror-runs.js";
import { EVERYWHERE, MirrorWalk, type WalkStep } from "./mirror-walk.js";

/**
 * How often a mapping is looked at of which a part has gone, each time when others have had their turn, before the mirror
 * counts as torn: another processor of the guest may be about to unmap all of it, and tells when it has.
 */
const MOST_LOOKS = 4;

/** What a mirror is made with. */
export interface MirrorParts {
  readonly memory: AddressSpace;
  readonly words: WordMemory;
  readonly graveyard: Graveyard;
  readonly log: Log;
}

export class Mirror {
  /**
   * A part of a mapping has to go, which the host does not do without a gap for the rest: a new mirror is wanted in the
   * place of this one, which goes on with nothing until `invalidateAll`.
   */
  torn = false;
  private readonly areas: MirrorAreas;
  /** Of the device, which may be closed before the last object is freed. */
  private readonly iommufd: Iommufd;
  private readonly name: string;
  private readonly listener: MemoryListener;
  private listening = false;

  /** What is still to be synchronized. */
  private readonly ranges = new MirrorRanges();
  /** Before anything is mapped the tables are counted: those that lead in circles cost no host calls. */
  private counting: MirrorWalk | null;
  private counted = 0;
  /** One walk is used for all. */
  private readonly walker: MirrorWalk;
  /** The range at hand: its walk; a part that was found, done up to `at`. */
  private walk: MirrorWalk | null = null;
  private found = false;
  private at = 0;
  /** Then what is mapped in the place of other mappings, then the mappings that the walk did not find. */
  private late: Mapping[] = [];
  private lateAt = 0;
  private sweep: Generator<Mapping, void> | null = null;
  private stamp = 0;
  /** Mappings that the walk has found, or made. */
  private kept = 0;
  /** The mapping that the walk is in, and one that it found a part of alone. */
  private current: Mapping | null = null;
  private partial: Mapping | null = null;
  private looks = 0;
  /** The next look is when others have had their turn. */
  private resting = false;

  private constructor(
    device: IommufdDevice,
    readonly ioasId: number,
    readonly hwptId: number,
    readonly tables: X86Tables,
    /** The domain ids that it is invalidated by. */
    readonly domains: GuestDomains,
    readonly runs: MirrorRuns,
    private readonly parts: MirrorParts,
    /** Bits of the IOVAs that its table takes. */
    readonly addressBits: number,
  ) {
    this.iommufd = device.iommufd;
    this.name = device.name;
    this.areas = new MirrorAreas(device, ioasId, hwptId, parts.memory, parts.log);
    this.counting = this.walker = new MirrorWalk(tables, parts.memory, parts.words, runs);
    this.listener = {
      // RAM that is unplugged or discarded leaves, and comes back when it is there again.
      add: (section, required) => {
        this.restart();
        if (this.listening && hasTarget(section)) {
          this.areas.addTargets(section, required);
        }
      },
      remove: (section) => {
        this.restart();
        if (this.listening && hasTarget(section)) {
          this.areas.removeTargets(section.address, section.address + section.size);
        }
      },
    };
  }

  /**
   * An empty mirror of tables for a function, with everything to be synchronized. Throws HostError, leaving nothing
   * behind.
   *
   * @param flags HwptAllocFlags of its table
   */
  static make(device: IommufdDevice, flags: number, tables: X86Tables, domains: GuestDomains, runs: MirrorRuns, parts: MirrorParts): Mirror {
    const { iommufd, devId } = device;
    const ioasId = iommufd.ioasAlloc();
    try {
      const hwptId = iommufd.hwptAlloc({ flags: flags | (device.tracksDirty ? HwptAllocFlags.DIRTY_TRACKING : 0), devId, ptId: ioasId, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
      try {
        const mirror = new Mirror(device, ioasId, hwptId, { ...tables }, domains, runs, parts, usableAddressBits(iommufd, ioasId));
        parts.memory.addListener(mirror.listener);
        mirror.listening = true;
        mirror.invalidateAll();
        return mirror;
      } catch (error) {
        parts.graveyard.destroy(iommufd, hwptId, "shadow HWPT");
        throw error;
      }
    } catch (error) {
      parts.graveyard.destroy(iommufd, ioasId, "shadow IOAS");
      throw error;
    }
  }

  free(): void {
    const { memory, graveyard } = this.parts;
    this.listening = false;
    memory.removeListener(this.listener);
    this.forgetWork();
    this.areas.close();
    graveyard.destroy(this.iommufd, this.hwptId, "shadow HWPT");
    graveyard.destroy(this.iommufd, this.ioasId, "shadow IOAS");
  }

  /** Something is mapped at an IOVA (bytes). */
  has(iova: number): boolean {
    return this.areas.mapped.firstWithin(iova, iova) !== null;
  }

  get mappings(): number {
    return this.areas.mapped.size;
  }

  /** Whether it mirrors these tables, as they are now. */
  follows(tables: X86Tables): boolean {
    const own = this.tables;
    return (
      own.baseHigh === tables.baseHigh && own.baseLow === tables.baseLow && own.levels === tables.levels && own.inputBits === tables.inputBits
    );
  }

  // ---- what is to be done ----

  /** Mappings from `first` to `last` (bytes, inclusive) are to become those of the guest's tables. */
  invalidate(first: number, last: number): void {
    this.torn = false;
    this.ranges.add(first, last);
  }

  invalidateAll(): void {
    this.torn = false;
    this.ranges.addAll();
  }

  /** Some of it is not synchronized yet. */
  get working(): boolean {
    return this.counting !== null || this.walk !== null || this.ranges.waiting;
  }

  /** Others have had their turn: mappings of which a part has gone may be gone as a whole. */
  lookAgain(): void {
    this.resting = false;
  }

  /**
   * Goes on with it as far as the budget lasts. Throws HostError where the host refuses a mapping, and GuestLimit; then
   * the mirror is of no use until `invalidateAll`.
   */
  work(budget: Budget): void {
    try {
      while (this.working && !this.resting && !budget.spent) {
        this.workOn(budget);
      }
      if (!this.working) {
        this.looks = 0;
        if (this.mappings > MOST_MAPPINGS) {
          throw new GuestLimit(`the guest maps more than ${MOST_MAPPINGS} ranges`);
        }
      }
    } catch (error) {
      this.forgetWork();
      throw error;
    }
  }

  private forgetWork(): void {
    this.counting = null;
    this.ranges.giveUp();
    this.looks = 0;
    this.resting = false;
    this.forgetRange();
  }

  private forgetRange(): void {
    this.walk = null;
    this.sweep = null;
    this.found = false;
    this.late = [];
    this.lateAt = 0;
    this.current = null;
    this.partial = null;
  }

  /** Memory has changed under the range at hand, or it has to include a mapping that reaches beyond it. */
  private restart(included?: Mapping): void {
    const { walk } = this;
    if (walk !== null) {
      this.forgetRange();
      this.ranges.putBack(Math.min(walk.from, included?.iova ?? Infinity), Math.max(walk.to, included === undefined ? 0 : endOf(included) - 1));
    }
  }

  private workOn(budget: Budget): void {
    const { walk } = this;
    if (this.counting !== null) {
      this.count(this.counting.step(budget));
    } else if (walk === null) {
      const { first, last } = this.ranges.take();
      this.begin(first, last);
    } else if (this.found) {
      this.take(walk, budget);
    } else if (this.sweep !== null) {
      this.sweepOn(walk, this.sweep, budget);
    } else {
      const step = walk.step(budget);
      this.found = step === "found";
      this.at = walk.found.iova;
      if (step === "over") {
        this.enter(null);
        this.sweep = this.unfound(walk, this.kept === this.mappings && walk.from <= 0 && walk.to >= EVERYWHERE);
      }
    }
  }

  private count(step: WalkStep): void {
    if (step === "found" && ++this.counted > MOST_MAPPINGS) {
      throw new GuestLimit(`the guest maps more than ${MOST_MAPPINGS} ranges`);
    }
    if (step === "over") {
      this.counting = null;
    }
  }

  // ---- one range ----

  /** What the range cuts through is synchronized as a whole: hardware walks anew what a part of was invalidated. */
  private begin(first: number, last: number): void {
    let from = first;
    let to = last;
    for (const index of [this.areas.mapped, this.areas.waiting]) {
      for (const edge of [first, last]) {
        const one = index.firstWithin(edge, edge);
        if (one !== null) {
          from = Math.min(from, one.iova);
          to = Math.max(to, endOf(one) - 1);
        }
      }
    }
    this.stamp++;
    this.kept = 0;
    this.walk = this.walker;
    this.walk.begin(from, to);
  }

  /** A part that the walk has found: what of it is mapped as it is stays so; the rest is mapped now, or late where something is in the way. */
  private take(walk: MirrorWalk, budget: Budget): void {
    const { found } = walk;
    const end = found.iova + found.bytes;
    const { mapped } = this.areas;
    if (!found.populated) {
      this.areas.wait(this.mappingOf(found, found.iova, end));
      this.at = end;
    }
    while (this.at < end && !budget.spent) {
      const { at } = this;
      const there = mapped.firstWithin(at, end - 1);
      budget.left--;
      if (there !== null && reachesBeyond(walk, there)) {
        this.restart(there);
        return;
      }
      if (there === null || there.iova > at) {
        this.at = there?.iova ?? end;
        this.place(this.mappingOf(found, at, this.at), budget);
      } else {
        this.at = Math.min(end, endOf(there));
        if (there.access === found.access && there.gpa - there.iova === found.gpa - found.iova) {
          this.enter(there);
          there.seen += this.at - at;
          if (trace.tracePageWalkOneSkipMap.on) {
            trace.tracePageWalkOneSkipMap.emit(at, this.at - at - 1, found.gpa + (at - found.iova));
          }
        } else {
          this.postpone(this.mappingOf(found, at, this.at), found.iova);
        }
      }
    }
    this.found = this.at < end;
  }

  /** The walk is in a mapping, and has left the one before. */
  private enter(one: Mapping | null): void {
    const { current } = this;
    if (current !== one && current !== null && current.seen < current.bytes) {
      this.partial = current;
      this.invalidate(current.iova, endOf(current) - 1);
    }
    this.current = one;
    if (one !== null && one.stamp !== this.stamp) {
      one.stamp = this.stamp;
      one.seen = 0;
      this.kept++;
    }
  }

  private mappingOf(found: MirrorWalk["found"], from: number, to: number): Mapping {
    return { iova: from, bytes: to - from, gpa: found.gpa + (from - found.iova), access: found.access, stamp: this.stamp, seen: to - from };
  }

  /** `from`: the part of the guest's tables that it is of begins there. */
  private postpone(one: Mapping, from: number): void {
    const before = this.late.at(-1);
    if (before !== undefined && before.iova >= from && endOf(before) === one.iova) {
      const bytes = before.bytes + one.bytes;
      this.late[this.late.length - 1] = { ...before, bytes, seen: bytes };
    } else {
      this.late.push(one);
    }
  }

  private place(one: Mapping, budget: Budget): void {
    if (endOf(one) > 2 ** this.addressBits) {
      this.parts.log.warnOnce(
        `${this.name}: the guest's second-stage tables map IOVAs beyond the ${this.addressBits} bits that the host's take, which DMA does not reach (aw-bits=39 would keep the guest below)`,
      );
      return;
    }
    budget.left -= HOST_CALL_STEPS;
    if (!this.areas.map(one)) {
      return;
    }
    this.kept++;
    if (trace.tracePageWalkOne.on) {
      trace.tracePageWalkOne.emit(this.domains.current, one.iova, one.gpa, one.bytes - 1, one.access);
    }
  }

  private *unfound(walk: MirrorWalk, allFound: boolean): Generator<Mapping, void> {
    if (!allFound) {
      yield* this.areas.mapped.within(walk.from, walk.to);
    }
    yield* this.areas.waiting.within(walk.from, walk.to);
  }

  /** What the walk has found a part of stays as it is, for another look. */
  private readonly goes = (one: Mapping): boolean => one.stamp !== this.stamp;

  /** Goes on behind the walk. */
  private sweepOn(walk: MirrorWalk, sweep: Generator<Mapping, void>, budget: Budget): void {
    if (this.lateAt < this.late.length) {
      this.mapLate(this.late[this.lateAt], budget);
      return;
    }
    const { value, done } = sweep.next();
    if (done === true) {
      this.end();
      return;
    }
    budget.left--;
    if (!this.goes(value)) {
      return;
    }
    if (reachesBeyond(walk, value)) {
      this.restart(value);
    } else if (this.areas.mapped.firstWithin(value.iova, value.iova) === value) {
      this.drop(value, walk.to, budget);
    } else {
      this.areas.waiting.delete(value);
    }
  }

  /** What is in the way goes right before, not more: DMA to the same page by other permissions fails no longer than it has to. */
  private mapLate(one: Mapping, budget: Budget): void {
    for (;;) {
      const there = this.areas.mapped.firstWithin(one.iova, endOf(one) - 1);
      if (there === null) {
        this.place(one, budget);
        break;
      }
      if (!this.goes(there)) {
        this.invalidate(one.iova, endOf(one) - 1);
        break;
      }
      this.drop(there, endOf(one) - 1, budget);
    }
    this.lateAt++;
  }

  /** With those behind it that go, as far as `last`. */
  private drop(one: Mapping, last: number, budget: Budget): void {
    budget.left -= HOST_CALL_STEPS + this.areas.unmap(one, last, this.goes);
  }

  /** The range is done, but for mappings of which a part has gone. */
  private end(): void {
    const { partial } = this;
    this.forgetRange();
    if (partial === null) {
      return;
    }
    if (++this.looks < MOST_LOOKS) {
      this.resting = true;
      return;
    }
    this.forgetWork();
    this.runs.torn(partial);
    this.torn = true;
  }
}

function endOf(one: Mapping): number {
  return one.iova + one.bytes;
}

function reachesBeyond(walk: MirrorWalk, one: Mapping): boolean {
  return one.iova < walk.from || endOf(one) - 1 > walk.to;
}

/** Devices may have a section: memory, or registers of a function that others reach. */
function hasTarget({ region }: MemorySection): boolean {
  return region.ram !== null || region.device !== null;
}
