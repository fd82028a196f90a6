import { readFileSync } from "node:fs";
import { systemWords } from "./errno.js";
import { Refusal } from "./errors.js";

/** Larger than any file that a user means to give here. */
const LIMIT = 16 * 2 ** 20;

/** Reads a text file that the user named. @throws Refusal in the system's words */
export function readTextFile(path: string, what: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new Refusal(`Could not open '${path}': ${systemWords(error)}`, { found: what });
  }
  if (bytes.length > LIMIT) {
    throw new Refusal(`'${path}' is too large for ${what}`, { found: `${bytes.length} bytes`, wouldWork: `up to ${LIMIT} bytes` });
  }
  return bytes.toString("utf8").replace(/^\uFEFF/, "");
}
