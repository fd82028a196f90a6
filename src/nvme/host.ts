/** What a controller asks of the PCI function that it is in. */

export interface NvmeHost {
  /** Reads memory by the function's DMA, at an address of two 32-bit words; false: the request failed. Any length, any alignment. */
  readMemory(high: number, low: number, out: Uint8Array): boolean;
  writeMemory(high: number, low: number, data: Uint8Array): boolean;
  /** Interrupt vectors that queues may use now: of MSI-X or MSI where they are enabled, else one. */
  vectors(): number;
  /** INTMS and INTMC do not mask: MSI-X is enabled (3.1.3). */
  unmasked(): boolean;
  /** Sends the message of a vector; nothing where no messages are enabled. */
  raise(vector: number): void;
  /** The level of the interrupt pin, which counts where no messages are enabled. */
  setPin(level: boolean): void;
}

/** A controller's parameters. */
export interface NvmeOptions {
  /** PCI ids, for Identify. */
  readonly vendorId: number;
  readonly subsystemVendorId: number;
  /** At most 20 characters of ASCII. */
  readonly serial: string;
  /** At most 40. */
  readonly modelNumber: string;
  /** At most 8. */
  readonly firmware: string;
  /** I/O queue pairs, 1 to 65535. */
  readonly queuePairs: number;
  /** Largest transfer: 2^mdts pages of the smallest size; 0: no limit. */
  readonly mdts: number;
  /** Entries of a queue, less one. */
  readonly mqes: number;
  /** Asynchronous event requests at a time, less one. */
  readonly aerl: number;
  /** The write cache is on after a reset. */
  readonly writeCache: boolean;
  /** Critical warnings of the SMART log. */
  readonly criticalWarning?: number;
}
