/** What the guest expected of the machine and did not find: a check that failed, or hardware that gave no answer. */
export class GuestFailure extends Error {
  constructor(message: string) {
    super(message);
    this.name = "GuestFailure";
  }
}

/** Throws GuestFailure with `message` unless the condition holds. */
export function check(condition: boolean, message: string | (() => string)): asserts condition {
  if (!condition) {
    throw new GuestFailure(typeof message === "string" ? message : message());
  }
}
