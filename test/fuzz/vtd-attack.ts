/** What a random guest does to an intel-iommu: registers, invalidation queue, root, context, PASID and interrupt tables. */
import type { Attack, Tools } from "./attack.js";
import { passedThrough, ramWord } from "./intent.js";
import { contextAddress, pasidEntryAddress, unitOf } from "./vtd-intent.js";

const REG = { GCMD: 0x18, GSTS: 0x1c, RTADDR: 0x20, FSTS: 0x34, IQH: 0x80, IQT: 0x88, IQA: 0x90, ICS: 0x9c, IQERCD: 0xb0, IRTA: 0xb8, FRCD: 0x220 };
const REGISTERS = [
  0x00, 0x08, 0x10, 0x18, 0x18, 0x18, 0x1c, 0x20, 0x20, 0x24, 0x28, 0x2c, 0x34, 0x34, 0x38, 0x3c, 0x40, 0x44, 0x58, 0x64, 0x68, 0x80, 0x88, 0x88, 0x8c, 0x90, 0x94, 0x9c, 0xa0,
  0xa4, 0xa8, 0xac, 0xb0, 0xb8, 0xbc, 0xc0, 0xc8, 0xd0, 0xdc, 0xe0, 0xe4, 0xf0, 0xf4, 0xf8, 0xfc, 0x100, 0x220, 0x224, 0x228, 0x22c, 0x230, 0xff8, 0xffc,
];
/** Programmed before anything is on: RTADDR, fault and completion events, the queue, interrupts, page requests. */
const PROGRAMMED: ReadonlyArray<readonly [number, number]> = [
  [0x20, 8], [0x38, 4], [0x3c, 4], [0x40, 4], [0x44, 4], [0x90, 8], [0xa0, 4], [0xa4, 4], [0xa8, 4], [0xac, 4], [0xb8, 8],
];
const QIE = 1n << 26n;
const SRTP = 1n << 30n;
const SIRTP = 1n << 24n;
const ENABLES = [QIE, 1n << 31n, 1n << 25n, 1n << 23n];
const TYPES = [1, 1, 2, 2, 3, 4, 5, 5, 6, 6, 6, 7, 7, 7, 8, 9, 0, 0xb];
const ADDRESS = 0x000f_ffff_ffff_f000n;

type Descriptor = readonly [bigint, bigint];

export class VtdAttack implements Attack {
  private programmed: Array<readonly [number, number, bigint]> = [];
  private status = 0n;
  private settled = 0n;

  constructor(private readonly tools: Tools) {}

  private get unit() {
    return unitOf(this.tools.world.machine);
  }

  private get base(): number {
    return this.unit.base;
  }

  private read(offset: number, size: number): bigint {
    return this.tools.read(this.base + offset, size);
  }

  private write(offset: number, size: number, value: bigint): void {
    this.tools.write(this.base + offset, size, value);
  }

  private store(address: number, ...words: bigint[]): void {
    words.forEach((word, n) => {
      if (this.tools.isRam(address + 8 * n)) {
        this.tools.write(address + 8 * n, 8, word);
      }
    });
  }

  remember(): void {
    this.programmed = PROGRAMMED.map(([offset, size]) => [offset, size, this.read(offset, size)]);
    this.status = this.read(REG.GSTS, 4);
  }

  restoreRegisters(): void {
    this.write(REG.GCMD, 4, 0n);
    for (const [offset, size, value] of this.programmed) {
      this.write(offset, size, value);
    }
    this.acknowledge();
    this.write(REG.IQT, 8, 0n);
    this.command(SRTP);
    this.command(SIRTP);
    for (const enable of ENABLES) {
      if ((this.status & enable) !== 0n) {
        this.command(enable);
      }
    }
  }

  private command(bits: bigint): void {
    this.write(REG.GCMD, 4, (this.read(REG.GSTS, 4) & 0x9680_0000n) | bits);
  }

  settle(): void {
    const quiet = (): boolean => this.read(REG.IQH, 8) === this.read(REG.IQT, 8) && (this.read(REG.FSTS, 4) & 0x70n) === 0n && (this.read(REG.GSTS, 4) & QIE) !== 0n;
    const empty = quiet();
    const scalable = this.unit.device.tableMode === 1;
    // At the end of RAM, where nothing of the honest guest's is. Its write tells that these descriptors were done.
    const { base, size } = this.tools.world.machine.board.ram.at(-1)!;
    const status = base + size - 16;
    this.store(status, 0n);
    this.send([0x11n, 0n], ...(scalable ? ([[0x37n, 0n]] as const) : []), [0x12n | 0xc0n, 0n], [0x25n | (++this.settled << 32n), BigInt(status)]);
    const done = this.words(BigInt(status)) === this.settled;
    if (empty && done && quiet() && this.tools.world.spec.failing !== true) {
      this.tools.world.checkEntries(this.unit);
    }
  }

