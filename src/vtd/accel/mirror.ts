/**
 * A guest's second-stage tables for a passed-through function, mirrored into an IOAS of the host: each leaf is
 * a mapping there. What has changed comes with the guest's IOTLB invalidations, which with caching mode follow
 * every change (Intel VT-d 5.10, 6.1).
 */
import { HostError, HwptDataType, type Iommufd, type IommufdDevice } from "../../iommufd/index.js";
import { type AddressSpace, MEMORY_OK, type MemoryListener, type MemorySection, type WordMemory } from "../../memory/index.js";
import { hex, type Log } from "../../support/index.js";
import type { Graveyard } from "../../nesting/index.js";
import type { X86Tables } from "../../translation/index.js";
import { INTERRUPT_RANGE_FIRST, INTERRUPT_RANGE_LAST, SS_PS, SS_R, SS_W } from "../spec/index.js";

/** Mappings of one function, and entries that one synchronization reads, at the most: tables of a guest may lead in circles. */
const MOST_MAPPINGS = 1 << 20;
const MOST_READS = 1 << 22;

/** Leaves that wait for memory to come back, at the most: more are mapped at the guest's next invalidation of them. */
const MOST_WAITING = 1 << 16;

/** A mapping of the host. Addresses in bytes. */
interface Mapping {
  readonly iova: number;
  readonly bytes: number;
  readonly gpa: number;
  /** SS_R and SS_W. */
  readonly access: number;
}

/** The guest's tables are larger than what is mirrored. */
export class ShadowLimit extends Error {}

export class ShadowDomain {
  /** Mapped and unmapped so far, for the account. */
  maps = 0;
  unmaps = 0;
  private readonly mapped = new Map<number, Mapping>();
  /** Leaves of the guest, or parts of them, that no memory is behind now, by IOVA: mapped when there is. `access` is the leaf's. */
  private readonly waiting = new Map<number, Mapping>();
  /** Starts of the mappings in order; null: to be sorted again. */
  private order: number[] | null = [];
  private readonly listener: MemoryListener;
  private listening = false;
  private reads = 0;

  private constructor(
    private readonly iommufd: Iommufd,
    readonly ioasId: number,
    readonly hwptId: number,
    private readonly memory: AddressSpace,
    private readonly words: WordMemory,
    private readonly name: string,
    private readonly log: Log,
  ) {
    this.listener = {
      // RAM that is unplugged or discarded leaves, and comes back when it is there again.
      add: (section, required) => {
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
        if (this.listening && section.region.ram !== null) {
          this.removeTargets(section.address, section.address + section.size);
        }
      },
    };
  }

