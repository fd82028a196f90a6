/**
 * What happens in a machine, row by row: a guest's store, the command, the host's call, the event, the interrupt. A
 * machine whose time line is off pays for nothing: the trace events that rows are made of are off.
 */
import type { Machine, MachineEvent } from "../../machine/index.js";
import { currentTracing, formatTrace, type TraceArgument, type TraceEvent } from "../../support/index.js";
import type { TimelineReport, TimelineRow } from "../report/index.js";
import { Causes } from "./causes.js";
import { type Kind, type RowEvent, rowEvents } from "./kinds.js";
import { type Place, Places } from "./places.js";

/** Rows that are kept unless it is said otherwise. */
const CAPACITY = 100_000;
/** Rows of one answer. */
export const ROWS_LIMIT = 1000;
/** Requests of functions that are told in one turn of the process; of those beyond, how many they were. */
const REQUESTS_A_TURN = 32;

/** A row as it is kept: its words are made when they are asked for. */
interface KeptRow extends Omit<TimelineRow, "words"> {
  readonly words: string | { readonly format: string; readonly args: readonly TraceArgument[] };
}

export class Timeline {
  private rows: KeptRow[] = [];
  /** Where the oldest row is, of a full ring. */
  private oldest = 0;
  private last = 0;
  private asked = false;
  private readonly listeners = new Set<(row: TimelineRow) => void>();
  private stop: (() => void) | null = null;
  private readonly causes = new Causes();
  private places: Places | null = null;
  private requests = 0;
  private untold = 0;

  constructor(
    private readonly machine: Machine,
    private readonly capacity = CAPACITY,
  ) {}

  /** Rows are kept. */
  get on(): boolean {
    return this.stop !== null;
  }

  /** Begins or ends to keep rows; those that are kept stay. It goes on while somebody listens. */
  set(on: boolean): void {
    this.asked = on;
    this.follow();
  }

  /** Tells each row when it comes, while what it tells of is under way. @returns ends it */
  subscribe(listener: (row: TimelineRow) => void): () => void {
    this.listeners.add(listener);
    this.follow();
    return () => {
      this.listeners.delete(listener);
      this.follow();
    };
  }

  /** Adds a row about the machine as a whole, while rows are kept. */
  note(name: string, words: string): void {
    if (this.on) {
      this.turn();
      this.tellUntold();
      this.add("machine", { detail: false, refused: false }, name, words, { place: null, iommu: null, streamId: null });
    }
  }

  /** The first `limit` rows behind number `since`, or without it the newest. */
  report(since: number | null, limit = ROWS_LIMIT): TimelineReport {
    const first = this.last - this.rows.length + 1;
    const from = since === null ? Math.max(this.last - limit + 1, first) : Math.max(since + 1, first);
    const rows: TimelineRow[] = [];
    for (let number = from; number <= this.last && rows.length < limit; number++) {
      rows.push(told(this.rows[(this.oldest + number - first) % this.capacity]));
    }
    return { on: this.on, rows, last: this.last, first };
  }

  private follow(): void {
    const wanted = this.asked || this.listeners.size > 0;
    if (wanted && this.stop === null) {
      const events = rowEvents();
      const unwatch = currentTracing().watch([...events.keys()], (event, args, origin) => this.take(event, events.get(event)!, args, origin));
      const unsubscribe = this.machine.events.subscribe((event) => this.happens(event));
      this.stop = () => {
        unwatch();
        unsubscribe();
      };
    } else if (!wanted && this.stop !== null) {
      this.stop();
      this.stop = null;
    }
  }

  private take(event: TraceEvent, row: RowEvent, args: readonly TraceArgument[], origin: string | null): void {
    this.turn();
    if (row.kind === "dma" && !row.refused) {
      this.requests++;
      if (this.requests > REQUESTS_A_TURN) {
        this.untold++;
        return;
      }
    }
    this.tellUntold();
    const places = (this.places ??= new Places(this.machine));
    const streamId = row.streamId(args);
    const deviceId = row.deviceId(args);
    const place = (streamId === null ? null : places.ofStream(streamId)) ?? (deviceId === null ? null : places.ofDevice(deviceId)) ?? places.ofHost(args);
    const iommu = origin ?? places.iommu(event.name, args);
    this.add(row.kind, row, event.name, { format: event.format, args }, { place, iommu, streamId });
  }

  private add(kind: Kind, { detail, refused }: Pick<RowEvent, "detail" | "refused">, name: string, words: KeptRow["words"], of: { place: Place | null; iommu: string | null; streamId: number | null }): void {
    const said = { kind, detail, refused, iommu: of.iommu ?? of.place?.iommu ?? null, function: of.place?.function ?? null, streamId: of.streamId ?? of.place?.streamId ?? null };
    const cause = this.causes.of(said);
    // What follows from a row, and does not say of whom it is, is of the same IOMMU; what tells more of it, of the same function.
    const more = detail && said.streamId === null ? { function: said.function ?? cause?.function ?? null, streamId: cause?.streamId ?? null } : {};
    const known = { ...said, ...more, iommu: said.iommu ?? (said.function === null ? (cause?.iommu ?? null) : null) };
    const row: KeptRow = {
      number: ++this.last,
      time: Math.round((performance.now() - this.machine.since) * 1000),
      kind,
      name,
      words,
      iommu: known.iommu,
      function: known.function,
      streamId: known.streamId,
      cause: cause?.number ?? null,
    };
    if (this.rows.length < this.capacity) {
      this.rows.push(row);
    } else {
      this.rows[this.oldest] = row;
      this.oldest = (this.oldest + 1) % this.capacity;
    }
    this.causes.note({ ...known, number: row.number });
    if (this.listeners.size > 0) {
      const full = told(row);
      this.listeners.forEach((listener) => listener(full));
    }
  }

  private happens(event: MachineEvent): void {
    this.note(event.name, "data" in event ? JSON.stringify(event.data) : "");
  }

  /** Functions come, go and are numbered anew between turns. */
  private turn(): void {
    if (!this.causes.inTurn) {
      this.places = null;
      this.requests = 0;
    }
  }

  private tellUntold(): void {
    if (this.untold > 0) {
      const more = this.untold;
      this.untold = 0;
      this.add("dma", { detail: false, refused: false }, "viommu_dma", `${more} more requests`, { place: null, iommu: null, streamId: null });
    }
  }
}

function told(row: KeptRow): TimelineRow {
  return { ...row, words: typeof row.words === "string" ? row.words : formatTrace(row.words.format, row.words.args).trim() };
}

const timelines = new WeakMap<Machine, Timeline>();

/** The machine's one. */
export function timelineOf(machine: Machine): Timeline {
  let timeline = timelines.get(machine);
  if (timeline === undefined) {
    timeline = new Timeline(machine);
    timelines.set(machine, timeline);
  }
  return timeline;
}
