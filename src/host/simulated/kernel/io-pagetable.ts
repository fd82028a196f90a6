import type { RamBlock } from "../../../memory/index.js";
import { HostError, type IovaRange } from "../../../iommufd/index.js";
import type { DmaBuf, DmaBufUser } from "./dma-buf.js";
import type { PagingDomain } from "./iommu-driver.js";
import type { Refuse } from "./objects.js";
import type { ProcessMemory } from "./process-memory.js";

export const PAGE_SIZE = 4096n;
const U64_MAX = (1n << 64n) - 1n;

/** A run of IOVAs mapped by one call. */
export interface Area {
  readonly start: bigint;
  readonly last: bigint;
  /** The process's address of the first byte. */
  readonly userAddress: number;
  /** The dma-buf that it is of, whose pages are the device's; null: the process's memory. */
  readonly file: DmaBuf | null;
  /** The device has taken it back: no table has it any more. */
  revoked: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Domains that map it; with the first one its pages are pinned. */
  domains: number;
  pinned: readonly RamBlock[];
}

interface Reserved extends IovaRange {
  readonly owner: object;
}

/** What `copy` takes from another IOAS: consecutive parts. */
export interface AreaPart {
  readonly userAddress: number;
  readonly length: bigint;
  readonly writable: boolean;
  /** Then `userAddress` is the device's host-physical address. */
  readonly file?: DmaBuf | null;
}

/**
 * The mappings of an IOAS and the tables that are kept in step with them (Linux iommufd io_pagetable.c).
 * IOVAs are any 64-bit values until a table narrows them to what its hardware translates.
 */
export class IoPagetable implements DmaBufUser {
  /** In address order; disjoint. */
  private readonly areas: Area[] = [];
  private readonly reserved: Reserved[] = [];
  private allowed: IovaRange[] = [];
  private readonly domains = new Set<PagingDomain>();
  /** IOMMU_OPTION_HUGE_PAGES. */
  private hugePages = true;

  constructor(private readonly memory: ProcessMemory) {}

  /** Bytes mapped. */
  get mappedBytes(): bigint {
    return this.areas.reduce((sum, area) => sum + (area.last - area.start + 1n), 0n);
  }

  /** Something mapped is the process's own memory, and of no file. */
  get mapsMemory(): boolean {
    return this.areas.some((area) => area.file === null);
  }

  get alignment(): bigint {
    return this.domains.size > 0 || !this.hugePages ? PAGE_SIZE : 1n;
  }

  get largePages(): boolean {
    return this.hugePages;
  }

  setLargePages(on: boolean, refuse: Refuse): void {
    if (on === this.hugePages) {
      return;
    }
    if (!on) {
      if (this.domains.size > 0 && this.areas.length > 0) {
        throw refuse("EINVAL", "tables map pages already");
      }
      this.requireAlignment(PAGE_SIZE, refuse);
    }
    this.hugePages = on;
  }

  /** The IOVAs outside every reserved range. */
  ranges(): IovaRange[] {
    const result: IovaRange[] = [];
    let next = 0n;
    for (const range of [...this.reserved].sort(byStart)) {
      if (range.start > next) {
        result.push({ start: next, last: range.start - 1n });
      }
      if (range.last + 1n > next) {
        next = range.last + 1n;
      }
    }
    if (next <= U64_MAX) {
      result.push({ start: next, last: U64_MAX });
    }
    return result;
  }

  /** Replaces the ranges that shall stay free of reservations. */
  allow(ranges: readonly IovaRange[], refuse: Refuse): void {
    const sorted = [...ranges].sort(byStart);
    for (const [index, range] of sorted.entries()) {
      if (range.start >= range.last) {
        throw refuse("EINVAL", "a range ends before it begins");
      }
      if (index > 0 && range.start <= sorted[index - 1].last) {
        throw refuse("EINVAL", "ranges overlap");
      }
      if (this.reserved.some((r) => overlap(r, range))) {
        throw refuse("EADDRINUSE", "a range is reserved already");
      }
    }
    this.allowed = sorted;
  }

  /** Maps parts one after the other; `iova` null chooses a place. Returns the IOVA. All or nothing. */
  map(parts: readonly AreaPart[], iova: bigint | null, readable: boolean, writable: boolean, refuse: Refuse): bigint {
    const length = parts.reduce((sum, part) => sum + part.length, 0n);
    const mask = this.alignment - 1n;
    if (length === 0n || (length & mask) !== 0n) {
      throw refuse("EINVAL", `length 0x${length.toString(16)} is not a multiple of ${this.alignment}`);
    }
    const start = iova ?? this.choose(BigInt(parts[0].userAddress), length, refuse);
    if (iova !== null) {
      this.check(start, length, refuse);
    }
    const added: Area[] = [];
    let at = start;
    for (const part of parts) {
      if (writable && !part.writable) {
        throw refuse("EPERM", "the source may not be written");
      }
      if ((BigInt(part.userAddress) & mask) !== 0n) {
        throw refuse("EINVAL", "the process's address is not aligned");
      }
      added.push({
        start: at,
        last: at + part.length - 1n,
        userAddress: part.userAddress,
        file: part.file ?? null,
        revoked: part.file?.revoked === true,
        readable,
        writable,
        domains: 0,
        pinned: [],
      });
      at += part.length;
    }
    this.fillAll(added, refuse);
    this.areas.splice(this.firstFrom(start), 0, ...added);
    added.forEach((area) => area.file?.use(this));
    return start;
  }

