/** Writes a recording: each row of a machine's time line, with what it has changed of the state. */
import { deflateSync } from "node:zlib";
import { type Changes, CHUNK_TEXT_LIMIT, type ChunkKind, encodeChunk, FIRST_LINE, type RecordingEnd, type RecordingHeader } from "../recording/index.js";
import type { TimelineRow } from "../report/index.js";
import type { Timeline } from "../timeline/index.js";
import { Capture, type Captured } from "./capture.js";

/** Text that is gathered before it is written, in bytes; a crash loses what is gathered. */
const GATHERED = 1 << 20;
/** What is gathered is written after this time, in milliseconds. */
const PATIENCE = 1000;
/** A key comes after so many times its own text, and after so many chunks. */
const KEY_TIMES = 4;
const KEY_CHUNKS = 64;
const MACHINE_ENDED = "the machine has ended";
/** What the end of a recording takes, in bytes. */
const END_BYTES = 512;

export interface RecorderOptions {
  readonly timeline: Timeline;
  readonly captured: Captured;
  readonly header: RecordingHeader;
  /** Takes the file, piece by piece. @throws Error where it cannot */
  readonly write: (bytes: Uint8Array) => void;
  /** Bytes of the file, at most. */
  readonly limit: number;
  /** The recording ends before the machine does: told once, in words. */
  readonly onEnd: (words: string) => void;
}

export class Recorder {
  /** Rows that are in the file, and its bytes. */
  rows = 0;
  bytes = 0;
  /** Null: it goes on. */
  ended: RecordingEnd | null = null;
  /** It went on until the machine ended. */
  isWhole = false;
  private readonly capture: Capture;
  private leave: (() => void) | null = null;
  private lines: string[] = [];
  private gathered = 0;
  private first = 0;
  private isKey = false;
  private sinceKey = 0;
  private chunksSinceKey = 0;
  private keyText = 0;
  private timer: NodeJS.Timeout | null = null;

  /** Writes the header, and begins. @throws Error where that cannot be written */
  constructor(private readonly options: RecorderOptions) {
    this.capture = new Capture(options.captured);
    this.write(new TextEncoder().encode(FIRST_LINE));
    this.writeChunk("header", 0, 0, JSON.stringify(options.header));
    this.leave = options.timeline.subscribe((row) => this.take(row));
    options.timeline.note("RECORDING", "begins");
  }

  /** The machine is about to end. */
  close(): void {
    if (this.ended === null && this.leave !== null) {
      this.options.timeline.note("RECORDING", "ends");
    }
    this.finish({ reason: MACHINE_ENDED, limited: false });
  }

  private take(row: TimelineRow): void {
    if (this.ended !== null) {
      return;
    }
    try {
      if (this.lines.length === 0) {
        this.first = row.number;
        this.isKey = this.keyText === 0 || this.sinceKey > KEY_TIMES * this.keyText || this.chunksSinceKey >= KEY_CHUNKS;
      }
      const whole = this.isKey && this.lines.length === 0;
      const changes = this.changes(whole);
      if (changes === null && whole) {
        // A key waits for a machine that can be told.
        this.isKey = false;
        if (this.keyText === 0) {
          return;
        }
      }
      const line = JSON.stringify([row, changes ?? {}]);
      if (this.isKey && whole) {
        [this.keyText, this.sinceKey, this.chunksSinceKey] = [Math.max(line.length, GATHERED / KEY_TIMES), 0, 0];
      }
      this.lines.push(line);
      this.gathered += line.length;
      this.timer ??= setTimeout(() => this.flush(), PATIENCE).unref();
      if (this.gathered >= Math.min(GATHERED, 2 * this.options.limit)) {
        this.flush();
      }
    } catch (error) {
      this.fail(error);
    }
  }

  /** Null: a function is being plugged or unplugged, and the state is the one before. */
  private changes(whole: boolean): Changes | null {
    try {
      return this.capture.changes(whole);
    } catch {
      return null;
    }
  }

  /** Writes what is gathered. */
  private flush(): void {
    if (this.timer !== null) {
      clearTimeout(this.timer);
      this.timer = null;
    }
    const { lines, first } = this;
    if (lines.length === 0 || this.ended !== null) {
      return;
    }
    [this.lines, this.gathered] = [[], 0];
    try {
      const text = lines.join("\n");
      if (this.writeChunk(this.isKey ? "key" : "rows", first, lines.length, text)) {
        this.rows += lines.length;
        this.sinceKey += text.length;
        this.chunksSinceKey++;
      } else {
        this.finish({ reason: `the limit of ${this.options.limit} bytes is reached`, limited: true });
        this.options.onEnd(`the recording has reached its limit of ${this.options.limit} bytes: it ends with row ${first - 1}, and the machine goes on`);
      }
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    const words = error instanceof Error ? error.message : String(error);
    this.lines = [];
    this.finish({ reason: words, limited: false });
    this.options.onEnd(`the recording ends here, and the machine goes on: ${words}`);
  }

  private finish(end: RecordingEnd): void {
    this.leave?.();
    this.leave = null;
    if (this.ended !== null) {
      return;
    }
    this.flush();
    if (this.ended !== null) {
      return;
    }
    this.ended = end;
    this.isWhole = end.reason === MACHINE_ENDED;
    try {
      this.writeChunk("end", 0, 0, JSON.stringify(end), 0);
    } catch {
      // A recording without an end is one that is cut off.
    }
  }

  /** False: the file would be longer than it may be, and nothing is written. */
  private writeChunk(kind: ChunkKind, first: number, rows: number, text: string, reserve = END_BYTES): boolean {
    const plain = Buffer.from(text);
    if (plain.length > CHUNK_TEXT_LIMIT) {
      throw new Error(`the state of the machine is ${plain.length} bytes; a recording takes at most ${CHUNK_TEXT_LIMIT}`);
    }
    const stored = deflateSync(plain, { level: 3 });
    const header = encodeChunk({ kind, first, rows, textBytes: plain.length, storedBytes: stored.length });
    if (this.bytes + header.length + stored.length + reserve > this.options.limit && kind !== "header") {
      return false;
    }
    this.write(Buffer.concat([header, stored]));
    return true;
  }

  private write(bytes: Uint8Array): void {
    this.options.write(bytes);
    this.bytes += bytes.length;
  }
}
