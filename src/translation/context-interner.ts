/**
 * Gives short numbers to (VMID, ASID) or (domain id, PASID) pairs, so that a TLB's tag holds one in 14 bits. Open
 * addressing in an Int32Array: no allocation after construction.
 *
 * A number means its pair until the pair is retired; a retired number is never given again before
 * `reset`, so entries tagged with it can no longer be hit. When the numbers or the places run out,
 * `intern` answers 0 and the owner has to flush its entries and call `reset`.
 */
export class ContextInterner {
  /** Numbers are 1 to 16,383. */
  static readonly lastContext = 0x3fff;

  /** Per place: VMID, ASID, context (0 is an empty place). */
  private readonly places: Int32Array;
  private readonly placeMask: number;
  /** Places in use, in the order of their use. */
  private readonly used: Int32Array;
  private usedCount = 0;
  private next = 1;

  /** @param capacity pairs at the same time, a power of two */
  constructor(readonly capacity: number) {
    if (!Number.isInteger(Math.log2(capacity)) || capacity < 2 || capacity > 8192) {
      throw new RangeError(`contexts of a TLB: ${capacity} is not a power of two from 2 to 8192`);
    }
    this.places = new Int32Array(capacity * 2 * 3);
    this.placeMask = capacity * 2 - 1;
    this.used = new Int32Array(capacity);
  }

  /** The number of a pair, a new one if need be; 0 when there is none left. */
  intern(vmid: number, asid: number): number {
    const place = this.find(vmid, asid);
    const known = this.places[place + 2];
    if (known !== 0) {
      return known;
    }
    if (this.usedCount === this.capacity || this.next > ContextInterner.lastContext) {
      return 0;
    }
    this.used[this.usedCount++] = place;
    this.places[place] = vmid;
    this.places[place + 1] = asid;
    this.places[place + 2] = this.next;
    return this.next++;
  }

  /** The number of a pair if it has one, else 0. */
  known(vmid: number, asid: number): number {
    return this.places[this.find(vmid, asid) + 2];
  }

  /** Pairs that have numbers; `vmidAt`, `asidAt` and `contextAt` take indices below it. */
  get count(): number {
    return this.usedCount;
  }

  vmidAt(index: number): number {
    return this.places[this.used[index]];
  }

  asidAt(index: number): number {
    return this.places[this.used[index] + 1];
  }

  contextAt(index: number): number {
    return this.places[this.used[index] + 2];
  }

  /** Gives the pair at `index` a fresh number. Returns false when there is none left. */
  retireAt(index: number): boolean {
    if (this.next > ContextInterner.lastContext) {
      return false;
    }
    this.places[this.used[index] + 2] = this.next++;
    return true;
  }

  /** Retires one pair, if it has a number. Returns false when there is no fresh one left. */
  retire(vmid: number, asid: number): boolean {
    const place = this.find(vmid, asid);
    if (this.places[place + 2] === 0) {
      return true;
    }
    if (this.next > ContextInterner.lastContext) {
      return false;
    }
    this.places[place + 2] = this.next++;
    return true;
  }

  /** Forgets all pairs and starts over: no entry may be tagged with a number any more. */
  reset(): void {
    this.places.fill(0);
    this.usedCount = 0;
    this.next = 1;
  }

  /** The pair's place, or the empty one where it would go. */
  private find(vmid: number, asid: number): number {
    const places = this.places;
    let slot = (Math.imul(vmid, 0x9e3779b1) ^ Math.imul(asid, 0x85ebca6b)) >>> 8;
    for (;;) {
      const place = (slot & this.placeMask) * 3;
      if (places[place + 2] === 0 || (places[place] === vmid && places[place + 1] === asid)) {
        return place;
      }
      slot++;
    }
  }
}
