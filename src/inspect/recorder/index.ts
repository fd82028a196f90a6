/** Recordings of machines, written. */
export { Recorder, type RecorderOptions } from "./recorder.js";
export { Capture, type Captured } from "./capture.js";
export { withoutFolders } from "./machine-words.js";
