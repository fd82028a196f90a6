/** Multiple APIC Description Table of the virt board (ACPI 6.5, 5.2.12.14 to 18): processors, distributor, redistributors, ITS or GICv2m frame. */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";
import { affinityOf, type FirmwareDescription, FIRST_SPI } from "./description.js";

const GICC = { type: 11, bytes: 80 } as const;
const GICD = { type: 12, bytes: 24 } as const;
const GIC_MSI_FRAME = { type: 13, bytes: 24 } as const;
const GICR = { type: 14, bytes: 16 } as const;
const ITS = { type: 15, bytes: 20 } as const;
const ENABLED = 1;

export function buildArmMadt({ cpus, interrupts }: FirmwareDescription, oem?: Oem): Uint8Array {
  const { gicVersion, distributor, second, its, v2m } = interrupts;
  const body = new ByteWriter().int(0, 4).int(0, 4);
  for (let cpu = 0; cpu < cpus; cpu++) {
    body
      .int(GICC.type, 1)
      .int(GICC.bytes, 1)
      .int(0, 2)
      .int(cpu, 4) // CPU interface number
      .int(cpu, 4) // _UID of the processor's device
      .int(ENABLED, 4)
      .int(0, 4) // no parking protocol
      .int(0, 4) // no performance interrupt
      .int(0, 8)
      .int(gicVersion === 2 ? second.base : 0, 8) // of a GICv2; a GICv3's are system registers
      .int(0, 8)
      .int(0, 8)
      .int(0, 4) // no maintenance interrupt: no EL2
      .int(0, 8) // redistributors have a structure of their own
      .int(affinityOf(cpu), 8)
      .int(0, 1)
      .int(0, 1)
      .int(0, 2);
  }
  body.int(GICD.type, 1).int(GICD.bytes, 1).int(0, 2).int(0, 4).int(distributor.base, 8).int(0, 4).int(gicVersion, 1).int(0, 3);
  if (gicVersion !== 2) {
    body.int(GICR.type, 1).int(GICR.bytes, 1).int(0, 2).int(second.base, 8).int(second.size, 4);
  }
  if (its !== null) {
    body.int(ITS.type, 1).int(ITS.bytes, 1).int(0, 2).int(0, 4).int(its.base, 8).int(0, 4);
  }
  if (v2m !== null) {
    body.int(GIC_MSI_FRAME.type, 1).int(GIC_MSI_FRAME.bytes, 1).int(0, 2).int(0, 4).int(v2m.base, 8).int(1, 4).int(v2m.spis, 2).int(FIRST_SPI + v2m.spi, 2);
  }
  return acpiTable("APIC", 5, body.toBytes(), oem);
}
