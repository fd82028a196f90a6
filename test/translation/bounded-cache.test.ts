import { describe, expect, it } from "vitest";
import { BoundedCache } from "../../src/translation/index.js";
import { Random } from "./random.js";

class Counted extends BoundedCache<string> {
  readonly left: string[] = [];
  protected override gone(entry: string): void {
    this.left.push(entry);
  }
}

describe("a bounded cache", () => {
  it("lets the one go that it holds longest, and one whose number is held anew", () => {
    const cache = new Counted(2);
    cache.hold(1, "a");
    cache.hold(2, "b");
    cache.hold(1, "c");
    expect([cache.find(1), cache.find(2), cache.left]).toEqual(["c", "b", ["a"]]);
    cache.hold(3, "d");
    expect([cache.size, cache.find(1), cache.find(2), cache.find(3), cache.left]).toEqual([2, "c", undefined, "d", ["a", "b"]]);
  });

  it("does not find what is dropped, also where it was found last", () => {
    const cache = new BoundedCache<string>(8);
    cache.hold(0, "a");
    cache.hold(0xffff_ffff, "b");
    expect([cache.find(0), cache.find(0xffff_ffff)]).toEqual(["a", "b"]);
    cache.drop(0xffff_ffff);
    expect([cache.find(0xffff_ffff), cache.find(0)]).toEqual([undefined, "a"]);
    cache.dropWhere((entry) => entry === "a");
    expect([cache.find(0), cache.size]).toEqual([undefined, 0]);
  });

  it("drops blocks as a plain list of its numbers does, with many held and with few", () => {
    const seed = 0x5eed;
    const random = new Random(seed);
    for (let round = 0; round < 200; round++) {
      const cache = new BoundedCache<number>(64);
      const keys = new Set(Array.from({ length: 1 + random.below(60) }, () => (random.chance(2) ? random.below(64) : random.word() >>> 0)));
      keys.forEach((key) => cache.hold(key, key));
      const around = [...keys][random.below(keys.size)];
      const bits = random.below(33);
      cache.dropBlock(around, bits);
      const size = 2 ** bits;
      const kept = [...keys].filter((key) => Math.floor(key / size) !== Math.floor(around / size));
      expect([...cache.values()], `seed ${seed}, round ${round}`).toEqual(kept);
    }
  });
});
