import { HostError } from "../../../iommufd/index.js";

/** log2 bytes of a segment: what is taken from the process at once. */
const SEGMENT_BITS = 24;
const SEGMENT_BYTES = 1 << SEGMENT_BITS;

/**
 * Memory for translation tables, stream tables and context tables of the host's kernel: naturally aligned
 * pieces of 2^n bytes in one region of host-physical memory, which grows by segments as it is used. The
 * region lies within one 4 GiB aligned part of the address space, so that an address in it is told by its
 * high word and a subtraction.
 */
export class TableMemory {
  /** High word of every address in the region. */
  readonly high: number;
  /** Low word of the region's first byte, unsigned; a multiple of SEGMENT_BYTES. */
  readonly low: number;
  /** Words of the segments taken so far, by number. */
  readonly segments: Int32Array[] = [];
  /** Free pieces by log2 of their bytes, as addresses; each is zeroed when it is handed out. */
  private readonly freeLists: number[][] = Array.from({ length: SEGMENT_BITS + 1 }, () => []);
  /** log2 bytes of every piece handed out, by address. */
  private readonly live = new Map<number, number>();
  private liveBytesCount = 0;

  /**
   * @param base host-physical, a multiple of 16 MiB
   * @param size bytes, a multiple of 16 MiB, not past the next multiple of 4 GiB
   */
  constructor(
    readonly base: number,
    readonly size: number,
  ) {
    this.high = Math.floor(base / 0x1_0000_0000);
    this.low = base % 0x1_0000_0000;
    if (base % SEGMENT_BYTES !== 0 || size % SEGMENT_BYTES !== 0 || this.low + size > 0x1_0000_0000) {
      throw new RangeError(`table memory at 0x${base.toString(16)}: base and size are multiples of 16 MiB within 4 GiB`);
    }
  }

  /** Pieces in use. */
  get livePieces(): number {
    return this.live.size;
  }

  /** Bytes in use. */
  get liveBytes(): number {
    return this.liveBytesCount;
  }

  /** Takes a zeroed, naturally aligned piece of 2^log2Bytes bytes (6 to 24). Throws HostError ENOMEM when the region is full. */
  allocate(log2Bytes: number): number {
    if (!Number.isInteger(log2Bytes) || log2Bytes < 6 || log2Bytes > SEGMENT_BITS) {
      throw new RangeError(`table memory comes in 2^6 to 2^${SEGMENT_BITS} bytes, not 2^${log2Bytes}`);
    }
    const address = this.take(log2Bytes);
    const words = this.segments[Math.floor((address - this.base) / SEGMENT_BYTES)];
    const first = ((address - this.base) % SEGMENT_BYTES) / 4;
    words.fill(0, first, first + (1 << log2Bytes) / 4);
    this.live.set(address, log2Bytes);
    this.liveBytesCount += 2 ** log2Bytes;
    return address;
  }

  /** Gives a piece back. Throws RangeError where address and size are not those of a piece in use. */
  free(address: number, log2Bytes: number): void {
    if (this.live.get(address) !== log2Bytes) {
      throw new RangeError(`no table memory of 2^${log2Bytes} bytes is in use at 0x${address.toString(16)}`);
    }
    this.live.delete(address);
    this.liveBytesCount -= 2 ** log2Bytes;
    this.freeLists[log2Bytes].push(address);
  }

  /** Whether the bytes lie in the part of the region that has been taken from the process. */
  contains(address: number, length: number): boolean {
    return address >= this.base && address + length <= this.base + this.segments.length * SEGMENT_BYTES;
  }

  /** Copies bytes out; the caller has asked `contains`. */
  read(address: number, out: Uint8Array): void {
    this.eachPart(address, out.length, (bytes, done) => out.set(bytes, done));
  }

  /** Copies bytes in; the caller has asked `contains`. */
  write(address: number, data: Uint8Array): void {
    this.eachPart(address, data.length, (bytes, done) => bytes.set(data.subarray(done, done + bytes.length)));
  }

  private eachPart(address: number, length: number, use: (bytes: Uint8Array, done: number) => void): void {
    for (let done = 0; done < length; ) {
      const offset = address - this.base + done;
      const at = offset % SEGMENT_BYTES;
      const step = Math.min(length - done, SEGMENT_BYTES - at);
      use(new Uint8Array(this.segments[Math.floor(offset / SEGMENT_BYTES)].buffer, at, step), done);
      done += step;
    }
  }

  /** A free piece of exactly that size: the last one given back, or the first part of a larger one. */
  private take(log2Bytes: number): number {
    const free = this.freeLists[log2Bytes].pop();
    if (free !== undefined) {
      return free;
    }
    if (log2Bytes === SEGMENT_BITS) {
      return this.grow();
    }
    const larger = this.take(log2Bytes + 1);
    this.freeLists[log2Bytes].push(larger + 2 ** log2Bytes);
    return larger;
  }

  private grow(): number {
    const address = this.base + this.segments.length * SEGMENT_BYTES;
    if (address + SEGMENT_BYTES > this.base + this.size) {
      throw new HostError("table memory", "ENOMEM", `all of ${this.size} bytes are in use`);
    }
    this.segments.push(new Int32Array(SEGMENT_BYTES / 4));
    return address;
  }
}
