/** Judges translation cases: viommu against the reference, QEMU against viommu or against the rows that it has. */
import { type Observation, requireRows } from "../agreement.js";
import type { QemuProgram } from "../find-qemu.js";
import type { TranslationCase } from "./image.js";
import type { SmmuMachine } from "./machines.js";
import { printCase } from "./print-case.js";
import { Elsewhere, Ends, predict, type Quirk } from "./reference.js";
import { quirksOf } from "./translation-differences.js";

/** So many disagreements are shown in full. */
const SHOWN = Number(process.env.VIOMMU_SHOWN ?? 5);
const NO_QUIRKS: ReadonlySet<Quirk> = new Set();
const ENDED: Observation = { process: "ended" };

export class TranslationAgreement {
  readonly failures: string[] = [];
  disagreements = 0;
  private leftOut = 0;
  private compared = 0;
  private equal = 0;
  private readonly explained = new Map<Quirk, number>();
  private readonly quirks: ReadonlySet<Quirk>;
  private readonly began = Date.now();

  constructor(
    private readonly program: QemuProgram,
    private readonly machine: SmmuMachine,
  ) {
    this.quirks = quirksOf(program.version);
    requireRows([...this.quirks]);
  }

  /** False where the case leads to addresses that say nothing; it is not to be played. */
  takes(one: TranslationCase): boolean {
    try {
      this.predict(one, NO_QUIRKS);
      this.predict(one, this.quirks);
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
  judge(name: string, one: TranslationCase, ours: Observation, theirs: Observation | null): boolean {
    this.compared++;
    const expected = this.predict(one, NO_QUIRKS);
    if (!same(ours, expected)) {
      this.fail(name, "viommu is not as the reference says", one, { viommu: ours, reference: expected });
      return false;
    }
    const shown = theirs ?? ENDED;
    if (same(ours, shown)) {
      this.equal++;
      return true;
    }
    const asked = new Set<Quirk>();
    const odd = this.predict(one, { has: (quirk) => this.quirks.has(quirk) && asked.add(quirk).has(quirk) });
    if (!same(odd, shown)) {
      this.fail(name, "QEMU differs", one, { viommu: ours, QEMU: shown, "with the known rows": odd });
      return false;
    }
    // The rows that have a part in it: without one of them, it would be different.
    for (const quirk of asked) {
      const others = new Set(this.quirks);
      others.delete(quirk);
      if (this.differs(one, others, odd)) {
        this.explained.set(quirk, (this.explained.get(quirk) ?? 0) + 1);
      }
    }
    return true;
  }

  private differs(one: TranslationCase, quirks: ReadonlySet<Quirk>, from: Observation): boolean {
    try {
      return !same(this.predict(one, quirks), from);
    } catch (error) {
      if (error instanceof Elsewhere) {
        return true;
      }
      throw error;
    }
  }

  private predict(one: TranslationCase, quirks: Pick<ReadonlySet<Quirk>, "has">): Observation {
    try {
      return predict(one, this.machine.stages, quirks);
    } catch (error) {
      if (error instanceof Ends) {
        return ENDED;
      }
      throw error;
    }
  }

  private fail(name: string, what: string, one: TranslationCase, seen: Readonly<Record<string, Observation>>): void {
    this.disagreements++;
    if (this.failures.length >= SHOWN) {
      return;
    }
    const lines = [`${name} (${this.program.name}, ${this.machine.name}): ${what}`];
    for (const key of new Set(Object.values(seen).flatMap((observation) => Object.keys(observation)))) {
      if (new Set(Object.values(seen).map((observation) => observation[key])).size > 1) {
        lines.push(...Object.entries(seen).map(([who, observation]) => `  ${key}: ${who}: ${observation[key] ?? "(nothing)"}`));
      }
    }
    const text = [...lines, printCase(one)].join("\n");
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
