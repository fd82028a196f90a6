/** A recording: its rows, and the state at each of them, forward and back. Loads in a browser. */
import type { NumbersReport, TimelineReport, TimelineRow } from "../report/index.js";
import type { InspectionSource } from "../state/index.js";
import { applyChanges, EMPTY_STATE, type RecordedLine, type RecordedState } from "./changes.js";
import { checkedEnd, checkedHeader, checkedLine } from "./check.js";
import { type Chunk, CHUNK_HEADER_BYTES, CHUNK_LIMIT, decodeChunk, FIRST_LINE, FORMAT_VERSION, MAGIC, type RecordingEnd, RecordingError, type RecordingHeader } from "./format.js";
import { inflate } from "./inflate.js";
import { sourceOf } from "./source.js";

/** Rows of one answer. */
const ROWS_LIMIT = 1000;
/** States that are kept of the rows of a chunk: each so many rows one. */
const STATES_EVERY = 64;
/** Chunks whose lines are held. */
const HELD_CHUNKS = 12;
/** Chunks of which the state before them is held. */
const HELD_BASES = 128;
/** Moments that the numbers over time are told at. */
const MOMENTS = 200;

interface PlacedChunk extends Chunk {
  /** Where its stored bytes begin. */
  readonly at: number;
}

/** A chunk's lines, and states at some of them. */
interface Lines {
  readonly lines: readonly RecordedLine[];
  /** State after the changes of every `STATES_EVERY`th line, from the first on, as far as somebody has come. */
  readonly states: RecordedState[];
}

export class Recording {
  private readonly held = new Map<PlacedChunk, Promise<Lines>>();
  private readonly bases = new Map<PlacedChunk, RecordedState>();

  constructor(
    private readonly bytes: Uint8Array,
    readonly header: RecordingHeader,
    private readonly chunks: readonly PlacedChunk[],
    /** Null: the recording is cut off: its process ended without a word. */
    readonly end: RecordingEnd | null,
  ) {}

  /** Number of the first row; 1 where there is none. */
  get first(): number {
    return this.chunks.at(0)?.first ?? 1;
  }

  /** Number of the last row; 0: there is none. */
  get last(): number {
    const chunk = this.chunks.at(-1);
    return chunk === undefined ? 0 : chunk.first + chunk.rows - 1;
  }

  /** The state as it was when the row was told. @throws RecordingError */
  async at(row: number): Promise<InspectionSource> {
    return sourceOf(await this.state(row));
  }

  /** The first `limit` rows behind number `since`; null: the last ones. @throws RecordingError */
  async rows(since: number | null, limit = ROWS_LIMIT): Promise<TimelineReport> {
    const { first, last } = this;
    const most = Math.min(limit, ROWS_LIMIT);
    const from = Math.max(since === null ? last - most + 1 : since + 1, first);
    const rows: TimelineRow[] = [];
    for (const chunk of this.chunks) {
      if (rows.length < most && chunk.first + chunk.rows > from) {
        const { lines } = await this.linesOf(chunk);
        rows.push(...lines.slice(Math.max(from - chunk.first, 0), Math.max(from - chunk.first, 0) + most - rows.length).map(([row]) => row));
      }
    }
    return { on: false, rows, last, first };
  }

  /** The numbers as they were when the row was told. @throws RecordingError */
  async numbersAt(row: number): Promise<NumbersReport> {
    const chunk = this.chunkOf(row);
    const { lines } = await this.linesOf(chunk);
    return { time: lines[row - chunk.first][0].time, rows: (await this.state(row)).numbers };
  }

  /** The same at moments from the first row to the last. @throws RecordingError */
  async numbersOverTime(): Promise<readonly NumbersReport[]> {
    const { first, last } = this;
    const step = Math.max(1, Math.ceil((last - first) / MOMENTS));
    const reports: NumbersReport[] = [];
    for (let row = first; row <= last; row += step) {
      reports.push(await this.numbersAt(row));
    }
    if (last >= first && (last - first) % step !== 0) {
      reports.push(await this.numbersAt(last));
    }
    return reports;
  }

  private chunkOf(row: number): PlacedChunk {
    const chunk = this.chunks.findLast((one) => one.first <= row);
    if (chunk === undefined || row >= chunk.first + chunk.rows) {
      throw new RecordingError(`the recording has no row ${row}: it has ${this.first} to ${this.last}`);
    }
    return chunk;
  }

