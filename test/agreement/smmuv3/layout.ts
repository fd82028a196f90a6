/**
 * Where the suite keeps things in the machine's RAM (guest-physical addresses, bytes). The data area holds its
 * own addresses, so that what a read brings tells where it was done.
 */
export const RAM = { base: 0x4000_0000, size: 0x2000_0000 };
export const COMMAND_QUEUE = 0x4100_0000;
/** log2 of the entries. */
export const COMMAND_QUEUE_BITS = 2;
export const EVENT_QUEUE = 0x4100_1000;
export const EVENT_QUEUE_BITS = 7;
/** Where a device's buffer is emptied to, and the pattern that it is filled with before a case. */
export const SCRATCH = 0x4100_2000;
export const SENTINEL = 0x4100_3000;
/** Configuration and tables of the case at hand; zero between cases. */
export const POOL = { base: 0x4140_0000, size: 0x0040_0000 };
/** A 32-MiB block starts here. */
export const DATA = { base: 0x4200_0000, size: 0x0008_0000 };
/** A second place for tables, of a block that is mapped elsewhere; zero between cases. */
export const FAR_POOL = { base: 0x5000_0000, size: 0x2_0000 };
/** Physical addresses where nothing answers. */
export const HOLE = 0x6000_0000;

/** The queues and what devices are given: their contents are nobody's case. */
const OWN = { base: BigInt(COMMAND_QUEUE), end: BigInt(SENTINEL + 0x1000) };

/** Whether both machines have the same at a physical address, and a case knows it: RAM, or nothing. Between them lie devices and PCI. */
export function isSafe(address: bigint): boolean {
  const isRam = address >= BigInt(RAM.base) && address < 0x40_0000_0000n;
  return (isRam && !(address >= OWN.base && address < OWN.end)) || address >= 0x100_0000_0000n;
}

/** Whether what a case has written there is undone before the next one. */
export function isRestored(address: bigint): boolean {
  return [POOL, FAR_POOL, DATA].some(({ base, size }) => address >= BigInt(base) && address < BigInt(base + size));
}
