/** A driver for NVMe controllers (NVM Express 1.4): admin queue, I/O queues, commands with PRPs, completions by polling. */
import type { MachinePort } from "../../port/index.js";
import { check } from "../failure.js";

export const NVME_CLASS = 0x010802;

/** Registers (3.1). */
export const NVME = { CAP: 0x00, VS: 0x08, INTMS: 0x0c, INTMC: 0x10, CC: 0x14, CSTS: 0x1c, AQA: 0x24, ASQ: 0x28, ACQ: 0x30, DOORBELLS: 0x1000 } as const;
export const NVME_READY = 1;
export const NVME_FATAL = 2;

const SQ_ENTRY = 64;
const CQ_ENTRY = 16;
const PAGE = 4096;
/** CC: enable, entries of 64 and of 16 bytes; pages of 4 KiB. */
const ENABLE = 1 | (6 << 16) | (4 << 20);
const SHUTDOWN = 1 << 14;

/** Memory that the CPU and the controller reach, each by its own address. */
export interface NvmeBuffer {
  /** Guest-physical. */
  readonly physical: number;
  /** As the controller emits it. */
  readonly address: bigint;
  release(): Promise<void>;
}

export interface NvmeParts {
  readonly port: MachinePort;
  /** Guest-physical address of BAR 0. */
  readonly base: number;
  readonly name: string;
  allocate(bytes: number): Promise<NvmeBuffer>;
  /** Lets time pass until the condition holds; throws where it is in vain. */
  until(condition: () => Promise<boolean>, what: string): Promise<void>;
}

export interface NvmeCommand {
  readonly opcode: number;
  readonly nsid?: number;
  readonly prp1?: bigint;
  readonly prp2?: bigint;
  /** CDW10 to CDW15. */
  readonly words?: readonly number[];
  /** FUSE and PSDT: bits 15:8 of CDW0. */
  readonly flags?: number;
}

export interface NvmeCompletion {
  readonly result: number;
  readonly sqHead: number;
  readonly sqId: number;
  readonly id: number;
  /** Without the phase tag: code in bits 7:0, type in 10:8, more in 13, do not retry in 14. */
  readonly status: number;
}

/** Type and code of a status: what has to agree between controllers. */
export function statusCode(status: number): number {
  return status & 0x7ff;
}

export class NvmeQueue {
  sqTail = 0;
  cqHead = 0;
  phase = 1;
  constructor(
    readonly id: number,
    readonly sqEntries: number,
    readonly cqEntries: number,
    readonly sq: NvmeBuffer,
    readonly cq: NvmeBuffer,
  ) {}
}

export class NvmeDriver {
  private nextId = 0;
  private readonly completions = new Map<string, NvmeCompletion>();
  private readonly queues: NvmeQueue[] = [];

  private constructor(
    private readonly parts: NvmeParts,
    readonly admin: NvmeQueue,
  ) {
    this.queues.push(admin);
  }

  /**
   * Enables the controller, after a reset if it was enabled (7.6.1).
   * @param masked its interrupt vectors are masked by INTMS, which is for the pin and for MSI
   */
  static async start(parts: NvmeParts, { entries = 32, masked = false }: { readonly entries?: number; readonly masked?: boolean } = {}): Promise<NvmeDriver> {
    const register = (offset: number): Promise<number> => parts.port.read(parts.base + offset, 4).then(Number);
    const store = (offset: number, value: number): Promise<void> => parts.port.write(parts.base + offset, 4, BigInt(value >>> 0));
    const configuration = await register(NVME.CC);
    if ((configuration & 1) !== 0) {
      await store(NVME.CC, configuration & ~1);
    }
    await parts.until(async () => ((await register(NVME.CSTS)) & NVME_READY) === 0, `${parts.name} to be disabled`);
    if (masked) {
      await store(NVME.INTMS, 0xffff_ffff);
    }
    const sq = await parts.allocate(entries * SQ_ENTRY);
    const cq = await parts.allocate(entries * CQ_ENTRY);
    const driver = new NvmeDriver(parts, new NvmeQueue(0, entries, entries, sq, cq));
    await parts.port.writeMemory(cq.physical, new Uint8Array(entries * CQ_ENTRY));
    await store(NVME.AQA, (entries - 1) | ((entries - 1) << 16));
    for (const [at, address] of [[NVME.ASQ, sq.address], [NVME.ACQ, cq.address]] as const) {
      await store(at, Number(address & 0xffff_ffffn));
      await store(at + 4, Number(address >> 32n));
    }
    await store(NVME.CC, ENABLE);
    await parts.until(async () => ((await register(NVME.CSTS)) & (NVME_READY | NVME_FATAL)) !== 0, `${parts.name} to be ready`);
    check(((await register(NVME.CSTS)) & NVME_FATAL) === 0, () => `${parts.name} failed to become ready`);
    return driver;
  }

