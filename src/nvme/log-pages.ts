/** Log pages besides the error information (5.14.1). */
import { TEMPERATURE } from "./features.js";
import { ADMIN, IO } from "./spec.js";

export interface Statistics {
  /** Bytes that the host has read and written. */
  bytesRead: number;
  bytesWritten: number;
  reads: number;
  writes: number;
  /** Failures of the disks. */
  mediaErrors: number;
}

const UNIT_BYTES = 512_000;

/** SMART and health (5.14.1.2). */
export function smartLog(stats: Statistics, warning: number, errors: number, hours: number): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  const count = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  bytes[0] = warning;
  view.setUint16(1, TEMPERATURE.now, true);
  bytes[3] = 100; // available spare, percent
  bytes[4] = 10; // and its threshold
  count(32, Math.ceil(stats.bytesRead / UNIT_BYTES));
  count(48, Math.ceil(stats.bytesWritten / UNIT_BYTES));
  count(64, stats.reads);
  count(80, stats.writes);
  count(112, 1); // power cycles
  count(128, hours);
  count(160, stats.mediaErrors);
  count(176, errors);
  return bytes;
}

/** Firmware slot information (5.14.1.3): slot 1 is active and the only one. */
export function firmwareLog(revision: string): Uint8Array {
  const bytes = new Uint8Array(512);
  bytes[0] = 1;
  bytes.fill(0x20, 8, 16);
  bytes.set(Buffer.from(revision, "latin1").subarray(0, 8), 8);
  return bytes;
}

/** Changed namespace list (5.14.1.4): none changes while the controller is there. */
export function changedNamespaces(): Uint8Array {
  return new Uint8Array(4096);
}

const SUPPORTED = 1;
/** The command may change what is in a namespace (LBCC). */
const CHANGES_BLOCKS = 1 << 1;

/** Commands supported and effects (5.14.1.5). */
export function effectsLog(): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  for (const opcode of Object.values(ADMIN)) {
    view.setUint32(4 * opcode, SUPPORTED, true);
  }
  for (const opcode of Object.values(IO)) {
    const changes = opcode === IO.WRITE || opcode === IO.WRITE_ZEROES || opcode === IO.DATASET_MANAGEMENT;
    view.setUint32(1024 + 4 * opcode, SUPPORTED | (changes ? CHANGES_BLOCKS : 0), true);
  }
  return bytes;
}
