import { describe, expect, test } from "vitest";
import { CONTROL_START, OPERATION_WRITE } from "../../src/host/simulated/index.js";
import { ForwardingDevice, ForwardingHost } from "../../src/host/instruments/index.js";
import { HostError, type RegionArea, type RegionFile, type VfioDevice } from "../../src/iommufd/index.js";
import { A, B, Board, encodeCommand, OP } from "../smmuv3/accel/rig.js";
import { BAR0, ENGINE, read32 } from "./rig.js";

/** BAR 0 of each function: behind a port with a window of its own. */
const BARS = [BAR0, BAR0 + 0x200_0000];
const BDFS = [0x900, 0xa00];
const [STATUS, BYTES] = [ENGINE.SRC_LOW, ENGINE.SRC_HIGH];

/** Two functions of the host in one machine, which decode memory and master the bus; an SMMU that lets all through. */
function pair(options: (board: Board) => Parameters<Board["plug"]>[2] = () => ({})) {
  const board = new Board();
  const functions = [A, B].map((address, n) => {
    const fn = board.plug(address, n, options(board));
    board.number(n, 9 + n);
    const port = board.ports[n].bdf;
    board.pci.configWrite(port, 0x20, 4, (((BARS[n] + 0x1f0_0000) & 0xfff0_0000) | (BARS[n] >>> 16)) >>> 0);
    board.pci.configWrite(port, 4, 2, 6);
    board.pci.configWrite(BDFS[n], 0x10, 4, BARS[n]);
    board.pci.configWrite(BDFS[n], 0x14, 4, 0);
    board.pci.configWrite(BDFS[n], 4, 2, 6);
    return fn;
  });
  board.smmu.gbpa(false);
  return { board, functions };
}

const at = (n: number, register: number): number => BARS[n] + register;

