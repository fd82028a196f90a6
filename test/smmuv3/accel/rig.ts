/**
 * Accelerated SMMUs on the simulated host, driven through registers, queues and tables as a guest does it:
 * expander buses with root ports, vfio-pci functions in them, and hand-written tables in RAM.
 */
import { ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { createSimulatedHost, describeHost, type HardwareFunction, type HostDescriptionInput, type SimulatedHost } from "../../../src/host/simulated/index.js";
import { ForwardingDevice, ForwardingHost, ForwardingIommufd, HostObserver, observeHost } from "../../../src/host/instruments/index.js";
import { type Host, HostError, type HwptAllocRequest, type InvalidateRequest, type InvalidateResult, type Iommufd, type VfioDevice } from "../../../src/iommufd/index.js";
import { AddressSpace, MEMORY_OK, MemoryRegion, type RamBlock, RamWordMemory, type WordMemory } from "../../../src/memory/index.js";
import { PcieRootPort, PciRoot, plugFunction, PxbPcie, setupIommu, unplugFunction } from "../../../src/pci/index.js";
import { AcceleratedIommuOps, type AccelerationProperties, DEFAULT_PROPERTIES, SmmuAcceleration, SmmuV3 } from "../../../src/smmuv3/index.js";
import { buildSte, encodeCommand, type FieldValues, OP, type STE } from "../../../src/smmuv3/spec/index.js";
import { Log } from "../../../src/support/index.js";
import { IommufdContext, VfioPci, type VfioPciOptions } from "../../../src/vfio/index.js";
import { bytesOf, GuestTables } from "../../host/kernel/rig.js";

export { bytesOf, encodeCommand, OP };

export const SMMU0 = "smmu3.0x0000000009050000";
export const SMMU1 = "smmu3.0x0000000009070000";
/** Four functions behind the first physical SMMU, two behind the second. */
export const HOST_FUNCTIONS = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0", "0001:01:00.0", "0001:02:00.0"];
const [A, B, C, D, E, F] = HOST_FUNCTIONS;
export { A, B, C, D, E, F };

export type SmmuInput = HostDescriptionInput["smmus"][number];
export type FunctionInput = HostDescriptionInput["functions"][number];

/** IDR0 of a server's SMMU: both stages, ATS, two-level context tables, the rest as QEMU's model has it. */
export const HOST_IDS = { idr0: 0x0d4c141b, idr1: 0x02730510, idr3: 0x1414, idr5: 0x75, aidr: 1 };

export const DEFAULT_FUNCTION = {
  vendor: 0x1b36,
  device: 0x10,
  class: 0x010802,
  bars: [{ index: 0, size: "64K" as const }],
  msixVectors: 4,
  ats: true,
  pasidBits: 16,
};

export function hostDescription(smmu: Partial<SmmuInput> = {}, fn: Partial<FunctionInput> = {}): HostDescriptionInput {
  return {
    name: "test",
    memory: [{ numaNode: 0, base: 0x4000_0000, size: "1G" }],
    smmus: [
      { name: SMMU0, base: 0x905_0000, ...HOST_IDS, ...smmu },
      { name: SMMU1, base: 0x907_0000, ...HOST_IDS, ...smmu },
    ],
    functions: HOST_FUNCTIONS.map((address, i) => ({
      address,
      name: `function ${i}`,
      smmu: i < 4 ? SMMU0 : SMMU1,
      ...DEFAULT_FUNCTION,
      ...fn,
    })),
  };
}

export const RAM_BASE = 0x4000_0000;
export const RAM_BYTES = 0x80_0000;
/** Within RAM: a page that no stage 1 maps, the pages that tables map, descriptors, tables, stream tables, queues. */
const CANARY = 0x1000;
const TARGETS = 0x2_0000;
const DESCRIPTORS = 0x10_0000;
const TABLES = 0x20_0000;
const STREAM_TABLES = 0x40_0000;
const QUEUES = 0x60_0000;
/** An IOVA that every stage-1 table maps, each to a page of its own; no RAM is there. */
export const IOVA = 0x1000_0000;
export const CANARY_GPA = RAM_BASE + CANARY;
/** log2 of the stream tables' entries: buses 0 to 0x1f. */
export const STREAM_BITS = 13;
export const CMDQ_BITS = 6;
export const EVENTQ_BITS = 3;

export const EXPLICIT: AccelerationProperties = { ril: true, ats: true, oas: 48, ssidsize: 0 };
export const AUTO: AccelerationProperties = { ril: "auto", ats: "auto", oas: "auto", ssidsize: "auto" };

/** RAM as the SMMU sees it, with a list of what it has read. */
class WatchedWords implements WordMemory {
  readonly flat = new Int32Array(0);
  readonly flatBase = 0;
  readonly flatBytes = 0;
  loadedLow = 0;
  loadedHigh = 0;
  readonly read = new Set<number>();
  readonly inner = new RamWordMemory();

  load64(high: number, low: number): number {
    this.read.add((high >>> 0) * 2 ** 32 + (low >>> 0));
    const code = this.inner.load64(high, low);
    this.loadedLow = this.inner.loadedLow;
    this.loadedHigh = this.inner.loadedHigh;
    return code;
  }

  store64(high: number, low: number, valueHigh: number, valueLow: number): number {
    return this.inner.store64(high, low, valueHigh, valueLow);
  }

  compareExchange64(high: number, low: number, expectedHigh: number, expectedLow: number, valueHigh: number, valueLow: number): number {
    return this.inner.compareExchange64(high, low, expectedHigh, expectedLow, valueHigh, valueLow);
  }
}

export interface BoardOptions {
  readonly smmu?: Partial<SmmuInput>;
  readonly fn?: Partial<FunctionInput>;
  readonly description?: HostDescriptionInput;
  /** Properties of each accelerated SMMU; one for each expander bus. */
  readonly properties?: readonly AccelerationProperties[];
  /** Root ports for each expander. */
  readonly ports?: number;
  /** Of the guest; more than RAM_BYTES where a test wants it. */
  readonly ramBytes?: number;
  /** Steps of bounded work; undefined: as the device has it. */
  readonly stepsAtOnce?: number;
}

export class Board {
  readonly host: SimulatedHost;
  readonly observer = new HostObserver();
  readonly observed: Host;
  readonly log = new Log();
  readonly ram: RamBlock;
  readonly words = new WatchedWords();
  /** RAM as 64-bit words. */
  readonly quads: BigUint64Array;
  readonly space: AddressSpace;
  readonly pci: PciRoot;
  readonly smmus: GuestSmmu[] = [];
  readonly ports: PcieRootPort[] = [];
  readonly contexts: IommufdContext[];
  readonly functions = new Map<string, VfioPci>();
  /** Of every call since: HWPT_ALLOC's entries as two double words, HWPT ids attached, commands of each HWPT_INVALIDATE. */
  readonly nested: Array<[bigint, bigint]> = [];
  readonly attaches: string[] = [];
  detaches = 0;
  readonly invalidations: string[][] = [];
  readonly routes = new Map<string, string>();
  readonly delivered: string[] = [];
  /** The host refuses every access to a function's regions. */
  broken = false;
  private readonly tables: GuestTables[] = [];

  constructor(options: BoardOptions = {}) {
    this.host = createSimulatedHost(describeHost(options.description ?? hostDescription(options.smmu, options.fn)), { later: (task) => task() });
    this.observed = observeHost(recordArguments(this.host, this), this.observer);
    this.ram = this.observed.allocateMemory("ram", options.ramBytes ?? RAM_BYTES);
    this.quads = new BigUint64Array(this.ram.byteWindow(0).buffer);
    this.words.inner.place(RAM_BASE, this.ram);
    const system = MemoryRegion.container("system", 2 ** 52);
    system.add(RAM_BASE, MemoryRegion.ram("ram", this.ram));
    this.space = new AddressSpace("memory", system);
    this.pci = new PciRoot({ systemMemory: this.space });
    system.add(0x1000_0000, MemoryRegion.alias("pcie-mmio", this.pci.memory, 0x1000_0000, 0x2000_0000));
    this.contexts = ["iommufd0", "iommufd1"].map((id) => new IommufdContext(id, this.observed, this.log));
    for (const [n, properties] of (options.properties ?? [EXPLICIT]).entries()) {
      const pxb = new PxbPcie({ id: `pxb${n}`, busNr: 8 * (n + 1) });
      plugFunction(pxb, this.pci.bus, null);
      const guest = new GuestSmmu(this, n, properties, options.stepsAtOnce);
      this.smmus.push(guest);
      setupIommu(pxb.expanderBus, guest.ops);
      for (let p = 0; p < (options.ports ?? 3); p++) {
        const port = new PcieRootPort({ id: `rp${n}${p}`, chassis: 10 * n + p + 1, slot: p });
        plugFunction(port, pxb.expanderBus, 8 * (p + 1));
        this.ports.push(port);
      }
    }
  }

  get smmu(): GuestSmmu {
    return this.smmus[0];
  }

  // ---- functions ----

  make(hostAddress: string, options: Partial<VfioPciOptions> = {}): VfioPci {
    return new VfioPci({
      id: `dev${HOST_FUNCTIONS.indexOf(hostAddress)}`,
      hostAddress,
      iommufd: this.contexts[0],
      ats: "auto",
      pasidCapabilityOffset: 0,
      host: this.observed,
      routing: {
        route: (fn, vector, iova, data, event) => {
          this.routes.set(`${fn.id}.${vector}`, `${iova.toString(16)}:${data}`);
          event.onSignal(() => void this.delivered.push(`${fn.id}.${vector}`));
        },
        remove: (fn, vector) => void this.routes.delete(`${fn.id}.${vector}`),
        batch: (change) => change(),
        addLevel: ({ event, onRise }) => event.onSignal(onRise),
        removeLevel: () => {},
      },
      log: this.log,
      ...options,
    });
  }

  /** Plugs a host function into a root port. Throws as the plug does. */
  plug(hostAddress: string, port = 0, options: Partial<VfioPciOptions> & { hotplugged?: boolean } = {}): VfioPci {
    const fn = this.make(hostAddress, options);
    plugFunction(fn, this.ports[port].secondary, 0, { hotplugged: options.hotplugged ?? false });
    this.functions.set(hostAddress, fn);
    return fn;
  }

  unplug(hostAddress: string): void {
    const fn = this.functions.get(hostAddress);
    if (fn !== undefined) {
      this.functions.delete(hostAddress);
      unplugFunction(fn);
    }
  }

  /** The guest gives a port's bus a number (secondary and subordinate). */
  number(port: number, bus: number): void {
    const { bdf } = this.ports[port];
    this.pci.configWrite(bdf, 0x18, 4, (bdf >> 8) | (bus << 8) | (bus << 16));
  }

  sid(fn: VfioPci): number {
    return fn.requesterId;
  }

  /** The machine starts. */
  freeze(): void {
    for (const { smmu, acceleration } of this.smmus) {
      acceleration.freeze();
      smmu.freeze();
    }
  }

  /** system_reset as the machine does it. */
  reset(): void {
    this.pci.reset();
    for (const { smmu } of this.smmus) {
      smmu.reset();
    }
  }

  /** The machine goes: everything unplugged, memory freed. */
  close(): void {
    for (const address of [...this.functions.keys()]) {
      this.unplug(address);
    }
  }

  // ---- what the hardware lets a function do ----

  hardware(hostAddress: string): HardwareFunction {
    return this.host.hardware.functions.get(hostAddress)!;
  }

  /** One 8-byte write of the function, as if its bus mastering were on. False: terminated. */
  dmaWrite(hostAddress: string, address: number, value: bigint, pasid = -1): boolean {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, value, true);
    return this.hardware(hostAddress).writeMemory(Math.floor(address / 2 ** 32) | 0, address | 0, data, pasid, ACCESS_WRITE, false);
  }

  dmaRead(hostAddress: string, address: number, pasid = -1): bigint | null {
    const out = new Uint8Array(8);
    return this.hardware(hostAddress).readMemory(Math.floor(address / 2 ** 32) | 0, address | 0, out, pasid, ACCESS_READ, false)
      ? new DataView(out.buffer).getBigUint64(0, true)
      : null;
  }

  private token = 1n;

  /**
   * Where the hardware lets the function go: "bypass" (guest-physical addresses), "table N" (through stage-1
   * table N), "abort". Asserts nothing; a mixture is told as such.
   */
  probe(hostAddress: string, pasid = -1): string {
    const token = (this.token += 0x1_0000_0001n);
    const found: string[] = [];
    if (this.dmaRead(hostAddress, CANARY_GPA, pasid) !== null) {
      found.push("bypass");
    }
    if (this.dmaWrite(hostAddress, IOVA, token, pasid)) {
      const hit = Array.from({ length: this.tables.length }, (_unused, n) => n).find((n) => this.load(TARGETS + n * 0x1000) === token);
      found.push(hit === undefined ? "nowhere known" : `table ${hit}`);
    }
    for (const outside of [RAM_BASE - 0x1000, RAM_BASE + RAM_BYTES]) {
      if (this.dmaWrite(hostAddress, outside, token, pasid)) {
        found.push("outside RAM");
      }
    }
    return found.length === 0 ? "abort" : found.join(" and ");
  }

  // ---- guest memory ----

  load(offset: number): bigint {
    return this.quads[offset / 8];
  }

  store(offset: number, words: Int32Array): void {
    this.ram.write(offset, bytesOf(words));
  }

  /** A stage-1 table that maps IOVA to a page of its own, and its context descriptor. Returns its number. */
  table(): number {
    const n = this.tables.length;
    const tables = new GuestTables(this.ram, RAM_BASE, TABLES + n * 0x8000);
    this.tables.push(tables);
    tables.map(IOVA, RAM_BASE + TARGETS + n * 0x1000);
    this.store(DESCRIPTORS + n * 0x1000, tables.context(n + 1));
    return n;
  }

  /** Maps 1 MiB to itself in a table of `table()`. */
  mapIdentity(table: number, address: number): void {
    for (let page = address; page < address + 0x10_0000; page += 0x1000) {
      this.tables[table].map(page, page);
    }
  }

  /** The context descriptor of a table. */
  contextOf(table: number): Int32Array {
    return this.tables[table].context(table + 1);
  }

  /** Guest-physical address of a table's context descriptor. */
  descriptor(table: number): number {
    return RAM_BASE + DESCRIPTORS + table * 0x1000;
  }

  /** A stream table entry that translates through a table of `table()`. */
  stage1(table: number, extra: FieldValues<typeof STE> = {}): Int32Array {
    return buildSte({ V: 1, CONFIG: 5, S1CONTEXTPTR: this.descriptor(table), S1CIR: 1, S1COR: 1, S1CSH: 3, SHCFG: 1, ...extra });
  }

  /** Objects on the host by type, such as `hwpt 3`; sorted. */
  live(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { type } of this.host.liveObjects()) {
      counts[type] = (counts[type] ?? 0) + 1;
    }
    return counts;
  }

  /** Guest-physical addresses that the SMMUs read and that are neither a stream table's nor a command queue's. */
  strayReads(): number[] {
    return [...this.words.read].filter((address) => {
      const offset = address - RAM_BASE;
      return !(offset >= STREAM_TABLES && offset < QUEUES + 0x10_0000);
    });
  }
}

