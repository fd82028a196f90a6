/**
 * The DMA engine: register block of passed-through functions of the simulated host (BAR0) and of the emulated
 * endpoints (place named by a vendor-specific capability). docs/guest-scripts.md has the registers.
 */
import { check } from "../failure.js";
import type { InterruptController } from "../interrupts.js";
import type { PciFunction } from "../pci/function.js";
import type { DmaDevice, DmaOutcome, DmaRequest } from "./dma-device.js";

export const ENGINE_ID = 0x4d4d_4f49;
export const ENGINE = {
  ID: 0x00,
  FEATURES: 0x04,
  SRC: 0x08,
  DST: 0x10,
  LENGTH: 0x18,
  CONTROL: 0x1c,
  PASID: 0x20,
  STATUS: 0x24,
  FAULT: 0x28,
  BYTES: 0x30,
  PATTERN: 0x34,
  INTERRUPT: 0x38,
  BUFFER: 0x8000,
} as const;
export const ENGINE_BUFFER_BYTES = 0x8000;
const MAX_TRANSFER = 1024 * 1024;
const FEATURE_PASID = 1;
const FEATURE_ATS = 2;
const START = 1;
const USE_PASID = 1 << 3;
const USE_ATS = 1 << 4;
const PRIVILEGED = 1 << 5;
const EXECUTE = 1 << 6;
const INTERRUPT_WHEN_DONE = 1 << 7;
const BUSY = 1;
const DONE = 2;
const FAULT = 4;
const BAD_REQUEST = 8;

export const ENGINE_COPY = 0;
export const ENGINE_READ = 1;
export const ENGINE_WRITE = 2;
export const ENGINE_FILL = 3;

export interface EngineRequest extends DmaRequest {
  /** ENGINE_COPY and so on. */
  readonly operation: number;
  readonly privileged?: boolean;
  readonly execute?: boolean;
  readonly pattern?: number;
}

export class DmaEngine implements DmaDevice {
  readonly kind = "dma-engine";
  features: DmaDevice["features"];

  private constructor(
    readonly fn: PciFunction,
    private readonly base: number,
    private readonly interrupts: InterruptController,
    features: number,
  ) {
    this.features = describeFeatures(features);
  }

  async refresh(): Promise<void> {
    this.features = describeFeatures(await this.read(ENGINE.FEATURES));
  }

  /** The engine at a guest-physical address; null where its ID register holds something else. */
  static async at(fn: PciFunction, base: number, interrupts: InterruptController): Promise<DmaEngine | null> {
    const id = Number(await fn.port.read(base + ENGINE.ID, 4));
    return id === ENGINE_ID ? new DmaEngine(fn, base, interrupts, Number(await fn.port.read(base + ENGINE.FEATURES, 4))) : null;
  }

  private read(register: number): Promise<number> {
    return this.fn.port.read(this.base + register, 4).then(Number);
  }

  private write(register: number, value: number): Promise<void> {
    return this.fn.port.write(this.base + register, 4, BigInt(value >>> 0));
  }

  private async write64(register: number, value: bigint): Promise<void> {
    await this.write(register, Number(value & 0xffff_ffffn));
    await this.write(register + 4, Number((value >> 32n) & 0xffff_ffffn));
  }

  transfer(request: DmaRequest): Promise<DmaOutcome> {
    return this.run({ ...request, operation: ENGINE_COPY });
  }

  /** Runs one operation to its end. Throws GuestFailure where the engine stays busy. */
  async run(request: EngineRequest): Promise<DmaOutcome> {
    check(request.length <= MAX_TRANSFER, `the DMA engine moves at most ${MAX_TRANSFER} bytes`);
    await this.write(ENGINE.STATUS, DONE | FAULT | BAD_REQUEST);
    await this.write64(ENGINE.SRC, request.source);
    await this.write64(ENGINE.DST, request.destination);
    await this.write(ENGINE.LENGTH, request.length);
    await this.write(ENGINE.PATTERN, request.pattern ?? 0);
    const pasid = request.pasid ?? null;
    await this.write(ENGINE.PASID, pasid ?? 0);
    await this.write(
      ENGINE.CONTROL,
      START |
        (request.operation << 1) |
        (pasid === null ? 0 : USE_PASID) |
        (request.ats === true ? USE_ATS : 0) |
        (request.privileged === true ? PRIVILEGED : 0) |
        (request.execute === true ? EXECUTE : 0) |
        (request.vector === undefined ? 0 : INTERRUPT_WHEN_DONE | (request.vector << 16)),
    );
    let status = 0;
    await this.interrupts.until(async () => {
      status = await this.read(ENGINE.STATUS);
      return (status & BUSY) === 0;
    }, `the DMA engine of ${this.fn.name} to end`);
    const faulted = (status & FAULT) !== 0;
    const bytes = await this.read(ENGINE.BYTES);
    const fault = faulted ? (BigInt(await this.read(ENGINE.FAULT + 4)) << 32n) | BigInt(await this.read(ENGINE.FAULT)) : null;
    return {
      ok: (status & DONE) !== 0 && !faulted && (status & BAD_REQUEST) === 0 && bytes === request.length,
      faulted,
      faultAddress: fault,
      detail: `STATUS 0x${status.toString(16)}, ${bytes} of ${request.length} bytes${fault === null ? "" : `, fault at 0x${fault.toString(16)}`}`,
    };
  }

  expected(source: Uint8Array): Uint8Array {
    return source;
  }

  async raise(vector: number): Promise<void> {
    await this.write(ENGINE.INTERRUPT, vector);
  }

  acknowledge(): Promise<void> {
    return Promise.resolve();
  }
}

function describeFeatures(register: number): DmaDevice["features"] {
  return {
    pasid: (register & FEATURE_PASID) !== 0,
    ats: (register & FEATURE_ATS) !== 0,
    maxLength: MAX_TRANSFER,
    addressLimit: Number.MAX_SAFE_INTEGER,
    readsSource: true,
    raises: true,
    faults: true,
    stops: true,
  };
}
