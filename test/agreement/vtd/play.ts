/** Plays translation cases on a driver: writes the image, makes the accesses, and collects what a guest sees. */
import type { Observation } from "../agreement.js";
import { FSTS, GCMD, REG } from "../../../src/vtd/spec/index.js";
import { Edu, testdevWrite } from "../dma-devices.js";
import type { Driver } from "../driver.js";
import { ownAddresses, runs } from "../memory-image.js";
import type { CasePlayer } from "../play-cases.js";
import type { CachingCase, Invalidation } from "./caching.js";
import type { Access, VtdCase } from "./image.js";
import { DATA, POOL, QUEUE, SCRATCH, SENTINEL, STATUS, TABLES } from "./layout.js";
import { BARS, HIGH_EDU_DEVFN, LOW_EDU_DEVFN, placeDevices, TESTDEV_DEVFN, UNIT, type VtdMachine } from "./machines.js";
import { printRecord } from "./reference.js";

/** Bytes of edu's buffer that each read has for itself; writes come from behind them. */
const SLOT = 64;
const WRITE_SLOT = 15 * SLOT;
/** Bytes of the buffer that are used. QEMU before 9.0 ends at a transfer of all 4096. */
const USED = 16 * SLOT;
const SENTINEL_BYTE = 0xa5;

/** IVA, with IOTLB behind it. */
const IVA = UNIT + 0xf0;
/** The one fault recording register. */
const FAULT_RECORD = UNIT + 0x220;
const RECORD_F = 0x8000_0000;

export const TE = GCMD.TE.inPlace >>> 0;
const QIE = GCMD.QIE.inPlace >>> 0;
const SRTP = GCMD.SRTP.inPlace >>> 0;

/** What an access has shown, on its way. */
interface Pending {
  readonly result: Promise<string>;
}

export class Player implements CasePlayer<VtdCase> {
  private readonly edus: ReadonlyMap<number, Edu>;

  constructor(
    readonly driver: Driver,
    readonly machine: VtdMachine,
  ) {
    this.edus = new Map([LOW_EDU_DEVFN, HIGH_EDU_DEVFN].map((devfn) => [devfn, new Edu(driver, BARS[devfn])]));
  }

  edu(devfn: number): Edu {
    return this.edus.get(devfn)!;
  }

  async prepare(): Promise<void> {
    const { driver } = this;
    placeDevices(driver, this.machine.arguments.some((word) => word.startsWith("iommu-testdev")));
    // Firmware tables of the machine's own making are not to be found by a stray walk.
    driver.fill(TABLES.base, TABLES.size, 0);
    driver.fill(SENTINEL, 4096, SENTINEL_BYTE);
    for (const edu of this.edus.values()) {
      await edu.read(SENTINEL, 0, USED);
    }
    this.restore();
  }

  restore(): void {
    const { driver } = this;
    driver.fill(POOL.base, POOL.size, 0);
    for (let at = DATA.base; at < DATA.base + DATA.size; at += 0x1_0000) {
      driver.store(at, ownAddresses(at, 0x1_0000));
    }
  }

  /** Sets the root table, which drops what is cached, and switches translation on. */
  enable(rootTable: bigint, on = true): void {
    const { driver } = this;
    driver.write(UNIT + REG.GCMD, 4, 0);
    driver.write(UNIT + REG.RTADDR, 8, rootTable);
    driver.write(UNIT + REG.GCMD, 4, SRTP);
    driver.write(UNIT + REG.GCMD, 4, on ? TE : 0);
  }

  async play(one: VtdCase): Promise<Observation> {
    const { driver } = this;
    for (const [address, bytes] of runs(one.words)) {
      driver.store(address, bytes);
    }
    this.enable(one.rootTable, one.enabled);
    const results: Array<Promise<string>> = [];
    const faults: Array<Promise<string>> = [];
    for (const [n, access] of one.accesses.entries()) {
      results.push((await this.access(access, n)).result);
      faults.push(this.takeFault());
    }
    driver.write(UNIT + REG.GCMD, 4, 0);
    const buffers = new Map<number, Promise<Uint8Array>>();
    for (const devfn of new Set(one.accesses.filter(({ write }) => !write).map((access) => access.devfn))) {
      await this.edu(devfn).write(0, SCRATCH, one.accesses.length * SLOT);
      buffers.set(devfn, driver.load(SCRATCH, USED));
    }
    const watched = one.watched.map((address) => driver.read(address, 8));
    const out: Observation = {};
    for (const [n, access] of one.accesses.entries()) {
      const { devfn, write, length, expected } = access;
      const result = write ? await results[n] : Buffer.from((await buffers.get(devfn)!).subarray(n * SLOT, n * SLOT + length)).toString("hex");
      const fault = await faults[n];
      out[`access ${n}`] = fault === "" ? result : `${result}; ${fault}`;
      if (write) {
        driver.store(expected & ~7, ownAddresses(expected & ~7, 72));
      }
    }
    out.entries = (await Promise.all(watched)).map((value) => value.toString(16)).join(" ");
    for (const [address, bytes] of runs(one.words)) {
      driver.fill(address, bytes.length, 0);
    }
    return out;
  }

