/**
 * What a user asked for that cannot be: one message, exit code 2 at start, or the refusal of a single
 * hot-plugged device. `words` are upstream's where upstream has words (people search for them).
 */
export class Refusal extends Error {
  readonly words: string;
  readonly found: string | undefined;
  readonly wouldWork: string | undefined;
  /** Which rule it is, in kebab-case: what `viommu check` and those who read its findings go by. */
  readonly rule: string | undefined;
  /** The argument that it is about, as messages show it: `-device edu,addr=1`. */
  where: string | undefined;

  constructor(words: string, details: { found?: string; wouldWork?: string; rule?: string; where?: string } = {}) {
    super(
      [
        words,
        details.found === undefined ? undefined : `  found: ${details.found}`,
        details.wouldWork === undefined ? undefined : `  would work: ${details.wouldWork}`,
      ]
        .filter((line) => line !== undefined)
        .join("\n"),
    );
    this.name = "Refusal";
    this.words = words;
    this.found = details.found;
    this.wouldWork = details.wouldWork;
    this.rule = details.rule;
    this.where = details.where;
  }

  /** The same refusal under a prefix, such as "Failed to set vIOMMU: ". */
  prefixed(prefix: string): Refusal {
    return new Refusal(prefix + this.words, this);
  }
}