  register(offset: number): Promise<number> {
    return this.parts.port.read(this.parts.base + offset, 4).then(Number);
  }

  setRegister(offset: number, value: number): Promise<void> {
    return this.parts.port.write(this.parts.base + offset, 4, BigInt(value >>> 0));
  }

  ringTail(queue: number, value: number): Promise<void> {
    return this.setRegister(NVME.DOORBELLS + 8 * queue, value);
  }

  ringHead(queue: number, value: number): Promise<void> {
    return this.setRegister(NVME.DOORBELLS + 8 * queue + 4, value);
  }

  /** Puts a command into the queue and rings, unless told not to; returns its id. */
  async submit(queue: NvmeQueue, command: NvmeCommand, ring = true): Promise<number> {
    const id = this.nextId;
    this.nextId = (this.nextId + 1) & 0x7fff;
    const entry = new Uint8Array(SQ_ENTRY);
    const view = new DataView(entry.buffer);
    view.setUint32(0, (command.opcode | ((command.flags ?? 0) << 8) | (id << 16)) >>> 0, true);
    view.setUint32(4, (command.nsid ?? 0) >>> 0, true);
    view.setBigUint64(24, command.prp1 ?? 0n, true);
    view.setBigUint64(32, command.prp2 ?? 0n, true);
    command.words?.forEach((word, i) => view.setUint32(40 + 4 * i, word >>> 0, true));
    await this.parts.port.writeMemory(queue.sq.physical + queue.sqTail * SQ_ENTRY, entry);
    queue.sqTail = (queue.sqTail + 1) % queue.sqEntries;
    if (ring) {
      await this.ringTail(queue.id, queue.sqTail);
    }
    return id;
  }

  /** Takes what has completed in a queue; returns how many. */
  async reap(queue: NvmeQueue): Promise<number> {
    let taken = 0;
    for (;;) {
      const entry = await this.parts.port.readMemory(queue.cq.physical + queue.cqHead * CQ_ENTRY, CQ_ENTRY);
      const view = new DataView(entry.buffer, entry.byteOffset);
      const last = view.getUint32(12, true);
      if (((last >>> 16) & 1) !== queue.phase) {
        break;
      }
      const completion = { result: view.getUint32(0, true), sqHead: view.getUint16(8, true), sqId: view.getUint16(10, true), id: last & 0xffff, status: last >>> 17 };
      this.completions.set(`${completion.sqId}:${completion.id}`, completion);
      queue.cqHead++;
      taken++;
      if (queue.cqHead === queue.cqEntries) {
        queue.cqHead = 0;
        queue.phase ^= 1;
      }
    }
    if (taken > 0) {
      await this.ringHead(queue.id, queue.cqHead);
    }
    return taken;
  }

  /** The completion of a command; null: not yet. */
  async completion(queue: NvmeQueue, id: number): Promise<NvmeCompletion | null> {
    await this.reap(queue);
    const key = `${queue.id}:${id}`;
    const found = this.completions.get(key) ?? null;
    this.completions.delete(key);
    return found;
  }

  async await(queue: NvmeQueue, id: number): Promise<NvmeCompletion> {
    let found: NvmeCompletion | null = null;
    await this.parts.until(async () => (found = await this.completion(queue, id)) !== null, `command ${id} of queue ${queue.id} of ${this.parts.name}`);
    return found!;
  }

  /** A command to its end. */
  async run(queue: NvmeQueue, command: NvmeCommand): Promise<NvmeCompletion> {
    return await this.await(queue, await this.submit(queue, command));
  }

  runAdmin(command: NvmeCommand): Promise<NvmeCompletion> {
    return this.run(this.admin, command);
  }

  /** Identify (5.15): the structure, or the status. */
  async identify(cns: number, nsid = 0): Promise<{ status: number; data: Uint8Array }> {
    return await this.withBuffer(PAGE, async (buffer) => {
      const { status } = await this.runAdmin({ opcode: 0x06, nsid, prp1: buffer.address, words: [cns] });
      return { status, data: await this.parts.port.readMemory(buffer.physical, PAGE) };
    });
  }

  /** Get Log Page (5.14), up to a page. */
  async log(page: number, bytes: number, options: { nsid?: number; offset?: number; retain?: boolean } = {}): Promise<{ status: number; data: Uint8Array }> {
    return await this.withBuffer(PAGE, async (buffer) => {
      const words = [page | (options.retain === true ? 0x8000 : 0) | ((bytes / 4 - 1) << 16), 0, options.offset ?? 0, 0];
      const { status } = await this.runAdmin({ opcode: 0x02, nsid: options.nsid ?? 0xffff_ffff, prp1: buffer.address, words });
      return { status, data: await this.parts.port.readMemory(buffer.physical, bytes) };
    });
  }

