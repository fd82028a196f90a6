/** A disk of this process's memory, which takes as much of it as is written; its contents end with it. */
import type { Disk, Done } from "./disk.js";

const PAGE_BYTES = 0x1_0000;

export class MemoryDisk implements Disk {
  readonly readOnly = false;
  readonly deallocates = true;
  readonly volatileCache = false;
  /** What was written, by number of the page; what is not there is zero. */
  private readonly pages = new Map<number, Uint8Array>();

  /** @param size bytes */
  constructor(
    readonly name: string,
    readonly size: number,
  ) {}

  /** Bytes of memory that it takes. */
  get allocated(): number {
    return this.pages.size * PAGE_BYTES;
  }

  read(position: number, into: Uint8Array, done: Done): void {
    this.each(position, into.length, (page, start, from, to) => {
      const bytes = this.pages.get(page);
      if (bytes === undefined) {
        into.fill(0, from, to);
      } else {
        into.set(bytes.subarray(start, start + to - from), from);
      }
    });
    done(null);
  }

  write(position: number, data: Uint8Array, done: Done): void {
    this.each(position, data.length, (page, start, from, to) => {
      let bytes = this.pages.get(page);
      if (bytes === undefined) {
        bytes = new Uint8Array(PAGE_BYTES);
        this.pages.set(page, bytes);
      }
      bytes.set(data.subarray(from, to), start);
    });
    done(null);
  }

  writeZeroes(position: number, length: number, _deallocate: boolean, done: Done): void {
    const end = position + length;
    const first = Math.floor(position / PAGE_BYTES);
    const last = Math.floor((end - 1) / PAGE_BYTES);
    const clear = (page: number): void => {
      const from = Math.max(position - page * PAGE_BYTES, 0);
      const to = Math.min(end - page * PAGE_BYTES, PAGE_BYTES);
      if (to - from === PAGE_BYTES) {
        this.pages.delete(page);
      } else {
        this.pages.get(page)?.fill(0, from, to);
      }
    };
    // Through the pages that there are, where they are fewer than those that are named.
    if (last - first > this.pages.size) {
      [...this.pages.keys()].filter((page) => page >= first && page <= last).forEach(clear);
    } else {
      for (let page = first; page <= last; page++) {
        clear(page);
      }
    }
    done(null);
  }

  deallocate(position: number, length: number, done: Done): void {
    this.writeZeroes(position, length, true, done);
  }

  flush(done: Done): void {
    done(null);
  }

  close(): void {
    this.pages.clear();
  }

  /** Calls `part` for each page: its number, where in it the bytes start, and which of the bytes they are. */
  private each(position: number, length: number, part: (page: number, start: number, from: number, to: number) => void): void {
    for (let from = 0; from < length; ) {
      const page = Math.floor((position + from) / PAGE_BYTES);
      const start = position + from - page * PAGE_BYTES;
      const to = Math.min(length, from + PAGE_BYTES - start);
      part(page, start, from, to);
      from = to;
    }
  }
}
