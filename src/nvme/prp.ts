/** Data of a command in host memory, as Physical Region Pages tell where it lies (4.3). */
import type { NvmeHost } from "./host.js";
import { STATUS } from "./spec.js";

const ENTRY_BYTES = 8;

/**
 * Walks the pages of one command in their order. A list is read by parts, at most a page at a time, each once:
 * what the host writes there later has no effect. The list pages that are needed for the length are read and no more.
 */
export class PrpCursor {
  /** Bytes that are left. */
  private left: number;
  /** Bytes that are left of the page that the cursor is in, and where. */
  private pageLeft = 0;
  private high = 0;
  private low = 0;
  /** The list's entries at hand, and how many of them are used. */
  private list: Int32Array | null = null;
  private listAt = 0;
  /** Pages begun. */
  private pages = 0;
  private failure: number = STATUS.SUCCESS;

  /**
   * @param pageBytes the host's page size (CC.MPS)
   * @param prp1 two words, the lower first
   * @param length bytes
   */
  constructor(
    private readonly host: NvmeHost,
    private readonly pageBytes: number,
    private readonly prp1: readonly [low: number, high: number],
    private readonly prp2: readonly [low: number, high: number],
    length: number,
  ) {
    this.left = length;
  }

  /** Moves the next data.length bytes, to the host or from it. A status. */
  transfer(data: Uint8Array, toHost: boolean): number {
    for (let done = 0; done < data.length && this.failure === STATUS.SUCCESS; ) {
      if (this.pageLeft === 0 && !this.nextPage()) {
        break;
      }
      const step = Math.min(data.length - done, this.pageLeft);
      const part = data.subarray(done, done + step);
      if (!(toHost ? this.host.writeMemory(this.high, this.low, part) : this.host.readMemory(this.high, this.low, part))) {
        this.failure = STATUS.DATA_TRANSFER_ERROR;
        break;
      }
      this.low += step;
      this.pageLeft -= step;
      this.left -= step;
      done += step;
    }
    return this.failure;
  }

  private nextPage(): boolean {
    const first = this.pages === 0;
    const offset = first ? (this.prp1[0] >>> 0) % this.pageBytes : 0;
    if (first) {
      [this.low, this.high] = this.prp1;
      // Offsets are of dwords.
      if (offset % 4 !== 0) {
        return this.fail(STATUS.PRP_OFFSET_INVALID);
      }
    } else if (this.list === null && this.pages === 1 && this.left <= this.pageBytes) {
      [this.low, this.high] = this.prp2;
    } else if (!this.nextOfList()) {
      return false;
    }
    if (!first && (this.low >>> 0) % this.pageBytes !== 0) {
      return this.fail(STATUS.PRP_OFFSET_INVALID);
    }
    this.low >>>= 0;
    this.pages++;
    this.pageLeft = Math.min(this.left, this.pageBytes - offset);
    return true;
  }

  /** The next entry of the list; the last one of a page leads to the next page of the list where more than one page of data is left. */
  private nextOfList(): boolean {
    if (this.list === null && !this.readList(this.prp2[1], this.prp2[0] >>> 0)) {
      return false;
    }
    if (this.isLink()) {
      const at = this.listAt * 2;
      const low = this.list![at] >>> 0;
      if (low % this.pageBytes !== 0) {
        return this.fail(STATUS.PRP_OFFSET_INVALID);
      }
      if (!this.readList(this.list![at + 1], low)) {
        return false;
      }
    }
    const at = this.listAt * 2;
    this.low = this.list![at];
    this.high = this.list![at + 1];
    this.listAt++;
    return true;
  }

  private isLink(): boolean {
    return this.listAt === this.list!.length / 2 - 1 && this.left > this.pageBytes;
  }

  private readList(high: number, low: number): boolean {
    if (low % ENTRY_BYTES !== 0) {
      return this.fail(STATUS.PRP_OFFSET_INVALID);
    }
    const room = this.pageBytes - (low % this.pageBytes);
    const wanted = Math.ceil(this.left / this.pageBytes) * ENTRY_BYTES;
    const entries = new Int32Array(Math.min(room, wanted) / 4);
    if (!this.host.readMemory(high, low, new Uint8Array(entries.buffer))) {
      return this.fail(STATUS.DATA_TRANSFER_ERROR);
    }
    this.list = entries;
    this.listAt = 0;
    return true;
  }

  private fail(status: number): false {
    this.failure = status;
    return false;
  }
}
