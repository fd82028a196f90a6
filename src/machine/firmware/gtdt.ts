/** Generic Timer Description Table (ACPI 6.5, 5.2.25): the timers of the processors. */
import { acpiTable, ByteWriter, type Oem } from "./acpi-table.js";

/** INTIDs of the timers' private interrupts (Arm DEN 0029, table 3). */
export const TIMER_INTIDS = { secure: 29, nonSecure: 30, virtual: 27, hypervisor: 26 } as const;
/** Level triggered, active high; the timer goes on while its processor sleeps. */
const ALWAYS_ON = 1 << 2;
const NOT_THERE = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] as const;

export function buildGtdt(oem?: Oem): Uint8Array {
  const { secure, nonSecure, virtual, hypervisor } = TIMER_INTIDS;
  const body = new ByteWriter()
    .raw(NOT_THERE) // counter's control base
    .int(0, 4)
    .int(secure, 4)
    .int(0, 4)
    .int(nonSecure, 4)
    .int(ALWAYS_ON, 4)
    .int(virtual, 4)
    .int(0, 4)
    .int(hypervisor, 4)
    .int(0, 4)
    .raw(NOT_THERE) // counter's read base
    .int(0, 4) // no platform timers
    .int(0, 4)
    .toBytes();
  return acpiTable("GTDT", 2, body, oem);
}
