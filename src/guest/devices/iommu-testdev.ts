/**
 * QEMU's iommu-testdev, 1b36:0005 (QEMU documentation, specs/iommu-testdev): writes a pattern through an IOVA
 * and reads it back at the guest-physical address that the driver expects.
 */
import type { PciFunction } from "../pci/function.js";
import type { DmaDevice, DmaOutcome, DmaRequest } from "./dma-device.js";

const TRIGGER = 0x00;
const IOVA_LOW = 0x04;
const IOVA_HIGH = 0x08;
const LENGTH = 0x0c;
const RESULT = 0x10;
const DOORBELL = 0x14;
const ATTRIBUTES = 0x18;
const GPA_LOW = 0x1c;
const GPA_HIGH = 0x20;
/** Attributes valid, Non-secure space. */
const NON_SECURE = (1 << 3) | (1 << 1);
const PATTERN = Uint8Array.of(0x78, 0x56, 0x34, 0x12);
const TRANSFER_BYTES = PATTERN.length;
const BUSY = 0xffff_fffe;
const WRITE_FAILED = 0xdead_0002;
const READ_FAILED = 0xdead_0003;
const MISMATCH = 0xdead_0004;

export class IommuTestdev implements DmaDevice {
  readonly kind = "iommu-testdev";
  readonly features = {
    pasid: false,
    ats: false,
    maxLength: TRANSFER_BYTES,
    addressLimit: Number.MAX_SAFE_INTEGER,
    readsSource: false,
    raises: false,
    faults: true,
    stops: true,
  };

  constructor(
    readonly fn: PciFunction,
    private readonly base: number,
  ) {}

  refresh(): Promise<void> {
    return Promise.resolve();
  }

  async transfer(request: DmaRequest, physical: number): Promise<DmaOutcome> {
    await this.write(IOVA_LOW, Number(request.destination & 0xffff_ffffn));
    await this.write(IOVA_HIGH, Number(request.destination >> 32n));
    await this.write(GPA_LOW, physical % 0x1_0000_0000);
    await this.write(GPA_HIGH, Math.floor(physical / 0x1_0000_0000));
    await this.write(LENGTH, TRANSFER_BYTES);
    await this.write(ATTRIBUTES, NON_SECURE);
    await this.write(DOORBELL, 1);
    await this.fn.port.read(this.base + TRIGGER, 4);
    let result = BUSY;
    for (let i = 0; i < 1000 && result === BUSY; i++) {
      result = Number(await this.fn.port.read(this.base + RESULT, 4));
    }
    return {
      ok: result === 0,
      faulted: result === WRITE_FAILED || result === READ_FAILED || result === MISMATCH,
      faultAddress: result === WRITE_FAILED ? request.destination : null,
      detail: `result 0x${result.toString(16)}`,
    };
  }

  private write(register: number, value: number): Promise<void> {
    return this.fn.port.write(this.base + register, 4, BigInt(value >>> 0));
  }

  expected(): Uint8Array {
    return PATTERN;
  }

  raise(): Promise<void> {
    return Promise.resolve();
  }

  acknowledge(): Promise<void> {
    return Promise.resolve();
  }
}
