/**
 * A random guest, whatever the architecture. It starts from what an honest one has set up, and does what no guest should: registers,
 * queues, tables, configuration space, devices, in every size and order. Now and then it puts back what the
 * honest one had, so that the next disorder begins deep inside.
 */
import { type Kernel, makeBuffers, Random as GuestRandom } from "../../src/guest/index.js";
import { ENGINE, ENGINE_BYTES } from "../../src/dma-engine/index.js";
import { HostError } from "../../src/iommufd/index.js";
import { HotplugPort, type PciFunction } from "../../src/pci/index.js";
import { Refusal } from "../../src/support/index.js";
import type { Attack, Tools } from "./attack.js";
import { SmmuAttack } from "./smmu-attack.js";
import { VtdAttack } from "./vtd-attack.js";
import { Random } from "./random.js";
import { bootKernel, type World } from "./world.js";

const CONFIGURATION = [0x04, 0x06, 0x0c, 0x10, 0x14, 0x18, 0x19, 0x1a, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x3c, 0x3e, 0x48, 0x4a, 0x5c, 0x6c, 0x6e, 0x70, 0x72, 0x90, 0xa8, 0xaa, 0xb0, 0xb2, 0x100];

interface Place {
  readonly address: number;
  readonly size: number;
}

/** What an honest guest has written, to be put back. */
interface Snapshot {
  readonly config: Array<{ address: number; size: number; value: bigint }>;
  readonly pages: Array<{ address: number; bytes: Uint8Array }>;
  /** The DMA engine's registers of each function that has one. */
  readonly engines: number[];
  /** Registers of the devices for tests. */
  readonly testers: Array<{ address: number; model: string }>;
  readonly bars: Place[];
  /** IOVAs that the honest guest has mapped. */
  readonly iovas: bigint[];
}

export class Fuzzer implements Tools {
  readonly random: Random;
  private readonly attack: Attack;
  operations = 0;
  /** device_add and device_del that were refused. */
  refused = 0;
  /** Operations by kind. */
  readonly kinds = new Map<string, number>();
  private snapshot!: Snapshot;
  private trail: string[] = [];
  private readonly pending = new Set<Promise<void>>();
  private readonly arguments_: Map<string, string>;

  constructor(
    readonly world: World,
    seed: number,
    /** device_add lines that are to be refused, and some that need not be. */
    private readonly additions: readonly string[],
  ) {
    this.random = new Random(seed);
    this.attack = world.machine.board.kind === "q35" ? new VtdAttack(this) : new SmmuAttack(this);
    this.arguments_ = new Map(world.machine.hotplugCandidates().map(({ id, argument }) => [id, argument]));
  }

  /**
   * An honest guest boots, gives every function its own tables, and is forgotten. False where not all that there
   * was at first could be plugged again: what random device_add lines brought is in the way, or a switch is gone.
   */
  async boot(): Promise<boolean> {
    const { machine } = this.world;
    machine.reset();
    this.replugAll();
    machine.reset();
    await this.settle();
    if ([...this.arguments_.keys()].some((id) => machine.board.find(id) === null)) {
      return false;
    }
    const kernel = await this.world.as(machine, () => this.honestBoot());
    this.world.checkHonest();
    this.snapshot = this.take(kernel.kernel, kernel.iovas);
    return true;
  }

  private replugAll(): void {
    for (const [id, argument] of this.arguments_) {
      if (this.world.machine.board.find(id) === null) {
        this.addDevice(argument);
      }
    }
  }

  private async honestBoot(): Promise<{ kernel: Kernel; iovas: bigint[] }> {
    const kernel = await bootKernel(this.world.machine);
    const random = new GuestRandom(3);
    const iovas: bigint[] = [];
    for (const device of kernel.devices) {
      if (device.dma !== null && device.master !== null) {
        const domain = await kernel.useOwnDomain(device);
        const buffers = await makeBuffers(kernel, random, 16384, 2 ** 32);
        iovas.push(await domain.mapBuffer(buffers.source, 16384, { read: true, write: true }, 2 ** 28), BigInt(buffers.source));
        if (device.master.pasidBits > 0) {
          const substream = await kernel.createDomain(device);
          await device.master.attachPasid(1, substream);
          await substream.map(iovas.at(-2)!, buffers.destination, 16384, { read: true, write: true });
        }
      }
      await kernel.setUpMessages(device, [() => {}, () => {}]);
    }
    return { kernel, iovas };
  }