  /** Linux iopt_revoke_notify. */
  revoke(file: DmaBuf): void {
    for (const area of this.areas) {
      if (area.file === file && !area.revoked) {
        for (const domain of this.domains) {
          domain.unmap(Number(area.start), Number(area.last - area.start + 1n));
        }
        area.revoked = true;
      }
    }
  }

  /** Unmaps whole mappings in [start, last]; ENOENT where it cuts one, or finds none. Returns the bytes. */
  unmap(start: bigint, last: bigint, refuse: Refuse): bigint {
    let bytes = 0n;
    const first = this.firstFrom(start);
    let next = first;
    try {
      for (; next < this.areas.length && this.areas[next].start <= last; next++) {
        const area = this.areas[next];
        if (area.start < start || area.last > last) {
          throw refuse("ENOENT", `the range cuts the mapping of 0x${area.start.toString(16)} to 0x${area.last.toString(16)}`);
        }
        for (const domain of this.domains) {
          this.unfill(area, domain);
        }
        bytes += area.last - area.start + 1n;
      }
    } finally {
      // Those before one that is cut are gone.
      this.areas.splice(first, next - first);
    }
    if (bytes === 0n) {
      throw refuse("ENOENT", "nothing is mapped there");
    }
    return bytes;
  }

  unmapAll(refuse: Refuse): bigint {
    return this.areas.length === 0 ? 0n : this.unmap(0n, U64_MAX, refuse);
  }

  /** What lies at [iova, iova + length), for a copy; ENOENT for a hole. */
  parts(iova: bigint, length: bigint, refuse: Refuse): AreaPart[] {
    if (length === 0n) {
      throw refuse("EINVAL", "length 0");
    }
    const last = iova + length - 1n;
    if (last > U64_MAX) {
      throw refuse("EOVERFLOW", "the range wraps");
    }
    const result: AreaPart[] = [];
    let at = iova;
    for (let index = this.firstFrom(iova); at <= last; index++) {
      const area = this.areas[index];
      if (area === undefined || area.start > at) {
        throw refuse("ENOENT", `nothing is mapped at 0x${at.toString(16)}`);
      }
      const end = area.last < last ? area.last : last;
      result.push({
        userAddress: area.userAddress + Number(at - area.start),
        length: end - at + 1n,
        writable: area.writable,
        file: area.file,
      });
      at = end + 1n;
    }
    return result;
  }

  /** Whether every byte of [iova, iova + length) is mapped. */
  covers(iova: bigint, length: bigint): boolean {
    let at = iova;
    for (let index = this.firstFrom(iova); at < iova + length; index++) {
      const area = this.areas[index];
      if (area === undefined || area.start > at) {
        return false;
      }
      at = area.last + 1n;
    }
    return true;
  }

  /** Takes a table in: it maps what is mapped from now on. Throws with nothing changed. */
  addDomain(domain: PagingDomain, refuse: Refuse): void {
    this.requireAlignment(PAGE_SIZE, refuse);
    this.reserve(1n << BigInt(domain.apertureBits), U64_MAX, domain, refuse);
    const done: Area[] = [];
    try {
      for (const area of this.areas) {
        this.fill(area, domain, refuse);
        done.push(area);
      }
    } catch (error) {
      for (const area of done) {
        this.unfill(area, domain);
      }
      this.release(domain);
      throw error;
    }
    this.domains.add(domain);
  }

  removeDomain(domain: PagingDomain): void {
    if (this.domains.delete(domain)) {
      for (const area of this.areas) {
        this.unfill(area, domain);
      }
      this.release(domain);
    }
  }

  /** Reserves a range for an owner: EADDRINUSE where something is mapped, or promised by `allow`. */
  reserve(start: bigint, last: bigint, owner: object, refuse: Refuse): void {
    const range = { start, last };
    const area = this.areas[this.firstFrom(start)];
    if ((area !== undefined && area.start <= last) || this.allowed.some((a) => overlap(a, range))) {
      throw refuse("EADDRINUSE", `IOVAs 0x${start.toString(16)} to 0x${last.toString(16)} are in use`);
    }
    this.reserved.push({ start, last, owner });
  }

  /** Takes back all reservations of an owner. */
  release(owner: object): void {
    for (let i = this.reserved.length - 1; i >= 0; i--) {
      if (this.reserved[i].owner === owner) {
        this.reserved.splice(i, 1);
      }
    }
  }

