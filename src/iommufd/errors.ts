import type { Errno } from "../support/index.js";

export { ERRNO, type Errno, errnoName, errnoNumber } from "../support/index.js";

/** A refused host call: which operation, the errno, and what it was about. */
export class HostError extends Error {
  constructor(
    /** The call's name as the account counts it, such as "HWPT_ALLOC". */
    readonly operation: string,
    readonly errno: Errno,
    readonly detail: string,
  ) {
    super(`${operation}: ${errno}${detail === "" ? "" : ` (${detail})`}`);
    this.name = "HostError";
  }
}

/** Makes a host call: the host's refusal, or null where it is done. Any other error is thrown on. */
export function refusalOf(call: () => void): HostError | null {
  try {
    call();
    return null;
  } catch (error) {
    return hostError(error);
  }
}

/** What has been caught, as the host's refusal; any other error is thrown on. */
export function hostError(error: unknown): HostError {
  if (error instanceof HostError) {
    return error;
  }
  throw error;
}
