/**
 * A small host with hand-built tables: a function behind an SMMU that nests, guest RAM at IPA 0x40000000.
 * The images of structures are composed of literal bits (names and positions from Linux's
 * arm-smmu-v3.h and pgtable-hwdef.h), not by the builders of the project.
 */
import type { RamBlock } from "../../../src/memory/index.js";
import {
  CONTROL_START,
  describeHost,
  ENGINE,
  type HardwareFunction,
  type HardwareSmmu,
  type HostDescriptionInput,
  SimulatedHardware,
} from "../../../src/host/simulated/index.js";

export const GUEST_BASE = 0x4000_0000;
export const GUEST_BYTES = 0x200_0000;
export const DOORBELL = 0x0809_0040;
export const MSI_WINDOW = 0x0800_0000;

/** Leaf descriptors: valid page, access flag, inner shareable; stage 1 readable and writable by EL0, not global. */
export const PAGE_RW = 0xf43n | (1n << 54n);
export const PAGE_RO = PAGE_RW | 0x80n;
export const PAGE_GLOBAL_RW = PAGE_RW & ~0x800n;
/** Stage 2: S2AP read and write, normal write-back memory. */
export const S2_PAGE_RW = 0x7ffn;
export const S2_PAGE_RO = 0x77fn;
export const TABLE = 0x3n;

export function hostInput(overrides: Partial<HostDescriptionInput> = {}): HostDescriptionInput {
  const fn = {
    name: "test function",
    vendor: "0x1234",
    device: "0x5678",
    class: "0x020000",
    smmu: "smmu3.0x0000000009050000",
    ats: true,
    pasidBits: 8,
    bars: [{ index: 0, size: "64K" }],
    msixVectors: 4,
  };
  return {
    name: "test",
    memory: [{ numaNode: 0, base: "0x80000000", size: "256M" }],
    msiDoorbell: DOORBELL,
    smmus: [
      {
        name: "smmu3.0x0000000009050000",
        base: "0x09050000",
        // ATS, CD2L and 16 bits each of ASID and VMID; SIDSIZE 16, SSIDSIZE 8; XNX, HAD, RIL.
        idr0: "0x0d4c741b",
        idr1: "0x02730210",
        idr3: "0x1414",
        idr5: "0x74",
      },
    ],
    functions: [
      { ...fn, address: "0000:01:00.0" },
      { ...fn, address: "0000:02:00.0" },
    ],
    ...overrides,
  };
}

export interface DmaResult {
  status: number;
  fault: bigint;
  bytes: number;
}

export interface DmaRequest {
  source?: bigint;
  target?: bigint;
  length: number;
  operation: 0 | 1 | 2 | 3;
  pasid?: number;
  /** CONTROL bits besides start, operation and PASID. */
  control?: number;
  pattern?: number;
}

export class Rig {
  readonly hardware: SimulatedHardware;
  readonly smmu: HardwareSmmu;
  readonly ram: RamBlock;
  readonly events: Int32Array[] = [];
  readonly messages: Array<{ fn: HardwareFunction; address: number; data: number }> = [];
  private nextGuestTable = GUEST_BASE + 0x10_0000;

  constructor(input: HostDescriptionInput = hostInput()) {
    this.hardware = SimulatedHardware.fromDescription(describeHost(input));
    this.smmu = [...this.hardware.smmus.values()][0];
    this.smmu.onEvent((record) => this.events.push(record.slice()));
    this.hardware.onMsi((fn, address, data) => this.messages.push({ fn, address, data }));
    this.ram = this.hardware.memory.allocate("guest", GUEST_BYTES);
    for (const fn of this.hardware.functions.values()) {
      fn.configWrite(0x04, 2, 0x0006);
      fn.enablePasid(true);
    }
  }

  fn(index = 0): HardwareFunction {
    return [...this.hardware.functions.values()][index];
  }

  hpa(ipa: number): number {
    return this.ram.hostAddress + ipa - GUEST_BASE;
  }

  write64(hpa: number, value: bigint): void {
    const word = (part: bigint): number => Number(BigInt.asIntN(32, part));
    if (this.hardware.memory.words.store64(Math.floor(hpa / 0x1_0000_0000), hpa | 0, word(value >> 32n), word(value)) !== 0) {
      throw new Error(`nothing at 0x${hpa.toString(16)}`);
    }
  }

