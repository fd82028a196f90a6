import { A, Board, iotlbDomain, iotlbPages, SHADOWED, STATUS, wait } from "../test/vtd/accel/rig.js";
import { median, processorTime } from "./measure.js";
import type { Bench, BenchContext, BenchResult } from "./registry.js";

/** Mappings that are there beside those that come and go. */
const PRESENT = [1, 1_000, 100_000] as const;

/** Pages that one invalidation maps or unmaps. */
const PAGES = [1, 16, 512] as const;

/** Guest-physical places: leaf tables of 512 pages, and the pages. */
const LEAVES = 0x140_0000;
const TARGET = 0x40_0000;

/** Where the pages come and go: the directory's last 2 MiB. */
const BUFFER = 511;
const BUFFER_IOVA = BigInt(BUFFER) << 21n;
const DOMAIN = 5;

type Layout = "adjacent" | "scattered";

/** Processor time and host calls. */
interface Cost {
  readonly microseconds: number;
  readonly calls: number;
}

class MirroredGuest {
  readonly board = new Board(SHADOWED);
  private readonly leaf: number;
  private data = 0;

  /** A function in legacy mode whose second stage has `present` pages, none beside the page before. */
  constructor(readonly present: number) {
    const { board } = this;
    board.plug(A);
    const base = board.base(0);
    const directory = base + 0x2000;
    const tables = Math.ceil(present / 512);
    board.store(base, BigInt(base + 0x1000) | 3n);
    board.store(base + 0x1000, BigInt(directory) | 3n);
    for (let table = 0; table <= tables; table++) {
      const pages = Math.min(512, present - 512 * table);
      if (pages > 0) {
        board.store(LEAVES + 0x1000 * table, ...Array.from({ length: pages }, (_unused, page) => BigInt(scattered(page)) | 3n));
        board.store(directory + 8 * table, BigInt(LEAVES + 0x1000 * table) | 3n);
      }
    }
    this.leaf = LEAVES + 0x1000 * (tables + 1);
    board.store(directory + 8 * BUFFER, BigInt(this.leaf) | 3n);
    board.legacyContext(A, DOMAIN, 0n, 0);
    board.start(false);
    board.goOn();
  }

  get calls(): number {
    const { calls } = this.board.observer;
    return (calls.get("IOAS_MAP") ?? 0) + (calls.get("IOAS_UNMAP") ?? 0);
  }

  /** One invalidation, with all that it needs until the wait is done. */
  invalidate(descriptor: readonly [bigint, bigint?]): Cost {
    const { board } = this;
    const before = this.calls;
    this.data = (this.data + 1) & 0xffff;
    const start = processorTime();
    board.run(descriptor, wait(this.data));
    board.goOn();
    const microseconds = (processorTime() - start) * 1e3;
    if ((board.load(STATUS) & 0xffffn) !== BigInt(this.data)) {
      throw new Error(`the wait behind an invalidation is not done with ${this.present} mappings`);
    }
    return { microseconds, calls: this.calls - before };
  }

  /** Writes the entries of the buffer's first pages, and invalidates them. */
  change(pages: number, layout: Layout | null): Cost {
    this.board.store(this.leaf, ...Array.from({ length: pages }, (_unused, page) => entry(page, layout)));
    return this.invalidate(iotlbPages(DOMAIN, BUFFER_IOVA, BigInt(Math.log2(pages))));
  }

  /** The buffer's pages one after the other, an invalidation and a wait each: how Linux maps memory that is not adjacent. */
  changeEach(layout: Layout | null): Cost {
    const sum = { microseconds: 0, calls: 0 };
    for (let page = 0; page < 512; page++) {
      this.board.store(this.leaf + 8 * page, entry(page, layout));
      const { microseconds, calls } = this.invalidate(iotlbPages(DOMAIN, BUFFER_IOVA + BigInt(page << 12)));
      sum.microseconds += microseconds;
      sum.calls += calls;
    }
    return sum;
  }
}

/** An entry of a leaf table; null: not present. */
function entry(page: number, layout: Layout | null): bigint {
  return layout === null ? 0n : BigInt(layout === "adjacent" ? TARGET + 0x1000 * page : scattered(page)) | 3n;
}

/** Guest-physical pages of which none follows the one before. */
function scattered(page: number): number {
  return TARGET + 0x1000 * ((page * 3) % 512);
}

function figuresOf(guest: MirroredGuest, context: BenchContext): BenchResult[] {
  const results: BenchResult[] = [];
  const note = (name: string, samples: readonly Cost[], mostCalls: number): void => {
    results.push({ name: `mirror.${name}.of${guest.present}`, unit: "us", value: median(samples.map((one) => one.microseconds)) });
    results.push({ name: `mirror.${name}Calls.of${guest.present}`, unit: "calls", value: samples[samples.length - 1].calls, target: mostCalls });
  };
  for (const layout of ["adjacent", "scattered"] as const) {
    for (const pages of PAGES) {
      const maps = [];
      const unmaps = [];
      for (let round = -3; round < context.rounds; round++) {
        const map = guest.change(pages, layout);
        const unmap = guest.change(pages, null);
        if (round >= 0) {
          maps.push(map);
          unmaps.push(unmap);
        }
      }
      note(`${layout}${pages}.map`, maps, layout === "adjacent" ? 1 : pages);
      note(`${layout}${pages}.unmap`, unmaps, 1);
    }
  }
  const eachMap = [];
  const eachUnmap = [];
  for (let round = -3; round < context.rounds; round++) {
    const map = guest.changeEach("scattered");
    const unmap = guest.changeEach(null);
    if (round >= 0) {
      eachMap.push(map);
      eachUnmap.push(unmap);
    }
  }
  note("each512.map", eachMap, 512);
  note("each512.unmap", eachUnmap, 512);
  note("domain", Array.from({ length: context.rounds }, () => guest.invalidate(iotlbDomain(DOMAIN))), 0);
  return results;
}

/** What a change of a mirrored second stage costs beside few and beside many mappings, and the host calls for it. */
export const mirrorBench: Bench = {
  name: "mirror",
  title: "maps and unmaps of a mirrored second stage",
  run(context): Promise<BenchResult[]> {
    // What runs first is not compiled yet.
    figuresOf(new MirroredGuest(PRESENT[1]), context);
    return Promise.resolve(PRESENT.flatMap((present) => figuresOf(new MirroredGuest(present), context)));
  },
};