  /** One read before a change, and one after the change and the invalidations. */
  async playCaching({ before, after, scalable, byRegisters, invalidations }: CachingCase): Promise<readonly [string, string]> {
    const { driver } = this;
    for (const [address, bytes] of runs(before.words)) {
      driver.store(address, bytes);
    }
    this.enable(before.rootTable);
    if (!byRegisters) {
      driver.write(UNIT + REG.IQT, 8, 0);
      driver.write(UNIT + REG.IQA, 8, QUEUE | (scalable ? 0x800 : 0));
      driver.write(UNIT + REG.GCMD, 4, (TE | QIE) >>> 0);
    }
    const [access] = before.accesses;
    await this.access(access, 0);
    const first = this.takeFault();
    for (const [address, word] of after.words) {
      if (before.words.get(address) !== word) {
        driver.store(address, new Uint8Array(BigUint64Array.of(word).buffer));
      }
    }
    if (byRegisters) {
      this.invalidateByRegisters(invalidations);
    } else {
      this.invalidateByQueue(invalidations, scalable);
    }
    await this.access(access, 1);
    const second = this.takeFault();
    driver.write(UNIT + REG.GCMD, 4, 0);
    await this.edu(access.devfn).write(0, SCRATCH, 2 * SLOT);
    const [scratch, faults, status] = await Promise.all([driver.load(SCRATCH, USED), Promise.all([first, second]), driver.read(UNIT + REG.GSTS, 4)]);
    if ((status & BigInt(QIE)) !== 0n) {
      throw new Error(`${driver.name}: the queue stays on`);
    }
    for (const [address, bytes] of runs(after.words)) {
      driver.fill(address, bytes.length, 0);
    }
    const show = (n: 0 | 1): string => [Buffer.from(scratch.subarray(n * SLOT, n * SLOT + access.length)).toString("hex"), faults[n]].filter((text) => text !== "").join("; ");
    return [show(0), show(1)];
  }

  private invalidateByQueue(invalidations: readonly Invalidation[], wide: boolean): void {
    const wait = [0x25n | (1n << 32n), BigInt(STATUS)] as const;
    const words = [...invalidations.flatMap(({ descriptor }) => (descriptor === null ? [] : [descriptor])), wait].flatMap((one) => (wide ? [...one, 0n, 0n] : [...one]));
    this.driver.store(QUEUE, new Uint8Array(BigUint64Array.from(words).buffer));
    this.driver.write(UNIT + REG.IQT, 8, 8 * words.length);
  }

  private invalidateByRegisters(invalidations: readonly Invalidation[]): void {
    for (const { registers } of invalidations) {
      if (registers !== null && "ccmd" in registers) {
        this.driver.write(UNIT + REG.CCMD, 8, registers.ccmd);
      } else if (registers !== null) {
        this.driver.write(IVA, 8, registers.iva);
        this.driver.write(IVA + 8, 8, registers.iotlb);
      }
    }
  }

  /** What was recorded, made room for the next: "" where nothing was. */
  takeFault(): Promise<string> {
    const { driver } = this;
    const record = [driver.read(FAULT_RECORD + 8, 8), driver.read(FAULT_RECORD, 8), driver.read(UNIT + REG.FSTS, 4)];
    driver.write(FAULT_RECORD + 12, 4, RECORD_F);
    driver.write(UNIT + REG.FSTS, 4, FSTS.PFO.inPlace);
    return Promise.all(record).then(([high, low, status]) => {
      const text = high >> 63n === 0n ? [] : [printRecord(high, low)];
      const flags = Number(status) & ~(high >> 63n === 0n ? 0 : FSTS.PPF.inPlace);
      return [...text, ...(flags === 0 ? [] : [`FSTS ${status.toString(16)}`])].join("; ");
    });
  }

  /** Makes an access; what a read brings is in edu's buffer. */
  async access({ device, devfn, write, iova, length, expected }: Access, n: number): Promise<Pending> {
    const { driver } = this;
    if (device === "testdev") {
      return { result: testdevWrite(driver, BARS[TESTDEV_DEVFN], iova, expected, length) };
    }
    if (write) {
      await this.edu(devfn).write(WRITE_SLOT, iova, length);
      return { result: driver.load(expected, length).then((bytes) => Buffer.from(bytes).toString("hex")) };
    }
    await this.edu(devfn).read(iova, n * SLOT, length);
    return { result: Promise.resolve("") };
  }
}
