/** Counters by number as an object by name; those at zero are left out. */
export function countsByName(counts: ArrayLike<number>, name: (n: number) => string): Record<string, number> {
  const out: Record<string, number> = {};
  for (let n = 0; n < counts.length; n++) {
    if (counts[n] !== 0) {
      out[name(n)] = counts[n];
    }
  }
  return out;
}