  invalidate(): void {
    const { random } = this.tools;
    this.restoreRegisters();
    for (let n = 0; n < 12; n++) {
      const [low, high] = this.descriptor();
      this.send([(low & ~0xfn) | BigInt(random.pick([1, 2, 3, 6, 7, 8])), high]);
      if ((this.read(REG.FSTS, 4) & 0x70n) !== 0n) {
        // An illegal one is still there: the queue starts anew.
        this.restoreRegisters();
      }
    }
    this.settle();
  }

  writeRegister(): void {
    const { random, size } = this.tools;
    const offset = random.pick(REGISTERS);
    let value = this.tools.value();
    if (random.oneIn(2)) {
      value = this.read(offset & ~3, 4) ^ (1n << BigInt(random.below(32)));
    } else if (offset === REG.GCMD) {
      value = random.oneIn(4) ? BigInt(random.word()) : (this.read(REG.GSTS, 4) & 0x9680_0000n) ^ random.pick([...ENABLES, SRTP, SIRTP, 1n << 27n, SRTP]);
    } else if (offset === REG.RTADDR) {
      value = BigInt(this.tools.page()) | (BigInt(random.below(4)) << 10n);
    } else if (offset === REG.IQA) {
      value = BigInt(this.tools.page()) | (BigInt(random.below(2)) << 11n) | BigInt(random.below(8));
    } else if (offset === 0x28 || offset === 0x2c || offset === 0xf8 || offset === 0xfc) {
      value = (1n << 63n) | (BigInt(random.below(4)) << 61n) | (BigInt(random.below(4)) << 60n) | BigInt(random.below(0x1_0000));
    }
    this.write(offset + (random.oneIn(12) ? random.below(8) : 0), offset % 8 === 0 && random.oneIn(2) ? 8 : size, value);
  }

  private descriptor(): Descriptor {
    const { random, sourceIds } = this.tools;
    const type = random.pick(TYPES);
    const granularity = BigInt(random.below(4)) << 4n;
    const domain = BigInt(random.pick([0, 1, 2, 3, 8, 9, 10, 11, random.below(0x1_0000)])) << 16n;
    const sid = BigInt(random.pick(sourceIds));
    const pasid = BigInt(random.pick([0, 0, 1, 1, 2, random.below(256), random.below(2 ** 20)]));
    let low = BigInt(type) | granularity | domain | (type === 1 || type === 3 || type === 8 ? sid : pasid) << 32n;
    let high = random.oneIn(2) ? this.tools.value() : BigInt(random.below(64)) << 12n;
    if (type === 6 || type === 2) {
      high = (high & ~0xfffn) | BigInt(random.below(random.oneIn(4) ? 64 : 4)) | (BigInt(random.below(2)) << 6n);
    }
    if (type === 5) {
      low = 5n | (BigInt(random.below(8)) << 4n) | (BigInt(random.word()) << 32n);
      high = BigInt(random.oneIn(3) ? this.tools.ramAddress() : this.tools.page());
    }
    switch (random.below(10)) {
      case 0:
        low ^= 1n << BigInt(random.below(64));
        break;
      case 1:
        high ^= 1n << BigInt(random.below(64));
        break;
      case 2:
        low = random.wide();
        break;
    }
    return [BigInt.asUintN(64, low), BigInt.asUintN(64, high)];
  }

  pushCommands(): void {
    const { random } = this.tools;
    const count = 1 + random.below(random.oneIn(20) ? 60 : 6);
    const descriptors = Array.from({ length: count }, () => this.descriptor());
    this.send(...descriptors, [0x25n | (7n << 32n), BigInt(this.tools.page() + 0xff0)]);
    if (random.oneIn(30)) {
      this.write(random.pick([REG.IQH, REG.IQT, REG.IQT]), 8, this.tools.value());
    }
  }

  /** Puts descriptors where the registers say that they go. */
  private send(...descriptors: Descriptor[]): void {
    const iqa = this.read(REG.IQA, 8);
    const bytes = (iqa & (1n << 11n)) === 0n ? 16 : 32;
    const size = 4096 * 2 ** Number(iqa & 7n);
    let tail = Number(this.read(REG.IQT, 8)) % size;
    tail -= tail % bytes;
    for (const [low, high] of descriptors) {
      this.store(Number(iqa & ADDRESS) + tail, low, high, ...(bytes === 32 ? [0n, 0n] : []));
      tail = (tail + bytes) % size;
    }
    this.write(REG.IQT, 8, BigInt(tail));
  }

  private get words() {
    return (address: bigint): bigint | null => ramWord(this.tools.world.machine, address);
  }

