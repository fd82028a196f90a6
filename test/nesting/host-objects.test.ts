import { describe, expect, it } from "vitest";
import { HostError, type Iommufd } from "../../src/iommufd/index.js";
import { Graveyard } from "../../src/nesting/index.js";
import { Log } from "../../src/support/index.js";

/** A kernel whose objects cannot be freed while those that they are named after in `users` are there. */
function kernel(users: ReadonlyMap<number, number>, objects: Set<number>): { iommufd: Iommufd; tried: number[] } {
  const tried: number[] = [];
  const destroy = (id: number): void => {
    tried.push(id);
    if (objects.has(users.get(id) ?? -1)) {
      throw new HostError("DESTROY", "EBUSY", "");
    }
    objects.delete(id);
  };
  return { iommufd: { destroy } as unknown as Iommufd, tried };
}

describe("objects that cannot be freed yet", () => {
  it("cost the next ones a bounded number of calls, and have their turn all the same", () => {
    const blocker = 1000;
    const ids = Array.from({ length: 100 }, (_unused, n) => n);
    const objects = new Set([...ids, blocker]);
    const { iommufd, tried } = kernel(new Map(ids.map((id) => [id, blocker])), objects);
    const graveyard = new Graveyard(new Log(), "test");
    for (const id of ids) {
      const before = tried.length;
      graveyard.destroy(iommufd, id, "table");
      expect(tried.length - before).toBeLessThanOrEqual(17);
    }
    expect(graveyard.size).toBe(100);
    expect(new Set(tried).size).toBe(100);
    objects.delete(blocker);
    graveyard.retry();
    expect([graveyard.size, objects.size]).toEqual([0, 0]);
  });

  it("are freed in the order of their dependence, in whichever they were given up", () => {
    const objects = new Set([1, 2, 3]);
    const { iommufd } = kernel(new Map([[1, 2], [2, 3]]), objects);
    const graveyard = new Graveyard(new Log(), "test");
    graveyard.destroy(iommufd, 1, "IOAS");
    graveyard.destroy(iommufd, 2, "HWPT");
    expect(graveyard.size).toBe(2);
    objects.delete(3);
    graveyard.retry();
    expect([graveyard.size, objects.size]).toEqual([0, 0]);
  });
});
