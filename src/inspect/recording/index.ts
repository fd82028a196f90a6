/** Recordings of machines, read: rows, and the state at each. Loads in a browser. */
export { openRecording, Recording } from "./recording.js";
export { CHUNK_TEXT_LIMIT, encodeChunk, FIRST_LINE, type ChunkKind, type RecordingEnd, RecordingError, type RecordingHeader } from "./format.js";
export { type Batch, bytesOf, type Changes, type PageChange, type Side, type UnitChange } from "./changes.js";