/** The host with the arguments of some calls written down. */
function recordArguments(host: SimulatedHost, board: Board): Host {
  class RecordedIommufd extends ForwardingIommufd {
    override hwptAlloc(request: HwptAllocRequest): number {
      if (request.data.length > 0) {
        const view = new DataView(request.data.buffer, request.data.byteOffset);
        board.nested.push([view.getBigUint64(0, true), view.getBigUint64(8, true)]);
      }
      return super.hwptAlloc(request);
    }

    override hwptInvalidate(request: InvalidateRequest): InvalidateResult {
      const view = new DataView(request.data.buffer, request.data.byteOffset);
      board.invalidations.push(
        Array.from({ length: request.entryCount }, (_unused, n) =>
          [0, 4, 8, 12].map((at) => view.getUint32(n * request.entryLength + at, true).toString(16)).join(" "),
        ),
      );
      return super.hwptInvalidate(request);
    }
  }
  class RecordedDevice extends ForwardingDevice {
    override attach(ptId: number, pasid?: number): void {
      super.attach(ptId, pasid);
      board.attaches.push(`${this.address} ${ptId}`);
    }

    override detach(pasid?: number): void {
      super.detach(pasid);
      board.detaches++;
    }
  }
  class RecordedHost extends ForwardingHost {
    protected override wrapIommufd(iommufd: Iommufd): Iommufd {
      return new RecordedIommufd(iommufd);
    }

    protected override wrapDevice(device: VfioDevice): VfioDevice {
      return new RecordedDevice(device, (operation, call) => {
        if (board.broken && (operation === "read" || operation === "write")) {
          throw new HostError(operation, "EIO", "made to fail by a test");
        }
        return call();
      });
    }
  }
  return new RecordedHost(host);
}

