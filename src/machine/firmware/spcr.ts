/** Serial Port Console Redirection table (Microsoft, revision 2): where early messages go. */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";
import { FIRST_SPI, type PlatformDevice } from "./description.js";

const INTERFACE_PL011 = 3;
const INTERRUPT_GIC = 1 << 3;
const BAUD_115200 = 7;
const NO_PCI = 0xffff;

export function buildSpcr({ base, spi }: PlatformDevice, oem?: Oem): Uint8Array {
  const body = new ByteWriter()
    .int(INTERFACE_PL011, 1)
    .int(0, 3)
    .int(0, 1) // generic address: system memory, 32 bits, DWord accesses
    .int(32, 1)
    .int(0, 1)
    .int(3, 1)
    .int(base, 8)
    .int(INTERRUPT_GIC, 1)
    .int(0, 1)
    .int(FIRST_SPI + spi, 4)
    .int(BAUD_115200, 1)
    .int(0, 1) // no parity
    .int(1, 1) // one stop bit
    .int(0, 1) // no flow control
    .int(0, 1) // terminal: VT100
    .int(0, 1)
    .int(NO_PCI, 2)
    .int(NO_PCI, 2)
    .int(0, 3)
    .int(0, 4)
    .int(0, 1)
    .int(0, 4)
    .toBytes();
  return acpiTable("SPCR", 2, body, oem);
}
