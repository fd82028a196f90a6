/** A disk as a controller sees it: a number of bytes that can be read and written without blocking the thread. */

/** Called once, at once or later; null: done. */
export type Done = (error: Error | null) => void;

export interface Disk {
  /** For messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** What is deallocated reads as zeros. */
  readonly deallocates: boolean;
  /** What has been written may be lost before a flush. */
  readonly volatileCache: boolean;
  /** Fills `into` with the bytes from `position` on; both inside of the disk. */
  read(position: number, into: Uint8Array, done: Done): void;
  /** `data` is not changed before `done`. */
  write(position: number, data: Uint8Array, done: Done): void;
  /** `length` bytes from `position` on read as zeros afterwards. `deallocate`: the space may be given back. */
  writeZeroes(position: number, length: number, deallocate: boolean, done: Done): void;
  /** The bytes are not needed any more: a hint. */
  deallocate(position: number, length: number, done: Done): void;
  /** What has been written before survives the end of this process and of its machine. */
  flush(done: Done): void;
  /** Nothing is asked for any more; what is under way still ends. */
  close(): void;
}
