/** What there is to tell of an input, all at once: errors, warnings, notes, each with its place. */
import { type Place, Refusal, type RefusalDetails } from "./errors.js";

export interface Finding {
  readonly level: "error" | "warning" | "note";
  /** Name of the rule in kebab-case: it stays the same. */
  readonly rule: string;
  /** Upstream's first, where upstream has words. */
  readonly words: string;
  readonly found?: string;
  readonly wouldWork?: string;
  /** Null: it is about the input as a whole. */
  readonly place: Place | null;
}

/** A refusal as findings. @param rule of those that name none */
export function errorFindings(refusal: Refusal, rule = "refused"): Finding[] {
  return refusal.parts.map(({ words, found, wouldWork, property, place, ...one }) => ({
    level: "error",
    rule: one.rule ?? rule,
    words,
    ...(found === undefined ? {} : { found }),
    ...(wouldWork === undefined ? {} : { wouldWork }),
    place: place === undefined ? null : property === undefined ? place : { ...place, property },
  }));
}

/** Gathers refusals, so that the first does not hide the others. */
export class RefusalCollector {
  private readonly refusals: Refusal[] = [];

  /** What `body` gives; undefined where it was refused. @param details what is known of a refusal here */
  attempt<T>(body: () => T, details: RefusalDetails = {}): T | undefined {
    try {
      return body();
    } catch (error) {
      if (!(error instanceof Refusal)) {
        throw error;
      }
      this.refusals.push(error.about(details));
      return undefined;
    }
  }

  get any(): boolean {
    return this.refusals.length > 0;
  }

  /** All of them in the order of their places; those without one come last. */
  get parts(): Refusal[] {
    const at = ({ place }: Refusal): number => place?.word ?? Number.POSITIVE_INFINITY;
    return this.refusals.flatMap((one) => one.parts).sort((a, b) => (at(a) === at(b) ? 0 : at(a) - at(b)));
  }

  /** @throws Refusal all of them as one, if there is any */
  throwAll(): void {
    if (this.any) {
      throw Refusal.of(this.parts);
    }
  }
}
