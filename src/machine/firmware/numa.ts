/** Which memory and processors are near one another: SRAT and SLIT (ACPI 6.5, 5.2.16 and 5.2.17). */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";

const MEMORY = { type: 1, bytes: 40 } as const;
const LOCAL_APIC = { type: 0, bytes: 16 } as const;
const GICC = { type: 3, bytes: 18 } as const;
const ENABLED = 1;

export interface NumaMemory {
  readonly base: number;
  readonly size: number;
  readonly node: number;
}

/** Of a machine with GICs. @param processors node of each, by its ACPI UID */
export function buildArmSrat(processors: readonly number[], memory: readonly NumaMemory[], oem?: Oem): Uint8Array {
  const body = new ByteWriter().int(1, 4).int(0, 8);
  processors.forEach((node, uid) => body.int(GICC.type, 1).int(GICC.bytes, 1).int(node, 4).int(uid, 4).int(ENABLED, 4).int(0, 4));
  memory.forEach((range) => memoryAffinity(body, range));
  return acpiTable("SRAT", 3, body.toBytes(), oem);
}

/** Of a PC, as QEMU's, which fills up to `ranges` of memory. @param processors node of each, by its local APIC's id, all below 255 */
export function buildX86Srat(processors: readonly number[], memory: readonly NumaMemory[], ranges: number, oem?: Oem): Uint8Array {
  const body = new ByteWriter().int(1, 4).int(0, 8);
  // Bits 31:8 of the node are at offset 9 (Table 5.50).
  processors.forEach((node, id) => body.int(LOCAL_APIC.type, 1).int(LOCAL_APIC.bytes, 1).int(node & 0xff, 1).int(id, 1).int(ENABLED, 4).int(0, 1).int(node >>> 8, 3).int(0, 4));
  memory.forEach((range) => memoryAffinity(body, range));
  for (let unused = memory.length; unused < ranges; unused++) {
    body.int(MEMORY.type, 1).int(MEMORY.bytes, 1).int(0, MEMORY.bytes - 2);
  }
  return acpiTable("SRAT", 1, body.toBytes(), oem);
}

function memoryAffinity(body: ByteWriter, { base, size, node }: NumaMemory): void {
  body.int(MEMORY.type, 1).int(MEMORY.bytes, 1).int(node, 4).int(0, 2).int(base, 8).int(size, 8).int(0, 4).int(ENABLED, 4).int(0, 8);
}

/** @param distances from each node to each, by rows */
export function buildSlit(distances: ReadonlyArray<readonly number[]>, oem?: Oem): Uint8Array {
  const body = new ByteWriter().int(distances.length, 8);
  distances.flat().forEach((distance) => body.int(distance, 1));
  return acpiTable("SLIT", 1, body.toBytes(), oem);
}
