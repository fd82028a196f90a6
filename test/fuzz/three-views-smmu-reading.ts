/**
 * A plain reading of a guest's SMMUv3 tables, from the specification alone (Arm IHI 0070, 5.1 to 5.4; DDI 0487 D8):
 * where a transaction has to come out when nothing is cached. Nothing of `src` is used.
 */

/** A 64-bit word of guest memory; null where there is none. */
export type Load = (address: bigint) => bigint | null;

export interface Programmed {
  /** CR0.SMMUEN. */
  readonly enabled: boolean;
  /** GBPA.ABORT. */
  readonly aborts: boolean;
  /** STRTAB_BASE; STRTAB_BASE_CFG: two levels, SPLIT, LOG2SIZE. */
  readonly table: bigint;
  readonly twoLevel: boolean;
  readonly split: number;
  readonly size: number;
  /** IDR1.SSIDSIZE. */
  readonly substreamBits: number;
}

const POINTER = 0x00ff_ffff_ffff_ffc0n;
const ADDRESS = 0x0000_ffff_ffff_f000n;

/** The guest-physical address behind an input address of a stream and SubstreamID (-1: none); null: terminated. */
export function readStreams(load: Load, smmu: Programmed, stream: number, substream: number, address: bigint, write: boolean): bigint | null {
  if (!smmu.enabled) {
    return smmu.aborts ? null : address;
  }
  const entry = streamEntry(load, smmu, stream);
  const first = entry === null ? null : load(entry);
  if (entry === null || first === null || (first & 1n) === 0n) {
    return null;
  }
  const config = (first >> 1n) & 7n;
  if (config === 4n) {
    return substream < 0 ? address : null;
  }
  if (config !== 5n) {
    return null;
  }
  // 5.2: S1CDMax counts and S1DSS says what a transaction without SubstreamID does, where there are substreams.
  const bits = smmu.substreamBits === 0 ? 0 : Number(first >> 59n);
  let index = 0;
  if (bits === 0) {
    if (substream >= 0) {
      return null;
    }
  } else if (substream < 0) {
    const rule = load(entry + 8n)! & 3n;
    if (rule === 0n) {
      return null;
    }
    if (rule === 1n) {
      return address;
    }
  } else {
    index = substream;
    if (substream >= 2 ** bits || (substream === 0 && (load(entry + 8n)! & 3n) === 2n)) {
      return null;
    }
  }
  const descriptor = contextDescriptor(load, first & POINTER, bits === 0 ? 0 : Number((first >> 4n) & 3n), index);
  const word = descriptor === null ? null : load(descriptor);
  if (descriptor === null || word === null || (word & (1n << 31n)) === 0n) {
    return null;
  }
  return walk(load, load(descriptor + 8n)! & ADDRESS, address, write);
}

/** 5.1: linear, or level 1 descriptors with a span each. */
function streamEntry(load: Load, smmu: Programmed, stream: number): bigint | null {
  if (stream >= 2 ** smmu.size) {
    return null;
  }
  if (!smmu.twoLevel) {
    return smmu.table + BigInt(64 * stream);
  }
  const level1 = load(smmu.table + BigInt(8 * (stream >> smmu.split)));
  const span = level1 === null ? 0 : Number(level1 & 31n);
  const index = stream & (2 ** smmu.split - 1);
  return level1 === null || span === 0 || index >= 2 ** (span - 1) ? null : (level1 & POINTER) + BigInt(64 * index);
}

/** 5.3: one table, or leaf tables of 64 or 1024. */
function contextDescriptor(load: Load, table: bigint, format: number, index: number): bigint | null {
  if (format === 0) {
    return table + BigInt(64 * index);
  }
  const leafBits = format === 1 ? 6 : 10;
  const level1 = load(table + BigInt(8 * (index >> leafBits)));
  return level1 === null || (level1 & 1n) === 0n ? null : (level1 & ADDRESS) + BigInt(64 * (index & (2 ** leafBits - 1)));
}

/** D8.3: granule 4K, 48 bits, TTBR0 alone; an unprivileged access needs AP[1], a write no AP[2]; tables may take both away. */
function walk(load: Load, table: bigint, address: bigint, write: boolean): bigint | null {
  if (address >> 48n !== 0n) {
    return null;
  }
  for (let level = 0, at = table; ; level++) {
    const shift = BigInt(39 - 9 * level);
    const entry = load(at + 8n * ((address >> shift) & 0x1ffn));
    if (entry === null || (entry & 1n) === 0n) {
      return null;
    }
    if (level < 3 && (entry & 2n) !== 0n) {
      if ((entry & (1n << 61n)) !== 0n || (write && (entry & (1n << 62n)) !== 0n)) {
        return null;
      }
      at = entry & ADDRESS;
      continue;
    }
    if (level === 0 || (level === 3) !== ((entry & 2n) !== 0n) || (entry & 0x40n) === 0n || (write && (entry & 0x80n) !== 0n) || (entry & 0x400n) === 0n) {
      return null;
    }
    const inside = (1n << shift) - 1n;
    return (entry & ADDRESS & ~inside) | (address & inside);
  }
}