/** One accelerated SMMU as its guest driver sees it. */
export class GuestSmmu {
  readonly smmu: SmmuV3;
  readonly acceleration: SmmuAcceleration;
  readonly ops: AcceleratedIommuOps;
  readonly pulses: string[] = [];
  private readonly streamTable: number;
  private readonly cmdq: number;
  private readonly eventq: number;
  private prod = 0;

  constructor(
    private readonly board: Board,
    readonly index: number,
    properties: AccelerationProperties,
    stepsAtOnce?: number,
  ) {
    const id = `smmu${index}`;
    const line = (name: string): { pulse: () => void } => ({ pulse: () => void this.pulses.push(name) });
    this.smmu = new SmmuV3({
      id,
      properties: DEFAULT_PROPERTIES,
      memory: board.space,
      words: board.words,
      lines: { eventq: line("eventq"), priq: line("priq"), cmdqSync: line("sync"), gerror: line("gerror") },
      log: board.log,
      stepsAtOnce,
    });
    this.acceleration = new SmmuAcceleration(this.smmu, properties, board.log);
    this.smmu.backend = this.acceleration;
    this.ops = new AcceleratedIommuOps(`arm-smmuv3 '${id}'`, this.acceleration, board.space, (bus, devfn) => this.smmu.softwareSpace(bus, devfn), 0x0809_0040);
    this.streamTable = STREAM_TABLES + index * (64 << STREAM_BITS);
    this.cmdq = QUEUES + index * 0x2000;
    this.eventq = this.cmdq + 0x1000;
  }

