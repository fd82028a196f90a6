/**
 * QEMU's device for tests of IOMMUs: asked to, it writes a pattern through its IOMMU at an IOVA, reads
 * system memory at the address where it should have come out, and compares (QEMU hw/misc/iommu-testdev.c).
 */
import { DMA_OK, MemoryRegion, type DmaSpace, type MmioHandler } from "../memory/index.js";
import { EmulatedEndpoint, type EndpointOptions } from "./endpoint.js";

export interface IommuTestdevOptions extends EndpointOptions {
  /** Where the read-back looks: system memory, no IOMMU in between. */
  readonly systemMemory: DmaSpace;
}

const TRIGGER = 0x00;
const IOVA_LOW = 0x04;
const IOVA_HIGH = 0x08;
const LENGTH = 0x0c;
const RESULT = 0x10;
const DOORBELL = 0x14;
const ATTRIBUTES = 0x18;
const GPA_LOW = 0x1c;
const GPA_HIGH = 0x20;

export const TESTDEV_IDLE = 0xffff_ffff;
export const TESTDEV_BUSY = 0xffff_fffe;
export const TESTDEV_BAD_LENGTH = 0xdead_0001;
export const TESTDEV_WRITE_FAILED = 0xdead_0002;
export const TESTDEV_READ_FAILED = 0xdead_0003;
export const TESTDEV_MISMATCH = 0xdead_0004;
export const TESTDEV_NOT_ARMED = 0xdead_0005;
export const TESTDEV_BAD_ATTRIBUTES = 0xdead_0006;

const PATTERN = 0x1234_5678;
const SPACE_SECURE = 0;
const SPACE_NONSECURE = 1;
/** Attributes after reset: Non-secure, not marked valid. */
const RESET_ATTRIBUTES = SPACE_NONSECURE << 1;
/** Most bytes of one request here; QEMU takes what its memory takes. */
const MOST_BYTES = 0x10_0000;

/**
 * Registers (32 bits): 0x00 reading runs an armed request and gives 0; 0x04/0x08 IOVA; 0x0c length; 0x10 result;
 * 0x14 doorbell, writing bit 0 arms and clearing it disarms; 0x18 attributes (bit 0 secure, 2:1 space, bit 3
 * space valid); 0x1c/0x20 the guest-physical address to look at. Lengths above 1 MiB are a bad length.
 * Requests of the Secure, Root and Realm spaces fail: only Non-secure streams are modelled.
 */
export class IommuTestdev extends EmulatedEndpoint {
  private readonly systemMemory: DmaSpace;
  private iova = [0, 0];
  private gpa = [0, 0];
  private length = 0;
  private result = TESTDEV_IDLE;
  private attributes = RESET_ATTRIBUTES;
  private armed = false;

  constructor(options: IommuTestdevOptions) {
    super("iommu-testdev", options, { vendorId: 0x1b36, deviceId: 0x0005, classCode: 0x00ff00, subsystemVendorId: 0x1af4, subsystemId: 0x1100 }, 256);
    this.systemMemory = options.systemMemory;
    this.addBar({ index: 0, size: 0x1000, is64: false, prefetchable: false, region: MemoryRegion.mmio("iommu-testdev.bar0", 0x1000, this.mmio) });
  }

  override reset(): void {
    super.reset();
    this.iova = [0, 0];
    this.gpa = [0, 0];
    this.length = 0;
    this.result = TESTDEV_IDLE;
    this.attributes = RESET_ATTRIBUTES;
    this.armed = false;
  }

  readonly mmio: MmioHandler = {
    // Reading the trigger by DMA does not run anything: a request is not to run requests.
    read: (offset, size, attributes) =>
      size === 4 && (attributes === undefined || offset !== TRIGGER) ? BigInt(this.readRegister(offset) >>> 0) : 0n,
    write: (offset, size, value) => {
      if (size === 4) {
        this.writeRegister(offset, Number(value & 0xffff_ffffn));
      }
    },
  };

  private readRegister(offset: number): number {
    switch (offset) {
      case TRIGGER:
        this.trigger();
        return 0;
      case IOVA_LOW:
        return this.iova[0];
      case IOVA_HIGH:
        return this.iova[1];
      case LENGTH:
        return this.length;
      case RESULT:
        return this.result;
      case ATTRIBUTES:
        return this.attributes;
      case GPA_LOW:
        return this.gpa[0];
      case GPA_HIGH:
        return this.gpa[1];
      default:
        return 0;
    }
  }

  private writeRegister(offset: number, value: number): void {
    switch (offset) {
      case IOVA_LOW:
        this.iova[0] = value;
        return;
      case IOVA_HIGH:
        this.iova[1] = value;
        return;
      case GPA_LOW:
        this.gpa[0] = value;
        return;
      case GPA_HIGH:
        this.gpa[1] = value;
        return;
      case LENGTH:
        this.length = value;
        return;
      case RESULT:
        this.result = value;
        return;
      case ATTRIBUTES:
        this.attributes = value;
        return;
      case DOORBELL:
        this.armed = (value & 1) !== 0;
        this.result = this.armed ? TESTDEV_BUSY : TESTDEV_IDLE;
        return;
      default:
    }
  }

  private trigger(): void {
    if (!this.armed) {
      this.result = TESTDEV_NOT_ARMED;
      return;
    }
    this.armed = false;
    this.result = this.run();
  }

  private run(): number {
    if (this.length === 0 || this.length > MOST_BYTES) {
      return TESTDEV_BAD_LENGTH;
    }
    const secure = (this.attributes & 1) !== 0;
    const spaceValid = (this.attributes & 8) !== 0;
    const space = spaceValid ? (this.attributes >> 1) & 3 : SPACE_NONSECURE;
    if (spaceValid && (space === SPACE_SECURE || space === SPACE_NONSECURE) && secure !== (space === SPACE_SECURE)) {
      return TESTDEV_BAD_ATTRIBUTES;
    }
    if (space !== SPACE_NONSECURE) {
      return TESTDEV_WRITE_FAILED;
    }
    const written = new Uint8Array(this.length);
    for (let i = 0; i < written.length; i++) {
      written[i] = PATTERN >>> (8 * (i & 3));
    }
    if (this.dmaWrite(join(this.iova), written) !== DMA_OK) {
      return TESTDEV_WRITE_FAILED;
    }
    const back = new Uint8Array(this.length);
    if (this.systemMemory.read(join(this.gpa), back, this.dmaAttributes()) !== DMA_OK) {
      return TESTDEV_READ_FAILED;
    }
    return back.every((byte, i) => byte === written[i]) ? 0 : TESTDEV_MISMATCH;
  }
}

function join(halves: number[]): bigint {
  return (BigInt(halves[1]) << 32n) | BigInt(halves[0]);
}
