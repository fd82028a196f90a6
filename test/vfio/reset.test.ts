import { describe, expect, test } from "vitest";
import { ForwardingDevice, ForwardingHost } from "../../src/host/instruments/index.js";
import { type DeviceInfo, HostError, type HotResetDevice, type VfioDevice, VfioRegion } from "../../src/iommufd/index.js";
import { A, B, Board } from "../smmuv3/accel/rig.js";

interface Told {
  readonly canReset?: boolean;
  readonly flr?: boolean;
  /** PMCSR.No_Soft_Reset: no reset by power states. */
  readonly noSoftReset?: boolean;
  readonly resetFails?: boolean;
  /** What a reset of the bus reaches: ids of the iommufd by the functions that are plugged, -1 somebody else's; null: there is none. */
  readonly bus?: ((ids: ReadonlyMap<string, number>) => HotResetDevice[]) | null;
  readonly busFails?: boolean;
}

/** Functions of one bus that tell of themselves what a test wants; what is asked of them. */
function machine(told: Told, addresses: readonly string[] = [A]) {
  const asked: string[] = [];
  const ids = new Map<string, number>();
  class Device extends ForwardingDevice {
    override bind(iommufd: number): number {
      const id = super.bind(iommufd);
      ids.set(this.address, id);
      return id;
    }

    override info(): DeviceInfo {
      return { ...super.info(), canReset: told.canReset ?? true };
    }

    override regionRead(index: number, offset: number, out: Uint8Array): void {
      super.regionRead(index, offset, out);
      if (index === VfioRegion.CONFIG && out.length === 4096) {
        const express = 0x60;
        out[express + 7] = (out[express + 7] & ~0x10) | (told.flr === false ? 0 : 0x10);
        out[0x44] = told.noSoftReset === true ? 8 : 0;
      }
    }

    override reset(): void {
      asked.push(`reset ${this.address}`);
      if (told.resetFails === true) {
        throw new HostError("VFIO_RESET", "ENOTTY", "");
      }
      super.reset();
    }

    override hotResetInfo(): HotResetDevice[] {
      asked.push("info");
      if (told.bus === undefined || told.bus === null) {
        throw new HostError("VFIO_GET_PCI_HOT_RESET_INFO", "ENODEV", "");
      }
      return told.bus(ids);
    }

    override hotReset(): void {
      asked.push(`bus ${this.address}`);
      if (told.busFails === true) {
        throw new HostError("VFIO_PCI_HOT_RESET", "EPERM", "");
      }
    }
  }
  class Telling extends ForwardingHost {
    protected override wrapDevice(device: VfioDevice): VfioDevice {
      return new Device(device);
    }
  }
  const board = new Board();
  const functions = addresses.map((address, n) => {
    const fn = board.plug(address, n, { host: new Telling(board.observed) });
    board.number(n, 9 + n);
    return fn;
  });
  asked.length = 0;
  const warnings = (): string[] => board.log.lines.map(({ text }) => text);
  return { board, functions, asked, warnings };
}

const both = (ids: ReadonlyMap<string, number>): HotResetDevice[] => [A, B].map((address) => ({ address, devId: ids.get(address) ?? 0 }));

describe("a function is reset", () => {
  test.each<{ what: string; told: Told; asked: string[]; warned?: string }>([
    { what: "by itself, where it has a function level reset", told: {}, asked: [`reset ${A}`] },
    { what: "by itself, where power states do nothing to it", told: { flr: false, noSoftReset: true }, asked: [`reset ${A}`] },
    { what: "with its bus, before its power states would", told: { flr: false, bus: (ids) => [{ address: A, devId: ids.get(A)! }] }, asked: ["info", `bus ${A}`] },
    { what: "with its bus and functions that nobody has open", told: { flr: false, bus: both }, asked: ["info", `bus ${A}`] },
    { what: "by its power states, where there is no other way", told: { flr: false }, asked: ["info", `reset ${A}`] },
    { what: "with its bus, where the kernel resets it in no way by itself", told: { canReset: false, bus: (ids) => [{ address: A, devId: ids.get(A)! }] }, asked: ["info", `bus ${A}`] },
    { what: "not, where another process has a function of its bus", told: { canReset: false, bus: (ids) => [{ address: A, devId: ids.get(A)! }, { address: "0000:05:00.1", devId: -1 }] }, asked: ["info"], warned: "depends on device 0000:05:00.1 which is not owned." },
    { what: "by the next way, where one is refused", told: { resetFails: true, bus: (ids) => [{ address: A, devId: ids.get(A)! }] }, asked: [`reset ${A}`, "info", `bus ${A}`], warned: "VFIO_RESET: ENOTTY" },
    { what: "in no way, which is told", told: { canReset: false, bus: (ids) => [{ address: A, devId: ids.get(A)! }], busFails: true }, asked: ["info", `bus ${A}`], warned: "it cannot be reset; the device keeps its state" },
  ])("$what", ({ told, asked, warned }) => {
    const made = machine(told);
    made.functions[0].reset();
    expect(made.asked).toEqual(asked);
    expect(made.warnings().some((text) => warned !== undefined && text.includes(warned))).toBe(warned !== undefined);
  });
});

describe("functions of one bus", () => {
  test("are reset together at a reset of the machine, once all are quiet", () => {
    const made = machine({ canReset: false, bus: both }, [A, B]);
    made.board.pci.reset();
    expect(made.asked).toEqual(["info", "info", `bus ${B}`]);
    made.board.pci.configWrite(made.functions[0].bdf, 4, 2, 4);
    expect(made.warnings()).toEqual([]);
    // And at the next one.
    made.asked.length = 0;
    made.board.pci.reset();
    expect(made.asked).toEqual(["info", "info", `bus ${B}`]);
  });

  test("one alone is not reset while the other is in use, and that is told when the guest goes on", () => {
    const made = machine({ canReset: false, bus: both }, [A, B]);
    made.functions[0].reset();
    expect(made.asked).toEqual(["info"]);
    expect(made.warnings()).toEqual([]);
    made.board.number(0, 9);
    made.board.pci.configWrite(made.functions[0].bdf, 4, 2, 4);
    made.board.pci.configWrite(made.functions[0].bdf, 4, 2, 4);
    expect(made.warnings()).toEqual([expect.stringContaining("it was not reset, for its bus is shared with functions that were in use")]);
  });

  test("the one that stays is reset alone after the other is unplugged", () => {
    const made = machine({ canReset: false, bus: (ids) => [{ address: A, devId: ids.get(A)! }, { address: B, devId: 0 }] }, [A, B]);
    made.board.unplug(B);
    made.functions[0].reset();
    expect(made.asked).toEqual(["info", `bus ${A}`]);
  });
});
