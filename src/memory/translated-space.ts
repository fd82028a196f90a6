import { highWord, lowWord, toNumber } from "../support/index.js";
import type { AddressSpace } from "./address-space.js";
import { type DmaAttributes, DMA_FAULT, DMA_OK, type DmaSpace } from "./dma.js";

/** Answers of `TranslatedSpace.resolve`. */
export const RESOLVED = 0;
/** The access is refused, and what has to be recorded is recorded. */
export const REFUSED = -1;
/** Reads bring zeros, writes are dropped, for the 4 KiB around the address. */
export const DISCARDED = 1;

/** Largest piece that one translation is used for, in bits of bytes. */
const PIECE_BITS = 30;

/**
 * The address space of one emulated function behind an IOMMU: accesses go on to system memory piece by
 * piece, each within what one translation covers.
 */
export abstract class TranslatedSpace implements DmaSpace {
  readonly kind = "iommu";
  /** After RESOLVED: the physical address of the input address, and log2 of the bytes around it that the answer holds for. */
  protected outHigh = 0;
  protected outLow = 0;
  protected outPageBits = 0;

  constructor(
    readonly name: string,
    /** Where translated accesses go. */
    protected readonly memory: AddressSpace,
  ) {}

  /**
   * Translates one address (two words) for an access; records the fault where there is one and `quiet` is not
   * said. Returns RESOLVED, REFUSED or DISCARDED.
   */
  protected abstract resolve(high: number, low: number, isWrite: boolean, attributes: DmaAttributes, quiet: boolean): number;

  read(iova: bigint, out: Uint8Array, attributes: DmaAttributes): number {
    return this.transfer(iova, out, false, attributes);
  }

  write(iova: bigint, data: Uint8Array, attributes: DmaAttributes): number {
    return this.transfer(iova, data, true, attributes);
  }

  translate(iova: bigint, attributes: DmaAttributes): number | null {
    return this.resolve(highWord(iova), lowWord(iova), true, attributes, true) === RESOLVED ? toNumber(this.outHigh, this.outLow) : null;
  }

  /** Bytes before a fault are transferred; a read brings zeros for the rest, as QEMU's devices get them. */
  private transfer(iova: bigint, bytes: Uint8Array, isWrite: boolean, attributes: DmaAttributes): number {
    let high = highWord(iova);
    let low = lowWord(iova);
    let done = 0;
    while (done < bytes.length) {
      const answer = this.resolve(high, low, isWrite, attributes, false);
      if (answer === REFUSED) {
        if (!isWrite) {
          bytes.fill(0, done);
        }
        return DMA_FAULT;
      }
      const size = 2 ** (answer === RESOLVED ? Math.min(this.outPageBits, PIECE_BITS) : 12);
      const step = Math.min(bytes.length - done, size - (low & (size - 1)));
      const piece = bytes.subarray(done, done + step);
      if (answer === RESOLVED) {
        const address = toNumber(this.outHigh, this.outLow);
        const code = isWrite ? this.memory.writeBytes(address, piece, attributes) : this.memory.readBytes(address, piece, attributes);
        if (code !== DMA_OK) {
          return code;
        }
      } else if (!isWrite) {
        piece.fill(0);
      }
      done += step;
      const next = (low >>> 0) + step;
      low = next | 0;
      high = (high + (next > 0xffff_ffff ? 1 : 0)) | 0;
    }
    return DMA_OK;
  }
}
