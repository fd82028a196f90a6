/**
 * Memory of the machine or of the simulated host: a run of bytes that costs what is touched. It is kept
 * in windows of up to 4 GiB, each one ArrayBuffer that the operating system backs page by page.
 */
const WINDOW_BYTES = 0x1_0000_0000;

/**
 * What a block's bytes are: made outside, such as views of a memfd that vCPUs and the block share. Others may
 * change them at any moment.
 */
export interface RamBacking {
  /** The bytes of a window, zeroed at first; asked for once, when the window is first used. `bytes` is up to 4 GiB. */
  window(offset: number, bytes: number): ArrayBufferLike;
  /** The file that the block is of, from its first byte on; null: none. */
  readonly fd: number | null;
  /** Where the block lies in this process's memory, for KVM memory slots; null: nowhere that others can name. Bytes. */
  readonly address: bigint | null;
  /** The block is no longer used. */
  release(): void;
}

/** Makes the bytes of a block of `bytes` bytes (a multiple of 4096) before any of it is used. */
export type MakeMemory = (name: string, bytes: number) => RamBacking;

/** Zeroed memory of this process. */
export const processMemory: RamBacking = { window: (_offset, bytes) => new ArrayBuffer(bytes), fd: null, address: null, release: () => {} };

export class RamBlock {
  private readonly bytes: Array<Uint8Array | undefined>;
  private readonly words: Array<Int32Array | undefined>;

  /**
   * @param size bytes, a multiple of 4096
   * @param hostAddress where the block lies in the host's address space: what IOMMU_IOAS_MAP takes as
   *   user_va. Bytes; below 2^53.
   * @param backing how the bytes come to be; the default takes zeroed memory of this process.
   */
  constructor(
    readonly name: string,
    readonly size: number,
    readonly hostAddress: number,
    readonly backing: RamBacking = processMemory,
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

  private open(index: number): Int32Array {
    const start = index * WINDOW_BYTES;
    const buffer = this.backing.window(start, Math.min(WINDOW_BYTES, this.size - start));
    this.bytes[index] = new Uint8Array(buffer);
    const words = new Int32Array(buffer);
    this.words[index] = words;
    return words;
  }
}
