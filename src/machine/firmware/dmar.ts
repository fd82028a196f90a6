/**
 * DMA Remapping table (Intel VT-d 5.x, chapter 8): one unit with the scopes that QEMU's q35 lists, so that tables can
 * be compared byte for byte; then ATSR, RHSA and SATC, in the order of their types.
 */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";
import type { RemappingDescription, ScopeDescription } from "./x86-description.js";

const DRHD = 0;
const ATSR = 2;
const RHSA = 3;
const SATC = 5;
const SCOPE_ENDPOINT = 1;
const SCOPE_BRIDGE = 2;
const SCOPE_IOAPIC = 3;
const SCOPE_BYTES = 8;
const INTERRUPT_REMAPPING = 1;
const ALL_PORTS = 1;
/** The IOAPIC's number in the MADT. */
const IOAPIC_ID = 0;

export function buildDmar(unit: RemappingDescription, oem?: Oem): Uint8Array {
  const body = new ByteWriter()
    .int(unit.addressBits - 1, 1)
    .int(unit.interruptRemapping ? INTERRUPT_REMAPPING : 0, 1)
    .int(0, 10);

  const scopes = new ByteWriter();
  scope(scopes, SCOPE_IOAPIC, IOAPIC_ID, unit.ioapicRequesterId >> 8, unit.ioapicRequesterId & 0xff);
  unit.functions.forEach((fn) => functionScope(scopes, fn));
  body
    .int(DRHD, 2)
    .int(16 + scopes.length, 2)
    .int(0, 1) // INCLUDE_PCI_ALL is not set
    .int(0, 1) // 4 KiB of registers
    .int(0, 2)
    .int(unit.base, 8)
    .raw(scopes.toBytes());

  if (unit.ats) {
    body.int(ATSR, 2).int(8, 2).int(ALL_PORTS, 1).int(0, 1).int(0, 2);
  }
  if (unit.numaNode !== null) {
    body.int(RHSA, 2).int(20, 2).int(0, 4).int(unit.base, 8).int(unit.numaNode, 4);
  }
  if (unit.satc.length > 0) {
    body.int(SATC, 2).int(8 + SCOPE_BYTES * unit.satc.length, 2).int(0, 1).int(0, 1).int(0, 2);
    unit.satc.forEach((fn) => functionScope(body, fn));
  }
  return acpiTable("DMAR", 1, body.toBytes(), oem);
}

function functionScope(out: ByteWriter, { isBridge, bus, devfn }: ScopeDescription): void {
  scope(out, isBridge ? SCOPE_BRIDGE : SCOPE_ENDPOINT, 0, bus, devfn);
}

/** Device scope with a path of one step (8.3.1). */
function scope(out: ByteWriter, type: number, enumeration: number, bus: number, devfn: number): void {
  out.int(type, 1).int(SCOPE_BYTES, 1).int(0, 2).int(enumeration, 1).int(bus, 1).int(devfn >> 3, 1).int(devfn & 7, 1);
}
