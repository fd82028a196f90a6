/** The mappings of a mirror's IOAS, and what of the guest's tables waits for memory to be behind it. */
import { HostError, type Iommufd, type IommufdDevice, mapSourceOf, refusalOf } from "../../iommufd/index.js";
import type { AddressSpace, MemorySection } from "../../memory/index.js";
import { GuestLimit } from "../../nesting/index.js";
import { hex, type Log } from "../../support/index.js";
import { SS_R, SS_W } from "../spec/index.js";
import { type Mapping, MappingIndex } from "./mappings.js";
import { MirrorDirty } from "./mirror-dirty.js";

/** Mappings of one function, at the most. */
export const MOST_MAPPINGS = 1 << 20;

/** Ranges that wait for memory to come back, at the most: more are mapped at the guest's next invalidation of them. */
const MOST_WAITING = 1 << 16;

/** Mappings that one host call unmaps, at the most. */
const MOST_AT_ONCE = 512;

export class MirrorAreas {
  readonly mapped = new MappingIndex();
  /** Ranges of the guest's tables that no memory is behind now: mapped when there is. `access` is the guest's. */
  readonly waiting = new MappingIndex();
  /** Of the device, which may be closed before the last object is freed. */
  private readonly iommufd: Iommufd;
  private readonly name: string;
  private readonly dirty: MirrorDirty;

  constructor(
    device: IommufdDevice,
    private readonly ioasId: number,
    hwptId: number,
    private readonly memory: AddressSpace,
    private readonly log: Log,
  ) {
    this.iommufd = device.iommufd;
    this.name = device.name;
    this.dirty = new MirrorDirty(device, hwptId, this.mapped);
  }

  /** The IOAS goes, with all that is mapped. */
  close(): void {
    this.dirty.close();
    this.mapped.clear();
    this.waiting.clear();
  }

  /** False where no memory is behind it. Throws HostError, and GuestLimit. */
  map(one: Mapping): boolean {
    const section = this.memory.findPopulated(one.gpa);
    const source = section === null ? null : mapSourceOf(section, one.gpa - section.address);
    if (source === null) {
      return false;
    }
    if (this.mapped.size >= 2 * MOST_MAPPINGS) {
      // Twice as many, as those that go are swept last.
      throw new GuestLimit(`the guest maps more than ${MOST_MAPPINGS} ranges`);
    }
    this.iommufd.ioasMap({
      ioasId: this.ioasId,
      source,
      length: BigInt(one.bytes),
      iova: BigInt(one.iova),
      readable: (one.access & SS_R) !== 0,
      writable: (one.access & SS_W) !== 0,
    });
    this.mapped.add(one);
    return true;
  }

  /**
   * Unmaps a mapping, and with it those right behind, up to `last`, that are to go too (`goes`), by one call. Returns how
   * many. Throws HostError.
   */
  unmap(first: Mapping, last: number, goes: (one: Mapping) => boolean): number {
    const run = [first];
    let end = first.iova + first.bytes;
    while (run.length < MOST_AT_ONCE && end <= last) {
      const next = this.mapped.firstWithin(end, end);
      if (next === null || !goes(next)) {
        break;
      }
      run.push(next);
      end = next.iova + next.bytes;
    }
    this.iommufd.ioasUnmap(this.ioasId, BigInt(first.iova), BigInt(end - first.iova));
    for (const one of run) {
      this.mapped.delete(one);
      this.dirty.unmapped(one);
    }
    return run.length;
  }

  /** What waited there by an earlier synchronization does so no more. */
  wait(range: Mapping): void {
    const last = range.iova + range.bytes - 1;
    for (let old = this.waiting.firstWithin(range.iova, last); old !== null; old = this.waiting.firstWithin(range.iova, last)) {
      this.waiting.delete(old);
    }
    if (this.waiting.size < MOST_WAITING) {
      this.waiting.add(range);
    }
  }

  /** Memory goes. A mapping is within one section. */
  removeTargets(first: number, end: number): void {
    for (const mapping of this.mapped.all()) {
      if (mapping.gpa < end && mapping.gpa + mapping.bytes > first) {
        const refusal = refusalOf(() => void this.unmap(mapping, 0, () => false));
        if (refusal === null) {
          this.wait(mapping);
        } else {
          this.log.warn(`${this.name}: ${refusal.message}: IOVA ${hex(mapping.iova)} stays mapped to RAM that is gone`);
        }
      }
    }
  }

  /** Maps what waits for memory that is there now. */
  addTargets(section: MemorySection, required: boolean): void {
    if (this.waiting.size === 0) {
      return;
    }
    try {
      this.mapWaiting(section, required);
    } catch (error) {
      this.removeTargets(section.address, section.address + section.size);
      throw error;
    }
  }

  private mapWaiting(section: MemorySection, required: boolean): void {
    const end = section.address + section.size;
    for (const range of [...this.waiting.all()]) {
      const from = Math.max(range.gpa, section.address);
      const to = Math.min(range.gpa + range.bytes, end);
      const access = section.region.takesDma ? range.access : range.access & ~SS_W;
      if (from >= to || access === 0) {
        continue;
      }
      const part = (start: number, stop: number, allowed: number): Mapping => ({
        iova: range.iova + (start - range.gpa),
        bytes: stop - start,
        gpa: start,
        access: allowed,
        stamp: range.stamp,
        seen: 0,
      });
      try {
        this.map(part(from, to, access));
      } catch (error) {
        // A limit is the guest's doing: it is no reason against memory that comes.
        if (!(error instanceof GuestLimit) && (required || !(error instanceof HostError))) {
          throw error;
        }
        this.log.warn(`${this.name}: ${error.message}: IOVA ${hex(part(from, to, access).iova)} stays unmapped until the guest invalidates it`);
        continue;
      }
      this.waiting.delete(range);
      for (const [start, stop] of [[range.gpa, from], [to, range.gpa + range.bytes]]) {
        if (start < stop) {
          this.wait(part(start, stop, range.access));
        }
      }
    }
  }
}
