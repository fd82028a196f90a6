import type { Budget } from "../../nesting/index.js";

/** `installEntries` had to send the batch first, and the host refused the command at `flushHandled`: nothing is installed. */
export const BATCH_REFUSED = -1;
/** `installEntries` has done its share of work: the rest is done when it is called again. */
export const UNFINISHED = -2;

/**
 * What the SMMU's registers and queues ask of whoever serves its passed-through functions. The device
 * decodes and orders; the backend turns intent into host calls. Without acceleration there is no backend.
 */
export interface SmmuBackend {
  /**
   * The guest changed entries of the StreamIDs first to last, inclusive (CFGI_STE, CFGI_STE_RANGE,
   * CFGI_ALL). What is in the batch is older: it is sent before anything changes; invalidations that the entries ask
   * for are put into the batch. `goOn`: the same as the last time, which was UNFINISHED. Returns a CERROR_ code (0:
   * done), BATCH_REFUSED or UNFINISHED; sets `flushTimedOut`.
   */
  installEntries(first: number, last: number, goOn: boolean): number;

  /**
   * Takes an invalidation command that the host may run (four little-endian words) into the batch.
   * Returns false when it needs no forwarding (no such stream): it counts as done at its place in the order.
   */
  forward(word0: number, word1: number, word2: number, word3: number): boolean;
  /** Commands in the batch. */
  readonly pending: number;
  /** Commands that fit in a batch; at that number the device flushes. */
  readonly capacity: number;
  /**
   * Sends the batch and empties it, whatever comes of it. Returns a CERROR_ code: CERROR_NONE, all commands are
   * done (or are of no consequence any more); otherwise the one at `flushHandled` is refused.
   */
  flush(): number;
  /** Batches sent so far, by `flush` or before an installed entry. */
  readonly flushes: number;
  /** Of the last flush: how many commands, from the first on, are done. */
  readonly flushHandled: number;
  /** Of the last flush or installEntries: an ATC_INV did not complete. It counts as done; the next CMD_SYNC tells (Arm IHI 0070, 4.5.1). */
  readonly flushTimedOut: boolean;

  /** CR0.SMMUEN or GBPA changed (GBPA acts while SMMUEN is 0): every function goes where the architecture says. */
  translationChanged(): void;
  /** CR0.EVENTQEN or EVENTQ_BASE changed. */
  eventQueueChanged(): void;
  /** Reset of the SMMU: registers are at their reset values already. */
  reset(): void;
}

/** What an accelerated SMMU offers beyond the model's fixed features; decided by its properties and, for `auto`, the host. */
export interface AcceleratedFeatures {
  /** IDR3.RIL. */
  readonly ril: boolean;
  /** IDR0.ATS. */
  readonly ats: boolean;
  /** IDR5.OAS in bits: 44 or 48. */
  readonly oasBits: 44 | 48;
  /** IDR1.SSIDSIZE: 0 to 20. */
  readonly ssidBits: number;
  /** IDR0.CD2L: two-level context descriptor tables. */
  readonly cd2l: boolean;
}

/** What the backend asks of the device: the state that the guest has programmed. */
export interface SmmuForBackend {
  /** The user's id. */
  readonly id: string;
  /** Steps that a drain may still make: the backend's work counts. */
  readonly budget: Budget;
  /** CR0.SMMUEN. */
  readonly translationEnabled: boolean;
  /** GBPA.ABORT. */
  readonly globalBypassAborts: boolean;
  /** CR0.EVENTQEN. */
  readonly eventQueueEnabled: boolean;
  /** log2 of the entries of the event queue. */
  readonly eventQueueLog2Size: number;
  /** IDR0 to IDR5 as the guest sees them. */
  readonly idr: Int32Array;
  /** Largest StreamID + 1 that the ID registers allow. */
  readonly streamIdLimit: number;
  /**
   * Fetches the guest's STE for a StreamID into 16 words, until two readings agree. Returns 0, or a negative code where there is none to fetch (beyond the table, not
   * mapped): then hardware would record an event at the next transaction, and nothing is installed.
   */
  fetchStreamTableEntry(streamId: number, out: Int32Array): number;
  /** Writes a 32-byte event record (eight words) into the guest's event queue, with overflow as the architecture has it. */
  recordEvent(record: Int32Array): void;
  /** Events were lost before they reached this side: as for a full queue, EVENTQ_PROD.OVFLG tells (IHI 0070, 7.4). */
  recordLostEvents(): void;
  /** Sets what the ID registers offer; before the machine starts only. */
  applyFeatures(features: AcceleratedFeatures): void;
}
