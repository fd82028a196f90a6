/** What the emulated endpoints have in common: DMA that is counted, interrupts in the way that the guest chose. */
import type { DmaAttributes } from "../memory/index.js";
import { addCapability, CAP_VENDOR, type MsiCapability, type MsixCapability, PciFunction, type PciIdentity } from "../pci/index.js";
import { traceEvent } from "../support/index.js";

const traceDma = traceEvent("viommu_dma", "%s sid=0x%x %s iova 0x%x length 0x%x");
const traceDmaRefused = traceEvent("viommu_dma_refused", "%s sid=0x%x");

export interface EndpointCounters {
  /** DMA accesses made, messages not counted. */
  transactions: number;
  /** Bytes of those that got through. */
  bytes: number;
  /** Accesses that the IOMMU refused or that nothing answered. */
  faults: number;
}

export interface EndpointOptions {
  readonly id?: string;
}

/** Fourth byte of the vendor capability that says where the DMA engine is. */
export const ENGINE_CAPABILITY_MARK = 0x44;
const ENGINE_CAPABILITY_BYTES = 12;

export abstract class EmulatedEndpoint extends PciFunction {
  readonly counters: EndpointCounters = { transactions: 0, bytes: 0, faults: 0 };
  protected msix: MsixCapability | null = null;
  protected msi: MsiCapability | null = null;

  constructor(model: string, options: EndpointOptions, identity: PciIdentity, configBytes: 256 | 4096) {
    super(model, options.id ?? "", "endpoint", identity, configBytes);
  }

  override dmaRead(iova: bigint, out: Uint8Array, attributes?: DmaAttributes): number {
    if (traceDma.on) {
      traceDma.emit(this.label, this.requesterId, "read", iova, out.length);
    }
    return this.count(super.dmaRead(iova, out, attributes), out.length);
  }

  override dmaWrite(iova: bigint, data: Uint8Array, attributes?: DmaAttributes): number {
    if (traceDma.on) {
      traceDma.emit(this.label, this.requesterId, "write", iova, data.length);
    }
    return this.count(super.dmaWrite(iova, data, attributes), data.length);
  }

  /** A message is a memory write that is not counted as the device's DMA. */
  override sendMessage(address: bigint, data: number): number {
    const { transactions, bytes, faults } = this.counters;
    const result = super.sendMessage(address, data);
    Object.assign(this.counters, { transactions, bytes, faults });
    return result;
  }

  /** Raises an interrupt: an MSI-X vector, an MSI, or INTx (level, until `lowerInterrupt`). */
  raiseInterrupt(vector: number): void {
    if (this.msix?.enabled === true) {
      this.msix.raise(vector);
    } else if (this.msi?.enabled === true) {
      this.msi.raise(vector);
    } else if (this.config.bytes[0x3d] !== 0) {
      this.setIntx(true);
    }
  }

  lowerInterrupt(): void {
    this.setIntx(false);
  }

  /**
   * The vendor-specific capability (id 0x09) that tells a guest where the DMA engine is: byte 0 the id, byte 1
   * the next capability, byte 2 the length (12), byte 3 'D' (0x44); the second dword the BAR's index, the third
   * the offset of the engine's registers in that BAR, in bytes.
   */
  protected addEngineCapability(at: number, bar: number, offset: number): void {
    const { config } = this;
    addCapability(config, CAP_VENDOR, at, ENGINE_CAPABILITY_BYTES);
    config.bytes[at + 2] = ENGINE_CAPABILITY_BYTES;
    config.bytes[at + 3] = ENGINE_CAPABILITY_MARK;
    config.set32(at + 4, bar);
    config.set32(at + 8, offset);
  }

  private count(result: number, bytes: number): number {
    this.counters.transactions++;
    if (result === 0) {
      this.counters.bytes += bytes;
    } else {
      this.counters.faults++;
      if (traceDmaRefused.on) {
        traceDmaRefused.emit(this.label, this.requesterId);
      }
    }
    return result;
  }
}
