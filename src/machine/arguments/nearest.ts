/** Levenshtein distance of two short words, where a swap of neighbours counts as one (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_unused, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], beforeLast[j - 2] + 1);
      }
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length];
}

/**
 * The candidate that `word` is most likely a misspelling of, or the first that has it as a part (smmuv3 for
 * arm-smmuv3) or is a part of it; null when none is near (a third of its letters, two at least).
 */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  const lower = plain(word);
  const all = [...candidates];
  let best: string | null = null;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of all) {
    const distance = editDistance(lower, plain(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  const contained = (whole: string, part: string): boolean => part.length >= SHORTEST_PART && whole.includes(part);
  return best ?? all.find((candidate) => contained(plain(candidate), lower) || contained(lower, plain(candidate))) ?? null;
}

/** Letters that a part of a word has at least: fewer are in too many words. */
const SHORTEST_PART = 5;

function plain(word: string): string {
  return word.toLowerCase().replaceAll("_", "-");
}

/** A list for a sentence: `a, b, c`; of more than `limit`, `a, b and 7 more`. */
export function listed(words: Iterable<string>, limit = 40): string {
  const all = [...words];
  const shown = all.slice(0, limit);
  return all.length > limit ? `${shown.join(", ")} and ${all.length - limit} more` : shown.join(", ");
}
