/** The system calls that the host makes: Linux's own, or what a test puts in their place. */
import { addressOf, closeFd, ioctl, map, type Mapping, openFile, readFd, readFdAt, unmap, viewOf, type Watch, watchReadable, writeFd, writeFdAt } from "../../linux/index.js";

/** Each throws SystemError where Linux refuses; EINTR is repeated. */
export interface KernelPort {
  open(path: string): number;
  close(fd: number): void;
  /**
   * What the kernel returns: 0, or a descriptor.
   * @param argument null: a null pointer
   */
  ioctl(fd: number, name: string, request: number, argument: Uint8Array | null): number;
  /** The bytes read; 0: the end, or nothing there on a descriptor that does not block. */
  read(fd: number, out: Uint8Array): number;
  write(fd: number, data: Uint8Array): number;
  readAt(fd: number, offset: number, out: Uint8Array): number;
  writeAt(fd: number, offset: number, data: Uint8Array): number;
  map(fd: number, bytes: number, offset: number, writable: boolean): Mapping;
  unmap(mapping: Mapping): void;
  view(mapping: Mapping, bytes: number): ArrayBuffer;
  watch(fd: number, onReadable: () => void): Watch;
  /** Where the kernel finds bytes of this process, for structures that point to others. */
  addressOf(bytes: Uint8Array): bigint;
}

export const linuxPort: KernelPort = {
  open: openFile,
  close: closeFd,
  ioctl: (fd, name, request, argument) => ioctl(fd, name, request, argument ?? 0),
  read: readFd,
  write: writeFd,
  readAt: readFdAt,
  writeAt: writeFdAt,
  map: (fd, bytes, offset, writable) => map(fd, bytes, { offset, writable }),
  unmap,
  view: (mapping, bytes) => viewOf(mapping, 0, bytes),
  watch: watchReadable,
  addressOf,
};

/** Bytes that the kernel is pointed to: one place for each open file, whose calls are made one after the other. */
export class Pointed {
  private bytes = Buffer.alloc(4096);
  private at: bigint | null = null;

  constructor(private readonly port: KernelPort) {}

  /** Room for `length` bytes, and its address; what was there before is overwritten. */
  room(length: number): { readonly bytes: Buffer; readonly address: bigint } {
    if (length > this.bytes.length) {
      this.bytes = Buffer.alloc(2 ** Math.ceil(Math.log2(length)));
      this.at = null;
    }
    this.at ??= this.port.addressOf(this.bytes);
    return { bytes: this.bytes.subarray(0, length), address: this.at };
  }

  /** Copies the data there; returns its address, 0 where there is none. */
  put(data: Uint8Array): bigint {
    if (data.length === 0) {
      return 0n;
    }
    const { bytes, address } = this.room(data.length);
    bytes.set(data);
    return address;
  }
}