  /** An empty domain for a function, whose table is made with HwptAllocFlags. Throws HostError, leaving nothing behind. */
  static make(device: IommufdDevice, flags: number, memory: AddressSpace, words: WordMemory, graveyard: Graveyard, log: Log): ShadowDomain {
    const { iommufd, devId } = device;
    const ioasId = iommufd.ioasAlloc();
    try {
      const hwptId = iommufd.hwptAlloc({ flags, devId, ptId: ioasId, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
      const domain = new ShadowDomain(iommufd, ioasId, hwptId, memory, words, device.name, log);
      memory.addListener(domain.listener);
      domain.listening = true;
      return domain;
    } catch (error) {
      graveyard.destroy(iommufd, ioasId, "shadow IOAS");
      throw error;
    }
  }

  free(graveyard: Graveyard): void {
    this.listening = false;
    this.memory.removeListener(this.listener);
    graveyard.destroy(this.iommufd, this.hwptId, "shadow HWPT");
    graveyard.destroy(this.iommufd, this.ioasId, "shadow IOAS");
    this.mapped.clear();
    this.waiting.clear();
  }

  get mappings(): number {
    return this.mapped.size;
  }

  /**
   * Makes the mappings from `first` to `last` (bytes, inclusive) those of the guest's tables. Throws HostError
   * where the host refuses one, and ShadowLimit.
   */
  synchronize(tables: X86Tables, first: number, last: number): void {
    this.reads = 0;
    const found: Mapping[] = [];
    this.walk(tables, tables.baseHigh, tables.baseLow, tables.levels, 0, first, Math.min(last, 2 ** tables.inputBits - 1), SS_R | SS_W, found);
    const wanted = found.filter((one) => this.memory.findPopulated(one.gpa) !== null);
    const kept = new Set<number>();
    for (const one of wanted) {
      const there = this.mapped.get(one.iova);
      if (there !== undefined && there.bytes === one.bytes && there.gpa === one.gpa && there.access === one.access) {
        kept.add(one.iova);
      }
    }
    // A leaf may reach beyond the range: whatever is in its way goes, too.
    let from = first;
    let to = last;
    for (const one of found) {
      from = Math.min(from, one.iova);
      to = Math.max(to, one.iova + one.bytes - 1);
    }
    for (const old of [...this.waiting.values()]) {
      if (old.iova <= to && old.iova + old.bytes > from) {
        this.waiting.delete(old.iova);
      }
    }
    for (const one of found) {
      if (this.memory.findPopulated(one.gpa) === null) {
        this.wait(one);
      }
    }
    for (const old of this.overlapping(from, to)) {
      if (!kept.has(old.iova)) {
        this.unmap(old);
      }
    }
    for (const one of wanted) {
      if (!kept.has(one.iova)) {
        this.map(one);
      }
    }
  }

  private overlapping(first: number, last: number): Mapping[] {
    this.order ??= [...this.mapped.keys()].sort((a, b) => a - b);
    const { order } = this;
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const mapping = this.mapped.get(order[middle]);
      if (mapping !== undefined ? mapping.iova + mapping.bytes - 1 < first : order[middle] < first) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const out: Mapping[] = [];
    for (let at = low; at < order.length && order[at] <= last; at++) {
      const mapping = this.mapped.get(order[at]);
      if (mapping !== undefined) {
        out.push(mapping);
      }
    }
    return out;
  }

  /** Collects the leaves of one table (of `level`, at two words) that overlap the range. */
  private walk(tables: X86Tables, tableHigh: number, tableLow: number, level: number, base: number, first: number, last: number, access: number, out: Mapping[]): void {
    const span = 2 ** (3 + 9 * level);
    const start = Math.max(0, Math.floor((first - base) / span));
    const end = Math.min(511, Math.floor((last - base) / span));
    for (let index = start; index <= end; index++) {
      if (++this.reads > MOST_READS || out.length > MOST_MAPPINGS) {
        throw new ShadowLimit(`${this.name}: the guest's second-stage tables have more entries than are mirrored`);
      }
      if (this.words.load64(tableHigh, tableLow + 8 * index) !== MEMORY_OK) {
        continue;
      }
      const low = this.words.loadedLow;
      const high = this.words.loadedHigh;
      const allowed = access & low & (SS_R | SS_W);
      const address = (high & 0x000f_ffff) * 2 ** 32 + ((low & -4096) >>> 0);
      if (allowed === 0 || address >= 2 ** tables.outputBits) {
        // Not present, or with address bits that are reserved: a fault of whoever uses it.
        continue;
      }
      const iova = base + index * span;
      if (level === 1 || (low & SS_PS) !== 0) {
        if (level > 1 && !(level === 2 ? tables.pages2m : level === 3 && tables.pages1g)) {
          continue;
        }
        this.place(iova, span, address - (address % span), allowed, out);
      } else {
        this.walk(tables, high & 0x000f_ffff, low & -4096, level - 1, iova, first, last, allowed, out);
      }
    }
  }

  /** A leaf as mappings: of the parts of it that RAM or ROM is behind, without the interrupt range. */
  private place(iova: number, bytes: number, gpa: number, access: number, out: Mapping[]): void {
    let done = 0;
    while (done < bytes) {
      const section = this.memory.findPopulated(gpa + done);
      let step = section === null ? Math.max(4096, Math.min(bytes - done, this.nextSection(gpa + done) - (gpa + done))) : Math.min(bytes - done, section.address + section.size - (gpa + done));
      const at = iova + done;
      if (at >= INTERRUPT_RANGE_FIRST && at <= INTERRUPT_RANGE_LAST) {
        done += Math.min(step, INTERRUPT_RANGE_LAST + 1 - at);
        continue;
      }
      if (at < INTERRUPT_RANGE_FIRST) {
        step = Math.min(step, INTERRUPT_RANGE_FIRST - at);
      }
      const mayWrite = section === null || section.region.kind === "ram" ? access : access & ~SS_W;
      if ((section === null || section.region.ram !== null) && mayWrite !== 0) {
        out.push({ iova: at, bytes: step, gpa: gpa + done, access: mayWrite });
      }
      done += step;
    }
  }

  private nextSection(address: number): number {
    for (const section of this.memory.populatedSections()) {
      if (section.address > address) {
        return section.address;
      }
    }
    return Infinity;
  }

  private map(one: Mapping): void {
    const section = this.memory.findPopulated(one.gpa);
    if (section === null || section.region.ram === null) {
      return;
    }
    if (this.mapped.size >= MOST_MAPPINGS) {
      throw new ShadowLimit(`${this.name}: the guest maps more than ${MOST_MAPPINGS} ranges`);
    }
    this.iommufd.ioasMap({
      ioasId: this.ioasId,
      userAddress: section.region.ram.hostAddress + section.region.ramOffset + section.offset + (one.gpa - section.address),
      length: BigInt(one.bytes),
      iova: BigInt(one.iova),
      readable: (one.access & SS_R) !== 0,
      writable: (one.access & SS_W) !== 0,
    });
    this.maps++;
    this.mapped.set(one.iova, one);
    this.order = null;
  }

  private unmap(old: Mapping): void {
    this.iommufd.ioasUnmap(this.ioasId, BigInt(old.iova), BigInt(old.bytes));
    this.unmaps++;
    this.mapped.delete(old.iova);
    this.order = null;
  }

  private wait(leaf: Mapping): void {
    if (this.waiting.size < MOST_WAITING) {
      this.waiting.set(leaf.iova, leaf);
    }
  }

  private removeTargets(first: number, end: number): void {
    for (const mapping of [...this.mapped.values()]) {
      if (mapping.gpa < end && mapping.gpa + mapping.bytes > first) {
        try {
          this.unmap(mapping);
          this.wait(mapping);
        } catch (error) {
          if (!(error instanceof HostError)) {
            throw error;
          }
          this.log.warn(`${this.name}: ${error.message}: IOVA ${hex(mapping.iova)} stays mapped to RAM that is gone`);
        }
      }
    }
  }

  /** Maps what waits for memory that is there now. */
  private addTargets(section: MemorySection, required: boolean): void {
    const end = section.address + section.size;
    for (const leaf of [...this.waiting.values()]) {
      const from = Math.max(leaf.gpa, section.address);
      const to = Math.min(leaf.gpa + leaf.bytes, end);
      const access = section.region.kind === "ram" ? leaf.access : leaf.access & ~SS_W;
      if (from >= to || access === 0) {
        continue;
      }
      const part = (start: number, stop: number, allowed: number): Mapping => ({ iova: leaf.iova + (start - leaf.gpa), bytes: stop - start, gpa: start, access: allowed });
      try {
        this.map(part(from, to, access));
      } catch (error) {
        // A limit is the guest's doing: it is no reason against memory that comes.
        if (!(error instanceof ShadowLimit) && (required || !(error instanceof HostError))) {
          throw error;
        }
        this.log.warn(`${this.name}: ${error.message}: IOVA ${hex(part(from, to, access).iova)} stays unmapped until the guest invalidates it`);
        continue;
      }
      this.waiting.delete(leaf.iova);
      for (const [start, stop] of [[leaf.gpa, from], [to, leaf.gpa + leaf.bytes]]) {
        if (start < stop) {
          this.wait(part(start, stop, leaf.access));
        }
      }
    }
  }
}
