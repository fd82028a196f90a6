import { readFileSync } from "node:fs";
import { Refusal } from "../support/index.js";

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

/** What strerror says of the errors that opening and writing files give. */
export function systemWords(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const words: Record<string, string> = {
    ENOENT: "No such file or directory",
    EISDIR: "Is a directory",
    ENOTDIR: "Not a directory",
    EACCES: "Permission denied",
    EEXIST: "File exists",
    ENOSPC: "No space left on device",
    EROFS: "Read-only file system",
    ENAMETOOLONG: "File name too long",
    ELOOP: "Too many levels of symbolic links",
  };
  return words[code] ?? (error instanceof Error ? error.message : String(error));
}
