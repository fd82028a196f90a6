import { describe, expect, test } from "vitest";
import { ForwardingDevice } from "../../src/host/instruments/index.js";
import { HostError, type RegionInfo, VfioRegion } from "../../src/iommufd/index.js";
import { A, Board, hostDescription } from "../smmuv3/accel/rig.js";
import { BAR0, BDF, capability, ENGINE, extended, read32, started, write32 } from "./rig.js";

const EXPRESS = 0x10;
const MSIX = 0x11;
/** PCIe 7.8.9, 10.5.1, 10.5.2. */
const PASID = 0x1b;
const ATS = 0x0f;
const PRI = 0x13;

describe("configuration space as the guest sees it", () => {
  test("is the host's: identity, class, the list of capabilities", () => {
    const { board } = started();
    const hardware = board.hardware(A);
    for (const [offset, size] of [[0, 4], [8, 4], [0x2c, 4], [0x34, 1]]) {
      expect(board.pci.configRead(BDF, offset, size), `0x${offset.toString(16)}`).toBe(hardware.configRead(offset, size));
    }
    const list = (read: (offset: number) => number): string[] => {
      const found: string[] = [];
      for (let at = read(0x34); at !== 0; at = read(at + 1)) {
        found.push(`${read(at).toString(16)} at ${at.toString(16)}`);
      }
      return found;
    };
    const guest = list((offset) => board.pci.configRead(BDF, offset, 1));
    expect(guest).toEqual(list((offset) => hardware.configRead(offset, 1)));
    expect(guest.length).toBe(3);
  });

  test("a conventional function has 256 bytes of it", () => {
    class Conventional extends ForwardingDevice {
      override regionInfo(index: number): RegionInfo {
        return index === VfioRegion.CONFIG ? { ...super.regionInfo(index), size: 256 } : super.regionInfo(index);
      }

      // As Linux: what reaches beyond a region is refused as a whole (vfio_pci_config_rw).
      override regionRead(index: number, offset: number, out: Uint8Array): void {
        if (index === VfioRegion.CONFIG && offset + out.length > 256) {
          throw new HostError("read", "EINVAL", "beyond the region");
        }
        super.regionRead(index, offset, out);
      }
    }
    const board = new Board();
    const open = board.observed.openDevice.bind(board.observed);
    board.observed.openDevice = (device) => new Conventional(open(device));
    board.plug(A, 0);
    board.number(0, 9);
    expect(board.pci.configRead(BDF, 0, 4)).toBe(board.hardware(A).configRead(0, 4));
    expect(board.hardware(A).configRead(0x100, 4)).not.toBe(0);
    expect([...extended(board)]).toEqual([]);
  });

  test("BARs have the host's sizes and types, and the guest's addresses", () => {
    const { board } = started({ fn: { bars: [{ index: 0, size: "64K" }, { index: 2, size: "1M", is64: false }, { index: 4, size: "4G", prefetchable: true }] } });
    const size = (at: number): string => {
      const before = board.pci.configRead(BDF, at, 4);
      board.pci.configWrite(BDF, at, 4, 0xffff_ffff);
      const value = board.pci.configRead(BDF, at, 4);
      board.pci.configWrite(BDF, at, 4, before);
      return (value >>> 0).toString(16);
    };
    board.pci.configWrite(BDF, 4, 2, 0);
    expect([0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map(size)).toEqual(["ffff0004", "ffffffff", "fff00000", "0", "c", "ffffffff"]);
    expect(board.pci.configRead(BDF, 0x10, 4)).toBe(BAR0 | 4);
    // The host's own registers are not touched by that.
    expect(board.hardware(A).configRead(0x10, 4)).toBe(4);
  });

  test("registers are the device's while memory decoding is on", () => {
    const { board } = started();
    expect(read32(board, BAR0 + ENGINE.ID)).toBe(0x4d4d_4f49);
    write32(board, BAR0 + ENGINE.PATTERN, 0x1234_5678);
    expect(read32(board, BAR0 + ENGINE.PATTERN)).toBe(0x1234_5678);
    board.pci.configWrite(BDF, 4, 2, 4);
    expect(read32(board, BAR0 + ENGINE.ID)).toBe(0);
    board.pci.configWrite(BDF, 4, 2, 6);
    expect(read32(board, BAR0 + ENGINE.ID)).toBe(0x4d4d_4f49);
  });

  test("bus mastering is the device's own; without it nothing leaves", () => {
    const { board } = started();
    expect(board.hardware(A).mayRequest(-1, 1, false)).toBe(true);
    board.pci.configWrite(BDF, 4, 2, 2);
    expect(board.hardware(A).mayRequest(-1, 1, false)).toBe(false);
  });

  test("a function level reset by Device Control resets the device, and its command register comes back", () => {
    const { board } = started();
    const control = capability(board, EXPRESS) + 8;
    board.pci.configWrite(BDF, control, 2, 0x5000);
    expect(board.pci.configRead(BDF, control, 2)).toBe(0x5000);
    write32(board, BAR0 + ENGINE.PATTERN, 0x1234_5678);
    board.pci.configWrite(BDF, control, 2, 0xd000);
    expect(board.pci.configRead(BDF, control, 2)).toBe(0x5000);
    expect(read32(board, BAR0 + ENGINE.PATTERN)).toBe(0);
    expect(read32(board, BAR0 + ENGINE.ID)).toBe(0x4d4d_4f49);
    // As one byte, and next to it.
    write32(board, BAR0 + ENGINE.PATTERN, 1);
    board.pci.configWrite(BDF, control, 1, 0x80);
    expect(read32(board, BAR0 + ENGINE.PATTERN)).toBe(1);
    board.pci.configWrite(BDF, control + 1, 1, 0x80);
    expect(read32(board, BAR0 + ENGINE.PATTERN)).toBe(0);
  });
});

describe("ATS and PASID", () => {
  test("ATS: as the host has it, or hidden", () => {
    const auto = started();
    const at = extended(auto.board).get(ATS)!;
    expect(at).toBe(0x100);
    expect(auto.board.pci.configRead(BDF, at + 6, 2)).toBe(0);
    auto.board.pci.configWrite(BDF, at + 6, 2, 0x8000);
    expect(auto.board.pci.configRead(BDF, at + 6, 2), "the guest's enable is kept").toBe(0x8000);
    expect(auto.board.hardware(A).atsEnabled, "the kernel's is on in bypass").toBe(true);
    auto.board.smmu.enable();
    auto.board.smmu.ste(BDF, auto.board.stage1(auto.board.table()));
    auto.board.smmu.configure(BDF);
    expect(auto.board.hardware(A).atsEnabled, "and follows the stream table entry where that translates").toBe(false);
    expect(extended(started({}, { ats: true }).board).has(ATS)).toBe(true);
    expect(extended(started({}, { ats: false }).board).has(ATS)).toBe(false);
    expect(extended(started({ fn: { ats: false } }).board).has(ATS)).toBe(false);
  });

  test("PASID is a capability of this side, at the end, where the SMMU offers substreams", () => {
    const properties = [{ ril: true, ats: true, oas: 48, ssidsize: 8 }] as const;
    const { board } = started({ properties });
    const at = extended(board).get(PASID)!;
    expect(at).toBe(0xff8);
    // Width 16, execute and privileged modes; the enables can be written.
    expect(board.pci.configRead(BDF, at + 4, 2)).toBe(0x1006);
    board.pci.configWrite(BDF, at + 6, 2, 0xffff);
    expect(board.pci.configRead(BDF, at + 6, 2)).toBe(7);
    expect(extended(board).get(ATS)).toBe(0x100);
    expect(extended(started().board).has(PASID), "ssidsize=0").toBe(false);
    expect(extended(started({ properties, fn: { pasidBits: 0 } }).board).has(PASID), "a function without").toBe(false);
    expect(extended(started({ properties }, { pasidCapabilityOffset: 0x400 }).board).get(PASID)).toBe(0x400);
    // Alone it is reached through a null capability at 0x100.
    expect([...extended(started({ properties, fn: { ats: false } }).board)]).toEqual([[PASID, 0xff8]]);
  });

  test.each([0x3fc, 0xffc, 0x402, 0x100, 0x104, 0x40])("x-vpasid-cap-offset=%i that cannot be is refused", (offset) => {
    const board = new Board({ properties: [{ ril: true, ats: true, oas: 48, ssidsize: 8 }] });
    const ok = offset === 0x3fc;
    const plug = (): unknown => board.plug(A, 0, { pasidCapabilityOffset: offset });
    if (ok) {
      plug();
      return;
    }
    expect(plug).toThrow(`vfio ${A}: vfio: Placing PASID capability at offset 0x${offset.toString(16)} failed`);
    expect(board.live()).toEqual({});
  });

  test("page requests are hidden: nobody answers them", () => {
    const description = hostDescription({ idr0: 0x0d4d141b }, { pri: true });
    const { board } = started({ description });
    expect([...extended(board).keys()]).toEqual([ATS]);
    expect(extended(board).has(PRI)).toBe(false);
  });
});

describe("what the host refuses of registers", () => {
  test("reads as from a device that does not answer, with a limited log, and ends nothing", () => {
    const { board } = started();
    expect(read32(board, BAR0 + ENGINE.ID)).toBe(0x4d4d_4f49);
    board.broken = true;
    for (let i = 0; i < 100; i++) {
      expect(read32(board, BAR0 + ENGINE.ID)).toBe(0xffff_ffff);
      write32(board, BAR0 + ENGINE.PATTERN, 1);
      board.pci.configWrite(BDF, 4, 2, 6);
    }
    board.broken = false;
    expect(read32(board, BAR0 + ENGINE.PATTERN)).toBe(0);
    expect(board.log.lines.length).toBeLessThan(30);
    expect(board.log.warnings()[0]).toContain(`host ${A}`);
  });
});

test("MSI-X stays where the host has it", () => {
  const { board } = started();
  const at = capability(board, MSIX);
  expect(board.pci.configRead(BDF, at + 2, 2)).toBe(3);
  for (const register of [4, 8]) {
    expect(board.pci.configRead(BDF, at + register, 4)).toBe(board.hardware(A).configRead(at + register, 4));
  }
});
