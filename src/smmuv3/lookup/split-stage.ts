import { MEMORY_ABORT, type WordMemory } from "../../memory/index.js";
import { ACCESS_READ, PageWalker, WALK_OK, type StageTables } from "../../translation/index.js";

/** Memory as stage 1 sees it under a stage 2: addresses are IPAs; one that stage 2 does not map is an external abort. */
class Stage2Memory implements WordMemory {
  readonly flat = new Int32Array(0);
  readonly flatBase = 0;
  readonly flatBytes = 0;
  loadedLow = 0;
  loadedHigh = 0;
  /** The stage 2 to look through. */
  tables!: StageTables;
  private readonly walker: PageWalker;

  constructor(private readonly memory: WordMemory) {
    this.walker = new PageWalker(memory);
  }

  load64(addressHigh: number, addressLow: number): number {
    if (this.walker.walkStage2(this.tables, addressHigh, addressLow, ACCESS_READ) !== WALK_OK) {
      return MEMORY_ABORT;
    }
    const code = this.memory.load64(this.walker.outHigh, this.walker.outLow);
    this.loadedLow = this.memory.loadedLow;
    this.loadedHigh = this.memory.loadedHigh;
    return code;
  }

  store64(): number {
    return MEMORY_ABORT;
  }

  compareExchange64(): number {
    return MEMORY_ABORT;
  }
}

/** Stage 1's own output under a stage 2: what a split-stage Translation Request is answered with (Arm IHI 0070, 13.6.3). */
export class SplitStage {
  private readonly memory: Stage2Memory;
  private readonly walker: PageWalker;

  constructor(memory: WordMemory) {
    this.memory = new Stage2Memory(memory);
    this.walker = new PageWalker(this.memory);
  }

  /** Walks stage 1 for an input address. Returns the walker with its out* fields, IPAs; null where the walk faults. */
  walk(stage1: StageTables, stage2: StageTables, high: number, low: number): PageWalker | null {
    this.memory.tables = stage2;
    return this.walker.walkStage1(stage1, high, low, 0) === WALK_OK ? this.walker : null;
  }
}
