/** Queues of IOMMUs: positions and entries. */
import type { FieldReport, Hex } from "./registers.js";

export interface QueueEntryReport {
  readonly index: number;
  /** waiting: published and not consumed; done: behind the consumer, still to be read in memory; current: where an error stopped it. */
  readonly state: "waiting" | "done" | "current";
  readonly words: readonly Hex[];
  /** `CMD_TLBI_NH_VA`, `iotlb_inv_dsc`, `F_TRANSLATION`. */
  readonly name: string;
  /** In short, for a line: `ASID 1, 0x1000, leaf`. */
  readonly summary: string;
  readonly fields: readonly FieldReport[];
  readonly section: string;
  /** The error at this very entry, `CERROR_ILL: ...`; null: none. */
  readonly error: string | null;
}

export interface QueueReport {
  readonly iommu: string;
  /** command, event, pri; invalidation, fault, page-request. */
  readonly name: string;
  readonly enabled: boolean;
  /** Address of the first entry; of fault recording registers their offset. */
  readonly base: Hex;
  /** Entries that it has room for. */
  readonly size: number;
  /** Indices, without wrap bits. */
  readonly producer: number;
  readonly consumer: number;
  readonly full: boolean;
  /** Of the queue as a whole: `overflow: entries were lost`; left out: none. */
  readonly error?: string;
  readonly entries: readonly QueueEntryReport[];
  /** The last batch that went to the host: how many entries, how many the host took, its error; null: none yet, or no such queue. */
  readonly batch: { readonly first: number | null; readonly entries: number; readonly handled: number; readonly error: string | null } | null;
}

/** Answer of `x-viommu-queues`. */
export interface QueuesReport {
  readonly queues: readonly QueueReport[];
}
