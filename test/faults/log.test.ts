/** What a host refuses is told for every function, however often another one's refusal has been told. */
import { isSmmu } from "../../src/machine/index.js";
import { expect, it } from "vitest";
import { TWO_SMMUS } from "./specs.js";
import { World } from "./harness.js";

const CR0 = 0x20;
const GBPA = 0x44;

it("tells of a function that is blocked after many refusals of another", () => {
  const world = new World(TWO_SMMUS);
  const machine = world.build();
  const { memory, iommus } = machine.board;
  const [first, second] = iommus.filter(isSmmu);
  // With SMMUEN=0 each change of GBPA.ABORT is a change of tables.
  const change = (base: number, abort: boolean): void => {
    world.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "ENOMEM" });
    memory.writeWord(base + GBPA, 4, abort ? 0x8010_0000n : 0x8000_0000n);
    world.observer.clearFailures();
  };
  for (let n = 0; n < 20; n++) {
    change(first.base, true);
    // It is blocked already; back to bypass, which works.
    memory.writeWord(first.base + GBPA, 4, 0x8000_0000n);
  }
  const before = world.log.lines.length;
  change(first.base, true);
  expect(world.log.lines.length, "lines are limited in rate").toBe(before);
  change(second.base, true);
  expect(world.log.lines.slice(before).map((line) => line.text)).toEqual([expect.stringContaining("0009:02:00.0")]);
  expect(memory.readWord(first.base + CR0, 4)).toBe(0n);
  world.end();
  world.expectNothingLeft();
});
