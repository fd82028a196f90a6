/** Where something was said: a word of a file or of the command line. */
export interface Place {
  /** A file's name, or "command line". */
  readonly source: string;
  /** From 1; null: words that came without lines. */
  readonly line: number | null;
  /** From 1; null as `line`. */
  readonly column: number | null;
  /** Index of the word among the words of the input; null: it is about no word. */
  readonly word: number | null;
  /** What stands there, shortened where it is long: `-device vfio-pci,...`. */
  readonly text: string;
  /** The property that it is about, where it is about one. */
  readonly property?: string;
}

export interface RefusalDetails {
  readonly found?: string;
  readonly wouldWork?: string;
  /** Name of the rule in kebab-case, for programs. */
  readonly rule?: string;
  /** The argument that it is about, as `Place.text`. */
  readonly where?: string;
  readonly property?: string;
  readonly place?: Place;
}

/**
 * What a user asked for that cannot be: one message, exit code 2 at start, or the refusal of a single
 * hot-plugged device. `words` are upstream's where upstream has words (people search for them).
 */
export class Refusal extends Error implements RefusalDetails {
  readonly words: string;
  readonly found: string | undefined;
  readonly wouldWork: string | undefined;
  readonly rule: string | undefined;
  readonly where: string | undefined;
  readonly property: string | undefined;
  readonly place: Place | undefined;

  constructor(words: string, details: RefusalDetails = {}, message = format(words, details)) {
    super(message);
    this.name = "Refusal";
    this.words = words;
    this.found = details.found;
    this.wouldWork = details.wouldWork;
    this.rule = details.rule;
    this.where = details.where;
    this.property = details.property;
    this.place = details.place;
  }

  /** Several refusals as one, whose words are the first's and whose message is of all; one as itself. */
  static of(refusals: readonly Refusal[]): Refusal {
    const parts = refusals.flatMap((one) => one.parts);
    return parts.length === 1 ? parts[0] : new SeveralRefusals(parts);
  }

  /** Each refusal by itself. */
  get parts(): readonly Refusal[] {
    return [this];
  }

  /** The same refusal under a prefix, such as "Failed to set vIOMMU: ". */
  prefixed(prefix: string): Refusal {
    return Refusal.of(this.parts.map((one) => new Refusal(prefix + one.words, one)));
  }

  /** The same refusal with details that it has not yet. */
  about(details: RefusalDetails): Refusal {
    return Refusal.of(
      this.parts.map((one) => new Refusal(one.words, { ...details, ...Object.fromEntries(Object.entries(one).filter(([, value]) => value !== undefined)) })),
    );
  }
}

class SeveralRefusals extends Refusal {
  constructor(private readonly all: readonly Refusal[]) {
    super(all[0].words, all[0], all.map(({ message }) => message).join("\n"));
  }

  override get parts(): readonly Refusal[] {
    return this.all;
  }
}

function format(words: string, { place, found, wouldWork }: RefusalDetails): string {
  return [
    words,
    // Words of a command line are found by what they are, which `found` tells.
    place === undefined || place.line === null ? undefined : `  at: ${place.source}:${place.line}:${place.column ?? 1}`,
    found === undefined ? undefined : `  found: ${found}`,
    wouldWork === undefined ? undefined : `  would work: ${wouldWork}`,
  ]
    .filter((line) => line !== undefined)
    .join("\n");
}
