import { AddressSpace, MemoryRegion, RamBlock, RamWordMemory, type WordMemory } from "../../../src/memory/index.js";
import { BATCH_REFUSED } from "../../../src/smmuv3/device/backend.js";
import { DEFAULT_PROPERTIES, type SmmuBackend, type SmmuProperties, SmmuV3 } from "../../../src/smmuv3/index.js";
import { CERROR_ATC_INV_SYNC, CERROR_ILL, CERROR_NONE } from "../../../src/smmuv3/spec/index.js";
import { Log } from "../../../src/support/index.js";

export const RAM_BASE = 0x4000_0000;
export const CMDQ = RAM_BASE + 0x10_0000;
export const EVENTQ = RAM_BASE + 0x20_0000;

/** Register offsets by number, as the architecture's register overview (Arm IHI 0070, 6.2.1) has them. */
export const R = {
  CR0: 0x20,
  CR0ACK: 0x24,
  CR1: 0x28,
  CR2: 0x2c,
  GBPA: 0x44,
  IRQ_CTRL: 0x50,
  IRQ_CTRLACK: 0x54,
  GERROR: 0x60,
  GERRORN: 0x64,
  GERROR_IRQ_CFG0: 0x68,
  STRTAB_BASE: 0x80,
  STRTAB_BASE_CFG: 0x88,
  CMDQ_BASE: 0x90,
  CMDQ_PROD: 0x98,
  CMDQ_CONS: 0x9c,
  EVENTQ_BASE: 0xa0,
  EVENTQ_IRQ_CFG0: 0xb0,
  EVENTQ_PROD: 0x100a8,
  EVENTQ_CONS: 0x100ac,
} as const;

/** An SMMU with memory, wires that are recorded, and short ways to poke it. */
export class Rig {
  /** Work that is to go on when the event loop is free. */
  readonly later: Array<() => void> = [];
  readonly ram: RamBlock;
  readonly words: RamWordMemory;
  readonly space: AddressSpace;
  readonly log = new Log();
  readonly pulses: string[] = [];
  readonly messages: Array<{ address: number; data: number }> = [];
  /** Addresses at or above this abort a message. */
  messageLimit = Infinity;
  onMessage: (address: number, data: number) => void = () => {};
  readonly smmu: SmmuV3;

  constructor(properties: Partial<SmmuProperties> = {}, megabytes = 4, wrap: (words: RamWordMemory) => WordMemory = (words) => words) {
    const bytes = megabytes * 0x10_0000;
    this.ram = new RamBlock("ram", bytes, 0x1000_0000);
    this.words = new RamWordMemory();
    this.words.place(RAM_BASE, this.ram);
    const root = MemoryRegion.container("system", 2 ** 48);
    root.add(RAM_BASE, MemoryRegion.ram("ram", this.ram));
    this.space = new AddressSpace("memory", root);
    const line = (name: string): { pulse: () => void } => ({ pulse: () => void this.pulses.push(name) });
    this.smmu = new SmmuV3({
      id: "smmu0",
      properties: { ...DEFAULT_PROPERTIES, ...properties },
      memory: this.space,
      words: wrap(this.words),
      lines: { eventq: line("eventq"), priq: line("priq"), cmdqSync: line("sync"), gerror: line("gerror") },
      scheduler: (work) => void this.later.push(work),
      writeMsi: (address, data) => {
        if (address >= this.messageLimit) {
          return false;
        }
        this.messages.push({ address, data });
        this.onMessage(address, data);
        return true;
      },
      log: this.log,
    });
  }

  get(offset: number): number {
    return Number(this.smmu.read(offset, 4));
  }

  set(offset: number, value: number): void {
    this.smmu.write(offset, 4, BigInt(value >>> 0));
  }

  get64(offset: number): bigint {
    return this.smmu.read(offset, 8);
  }

  set64(offset: number, value: bigint | number): void {
    this.smmu.write(offset, 8, BigInt(value));
  }

  /** Stores 64-bit words at a guest-physical address. */
  store(address: number, ...values: bigint[]): void {
    const bytes = new Uint8Array(values.length * 8);
    const view = new DataView(bytes.buffer);
    values.forEach((value, n) => view.setBigUint64(n * 8, BigInt.asUintN(64, value), true));
    this.space.writeBytes(address, bytes);
  }

  load(address: number, count: number): bigint[] {
    const bytes = new Uint8Array(count * 8);
    this.space.readBytes(address, bytes);
    const view = new DataView(bytes.buffer);
    return Array.from({ length: count }, (_unused, n) => view.getBigUint64(n * 8, true));
  }

  /** Sets up queues of 2^log2 entries and enables them; the interrupts too. */
  start(cmdqLog2 = 4, eventqLog2 = 4, cr0 = 0xc): void {
    this.set(R.CR0, 0);
    this.set64(R.CMDQ_BASE, CMDQ + cmdqLog2);
    this.set(R.CMDQ_CONS, 0);
    this.set(R.CMDQ_PROD, 0);
    this.set64(R.EVENTQ_BASE, EVENTQ + eventqLog2);
    this.set(R.EVENTQ_PROD, 0);
    this.set(R.EVENTQ_CONS, 0);
    this.set(R.IRQ_CTRL, 5);
    this.set(R.CR0, cr0);
    this.cmdqLog2 = cmdqLog2;
    this.prod = 0;
  }

  private cmdqLog2 = 4;
  prod = 0;

