/**
 * A guest's second-stage tables for a passed-through function, mirrored into an IOAS of the host: each leaf is
 * a mapping there. What has changed comes with the guest's IOTLB invalidations, which with caching mode follow
 * every change (Intel VT-d 5.10, 6.1). The work is done in steps, since tables may be large, or lead in circles.
 */
import { HostError, HwptAllocFlags, HwptDataType, type Iommufd, type IommufdDevice, refusalOf } from "../../iommufd/index.js";
import type { AddressSpace, MemoryListener, MemorySection, WordMemory } from "../../memory/index.js";
import { type Budget, type Graveyard, GuestLimit, HOST_CALL_STEPS } from "../../nesting/index.js";
import { hex, type Log } from "../../support/index.js";
import type { X86Tables } from "../../translation/index.js";
import * as trace from "./trace.js";
import { SS_R, SS_W } from "../spec/index.js";
import { usableAddressBits } from "./compatibility.js";
import type { GuestDomains } from "./domains.js";
import { type Mapping, MappingIndex } from "./mappings.js";
import { MirrorDirty } from "./mirror-dirty.js";
import { MirrorWalk, type WalkStep } from "./mirror-walk.js";

/** Mappings of one function, at the most. */
const MOST_MAPPINGS = 1 << 20;

/** Leaves that wait for memory to come back, at the most: more are mapped at the guest's next invalidation of them. */
const MOST_WAITING = 1 << 16;

/** Ranges that wait to be synchronized, at the most: beyond that everything is. */
const MOST_RANGES = 16;

interface Range {
  /** IOVAs in bytes, inclusive. */
  readonly first: number;
  readonly last: number;
}

const EVERYTHING: Range = { first: 0, last: 2 ** 57 };

/** What a mirror is made with. */
export interface MirrorParts {
  readonly memory: AddressSpace;
  readonly words: WordMemory;
  readonly graveyard: Graveyard;
  readonly log: Log;
}

export class Mirror {
  /** Mapped and unmapped so far, for the account. */
  maps = 0;
  unmaps = 0;
  private readonly mapped = new MappingIndex();
  /** Leaves of the guest, or parts of them, that no memory is behind now: mapped when there is. `access` is the leaf's. */
  private readonly waiting = new MappingIndex();
  /** Of the device, which may be closed before the last object is freed. */
  private readonly iommufd: Iommufd;
  private readonly name: string;
  private readonly dirty: MirrorDirty;
  private readonly listener: MemoryListener;
  private listening = false;

  /** What is still to be synchronized; the range at hand: its walk, a part that was found, then what the walk did not find. */
  private ranges: Range[] = [];
  /** Before anything is mapped the tables are counted: those that lead in circles cost no host calls. */
  private counting: MirrorWalk | null;
  private counted = 0;
  private walk: MirrorWalk | null = null;
  private found = false;
  private sweep: Generator<Mapping, void> | null = null;
  private stamp = 0;

