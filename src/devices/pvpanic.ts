/**
 * pvpanic: a byte by which a guest tells that it has panicked (QEMU docs/specs/pvpanic.rst): an I/O port of a PC, and
 * BAR 0 of a PCI function.
 */
import { MemoryRegion, type MmioHandler } from "../memory/index.js";
import { hex, littleEndian, littleEndianBytes, type Log } from "../support/index.js";
import { EmulatedEndpoint, type EndpointOptions } from "./endpoint.js";

/** What it may tell: bits of the byte. */
export const PVPANIC_PANICKED = 1;
export const PVPANIC_CRASH_LOADED = 2;
export const PVPANIC_SHUTDOWN = 4;
const ALL = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED | PVPANIC_SHUTDOWN;

/** It has panicked; a crash kernel follows its panic; it asks to be shut down. */
export type GuestNews = "panicked" | "crash-loaded" | "shutdown";

export interface PvpanicOptions {
  /** What the byte reads as: bits that a guest may use. What it writes is not held against them, as in QEMU. */
  readonly events: number;
  readonly tell: (news: GuestNews) => void;
  readonly log: Log;
}

/** The byte, at every offset. */
export class PvpanicByte implements MmioHandler {
  constructor(private readonly options: PvpanicOptions) {}

  read(_offset: number, size: number): bigint {
    return littleEndian(new Uint8Array(size).fill(this.options.events));
  }

  /** One event a byte: of several bits the lowest counts. */
  write(_offset: number, size: number, value: bigint): void {
    littleEndianBytes(value, size).forEach((bits) => this.event(bits));
  }

  private event(bits: number): void {
    const { tell, log } = this.options;
    if ((bits & ~ALL) !== 0) {
      log.guestError("pvpanic", () => `pvpanic: unknown event ${hex(bits)}`);
    }
    if ((bits & PVPANIC_PANICKED) !== 0) {
      tell("panicked");
    } else if ((bits & PVPANIC_CRASH_LOADED) !== 0) {
      tell("crash-loaded");
    } else if ((bits & PVPANIC_SHUTDOWN) !== 0) {
      tell("shutdown");
    }
  }
}

const BYTES = 2;
/** The smallest BAR of memory (PCI Local Bus 3.0, 6.2.5.1); the byte is at its first two addresses, as in QEMU. */
const BAR_BYTES = 16;

export class PvpanicPci extends EmulatedEndpoint {
  constructor(options: EndpointOptions & PvpanicOptions) {
    super("pvpanic-pci", options, { vendorId: 0x1b36, deviceId: 0x0011, classCode: 0x088000, revision: 1, subsystemVendorId: 0x1af4, subsystemId: 0x1100 }, 256);
    const byte = MemoryRegion.mmio("pvpanic", BYTES, new PvpanicByte(options));
    const region = MemoryRegion.container("pvpanic-bar", BAR_BYTES);
    region.add(0, byte);
    this.addBar({ index: 0, size: BAR_BYTES, is64: false, prefetchable: false, region });
  }
}
