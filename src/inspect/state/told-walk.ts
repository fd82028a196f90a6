/** A walk that tells what it reads: memory that notes each load, and a walker that says which descriptor it is of. */
import { MEMORY_ABORT, MEMORY_OK, type WordMemory } from "../../memory/index.js";
import { toBigInt, toNumber } from "../../support/index.js";
import { PageWalker, type Tables } from "../../translation/index.js";

/** One load of a 64-bit word. */
export interface Load {
  readonly address: bigint;
  /** As it was read; null: nothing answers. */
  readonly word: bigint | null;
  /** The descriptor that it is; null: a word of a structure. */
  readonly descriptor: { readonly stage: 1 | 2; readonly level: number; readonly tables: Tables } | null;
  /** Of a stage-1 descriptor its address before stage 2; of a structure behind stage 2 the one that the walk before it was of; else null. */
  readonly before: bigint | null;
  /** Which walk of the walker it belongs to, from 1; 0: before the first. */
  readonly walk: number;
}

/** Loads are noted. Each word is read once: what is read, and what a walk writes (accessed and dirty flags), is kept here and goes nowhere. */
export class NotedMemory implements WordMemory {
  readonly flat = new Int32Array(0);
  readonly flatBase = 0;
  readonly flatBytes = 0;
  loadedLow = 0;
  loadedHigh = 0;
  readonly loads: Load[] = [];
  /** Set by the walker before a descriptor's load. */
  next: { readonly descriptor: NonNullable<Load["descriptor"]>; readonly before: bigint | null } | null = null;
  walk = 0;
  /** The input of the walk of stage 2 alone that ended last, until a structure is read. */
  translated: bigint | null = null;
  private readonly kept = new Map<number, readonly [high: number, low: number]>();

  /** @param noting false: words are kept, loads are not noted */
  constructor(
    private readonly inner: WordMemory,
    private readonly noting = true,
  ) {}

  load64(addressHigh: number, addressLow: number): number {
    const { next } = this;
    const known = this.read(addressHigh, addressLow);
    if (known !== null) {
      [this.loadedHigh, this.loadedLow] = known;
    }
    if (this.noting) {
      this.loads.push({
        address: toBigInt(addressHigh, addressLow),
        word: known === null ? null : toBigInt(known[0], known[1]),
        descriptor: next?.descriptor ?? null,
        before: next === null ? this.translated : next.before,
        walk: this.walk,
      });
    }
    this.next = null;
    return known === null ? MEMORY_ABORT : MEMORY_OK;
  }

  store64(): number {
    return MEMORY_ABORT;
  }

  compareExchange64(addressHigh: number, addressLow: number, _expectedHigh: number, _expectedLow: number, high: number, low: number): number {
    if (this.read(addressHigh, addressLow) === null) {
      return MEMORY_ABORT;
    }
    this.kept.set(toNumber(addressHigh, addressLow), [high, low]);
    return MEMORY_OK;
  }

  private read(high: number, low: number): readonly [number, number] | null {
    const address = toNumber(high, low);
    let known = this.kept.get(address);
    if (known === undefined) {
      if (this.inner.load64(high, low) !== MEMORY_OK) {
        return null;
      }
      known = [this.inner.loadedHigh, this.inner.loadedLow];
      this.kept.set(address, known);
    }
    return known;
  }
}

/** What walks over a `NotedMemory`. */
export class TellingWalker extends PageWalker {
  private first: Tables | null = null;
  private second: Tables | null = null;
  /** ACCESS_* of each walk. */
  readonly accesses: number[] = [];

  constructor(private readonly noted: NotedMemory) {
    super(noted);
  }

  override walkStage1(tables: Tables, iovaHigh: number, iovaLow: number, access: number): number {
    this.begin(tables, null, access);
    return super.walkStage1(tables, iovaHigh, iovaLow, access);
  }

  override walkStage2(tables: Tables, ipaHigh: number, ipaLow: number, access: number): number {
    this.begin(null, tables, access);
    this.noted.translated = toBigInt(ipaHigh, ipaLow);
    return super.walkStage2(tables, ipaHigh, ipaLow, access);
  }

  override walkNested(stage1: Tables, stage2: Tables, iovaHigh: number, iovaLow: number, access: number): number {
    this.begin(stage1, stage2, access);
    return super.walkNested(stage1, stage2, iovaHigh, iovaLow, access);
  }

  protected override load(high: number, low: number, stage: 1 | 2, level: number, atHigh: number, atLow: number): boolean {
    const tables = (stage === 1 ? this.first : this.second)!;
    this.noted.next = { descriptor: { stage, level, tables }, before: stage === 1 && this.second !== null ? toBigInt(atHigh, atLow) : null };
    return super.load(high, low, stage, level, atHigh, atLow);
  }

  private begin(stage1: Tables | null, stage2: Tables | null, access: number): void {
    this.first = stage1;
    this.second = stage2;
    this.noted.walk++;
    this.noted.translated = null;
    this.accesses.push(access);
  }
}
