export type { Disk, Done } from "./disk.js";
export { FileDisk, type FileDiskOptions } from "./file-disk.js";
export { MemoryDisk } from "./memory-disk.js";
export { NullDisk } from "./null-disk.js";