  get(offset: number): number {
    return Number(this.smmu.read(offset, 4));
  }

  set(offset: number, value: number): void {
    this.smmu.write(offset, 4, BigInt(value >>> 0));
  }

  set64(offset: number, value: number): void {
    this.smmu.write(offset, 8, BigInt(value));
  }

  /** Tables and queues set up; CR0 then gets CMDQEN, EVENTQEN and, by default, SMMUEN (Arm IHI 0070, 6.3.9). */
  enable(cr0 = 0xd): void {
    this.set(0x20, 0);
    this.set64(0x80, RAM_BASE + this.streamTable);
    this.set(0x88, STREAM_BITS);
    this.set64(0x90, RAM_BASE + this.cmdq + CMDQ_BITS);
    this.set(0x9c, 0);
    this.set(0x98, 0);
    this.set64(0xa0, RAM_BASE + this.eventq + EVENTQ_BITS);
    this.set(0x100a8, 0);
    this.set(0x100ac, 0);
    this.set(0x50, 5);
    this.prod = 0;
    this.set(0x20, cr0);
  }

  cr0(value: number): void {
    this.set(0x20, value);
  }

  gbpa(abort: boolean): void {
    this.set(0x44, 0x8000_1000 | (abort ? 1 << 20 : 0));
  }

