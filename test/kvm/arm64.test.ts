import { describe, expect, it } from "vitest";
import { arm64MachineType } from "../../src/kvm/index.js";
import { Refusal } from "../../src/support/index.js";

describe("the machine type of an arm64 VM", () => {
  it("is KVM's default where 40 bits do", () => {
    expect([arm64MachineType(40, 48), arm64MachineType(33, 48), arm64MachineType(40, 0)]).toEqual([0, 0, 0]);
  });

  it("tells the bits of an address where more are needed, or where the host has fewer than the default", () => {
    expect([arm64MachineType(47, 48), arm64MachineType(36, 36)]).toEqual([47, 36]);
  });

  it("is refused in QEMU's words where the host has too few", () => {
    expect(() => arm64MachineType(47, 44)).toThrow(Refusal);
    expect(() => arm64MachineType(41, 0)).toThrow("requested IPA size 41 is not supported by KVM");
  });
});