  private take(kernel: Kernel, iovas: bigint[]): Snapshot {
    const { memory, pci } = this.world.machine.board;
    this.attack.remember();
    const config: Snapshot["config"] = [];
    const engines: number[] = [];
    const testers: Snapshot["testers"] = [];
    const bars: Place[] = [];
    for (const device of kernel.devices) {
      const { fn } = device;
      const at = this.configAddress(fn.bus, fn.devfn);
      for (const [offset, size] of [[0x10, 4], [0x14, 4], [0x18, 4], [0x1c, 2], [0x20, 4], [0x24, 4], [0x28, 4], [0x2c, 4], [0x04, 2]]) {
        // Memory and bus mastering on, whatever the drivers have left.
        const value = memory.readWord(at + offset, size) | (offset === 0x04 ? 6n : 0n);
        config.push({ address: at + offset, size, value });
      }
    }
    for (const fn of pci.allFunctions()) {
      for (const bar of fn.bars) {
        for (const place of pci.mapper.placesOf(bar)) {
          bars.push({ address: place.address, size: Math.min(place.size, 0x2_0000) });
          if (fn.passthrough !== null ? bar.index === 0 : bar.size === ENGINE_BYTES) {
            // An NVMe's registers lie before it.
            engines.push(place.address + (fn.passthrough !== null && fn.config.bytes[0x0b] === 0x01 && fn.config.bytes[0x0a] === 0x08 ? 0x1_0000 : 0));
          } else if (fn.model === "edu" || fn.model === "iommu-testdev") {
            testers.push({ address: place.address, model: fn.model });
          }
        }
      }
    }
    const pages: Snapshot["pages"] = [];
    for (const { base, size } of kernel.memory.inUse()) {
      for (let at = base; at < base + Math.min(size, 0x4000); at += 4096) {
        const bytes = new Uint8Array(4096);
        memory.readBytes(at, bytes);
        pages.push({ address: at, bytes });
      }
    }
    return { config, pages, engines, testers, bars, iovas };
  }

  private configAddress(bus: number, devfn: number): number {
    return this.world.machine.board.map.ecam.base + bus * 0x10_0000 + devfn * 0x1000;
  }

  /** One operation, with what is checked after each. */
  step(): void {
    this.operations++;
    this.perform(this.random.below(1000));
  }

