/** Which memory, processors and devices are near one another: SRAT and SLIT (ACPI 6.5, 5.2.16 and 5.2.17). */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";
import type { HmatDescription } from "./hmat.js";

const LOCAL_APIC = { type: 0, bytes: 16 } as const;
const MEMORY = { type: 1, bytes: 40 } as const;
const LOCAL_X2APIC = { type: 2, bytes: 24 } as const;
const GICC = { type: 3, bytes: 18 } as const;
const INITIATOR = { type: 5, bytes: 32 } as const;
const PORT = { type: 6, bytes: 32 } as const;
const ENABLED = 1;
const HOT_PLUGGABLE = 2;
/** Kinds of device handles (5.2.16.6). */
const [ACPI_HANDLE, PCI_HANDLE] = [0, 1];
/** APIC ids from here on need the x2APIC structures. */
export const X2APIC_FROM = 255;

export interface NumaMemory {
  readonly base: number;
  readonly size: number;
  readonly node: number;
}

/** A function that asks for memory as processors do, and the node that is its own. */
export interface GenericInitiator {
  readonly node: number;
  readonly bus: number;
  readonly devfn: number;
}

/** A host bridge of CXL, behind which memory may come. */
export interface GenericPort {
  readonly node: number;
  readonly hid: string;
  readonly uid: number;
}

/** Nodes of a machine, but for its processors and RAM. */
export interface NumaDescription {
  readonly nodes: number;
  readonly initiators: readonly GenericInitiator[];
  readonly ports: readonly GenericPort[];
  /** Where memory devices may come; null: nowhere. */
  readonly pluggable: { readonly base: number; readonly size: number } | null;
  /** From each node to each, by rows; null: not told. */
  readonly distances: ReadonlyArray<readonly number[]> | null;
  readonly hmat: HmatDescription | null;
}

/** Of a machine with GICs. @param processors node of each, by its ACPI UID */
export function buildArmSrat(processors: readonly number[], memory: readonly NumaMemory[], numa: NumaDescription, oem?: Oem): Uint8Array {
  const body = new ByteWriter().int(1, 4).int(0, 8);
  processors.forEach((node, uid) => body.int(GICC.type, 1).int(GICC.bytes, 1).int(node, 4).int(uid, 4).int(ENABLED, 4).int(0, 4));
  memory.forEach((range) => memoryAffinity(body, range, ENABLED));
  others(body, numa);
  return acpiTable("SRAT", 3, body.toBytes(), oem);
}

/** Of a PC, as QEMU's, which has two more ranges of memory than nodes at the least. */
export function buildX86Srat(processors: ReadonlyArray<{ readonly apicId: number; readonly node: number }>, memory: readonly NumaMemory[], numa: NumaDescription, oem?: Oem): Uint8Array {
  const body = new ByteWriter().int(1, 4).int(0, 8);
  for (const { apicId, node } of processors) {
    if (apicId < X2APIC_FROM) {
      // Bits 31:8 of the node are at offset 9 (Table 5.50).
      body.int(LOCAL_APIC.type, 1).int(LOCAL_APIC.bytes, 1).int(node & 0xff, 1).int(apicId, 1).int(ENABLED, 4).int(0, 1).int(node >>> 8, 3).int(0, 4);
    } else {
      body.int(LOCAL_X2APIC.type, 1).int(LOCAL_X2APIC.bytes, 1).int(0, 2).int(node, 4).int(apicId, 4).int(ENABLED, 4).int(0, 8);
    }
  }
  memory.forEach((range) => memoryAffinity(body, range, ENABLED));
  for (let unused = memory.length; unused < numa.nodes + 2; unused++) {
    body.int(MEMORY.type, 1).int(MEMORY.bytes, 1).int(0, MEMORY.bytes - 2);
  }
  others(body, numa);
  return acpiTable("SRAT", 1, body.toBytes(), oem);
}

/** Memory that may come is told to be of the last node: where it goes is known when it comes. */
function others(body: ByteWriter, { nodes, initiators, ports, pluggable }: NumaDescription): void {
  for (const { node, bus, devfn } of initiators) {
    body.int(INITIATOR.type, 1).int(INITIATOR.bytes, 1).int(0, 1).int(PCI_HANDLE, 1).int(node, 4);
    body.int(0, 2).int(bus, 1).int(devfn, 1).int(0, 12).int(ENABLED, 4).int(0, 4);
  }
  for (const { node, hid, uid } of ports) {
    body.int(PORT.type, 1).int(PORT.bytes, 1).int(0, 1).int(ACPI_HANDLE, 1).int(node, 4);
    body.text(hid, 8).int(uid, 4).int(0, 4).int(ENABLED, 4).int(0, 4);
  }
  if (pluggable !== null) {
    memoryAffinity(body, { ...pluggable, node: nodes - 1 }, ENABLED | HOT_PLUGGABLE);
  }
}

function memoryAffinity(body: ByteWriter, { base, size, node }: NumaMemory, flags: number): void {
  body.int(MEMORY.type, 1).int(MEMORY.bytes, 1).int(node, 4).int(0, 2).int(base, 8).int(size, 8).int(0, 4).int(flags, 4).int(0, 8);
}

/** @param distances from each node to each, by rows */
export function buildSlit(distances: ReadonlyArray<readonly number[]>, oem?: Oem): Uint8Array {
  const body = new ByteWriter().int(distances.length, 8);
  distances.flat().forEach((distance) => body.int(distance, 1));
  return acpiTable("SLIT", 1, body.toBytes(), oem);
}
