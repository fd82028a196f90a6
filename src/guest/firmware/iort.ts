/** IORT: IO Remapping Table (Arm DEN 0049E.e, revision 5 of the table): ITS groups, SMMUv3s, root complexes, RMRs. */
import { GuestFailure } from "../failure.js";
import type { IdMap, ReservedWindow, SmmuDescription } from "./description.js";

const ITS_GROUP = 0;
const ROOT_COMPLEX = 2;
const SMMUV3 = 4;
const RMR = 6;
const NODE_HEADER_BYTES = 16;
const ID_MAPPING_BYTES = 20;
/** Flag of an ID mapping: the single output is OUTPUT_BASE, the input is not looked at. */
const SINGLE_MAPPING = 1;

interface IdMapping {
  readonly inputBase: number;
  /** Number of ids; the table holds one less. */
  readonly count: number;
  readonly outputBase: number;
  /** Offset of the node that the ids are for, from the table's start. */
  readonly reference: number;
  readonly single: boolean;
}

interface Node {
  readonly type: number;
  readonly offset: number;
  readonly mappings: readonly IdMapping[];
}

export interface RootComplex {
  readonly segment: number;
  readonly ats: boolean;
  readonly streamMaps: readonly IdMap[];
  readonly msiMaps: readonly IdMap[];
}

export interface Iort {
  readonly smmus: readonly SmmuDescription[];
  readonly rootComplexes: readonly RootComplex[];
  readonly reservedWindows: readonly ReservedWindow[];
}

/** Reads the table. Throws GuestFailure where a node or a mapping lies outside of it or refers to no node. */
export function parseIort(view: DataView): Iort {
  const nodes = readNodes(view);
  const byOffset = new Map(nodes.map((node) => [node.offset, node]));
  for (const node of nodes) {
    for (const mapping of node.mappings) {
      if (!byOffset.has(mapping.reference)) {
        throw new GuestFailure(`IORT: a mapping of the node at ${node.offset} refers to ${mapping.reference}, where no node is`);
      }
    }
  }
  const smmuNodes = nodes.filter((node) => node.type === SMMUV3);
  const smmuIndex = (reference: number): number => smmuNodes.findIndex((node) => node.offset === reference);
  return {
    smmus: smmuNodes.map((node) => describeSmmu(view, node)),
    rootComplexes: nodes
      .filter((node) => node.type === ROOT_COMPLEX)
      .map((node) => describeRootComplex(view, node, byOffset, smmuIndex)),
    reservedWindows: nodes.filter((node) => node.type === RMR).flatMap((node) => describeRmr(view, node, smmuIndex)),
  };
}

function readNodes(view: DataView): Node[] {
  const count = view.getUint32(36, true);
  const nodes: Node[] = [];
  let at = view.getUint32(40, true);
  for (let i = 0; i < count; i++) {
    if (at + NODE_HEADER_BYTES > view.byteLength) {
      throw new GuestFailure(`IORT: node ${i} of ${count} begins beyond the table's end`);
    }
    const length = view.getUint16(at + 1, true);
    const mappingCount = view.getUint32(at + 8, true);
    const mappingOffset = view.getUint32(at + 12, true);
    if (length < NODE_HEADER_BYTES || at + length > view.byteLength || mappingOffset + mappingCount * ID_MAPPING_BYTES > length) {
      throw new GuestFailure(`IORT: the node at ${at} does not hold what it claims`);
    }
    const mappings = Array.from({ length: mappingCount }, (_, n): IdMapping => {
      const m = at + mappingOffset + n * ID_MAPPING_BYTES;
      return {
        inputBase: view.getUint32(m, true),
        count: view.getUint32(m + 4, true) + 1,
        outputBase: view.getUint32(m + 8, true),
        reference: view.getUint32(m + 12, true),
        single: (view.getUint32(m + 16, true) & SINGLE_MAPPING) !== 0,
      };
    });
    nodes.push({ type: view.getUint8(at), offset: at, mappings });
    at += length;
  }
  return nodes;
}

function describeSmmu(view: DataView, node: Node): SmmuDescription {
  const base = Number(view.getBigUint64(node.offset + 16, true));
  const gsiv = (at: number): number | undefined => view.getUint32(node.offset + at, true) || undefined;
  return {
    name: `smmuv3@${base.toString(16)}`,
    base,
    coherent: (view.getUint32(node.offset + 24, true) & 1) !== 0,
    interrupts: { eventq: gsiv(44), priq: gsiv(48), gerror: gsiv(52), cmdqSync: gsiv(56) },
  };
}

function describeRootComplex(
  view: DataView,
  node: Node,
  byOffset: ReadonlyMap<number, Node>,
  smmuIndex: (reference: number) => number,
): RootComplex {
  const streamMaps: IdMap[] = [];
  const msiMaps: IdMap[] = [];
  for (const mapping of node.mappings) {
    const target = byOffset.get(mapping.reference);
    const direct = { ridBase: mapping.inputBase, length: mapping.count, outputBase: mapping.outputBase };
    if (target?.type === SMMUV3) {
      streamMaps.push({ ...direct, smmu: smmuIndex(mapping.reference) });
      msiMaps.push(...throughSmmu(direct, target, byOffset));
    } else if (target?.type === ITS_GROUP) {
      msiMaps.push({ ...direct, smmu: -1 });
    }
  }
  return {
    segment: view.getUint32(node.offset + 28, true),
    ats: (view.getUint32(node.offset + 24, true) & 1) !== 0,
    streamMaps,
    msiMaps,
  };
}

/** StreamIDs to DeviceIDs: the part of an SMMU's mappings to the ITS that the requester ids come to. */
function throughSmmu(
  direct: { ridBase: number; length: number; outputBase: number },
  smmu: Node,
  byOffset: ReadonlyMap<number, Node>,
): IdMap[] {
  return smmu.mappings
    .filter((mapping) => !mapping.single && byOffset.get(mapping.reference)?.type === ITS_GROUP)
    .flatMap((mapping) => {
      const from = Math.max(direct.outputBase, mapping.inputBase);
      const to = Math.min(direct.outputBase + direct.length, mapping.inputBase + mapping.count);
      return from >= to
        ? []
        : [
            {
              ridBase: direct.ridBase + (from - direct.outputBase),
              length: to - from,
              outputBase: mapping.outputBase + (from - mapping.inputBase),
              smmu: -1,
            },
          ];
    });
}

/** RMR node: flags, ranges, and for which streams (DEN 0049E.e, 3.1.1.5). Attributes above Device-GRE are Normal memory. */
function describeRmr(view: DataView, node: Node, smmuIndex: (reference: number) => number): ReservedWindow[] {
  const flags = view.getUint32(node.offset + 16, true);
  const count = view.getUint32(node.offset + 20, true);
  const ranges = node.offset + view.getUint32(node.offset + 24, true);
  const out: ReservedWindow[] = [];
  for (let i = 0; i < count; i++) {
    const at = ranges + i * 20;
    if (at + 20 > view.byteLength) {
      throw new GuestFailure(`IORT: the reserved memory ranges at ${ranges} go beyond the table's end`);
    }
    for (const mapping of node.mappings) {
      const smmu = smmuIndex(mapping.reference);
      if (smmu >= 0) {
        out.push({
          base: Number(view.getBigUint64(at, true)),
          size: Number(view.getBigUint64(at + 8, true)),
          identity: true,
          device: ((flags >> 2) & 0xff) <= 3,
          iommu: smmu,
          streams: [mapping.outputBase, mapping.outputBase + mapping.count - 1],
        });
      }
    }
  }
  return out;
}