  read64(hpa: number): bigint {
    const { words } = this.hardware.memory;
    if (words.load64(Math.floor(hpa / 0x1_0000_0000), hpa | 0) !== 0) {
      throw new Error(`nothing at 0x${hpa.toString(16)}`);
    }
    return (BigInt(words.loadedHigh >>> 0) << 32n) | BigInt(words.loadedLow >>> 0);
  }

  guestBytes(ipa: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.ram.read(ipa - GUEST_BASE, out);
    return out;
  }

  /** A stage 2 of 4K pages, 40 bits from level 1 (two concatenated tables): the guest's RAM and the doorbell's page. */
  stage2(): Stage2 {
    const root = this.hardware.memory.allocatePage(13);
    const stage2 = new Stage2(this, root);
    for (let ipa = GUEST_BASE; ipa < GUEST_BASE + GUEST_BYTES; ipa += 4096) {
      stage2.map(ipa, this.hpa(ipa), S2_PAGE_RW);
    }
    stage2.map(MSI_WINDOW, DOORBELL & ~0xfff, S2_PAGE_RW);
    return stage2;
  }

  /** A page of guest RAM for tables. */
  guestTable(bytes = 4096): number {
    const ipa = this.nextGuestTable;
    this.nextGuestTable += bytes;
    return ipa;
  }

  /** Stage 1 tables in guest RAM: 4K pages, 39 bits, from level 1. */
  stage1(): Stage1 {
    return new Stage1(this, this.guestTable());
  }

  /** A CD image at an IPA: T0SZ 25, 4K, EPD1, IPS 44 bits, AA64, R and A, ASET. */
  writeCd(ipa: number, root: number, asid: number): void {
    const hpa = this.hpa(ipa);
    this.write64(hpa, 25n | (1n << 30n) | (1n << 31n) | (4n << 32n) | (1n << 41n) | (7n << 45n) | (BigInt(asid) << 48n));
    this.write64(hpa + 8, BigInt(root));
    this.write64(hpa + 16, 0n);
    this.write64(hpa + 24, 0xffn);
  }

  /**
   * The image of a nested STE (Config 7): S2T0SZ 24, S2SL0 1, 4K, S2PS 44 bits, S2AA64, S2R.
   * `cdMax` log2 of the CDs, `eats` as in the STE, `s1dss`.
   */
  nestedSte(cdIpa: number, vmid: number, stage2: Stage2, options: { cdMax?: number; eats?: number; s1dss?: number } = {}): Int32Array {
    return ste(
      0xfn | BigInt(cdIpa) | (BigInt(options.cdMax ?? 0) << 59n),
      BigInt(options.s1dss ?? 0) | (BigInt(options.eats ?? 0) << 28n) | (1n << 44n),
      BigInt(vmid) | (24n << 32n) | (1n << 38n) | (4n << 48n) | (1n << 51n) | (1n << 58n),
      BigInt(stage2.root),
    );
  }

  install(fn: HardwareFunction, words: Int32Array): void {
    fn.smmu!.writeSte(fn.sourceId, words);
    this.command(0x03n | (BigInt(fn.sourceId) << 32n), 1n);
  }

  /** A command given as its two 64-bit words; returns the CERROR code. */
  command(low: bigint, high = 0n, smmu = this.smmu): number {
    const word = (value: bigint): number => Number(BigInt.asIntN(32, value));
    return smmu.command(word(low), word(low >> 32n), word(high), word(high >> 32n));
  }

  /** Everything cached goes; the tests begin from there. */
  flush(): void {
    this.command(0x04n, 31n);
    this.command(0x30n);
  }

  dma(fn: HardwareFunction, request: DmaRequest): DmaResult {
    const set = (offset: number, value: number): void => fn.regionWrite(0, offset, new Uint8Array(Int32Array.of(value).buffer));
    const get = (offset: number): number => register(fn, offset);
    const words = (value: bigint): [number, number] => [Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))];
    const [sourceLow, sourceHigh] = words(request.source ?? 0n);
    const [targetLow, targetHigh] = words(request.target ?? 0n);
    set(ENGINE.SRC_LOW, sourceLow);
    set(ENGINE.SRC_HIGH, sourceHigh);
    set(ENGINE.DST_LOW, targetLow);
    set(ENGINE.DST_HIGH, targetHigh);
    set(ENGINE.LENGTH, request.length);
    set(ENGINE.PASID, request.pasid ?? 0);
    set(ENGINE.PATTERN, request.pattern ?? 0);
    set(ENGINE.CONTROL, CONTROL_START | (request.operation << 1) | (request.pasid === undefined ? 0 : 8) | (request.control ?? 0));
    return {
      status: get(ENGINE.STATUS),
      fault: (BigInt(get(ENGINE.FAULT_HIGH) >>> 0) << 32n) | BigInt(get(ENGINE.FAULT_LOW) >>> 0),
      bytes: get(ENGINE.BYTES),
    };
  }
}

