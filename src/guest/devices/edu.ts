/** QEMU's educational device, 1234:11e8 (QEMU documentation, specs/edu): a 4 KiB buffer, DMA into and out of it, one MSI. */
import type { InterruptController } from "../interrupts.js";
import type { PciFunction } from "../pci/function.js";
import type { DmaDevice, DmaOutcome, DmaRequest } from "./dma-device.js";

const INTERRUPT_STATUS = 0x24;
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;
const START = 1;
/** Direction: from the device's buffer to RAM. */
const TO_RAM = 2;
const BUFFER = 0x4_0000n;
const BUFFER_BYTES = 4096;
/** The default of its dma_mask property. */
const DMA_MASK_BITS = 28;

export class EduDevice implements DmaDevice {
  readonly kind = "edu";
  readonly features = {
    pasid: false,
    ats: false,
    maxLength: BUFFER_BYTES,
    addressLimit: 2 ** DMA_MASK_BITS,
    readsSource: true,
    raises: true,
    faults: true,
    stops: false,
  };

  constructor(
    readonly fn: PciFunction,
    private readonly base: number,
    private readonly interrupts: InterruptController,
  ) {}

  refresh(): Promise<void> {
    return Promise.resolve();
  }

  async transfer(request: DmaRequest): Promise<DmaOutcome> {
    await this.run(request.source, BUFFER, request.length, START);
    await this.run(BUFFER, request.destination, request.length, START | TO_RAM);
    // The device has no register for an error response: memory tells.
    return { ok: true, faulted: null, faultAddress: null, detail: `${request.length} bytes in and out of its buffer` };
  }

  private async run(source: bigint, destination: bigint, count: number, command: number): Promise<void> {
    const { port } = this.fn;
    await port.write(this.base + DMA_SOURCE, 8, source);
    await port.write(this.base + DMA_DESTINATION, 8, destination);
    await port.write(this.base + DMA_COUNT, 8, BigInt(count));
    await port.write(this.base + DMA_COMMAND, 8, BigInt(command));
    await this.interrupts.until(
      async () => ((await port.read(this.base + DMA_COMMAND, 8)) & BigInt(START)) === 0n,
      `the DMA of edu ${this.fn.name} to end`,
      4096,
    );
  }

  expected(source: Uint8Array): Uint8Array {
    return source;
  }

  async raise(): Promise<void> {
    await this.fn.port.write(this.base + RAISE, 4, 1n);
  }

  async acknowledge(): Promise<void> {
    const status = await this.fn.port.read(this.base + INTERRUPT_STATUS, 4);
    await this.fn.port.write(this.base + ACKNOWLEDGE, 4, status);
  }
}
