/** When tables are looked for anew: whatever leads to others, with every register and page as it was. */
import { describe, expect, it } from "vitest";
import { Capture } from "../../../src/inspect/recorder/index.js";
import type { CachedEntry } from "../../../src/inspect/report/index.js";
import type { InspectionSource } from "../../../src/inspect/state/index.js";
import type { WordMemory } from "../../../src/memory/index.js";
import { FULL_IDR } from "../../smmuv3/lookup/bench.js";
import { sourceOf } from "../state/units.js";

const STRTAB = 0x4001_0000;

/** Nothing but zeros, everywhere. */
const zeros: WordMemory = { flat: new Int32Array(0), flatBase: 0, flatBytes: 0, loadedLow: 0, loadedHigh: 0, load64: () => 0, store64: () => 0, compareExchange64: () => 0 };

/** A linear table of 256 STEs, 64 in a page, and a function that has the first of them. */
const plain = (): InspectionSource =>
  sourceOf({
    architecture: "smmuv3",
    registers: { ...Object.fromEntries(FULL_IDR.map((value, index) => [`IDR${index}`, value >>> 0])), CR0: 1, CR2: 2, STRTAB_BASE: STRTAB, STRTAB_BASE_CFG: 8 },
    memory: zeros,
    streamId: 0,
  });

const cachedSte = (streamId: number): CachedEntry => ({
  iommu: "iommu0", side: "guest", cache: "configuration", kind: "STE", streamId, hostFunction: null, pasid: null, tags: {},
  iova: null, pageBits: null, output: null, permissions: null, global: false, words: [],
});

/** Pages that the second of two rows adds, with `change` between them. */
function added(change: (state: { cached: CachedEntry[]; streamId: number }) => void): number[] {
  const source = plain();
  const state = { cached: [] as CachedEntry[], streamId: 0 };
  const capture = new Capture({
    source: { ...source, cached: () => state.cached, map: () => ({ ...source.map(), functions: source.map().functions.map((fn) => ({ ...fn, streamId: state.streamId })) }) },
    ram: () => [],
    numbers: () => [],
  });
  const pagesOf = (): number[] => (capture.changes(false).pages ?? []).map(({ page }) => page * 4096 - STRTAB);
  expect(pagesOf()).toEqual([0]);
  change(state);
  return pagesOf();
}

describe("a row of a recording", () => {
  it("has the table of a StreamID that only a cache has come to hold", () => {
    expect(added((state) => state.cached.push(cachedSte(64)))).toEqual([0x1000]);
  });

  it("has the table of a function whose StreamID is another one", () => {
    expect(added((state) => (state.streamId = 130))).toEqual([0x2000, 0]);
  });

  it("looks for nothing where nothing has changed", () => {
    expect(added(() => {})).toEqual([]);
  });
});