  /** Writes an entry into the linear stream table; nothing is told. */
  ste(sid: number, words: Int32Array): void {
    this.board.store(this.streamTable + sid * 64, words);
  }

  put(...commands: Int32Array[]): void {
    for (const command of commands) {
      this.board.store(this.cmdq + (this.prod & ((1 << CMDQ_BITS) - 1)) * 16, command);
      this.prod = (this.prod + 1) & ((2 << CMDQ_BITS) - 1);
    }
  }

  submit(...commands: Int32Array[]): void {
    this.put(...commands);
    this.set(0x98, this.prod);
  }

  /** CFGI_STE and a sync. */
  configure(sid: number): void {
    this.submit(encodeCommand(OP.CFGI_STE, { SID: sid, LEAF: 1 }), encodeCommand(OP.SYNC));
  }

  configureAll(): void {
    this.submit(encodeCommand(OP.CFGI_STE_RANGE, { SID: 0, RANGE: 31 }), encodeCommand(OP.SYNC));
  }

  get cons(): number {
    return this.get(0x9c) & ((2 << CMDQ_BITS) - 1);
  }

  get produced(): number {
    return this.prod;
  }

  get cerror(): number {
    return (this.get(0x9c) >>> 24) & 0x7f;
  }

  get commandError(): boolean {
    return ((this.get(0x60) ^ this.get(0x64)) & 1) !== 0;
  }

