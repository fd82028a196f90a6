/** Messages of a function: its MSI-X table and pending bits, which the host's kernel programs, and MSI (PCIe 6.1.4, 7.7). */
import { highWord, lowWord } from "../../../support/index.js";
import type { KnownFunction } from "./known.js";
import { type FunctionConfig, MSI_ENABLE, MSIX_CONTROL_ENABLE, MSIX_CONTROL_MASK, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET } from "./function-config.js";

/** What a function's message-signalled interrupt writes, and where. */
export interface MsiTarget {
  /** An IOVA: the write goes through the IOMMU. */
  readonly address: bigint;
  readonly data: number;
}

/** What messages ask of their function. */
interface MessageSender {
  mayRequest(): boolean;
  send(high: number, low: number, data: number): void;
}

export class FunctionMessages {
  private readonly msiTargets: Array<MsiTarget | null>;
  private readonly pending: Uint8Array;

  constructor(
    private readonly config: FunctionConfig,
    private readonly description: KnownFunction,
    private readonly sender: MessageSender,
  ) {
    this.msiTargets = new Array<MsiTarget | null>(description.msixVectors).fill(null);
    this.pending = new Uint8Array(description.msixVectors);
  }

  reset(): void {
    this.msiTargets.fill(null);
    this.pending.fill(0);
  }

  get msixEnabled(): boolean {
    const { msix } = this.config.offsets;
    return msix !== 0 && (this.config.read(msix + 2, 2) & MSIX_CONTROL_ENABLE) !== 0;
  }

  /** Vectors of MSI-X or MSI, whichever is enabled; 0: neither. */
  get vectors(): number {
    const { msi } = this.config.offsets;
    const control = msi === 0 ? 0 : this.config.read(msi + 2, 2);
    return this.msixEnabled ? this.msiTargets.length : (control & MSI_ENABLE) !== 0 ? 1 << ((control >>> 4) & 7) : 0;
  }

  /**
   * What a vector writes, as the host's kernel programs the MSI-X table; null masks it. MSI-X is enabled
   * while any vector has a target. A vector that was raised while it was masked is sent now (PCIe 6.1.4.5).
   */
  set(vector: number, target: MsiTarget | null): void {
    if (vector < 0 || vector >= this.msiTargets.length) {
      throw new RangeError(`${this.description.address} has ${this.msiTargets.length} MSI-X vectors, not a vector ${vector}`);
    }
    this.msiTargets[vector] = target;
    const any = this.msiTargets.some((other) => other !== null);
    this.config.setBit(this.config.offsets.msix + 2, MSIX_CONTROL_ENABLE, any);
    if (!any) {
      this.pending.fill(0);
    }
    this.sendPending();
  }

  /** Sends the vector's message: by MSI-X, where it is masked later; else by MSI; nothing where both are off. */
  raise(vector: number): void {
    const { msi, msix } = this.config.offsets;
    const control = msix === 0 ? 0 : this.config.read(msix + 2, 2);
    if ((control & MSIX_CONTROL_ENABLE) === 0) {
      if (msi !== 0) {
        this.raiseMsi(msi, vector);
      }
      return;
    }
    if (vector >= this.msiTargets.length) {
      return;
    }
    const target = this.msiTargets[vector];
    if (target === null || (control & MSIX_CONTROL_MASK) !== 0 || !this.sender.mayRequest()) {
      this.pending[vector] = 1;
      return;
    }
    this.sender.send(highWord(target.address), lowWord(target.address), target.data);
  }

  /** The low bits of the data that Multiple Message Enable frees are the vector (PCIe 6.1.4.1). */
  private raiseMsi(at: number, vector: number): void {
    const control = this.config.read(at + 2, 2);
    const count = 1 << ((control >>> 4) & 7);
    if ((control & MSI_ENABLE) !== 0 && vector < count && this.sender.mayRequest()) {
      const data = this.config.read(at + 12, 2);
      this.sender.send(this.config.read(at + 8, 4) | 0, this.config.read(at + 4, 4) | 0, (data & ~(count - 1)) | vector);
    }
  }

  /** Sends what was raised while it was masked. */
  sendPending(): void {
    for (let vector = 0; vector < this.pending.length; vector++) {
      if (this.pending[vector] !== 0) {
        this.pending[vector] = 0;
        this.raise(vector);
      }
    }
  }

  /** A byte of the MSI-X table or of the pending bits (PCIe 7.7.2). */
  byte(offset: number): number {
    if (offset >= MSIX_PBA_OFFSET) {
      let bits = 0;
      for (let bit = 0; bit < 8; bit++) {
        bits |= (this.pending[(offset - MSIX_PBA_OFFSET) * 8 + bit] ?? 0) << bit;
      }
      return bits;
    }
    const vector = Math.floor((offset - MSIX_TABLE_OFFSET) / 16);
    if (vector >= this.msiTargets.length) {
      return 0;
    }
    const target = this.msiTargets[vector];
    const words = [
      target === null ? 0 : lowWord(target.address),
      target === null ? 0 : highWord(target.address),
      target?.data ?? 0,
      target === null ? 1 : 0,
    ];
    return (words[(offset >> 2) & 3] >>> (8 * (offset & 3))) & 0xff;
  }
}
