/**
 * Memory of the machine or of the simulated host: a run of bytes that costs what is touched. It is kept
 * in windows of up to 4 GiB, each one ArrayBuffer that the operating system backs page by page.
 */
const WINDOW_BYTES = 0x1_0000_0000;

export class RamBlock {
  private readonly bytes: Array<Uint8Array | undefined>;
  private readonly words: Array<Int32Array | undefined>;

  /**
   * @param size bytes, a multiple of 4096
   * @param hostAddress where the block lies in the host's address space: what IOMMU_IOAS_MAP takes as
   *   user_va. Bytes; below 2^53.
   * @param windows how the buffers come to be; the default takes zeroed memory of this process.
   */
  constructor(
    readonly name: string,
    readonly size: number,
    readonly hostAddress: number,
    private readonly makeWindow: (offset: number, bytes: number) => ArrayBuffer = (_offset, bytes) => new ArrayBuffer(bytes),
  ) {
    if (!Number.isSafeInteger(size) || size <= 0 || size % 4096 !== 0) {
      throw new RangeError(`RAM block ${name}: size ${size} is not a positive multiple of 4096 bytes`);
    }
    const count = Math.ceil(size / WINDOW_BYTES);
    this.bytes = new Array<Uint8Array | undefined>(count).fill(undefined);
    this.words = new Array<Int32Array | undefined>(count).fill(undefined);
  }

  /** Bytes of a window but the last. */
  static readonly windowBytes = WINDOW_BYTES;

  /** The window that holds `offset`, as little-endian 32-bit words. */
  wordWindow(offset: number): Int32Array {
    const index = Math.floor(offset / WINDOW_BYTES);
    return this.words[index] ?? this.open(index);
  }

  /** The window that holds `offset`, as bytes. */
  byteWindow(offset: number): Uint8Array {
    const index = Math.floor(offset / WINDOW_BYTES);
    if (this.bytes[index] === undefined) {
      this.open(index);
    }
    return this.bytes[index]!;
  }

  /** Copies `out.length` bytes from `offset` on. The caller has checked the bounds. */
  read(offset: number, out: Uint8Array): void {
    let done = 0;
    while (done < out.length) {
      const at = (offset + done) % WINDOW_BYTES;
      const step = Math.min(out.length - done, WINDOW_BYTES - at);
      out.set(this.byteWindow(offset + done).subarray(at, at + step), done);
      done += step;
    }
  }

  /** Copies `data` to `offset`. The caller has checked the bounds. */
  write(offset: number, data: Uint8Array): void {
    let done = 0;
    while (done < data.length) {
      const at = (offset + done) % WINDOW_BYTES;
      const step = Math.min(data.length - done, WINDOW_BYTES - at);
      this.byteWindow(offset + done).set(data.subarray(done, done + step), at);
      done += step;
    }
  }

  /** Sets `length` bytes from `offset` on to zero. */
  clear(offset: number, length: number): void {
    let done = 0;
    while (done < length) {
      const at = (offset + done) % WINDOW_BYTES;
      const step = Math.min(length - done, WINDOW_BYTES - at);
      if (this.bytes[Math.floor((offset + done) / WINDOW_BYTES)] !== undefined) {
        this.byteWindow(offset + done).fill(0, at, at + step);
      }
      done += step;
    }
  }

  private open(index: number): Int32Array {
    const start = index * WINDOW_BYTES;
    const buffer = this.makeWindow(start, Math.min(WINDOW_BYTES, this.size - start));
    this.bytes[index] = new Uint8Array(buffer);
    const words = new Int32Array(buffer);
    this.words[index] = words;
    return words;
  }
}