  /** Puts commands (two 64-bit words each) into the queue without telling the SMMU. */
  put(...commands: Array<readonly [bigint, bigint]>): void {
    for (const [low, high] of commands) {
      const index = this.prod & ((1 << this.cmdqLog2) - 1);
      this.store(CMDQ + index * 16, low, high);
      this.prod = (this.prod + 1) & ((2 << this.cmdqLog2) - 1);
    }
  }

  /** Puts commands and rings. */
  submit(...commands: Array<readonly [bigint, bigint]>): void {
    this.put(...commands);
    this.set(R.CMDQ_PROD, this.prod);
  }

  get cons(): number {
    return this.get(R.CMDQ_CONS) & 0xf_ffff;
  }

  get cerror(): number {
    return (this.get(R.CMDQ_CONS) >>> 24) & 0x7f;
  }

  get commandError(): boolean {
    return ((this.get(R.GERROR) ^ this.get(R.GERRORN)) & 1) !== 0;
  }

  acknowledge(): void {
    this.set(R.GERRORN, this.get(R.GERROR));
  }
}

/** Commands by number, as chapter 4 lays them out: low and high 64-bit word. */
export const C = {
  prefetch: (sid: number) => [0x01n | (BigInt(sid) << 32n), 0n] as const,
  ste: (sid: number) => [0x03n | (BigInt(sid) << 32n), 1n] as const,
  steRange: (sid: number, range: number) => [0x04n | (BigInt(sid) << 32n), BigInt(range)] as const,
  all: () => [0x04n, 31n] as const,
  cd: (sid: number, ssid = 0) => [0x05n | (BigInt(ssid) << 12n) | (BigInt(sid) << 32n), 1n] as const,
  cdAll: (sid: number) => [0x06n | (BigInt(sid) << 32n), 0n] as const,
  nhAll: () => [0x10n, 0n] as const,
  nhAsid: (asid: number) => [0x11n | (BigInt(asid) << 48n), 0n] as const,
  nhVa: (asid: number, address: bigint) => [0x12n | (BigInt(asid) << 48n), (address & ~0xfffn) | 1n] as const,
  nhVaa: (address: bigint) => [0x13n, (address & ~0xfffn) | 1n] as const,
  nsnhAll: () => [0x30n, 0n] as const,
  atc: (sid: number) => [0x40n | (BigInt(sid) << 32n), 52n] as const,
  sync: (signal = 0) => [0x46n | (BigInt(signal) << 12n), 0n] as const,
  syncMessage: (address: bigint, data: number) => [0x46n | (1n << 12n) | (BigInt(data) << 32n), address] as const,
  illegal: () => [0x99n, 0n] as const,
};

/** A backend that writes down what it is asked, and fails where it is told to. */
export class RecordingBackend implements SmmuBackend {
  pending = 0;
  flushHandled = 0;
  flushTimedOut = false;
  flushes = 0;
  /** Every call, in order; a flush with the low words of its commands. */
  readonly calls: string[] = [];
  /** Low word and StreamID word of the commands that the host has done, in order. */
  readonly done: string[] = [];
  /** Code for a command in a flush, by its words; CERROR_NONE: it goes well. */
  judge: (word0: number, word1: number) => number = () => CERROR_NONE;
  installCode: (first: number, last: number, goOn: boolean) => number = () => CERROR_NONE;
  /** StreamIDs that are nobody's: their CFGI_CD and ATC_INV need no forwarding. */
  readonly strangers = new Set<number>();
  private batch: number[][] = [];

  constructor(readonly capacity = 8) {}

  forward(word0: number, word1: number, word2: number, word3: number): boolean {
    const opcode = word0 & 0xff;
    if ((opcode === 5 || opcode === 6 || opcode === 0x40) && this.strangers.has(word1)) {
      return false;
    }
    if (this.pending >= this.capacity) {
      throw new Error("the batch is full");
    }
    this.batch.push([word0, word1, word2, word3]);
    this.pending++;
    return true;
  }

  flush(): number {
    const batch = this.batch;
    this.batch = [];
    this.pending = 0;
    this.flushes++;
    this.calls.push(`flush ${batch.map(([word0, word1]) => name(word0, word1)).join(" ")}`);
    this.flushHandled = 0;
    this.flushTimedOut = false;
    for (const [word0, word1] of batch) {
      const code = this.judge(word0, word1);
      if (code === CERROR_ATC_INV_SYNC) {
        this.flushTimedOut = true;
      } else if (code !== CERROR_NONE) {
        return code;
      } else {
        this.done.push(name(word0, word1));
      }
      this.flushHandled++;
    }
    return CERROR_NONE;
  }

  installEntries(first: number, last: number, goOn: boolean): number {
    this.flushTimedOut = false;
    if (this.pending !== 0 && this.flush() !== CERROR_NONE) {
      return BATCH_REFUSED;
    }
    this.calls.push(`install ${first.toString(16)}-${last.toString(16)}`);
    const code = this.installCode(first, last, goOn);
    if (code === CERROR_NONE) {
      this.done.push(`install ${first.toString(16)}-${last.toString(16)}`);
    }
    return code;
  }

  translationChanged(): void {
    this.calls.push("translation");
  }

  eventQueueChanged(): void {
    this.calls.push("eventq");
  }

  reset(): void {
    this.calls.push("reset");
  }
}

export function name(word0: number, word1: number): string {
  return `${(word0 & 0xff).toString(16)}:${(word1 >>> 0).toString(16)}`;
}

export { CERROR_ILL };
