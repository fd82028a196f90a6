import { describe, expect, test, vi } from "vitest";
import { ForwardingDevice, ForwardingHost } from "../../src/host/instruments/index.js";
import { type HostEvent, HostError, type IrqInfo, type RegionArea, type RegionFile, type RegionInfo, type RegionMapping, type VfioDevice, VfioIrq, VfioRegion } from "../../src/iommufd/index.js";
import { MemorySlots } from "../../src/kernel-guest/guest-memory.js";
import type { KvmVm, MemorySlot } from "../../src/kvm/index.js";
import { A, Board } from "../smmuv3/accel/rig.js";
import { BAR0, BDF, capability, ENGINE, read32, write32 } from "./rig.js";

/** Where the process has BAR 0. */
const MAPPED = 0x7f00_0000_0000;
const COMMAND = 4;

interface Told {
  readonly areas?: readonly RegionArea[];
  readonly pageBytes?: number;
  readonly direct?: boolean;
  readonly refusesMap?: boolean;
  readonly intx?: boolean;
  readonly file?: "none" | "there";
}

/** A function whose BAR 0 the host lets be mapped, KVM's memory slots beside it, and in which order things happened. */
function machine(told: Told = {}) {
  const events: string[] = [];
  let intx: HostEvent | null = null;
  class Device extends ForwardingDevice {
    override regionInfo(index: number): RegionInfo {
      const info = super.regionInfo(index);
      return index === VfioRegion.BAR0 ? { ...info, areas: told.areas ?? [{ offset: 0, size: info.size }] } : info;
    }

    override regionMap(index: number): RegionMapping | null {
      if (told.refusesMap === true) {
        throw new HostError("mmap", "ENOMEM", "");
      }
      events.push(`map ${index}`);
      const areas = this.regionInfo(index).areas.map((area) => ({ ...area, address: MAPPED + area.offset, buffer: new ArrayBuffer(0) }));
      return { areas, unmap: () => events.push(`unmap ${index}`) };
    }

    override regionFile(index: number, area: RegionArea): RegionFile {
      if (told.file === "none") {
        throw new HostError("VFIO_FEATURE", "ENOTTY", "");
      }
      return super.regionFile(index, area);
    }

    override regionRead(index: number, offset: number, out: Uint8Array): void {
      super.regionRead(index, offset, out);
      if (index === VfioRegion.CONFIG && out.length === 4096 && told.intx === true) {
        out[0x3d] = 1;
      }
      if (index === VfioRegion.BAR0) {
        events.push(`read ${offset.toString(16)} ${out.length}`);
      }
    }

    override regionWrite(index: number, offset: number, data: Uint8Array): void {
      if (index === VfioRegion.CONFIG && offset === COMMAND) {
        events.push(`command ${data[0]}`);
      }
      super.regionWrite(index, offset, data);
    }

    override irqInfo(index: number): IrqInfo {
      return index === VfioIrq.INTX && told.intx === true ? { ...super.irqInfo(VfioIrq.INTX), count: 1 } : super.irqInfo(index);
    }

    override setIrqs(index: number, start: number, given: ReadonlyArray<HostEvent | null>): void {
      if (index === VfioIrq.INTX) {
        intx = given[0] ?? null;
      } else {
        super.setIrqs(index, start, given);
      }
    }

    override unmaskIrqs(): void {}

    override reset(): void {
      events.push("reset");
      super.reset();
    }

    override close(): void {
      events.push("close");
      super.close();
    }
  }
  class Telling extends ForwardingHost {
    override get pageBytes(): number | undefined {
      return told.pageBytes;
    }

    protected override wrapDevice(device: VfioDevice): VfioDevice {
      return new Device(device);
    }
  }
  const board = new Board();
  const fn = board.plug(A, 0, { host: new Telling(board.observed), direct: told.direct });
  board.number(0, 9);
  const slots = new Map<number, MemorySlot>();
  const vm = {
    addSlot: (slot: MemorySlot) => {
      if (slot.userAddress >= BigInt(MAPPED)) {
        events.push(`slot ${slot.guestAddress.toString(16)}`);
      }
      slots.set(slots.size + 100 * events.length, slot);
      return [...slots.keys()].pop()!;
    },
    removeSlot: (number: number) => {
      events.push(`no slot ${slots.get(number)!.guestAddress.toString(16)}`);
      slots.delete(number);
    },
  } as unknown as KvmVm;
  const kept = new MemorySlots(vm, board.space, board.log);
  const port = board.ports[0].bdf;
  board.pci.configWrite(port, 0x20, 4, 0x11f0_1000);
  board.pci.configWrite(port, 4, 2, 6);
  board.pci.configWrite(BDF, 0x10, 4, BAR0);
  board.pci.configWrite(BDF, 0x14, 4, 0);
  const present = (): string[] => [...slots.values()].filter(({ userAddress }) => userAddress >= BigInt(MAPPED)).map(({ guestAddress, bytes, userAddress }) => `${guestAddress.toString(16)}+${bytes.toString(16)} ${(userAddress - BigInt(MAPPED)).toString(16)}`);
  const command = (value: number): void => board.pci.configWrite(BDF, COMMAND, 2, value);
  return { board, fn, events, present, command, kept, fire: () => intx?.signal() };
}