  /** Index of the first area that ends at or after `iova`. */
  private firstFrom(iova: bigint): number {
    let low = 0;
    let high = this.areas.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.areas[middle].last < iova) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  private check(iova: bigint, length: bigint, refuse: Refuse): void {
    const last = iova + length - 1n;
    if ((iova & (this.alignment - 1n)) !== 0n) {
      throw refuse("EINVAL", `IOVA 0x${iova.toString(16)} is not a multiple of ${this.alignment}`);
    }
    if (last > U64_MAX) {
      throw refuse("EOVERFLOW", "the range wraps");
    }
    const hit = this.reserved.find((r) => overlap(r, { start: iova, last }));
    if (hit !== undefined) {
      throw refuse("EINVAL", `IOVAs 0x${hit.start.toString(16)} to 0x${hit.last.toString(16)} are reserved`);
    }
    const area = this.areas[this.firstFrom(iova)];
    if (area !== undefined && area.start <= last) {
      throw refuse("EEXIST", `0x${area.start.toString(16)} to 0x${area.last.toString(16)} is mapped`);
    }
  }

  /** The lowest free place, never 0, as aligned as the process's address and the length allow. */
  private choose(userAddress: bigint, length: bigint, refuse: Refuse): bigint {
    if (length >= U64_MAX / 2n) {
      throw refuse("EOVERFLOW", "too long to place");
    }
    const roundedUp = 1n << BigInt((length - 1n).toString(2).length);
    const lengthAlignment = length === 1n ? 1n : roundedUp;
    const addressAlignment = userAddress & -userAddress;
    const alignment = addressAlignment === 0n || lengthAlignment < addressAlignment ? lengthAlignment : addressAlignment;
    if (alignment < this.alignment) {
      throw refuse("EINVAL", "neither the process's address nor the length is aligned");
    }
    const pageOffset = userAddress % PAGE_SIZE;
    const windows = this.allowed.length > 0 ? this.allowed : [{ start: PAGE_SIZE, last: U64_MAX - PAGE_SIZE }];
    const used = [...this.reserved, ...this.areas].sort(byStart);
    for (const window of windows) {
      let next = window.start < PAGE_SIZE ? PAGE_SIZE : window.start;
      for (const range of [...used, { start: window.last + 1n, last: U64_MAX }]) {
        const place = (((next + alignment - 1n) / alignment) * alignment) | pageOffset;
        const end = range.start - 1n < window.last ? range.start - 1n : window.last;
        if (place + length - 1n <= end) {
          return place;
        }
        if (range.last + 1n > next) {
          next = range.last + 1n;
        }
      }
    }
    throw refuse("ENOSPC", "no free range is long enough");
  }

  private requireAlignment(alignment: bigint, refuse: Refuse): void {
    for (const area of this.areas) {
      if (((area.start | (area.last + 1n) | BigInt(area.userAddress)) & (alignment - 1n)) !== 0n) {
        throw refuse("EADDRINUSE", `the mapping at 0x${area.start.toString(16)} is not aligned to ${alignment}`);
      }
    }
  }

  private fillAll(areas: readonly Area[], refuse: Refuse): void {
    const done: Array<[Area, PagingDomain]> = [];
    try {
      for (const area of areas) {
        for (const domain of this.domains) {
          this.fill(area, domain, refuse);
          done.push([area, domain]);
        }
      }
    } catch (error) {
      for (const [area, domain] of done.reverse()) {
        this.unfill(area, domain);
      }
      throw error;
    }
  }

  /** Maps an area in one table; EFAULT where the process has no memory, ENOMEM where tables find none. */
  private fill(area: Area, domain: PagingDomain, refuse: Refuse): void {
    const length = Number(area.last - area.start + 1n);
    if (area.revoked) {
      area.domains++;
      return;
    }
    if (area.domains === 0 && area.file === null) {
      const pinned = this.memory.pin(area.userAddress, length);
      if (pinned === null) {
        throw refuse("EFAULT", `no memory of this process at 0x${area.userAddress.toString(16)}, 0x${length.toString(16)} bytes`);
      }
      area.pinned = pinned;
    }
    try {
      domain.map(Number(area.start), area.userAddress, length, area.readable, area.writable, this.hugePages);
    } catch (error) {
      if (area.domains === 0) {
        this.unpin(area);
      }
      throw error instanceof HostError ? refuse(error.errno, error.message) : error;
    }
    area.domains++;
  }

  private unfill(area: Area, domain: PagingDomain): void {
    if (!area.revoked) {
      domain.unmap(Number(area.start), Number(area.last - area.start + 1n));
    }
    area.domains--;
    if (area.domains === 0) {
      this.unpin(area);
    }
  }

  private unpin(area: Area): void {
    this.memory.unpin(area.pinned);
    area.pinned = [];
  }
}

function byStart(a: IovaRange, b: IovaRange): number {
  return a.start < b.start ? -1 : a.start > b.start ? 1 : 0;
}

function overlap(a: IovaRange, b: IovaRange): boolean {
  return a.start <= b.last && b.start <= a.last;
}
