import { get, put } from "../../../../support/index.js";
import { FAULT, FAULT_RECORD_BYTES, FAULT_RECORD_WORDS, FRCD } from "../../../../vtd/spec/index.js";
import type { FaultOrigin } from "../hardware-port.js";

/**
 * What a unit that has a first stage alone reports in place of a nested one's reason (Intel VT-d 7.1.3, SFS):
 * where the guest's memory does not let its tables be read or written, they cannot be accessed, for it.
 */
const ALONE: ReadonlyMap<number, number> = new Map([
  [FAULT.SM_FS_BEYOND_SECOND_STAGE, FAULT.SM_FS_ACCESS],
  [FAULT.SM_FS_ROOT_READ, FAULT.SM_FS_ROOT_ACCESS],
  [FAULT.SM_FS_READ, FAULT.SM_FS_ACCESS],
  [FAULT.SM_FS_UPDATE, FAULT.SM_FS_UPDATE_FAILED],
]);

/**
 * The record of a nested translation's fault as the guest gets it (bytes, little-endian), with the host's SID.
 *
 * @param record the hardware's: four words of a fault recording register
 * @returns null for a fault that is the host's: of the second stage, or of the host's own tables
 */
export function guestRecord(record: Int32Array, origin: FaultOrigin): Uint8Array | null {
  const reason = get(record, FRCD.FR);
  const shown = ALONE.get(reason) ?? (origin === "first" ? reason : origin === "tables" ? FAULT.SM_FS_ACCESS : undefined);
  if (shown === undefined) {
    return null;
  }
  const words = record.slice(0, FAULT_RECORD_WORDS);
  put(words, FRCD.FR, shown);
  return recordBytes(words);
}

/** A fault record's words as bytes, little-endian. */
export function recordBytes(record: Int32Array): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(FAULT_RECORD_BYTES));
  record.subarray(0, FAULT_RECORD_WORDS).forEach((word, i) => bytes.setInt32(4 * i, word, true));
  return new Uint8Array(bytes.buffer);
}
