import type { HardwareIommu, InvalidationTarget } from "./iommu.js";

export interface UnitCounters {
  /** Untranslated and translated requests, and translation requests, that came in. */
  transactions: number;
  /** Of them those that ended with a fault, an abort, or a refusal. */
  faults: number;
  /** Translations answered by the TLB, and those that took a walk. */
  tlbHits: number;
  walks: number;
  /** Event or fault records given to the listeners. */
  events: number;
  /** Commands, or descriptors of the invalidation queue, by opcode or type. */
  readonly commands: Map<number, number>;
}

/** What the room of an architecture does the translating with. */
export interface UnitTranslator {
  readonly outHigh: number;
  readonly outLow: number;
  readonly outPageBits: number;
  /** Translations that took a walk of page tables. */
  readonly walks: number;
  readonly tlb: { liveEntries(): number };
}

/** What physical IOMMUs of both architectures have: a description, functions behind them, counters, listeners. */
export abstract class HardwareUnit<Description extends { readonly name: string; readonly errata: readonly string[] }, Listener> implements HardwareIommu {
  readonly counters: UnitCounters = { transactions: 0, faults: 0, tlbHits: 0, walks: 0, events: 0, commands: new Map() };
  outHigh = 0;
  outLow = 0;
  outPageBits = 0;
  abstract readonly outDiscarded: boolean;
  protected abstract readonly translator: UnitTranslator;
  protected readonly targets = new Map<number, InvalidationTarget>();
  protected readonly listeners: Listener[] = [];
  private walksBefore = 0;

  constructor(readonly description: Description) {}

  get name(): string {
    return this.description.name;
  }

  hasErratum(erratum: Description["errata"][number]): boolean {
    return this.description.errata.includes(erratum);
  }

  connect(sourceId: number, target: InvalidationTarget): void {
    this.targets.set(sourceId, target);
  }

  /** Entries that the TLB could still hit. Looks at all of them. */
  get liveTlbEntries(): number {
    return this.translator.tlb.liveEntries();
  }

  abstract translate(sourceId: number, pasid: number, high: number, low: number, access: number): boolean;
  abstract translationRequest(sourceId: number, pasid: number, high: number, low: number, access: number): number;
  abstract translated(sourceId: number, pasid: number, high: number, low: number, access: number): boolean;
  abstract close(): void;

  protected countCommand(code: number): void {
    const { commands } = this.counters;
    commands.set(code, (commands.get(code) ?? 0) + 1);
  }

  /** Before a request is translated. */
  protected begin(): void {
    this.counters.transactions++;
    this.walksBefore = this.translator.walks;
  }

  /** After it: counts it and takes its result over. `fromTlb`: without a walk it would be a hit. */
  protected end(answer: number, fromTlb: boolean): void {
    const { translator, counters } = this;
    if (translator.walks !== this.walksBefore) {
      counters.walks++;
    } else if (fromTlb) {
      counters.tlbHits++;
    }
    this.outHigh = translator.outHigh;
    this.outLow = translator.outLow;
    this.outPageBits = translator.outPageBits;
    if (answer < 0) {
      counters.faults++;
    }
  }
}
