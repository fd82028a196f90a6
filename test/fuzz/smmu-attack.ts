/** What a random guest does to SMMUv3s: registers, command queues, stream tables. */
import type { Attack, Tools } from "./attack.js";
import { isSmmu } from "../../src/machine/index.js";
import { entryAddress } from "./smmu-intent.js";

const OPCODES = [1, 2, 3, 4, 4, 5, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x18, 0x20, 0x28, 0x2a, 0x30, 0x40, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x46, 0x46, 0x99];
/** Registers of page 0 by offset; page 1 has the event queue's indexes. */
const REGISTERS = [
  0x00, 0x04, 0x14, 0x18, 0x1c, 0x20, 0x20, 0x24, 0x28, 0x2c, 0x40, 0x44, 0x44, 0x50, 0x54, 0x60, 0x64, 0x68, 0x70, 0x74, 0x80, 0x84, 0x88, 0x88, 0x90, 0x94, 0x98, 0x98,
  0x9c, 0xa0, 0xa4, 0xa8, 0xac, 0xb0, 0xb8, 0xbc, 0xc0, 0xcc, 0xd0, 0x100, 0xffc, 0x10_0a8, 0x10_0ac, 0x10_020, 0x1fffc,
];

export class SmmuAttack implements Attack {
  /** What the honest guest has programmed. */
  private programmed: Array<{ base: number; values: Array<[number, number, bigint]>; cr0: bigint }> = [];

  constructor(private readonly tools: Tools) {}

  private get board() {
    return this.tools.world.machine.board;
  }

  private read(address: number, size: number): bigint {
    return this.tools.read(address, size);
  }

  private write(address: number, size: number, value: bigint): void {
    this.tools.write(address, size, value);
  }

  remember(): void {
    const { memory, iommus } = this.board;
    this.programmed = iommus.filter(isSmmu).map(({ base }) => ({
      base,
      values: (
        [
          [0x28, 4],
          [0x2c, 4],
          [0x80, 8],
          [0x88, 4],
          [0x90, 8],
          [0xa0, 8],
          [0x50, 4],
        ] as const
      ).map(([offset, size]): [number, number, bigint] => [offset, size, memory.readWord(base + offset, size)]),
      cr0: memory.readWord(base + 0x20, 4),
    }));
  }

  register(): number {
    return this.smmu.base + this.tools.random.pick(REGISTERS);
  }

  commandRegister(): number {
    return this.smmu.base + this.tools.random.pick([0x20, 0x44, 0x98, 0x98, 0x64]);
  }

  chipset(): number {
    return 0x0800_0000 + this.tools.random.below(0x10_0000);
  }

  invalidateSome(): void {
    const { random, sourceIds } = this.tools;
    this.send(this.smmu.base, random.pick<[bigint, bigint]>([[0x30n, 0n], [6n | (BigInt(random.pick(sourceIds)) << 32n), 0n], [0x12n | (3n << 48n), BigInt(random.below(2))]]));
  }

  settle(): void {
    for (const { base } of this.programmed) {
      this.configureAll(base);
    }
  }

  invalidate(): void {
    const { random } = this.tools;
    this.restoreRegisters();
    for (const { base } of this.programmed) {
      for (let n = 0; n < 12; n++) {
        const opcode = random.pick([0x10, 0x11, 0x12, 0x13, 0x30, 5, 6, 0x40]);
        const [low, high] = this.command();
        this.send(base, [(low & ~0xffn) | BigInt(opcode), high]);
        this.write(base + 0x64, 4, this.read(base + 0x60, 4));
        if (this.read(base + 0x98, 4) !== (this.read(base + 0x9c, 4) & 0xf_ffffn)) {
          // An illegal one is still there: the queue starts anew.
          this.restoreRegisters();
        }
      }
      this.send(base, [0x30n, 0n]);
    }
  }

  private get smmu() {
    return this.tools.random.pick(this.tools.world.machine.board.iommus.filter(isSmmu));
  }

