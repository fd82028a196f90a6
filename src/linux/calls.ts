/**
 * Linux's system calls. Each call is made at once and blocks the thread that makes it; a refused one throws
 * SystemError. EINTR is retried where nothing can be lost by it and given back where the caller asked to be
 * interrupted (`interruptible`).
 */
import { SystemError } from "./errors.js";
import { call, errno, foreign, native } from "./native.js";

/** mmap(2): PROT_READ, PROT_WRITE, MAP_SHARED. */
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 2n ** 64n - 1n;
/** eventfd(2), memfd_create(2). */
const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;
const MFD_CLOEXEC = 1;
const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;

/** Bytes of a view at the most: koffi on Node.js 20 ends the process above. */
export const MOST_VIEW_BYTES = 2 ** 32;

/** A mapping of this process: `address` is the kernel's, `view` its bytes for this thread (not shared with others: each maps anew). */
export interface Mapping {
  readonly address: bigint;
  readonly bytes: number;
}

const IOCTL = "int ioctl(int fd, unsigned long request, intptr_t argument)";
const IOCTL_POINTER = "int ioctl(int fd, unsigned long request, void *argument)";

/** What an ioctl takes: a number, or a structure that the kernel reads and writes. */
export type IoctlArgument = number | bigint | Uint8Array;

/**
 * ioctl(2). @param name for messages, such as "KVM_CREATE_VM"
 * @returns what the kernel does: not negative
 * @throws SystemError
 */
export function ioctl(fd: number, name: string, request: number, argument: IoctlArgument = 0): number {
  return call(`ioctl(${name})`, argument instanceof Uint8Array ? IOCTL_POINTER : IOCTL, fd, request, argument);
}

/** ioctl(2) that a signal may interrupt: the result, or the negative errno; nothing is thrown and nothing retried. */
export function interruptibleIoctl(fd: number, request: number, argument: number): number {
  const result = foreign(IOCTL)(fd, request, argument);
  return result >= 0 ? result : -errno();
}

/** The address of a buffer's bytes, for structures that hold pointers. The buffer is to be kept until the call has returned. */
export function addressOf(bytes: Uint8Array): bigint {
  return BigInt(native().koffi.address(bytes));
}

/** sysconf(3). */
const SC_PAGESIZE = 30;

/** Bytes of a page of this machine. */
export function pageBytes(): number {
  return foreign("long sysconf(int name)")(SC_PAGESIZE);
}

/** open(2) for reading and writing. @throws SystemError */
export function openFile(path: string): number {
  return call(`open("${path}")`, "int open(const char *path, int flags)", path, O_RDWR | O_CLOEXEC);
}

export function closeFd(fd: number): void {
  // Linux closes the descriptor whatever it answers; repeating may close another's.
  foreign("int close(int fd)")(fd);
}

/** A file of `bytes` zeros in memory, which /proc names `name`. @throws SystemError */
export function memoryFile(name: string, bytes: number): number {
  const fd = call("memfd_create", "int memfd_create(const char *name, unsigned int flags)", name, MFD_CLOEXEC);
  try {
    call("ftruncate", "int ftruncate(int fd, int64_t length)", fd, bytes);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

/** mmap(2), shared. @throws SystemError */
export function map(fd: number, bytes: number, options: { readonly offset?: number; readonly writable?: boolean } = {}): Mapping {
  const { koffi } = native();
  const mmap = foreign("void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)");
  const pointer = mmap(null, bytes, PROT_READ | (options.writable === false ? 0 : PROT_WRITE), MAP_SHARED, fd, options.offset ?? 0);
  const errno = koffi.errno();
  const address = BigInt.asUintN(64, BigInt(koffi.address(pointer)));
  if (address === MAP_FAILED) {
    throw new SystemError("mmap", errno);
  }
  return { address, bytes };
}

/**
 * Gives the memory of a mapping back and leaves its addresses with zeros behind them: a view of it that is still
 * used then meets those, where after `unmap` the process would end.
 */
export function vacate(mapping: Mapping): void {
  const mmap = foreign("void *mmap(uintptr_t address, size_t length, int protection, int flags, int fd, int64_t offset)");
  mmap(mapping.address, mapping.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/** munmap(2): no view of the mapping may be used any more. */
export function unmap(mapping: Mapping): void {
  call("munmap", "int munmap(uintptr_t address, size_t length)", mapping.address, mapping.bytes);
}

/** The bytes of a mapping from `offset` on, as this thread sees them: `bytes` of MOST_VIEW_BYTES at the most. */
export function viewOf(mapping: Mapping, offset = 0, bytes = mapping.bytes - offset): ArrayBuffer {
  if (offset < 0 || offset + bytes > mapping.bytes || bytes > MOST_VIEW_BYTES) {
    throw new RangeError(`a view of ${bytes} bytes from ${offset} on, of a mapping of ${mapping.bytes}`);
  }
  return native().koffi.view(mapping.address + BigInt(offset), bytes);
}

/**
 * read(2): the bytes read, fewer than there is room for where there are no more; 0: the end, or nothing to read on a
 * descriptor that does not block.
 * @throws SystemError
 */
export function readFd(fd: number, out: Uint8Array): number {
  return transfer("read", "long read(int fd, void *bytes, size_t count)", fd, out, out.length);
}

/** write(2): the bytes written; 0: no room on a descriptor that does not block. @throws SystemError */
export function writeFd(fd: number, data: Uint8Array): number {
  return transfer("write", "long write(int fd, const void *bytes, size_t count)", fd, data, data.length);
}

/** pread(2). @throws SystemError */
export function readFdAt(fd: number, offset: number, out: Uint8Array): number {
  return call("pread", "long pread(int fd, void *bytes, size_t count, int64_t offset)", fd, out, out.length, offset);
}

/** pwrite(2). @throws SystemError */
export function writeFdAt(fd: number, offset: number, data: Uint8Array): number {
  return call("pwrite", "long pwrite(int fd, const void *bytes, size_t count, int64_t offset)", fd, data, data.length, offset);
}

function transfer(name: string, prototype: string, ...words: unknown[]): number {
  try {
    return call(name, prototype, ...words);
  } catch (error) {
    if (error instanceof SystemError && error.code === "EAGAIN") {
      return 0;
    }
    throw error;
  }
}

/** An eventfd(2) that does not block. */
export function makeEventFd(): number {
  return call("eventfd", "int eventfd(unsigned int value, int flags)", 0, EFD_NONBLOCK | EFD_CLOEXEC);
}

const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
const COUNT = new Uint8Array(8);

/** Adds one to an eventfd's count. */
export function signalEventFd(fd: number): void {
  // EAGAIN: the count is at its highest, so its reader is woken anyway.
  foreign("long write(int fd, const void *bytes, size_t count)")(fd, ONE, 8);
}

/** Takes an eventfd's count; false: it was zero. */
export function takeEventFd(fd: number): boolean {
  return foreign("long read(int fd, void *bytes, size_t count)")(fd, COUNT, 8) === 8;
}

/** This thread's id, for `kick`. */
export function threadId(): number {
  return foreign("int gettid()")();
}