  private constructor(
    device: IommufdDevice,
    readonly ioasId: number,
    readonly hwptId: number,
    private readonly tables: X86Tables,
    /** The domain ids that it is invalidated by. */
    readonly domains: GuestDomains,
    private readonly parts: MirrorParts,
    /** Bits of the IOVAs that its table takes. */
    readonly addressBits: number,
  ) {
    this.iommufd = device.iommufd;
    this.name = device.name;
    this.dirty = new MirrorDirty(device, hwptId, this.mapped);
    this.counting = new MirrorWalk(tables, EVERYTHING.first, EVERYTHING.last, parts.memory, parts.words);
    this.listener = {
      // RAM that is unplugged or discarded leaves, and comes back when it is there again.
      add: (section, required) => {
        this.restart();
        if (this.listening && section.region.ram !== null && this.waiting.size > 0) {
          try {
            this.addTargets(section, required);
          } catch (error) {
            this.removeTargets(section.address, section.address + section.size);
            throw error;
          }
        }
      },
      remove: (section) => {
        this.restart();
        if (this.listening && section.region.ram !== null) {
          this.removeTargets(section.address, section.address + section.size);
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
  static make(device: IommufdDevice, flags: number, tables: X86Tables, domains: GuestDomains, parts: MirrorParts): Mirror {
    const { iommufd, devId } = device;
    const ioasId = iommufd.ioasAlloc();
    try {
      const hwptId = iommufd.hwptAlloc({ flags: flags | (device.tracksDirty ? HwptAllocFlags.DIRTY_TRACKING : 0), devId, ptId: ioasId, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
      try {
        const mirror = new Mirror(device, ioasId, hwptId, { ...tables }, domains, parts, usableAddressBits(iommufd, ioasId));
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
    this.dirty.close();
    graveyard.destroy(this.iommufd, this.hwptId, "shadow HWPT");
    graveyard.destroy(this.iommufd, this.ioasId, "shadow IOAS");
    this.mapped.clear();
    this.waiting.clear();
  }

  /** Something is mapped at an IOVA (bytes). */
  has(iova: number): boolean {
    return this.mapped.within(iova, iova).next().done !== true;
  }

  get mappings(): number {
    return this.mapped.size;
  }

  /** Whether it mirrors these tables, as they are now. */
  follows(tables: X86Tables): boolean {
    const own = this.tables;
    return (
      own.baseHigh === tables.baseHigh && own.baseLow === tables.baseLow && own.levels === tables.levels && own.inputBits === tables.inputBits
    );
  }

  // ---- synchronization ----

  /** Mappings from `first` to `last` (bytes, inclusive) are to become those of the guest's tables. */
  invalidate(first: number, last: number): void {
    if (this.ranges.some((range) => range.first <= first && range.last >= last)) {
      return;
    }
    this.ranges.push({ first, last });
    if (this.ranges.length > MOST_RANGES) {
      this.invalidateAll();
    }
  }

  invalidateAll(): void {
    this.ranges = [EVERYTHING];
  }

  /** Some of it is not synchronized yet. */
  get working(): boolean {
    return this.counting !== null || this.walk !== null || this.ranges.length > 0;
  }

  /**
   * Goes on with it as far as the budget lasts. Throws HostError where the host refuses a mapping, and GuestLimit; then
   * the mirror is of no use until `invalidateAll`.
   */
  work(budget: Budget): void {
    try {
      while (this.working && !budget.spent) {
        this.workOn(budget);
      }
      if (!this.working && this.mapped.size > MOST_MAPPINGS) {
        throw new GuestLimit(`the guest maps more than ${MOST_MAPPINGS} ranges`);
      }
    } catch (error) {
      this.forgetWork();
      throw error;
    }
  }

  private forgetWork(): void {
    this.counting = null;
    this.ranges = [];
    this.walk = null;
    this.sweep = null;
    this.found = false;
  }

  /** Memory has changed under the range at hand. */
  private restart(): void {
    const { walk } = this;
    if (walk !== null) {
      this.walk = null;
      this.sweep = null;
      this.found = false;
      this.ranges.unshift({ first: walk.from, last: walk.to });
    }
  }

  private workOn(budget: Budget): void {
    if (this.counting !== null) {
      this.count(this.counting.step(budget));
    } else if (this.found) {
      this.take(this.walk!.found, budget);
    } else if (this.sweep !== null) {
      this.sweepOne(this.sweep, budget);
    } else if (this.walk === null) {
      this.begin(this.ranges.shift()!);
    } else {
      const step = this.walk.step(budget);
      this.found = step === "found";
      this.sweep = step === "over" ? this.unfound(this.walk) : null;
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

  /** What the range cuts through is synchronized as a whole: hardware walks anew what a part of was invalidated. */
  private begin({ first, last }: Range): void {
    const { memory, words } = this.parts;
    let from = first;
    let to = last;
    for (const index of [this.mapped, this.waiting]) {
      for (const edge of [first, last]) {
        for (const one of index.within(edge, edge)) {
          from = Math.min(from, one.iova);
          to = Math.max(to, one.iova + one.bytes - 1);
        }
      }
    }
    this.stamp++;
    this.walk = new MirrorWalk(this.tables, from, to, memory, words);
  }

  private *unfound(walk: MirrorWalk): Generator<Mapping, void> {
    yield* this.mapped.within(walk.from, walk.to);
    yield* this.waiting.within(walk.from, walk.to);
  }

  private sweepOne(sweep: Generator<Mapping, void>, budget: Budget): void {
    const { value, done } = sweep.next();
    if (done === true) {
      this.sweep = null;
      this.walk = null;
      return;
    }
    budget.left--;
    if (value.stamp !== this.stamp) {
      this.drop(value, budget);
    }
  }

  private drop(one: Mapping, budget: Budget): void {
    if (this.mapped.get(one.iova) === one) {
      budget.left -= HOST_CALL_STEPS;
      this.unmap(one);
    } else {
      this.waiting.delete(one);
    }
  }

  /** A part of a leaf is as it was, or what is in its way goes, in steps, before it is mapped. */
  private take(part: MirrorWalk["found"], budget: Budget): void {
    const { iova, bytes, gpa, access, populated } = part;
    const there = (populated ? this.mapped : this.waiting).get(iova);
    if (there !== undefined && there.bytes === bytes && there.gpa === gpa && there.access === access) {
      there.stamp = this.stamp;
      this.found = false;
      if (trace.tracePageWalkOneSkipMap.on) {
        trace.tracePageWalkOneSkipMap.emit(iova, bytes - 1, gpa);
      }
      return;
    }
    for (const index of [this.mapped, this.waiting]) {
      for (const one of index.within(iova, iova + bytes - 1)) {
        if (budget.spent) {
          return;
        }
        budget.left--;
        this.drop(one, budget);
      }
    }
    this.found = false;
    if (iova + bytes > 2 ** this.addressBits) {
      this.parts.log.warnOnce(
        `${this.name}: the guest's second-stage tables map IOVAs beyond the ${this.addressBits} bits that the host's take, which DMA does not reach (aw-bits=39 would keep the guest below)`,
      );
      return;
    }
    const one: Mapping = { iova, bytes, gpa, access, stamp: this.stamp };
    if (populated) {
      budget.left -= HOST_CALL_STEPS;
      this.map(one);
    } else {
      this.wait(one);
    }
  }

  // ---- mappings ----

  private map(one: Mapping): void {
    const section = this.parts.memory.findPopulated(one.gpa);
    if (section === null || section.region.ram === null) {
      return;
    }
    if (this.mapped.size >= 2 * MOST_MAPPINGS) {
      // Twice as many, as those that go are swept last.
      throw new GuestLimit(`the guest maps more than ${MOST_MAPPINGS} ranges`);
    }
    this.iommufd.ioasMap({
      ioasId: this.ioasId,
      source: { address: section.region.ram.hostAddress + section.region.ramOffset + section.offset + (one.gpa - section.address) },
      length: BigInt(one.bytes),
      iova: BigInt(one.iova),
      readable: (one.access & SS_R) !== 0,
      writable: (one.access & SS_W) !== 0,
    });
    this.maps++;
    this.mapped.add(one);
    if (trace.tracePageWalkOne.on) {
      trace.tracePageWalkOne.emit(this.domains.current, one.iova, one.gpa, one.bytes - 1, one.access);
    }
  }

  private unmap(old: Mapping): void {
    this.iommufd.ioasUnmap(this.ioasId, BigInt(old.iova), BigInt(old.bytes));
    this.unmaps++;
    this.mapped.delete(old);
    this.dirty.unmapped(old);
  }

  private wait(leaf: Mapping): void {
    if (this.waiting.size < MOST_WAITING) {
      this.waiting.add(leaf);
    }
  }

  private removeTargets(first: number, end: number): void {
    for (const mapping of this.mapped.all()) {
      if (mapping.gpa < end && mapping.gpa + mapping.bytes > first) {
        const refusal = refusalOf(() => this.unmap(mapping));
        if (refusal === null) {
          this.wait(mapping);
        } else {
          this.parts.log.warn(`${this.name}: ${refusal.message}: IOVA ${hex(mapping.iova)} stays mapped to RAM that is gone`);
        }
      }
    }
  }

  /** Maps what waits for memory that is there now. */
  private addTargets(section: MemorySection, required: boolean): void {
    const end = section.address + section.size;
    for (const leaf of [...this.waiting.all()]) {
      const from = Math.max(leaf.gpa, section.address);
      const to = Math.min(leaf.gpa + leaf.bytes, end);
      const access = section.region.kind === "ram" ? leaf.access : leaf.access & ~SS_W;
      if (from >= to || access === 0) {
        continue;
      }
      const part = (start: number, stop: number, allowed: number): Mapping => ({
        iova: leaf.iova + (start - leaf.gpa),
        bytes: stop - start,
        gpa: start,
        access: allowed,
        stamp: leaf.stamp,
      });
      try {
        this.map(part(from, to, access));
      } catch (error) {
        // A limit is the guest's doing: it is no reason against memory that comes.
        if (!(error instanceof GuestLimit) && (required || !(error instanceof HostError))) {
          throw error;
        }
        this.parts.log.warn(`${this.name}: ${error.message}: IOVA ${hex(part(from, to, access).iova)} stays unmapped until the guest invalidates it`);
        continue;
      }
      this.waiting.delete(leaf);
      for (const [start, stop] of [[leaf.gpa, from], [to, leaf.gpa + leaf.bytes]]) {
        if (start < stop) {
          this.wait(part(start, stop, leaf.access));
        }
      }
    }
  }
}
