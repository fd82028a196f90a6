/**
 * What the agreement suite drives: a machine as its guest sees it, either viommu in this process or a QEMU
 * behind its qtest socket. Writes are queued and may be pipelined; they are done, in order, before the next
 * read that is awaited.
 */
import { readFileSync } from "node:fs";
import { createSimulatedHost, loadHostDescription, type SimulatedHost } from "../../src/host/simulated/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import type { AccessSize, PortSize } from "../../src/port/index.js";
import type { MmioHandler } from "../../src/memory/index.js";
import { Log } from "../../src/support/index.js";

export interface Driver {
  /** "viommu", or QEMU with its version. */
  readonly name: string;
  /** Version of the QEMU; null: viommu. */
  readonly version: QemuVersion | null;
  /** One CPU access, naturally aligned, to a guest-physical address. */
  read(address: number, size: AccessSize): Promise<bigint>;
  write(address: number, size: AccessSize, value: bigint | number): void;
  /** One access to an I/O port, of boards that have them. */
  readPort(port: number, size: PortSize): Promise<number>;
  writePort(port: number, size: PortSize, value: number): void;
  /** RAM, any length in bytes. */
  load(address: number, length: number): Promise<Uint8Array>;
  store(address: number, data: Uint8Array): void;
  fill(address: number, length: number, byte: number): void;
  /** Lets a device finish: until the `busy` bits of its register, `size` bytes at an address, are clear. */
  finish(address: number, size: AccessSize, busy: bigint): Promise<void>;
  end(): void;
}

export type QemuVersion = readonly [major: number, minor: number];

export interface MachineRequest {
  /** Arguments that viommu and QEMU both get. */
  readonly arguments: readonly string[];
}

/** viommu's machine on the simulated host. */
export class InProcess implements Driver {
  readonly name = "viommu";
  readonly version = null;
  readonly log = new Log();
  private readonly host: SimulatedHost;
  readonly machine: Machine;

  constructor(request: MachineRequest) {
    const path = new URL("../../hosts/board.json", import.meta.url);
    this.host = createSimulatedHost(loadHostDescription(readFileSync(path, "utf8"), "board.json"));
    this.machine = new Machine(parseArguments(request.arguments), this.host, this.log);
    this.machine.start();
  }

  private get memory(): Machine["board"]["memory"] {
    return this.machine.board.memory;
  }

  read(address: number, size: AccessSize): Promise<bigint> {
    return Promise.resolve(this.memory.readWord(address, size));
  }

  write(address: number, size: AccessSize, value: bigint | number): void {
    this.memory.writeWord(address, size, BigInt.asUintN(size * 8, BigInt(value)));
  }

  private get ports(): MmioHandler {
    const { ports } = this.machine.board;
    if (ports === null) {
      throw new Error("this board has no I/O ports");
    }
    return ports;
  }

  readPort(port: number, size: PortSize): Promise<number> {
    return Promise.resolve(Number(this.ports.read(port, size)));
  }

  writePort(port: number, size: PortSize, value: number): void {
    this.ports.write(port, size, BigInt(value));
  }

  load(address: number, length: number): Promise<Uint8Array> {
    const out = new Uint8Array(length);
    this.memory.readBytes(address, out);
    return Promise.resolve(out);
  }

  store(address: number, data: Uint8Array): void {
    this.memory.writeBytes(address, data);
  }

  fill(address: number, length: number, byte: number): void {
    this.memory.writeBytes(address, new Uint8Array(length).fill(byte));
  }

  finish(): Promise<void> {
    return Promise.resolve();
  }

  end(): void {
    this.machine.shutdown();
    this.host.close();
  }
}