  /** An entry on the way of one of the functions, and mostly the descriptor that makes it count. */
  writeEntry(): void {
    const { random, tools } = { random: this.tools.random, tools: this.tools };
    const sid = this.victim();
    const { device } = this.unit;
    const root = device.rootTableAddress;
    const scalable = device.tableMode === 1;
    if (random.oneIn(8)) {
      const at = random.oneIn(3) ? device.interruptTableAddress + 16 * random.below(Math.min(256, device.interruptTableEntries)) : root + 16 * (sid >> 8) + 8 * random.below(2);
      const old = this.words(BigInt(at)) ?? 0n;
      this.store(at, random.oneIn(2) ? old ^ (1n << BigInt(random.below(64))) : random.pick([0n, BigInt(tools.page()) | 1n, random.wide()]));
      this.invalidateEntry(sid, 0);
      return;
    }
    const context = contextAddress(this.words, BigInt(root), scalable, sid);
    if (context === null) {
      tools.restorePages();
      return;
    }
    const first = this.words(context) ?? 0n;
    const pasid = random.pick([0, 0, 0, 1, 1, 2, random.below(300)]);
    const entry = scalable && !random.oneIn(4) ? pasidEntryAddress(this.words, first, pasid) : null;
    if (entry === null) {
      this.writeContext(Number(context), scalable);
    } else {
      this.writePasidEntry(Number(entry));
    }
    if (!random.oneIn(4)) {
      if (random.oneIn(3)) {
        this.acknowledge();
        this.settle();
      } else {
        this.invalidateEntry(sid, pasid);
      }
    }
  }

  /** Mostly a function of the host's, where there are several: else none would be left in order. */
  private victim(): number {
    const { random, sourceIds, world } = this.tools;
    const functions = passedThrough(world.machine);
    return functions.length < 3 || random.oneIn(3) ? random.pick(sourceIds) : random.pick(functions).fn.requesterId;
  }

  private writeContext(at: number, scalable: boolean): void {
    const { random } = this.tools;
    const old = this.words(BigInt(at)) ?? 0n;
    const page = BigInt(this.tools.page());
    switch (random.below(5)) {
      case 0:
        this.store(at, 0n);
        break;
      case 1:
        this.store(at, scalable ? page | 9n | (BigInt(random.below(8)) << 9n) : page | 1n | (BigInt(random.below(4)) << 2n));
        break;
      case 2:
        this.store(at, random.wide(), random.wide(), ...(scalable ? [0n, 0n] : []));
        break;
      case 3:
        this.store(at, old ^ (1n << BigInt(random.below(64))));
        break;
      default:
        this.store(at + 8, scalable ? BigInt(random.below(4)) : (BigInt(random.below(0x1_0000)) << 8n) | BigInt(random.below(8)));
    }
  }

  private writePasidEntry(at: number): void {
    const { random } = this.tools;
    const page = BigInt(this.tools.page());
    const domain = BigInt(random.below(16));
    const word = at + 8 * random.below(random.oneIn(3) ? 8 : 3);
    switch (random.below(8)) {
      case 0:
        this.store(at, 0n);
        break;
      case 1:
      case 2:
        this.store(at, 1n | (1n << 6n), domain, page | (BigInt(random.below(8)) << 2n), 0n, 0n, 0n, 0n, 0n);
        break;
      case 3:
        this.store(at, 1n | (4n << 6n), domain, 0n, 0n, 0n, 0n, 0n, 0n);
        break;
      case 4:
        this.store(at, 1n | (BigInt(random.pick([2, 3, 5])) << 6n) | page | (BigInt(random.below(8)) << 2n), domain, page);
        break;
      case 5:
        this.store(at + 16, page | BigInt(random.below(4)));
        break;
      default:
        this.store(word, (this.words(BigInt(word)) ?? 0n) ^ (1n << BigInt(random.below(64))));
    }
  }

  private invalidateEntry(sid: number, pasid: number): void {
    const { random } = this.tools;
    const domain = BigInt(random.pick([0, 1, 2, 8, 9])) << 16n;
    const what: Descriptor[] = [
      [0x31n | domain | (BigInt(sid) << 32n), 0n],
      [0x17n | domain | (BigInt(pasid) << 32n), 0n],
      [0x07n | domain, 0n],
      [0x37n, 0n],
      [0x11n, 0n],
      [0x26n | domain | (BigInt(pasid) << 32n), 0n],
      [0x14n, 0n],
    ];
    this.send(random.pick(what), random.pick(what));
  }

  invalidateSome(): void {
    this.invalidateEntry(this.tools.random.pick(this.tools.sourceIds), this.tools.random.below(2));
  }

  /** Errors and records are written back; the queue goes on. */
  acknowledge(): void {
    this.write(REG.FRCD + 12, 4, 1n << 31n);
    this.write(REG.FSTS, 4, 0xfdn);
    this.write(REG.ICS, 4, 1n);
  }

  writeDoorbell(): void {
    const { random, tools } = { random: this.tools.random, tools: this.tools };
    tools.write(this.chipset(), random.oneIn(3) ? tools.size : 4, tools.value());
  }

  register(): number {
    return this.base + this.tools.random.pick(REGISTERS);
  }

  commandRegister(): number {
    return this.base + this.tools.random.pick([0x18, 0x20, 0x88, 0x88, 0x34]);
  }

  /** I/O APIC, and the interrupt range. */
  chipset(): number {
    const { random } = this.tools;
    return random.oneIn(2) ? 0xfec0_0000 + random.pick([0, 0x10, 0x20, 0x40, random.below(0x100)]) : 0xfee0_0000 + random.below(0x10_0000);
  }
}
