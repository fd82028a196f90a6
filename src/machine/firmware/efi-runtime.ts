/**
 * EFI's runtime services as far as there are any (UEFI 2.10, chapter 8): GetTime, which Linux wants beside the other
 * services of time before it has a clock. Linux calls them at the virtual addresses that the memory map gives.
 */
import { crc32 } from "node:zlib";
import { ByteWriter } from "./acpi-table.js";

export const CODE_VIRTUAL = 0x2000_0000;
export const TABLE_VIRTUAL = 0x2001_0000;
/** Registers with an EFI_TIME of the moment. */
export const CLOCK_VIRTUAL = 0x2002_0000;

/** EFI_RT_PROPERTIES_TABLE (4.6.2): GetTime, SetTime, GetWakeupTime, SetWakeupTime. Those that cannot are there and say so. */
export const TIME_SERVICES = 0xf;

/** A64 instructions. x0 is the EFI_TIME to fill; the result is EFI_STATUS. */
const GET_TIME = [
  0xd2a4_0042, // movz x2, #0x2002, lsl #16
  0xf940_0043, // ldr x3, [x2]
  0xf940_0444, // ldr x4, [x2, #8]
  0xa900_1003, // stp x3, x4, [x0]
  0xd280_0000, // mov x0, #0
  0xd65f_03c0, // ret
] as const;
/** EFI_UNSUPPORTED. */
const UNSUPPORTED = [
  0xd280_0060, // mov x0, #3
  0xf2f0_0000, // movk x0, #0x8000, lsl #48
  0xd65f_03c0, // ret
] as const;

export function runtimeCode(): Uint8Array {
  const out = new ByteWriter();
  [...GET_TIME, ...UNSUPPORTED].forEach((instruction) => out.int(instruction, 4));
  return out.toBytes();
}

const SIGNATURE = "RUNTSERV";
const REVISION = (2 << 16) | 70;
const BYTES = 136;
/** Functions of the table (4.5): GetTime is the first. */
const FUNCTIONS = 14;

export function runtimeTable(): Uint8Array {
  const unsupported = CODE_VIRTUAL + 4 * GET_TIME.length;
  const out = new ByteWriter().text(SIGNATURE, 8).int(REVISION, 4).int(BYTES, 4).int(0, 4).int(0, 4).int(CODE_VIRTUAL, 8);
  for (let n = 1; n < FUNCTIONS; n++) {
    out.int(unsupported, 8);
  }
  const table = out.toBytes();
  new DataView(table.buffer).setUint32(16, crc32(table), true);
  return table;
}
