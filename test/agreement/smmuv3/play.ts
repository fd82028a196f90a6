/** Plays translation cases on a driver: writes the image, makes the accesses, and collects what a guest sees. */
import type { Observation } from "../agreement.js";
import type { Driver } from "../driver.js";
import { CMD_WORDS, encodeCommand, EVENT_WORDS, eventName, OP, REG } from "../../../src/smmuv3/spec/index.js";
import { Edu, testdevWrite } from "../dma-devices.js";
import { ownAddresses, runs } from "../memory-image.js";
import type { CachingCase } from "./caching.js";
import type { Access, TranslationCase } from "./image.js";
import { COMMAND_QUEUE, COMMAND_QUEUE_BITS, DATA, EVENT_QUEUE, EVENT_QUEUE_BITS, FAR_POOL, POOL, RAM, SCRATCH, SENTINEL } from "./layout.js";
import { EDU_DEVFN, type SmmuMachine, TESTDEV_DEVFN } from "./machines.js";

const ECAM = 0x40_1000_0000;
const EDU = 0x1000_0000;
const TESTDEV = 0x1010_0000;
const PCI_BAR0 = 0x10;
const PCI_COMMAND = 0x04;
const MEMORY_AND_MASTER = 6;

const CR0_QUEUES = 0xc;
const CR0_SMMUEN = 1;
const GBPA_UPDATE = 0x8000_0000;
const GBPA_RESET = 0x1000;
const GBPA_ABORT = 0x10_0000;

/** Bytes of edu's buffer that each read has for itself; writes come from behind them. */
const SLOT = 64;
const WRITE_SLOT = 15 * SLOT;
/** Bytes of the buffer that are used. QEMU before 9.0 ends at a transfer of all 4096. */
const USED = 16 * SLOT;
const SENTINEL_BYTE = 0xa5;

/** What an access has shown, on its way. */
interface Pending {
  readonly result: Promise<string>;
}

export class Player {
  private readonly edu: Edu;
  private commands = 0;
  private events = 0;

  constructor(
    readonly driver: Driver,
    readonly machine: SmmuMachine,
  ) {
    this.edu = new Edu(driver, EDU);
  }

