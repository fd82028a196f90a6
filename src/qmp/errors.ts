/** What a command answers where it cannot be done (QEMU's qapi/error.json). */
import { Refusal } from "../support/index.js";

export type ErrorClass = "GenericError" | "CommandNotFound" | "DeviceNotActive" | "DeviceNotFound" | "KVMMissingCap";

export class QmpError extends Error {
  constructor(
    readonly errorClass: ErrorClass,
    readonly desc: string,
  ) {
    super(desc);
  }
}

export function generic(desc: string): QmpError {
  return new QmpError("GenericError", desc);
}

/** An error of a command as the client gets it; null: it is none that a command may meet. */
export function asQmpError(error: unknown): QmpError | null {
  if (error instanceof QmpError) {
    return error;
  }
  if (error instanceof Refusal) {
    // QEMU's class for what device_add, device_del and the qom commands do not find (qdev-monitor.c, qom-qmp-cmds.c).
    return new QmpError(/^Device '.*' not found$/.test(error.words) ? "DeviceNotFound" : "GenericError", error.words);
  }
  return null;
}
