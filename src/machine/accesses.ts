/** What a processor's accesses meet on a board, answered at once: the door of those that run instructions on it. */
import type { AddressSpace, MmioHandler } from "../memory/index.js";

/** I/O ports of a board; offsets are their numbers. */
export interface PortSpace extends MmioHandler {
  /** What answers at a port, for the account. */
  nameOf(port: number): string;
}

/** Of a board, what its accesses meet; asked at each access. */
interface Space {
  readonly memory: AddressSpace;
  /** Null: the architecture has none; they read as all ones. */
  readonly ports: PortSpace | null;
  endOfInterrupt(vector: number): void;
}

/** Sizes are in bytes: 1, 2, 4, or 8 of memory. Values are unsigned and of that size. */
export class ProcessorAccesses {
  constructor(private readonly space: Space) {}

  readMemory(address: number, size: number): bigint {
    return this.space.memory.readWord(address, size);
  }

  writeMemory(address: number, size: number, value: bigint): void {
    this.space.memory.writeWord(address, size, value);
  }

  readPort(port: number, size: number): number {
    const value = this.space.ports?.read(port, size) ?? -1n;
    return Number(BigInt.asUintN(8 * size, value));
  }

  writePort(port: number, size: number, value: number): void {
    this.space.ports?.write(port, size, BigInt.asUintN(8 * size, BigInt(value)));
  }

  /** The guest has finished with a level-triggered vector. */
  endOfInterrupt(vector: number): void {
    this.space.endOfInterrupt(vector);
  }

  /** What answers at an address, or a port, for the account. */
  nameOf(address: number, isPort: boolean): string {
    return isPort ? (this.space.ports?.nameOf(address) ?? "no port") : (this.space.memory.find(address)?.region.name ?? "nothing");
  }
}