  /** Queues, devices and data, once for a machine. */
  async prepare(): Promise<void> {
    const { driver } = this;
    const { smmu } = this.machine;
    // Firmware tables of the machine's own making are not to be found by a stray walk.
    driver.fill(RAM.base, 0x40_0000, 0);
    for (const [devfn, bar] of [[EDU_DEVFN, EDU], [TESTDEV_DEVFN, TESTDEV]]) {
      const config = ECAM + devfn * 0x1000;
      if (((await driver.read(config, 4)) & 0xffffn) !== 0xffffn) {
        driver.write(config + PCI_BAR0, 4, bar);
        driver.write(config + PCI_COMMAND, 2, MEMORY_AND_MASTER);
      }
    }
    driver.fill(SENTINEL, 4096, SENTINEL_BYTE);
    driver.write(smmu + REG.CMDQ_BASE, 8, COMMAND_QUEUE | COMMAND_QUEUE_BITS);
    driver.write(smmu + REG.EVENTQ_BASE, 8, EVENT_QUEUE | EVENT_QUEUE_BITS);
    const ring = new Int32Array(CMD_WORDS << COMMAND_QUEUE_BITS);
    for (let n = 0; n < 1 << COMMAND_QUEUE_BITS; n++) {
      ring.set(n % 2 === 0 ? encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }) : encodeCommand(OP.TLBI_NSNH_ALL), n * CMD_WORDS);
    }
    driver.store(COMMAND_QUEUE, new Uint8Array(ring.buffer));
    driver.write(smmu + REG.CR0, 4, CR0_QUEUES);
    this.restore();
  }

  /** Puts commands into the queue and lets them be done. */
  private issue(commands: readonly Int32Array[]): void {
    for (const words of commands) {
      this.driver.store(COMMAND_QUEUE + 16 * (this.commands & ((1 << COMMAND_QUEUE_BITS) - 1)), new Uint8Array(words.buffer, 0, 16));
      this.commands = (this.commands + 1) & ((2 << COMMAND_QUEUE_BITS) - 1);
      this.driver.write(this.machine.smmu + REG.CMDQ_PROD, 4, this.commands);
    }
  }

  /** One read before a change, and one after the change and the commands. */
  async playCaching({ before, after, commands }: CachingCase): Promise<readonly [string, string]> {
    const { driver } = this;
    const { smmu } = this.machine;
    for (const [address, bytes] of runs(before.words)) {
      driver.store(address, bytes);
    }
    driver.write(smmu + REG.CR0, 4, CR0_QUEUES);
    driver.write(smmu + REG.STRTAB_BASE, 8, before.registers.strtabBase);
    driver.write(smmu + REG.STRTAB_BASE_CFG, 4, before.registers.strtabBaseConfig);
    driver.write(smmu + REG.CR0, 4, CR0_QUEUES | CR0_SMMUEN);
    this.issue([encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }), encodeCommand(OP.TLBI_NSNH_ALL)]);
    const [access] = before.accesses;
    await this.access(access, 0);
    const first = driver.read(smmu + REG.EVENTQ_PROD_PAGE0, 4);
    for (const [address, word] of after.words) {
      if (before.words.get(address) !== word) {
        driver.store(address, new Uint8Array(BigUint64Array.of(word).buffer));
      }
    }
    this.issue(commands);
    await this.access(access, 1);
    driver.write(smmu + REG.CR0, 4, CR0_QUEUES);
    await this.edu.write(0, SCRATCH, 2 * SLOT);
    const [scratch, queue, middle, end] = await Promise.all([
      driver.load(SCRATCH, USED),
      driver.load(EVENT_QUEUE, (EVENT_WORDS * 4) << EVENT_QUEUE_BITS),
      first,
      driver.read(smmu + REG.EVENTQ_PROD_PAGE0, 4),
    ]);
    for (const [address, bytes] of runs(after.words)) {
      driver.fill(address, bytes.length, 0);
    }
    const show = (n: number, prod: bigint): string =>
      [Buffer.from(scratch.subarray(n * SLOT, n * SLOT + access.length)).toString("hex"), ...this.takeEvents(queue, Number(prod))].join("; ");
    const shown = [show(0, middle), show(1, end)] as const;
    driver.write(smmu + REG.EVENTQ_CONS_PAGE0, 4, this.events);
    return shown;
  }

  /** A table of one StreamID, so that every access of a device is C_BAD_STREAMID; `probe` makes one. */
  refuseStreams(): void {
    const { driver } = this;
    const { smmu } = this.machine;
    driver.write(smmu + REG.CR0, 4, 0);
    driver.write(smmu + REG.STRTAB_BASE, 8, POOL.base);
    driver.write(smmu + REG.STRTAB_BASE_CFG, 4, 0);
    driver.write(smmu + REG.CR2, 4, 2);
  }

  /** Four bytes read by edu. */
  probe(): Promise<void> {
    return this.edu.read(DATA.base, 0, 4);
  }

  /** Makes RAM what it was before the first case. */
  restore(): void {
    const { driver } = this;
    driver.fill(POOL.base, POOL.size, 0);
    driver.fill(FAR_POOL.base, FAR_POOL.size, 0);
    driver.fill(EVENT_QUEUE, 0x1000, 0);
    for (let at = DATA.base; at < DATA.base + DATA.size; at += 0x1_0000) {
      driver.store(at, ownAddresses(at, 0x1_0000));
    }
  }

  async play(one: TranslationCase): Promise<Observation> {
    const { driver } = this;
    const { smmu } = this.machine;
    const { registers } = one;
    for (const [address, bytes] of runs(one.words)) {
      driver.store(address, bytes);
    }
    driver.write(smmu + REG.CR0, 4, CR0_QUEUES);
    driver.write(smmu + REG.GBPA, 4, GBPA_UPDATE | GBPA_RESET);
    await this.edu.read(SENTINEL, 0, USED);
    driver.write(smmu + REG.STRTAB_BASE, 8, registers.strtabBase);
    driver.write(smmu + REG.STRTAB_BASE_CFG, 4, registers.strtabBaseConfig);
    driver.write(smmu + REG.CR2, 4, registers.recordInvalidStreams ? 2 : 0);
    driver.write(smmu + REG.GBPA, 4, GBPA_UPDATE | GBPA_RESET | (registers.globalAbort ? GBPA_ABORT : 0));
    driver.write(smmu + REG.CR0, 4, CR0_QUEUES | (registers.enabled ? CR0_SMMUEN : 0));
    this.commands = (this.commands + 2) & ((2 << COMMAND_QUEUE_BITS) - 1);
    driver.write(smmu + REG.CMDQ_PROD, 4, this.commands);

    const results: Pending[] = [];
    const prods: Array<Promise<bigint>> = [];
    for (const [n, access] of one.accesses.entries()) {
      results.push(await this.access(access, n));
      prods.push(driver.read(smmu + REG.EVENTQ_PROD_PAGE0, 4));
    }
    driver.write(smmu + REG.CR0, 4, CR0_QUEUES);
    driver.write(smmu + REG.GBPA, 4, GBPA_UPDATE | GBPA_RESET);
    await this.edu.write(0, SCRATCH, Math.max(1, one.accesses.length) * SLOT);
    const [scratch, queue, gerror, cons, ends, data] = await Promise.all([
      driver.load(SCRATCH, USED),
      driver.load(EVENT_QUEUE, (EVENT_WORDS * 4) << EVENT_QUEUE_BITS),
      driver.read(smmu + REG.GERROR, 4),
      driver.read(smmu + REG.CMDQ_CONS, 4),
      Promise.all(prods),
      Promise.all(results.map(({ result }) => result)),
    ]);
    for (const [address, bytes] of runs(one.words)) {
      driver.fill(address, bytes.length, 0);
    }
    const out: Observation = { gerror: gerror.toString(16), cons: (Number(cons) - this.commands).toString(16) };
    for (const [n, access] of one.accesses.entries()) {
      const result = access.write ? data[n] : Buffer.from(scratch.subarray(n * SLOT, n * SLOT + access.length)).toString("hex");
      out[`access ${n}`] = [result, ...this.takeEvents(queue, Number(ends[n]))].join("; ");
      if (access.write) {
        driver.store(access.expected & ~7, ownAddresses(access.expected & ~7, 72));
      }
    }
    driver.write(smmu + REG.EVENTQ_CONS_PAGE0, 4, this.events);
    return out;
  }

  /** Makes an access; what a read brings is in edu's buffer. */
  private async access({ device, write, iova, length, expected }: Access, n: number): Promise<Pending> {
    const { driver } = this;
    if (device === "testdev") {
      return { result: testdevWrite(driver, TESTDEV, iova, expected, length) };
    }
    if (write) {
      await this.edu.write(WRITE_SLOT, iova, length);
      return { result: driver.load(expected, length).then((bytes) => Buffer.from(bytes).toString("hex")) };
    }
    await this.edu.read(iova, n * SLOT, length);
    return { result: Promise.resolve("") };
  }

  /** The records up to `prod`; a full queue shows. */
  private takeEvents(queue: Uint8Array, prod: number): string[] {
    const mask = (2 << EVENT_QUEUE_BITS) - 1;
    const words = new Int32Array(queue.buffer, queue.byteOffset, queue.length / 4);
    const records: string[] = [];
    for (; this.events !== (prod & mask); this.events = (this.events + 1) & mask) {
      const from = (this.events & (mask >> 1)) * EVENT_WORDS;
      records.push(printEvent(words.subarray(from, from + EVENT_WORDS)));
    }
    return prod >>> 31 === 0 ? records : [...records, "overflow"];
  }
}

/** "F_TRANSLATION 00000010 000000f8 ...": the name and all eight words. */
export function printEvent(record: ArrayLike<number>): string {
  return [eventName(record[0] & 0xff), ...Array.from(record, (word) => (word >>> 0).toString(16).padStart(8, "0"))].join(" ");
}
