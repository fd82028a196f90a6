/** A disk whose bytes are those of a file (QEMU's format=raw), read and written by libuv's threads. */
import { closeSync, fdatasync, fstatSync, openSync, read, readSync, write } from "node:fs";
import { Refusal, systemWords } from "../support/index.js";
import type { Disk, Done } from "./disk.js";

export interface FileDiskOptions {
  readonly readOnly?: boolean;
  /** Flushes do nothing, as with QEMU's cache=unsafe. */
  readonly ignoreFlush?: boolean;
}

/** Zeros are written by pieces of this many bytes. */
const ZERO_BYTES = 0x10_0000;
/** First bytes of a qcow2 image, which is not what format=raw is about. */
const QCOW_MAGIC = 0x5146_49fb;

interface FileUse {
  writers: number;
  readers: number;
}

/** Who uses which file, by device and inode: one writer or any number of readers, which is what QEMU's locks say. */
const uses = new Map<string, FileUse>();

export class FileDisk implements Disk {
  readonly deallocates = false;
  readonly volatileCache = true;
  /** Operations of the system that have not ended. */
  private busy = 0;
  private closing = false;
  private closed = false;

  private constructor(
    readonly name: string,
    private readonly fd: number,
    readonly size: number,
    readonly readOnly: boolean,
    private readonly key: string,
    private readonly options: FileDiskOptions,
  ) {}

  /** @throws Refusal in QEMU's words */
  static open(path: string, options: FileDiskOptions = {}): FileDisk {
    const readOnly = options.readOnly === true;
    let fd: number;
    try {
      fd = openSync(path, readOnly ? "r" : "r+");
    } catch (error) {
      throw new Refusal(`Could not open '${path}': ${systemWords(error)}`, { wouldWork: `a file that can be read${readOnly ? "" : " and written, or readonly=on"}` });
    }
    try {
      const { dev, ino, size } = fstat(fd, path);
      const key = `${dev}:${ino}`;
      claim(key, readOnly, path);
      return new FileDisk(path, fd, size, readOnly, key, options);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The file holds an image of another format: a qcow2. */
  get isQcow(): boolean {
    const head = new Uint8Array(4);
    return readSync(this.fd, head, 0, 4, 0) === 4 && new DataView(head.buffer).getUint32(0) === QCOW_MAGIC;
  }

  read(position: number, into: Uint8Array, done: Done): void {
    const next = (at: number): void =>
      read(this.fd, into, at, into.length - at, position + at, (error, bytes) => {
        if (error === null && bytes === 0) {
          // The file has become shorter: what is beyond its end reads as zeros.
          into.fill(0, at);
        } else if (error === null && at + bytes < into.length) {
          next(at + bytes);
          return;
        }
        this.end(error, done);
      });
    this.begin();
    next(0);
  }

  write(position: number, data: Uint8Array, done: Done): void {
    this.begin();
    this.writeAll(position, data, (error) => this.end(error, done));
  }

  writeZeroes(position: number, length: number, _deallocate: boolean, done: Done): void {
    const zeros = new Uint8Array(Math.min(length, ZERO_BYTES));
    const next = (at: number): void => {
      if (at === length) {
        this.end(null, done);
        return;
      }
      const part = zeros.subarray(0, Math.min(zeros.length, length - at));
      this.writeAll(position + at, part, (error) => {
        if (error === null) {
          next(at + part.length);
        } else {
          this.end(error, done);
        }
      });
    };
    this.begin();
    next(0);
  }

  /** The space is kept, as with QEMU's discard=ignore. */
  deallocate(_position: number, _length: number, done: Done): void {
    done(null);
  }

  flush(done: Done): void {
    if (this.options.ignoreFlush === true || this.readOnly) {
      done(null);
      return;
    }
    this.begin();
    fdatasync(this.fd, (error) => this.end(error, done));
  }

  close(): void {
    this.closing = true;
    this.closeIdle();
  }

  private writeAll(position: number, data: Uint8Array, done: Done): void {
    const next = (at: number): void =>
      write(this.fd, data, at, data.length - at, position + at, (error, bytes) => {
        if (error === null && bytes > 0 && at + bytes < data.length) {
          next(at + bytes);
        } else {
          done(error ?? (bytes === 0 ? new Error("nothing was written") : null));
        }
      });
    next(0);
  }

  private begin(): void {
    this.busy++;
  }

  private end(error: Error | null, done: Done): void {
    this.busy--;
    done(error);
    this.closeIdle();
  }

  /** A descriptor that is in use is not closed: its number could be another file's by then. */
  private closeIdle(): void {
    if (this.closing && !this.closed && this.busy === 0) {
      this.closed = true;
      closeSync(this.fd);
      release(this.key, this.readOnly);
    }
  }
}

function fstat(fd: number, path: string): { dev: number; ino: number; size: number } {
  const stat = fstatSync(fd);
  if (!stat.isFile() && !stat.isBlockDevice()) {
    throw new Refusal(`Could not open '${path}': it is ${stat.isDirectory() ? "a directory" : "neither a file nor a block device"}`, { wouldWork: "a file with the bytes of the disk" });
  }
  return { dev: stat.dev, ino: stat.ino, size: stat.isFile() ? stat.size : deviceSize(fd) };
}

/** Bytes of a block device: where its last byte is, found by halves, for stat tells nothing of it. */
function deviceSize(fd: number): number {
  const byte = new Uint8Array(1);
  const isThere = (position: number): boolean => readSync(fd, byte, 0, 1, position) === 1;
  let low = 0;
  let high = 512;
  while (isThere(high - 1) && high < 2 ** 52) {
    low = high;
    high *= 2;
  }
  while (high - low > 512) {
    const middle = Math.floor((low + high) / 1024) * 512;
    if (isThere(middle - 1)) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

function claim(key: string, readOnly: boolean, path: string): void {
  const use = uses.get(key) ?? { writers: 0, readers: 0 };
  if (use.writers > 0 || (!readOnly && use.readers > 0)) {
    const kind = readOnly ? `shared "write"` : `"write"`;
    throw new Refusal(`Failed to get ${kind} lock\nIs another process using the image [${path}]?`, {
      found: `another disk here has it${use.writers > 0 ? " for writing" : ""}`,
      wouldWork: "a file for each disk, or readonly=on for all of them",
    });
  }
  if (readOnly) {
    use.readers++;
  } else {
    use.writers++;
  }
  uses.set(key, use);
}

function release(key: string, readOnly: boolean): void {
  const use = uses.get(key)!;
  if (readOnly) {
    use.readers--;
  } else {
    use.writers--;
  }
  if (use.readers + use.writers === 0) {
    uses.delete(key);
  }
}
