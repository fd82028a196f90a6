/** What a page that opens without a server has beside it. */

/** An answer of the monitor that was kept, or its words where it refused. */
export interface KeptAnswer {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly return?: unknown;
  readonly error?: string;
}

export interface PageData {
  /** What they are of, for a person. */
  readonly about: string;
  readonly answers: readonly KeptAnswer[];
  /** A recording's file, in base64: it answers instead, and what is no state of a machine is among the answers. */
  readonly recording?: string;
}