  private perform(draw: number): void {
    const table: Array<[number, string, () => void]> = [
      [90, "registers", () => this.attack.writeRegister()],
      [270, "commands", () => this.attack.pushCommands()],
      [450, "entries", () => this.attack.writeEntry()],
      [550, "tables", () => this.scribble()],
      [580, "configuration", () => this.writeConfiguration()],
      [600, "bus numbers", () => this.renumber()],
      [800, "DMA", () => this.startDma()],
      [840, "BARs", () => this.writeBar()],
      [850, "doorbells", () => this.attack.writeDoorbell()],
      [880, "reads", () => this.readAnything()],
      [910, "acknowledge", () => this.attack.acknowledge()],
      [930, "registers back", () => this.attack.restoreRegisters()],
      [940, "tables back", () => this.restorePages()],
      [955, "configuration back", () => this.restoreConfiguration()],
      [980, "all back", () => this.restoreAll()],
      [993, "devices come and go", () => this.hotplug()],
      [998, "wild", () => this.wild()],
      [1000, "reset", () => this.reset()],
    ];
    const [, kind, body] = table.find(([limit]) => draw < limit)!;
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1);
    this.trail = [];
    this.world.operation(() => `operation ${this.operations} of seed ${this.random.seed}, ${kind}: ${this.trail.slice(-12).join("; ")}`, body);
  }

  /** Lets device_del requests end; waits for the rest at the end. */
  async settle(): Promise<void> {
    await Promise.allSettled([...this.pending]);
  }

  /** Invalidations of every kind and scope, as many as the queues take; nothing else. */
  invalidate(): void {
    this.world.operation(
      () => "invalidations alone",
      () => this.attack.invalidate(),
    );
  }

  // ---- accesses ----

  write(address: number, size: number, value: bigint): void {
    this.trail.push(`w${size} 0x${address.toString(16)}=0x${BigInt.asUintN(8 * size, value).toString(16)}`);
    this.world.machine.board.memory.writeWord(address, size, BigInt.asUintN(8 * size, value));
  }

  read(address: number, size: number): bigint {
    return this.world.machine.board.memory.readWord(address, size);
  }

  get size(): number {
    return this.random.pick([4, 4, 4, 4, 8, 8, 2, 1]);
  }

  /** Numbers that mean something here, and some that mean nothing. */
  value(): bigint {
    const { random } = this;
    switch (random.below(8)) {
      case 0:
        return BigInt(random.below(32));
      case 1:
        return 1n << BigInt(random.below(64));
      case 2:
        return -1n - BigInt(random.below(64));
      case 3:
        return BigInt(this.ramAddress());
      case 4:
        return BigInt(this.somewhere());
      case 5:
        return random.pick(this.snapshot.iovas) + BigInt(random.below(8192));
      case 6:
        return BigInt(random.word());
      default:
        return random.wide();
    }
  }

  /** A page that the honest guest has used. */
  page(): number {
    return this.random.pick(this.snapshot.pages).address;
  }

  ramAddress(): number {
    const { random, snapshot } = this;
    if (!random.oneIn(3)) {
      return random.pick(snapshot.pages).address + (random.oneIn(2) ? 0 : random.below(512) * 8);
    }
    const { block, base } = random.pick(this.world.machine.board.ram);
    return base + random.below(block.size / 64) * 64;
  }

  /** An address that is not RAM, or next to it, or the host's. */
  private somewhere(): number {
    const { random, snapshot, world } = this;
    const { board } = world.machine;
    switch (random.below(8)) {
      case 0:
        return this.attack.register();
      case 1:
        return random.pick(snapshot.bars).address + random.below(0x1000);
      case 2:
        return board.map.ecam.base + random.below(0x40_0000);
      case 3:
        return this.attack.chipset();
      case 4:
        // Host-physical addresses of this machine, of the other one, and of what lies between.
        return board.ram[0].block.hostAddress + random.below(board.ram[0].block.size * 3) - 0x2_0000;
      case 5:
        return board.ram.at(-1)!.base + board.ram.at(-1)!.block.size - 4096 + random.below(8192);
      case 6:
        return world.host.hardware.msiDoorbell;
      default:
        return random.word() * 2 ** random.below(20);
    }
  }

  // ---- operations ----

  get sourceIds(): number[] {
    return [...this.world.machine.board.functions.filter(({ fn }) => fn.bus !== null).map(({ fn }) => fn.requesterId), 0, this.random.below(0x1_0000)];
  }

  isRam(address: number): boolean {
    return this.world.machine.board.ram.some(({ block, base }) => address >= base && address + 16 <= base + block.size);
  }

  /** A word of a table, a queue or a buffer. */
  private scribble(): void {
    const { random } = this;
    const at = random.pick(this.snapshot.pages).address + random.below(512) * 8;
    const before = this.read(at, 8);
    this.write(at, 8, random.oneIn(3) ? this.value() : before ^ (1n << BigInt(random.below(64))));
    if (random.oneIn(2)) {
      this.attack.invalidateSome();
    }
  }

  private writeConfiguration(): void {
    const { random, world } = this;
    const functions = [...world.machine.board.pci.allFunctions()];
    const fn = random.pick(functions);
    const bus = random.oneIn(10) ? random.below(256) : (fn.bus?.number ?? 0);
    const devfn = random.oneIn(10) ? random.below(256) : fn.devfn;
    const size = random.pick([1, 2, 4, 4]);
    const offset = random.oneIn(4) ? random.below(4096) : random.pick(CONFIGURATION);
    const at = this.configAddress(bus, devfn) + (offset & ~(size - 1));
    const value = random.oneIn(2) ? this.read(at, size) ^ (1n << BigInt(random.below(8 * size))) : random.oneIn(2) ? BigInt(random.below(64)) : this.value();
    this.write(at, random.oneIn(20) ? 8 : size, value);
  }

  /** A bridge's bus numbers: other ones, the same ones, another bridge's. */
  private renumber(): void {
    const { random, world } = this;
    const bridges = [...world.machine.board.pci.allFunctions()].filter((fn) => fn.isBridge && fn.secondaryBuses.length > 0);
    const fn = random.pick(bridges);
    const at = this.configAddress(fn.bus?.number ?? 0, fn.devfn);
    const other = random.pick(bridges);
    const secondary = random.pick([0, fn.secondaryBus, other.secondaryBus, other.secondaryBus, random.below(256)]);
    const subordinate = random.pick([secondary, Math.min(255, secondary + random.below(8)), 255, random.below(256)]);
    this.write(at + 0x18, 4, BigInt((fn.bus?.number ?? 0) | (secondary << 8) | (subordinate << 16)));
  }

  /** The engine of a function, wherever its BAR was: addresses that are mapped, physical, the host's, none. */
  private startDma(): void {
    const { random, snapshot } = this;
    const address = (): bigint => (random.oneIn(2) ? random.pick(snapshot.iovas) + BigInt(random.below(0x3000)) : this.value());
    if (snapshot.testers.length > 0 && random.oneIn(5)) {
      this.startTester(address());
      return;
    }
    const base = random.pick(snapshot.engines);
    if (random.oneIn(8)) {
      this.startPeerDma(base);
      return;
    }
    const [source, destination] = [address(), address()];
    const set = (register: number, value: number | bigint): void => this.write(base + register, 4, BigInt(value));
    set(ENGINE.SRC_LOW, source & 0xffff_ffffn);
    set(ENGINE.SRC_HIGH, source >> 32n);
    set(ENGINE.DST_LOW, destination & 0xffff_ffffn);
    set(ENGINE.DST_HIGH, destination >> 32n);
    set(ENGINE.LENGTH, random.oneIn(30) ? random.word() : random.below(random.oneIn(8) ? 0x4000 : 0x200));
    set(ENGINE.PASID, random.pick([0, 1, 1, 2, random.word()]));
    const control = 1 | (random.below(4) << 1) | (random.oneIn(3) ? random.below(32) << 3 : 0) | (random.below(4) << 16);
    set(ENGINE.CONTROL, control);
  }

  /** A few bytes from RAM to registers: of an SMMU, of a bridge above, of the device itself. */
  private startPeerDma(base: number): void {
    const { random, world } = this;
    const from = this.ramAddress();
    this.write(from, 8, random.oneIn(3) ? 0x07c0_07c0_07c0_07c0n : this.value());
    const fn = random.pick([...world.machine.board.pci.allFunctions()]);
    const config = this.configAddress(fn.bus?.number ?? 0, fn.devfn) + (random.oneIn(2) ? random.pick([0x6c, 0x6c, 0xa8, 0x18, 0x04]) : random.pick(CONFIGURATION));
    const to = random.oneIn(3) ? this.attack.commandRegister() : random.oneIn(4) ? base + random.below(0x40) : config;
    const length = random.pick([1, 2, 4, 4, 8]);
    for (const [register, value] of [[ENGINE.SRC_LOW, from], [ENGINE.SRC_HIGH, Math.floor(from / 2 ** 32)], [ENGINE.DST_LOW, to % 2 ** 32], [ENGINE.DST_HIGH, Math.floor(to / 2 ** 32)], [ENGINE.LENGTH, length], [ENGINE.CONTROL, 1]]) {
      this.write(base + register, 4, BigInt(value));
    }
  }

  /** QEMU's docs/specs/edu.rst and iommu-testdev.rst. */
  private startTester(iova: bigint): void {
    const { random } = this;
    const { address: base, model } = random.pick(this.snapshot.testers);
    if (model === "edu") {
      const back = random.oneIn(2);
      this.write(base + (back ? 0x88 : 0x80), 8, iova);
      this.write(base + (back ? 0x80 : 0x88), 8, 0x40000n + BigInt(random.oneIn(4) ? random.below(0x2000) : 0));
      this.write(base + 0x90, 8, BigInt(random.oneIn(20) ? random.word() : random.below(0x1001)));
      this.write(base + 0x98, 8, BigInt(1 | (back ? 2 : 0) | (random.below(2) << 2)));
    } else {
      this.write(base + 0x04, 4, iova & 0xffff_ffffn);
      this.write(base + 0x08, 4, iova >> 32n);
      this.write(base + 0x0c, 4, BigInt(random.below(0x400)));
      this.write(base + 0x18, 4, BigInt(random.below(16)));
      this.write(base + 0x1c, 4, BigInt(this.ramAddress()));
      this.write(base + 0x20, 4, 0n);
      this.write(base + 0x14, 4, 1n);
      this.read(base, 4);
    }
  }

  private writeBar(): void {
    const { random } = this;
    const { address, size } = random.pick(this.snapshot.bars);
    const width = this.size;
    const offset = random.oneIn(3) ? random.below(size) : random.below(Math.min(size, 0x100));
    this.write(address + (random.oneIn(10) ? offset : offset & ~(width - 1)), width, this.value());
  }

  private readAnything(): void {
    const { random } = this;
    const size = this.size;
    const at = random.oneIn(2) ? this.attack.register() : this.somewhere();
    this.trail.push(`r${size} 0x${at.toString(16)}`);
    const value = this.read(at, size);
    if (value < 0n || value >> BigInt(8 * size) !== 0n) {
      this.world.violations.push(`a read of ${size} bytes gave ${value}`);
    }
  }

  restorePages(): void {
    for (const { address, bytes } of this.snapshot.pages) {
      this.world.machine.board.memory.writeBytes(address, bytes);
    }
    this.attack.settle();
  }

  private restoreConfiguration(): void {
    for (const { address, size, value } of this.snapshot.config) {
      this.write(address, size, value);
    }
  }

  private hotplug(): void {
    const { random, world } = this;
    const { machine } = world;
    switch (random.below(4)) {
      case 0: {
        const id = random.pick([...this.arguments_.keys(), "nobody", "smmu1"]);
        this.trail.push(`device_del ${id}`);
        this.note(machine.operator().requestUnplug(id));
        break;
      }
      case 1: {
        // The guest gives up what is in a slot: power off (Slot Control, PCIe 7.5.3.10).
        const id = random.pick([...this.arguments_.keys()]);
        const fn = machine.board.find(id)?.fn;
        this.trail.push(`device_del ${id}, power off`);
        if (fn !== undefined) {
          this.note(machine.operator().requestUnplug(id));
          this.powerOff(fn);
        }
        break;
      }
      case 2:
        this.replugAll();
        break;
      default:
        this.addDevice(random.pick(this.additions));
    }
  }

  private powerOff(fn: PciFunction): void {
    const port = fn.bus?.bridge;
    if (port instanceof HotplugPort && port.bus !== null) {
      const control = this.configAddress(port.bus.number, port.devfn) + (port.model === "pcie-root-port" ? 0x6c : 0xa8);
      this.write(control, 2, 0x07c0n);
    }
  }

  /** device_add: plugged, or refused in words; anything else is a violation. What it does it has done when it returns. */
  private addDevice(argument: string): void {
    this.trail.push(`device_add ${argument}`);
    this.note(this.world.machine.operator().plug(argument));
  }

  private note(request: Promise<void>): void {
    const settled = request.then(
      () => {},
      (error: unknown) => {
        if (error instanceof Refusal || error instanceof HostError) {
          this.refused++;
        } else {
          this.world.violations.push(`device_add or device_del: ${String(error)}`);
        }
      },
    );
    this.pending.add(settled);
    void settled.finally(() => this.pending.delete(settled));
  }

  private wild(): void {
    this.write(this.somewhere(), this.size, this.value());
  }

  private reset(): void {
    this.world.machine.reset();
    if (this.random.oneIn(2)) {
      this.restoreAll();
    }
  }

  private restoreAll(): void {
    this.restoreConfiguration();
    this.restorePages();
    this.attack.restoreRegisters();
    this.restorePages();
  }
}
