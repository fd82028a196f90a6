/** A disk that keeps nothing and reads as zeros: QEMU's null-co with read-zeroes=on. */
import type { Disk, Done } from "./disk.js";

export class NullDisk implements Disk {
  readonly deallocates = true;
  readonly volatileCache = false;

  constructor(
    readonly name: string,
    readonly size: number,
    readonly readOnly = false,
  ) {}

  read(_position: number, into: Uint8Array, done: Done): void {
    into.fill(0);
    done(null);
  }

  write(_position: number, _data: Uint8Array, done: Done): void {
    done(null);
  }

  writeZeroes(_position: number, _length: number, _deallocate: boolean, done: Done): void {
    done(null);
  }

  deallocate(_position: number, _length: number, done: Done): void {
    done(null);
  }

  flush(done: Done): void {
    done(null);
  }

  close(): void {}
}
