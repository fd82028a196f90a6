/** The two doorbells of Arm machines that a message can be written to: the GICv3 ITS's and the GICv2m frame. */
import type { DmaAttributes, MmioHandler } from "../memory/index.js";
import type { Log } from "../support/index.js";

/** Who takes the interrupts. */
export interface InterruptSink {
  /** A message reached the ITS: device id (the requester id) and event id. */
  message(deviceId: number, eventId: number): void;
  /** A shared peripheral interrupt by its INTID, 32 and up; edge. */
  spi(intid: number): void;
}

/** GITS_TRANSLATER in the ITS's second page (Arm IHI 0069, 12.20). */
export const GITS_TRANSLATER = 0x0040;

/**
 * The ITS's translation page: the second 64 KiB of the ITS, 0x08090000 on virt. A 16- or 32-bit write of an
 * event id to GITS_TRANSLATER becomes an interrupt of the device that wrote it, known by its requester id.
 * The ITS's own tables (commands, collections) are not modelled: every pair of ids gets through. A write of a
 * CPU has no device id and is dropped, as are all other accesses.
 */
export class ItsDoorbell implements MmioHandler {
  constructor(
    private readonly sink: InterruptSink,
    private readonly log: Log,
  ) {}

  read(): bigint {
    return 0n;
  }

  write(offset: number, size: number, value: bigint, attributes?: DmaAttributes): void {
    if (offset !== GITS_TRANSLATER || (size !== 2 && size !== 4)) {
      this.log.guestError("its.write", `ITS translation page: write of ${size} bytes at 0x${offset.toString(16)} is dropped`);
      return;
    }
    if (attributes === undefined) {
      this.log.guestError("its.cpu", "GITS_TRANSLATER: a CPU's write has no device id and is dropped");
      return;
    }
    this.sink.message(attributes.requesterId, Number(value & 0xffff_ffffn));
  }
}

/** GICv2m registers (Arm SBSA 4.1, appendix E). */
const V2M_MSI_TYPER = 0x008;
const V2M_SETSPI_NS = 0x040;
const V2M_MSI_IIDR = 0xfcc;

/**
 * The GICv2m frame: a 32-bit write of an INTID in its range to SETSPI_NS raises that SPI; others are
 * ignored. `firstIntid` to `firstIntid + count - 1` (virt: 80, 64 of them).
 */
export class Gicv2mFrame implements MmioHandler {
  constructor(
    private readonly sink: InterruptSink,
    readonly firstIntid: number,
    readonly count: number,
  ) {}

  read(offset: number, size: number): bigint {
    if (size !== 4) {
      return 0n;
    }
    switch (offset) {
      case V2M_MSI_TYPER:
        return BigInt((this.firstIntid << 16) | this.count);
      case V2M_MSI_IIDR:
        // Product id 'Q' in 31:20, no implementer, as QEMU has it.
        return 0x5100000n;
      default:
        return 0n;
    }
  }

  write(offset: number, size: number, value: bigint): void {
    if (offset !== V2M_SETSPI_NS || (size !== 2 && size !== 4)) {
      return;
    }
    const intid = Number(value & 0x3ffn);
    if (intid >= this.firstIntid && intid < this.firstIntid + this.count) {
        this.sink.spi(intid);
    }
  }
}
