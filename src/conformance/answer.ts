/**
 * What a kernel answered to a call, as a record keeps it: "ok", "ok" and what the call gave, an errno, or an errno
 * and what the call gave all the same ("EIO entry_num=1"). Ids are not in it, nor addresses of the process.
 */
import { HostError, type Errno } from "../iommufd/index.js";

export type Answer = string;

/** The host has no way to make the call: such an answer is compared with nothing. */
export const NOT_EXPRESSIBLE: Answer = "not expressible";

/** Thrown by a call that the host has no way to make. */
export class NotExpressible extends Error {}

/** The answer to a call that has thrown; null: it is none, and is to be thrown on. */
export function refusedAnswer(error: unknown): Answer {
  if (error instanceof HostError) {
    return error.errno;
  }
  if (error instanceof NotExpressible) {
    return NOT_EXPRESSIBLE;
  }
  // A fault of the host's implementation: the run goes on, and its report tells of it.
  return `threw ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`;
}

/** An answer that has something to tell beside its errno. */
export function answer(errno: Errno | null, told: string): Answer {
  return `${errno ?? "ok"} ${told}`.trim();
}
