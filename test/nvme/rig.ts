/** A controller with memory of its own as a guest's machine: registers at BASE, RAM at RAM. */
import { MemoryDisk, type Disk, type Done } from "../../src/block/index.js";
import { NvmeDriver, type NvmeBuffer, type NvmeParts } from "../../src/guest/devices/nvme.js";
import type { MachinePort } from "../../src/port/index.js";
import { Namespace, NvmeController, type NvmeHost, type NvmeOptions } from "../../src/nvme/index.js";
import { toNumber, type Scheduler } from "../../src/support/index.js";

export const BASE = 0x1000_0000;
export const RAM = 0x4000_0000;
const RAM_BYTES = 32 << 20;
const PAGE = 4096;

/** A disk whose operations end when the test says so. */
export class SlowDisk implements Disk {
  readonly name = "slow";
  readonly readOnly = false;
  readonly deallocates = true;
  readonly volatileCache = true;
  readonly waiting: Array<{ what: string; end: (error?: Error) => void }> = [];
  /** What is asked, in order. */
  readonly asked: string[] = [];
  /** Operations end at once. */
  quick = false;
  failing: Error | null = null;
  constructor(readonly size: number, readonly under = new MemoryDisk("under", size)) {}

  private ask(what: string, run: (done: Done) => void, done: Done): void {
    this.asked.push(what);
    const end = (error?: Error): void => (error === undefined && this.failing === null ? run(done) : done(error ?? this.failing));
    if (this.quick) {
      end();
    } else {
      this.waiting.push({ what, end });
    }
  }
  endAll(): void {
    while (this.waiting.length > 0) {
      this.waiting.shift()!.end();
    }
  }
  read(position: number, into: Uint8Array, done: Done): void {
    this.ask(`read ${position} ${into.length}`, (end) => this.under.read(position, into, end), done);
  }
  write(position: number, data: Uint8Array, done: Done): void {
    this.ask(`write ${position} ${data.length}`, (end) => this.under.write(position, data, end), done);
  }
  writeZeroes(position: number, length: number, deallocate: boolean, done: Done): void {
    this.ask(`zeroes ${position} ${length} ${deallocate}`, (end) => this.under.writeZeroes(position, length, deallocate, end), done);
  }
  deallocate(position: number, length: number, done: Done): void {
    this.ask(`deallocate ${position} ${length}`, (end) => this.under.deallocate(position, length, end), done);
  }
  flush(done: Done): void {
    this.ask("flush", (end) => end(null), done);
  }
  close(): void {}
}

export class Rig implements NvmeHost, MachinePort {
  readonly memory = new Uint8Array(RAM_BYTES);
  /** Pages of which requests fail. */
  readonly faulting = new Set<number>();
  /** Requests that the controller made. */
  requests = 0;
  readonly raised: number[] = [];
  pin = false;
  messages = true;
  readonly later: Array<() => void> = [];
  readonly controller: NvmeController;
  private next = RAM;
  private readonly free: Array<{ physical: number; bytes: number }> = [];

  constructor(namespaces: ReadonlyMap<number, Namespace>, options: Partial<NvmeOptions> = {}, scheduler?: Scheduler) {
    this.controller = new NvmeController(
      this,
      { vendorId: 0x1b36, subsystemVendorId: 0x1af4, serial: "S1", modelNumber: "model", firmware: "1.0", queuePairs: 8, mdts: 7, mqes: 2047, aerl: 3, writeCache: true, ...options },
      namespaces,
      scheduler ?? ((work) => void this.later.push(work)),
    );
  }

  static withDisk(disk: Disk, options: Partial<NvmeOptions> & { blockBytes?: number } = {}): Rig {
    return new Rig(new Map([[1, new Namespace({ disk, blockBytes: options.blockBytes ?? 512, seed: "a" })]]), options);
  }

  // ---- what the controller sees ----
  private span(high: number, low: number, length: number): Uint8Array | null {
    this.requests++;
    const at = toNumber(high, low) - RAM;
    if (at < 0 || at + length > RAM_BYTES) {
      return null;
    }
    for (let page = Math.floor(at / PAGE); page <= Math.floor((at + length - 1) / PAGE); page++) {
      if (this.faulting.has(page * PAGE + RAM)) {
        return null;
      }
    }
    return this.memory.subarray(at, at + length);
  }
  readMemoryWords(high: number, low: number, out: Uint8Array): boolean {
    const span = this.span(high, low, out.length);
    if (span !== null) {
      out.set(span);
    }
    return span !== null;
  }
  vectors(): number {
    return this.messages ? 9 : 1;
  }
  unmasked(): boolean {
    return this.messages;
  }
  raise(vector: number): void {
    if (this.messages) {
      this.raised.push(vector);
    }
  }
  setPin(level: boolean): void {
    this.pin = level;
  }

  // ---- what the guest sees; readMemory and writeMemory are of both ----
  readMemory(high: number, low: number, out: Uint8Array): boolean;
  readMemory(address: number, length: number): Promise<Uint8Array>;
  readMemory(first: number, second: number, out?: Uint8Array): boolean | Promise<Uint8Array> {
    return out === undefined ? Promise.resolve(this.memory.slice(first - RAM, first - RAM + second)) : this.readMemoryWords(first, second, out);
  }
  writeMemory(high: number, low: number, data: Uint8Array): boolean;
  writeMemory(address: number, data: Uint8Array): Promise<void>;
  writeMemory(first: number, second: number | Uint8Array, data?: Uint8Array): boolean | Promise<void> {
    if (typeof second !== "number") {
      this.memory.set(second, first - RAM);
      return Promise.resolve();
    }
    const span = this.span(first, second, data!.length);
    span?.set(data!);
    return span !== null;
  }
  read(address: number): Promise<bigint> {
    return Promise.resolve(BigInt(this.controller.read(address - BASE) >>> 0));
  }
  write(address: number, _size: number, value: bigint): Promise<void> {
    this.controller.write(address - BASE, Number(value) | 0);
    return Promise.resolve();
  }
  interrupts(): Promise<[]> {
    return Promise.resolve([]);
  }
  firmware(): Promise<{ deviceTree: null; acpiRoot: null }> {
    return Promise.resolve({ deviceTree: null, acpiRoot: null });
  }

  // ---- the driver's parts ----
  allocate(bytes: number): NvmeBuffer & { bytes: number } {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    const at = this.free.findIndex((one) => one.bytes === size);
    const physical = at >= 0 ? this.free.splice(at, 1)[0].physical : this.next;
    if (at < 0) {
      this.next += size;
    }
    return {
      physical,
      address: BigInt(physical),
      bytes: size,
      release: async () => {
        this.free.push({ physical, bytes: size });
      },
    };
  }
  bytes(physical: number, length: number): Uint8Array {
    return this.memory.subarray(physical - RAM, physical - RAM + length);
  }
  runLater(): void {
    this.later.splice(0).forEach((work) => work());
  }
  get parts(): NvmeParts {
    return {
      port: this,
      base: BASE,
      name: "nvme",
      allocate: async (bytes) => this.allocate(bytes),
      until: async (condition, what) => {
        for (let i = 0; i < 1000; i++) {
          if (await condition()) {
            return;
          }
          this.runLater();
          await new Promise((resolve) => setImmediate(resolve));
        }
        throw new Error(`waited in vain for ${what}`);
      },
    };
  }
  start(entries?: number): Promise<NvmeDriver> {
    return NvmeDriver.start(this.parts, { entries });
  }
}