  writeRegister(): void {
    const { random } = this.tools;
    const { base } = this.smmu;
    const offset = random.pick(REGISTERS);
    const size = this.tools.size;
    let value = this.tools.value();
    if (random.oneIn(2)) {
      value = this.read(base + (offset & ~3), 4) ^ (1n << BigInt(random.below(32)));
    } else if (offset === 0x20) {
      value = BigInt(random.pick([0, 1, 4, 5, 8, 9, 0xc, 0xd, 0x1d]));
    } else if (offset === 0x44) {
      value = BigInt(random.pick([0x8000_0000, 0x8010_0000, 0x0010_0000]));
    } else if (offset === 0x88) {
      value = BigInt(random.pick([random.below(32), 0x1_0000 | (random.pick([6, 8, 10, 3]) << 6) | random.below(32)]));
    }
    this.write(base + offset + (random.oneIn(12) ? random.below(8) : 0), size, value);
  }

  private command(): [bigint, bigint] {
    const { random } = this.tools;
    let low = BigInt(random.pick(OPCODES)) | (BigInt(random.pick(this.tools.sourceIds)) << 32n);
    let high = random.oneIn(2) ? this.tools.value() : BigInt(random.below(32));
    switch (random.below(8)) {
      case 0:
        low ^= random.wide() & 0xffff_ff00n;
        break;
      case 1:
        low |= BigInt(random.below(0x1000)) << 12n;
        break;
      case 2:
        // ASID or VMID.
        low = (low & 0xffn) | (BigInt(random.below(6)) << 48n) | (BigInt(random.below(4)) << 32n);
        break;
      case 3:
        low ^= 1n << BigInt(random.below(64));
        break;
      case 4:
        low = random.wide();
        break;
      case 5:
        high = random.wide();
        break;
    }
    return [low, high];
  }

  pushCommands(): void {
    const { random } = this.tools;
    const { base } = this.smmu;
    const queue = this.read(base + 0x90, 8);
    const log2 = Math.min(Number(queue & 0x1fn), 19);
    const address = Number((queue & 0x000f_ffff_ffff_ffe0n) & ~((1n << BigInt(log2 + 4)) - 1n));
    const prod = Number(this.read(base + 0x98, 4));
    const count = 1 + random.below(random.oneIn(20) ? 100 : 6);
    for (let n = 0; n < count; n++) {
      const at = address + ((prod + n) & (2 ** log2 - 1)) * 16;
      const [low, high] = n === count - 1 && random.oneIn(2) ? [0x1046n, 0n] : this.command();
      if (this.tools.isRam(at)) {
        this.write(at, 8, low);
        this.write(at + 8, 8, high);
      }
    }
    if (random.oneIn(30)) {
      this.write(base + random.pick([0x98, 0x9c]), 4, this.tools.value());
    } else {
      this.write(base + 0x98, 4, BigInt((prod + count) & (2 ** (log2 + 1) - 1)));
    }
  }

