import { describe, expect, test } from "vitest";
import { A } from "../smmuv3/accel/rig.js";
import { BAR0, BDF, capability, ENGINE, read32, started, write32 } from "./rig.js";

const POWER_MANAGEMENT = 0x01;

function machine(noSoftReset: boolean): ReturnType<typeof started> & { power: (state?: number) => number } {
  const made = started({ fn: { noSoftReset } });
  const at = capability(made.board, POWER_MANAGEMENT) + 4;
  const power = (state?: number): number => {
    if (state !== undefined) {
      made.board.pci.configWrite(BDF, at, 2, state);
    }
    return made.board.pci.configRead(BDF, at, 2);
  };
  return { ...made, power };
}

describe("PMCSR of a passed-through function (PCIe 7.5.2.2)", () => {
  test("puts the device to sleep and wakes it: asleep it answers no address and sends nothing", () => {
    const { board, power } = machine(true);
    write32(board, BAR0 + ENGINE.SRC_LOW, 0x1234);
    expect(power(3)).toBe(0x000b);
    expect(board.hardware(A).configRead(capability(board, POWER_MANAGEMENT) + 4, 2)).toBe(0x000b);
    expect(read32(board, BAR0 + ENGINE.SRC_LOW), "its BARs are nobody's").not.toBe(0x1234);
    expect(power(0)).toBe(0x0008);
    expect(read32(board, BAR0 + ENGINE.SRC_LOW), "No_Soft_Reset: as it was").toBe(0x1234);
    expect(board.log.lines).toEqual([]);
  });

  test("without No_Soft_Reset D3hot to D0 resets the device, and the kernel gives it back what is the host's", () => {
    const { board, power } = machine(false);
    write32(board, BAR0 + ENGINE.SRC_LOW, 0x1234);
    expect([power(3), power(0)]).toEqual([3, 0]);
    expect(read32(board, BAR0 + ENGINE.SRC_LOW)).toBe(0);
    expect(board.hardware(A).configRead(4, 2) & 6, "decoding and bus mastering are given back").toBe(6);
  });

  test("a state that the device has not is not taken, and PME is the host's", () => {
    const { power } = machine(true);
    expect([power(1), power(2), power(0x8100)]).toEqual([8, 8, 8]);
  });

  test("a reset wakes the device", () => {
    const { board, fn, power } = machine(true);
    power(3);
    fn.reset();
    expect(power()).toBe(8);
    expect(board.hardware(A).configRead(capability(board, POWER_MANAGEMENT) + 4, 2)).toBe(8);
  });
});
