/** How fast memory is from where: HMAT (ACPI 6.5, 5.2.28), as QEMU makes it (hw/acpi/hmat.c). */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";

const PROXIMITY = { type: 0, bytes: 40 } as const;
const LOCALITY = { type: 1, bytes: 32 } as const;
const CACHE = { type: 2, bytes: 32 } as const;
const INITIATOR_VALID = 1;
/** What QEMU has for an initiator that nobody told. */
const NO_INITIATOR = 128;
/** Data types below are latencies. */
const FIRST_BANDWIDTH = 3;
const [PICOSECONDS, MEBIBYTE] = [1000n, 2n ** 20n];

export interface HmatDescription {
  /** Nodes with memory, each with the node that is nearest to it; null: not told. */
  readonly memory: ReadonlyArray<{ readonly node: number; readonly initiator: number | null }>;
  /** Nodes with processors or generic initiators. */
  readonly initiators: readonly number[];
  readonly localities: ReadonlyArray<{
    readonly hierarchy: number;
    readonly dataType: number;
    /** What entries count: nanoseconds, or bytes a second. */
    readonly base: bigint;
    readonly entries: ReadonlyArray<{ readonly initiator: number; readonly target: number; readonly value: bigint }>;
  }>;
  readonly caches: ReadonlyArray<{ readonly node: number; readonly size: number; readonly level: number; readonly associativity: number; readonly policy: number; readonly line: number }>;
}

/** @param nodes of the machine: each is a target */
export function buildHmat({ memory, initiators, localities, caches }: HmatDescription, nodes: number, oem?: Oem): Uint8Array {
  const body = new ByteWriter().int(0, 4);
  for (const { node, initiator } of memory) {
    body.int(PROXIMITY.type, 2).int(0, 2).int(PROXIMITY.bytes, 4);
    body.int(initiator === null ? 0 : INITIATOR_VALID, 2).int(0, 2).int(initiator ?? NO_INITIATOR, 4).int(node, 4).int(0, 20);
  }
  for (const { hierarchy, dataType, base, entries } of localities) {
    const rows = initiators.map(() => new Array<number>(nodes).fill(0));
    for (const { initiator, target, value } of entries) {
      rows[initiators.indexOf(initiator)][target] = Number(BigInt.asUintN(16, value / base));
    }
    const unit = BigInt.asUintN(32, dataType < FIRST_BANDWIDTH ? base * PICOSECONDS : base / MEBIBYTE);
    body.int(LOCALITY.type, 2).int(0, 2).int(LOCALITY.bytes + 4 * initiators.length + 4 * nodes + 2 * initiators.length * nodes, 4);
    body.int(hierarchy, 1).int(dataType, 1).int(0, 2).int(initiators.length, 4).int(nodes, 4).int(0, 4).int(Number(unit), 8);
    initiators.forEach((node) => body.int(node, 4));
    for (let target = 0; target < nodes; target++) {
      body.int(target, 4);
    }
    rows.flat().forEach((entry) => body.int(entry, 2));
  }
  for (const { node, size, level, associativity, policy, line } of caches) {
    const levels = caches.filter((one) => one.node === node).length;
    body.int(CACHE.type, 2).int(0, 2).int(CACHE.bytes, 4).int(node, 4).int(0, 4).int(size, 8);
    body.int(levels | (level << 4) | (associativity << 8) | (policy << 12), 2).int(line, 2).int(0, 4);
  }
  return acpiTable("HMAT", 2, body.toBytes(), oem);
}