  /** Ids of the namespaces that are there. */
  async namespaces(): Promise<number[]> {
    const { status, data } = await this.identify(0x02);
    check(status === 0, () => `${this.parts.name}: Identify of the namespaces failed with status 0x${status.toString(16)}`);
    return Array.from(new Uint32Array(data.slice(0, PAGE).buffer)).filter((id) => id !== 0);
  }

  /** A completion and a submission queue of one id. Null instead of the queue's interrupt vector: it does not interrupt. */
  async createQueue(id: number, entries: number, vector: number | null = null): Promise<NvmeQueue> {
    const sq = await this.parts.allocate(entries * SQ_ENTRY);
    const cq = await this.parts.allocate(entries * CQ_ENTRY);
    await this.parts.port.writeMemory(cq.physical, new Uint8Array(entries * CQ_ENTRY));
    const size = (entries - 1) << 16;
    const made = await this.runAdmin({ opcode: 0x05, prp1: cq.address, words: [id | size, 1 | (vector === null ? 0 : 2 | (vector << 16))] });
    check(made.status === 0, () => `${this.parts.name}: completion queue ${id} failed with status 0x${made.status.toString(16)}`);
    const { status } = await this.runAdmin({ opcode: 0x01, prp1: sq.address, words: [id | size, 1 | (id << 16)] });
    check(status === 0, () => `${this.parts.name}: submission queue ${id} failed with status 0x${status.toString(16)}`);
    const queue = new NvmeQueue(id, entries, entries, sq, cq);
    this.queues.push(queue);
    return queue;
  }

  /** Blocks from the disk into memory, or from memory to the disk. A status. */
  async move(queue: NvmeQueue, write: boolean, block: number, blocks: number, buffer: { address: bigint; bytes: number }, nsid = 1): Promise<number> {
    return await this.withBuffer(PAGE * Math.max(1, Math.ceil(buffer.bytes / PAGE / 511)), async (list) => {
      const prp2 = await this.prp2(buffer.address, buffer.bytes, list);
      const words = [block, Math.floor(block / 2 ** 32), blocks - 1];
      return (await this.run(queue, { opcode: write ? 0x01 : 0x02, nsid, prp1: buffer.address, prp2, words })).status;
    });
  }

  /** PRP entry 2 of `bytes` contiguous bytes from an address on (4.3), with the list written to `list` where one is needed. */
  async prp2(address: bigint, bytes: number, list: NvmeBuffer): Promise<bigint> {
    const first = PAGE - Number(address % BigInt(PAGE));
    const second = address + BigInt(first);
    if (bytes <= first) {
      return 0n;
    }
    const pages = Math.ceil((bytes - first) / PAGE);
    if (pages === 1) {
      return second;
    }
    const entries: bigint[] = [];
    const perPage = PAGE / 8;
    for (let page = 0; page < pages; page++) {
      // The last entry of a page of the list leads to the next one, unless it is the last of all.
      if (entries.length % perPage === perPage - 1 && page < pages - 1) {
        entries.push(list.address + BigInt((entries.length + 1) * 8));
      }
      entries.push(second + BigInt(page * PAGE));
    }
    const words = new BigUint64Array(entries);
    await this.parts.port.writeMemory(list.physical, new Uint8Array(words.buffer));
    return list.address;
  }

  /** Normal shutdown (7.6.2), then the controller is disabled. */
  async stop(): Promise<void> {
    await this.setRegister(NVME.CC, ENABLE | SHUTDOWN);
    await this.parts.until(async () => (((await this.register(NVME.CSTS)) >>> 2) & 3) === 2, `the shutdown of ${this.parts.name}`);
    await this.setRegister(NVME.CC, ENABLE & ~1);
    await this.parts.until(async () => ((await this.register(NVME.CSTS)) & NVME_READY) === 0, `${this.parts.name} to be disabled`);
    await this.release();
  }

  /** Gives the queues' memory back. */
  async release(): Promise<void> {
    for (const queue of this.queues.splice(0)) {
      await queue.sq.release();
      await queue.cq.release();
    }
  }

  private async withBuffer<T>(bytes: number, body: (buffer: NvmeBuffer) => Promise<T>): Promise<T> {
    const buffer = await this.parts.allocate(bytes);
    try {
      return await body(buffer);
    } finally {
      await buffer.release();
    }
  }
}
