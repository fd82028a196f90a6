/** A machine's arguments as a recording tells them: it may be sent to somebody. */

/** Leaves folders out of every name of a file: `file=/home/me/disk.img` becomes `file=disk.img`. */
export function withoutFolders(words: readonly string[]): string[] {
  return words.map((word) => word.replace(/(^|[=:,])\.{0,2}(?:\/[^,=:/]*)*\/([^,=:/]*)/g, "$1$2").replace(/(^|[=:,])[^,=:/]+\/(?:[^,=:/]*\/)*([^,=:/]*)/g, "$1$2"));
}
