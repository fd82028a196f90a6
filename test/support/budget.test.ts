import { describe, expect, it } from "vitest";
import { Budget, Continuation, type Scheduler } from "../../src/support/index.js";

/** A scheduler that a test drives. */
function byHand(): { scheduler: Scheduler; waiting: Array<() => void>; run: () => void } {
  const waiting: Array<() => void> = [];
  return { scheduler: (work) => void waiting.push(work), waiting, run: () => waiting.shift()?.() };
}

describe("budget", () => {
  it("is spent at zero and below, and full again after a refill", () => {
    const budget = new Budget(3);
    budget.left -= 2;
    expect(budget.spent).toBe(false);
    budget.left -= 4;
    expect(budget.spent).toBe(true);
    budget.refill();
    expect(budget.left).toBe(3);
  });
});

describe("continuation", () => {
  it("runs once for requests that come before it ran, and again for one from within", () => {
    const { scheduler, waiting, run } = byHand();
    let runs = 0;
    const more: Continuation = new Continuation(scheduler, () => {
      runs++;
      if (runs === 1) {
        more.request();
      }
    });
    more.request();
    more.request();
    expect(waiting).toHaveLength(1);
    run();
    expect([runs, waiting.length, more.pending]).toEqual([1, 1, true]);
    run();
    expect([runs, waiting.length, more.pending]).toEqual([2, 0, false]);
  });

  it("does nothing when it was cancelled, and is not scheduled twice by a request after that", () => {
    const { scheduler, waiting, run } = byHand();
    let runs = 0;
    const more = new Continuation(scheduler, () => void runs++);
    more.request();
    more.cancel();
    more.request();
    expect(waiting).toHaveLength(1);
    more.cancel();
    run();
    expect(runs).toBe(0);
  });
});
