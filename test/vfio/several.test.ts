import { describe, expect, test } from "vitest";
import { plugFunction, X3130Upstream, Xio3130Downstream } from "../../src/pci/index.js";
import { A, B, Board, E, EXPLICIT } from "../smmuv3/accel/rig.js";
import { BAR0, ENGINE, read32 } from "./rig.js";

const { PATTERN } = ENGINE;

describe("several functions", () => {
  test("of two iommufds behind two physical SMMUs reach one another's registers, and leave nothing", () => {
    const board = new Board({ properties: [EXPLICIT, EXPLICIT] });
    const places = [
      { address: A, port: 0, bus: 9, bar: BAR0, iommufd: board.contexts[0] },
      { address: E, port: 3, bus: 0x11, bar: BAR0 + 0x200_0000, iommufd: board.contexts[1] },
    ];
    for (const { address, port, bus, bar, iommufd } of places) {
      board.plug(address, port, { iommufd });
      board.number(port, bus);
      const { bdf } = board.ports[port];
      board.pci.configWrite(bdf, 0x20, 4, ((bar + 0x1f0_0000) & 0xfff0_0000) | (bar >>> 16));
      board.pci.configWrite(bdf, 4, 2, 6);
      board.pci.configWrite(bus << 8, 0x10, 4, bar);
      board.pci.configWrite(bus << 8, 0x14, 4, 0);
      board.pci.configWrite(bus << 8, 4, 2, 6);
    }
    board.smmus.forEach((smmu) => smmu.gbpa(false));
    expect(board.functions.get(A)!.hostIommu).not.toBe(board.functions.get(E)!.hostIommu);
    expect([board.dmaWrite(A, places[1].bar + PATTERN, 5n), board.dmaWrite(E, places[0].bar + PATTERN, 6n)]).toEqual([true, true]);
    expect(places.map(({ bar }) => read32(board, bar + PATTERN))).toEqual([6, 5]);
    board.unplug(E);
    expect(board.dmaWrite(A, places[1].bar + PATTERN, 7n)).toBe(false);
    board.close();
    expect(board.live()).toEqual({});
  });

  test("behind a switch have requester ids, registers and vectors of their own", () => {
    const board = new Board();
    const upstream = new X3130Upstream({ id: "up" });
    plugFunction(upstream, board.ports[0].secondary, 0);
    const downstream = [0, 1].map((n) => {
      const port = new Xio3130Downstream({ id: `down${n}`, chassis: 40 + n, slot: n });
      plugFunction(port, upstream.secondary, 8 * n);
      return port;
    });
    const functions = [A, B].map((address, n) => {
      const fn = board.make(address);
      plugFunction(fn, downstream[n].secondary, 0);
      return fn;
    });
    // Root port: bus 9, to 12; upstream port: 10; downstream ports: 11 and 12.
    board.pci.configWrite(board.ports[0].bdf, 0x18, 4, (board.ports[0].bdf >> 8) | 0x0c_0900);
    board.pci.configWrite(0x900, 0x18, 4, 0x0c_0a09);
    board.pci.configWrite(0xa00, 0x18, 4, 0x0b_0b0a);
    board.pci.configWrite(0xa08, 0x18, 4, 0x0c_0c0a);
    expect(functions.map((fn) => fn.requesterId)).toEqual([0xb00, 0xc00]);
    for (const bdf of [board.ports[0].bdf, 0x900]) {
      board.pci.configWrite(bdf, 0x20, 4, 0x13f0_1000);
      board.pci.configWrite(bdf, 4, 2, 6);
    }
    [0, 1].forEach((n) => {
      const bar = BAR0 + n * 0x200_0000;
      board.pci.configWrite(0xa00 + 8 * n, 0x20, 4, ((bar + 0x1f0_0000) & 0xfff0_0000) | (bar >>> 16));
      board.pci.configWrite(0xa00 + 8 * n, 4, 2, 6);
      board.pci.configWrite(0xb00 + 0x100 * n, 0x10, 4, bar);
      board.pci.configWrite(0xb00 + 0x100 * n, 0x14, 4, 0);
      board.pci.configWrite(0xb00 + 0x100 * n, 4, 2, 6);
      // MSI-X: vector 0 with its data, enabled.
      board.pci.configWrite(0xb00 + 0x100 * n, 0xa2, 2, 0x8000);
      board.space.writeWord(bar + 0x4000, 4, 0x0809_0040n);
      board.space.writeWord(bar + 0x4008, 4, BigInt(7 + n));
      board.space.writeWord(bar + 0x400c, 4, 0n);
    });
    board.smmu.gbpa(false);
    expect([...board.routes]).toEqual([["dev0.0", "8090040:7"], ["dev1.0", "8090040:8"]]);
    board.hardware(B).raise(0);
    expect(board.delivered).toEqual(["dev1.0"]);
    expect(board.dmaWrite(A, BAR0 + 0x200_0000 + PATTERN, 9n)).toBe(true);
    expect(read32(board, BAR0 + 0x200_0000 + PATTERN)).toBe(9);
  });
});
