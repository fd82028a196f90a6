/** Fixed ACPI Description Table (ACPI 6.5, 5.2.9) of a PC with ACPI hardware, the FACS that such hardware has (5.2.10), and the table of a machine without it. */
import { acpiTable, ByteWriter, HEADER_BYTES, type Oem } from "./acpi-table.js";

/** I/O ports of the ACPI hardware, and its interrupt. */
export interface AcpiHardware {
  readonly sciInterrupt: number;
  /** PM1a_EVT_BLK (4 bytes), PM1a_CNT_BLK (2), PM_TMR_BLK (4). */
  readonly eventPort: number;
  readonly controlPort: number;
  readonly timerPort: number;
  readonly resetPort: number;
  readonly resetValue: number;
}

/** Byte offsets in the table: what points elsewhere. */
export const FADT_POINTERS = [
  { to: "FACS", offset: 36, size: 4 },
  { to: "DSDT", offset: 40, size: 4 },
  { to: "DSDT", offset: 140, size: 8 },
] as const;

/** Table 5.10: WBINVD works, C1 on every processor, no sleep button, reset register, APICs are to be used. */
const FLAGS = (1 << 0) | (1 << 2) | (1 << 5) | (1 << 10);
/** Table 5.11: no VGA hardware, no CMOS real-time clock. */
const BOOT_ARCHITECTURE = (1 << 2) | (1 << 5);
/** "Not supported" of C2 and C3 latencies. */
const NO_C2 = 0xfff;
const NO_C3 = 0xfff;
const REVISION = 6;
const BYTES = 276;
const SYSTEM_IO = 1;

/** @param addresses guest-physical, of the FACS and the DSDT */
export function buildFadt(hardware: AcpiHardware, addresses: { readonly facs: number; readonly dsdt: number }, oem?: Oem): Uint8Array {
  const body = new Uint8Array(BYTES - HEADER_BYTES);
  const put = (offset: number, value: number, size: number): void => body.set(new ByteWriter().int(value, size).toBytes(), offset - HEADER_BYTES);
  const port = (offset: number, address: number, bytes: number): void => {
    put(offset, SYSTEM_IO, 1);
    put(offset + 1, 8 * bytes, 1);
    put(offset + 3, Math.min(bytes, 4) === 4 ? 3 : bytes, 1);
    put(offset + 4, address, 8);
  };
  put(36, addresses.facs, 4);
  put(40, addresses.dsdt, 4);
  put(46, hardware.sciInterrupt, 2);
  put(56, hardware.eventPort, 4);
  put(64, hardware.controlPort, 4);
  put(76, hardware.timerPort, 4);
  put(88, 4, 1);
  put(89, 2, 1);
  put(91, 4, 1);
  put(96, NO_C2, 2);
  put(98, NO_C3, 2);
  put(109, BOOT_ARCHITECTURE, 2);
  put(112, FLAGS, 4);
  port(116, hardware.resetPort, 1);
  put(128, hardware.resetValue, 1);
  put(140, addresses.dsdt, 8);
  port(148, hardware.eventPort, 4);
  port(172, hardware.controlPort, 2);
  port(208, hardware.timerPort, 4);
  return acpiTable("FACP", REVISION, body, oem);
}

/** 64 bytes, without a checksum: version 2, nothing locked, no waking vector. */
export function buildFacs(): Uint8Array {
  return new ByteWriter().text("FACS", 4).int(64, 4).int(0, 4).int(0, 4).int(0, 4).int(0, 4).int(0, 8).int(2, 1).raw(new Uint8Array(31)).toBytes();
}

/** Table 5.10: the hardware-reduced model. Table 5.12: PSCI is there, and is called by HVC. */
const HARDWARE_REDUCED = 1 << 20;
const PSCI_BY_HVC = 0x3;
const MINOR_REVISION = 3;

/** Of a machine without ACPI hardware, such as Arm's. @param dsdt guest-physical address */
export function buildReducedFadt(dsdt: number, oem?: Oem): Uint8Array {
  const body = new Uint8Array(BYTES - HEADER_BYTES);
  const put = (offset: number, value: number, size: number): void => body.set(new ByteWriter().int(value, size).toBytes(), offset - HEADER_BYTES);
  put(112, HARDWARE_REDUCED, 4);
  put(129, PSCI_BY_HVC, 2);
  put(131, MINOR_REVISION, 1);
  put(140, dsdt, 8);
  return acpiTable("FACP", REVISION, body, oem);
}
