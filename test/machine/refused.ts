import { Refusal } from "../../src/support/index.js";

/** The refusal that `body` ends with; fails when it ends otherwise. */
export function refusalOf(body: () => unknown): Refusal {
  try {
    body();
  } catch (error) {
    if (error instanceof Refusal) {
      return error;
    }
    throw error;
  }
  throw new Error("nothing was refused");
}

/** Splits a test's command line at spaces, with single quotes as a shell has them. */
export function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2]);
}
