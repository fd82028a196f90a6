import { describe, expect, it } from "vitest";
import { readUntilStable } from "../../src/nesting/index.js";

/** Reads these one after the other, the last one for ever; null: nothing answers. */
function reading(...versions: Array<number[] | null>): { result: number; words: number[]; reads: number } {
  const out = new Int32Array(2);
  let reads = 0;
  const result = readUntilStable(
    (words) => {
      const version = versions[Math.min(reads++, versions.length - 1)];
      words.set(version ?? []);
      return version === null ? -2 : 0;
    },
    out,
    new Int32Array(2),
  );
  return { result, words: [...out], reads };
}

describe("a structure that may be written meanwhile", () => {
  it("is read twice where it is as it was", () => {
    expect(reading([1, 2])).toEqual({ result: 0, words: [1, 2], reads: 2 });
  });

  it("is read until two readings agree: not what one of them saw half written", () => {
    expect(reading([1, 2], [3, 2], [3, 4])).toEqual({ result: 0, words: [3, 4], reads: 4 });
  });

  it("is taken as the last reading has it where it never rests", () => {
    expect(reading([1, 1], [2, 2], [3, 3], [4, 4], [5, 5])).toEqual({ result: 0, words: [4, 4], reads: 4 });
  });

  it("is none where nothing answers, at once or in between", () => {
    expect(reading(null)).toMatchObject({ result: -2, reads: 1 });
    expect(reading([1, 2], null)).toMatchObject({ result: -2, reads: 2 });
  });
});