describe("a function that reaches another one's registers", () => {
  test("writes and reads them by their guest-physical address, and what is no register of it stays the other's", () => {
    const { board } = pair();
    expect(board.dmaWrite(A, at(1, STATUS), 0x1111_2222_3333_4444n)).toBe(true);
    expect([read32(board, at(1, STATUS)), read32(board, at(1, BYTES))]).toEqual([0x3333_4444, 0x1111_2222]);
    expect(board.dmaRead(A, at(1, STATUS))).toBe(0x1111_2222_3333_4444n);
    expect(read32(board, at(0, STATUS)), "its own are others").toBe(0);
    // Its own too.
    expect(board.dmaWrite(B, at(1, STATUS), 5n)).toBe(true);
    expect(read32(board, at(1, STATUS))).toBe(5);
  });

  test("does not reach the MSI-X table and the pending bits, which are this side's", () => {
    const { board } = pair();
    expect([0x4000, 0x6000].map((offset) => board.dmaWrite(A, at(1, offset), 1n))).toEqual([false, false]);
    expect(board.dmaWrite(A, at(1, 0x5000), 1n)).toBe(true);
  });

  test("goes through the guest's stage 1", () => {
    const { board } = pair();
    const table = board.table();
    board.mapIdentity(table, BARS[1]);
    board.smmu.enable();
    board.smmu.ste(BDFS[0], board.stage1(table));
    board.smmu.configure(BDFS[0]);
    expect(board.probe(A)).toBe("table 0");
    expect(board.dmaWrite(A, at(1, STATUS), 7n)).toBe(true);
    expect(read32(board, at(1, STATUS))).toBe(7);
    expect(board.dmaWrite(A, at(0, 0x5000), 7n), "not mapped by the guest").toBe(false);
    expect(board.smmu.events().map((record) => record[0] & 0xff)).toContain(0x10);
    expect(board.strayReads(), "the guest's tables are the hardware's to walk").toEqual([]);
  });

  test("starts the other's engine, whose write starts the first one's, and so on: it ends", () => {
    const { board } = pair();
    const program = (n: number, target: number): void => {
      for (const [register, value] of [[ENGINE.DST_LOW, target], [ENGINE.LENGTH, 4], [ENGINE.SRC_LOW, ENGINE.BUFFER]] as const) {
        board.space.writeWord(at(n, register), 4, BigInt(value));
      }
      board.space.writeWord(at(n, ENGINE.BUFFER), 4, BigInt(CONTROL_START | (OPERATION_WRITE << 1)));
    };
    program(0, at(1, ENGINE.CONTROL));
    program(1, at(0, ENGINE.CONTROL));
    board.space.writeWord(at(0, ENGINE.CONTROL), 4, BigInt(CONTROL_START | (OPERATION_WRITE << 1)));
    expect(board.hardware(B).counters.transactions).toBeGreaterThan(1);
    expect(board.hardware(A).counters.transactions).toBeLessThan(1000);
  });

  test.each([
    { what: "stops decoding", off: (board: Board) => board.pci.configWrite(BDFS[1], 4, 2, 4), on: (board: Board) => board.pci.configWrite(BDFS[1], 4, 2, 6) },
    { what: "goes to D3hot", off: (board: Board) => board.pci.configWrite(BDFS[1], 0x44, 2, 3), on: (board: Board) => board.pci.configWrite(BDFS[1], 0x44, 2, 0) },
    { what: "moves", off: (board: Board) => board.pci.configWrite(BDFS[1], 0x10, 4, BARS[1] + 0x10_0000), on: (board: Board) => board.pci.configWrite(BDFS[1], 0x10, 4, BARS[1]) },
    { what: "is reset by the machine", off: (_board: Board, fn: { reset(): void }) => fn.reset(), on: (board: Board) => [board.pci.configWrite(BDFS[1], 0x10, 4, BARS[1]), board.pci.configWrite(BDFS[1], 4, 2, 6)] },
  ])("does so no more while the other $what, and again after it", ({ off, on }) => {
    const { board, functions } = pair();
    off(board, functions[1]);
    expect(board.dmaWrite(A, at(1, STATUS), 1n)).toBe(false);
    on(board);
    expect(board.dmaWrite(A, at(1, STATUS), 2n)).toBe(true);
    expect(read32(board, at(1, STATUS))).toBe(2);
    expect(board.log.lines).toEqual([]);
  });

  test("does so after a function level reset that the guest asked for, by which the host takes back what was mapped", () => {
    const { board } = pair();
    board.pci.configWrite(BDFS[1], 0x68, 2, 0x8000);
    expect(board.dmaWrite(A, at(1, STATUS), 3n)).toBe(true);
    expect(read32(board, at(1, STATUS))).toBe(3);
  });

  test("of a function that is unplugged reaches nothing, and nothing of it is left", () => {
    const { board } = pair();
    board.unplug(B);
    expect(board.dmaWrite(A, at(1, STATUS), 1n)).toBe(false);
    board.close();
    expect(board.live()).toEqual({});
    expect(board.log.lines).toEqual([]);
  });

  test("reaches nothing with x-no-mmap=on", () => {
    const { board } = pair(() => ({ direct: false }));
    expect(board.dmaWrite(A, at(1, STATUS), 1n)).toBe(false);
    expect(board.observer.calls.get("IOAS_MAP_FILE")).toBeUndefined();
  });

  test("on a host that has no dma-bufs: nothing is reached, and nobody suffers", () => {
    class Device extends ForwardingDevice {
      override regionFile(_index: number, _area: RegionArea): RegionFile {
        throw new HostError("VFIO_FEATURE", "ENOTTY", "");
      }
    }
    class Older extends ForwardingHost {
      protected override wrapDevice(device: VfioDevice): VfioDevice {
        return new Device(device);
      }
    }
    const { board } = pair((of) => ({ host: new Older(of.observed) }));
    expect(board.dmaWrite(A, at(1, STATUS), 1n)).toBe(false);
    expect(board.log.lines).toEqual([]);
  });

  test("a refused mapping is a warning, once, and no end of anything", () => {
    const { board } = pair();
    board.observer.failOn({ operation: "IOAS_MAP_FILE", nth: 1, errno: "EINVAL" });
    board.pci.configWrite(BDFS[1], 4, 2, 4);
    board.pci.configWrite(BDFS[1], 4, 2, 6);
    expect(board.log.lines.map(({ text }) => text)).toEqual([expect.stringContaining("IOAS_MAP_FILE: EINVAL: registers of passed-through functions are not reached by DMA of others (peer to peer)")]);
    expect(board.dmaWrite(A, at(1, 0x5000), 1n), "the other parts are there").toBe(true);
  });

  test("invalidations of the guest find no change of it", () => {
    const { board } = pair();
    board.smmu.enable();
    board.smmu.submit(encodeCommand(OP.TLBI_NSNH_ALL), encodeCommand(OP.SYNC));
    expect(board.smmu.commandError).toBe(false);
  });
});
