/** Multiple APIC Description Table (ACPI 6.5, 5.2.12) of a PC: local APICs, one IOAPIC, ISA interrupts that differ. */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";
import { X2APIC_FROM } from "./numa.js";
import type { X86Description } from "./x86-description.js";

const PCAT_COMPATIBLE = 1;
const ENABLED = 1;
/** Active high, level (ACPI 6.5, table 5.26). */
const ACTIVE_HIGH_LEVEL = 0x0d;
/** ISA interrupt, global system interrupt, flags: the timer is at pin 2; links of PCI interrupts may be any of 5, 9, 10, 11. */
const OVERRIDES = [
  [0, 2, 0],
  [5, 5, ACTIVE_HIGH_LEVEL],
  [9, 9, ACTIVE_HIGH_LEVEL],
  [10, 10, ACTIVE_HIGH_LEVEL],
  [11, 11, ACTIVE_HIGH_LEVEL],
] as const;

export function buildMadt(description: X86Description, oem?: Oem): Uint8Array {
  const { cpus, apicIds } = description;
  const body = new ByteWriter().int(description.localApicBase, 4).int(PCAT_COMPATIBLE, 4);
  apicIds.forEach((id, cpu) => {
    const flags = cpu < cpus ? ENABLED : 0;
    if (id < X2APIC_FROM) {
      body.int(0, 1).int(8, 1).int(cpu, 1).int(id, 1).int(flags, 4);
    } else {
      body.int(9, 1).int(16, 1).int(0, 2).int(id, 4).int(flags, 4).int(cpu, 4);
    }
  });
  body.int(1, 1).int(12, 1).int(0, 1).int(0, 1).int(description.ioapicBase, 4).int(0, 4);
  for (const [source, gsi, flags] of OVERRIDES) {
    body.int(2, 1).int(10, 1).int(0, 1).int(source, 1).int(gsi, 4).int(flags, 2);
  }
  // NMI at LINT1 of every processor.
  if (apicIds.some((id) => id >= X2APIC_FROM)) {
    body.int(10, 1).int(12, 1).int(0, 2).int(0xffff_ffff, 4).int(1, 1).int(0, 3);
  } else {
    body.int(4, 1).int(6, 1).int(0xff, 1).int(0, 2).int(1, 1);
  }
  return acpiTable("APIC", 3, body.toBytes(), oem);
}
