/** What happened, row by row, and how much of it. */

export interface TimelineRow {
  /** From 1, without gaps but for rows that were dropped. */
  readonly number: number;
  /** Microseconds since the machine was made. */
  readonly time: number;
  /** store: a guest's access to a register; command: an entry of a queue; host: a call; event: a record or fault; interrupt: a message or a pin; dma: a request of a function; machine: reset, hotplug, run state. */
  readonly kind: "store" | "command" | "host" | "event" | "interrupt" | "dma" | "machine";
  /** Trace event and its words, as `-trace` prints them. */
  readonly name: string;
  readonly words: string;
  /** Ids as the map has them; null: of none, or not known. */
  readonly iommu: string | null;
  readonly function: string | null;
  readonly streamId: number | null;
  /** Number of the row that this one follows from: a command's store, a host call's command; null: none. */
  readonly cause: number | null;
}

/** Answer of `x-viommu-timeline`. */
export interface TimelineReport {
  /** It is kept: `x-viommu-timeline-set` turns it on. */
  readonly on: boolean;
  readonly rows: readonly TimelineRow[];
  /** The newest row's number; 0: none yet. */
  readonly last: number;
  /** Number of the oldest row that is still kept; rows before it are gone. */
  readonly first: number;
}

/** Counts since the machine was made, of one function, of one IOMMU, or of all. */
export interface NumbersRow {
  /** Function or IOMMU by id; null: the machine. */
  readonly of: string | null;
  readonly invalidations: number;
  readonly hostCalls: number;
  readonly exits: number;
  readonly faults: number;
  readonly dma: number;
  readonly dmaBytes: number;
}

/** Answer of `x-viommu-numbers`. */
export interface NumbersReport {
  /** Microseconds since the machine was made. */
  readonly time: number;
  readonly rows: readonly NumbersRow[];
}
