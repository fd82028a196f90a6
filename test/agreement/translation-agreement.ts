/**
 * Judges translation cases: viommu against an architecture's reference, QEMU against viommu or against the reference
 * with the rows that it has.
 */
import { type Observation, requireRows } from "./agreement.js";

/** QEMU ends. */
export class Ends extends Error {}

/** The case reads or writes where the two machines do not have the same, or writes where nothing undoes it: it says nothing. */
export class Elsewhere extends Error {}

/** Which rows are asked for. */
export type Quirks<Q> = Pick<ReadonlySet<Q>, "has">;

export interface Subject<C, Q> {
  /** The QEMU and the machine, in words. */
  readonly name: string;
  /** The rows that this QEMU has. */
  readonly quirks: ReadonlySet<Q>;
  /** What the architecture shows, or with rows a QEMU. @throws Ends, Elsewhere */
  predict(one: C, quirks: Quirks<Q>): Observation;
  print(one: C): string;
}

/** So many disagreements are shown in full. */
const SHOWN = Number(process.env.VIOMMU_SHOWN ?? 5);
const ENDED: Observation = { process: "ended" };

export class TranslationAgreement<C, Q extends string> {
  readonly failures: string[] = [];
  disagreements = 0;
  private leftOut = 0;
  private compared = 0;
  private equal = 0;
  private readonly explained = new Map<Q, number>();
  private readonly began = Date.now();

  constructor(private readonly subject: Subject<C, Q>) {
    requireRows([...subject.quirks]);
  }

  /** False where the case leads to addresses that say nothing; it is not to be played. */
  takes(one: C): boolean {
    try {
      this.predict(one, new Set());
      this.predict(one, this.subject.quirks);
      return true;
    } catch (error) {
      if (error instanceof Elsewhere) {
        this.leftOut++;
        return false;
      }
      throw error;
    }
  }

  /**
   * @param theirs null: the QEMU has ended
   * @returns whether both show what was to be expected of them
   */
  judge(name: string, one: C, ours: Observation, theirs: Observation | null): boolean {
    this.compared++;
    const expected = this.predict(one, new Set());
    if (!same(ours, expected)) {
      this.fail(name, "viommu is not as the reference says", one, { viommu: ours, reference: expected });
      return false;
    }
    const shown = theirs ?? ENDED;
    if (same(ours, shown)) {
      this.equal++;
      return true;
    }
    const asked = new Set<Q>();
    const odd = this.predict(one, { has: (quirk: Q) => this.subject.quirks.has(quirk) && asked.add(quirk).has(quirk) });
    if (!same(odd, shown)) {
      this.fail(name, "QEMU differs", one, { viommu: ours, QEMU: shown, "with the known rows": odd });
      return false;
    }
    // The rows that have a part in it: without one of them, it would be different.
    for (const quirk of asked) {
      const others = new Set(this.subject.quirks);
      others.delete(quirk);
      if (this.differs(one, others, odd)) {
        this.explained.set(quirk, (this.explained.get(quirk) ?? 0) + 1);
      }
    }
    return true;
  }

  private differs(one: C, quirks: Quirks<Q>, from: Observation): boolean {
    try {
      return !same(this.predict(one, quirks), from);
    } catch (error) {
      if (error instanceof Elsewhere) {
        return true;
      }
      throw error;
    }
  }

  private predict(one: C, quirks: Quirks<Q>): Observation {
    try {
      return this.subject.predict(one, quirks);
    } catch (error) {
      if (error instanceof Ends) {
        return ENDED;
      }
      throw error;
    }
  }

  private fail(name: string, what: string, one: C, seen: Readonly<Record<string, Observation>>): void {
    this.disagreements++;
    if (this.failures.length >= SHOWN) {
      return;
    }
    const lines = [`${name} (${this.subject.name}): ${what}`];
    for (const key of new Set(Object.values(seen).flatMap((observation) => Object.keys(observation)))) {
      if (new Set(Object.values(seen).map((observation) => observation[key])).size > 1) {
        lines.push(...Object.entries(seen).map(([who, observation]) => `  ${key}: ${who}: ${observation[key] ?? "(nothing)"}`));
      }
    }
    const text = [...lines, this.subject.print(one)].join("\n");
    // A night is long: what disagrees is shown when it does, and again at the end.
    console.log(text);
    this.failures.push(text);
  }

  summary(): string {
    const rows = [...this.explained].map(([quirk, count]) => `${quirk} ${count}`).join(", ");
    return `${this.compared} cases: ${this.equal} equal, ${this.compared - this.equal - this.disagreements} explained (${rows}), ${this.disagreements} disagree, ${this.leftOut} left out; ${Date.now() - this.began} ms`;
  }
}

function same(a: Observation, b: Observation): boolean {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].every((key) => a[key] === b[key]);
}
