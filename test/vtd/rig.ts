import { AddressSpace, MemoryRegion, RamBlock, RamWordMemory } from "../../src/memory/index.js";
import { Log } from "../../src/support/index.js";
import { VtdDevice, type VtdProperties } from "../../src/vtd/index.js";

/** Register offsets by number, as the specification's register table (Intel VT-d, 11.4) has them. */
export const R = {
  CAP: 0x08,
  ECAP: 0x10,
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  FEADDR: 0x40,
  FEUADDR: 0x44,
  IQH: 0x80,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IECTL: 0xa0,
  IEDATA: 0xa4,
  IEADDR: 0xa8,
  IQERCD: 0xb0,
  IRTA: 0xb8,
  IVA: 0xf0,
  IOTLB: 0xf8,
  FRCD: 0x220,
} as const;

/** Commands in GCMD, and what GSTS shows of them. */
export const TE = 0x8000_0000;
export const SRTP = 0x4000_0000;
export const WBF = 0x0800_0000;
export const QIE = 0x0400_0000;
export const IRE = 0x0200_0000;
export const SIRTP = 0x0100_0000;
export const CFI = 0x0080_0000;

export const QUEUE = 0x1_0000;
export const STATUS = 0x2_0000;

/** A unit with memory from address 0 on, its messages recorded, and short ways to poke it. */
export class Rig {
  /** Work that is to go on when the event loop is free. */
  readonly later: Array<() => void> = [];
  readonly ram: RamBlock;
  readonly words = new RamWordMemory();
  readonly space: AddressSpace;
  readonly log = new Log();
  readonly messages: Array<{ address: bigint; data: number }> = [];
  onMessage: () => void = () => {};
  readonly vtd: VtdDevice;
  /** Queue position, in descriptors, of the next one. */
  tail = 0;

  constructor(properties: Partial<VtdProperties> = {}, megabytes = 16) {
    this.ram = new RamBlock("ram", megabytes * 0x10_0000, 0x1000_0000);
    this.words.place(0, this.ram);
    const root = MemoryRegion.container("system", 2 ** 48);
    root.add(0, MemoryRegion.ram("ram", this.ram));
    this.space = new AddressSpace("memory", root);
    this.vtd = new VtdDevice({
      id: "iommu0",
      properties,
      memory: this.space,
      words: this.words,
      sendMessage: (address, data) => {
        this.messages.push({ address, data });
        this.onMessage();
      },
      log: this.log,
      scheduler: (work) => void this.later.push(work),
    });
    root.add(0xfed9_0000, MemoryRegion.mmio("intel_iommu", VtdDevice.regionBytes, this.vtd));
  }

  read(offset: number): number {
    return Number(this.vtd.read(offset, 4));
  }

  read64(offset: number): bigint {
    return this.vtd.read(offset, 8);
  }

  write(offset: number, value: number | bigint): void {
    this.vtd.write(offset, 4, BigInt.asUintN(32, BigInt(value)));
  }

  write64(offset: number, value: number | bigint): void {
    this.vtd.write(offset, 8, BigInt.asUintN(64, BigInt(value)));
  }

  /** Gives a global command beside what is on already. */
  command(bits: number): void {
    this.write(R.GCMD, (this.read(R.GSTS) & 0x9680_0000) | bits);
  }

  /** Stores 64-bit words at a guest-physical address. */
  store(address: number, ...values: bigint[]): void {
    values.forEach((value, i) => {
      const at = address + 8 * i;
      this.words.store64(Math.floor(at / 2 ** 32), at | 0, Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)));
    });
  }

  load32(address: number): number {
    const bytes = new Uint8Array(4);
    this.ram.read(address, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  /** Queued invalidation with a page of descriptors, of 256 bits where `wide`. */
  startQueue(wide = false): void {
    this.write64(R.IQA, BigInt(QUEUE) | (wide ? 0x800n : 0n));
    this.wide = wide;
    this.command(QIE);
  }

  wide = false;

  /** Puts a descriptor (64-bit words) at the tail without telling the unit. */
  put(...words: bigint[]): void {
    const bytes = this.wide ? 32 : 16;
    const count = 4096 / bytes;
    this.store(QUEUE + this.tail * bytes, ...words, ...Array<bigint>(bytes / 8 - words.length).fill(0n));
    this.tail = (this.tail + 1) % count;
  }

  /** Tells the unit of the tail. */
  kick(): void {
    this.write64(R.IQT, this.tail * (this.wide ? 32 : 16));
  }

  /** One descriptor, done at once. */
  run(...words: bigint[]): void {
    this.put(...words);
    this.kick();
  }
}
