/** What every view of the page is given. */
import type { CachesReport, LessonReport, MapReport, NumbersReport, QueuesReport, RegistersReport, TimelineReport, WalkReport } from "../../report/index.js";

/** The monitor's questions that views ask, by command: what it takes and what it answers. */
export interface Questions {
  "x-viommu-map": { readonly arguments: Readonly<Record<string, never>>; readonly answer: MapReport };
  /** The inspector's own: refused where there is none. */
  "x-viommu-lesson": { readonly arguments: Readonly<Record<string, never>>; readonly answer: LessonReport };
  "x-viommu-registers": { readonly arguments: { readonly iommu: string }; readonly answer: RegistersReport };
  "x-viommu-walk": { readonly arguments: Readonly<Record<string, unknown>>; readonly answer: WalkReport };
  "x-viommu-caches": { readonly arguments: { readonly iommu?: string; readonly function?: string }; readonly answer: CachesReport };
  "x-viommu-queues": { readonly arguments: { readonly iommu?: string }; readonly answer: QueuesReport };
  "x-viommu-timeline": { readonly arguments: { readonly since?: number; readonly limit?: number }; readonly answer: TimelineReport };
  "x-viommu-timeline-set": { readonly arguments: { readonly on: boolean }; readonly answer: unknown };
  "x-viommu-numbers": { readonly arguments: Readonly<Record<string, never>>; readonly answer: NumbersReport };
}

/** A recording's rows: all views show the state at one of them. */
export interface RecordingPosition {
  readonly first: number;
  readonly last: number;
  /** The row whose state is shown. */
  readonly row: number;
  /** Shows the state after `row`; `moment` grows once it is there. */
  at(row: number): Promise<void>;
}

export interface ViewClient {
  /** Rejects with an Error whose message is the monitor's `desc`. */
  ask<K extends keyof Questions>(execute: K, given: Questions[K]["arguments"]): Promise<Questions[K]["answer"]>;
  /** Null: a running machine, or data that stand still. */
  readonly recording: RecordingPosition | null;
  /** The machine goes on while it is looked at: what it says is asked again by itself. */
  readonly live: boolean;
  /** Of a recording: the numbers at moments from its first row to its last. */
  numbersOverTime?(): Promise<readonly NumbersReport[]>;
}

/** What the address says after the view's name: `#walk?function=nic&iova=0x1000`. */
export type Query = Readonly<Record<string, string>>;

export interface ViewProps {
  readonly client: ViewClient;
  readonly query: Query;
  /** An address of the page. */
  href(view: string, query: Query): string;
  /** Goes there; `replace`: in place of the present entry of the browser's history. */
  go(view: string, query: Query, replace?: boolean): void;
  /** For the choosers of functions and IOMMUs; null: not known yet. */
  readonly map: MapReport | null;
  /** Grows when the state may have changed: views ask anew. */
  readonly moment: number;
}

/** `query` without what is empty, so that addresses are short. */
export function tidy(query: Readonly<Record<string, string | null | undefined>>): Query {
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") {
      given[name] = value;
    }
  }
  return given;
}
