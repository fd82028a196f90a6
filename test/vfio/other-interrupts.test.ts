import { describe, expect, test } from "vitest";
import { ForwardingDevice, ForwardingHost } from "../../src/host/instruments/index.js";
import { type HostEvent, type IrqInfo, type RegionInfo, type VfioDevice, VfioIrq, VfioRegion } from "../../src/iommufd/index.js";
import type { VfioPci } from "../../src/vfio/index.js";
import { A, Board } from "../smmuv3/accel/rig.js";
import { BAR0, BDF, capability, read32, started } from "./rig.js";

const MSI = 0x05;
const MSIX = 0x11;

/** MSI alone, with 4 vectors. */
function machine(): ReturnType<typeof started> & { control: (value: number) => void; message: (address: number, data: number) => void; raise: (vector: number) => void } {
  const made = started({ fn: { msixVectors: 0, msiVectors: 4 } });
  const { board } = made;
  const at = capability(board, MSI);
  return {
    ...made,
    control: (value) => board.pci.configWrite(BDF, at + 2, 2, value),
    message: (address, data) => {
      board.pci.configWrite(BDF, at + 4, 4, address);
      board.pci.configWrite(BDF, at + 8, 4, 0);
      board.pci.configWrite(BDF, at + 12, 2, data);
    },
    raise: (vector) => board.hardware(A).raise(vector),
  };
}

describe("MSI of a passed-through function (PCIe 6.1.4)", () => {
  test("is offered as the host has it, and nothing of it reaches the device while it is off", () => {
    const { board, message } = machine();
    expect(capability(board, MSIX)).toBe(0);
    expect(board.pci.configRead(BDF, capability(board, MSI) + 2, 2)).toBe(0x0084);
    message(0x0809_0040, 0x40);
    expect(board.routes.size).toBe(0);
    expect(board.observer.calls.get("VFIO_SET_IRQS")).toBeUndefined();
  });

  test("enabled vectors are routes whose data have the vector in their low bits; what the device raises arrives", () => {
    const { board, control, message, raise } = machine();
    message(0x0809_0040, 0x40);
    control(0x0011);
    expect([...board.routes]).toEqual([
      ["dev0.0", "8090040:64"],
      ["dev0.1", "8090040:65"],
    ]);
    expect(board.observer.calls.get("VFIO_SET_IRQS")).toBe(1);
    [1, 0, 2].forEach(raise);
    expect(board.delivered).toEqual(["dev0.1", "dev0.0"]);
    // Another number of vectors is another start (VFIO_IRQ_INFO_NORESIZE).
    control(0x0001);
    expect([...board.routes]).toEqual([["dev0.0", "8090040:64"]]);
    control(0);
    expect(board.routes.size).toBe(0);
    raise(0);
    expect(board.delivered).toHaveLength(2);
    expect(board.log.lines).toEqual([]);
  });

  test("a refused VFIO_SET_IRQS is told, leaves no route, and can be tried again", () => {
    const { board, control, message, raise } = machine();
    message(0x0809_0040, 0x40);
    board.observer.failOn({ operation: "VFIO_SET_IRQS", nth: 1, errno: "ENOSPC" });
    control(0x0001);
    expect(board.routes.size).toBe(0);
    expect(board.log.lines.map(({ text }) => text).join("\n")).toContain("ENOSPC");
    control(0);
    control(0x0001);
    raise(0);
    expect(board.delivered).toEqual(["dev0.0"]);
  });

  test("unplugged, no event and no route of it is left", () => {
    const { board, control, message, fn } = machine();
    message(0x0809_0040, 0x40);
    control(0x0001);
    fn.unrealize();
    expect(board.routes.size).toBe(0);
  });
});

/** What a device with other registers tells of itself. */
interface Told {
  readonly pin?: boolean;
  readonly irqs?: (index: number) => Partial<IrqInfo>;
  readonly regions?: (index: number) => RegionInfo | null;
  readonly config?: (bytes: Uint8Array) => void;
}

