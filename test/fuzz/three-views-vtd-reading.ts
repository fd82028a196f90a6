/**
 * A plain reading of a guest's VT-d tables, from the specification alone (Intel VT-d 5.10): where a request has to
 * come out when nothing is cached. Nothing of `src` is used.
 */

/** A 64-bit word of guest memory; null where there is none. */
export type Load = (address: bigint) => bigint | null;

export interface Programmed {
  /** GSTS.TES. */
  readonly enabled: boolean;
  /** RTADDR as the last SRTP took it: table and TTM (0 legacy, 1 scalable). */
  readonly root: bigint;
  readonly scalable: boolean;
  /** ECAP.FSTS: PGTT of first stages is offered, that of second stages is not. */
  readonly firstStage: boolean;
  /** ECAP.PASID and PSS. */
  readonly pasidBits: number;
  /** CAP.MGAW + 1. */
  readonly addressBits: number;
}

const ADDRESS = 0x000f_ffff_ffff_f000n;

/** The guest-physical address behind an input address of a source id and PASID (-1: none); null: blocked. */
export function readTables(load: Load, unit: Programmed, source: number, pasid: number, address: bigint, write: boolean): bigint | null {
  if (!unit.enabled) {
    return pasid < 0 ? address : null;
  }
  // 9.1, 9.2: a root entry of 16 bytes for each bus; in scalable mode a half for each 16 devices.
  const devfn = source & 0xff;
  const root = load(unit.root + BigInt((source >> 8) * 16 + (unit.scalable && devfn >= 0x80 ? 8 : 0)));
  if (root === null || (root & 1n) === 0n) {
    return null;
  }
  return unit.scalable ? readScalable(load, unit, (root & ADDRESS) + BigInt((devfn & 0x7f) * 32), pasid, address, write) : readLegacy(load, unit, (root & ADDRESS) + BigInt(devfn * 16), pasid, address, write);
}

/** 9.3. */
function readLegacy(load: Load, unit: Programmed, entry: bigint, pasid: number, address: bigint, write: boolean): bigint | null {
  const low = load(entry);
  const high = load(entry + 8n);
  if (low === null || high === null || (low & 1n) === 0n || pasid >= 0) {
    return null;
  }
  const type = (low >> 2n) & 3n;
  return type === 2n ? address : type === 3n ? null : secondStage(load, low & ADDRESS, Number(high & 7n) + 2, unit.addressBits, address, write);
}

/** 9.4 to 9.6. */
function readScalable(load: Load, unit: Programmed, context: bigint, pasid: number, address: bigint, write: boolean): bigint | null {
  const first = load(context);
  if (first === null || (first & 1n) === 0n) {
    return null;
  }
  const number = pasid < 0 ? 0 : pasid;
  // RID_PASID is 0 and no PASID of requests that have one (SGN.9).
  if (pasid === 0 || (pasid > 0 && ((first & 8n) === 0n || pasid >= 2 ** unit.pasidBits))) {
    return null;
  }
  if (number >> 6 >= 2 ** (Number((first >> 9n) & 7n) + 7)) {
    return null;
  }
  const directory = load((first & ADDRESS) + BigInt((number >> 6) * 8));
  if (directory === null || (directory & 1n) === 0n) {
    return null;
  }
  const entry = (directory & ADDRESS) + BigInt((number & 63) * 64);
  const word = load(entry);
  if (word === null || (word & 1n) === 0n) {
    return null;
  }
  switch (Number((word >> 6n) & 7n)) {
    case 1:
      return unit.firstStage ? firstStage(load, load(entry + 16n)! & ADDRESS, address, write) : null;
    case 2:
      return unit.firstStage ? null : secondStage(load, word & ADDRESS, Number((word >> 2n) & 7n) + 2, unit.addressBits, address, write);
    case 4:
      return address;
    default:
      return null;
  }
}

/** 3.6, 9.9: four levels; a request without privilege needs U/S, a write R/W, in every entry. */
function firstStage(load: Load, table: bigint, address: bigint, write: boolean): bigint | null {
  if (BigInt.asIntN(48, address) !== BigInt.asIntN(64, address)) {
    return null;
  }
  for (let level = 4, at = table; ; level--) {
    const entry = load(at + 8n * ((address >> BigInt(3 + 9 * level)) & 0x1ffn));
    if (entry === null || (entry & 1n) === 0n || (entry & 4n) === 0n || (write && (entry & 2n) === 0n)) {
      return null;
    }
    if (level === 1 || (level <= 3 && (entry & 0x80n) !== 0n)) {
      const inside = (1n << BigInt(3 + 9 * level)) - 1n;
      return (entry & ADDRESS & ~inside) | (address & inside);
    }
    at = entry & ADDRESS;
  }
}

/** 3.7, 9.10: a read needs R, a write W, in every entry. */
function secondStage(load: Load, table: bigint, levels: number, addressBits: number, address: bigint, write: boolean): bigint | null {
  if (address >> BigInt(Math.min(12 + 9 * levels, addressBits)) !== 0n) {
    return null;
  }
  for (let level = levels, at = table; ; level--) {
    const entry = load(at + 8n * ((address >> BigInt(3 + 9 * level)) & 0x1ffn));
    if (entry === null || (entry & (write ? 2n : 1n)) === 0n) {
      return null;
    }
    if (level === 1 || (level <= 3 && (entry & 0x80n) !== 0n)) {
      const inside = (1n << BigInt(3 + 9 * level)) - 1n;
      return (entry & ADDRESS & ~inside) | (address & inside);
    }
    at = entry & ADDRESS;
  }
}
