/** The IO Remapping Table of a host's firmware (Arm DEN 0049E.e): which StreamIDs of which SMMU functions have, how their memory accesses behave, ranges mapped one to one. */

/** Functions of a root complex, by requester id, and their StreamIDs (3.1.1, ID mappings). */
interface IdMapping {
  readonly first: number;
  /** How many. */
  readonly count: number;
  readonly output: number;
  /** The node that it leads to. */
  readonly reference: number;
}

interface RootComplex {
  readonly segment: number;
  /** Memory access flags, CANWBS: accesses are coherent and cacheable whatever a device asks for. */
  readonly coherent: boolean;
  readonly mappings: readonly IdMapping[];
}

export interface IortStream {
  /** Base address of the SMMU's registers. */
  readonly smmu: bigint;
  readonly streamId: number;
  readonly coherent: boolean;
}

export interface IortRange {
  readonly base: bigint;
  readonly size: bigint;
  /** The firmware lets it be mapped elsewhere once the device is somebody's. */
  readonly relaxable: boolean;
}

const HEADER = 36;
const NODE_HEADER = 16;
const MAPPING = 20;
const DESCRIPTOR = 20;
const ROOT_COMPLEX = 2;
const SMMU_V3 = 4;
const RESERVED = 6;
const CANWBS = 1 << 2;
const SINGLE_MAPPING = 1;
const REMAP_PERMITTED = 1;
/** More nodes, mappings and ranges than a table of 64 KiB has. */
const MOST = 4096;

export class Iort {
  private readonly complexes: RootComplex[] = [];
  /** Base addresses of SMMUs by their nodes' offsets. */
  private readonly smmus = new Map<number, bigint>();
  private readonly reserved: Array<{ readonly ranges: readonly IortRange[]; readonly mappings: readonly IdMapping[] }> = [];

  private constructor() {}

  /** Null: the bytes are no such table. What in it leads out of it is left out. */
  static read(bytes: Uint8Array): Iort | null {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < HEADER + 12 || String.fromCharCode(...bytes.subarray(0, 4)) !== "IORT") {
      return null;
    }
    const table = new Iort();
    let at = view.getUint32(HEADER + 4, true);
    for (let left = Math.min(view.getUint32(HEADER, true), MOST); left > 0 && at + NODE_HEADER <= bytes.length; left--) {
      const length = view.getUint16(at + 1, true);
      if (length < NODE_HEADER || at + length > bytes.length) {
        break;
      }
      table.node(new DataView(bytes.buffer, bytes.byteOffset + at, length), at);
      at += length;
    }
    return table;
  }

  /** Of a function by its segment and requester id; null: the table has no SMMU for it. */
  streamOf(segment: number, requester: number): IortStream | null {
    for (const complex of this.complexes.filter((one) => one.segment === segment)) {
      for (const { first, count, output, reference } of complex.mappings) {
        const smmu = this.smmus.get(reference);
        if (smmu !== undefined && requester >= first && requester - first < count) {
          return { smmu, streamId: (output + requester - first) >>> 0, coherent: complex.coherent };
        }
      }
    }
    return null;
  }

  /** Whether accesses of all that is behind an SMMU are coherent whatever a device asks for; null: the table has nothing behind it. */
  isCoherent(smmu: bigint): boolean | null {
    const behind = this.complexes.filter(({ mappings }) => mappings.some(({ reference }) => this.smmus.get(reference) === smmu));
    return behind.length === 0 ? null : behind.every(({ coherent }) => coherent);
  }

  /** Ranges that are mapped one to one for a StreamID (3.1.1.5, RMR nodes). */
  rangesOf({ smmu, streamId }: IortStream): IortRange[] {
    return this.reserved.filter(({ mappings }) => mappings.some(({ output, count, reference }) => this.smmus.get(reference) === smmu && streamId >= output && streamId - output < count)).flatMap(({ ranges }) => ranges);
  }

  private node(node: DataView, offset: number): void {
    const mappings = mappingsOf(node);
    switch (node.getUint8(0)) {
      case ROOT_COMPLEX:
        // Memory access properties: the flags are their last byte.
        if (node.byteLength >= 32) {
          this.complexes.push({ segment: node.getUint32(28, true), coherent: (node.getUint8(23) & CANWBS) !== 0, mappings });
        }
        return;
      case SMMU_V3:
        if (node.byteLength >= 24) {
          this.smmus.set(offset, node.getBigUint64(16, true));
        }
        return;
      case RESERVED:
        if (node.byteLength >= 28) {
          this.reserved.push({ ranges: rangesOf(node), mappings });
        }
    }
  }
}

function mappingsOf(node: DataView): IdMapping[] {
  const [count, start] = [Math.min(node.getUint32(8, true), MOST), node.getUint32(12, true)];
  return Array.from({ length: count }, (_, n) => start + n * MAPPING)
    .filter((at) => at >= NODE_HEADER && at + MAPPING <= node.byteLength)
    .map((at) => {
      // One id for all: the input is not looked at (an RMR's, a component's).
      const single = (node.getUint32(at + 16, true) & SINGLE_MAPPING) !== 0;
      return { first: node.getUint32(at, true), count: single ? 1 : node.getUint32(at + 4, true) + 1, output: node.getUint32(at + 8, true), reference: node.getUint32(at + 12, true) };
    });
}

function rangesOf(node: DataView): IortRange[] {
  const relaxable = (node.getUint32(16, true) & REMAP_PERMITTED) !== 0;
  const [count, start] = [Math.min(node.getUint32(20, true), MOST), node.getUint32(24, true)];
  return Array.from({ length: count }, (_, n) => start + n * DESCRIPTOR)
    .filter((at) => at >= NODE_HEADER && at + DESCRIPTOR <= node.byteLength)
    .map((at) => ({ base: node.getBigUint64(at, true), size: node.getBigUint64(at + 8, true), relaxable }));
}