/** A board on whose host functions tell something else of themselves; what is asked of their INTx. */
function telling(told: Told): { board: Board; asked: string[]; fire: () => void; fn: VfioPci } {
  const asked: string[] = [];
  let intx: HostEvent | null = null;
  class Device extends ForwardingDevice {
    override regionInfo(index: number): RegionInfo {
      return told.regions?.(index) ?? super.regionInfo(index);
    }

    override regionRead(index: number, offset: number, out: Uint8Array): void {
      super.regionRead(index, offset, out);
      if (index === VfioRegion.CONFIG && out.length === 4096) {
        told.config?.(out);
      }
    }

    override irqInfo(index: number): IrqInfo {
      return { ...super.irqInfo(index), ...told.irqs?.(index) };
    }

    override setIrqs(index: number, start: number, events: ReadonlyArray<HostEvent | null>): void {
      if (index !== VfioIrq.INTX) {
        super.setIrqs(index, start, events);
        return;
      }
      asked.push(events.length === 0 ? "off" : "on");
      intx = events[0] ?? null;
    }

    override unmaskIrqs(): void {
      asked.push("unmask");
    }
  }
  class Telling extends ForwardingHost {
    protected override wrapDevice(device: VfioDevice): VfioDevice {
      return new Device(device);
    }
  }
  const board = new Board();
  const fn = board.plug(A, 0, { host: new Telling(board.observed) });
  board.number(0, 9);
  board.pci.configWrite(board.ports[0].bdf, 0x20, 4, 0x11f0_1000);
  board.pci.configWrite(board.ports[0].bdf, 4, 2, 6);
  board.pci.configWrite(BDF, 0x10, 4, BAR0);
  board.pci.configWrite(BDF, 4, 2, 6);
  return { board, asked, fire: () => intx?.signal(), fn };
}

const INTERRUPT = 0x08;

describe("INTx of a passed-through function", () => {
  const withPin: Told = { irqs: (index) => (index === VfioIrq.INTX ? { count: 1 } : {}), config: (bytes) => (bytes[0x3d] = 1) };

  test("is up from the device's signal until the guest looks at the device, and then unmasked", () => {
    const { board, asked, fire } = telling(withPin);
    const status = (): number => board.pci.configRead(BDF, 6, 2) & INTERRUPT;
    expect([board.pci.configRead(BDF, 0x3d, 1), asked]).toEqual([1, ["on"]]);
    expect(status()).toBe(0);
    fire();
    expect(status()).toBe(INTERRUPT);
    read32(board, BAR0);
    expect([status(), asked]).toEqual([0, ["on", "unmask"]]);
    read32(board, BAR0);
    expect(asked, "once for each").toEqual(["on", "unmask"]);
  });

  test("comes again after a reset, without a look at the device", () => {
    const { board, asked, fire, fn } = telling(withPin);
    fire();
    fn.reset();
    expect([board.pci.configRead(BDF, 6, 2) & INTERRUPT, asked]).toEqual([0, ["on", "unmask"]]);
    fire();
    expect(board.pci.configRead(BDF, 6, 2) & INTERRUPT).toBe(INTERRUPT);
  });

  test("goes when MSI-X comes, and comes back when that goes", () => {
    const { board, asked } = telling(withPin);
    const at = capability(board, MSIX);
    const table = BAR0 + (board.pci.configRead(BDF, at + 4, 4) & ~7);
    board.pci.configWrite(BDF, at + 2, 2, 0x8000);
    board.space.writeWord(table, 4, 0x0809_0040n);
    board.space.writeWord(table + 12, 4, 0n);
    expect([asked, board.routes.size]).toEqual([["on", "off"], 1]);
    board.pci.configWrite(BDF, at + 2, 2, 0);
    expect([asked, board.routes.size]).toEqual([["on", "off", "on"], 0]);
  });

  test("that the host does not give is hidden", () => {
    const { board } = telling({ config: (bytes) => (bytes[0x3d] = 1) });
    expect(board.pci.configRead(BDF, 0x3d, 1)).toBe(0);
  });
});

describe("what is not served is hidden", () => {
  test("I/O BARs become no memory BARs, with a note; the expansion ROM and MSI-X without vectors are gone", () => {
    const { board } = telling({
      irqs: (index) => (index === VfioIrq.MSIX ? { count: 0 } : {}),
      regions: (index) => (index === VfioRegion.BAR4 ? { size: 32, readable: true, writable: true, areas: [] } : null),
      config: (bytes) => {
        bytes[0x20] = 1;
        bytes.set([1, 0, 0xf0, 0xff], 0x30);
      },
    });
    board.pci.configWrite(BDF, 0x20, 4, 0xffff_ffff);
    board.pci.configWrite(BDF, 0x30, 4, 0xffff_ffff);
    expect([0x20, 0x30].map((at) => board.pci.configRead(BDF, at, 4))).toEqual([0, 0]);
    expect(capability(board, MSIX)).toBe(0);
    expect(board.log.lines.map(({ text }) => text).filter((text) => text.includes("BAR 4"))).toHaveLength(1);
  });
});
