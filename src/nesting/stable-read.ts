/** Readings after the first, at most. */
const TRIES = 3;

/**
 * Reads a structure that a guest may be writing until two readings agree; after a few tries the last one counts:
 * whoever writes it all the time gets what he deserves, and it is read anew when he tells of it.
 *
 * @param read reads the words into its argument; negative: there is none to read
 * @param scratch as long as `out`
 * @returns what the last reading returned
 */
export function readUntilStable(read: (words: Int32Array) => number, out: Int32Array, scratch: Int32Array): number {
  let result = read(out);
  for (let tries = 0; tries < TRIES && result >= 0; tries++) {
    result = read(scratch);
    let differences = 0;
    for (let i = 0; i < out.length; i++) {
      differences |= out[i] ^ scratch[i];
    }
    out.set(scratch);
    if (differences === 0) {
      break;
    }
  }
  return result;
}
