/**
 * The file of a recording: a line of text, then chunks. A chunk is a header of 32 bytes (little-endian words) and
 * compressed text (zlib's format, RFC 1950): lines of JSON. The first chunk is the header of the recording, the
 * others are rows with what each has changed; the first row of a chunk that is a key has the whole state. Loads in a browser.
 */

/** With which a file begins; the number is the format's version. */
export const MAGIC = "viommu recording ";
export const FORMAT_VERSION = 1;
export const FIRST_LINE = `${MAGIC}${FORMAT_VERSION}\n`;

export const CHUNK_HEADER_BYTES = 32;
/** "VREC". */
const CHUNK_MARK = 0x4345_5256;
/** Text of one chunk, in bytes, at most: what a file may make a reader hold. */
export const CHUNK_TEXT_LIMIT = 64 << 20;
/** Chunks of one file, at most. */
export const CHUNK_LIMIT = 1 << 20;

export type ChunkKind = "header" | "key" | "rows" | "end";
const KINDS: readonly ChunkKind[] = ["header", "key", "rows", "end"];

export interface Chunk {
  readonly kind: ChunkKind;
  /** Numbers of its rows: from `first` on, `rows` of them. */
  readonly first: number;
  readonly rows: number;
  /** Bytes of its text, and of what is stored of it. */
  readonly textBytes: number;
  readonly storedBytes: number;
}

/** What the first chunk has. */
export interface RecordingHeader {
  /** viommu's version. */
  readonly version: string;
  /** The machine's arguments; folders of files are left out. */
  readonly machine: readonly string[];
  /** The host, in words. */
  readonly host: string;
  /** What of memory is in it, in words: what cannot be answered at a row. */
  readonly about: string;
}

/** What the last chunk has. */
export interface RecordingEnd {
  /** Why no more is recorded: `the machine has ended`. */
  readonly reason: string;
  /** The limit in bytes was reached, and the machine went on. */
  readonly limited: boolean;
}

/** A file that is no recording, or a damaged one. */
export class RecordingError extends Error {
  override readonly name = "RecordingError";
}

export function encodeChunk({ kind, first, rows, textBytes, storedBytes }: Chunk): Uint8Array {
  const bytes = new Uint8Array(CHUNK_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, CHUNK_MARK, true);
  view.setUint32(4, KINDS.indexOf(kind), true);
  view.setFloat64(8, first, true);
  view.setUint32(16, rows, true);
  view.setUint32(20, textBytes, true);
  view.setUint32(24, storedBytes, true);
  return bytes;
}

/** @param at where its header begins @throws RecordingError */
export function decodeChunk(bytes: Uint8Array, at: number): Chunk {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, CHUNK_HEADER_BYTES);
  const kind = KINDS.at(view.getUint32(4, true) & 0xff);
  const chunk = { kind: kind ?? "rows", first: view.getFloat64(8, true), rows: view.getUint32(16, true), textBytes: view.getUint32(20, true), storedBytes: view.getUint32(24, true) };
  if (view.getUint32(0, true) !== CHUNK_MARK || kind === undefined || view.getUint32(4, true) >= KINDS.length || !Number.isSafeInteger(chunk.first) || chunk.first < 0) {
    throw new RecordingError(`the recording is damaged: what is at byte ${at} is no chunk`);
  }
  if (chunk.textBytes > CHUNK_TEXT_LIMIT || chunk.rows > chunk.textBytes) {
    throw new RecordingError(`the recording is damaged: the chunk at byte ${at} claims ${chunk.rows} rows in ${chunk.textBytes} bytes; at most ${CHUNK_TEXT_LIMIT} bytes are read`);
  }
  return chunk;
}
