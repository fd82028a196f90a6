/** The DMA engine as registers of an emulated endpoint: its requests are the endpoint's, without PASID and ATS. */
import { DmaEngine, ENGINE, type EngineHost } from "../dma-engine/index.js";
import type { DmaAttributes, MmioHandler } from "../memory/index.js";
import { littleEndian, littleEndianBytes, toBigInt } from "../support/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED } from "../translation/index.js";
import type { EmulatedEndpoint } from "./endpoint.js";

export class EndpointDmaEngine implements MmioHandler {
  private readonly engine: DmaEngine;

  constructor(fn: EmulatedEndpoint) {
    this.engine = new DmaEngine(new EndpointRequests(fn));
  }

  reset(): void {
    this.engine.reset();
  }

  read(offset: number, size: number): bigint {
    const out = new Uint8Array(size);
    this.engine.read(offset, out);
    return littleEndian(out);
  }

  /**
   * Only a CPU starts operations and raises interrupts: what a device's DMA writes there does nothing, so that
   * one access cannot set off an endless chain.
   */
  write(offset: number, size: number, value: bigint, attributes?: DmaAttributes): void {
    for (let at = 0; at < size; at += 4) {
      const register = offset + at;
      if (attributes === undefined || (register !== ENGINE.CONTROL && register !== ENGINE.INTERRUPT)) {
        const bytes = Math.min(4, size - at);
        this.engine.write(
          register,
          littleEndianBytes(value >> BigInt(8 * at), bytes),
        );
      }
    }
  }
}

class EndpointRequests implements EngineHost {
  constructor(private readonly fn: EmulatedEndpoint) {}

  features(): number {
    return 0;
  }

  /** Privileged and execute are parts of the PASID prefix (PCIe 2.2.10.2), which these endpoints do not send. */
  mayRequest(pasid: number, access: number, ats: boolean): boolean {
    return this.fn.busMaster && pasid < 0 && !ats && (access & (ACCESS_PRIVILEGED | ACCESS_EXECUTE)) === 0;
  }

  readMemory(high: number, low: number, out: Uint8Array): boolean {
    return this.fn.dmaRead(toBigInt(high, low), out) === 0;
  }

  writeMemory(high: number, low: number, data: Uint8Array): boolean {
    return this.fn.dmaWrite(toBigInt(high, low), data) === 0;
  }

  raise(vector: number): void {
    this.fn.raiseInterrupt(vector);
  }
}