describe("registers as memory of the guest", () => {
  test("are slots by whole pages while they decode, without the pages of the MSI-X table and its pending bits", () => {
    const { board, command, present } = machine();
    const at = capability(board, 0x11);
    const [table, pending] = [4, 8].map((offset) => board.pci.configRead(BDF, at + offset, 4) & ~7);
    expect([table, pending]).toEqual([0x4000, 0x6000]);
    expect(present()).toEqual([]);
    command(6);
    expect(present().sort()).toEqual(["10000000+4000 0", "10005000+1000 5000", "10007000+9000 7000"]);
    // The guest sizes the BAR, and moves it.
    command(4);
    expect(present()).toEqual([]);
    board.pci.configWrite(BDF, 0x10, 4, 0xffff_ffff);
    board.pci.configWrite(BDF, 0x10, 4, BAR0 + 0x10_0000);
    command(6);
    expect(present().sort()).toEqual(["10100000+4000 0", "10105000+1000 5000", "10107000+9000 7000"]);
  });

  test("come after the device answers and go before it does not: by command, power state, reset and unplug", () => {
    const { board, fn, command, events } = machine();
    const order = (act: () => void): string[] => {
      events.length = 0;
      act();
      return events.filter((text) => !text.startsWith("read"));
    };
    const kinds = (act: () => void): string[] => [...new Set(order(act).map((text) => text.replace(/ [0-9a-f]+$/, "")))];
    expect(order(() => command(6))[0]).toBe("command 6");
    expect(kinds(() => command(6))).toEqual(["command"]);
    expect(kinds(() => command(0))).toEqual(["no slot", "command"]);
    command(6);
    const power = capability(board, 1) + 4;
    expect(kinds(() => board.pci.configWrite(BDF, power, 2, 3))).toEqual(["no slot"]);
    expect(kinds(() => board.pci.configWrite(BDF, power, 2, 0))).toContain("slot");
    const express = capability(board, 0x10) + 8;
    expect(kinds(() => board.pci.configWrite(BDF, express, 2, 0x8000)), "a reset that the guest asks for").toEqual(["no slot", "slot"]);
    expect(kinds(() => fn.reset())).toEqual(["no slot", "command", "reset"]);
    board.pci.configWrite(BDF, 0x10, 4, BAR0);
    command(6);
    expect(kinds(() => board.unplug(A))).toEqual(["no slot", "command", "unmap", "close"]);
  });

  test("keep their width where this process answers", () => {
    const { board, command, events } = machine();
    command(6);
    events.length = 0;
    [1, 2, 4, 8].forEach((size) => board.space.readWord(BAR0 + 8, size));
    board.space.readWord(BAR0 + 0x8004, 4);
    expect(events).toEqual(["read 8 1", "read 8 2", "read 8 4", "read 8 8", "read 8004 4"]);
  });

  test.each([
    { what: "x-no-mmap=on", told: { direct: false }, slots: 0, warned: 0 },
    { what: "a host that lets nothing be mapped", told: { areas: [] }, slots: 0, warned: 0 },
    { what: "a refused mmap", told: { refusesMap: true }, slots: 0, warned: 1 },
    { what: "sparse areas", told: { areas: [{ offset: 0x2000, size: 0x1000 }, { offset: 0x8800, size: 0x2000 }] }, slots: 2, warned: 0 },
    { what: "pages of 64 KiB, of which the table takes the only one", told: { pageBytes: 0x1_0000 }, slots: 0, warned: 0 },
  ])("of $what", ({ told, slots, warned }) => {
    const { command, present, board } = machine(told);
    command(6);
    expect(present()).toHaveLength(slots);
    expect(board.log.lines.filter(({ text }) => text.includes("BAR 0 is not mapped"))).toHaveLength(warned);
    expect(read32(board, BAR0)).not.toBe(0xffff_ffff);
  });

  test("are trapped while an INTx waits for the guest to look, and for a while after", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      const { board, command, present, fire } = machine({ intx: true });
      command(6);
      const direct = present().length;
      fire();
      expect(present()).toEqual([]);
      vi.advanceTimersByTime(5000);
      expect(present(), "it still waits").toEqual([]);
      read32(board, BAR0);
      vi.advanceTimersByTime(1000);
      fire();
      read32(board, BAR0);
      vi.advanceTimersByTime(1000);
      expect(present()).toEqual([]);
      vi.advanceTimersByTime(200);
      expect(present()).toHaveLength(direct);
      board.unplug(A);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("registers of a host without dma-bufs", () => {
  test("are mapped for other functions by address, and a host that cannot is told of once, with the one that can", () => {
    const { board, command } = machine({ file: "none" });
    command(6);
    command(0);
    command(6);
    const told = board.log.lines.map(({ text }) => text).filter((text) => text.includes("peer to peer"));
    expect(told).toEqual([expect.stringContaining("IOAS_MAP: EFAULT")]);
    expect(told[0]).toContain("Linux 6.19");
    write32(board, BAR0 + ENGINE.SRC_LOW, 5);
    expect(read32(board, BAR0 + ENGINE.SRC_LOW)).toBe(5);
  });
});