/** A 32-bit register of BAR 0. */
export function register(fn: HardwareFunction, offset: number): number {
  const bytes = new Uint8Array(4);
  fn.regionRead(0, offset, bytes);
  return new Int32Array(bytes.buffer)[0];
}

export function setRegister(fn: HardwareFunction, offset: number, value: number): void {
  fn.regionWrite(0, offset, new Uint8Array(Int32Array.of(value).buffer));
}

/** Sixteen words from an STE's first four 64-bit ones. */
export function ste(...dwords: bigint[]): Int32Array {
  const out = new BigUint64Array(8);
  dwords.forEach((value, i) => (out[i] = BigInt.asUintN(64, value)));
  return new Int32Array(out.buffer);
}

export class Stage2 {
  constructor(
    private readonly rig: Rig,
    /** HPA. */
    readonly root: number,
  ) {}

  /** Maps a page, or takes it away with descriptor bits 0. */
  map(ipa: number, hpa: number, bits: bigint): void {
    this.rig.write64(this.slot(ipa), bits === 0n ? 0n : BigInt(hpa) | bits);
  }

  /** The descriptor of a page. */
  entry(ipa: number): bigint {
    return this.rig.read64(this.slot(ipa));
  }

  private slot(ipa: number): number {
    let table = this.root;
    for (const shift of [30, 21]) {
      const at = table + (Math.floor(ipa / 2 ** shift) % (shift === 30 ? 1024 : 512)) * 8;
      if (this.rig.read64(at) === 0n) {
        this.rig.write64(at, BigInt(this.rig.hardware.memory.allocatePage(12)) | TABLE);
      }
      table = Number(this.rig.read64(at) & ~0xfffn);
    }
    return table + (Math.floor(ipa / 4096) % 512) * 8;
  }
}

export class Stage1 {
  constructor(
    private readonly rig: Rig,
    /** IPA. */
    readonly root: number,
  ) {}

  /** Maps a page to an IPA, or takes it away with descriptor bits 0. */
  map(iova: number, ipa: number, bits: bigint): void {
    this.rig.write64(this.rig.hpa(this.slot(iova)), bits === 0n ? 0n : BigInt(ipa) | bits);
  }

  /** A 2 MiB block. */
  mapBlock(iova: number, ipa: number, bits: bigint): void {
    const table = this.next(this.root, Math.floor(iova / 2 ** 30) % 512);
    this.rig.write64(this.rig.hpa(table + (Math.floor(iova / 2 ** 21) % 512) * 8), BigInt(ipa) | (bits & ~2n));
  }

  /** IPA of a page's level 3 descriptor. */
  slot(iova: number): number {
    const table = this.next(this.next(this.root, Math.floor(iova / 2 ** 30) % 512), Math.floor(iova / 2 ** 21) % 512);
    return table + (Math.floor(iova / 4096) % 512) * 8;
  }

  private next(table: number, index: number): number {
    const at = this.rig.hpa(table + index * 8);
    if (this.rig.read64(at) === 0n) {
      this.rig.write64(at, BigInt(this.rig.guestTable()) | TABLE);
    }
    return Number(this.rig.read64(at) & ~0xfffn);
  }
}

/** A rig whose first function is nested: CD 0 with ASID 5, VMID 1, IOVA 0x10000000 (16 pages) to IPA 0x40800000. */
export function nestedRig(options: { eats?: number; input?: HostDescriptionInput } = {}): {
  rig: Rig;
  fn: HardwareFunction;
  stage1: Stage1;
  stage2: Stage2;
  cd: number;
} {
  const rig = new Rig(options.input);
  const fn = rig.fn();
  const stage2 = rig.stage2();
  const stage1 = rig.stage1();
  const cd = rig.guestTable();
  for (let page = 0; page < 16; page++) {
    stage1.map(0x1000_0000 + page * 4096, 0x4080_0000 + page * 4096, PAGE_RW);
  }
  rig.writeCd(cd, stage1.root, 5);
  rig.install(fn, rig.nestedSte(cd, 1, stage2, { eats: options.eats }));
  return { rig, fn, stage1, stage2, cd };
}
