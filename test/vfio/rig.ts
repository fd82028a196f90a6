/** vfio-pci functions on a machine with open windows, as a guest's driver uses them. */
import { ENGINE } from "../../src/host/simulated/index.js";
import type { VfioPci } from "../../src/vfio/index.js";
import { A, Board, type BoardOptions } from "../smmuv3/accel/rig.js";

export const BAR0 = 0x1000_0000;
export const BDF = 0x900;

/** A board whose function A is on bus 9, with BAR 0 at 0x10000000, decoding and bus mastering. */
export function started(options: BoardOptions = {}, plug: Parameters<Board["plug"]>[2] = {}): { board: Board; fn: VfioPci } {
  const board = new Board(options);
  const fn = board.plug(A, 0, plug);
  board.number(0, 9);
  const port = board.ports[0].bdf;
  // Memory window 0x10000000 to 0x11ffffff, and the port passes it on.
  board.pci.configWrite(port, 0x20, 4, 0x11f0_1000);
  board.pci.configWrite(port, 4, 2, 6);
  board.pci.configWrite(BDF, 0x10, 4, BAR0);
  board.pci.configWrite(BDF, 0x14, 4, 0);
  board.pci.configWrite(BDF, 4, 2, 6);
  return { board, fn };
}

export function read32(board: Board, address: number): number {
  return Number(board.space.readWord(address, 4));
}

export function write32(board: Board, address: number, value: number): void {
  board.space.writeWord(address, 4, BigInt(value >>> 0));
}

/** Offset of a capability of the list at 0x34; 0: none. */
export function capability(board: Board, id: number): number {
  for (let at = board.pci.configRead(BDF, 0x34, 1); at !== 0; at = board.pci.configRead(BDF, at + 1, 1)) {
    if (board.pci.configRead(BDF, at, 1) === id) {
      return at;
    }
  }
  return 0;
}

/** Offsets of extended capabilities by id. */
export function extended(board: Board): Map<number, number> {
  const found = new Map<number, number>();
  for (let at = 0x100, hops = 0; at !== 0 && hops < 100; hops++) {
    const header = board.pci.configRead(BDF, at, 4);
    if ((header & 0xffff) !== 0) {
      found.set(header & 0xffff, at);
    }
    at = header >>> 20;
  }
  return found;
}

export { ENGINE };