  /** What Linux does at CERROR_ILL: the command becomes a CMD_SYNC, the error is acknowledged, the queue goes on. */
  skipFailed(): void {
    for (let times = 0; this.commandError && times < 1 << CMDQ_BITS; times++) {
      if (this.cerror !== 3) {
        this.board.store(this.cmdq + (this.cons & ((1 << CMDQ_BITS) - 1)) * 16, encodeCommand(OP.SYNC));
      }
      this.set(0x64, this.get(0x60));
    }
  }

  /** Event records that the guest finds, eight words each; consumed. */
  events(): Int32Array[] {
    const prod = this.get(0x100a8);
    let cons = this.get(0x100ac);
    const mask = (2 << EVENTQ_BITS) - 1;
    const records: Int32Array[] = [];
    while (((prod ^ cons) & mask) !== 0) {
      const bytes = new Uint8Array(32);
      this.board.ram.read(this.eventq + (cons & ((1 << EVENTQ_BITS) - 1)) * 32, bytes);
      records.push(new Int32Array(bytes.buffer));
      cons = (cons & ~mask) | ((cons + 1) & mask);
    }
    // The overflow is acknowledged with it (7.4).
    this.set(0x100ac, (cons & ~0x8000_0000) | (prod & 0x8000_0000));
    return records;
  }

  get overflowed(): boolean {
    return ((this.get(0x100a8) ^ this.get(0x100ac)) & 0x8000_0000) !== 0;
  }

  /** Table of each function by host address, as the acceleration tells it. */
  tables(): Record<string, string> {
    return Object.fromEntries(this.acceleration.describeFunctions().map((fn) => [/host (\S+)\)/.exec(fn.name)![1], fn.table]));
  }
}

export { MEMORY_OK };