  /** A stream table entry of one of the functions, and mostly the command that makes it count. */
  writeEntry(): void {
    const { random, world } = this.tools;
    const smmu = this.smmu;
    const sid = random.pick(this.tools.sourceIds);
    const address = entryAddress(world.machine, smmu, sid);
    if (address === null || !this.tools.isRam(Number(address))) {
      this.tools.restorePages();
      return;
    }
    const at = Number(address);
    const page = this.tools.page();
    switch (random.below(8)) {
      case 0:
        this.write(at, 8, random.pick([0n, 1n, 1n | (2n << 1n)]));
        break;
      case 1:
        this.write(at, 8, 1n | (4n << 1n));
        break;
      case 2:
        this.write(at, 8, 1n | (5n << 1n) | BigInt(page));
        break;
      case 3:
        this.write(at, 8, 1n | (5n << 1n) | BigInt(page) | (BigInt(random.below(4)) << 4n) | (BigInt(random.below(32)) << 59n));
        this.write(at + 8, 8, random.wide() & 0x3000_0000_0000_00ffn);
        break;
      case 4:
        this.write(at, 8, 1n | (BigInt(random.pick([6, 7])) << 1n) | BigInt(page));
        this.write(at + 16, 8, random.wide());
        this.write(at + 24, 8, BigInt(page));
        break;
      case 5:
        for (let n = 0; n < 8; n++) {
          this.write(at + 8 * n, 8, random.wide());
        }
        break;
      default: {
        const word = at + 8 * random.below(random.oneIn(3) ? 8 : 2);
        this.write(word, 8, this.read(word, 8) ^ (1n << BigInt(random.below(64))));
      }
    }
    if (!random.oneIn(4)) {
      if (random.oneIn(4)) {
        this.configureAll(smmu.base);
      } else {
        this.send(smmu.base, [3n | (BigInt(sid) << 32n), 1n]);
      }
    }
  }

  /** CMD_CFGI_ALL; where the queue took it, every function of the SMMU is where its entry says. */
  private configureAll(base: number): void {
    const empty = this.read(base + 0x98, 4) === (this.read(base + 0x9c, 4) & 0xf_ffffn);
    this.send(base, [4n, 31n]);
    const prod = this.read(base + 0x98, 4) & 0xf_ffffn;
    const enabled = (this.read(base + 0x20, 4) & 9n) === 9n;
    const errors = this.read(base + 0x60, 4) ^ this.read(base + 0x64, 4);
    if (empty && enabled && errors === 0n && prod === (this.read(base + 0x9c, 4) & 0xf_ffffn) && this.tools.world.spec.failing !== true) {
      this.tools.world.checkEntries(this.board.iommus.filter(isSmmu).find((smmu) => smmu.base === base)!);
    }
  }

  /** One command and a CMD_SYNC, as the registers say where. */
  private send(base: number, command: [bigint, bigint]): void {
    const queue = this.read(base + 0x90, 8);
    const log2 = Math.min(Number(queue & 0x1fn), 19);
    const address = Number((queue & 0x000f_ffff_ffff_ffe0n) & ~((1n << BigInt(log2 + 4)) - 1n));
    const prod = Number(this.read(base + 0x98, 4));
    for (const [n, [low, high]] of [command, [0x46n, 0n] as const].entries()) {
      const at = address + ((prod + n) & (2 ** log2 - 1)) * 16;
      if (this.tools.isRam(at)) {
        this.write(at, 8, low);
        this.write(at + 8, 8, high);
      }
    }
    this.write(base + 0x98, 4, BigInt((prod + 2) & (2 ** (log2 + 1) - 1)));
  }

  /** The guest's drivers go on: errors acknowledged, events taken. */
  acknowledge(): void {
    const { base } = this.smmu;
    this.write(base + 0x64, 4, this.read(base + 0x60, 4));
    this.write(base + 0x1_00ac, 4, this.read(base + 0x1_00a8, 4));
  }

  restoreRegisters(): void {
    for (const { base, values, cr0 } of this.programmed) {
      this.write(base + 0x20, 4, 0n);
      for (const [offset, size, value] of values) {
        this.write(base + offset, size, value);
      }
      this.write(base + 0x98, 4, 0n);
      this.write(base + 0x9c, 4, 0n);
      this.write(base + 0x64, 4, this.read(base + 0x60, 4));
      this.write(base + 0x1_00ac, 4, this.read(base + 0x1_00a8, 4));
      this.write(base + 0x20, 4, cr0);
    }
  }

  writeDoorbell(): void {
    const { random } = this.tools;
    const at = random.pick([0x0809_0040, 0x0809_0000, 0x0802_0040, 0x0808_0000]) + (random.oneIn(4) ? random.below(256) : 0);
    this.write(at, this.tools.size, this.tools.value());
  }
}