  private async state(row: number): Promise<RecordedState> {
    const chunk = this.chunkOf(row);
    const held = await this.linesOf(chunk);
    const { lines, states } = held;
    const wanted = row - chunk.first;
    if (states.length === 0) {
      const first = applyChanges(await this.before(chunk), lines[0][1]);
      states[0] ??= first;
    }
    const from = Math.min(Math.floor(wanted / STATES_EVERY), states.length - 1);
    let state = states[from];
    for (let at = from * STATES_EVERY + 1; at <= wanted; at++) {
      state = applyChanges(state, lines[at][1]);
      if (at % STATES_EVERY === 0 && states.length === at / STATES_EVERY) {
        states.push(state);
      }
    }
    return state;
  }

  /** The state that a chunk begins with: what a key and the chunks from it on come to. */
  private async before(chunk: PlacedChunk): Promise<RecordedState> {
    const { bases, chunks } = this;
    const place = chunks.indexOf(chunk);
    let from = place;
    while (chunks[from].kind !== "key" && !bases.has(chunks[from])) {
      from--;
    }
    let state = chunks[from].kind === "key" ? EMPTY_STATE : bases.get(chunks[from])!;
    for (; from < place; from++) {
      for (const [, changes] of (await this.linesOf(chunks[from])).lines) {
        state = applyChanges(state, changes);
      }
      bases.set(chunks[from + 1], state);
      if (bases.size > HELD_BASES) {
        bases.delete(bases.keys().next().value!);
      }
    }
    return state;
  }

  private linesOf(chunk: PlacedChunk): Promise<Lines> {
    const held = this.held.get(chunk) ?? this.readLines(chunk);
    this.held.delete(chunk);
    this.held.set(chunk, held);
    if (this.held.size > HELD_CHUNKS) {
      this.held.delete(this.held.keys().next().value!);
    }
    return held;
  }

  private async readLines(chunk: PlacedChunk): Promise<Lines> {
    const lines = (await textOf(this.bytes, chunk)).split("\n");
    if (lines.length !== chunk.rows) {
      throw new RecordingError(`the recording is damaged: a chunk has ${lines.length} rows and claims ${chunk.rows}`);
    }
    return { lines: lines.map((line, at) => checkedLine(line, chunk.first + at, chunk.kind === "key" && at === 0)), states: [] };
  }
}

/** @param bytes of a file @throws RecordingError where it is no recording, of another version, or damaged */
export async function openRecording(bytes: Uint8Array): Promise<Recording> {
  const start = new TextDecoder().decode(bytes.subarray(0, 64));
  if (!start.startsWith(MAGIC)) {
    throw new RecordingError("the file is no recording of viommu run --record: it does not begin as one");
  }
  if (!start.startsWith(FIRST_LINE)) {
    throw new RecordingError(`the recording has format version ${/^[^\n]{0,20}/.exec(start.slice(MAGIC.length))![0]}; this viommu reads version ${FORMAT_VERSION}`);
  }
  const [header, ...chunks] = findChunks(bytes);
  if (header?.kind !== "header") {
    throw new RecordingError("the recording is cut off in its header: nothing of it can be read");
  }
  const last = chunks.at(-1);
  const end = last?.kind === "end" ? checkedEnd(await textOf(bytes, last)) : null;
  return new Recording(bytes, checkedHeader(await textOf(bytes, header)), chunks.filter(({ kind }) => kind !== "end"), end);
}

/** The chunks that are there as a whole: a last one that is cut off is left out. */
function findChunks(bytes: Uint8Array): PlacedChunk[] {
  const chunks: PlacedChunk[] = [];
  let next: number | null = null;
  for (let at = FIRST_LINE.length; at + CHUNK_HEADER_BYTES <= bytes.length; ) {
    const chunk = decodeChunk(bytes, at);
    const stored = at + CHUNK_HEADER_BYTES;
    if (stored + chunk.storedBytes > bytes.length) {
      break;
    }
    const isRows = chunk.kind === "key" || chunk.kind === "rows";
    if (chunks.length >= CHUNK_LIMIT || chunks.at(-1)?.kind === "end" || (chunk.kind === "header") !== (chunks.length === 0) || (isRows && (chunk.rows === 0 || (next === null ? chunk.kind !== "key" : chunk.first !== next)))) {
      throw new RecordingError(`the recording is damaged: the chunk at byte ${at} does not follow the one before it`);
    }
    chunks.push({ ...chunk, at: stored });
    next = isRows ? chunk.first + chunk.rows : next;
    at = stored + chunk.storedBytes;
  }
  return chunks;
}

async function textOf(bytes: Uint8Array, { at, storedBytes, textBytes }: PlacedChunk): Promise<string> {
  const text = await inflate(bytes.subarray(at, at + storedBytes), textBytes);
  if (text === null) {
    throw new RecordingError(`the recording is damaged: the chunk at byte ${at} is not ${textBytes} bytes of compressed text`);
  }
  return new TextDecoder().decode(text);
}
