/**
 * Where the suite keeps things in a q35 machine's RAM (guest-physical addresses, bytes). The data area holds its own
 * addresses, so that what a read brings tells where it was done.
 */
export const RAM = { base: 0, size: 0x2000_0000 };
/** Where a device's buffer is emptied to, and the pattern that it is filled with before a case. */
export const SCRATCH = 0x0100_0000;
export const SENTINEL = 0x0100_1000;
/** The invalidation queue, the largest one, and what wait descriptors write to. */
export const QUEUE = 0x0110_0000;
export const QUEUE_BYTES = 0x8_0000;
export const STATUS = 0x0118_0000;
/** Root table and everything behind it, of the case at hand; zero between cases. */
export const POOL = { base: 0x0140_0000, size: 0x0040_0000 };
/** 2-MiB pages begin here; a 1-GiB page that holds it begins at 0. */
export const DATA = { base: 0x0200_0000, size: 0x0008_0000 };
/** Zeroed RAM to which wrong addresses lead. */
export const EMPTY = 0x1000_0000;
/** Physical addresses where nothing answers. */
export const HOLE = 0x4000_0000;
/** Where firmware tables may be: taken away. */
export const TABLES = { base: 0x1f00_0000, size: 0x0100_0000 };

/** The queue and what devices are given: their contents are nobody's case. */
const OWN = { base: BigInt(SCRATCH), end: BigInt(STATUS + 0x1000) };

/** Whether both machines have the same at a physical address, and a case knows it: RAM, or nothing. Elsewhere are devices. */
export function isSafe(address: bigint): boolean {
  const isRam = address >= 0x10_0000n && address < 0xb000_0000n;
  // Behind the interrupt range there is nothing up to the BIOS.
  const isBehind = address >= 0xfef0_0000n && address < 0xff00_0000n;
  return (isRam && !(address >= OWN.base && address < OWN.end)) || isBehind || address >= 0x1_0000_0000n;
}

/** Whether what a case has written there is undone before the next one. */
export function isRestored(address: bigint): boolean {
  return [POOL, DATA].some(({ base, size }) => address >= BigInt(base) && address < BigInt(base + size));
}

/** Messages to local APICs (3.15). */
export function isInterruptRange(address: bigint): boolean {
  return address >> 20n === 0xfeen;
}
