/** The error information log (5.14.1.1): the newest errors first. */

export const ERROR_ENTRIES = 16;
const ERROR_ENTRY_BYTES = 64;

export interface ErrorRecord {
  /** 0xffff: of no queue, and of no command. */
  readonly queue: number;
  readonly command: number;
  /** Status field without phase tag. */
  readonly status: number;
  /** Byte and bit of the command; 0xffff: none in particular. */
  readonly location: number;
  readonly block: number;
  readonly namespaceId: number;
}

export class ErrorLog {
  /** Errors ever recorded: each has its number, from 1 on. */
  count = 0;
  private entries: Uint8Array[] = [];

  record(error: ErrorRecord): void {
    this.count++;
    const bytes = new Uint8Array(ERROR_ENTRY_BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(this.count), true);
    view.setUint16(8, error.queue, true);
    view.setUint16(10, error.command, true);
    view.setUint16(12, error.status << 1, true);
    view.setUint16(14, error.location, true);
    view.setBigUint64(16, BigInt(error.block), true);
    view.setUint32(24, error.namespaceId, true);
    // Transport type: PCI Express is 0 (memory based).
    this.entries.unshift(bytes);
    this.entries.length = Math.min(this.entries.length, ERROR_ENTRIES);
  }

  /** A power cycle or reset clears the entries; the count goes on. */
  reset(): void {
    this.entries = [];
  }

  page(): Uint8Array {
    const page = new Uint8Array(ERROR_ENTRIES * ERROR_ENTRY_BYTES);
    this.entries.forEach((entry, at) => page.set(entry, at * ERROR_ENTRY_BYTES));
    return page;
  }
}
