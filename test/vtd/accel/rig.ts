/**
 * A VT-d unit with passed-through functions on the simulated host, driven through registers, queue and tables as
 * a guest does it: root ports on pcie.0, vfio-pci functions in them, and hand-written tables in RAM.
 */
import { createSimulatedHost, describeHost, type HardwareFunction, type HostDescriptionInput, type SimulatedHost } from "../../../src/host/simulated/index.js";
import { HostObserver, observeHost } from "../../../src/host/instruments/index.js";
import { type Host, type HwptAllocRequest, type InvalidateRequest, type Iommufd, type VfioDevice } from "../../../src/iommufd/index.js";
import { AddressSpace, MemoryRegion, type RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import { PcieRootPort, PciRoot, plugFunction, setupIommu, unplugFunction } from "../../../src/pci/index.js";
import { Log } from "../../../src/support/index.js";
import { ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { IommufdContext, VfioPci } from "../../../src/vfio/index.js";
import { VtdAcceleration, VtdDevice, VtdIommuOps, type VtdProperties } from "../../../src/vtd/index.js";
import { R, SRTP, TE } from "../rig.js";

export type VtdInput = NonNullable<HostDescriptionInput["vtds"]>[number];
export type FunctionInput = HostDescriptionInput["functions"][number];

/** Two functions behind dmar0, one behind dmar1. */
export const [A, B, C] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"];
export const HOST_FUNCTIONS = [A, B, C];

const UNIT = {
  base: 0xfed9_0000,
  numaNode: 0,
  segment: 0,
  sagaw: [48, 57],
  secondStagePages: ["2M", "1G"],
  coherentWalks: true,
  snoopControl: true,
  deviceTlb: true,
  scalableMode: true,
  scalableCoherentWalks: true,
  secondStage: true,
  firstStage: true,
  firstStage1g: true,
  firstStage5Level: true,
  nesting: true,
  supervisor: true,
  pasidBits: 20,
};

export function hostDescription(first: Partial<VtdInput> = {}, second: Partial<VtdInput> = {}, fn: Partial<FunctionInput> = {}): HostDescriptionInput {
  return {
    name: "test",
    memory: [{ numaNode: 0, base: 0x1_0000_0000, size: "1G" }],
    vtds: [
      { name: "dmar0", ...UNIT, ...first },
      { name: "dmar1", ...UNIT, base: 0xfeda_0000, ...second },
    ],
    functions: HOST_FUNCTIONS.map((address, i) => ({
      address,
      name: `function ${i}`,
      vtd: i < 2 ? "dmar0" : "dmar1",
      vendor: 0x1b36,
      device: 0x10,
      class: 0x010802,
      bars: [{ index: 0, size: "64K" as const }],
      msixVectors: 4,
      ats: true,
      pasidBits: 20,
      ...fn,
    })),
  } as HostDescriptionInput;
}

export const RAM_BYTES = 0x200_0000;
const ROM = 0xfffc_0000;
const ROOT = 0x10_0000;
const CONTEXTS = 0x11_0000;
const DIRECTORIES = 0x20_0000;
const TARGETS = 0x40_0000;
const TABLES = 0x80_0000;
const PASID_TABLES = 0x100_0000;
const QUEUE = 0x1f_0000;
export const STATUS = 0x1e_0000;
/** An IOVA that every table maps, each to a page of its own; no RAM is there. */
export const IOVA = 0x1_2345_6000n;
export const CANARY = 0x5000;

export const FIRST_STAGE: Partial<VtdProperties> = { scalableMode: true, fsts: true, pasidBits: 20, cachingMode: true };
export const SHADOWED: Partial<VtdProperties> = { cachingMode: true };

export class Board {
  readonly host: SimulatedHost;
  readonly observer = new HostObserver();
  readonly observed: Host;
  readonly log = new Log();
  readonly ram: RamBlock;
  readonly words = new RamWordMemory();
  /** RAM as 64-bit words. */
  readonly quads: BigUint64Array;
  readonly system: MemoryRegion;
  readonly space: AddressSpace;
  readonly pci: PciRoot;
  readonly ports: PcieRootPort[] = [];
  readonly contexts: IommufdContext[];
  readonly vtd: VtdDevice;
  readonly acceleration: VtdAcceleration;
  readonly ops: VtdIommuOps;
  readonly messages: number[] = [];
  readonly functions = new Map<string, VfioPci>();
  /** Of every call since: `alloc FLAGS:ADDRESS:WIDTH`, `attach NAME HWPT`, `invalidate HWPT: ADDR+NPAGES...`, `destroy`. */
  readonly calls: string[] = [];
  /** What the unit has left for later. */
  private readonly scheduled: Array<() => void> = [];
  private tail = 0;
  private tables = 0;
  private pasidTables = 0;

  /** @param stepsAtOnce of bounded work; undefined: as the device has it */
  constructor(properties: Partial<VtdProperties> = FIRST_STAGE, description: HostDescriptionInput = hostDescription(), stepsAtOnce?: number) {
    this.host = createSimulatedHost(describeHost(description), { later: (task) => task() });
    this.observed = observeHost(recordArguments(this.host, this.calls), this.observer);
    this.ram = this.observed.allocateMemory("ram", RAM_BYTES);
    this.quads = new BigUint64Array(this.ram.byteWindow(0).buffer);
    this.words.place(0, this.ram);
    this.system = MemoryRegion.container("system", 2 ** 48);
    this.system.add(0, MemoryRegion.ram("ram", this.ram));
    const rom = this.observed.allocateMemory("bios", 0x4_0000);
    this.system.add(ROM, MemoryRegion.rom("bios", rom));
    this.space = new AddressSpace("memory", this.system);
    this.pci = new PciRoot({ systemMemory: this.space });
    this.vtd = new VtdDevice({
      id: "iommu0",
      properties,
      memory: this.space,
      words: this.words,
      sendMessage: (_address, data) => void this.messages.push(data),
      log: this.log,
      scheduler: (work) => void this.scheduled.push(work),
      stepsAtOnce,
    });
    this.acceleration = this.vtd.backend = new VtdAcceleration(this.vtd, this.log);
    this.ops = new VtdIommuOps(this.vtd, this.acceleration);
    setupIommu(this.pci.bus, this.ops);
    this.contexts = ["iommufd0", "iommufd1"].map((id) => new IommufdContext(id, this.observed, this.log));
    for (let n = 0; n < 3; n++) {
      const port = new PcieRootPort({ id: `rp${n}`, chassis: n + 1, slot: n });
      plugFunction(port, this.pci.bus, 8 * (n + 1));
      this.ports.push(port);
      this.number(n, n + 1);
    }
  }

  number(port: number, bus: number): void {
    const { bdf } = this.ports[port];
    this.pci.configWrite(bdf, 0x18, 4, (bdf >> 8) | (bus << 8) | (bus << 16));
  }

  /** Functions are made with dirty tracking. */
  dirtyTracking = false;

  make(address: string, iommufd = 0): VfioPci {
    return new VfioPci({
      id: `dev${HOST_FUNCTIONS.indexOf(address)}`,
      hostAddress: address,
      iommufd: this.contexts[iommufd],
      ats: "auto",
      pasidCapabilityOffset: 0,
      dirtyTracking: this.dirtyTracking,
      host: this.observed,
      routing: { route: () => {}, remove: () => {}, batch: (change) => change(), addLevel: () => {}, removeLevel: () => {} },
      log: this.log,
    });
  }

  /** Plugs a host function into the root port of its index: bus 1, 2 or 3. Throws as the plug does. */
  plug(address: string, iommufd = 0, hotplugged = false): VfioPci {
    const fn = this.make(address, iommufd);
    plugFunction(fn, this.ports[HOST_FUNCTIONS.indexOf(address)].secondary, 0, { hotplugged });
    this.functions.set(address, fn);
    return fn;
  }

  unplug(address: string): void {
    const fn = this.functions.get(address)!;
    this.functions.delete(address);
    unplugFunction(fn);
  }

  close(): void {
    for (const address of [...this.functions.keys()]) {
      this.unplug(address);
    }
  }

  /** Source id of a function: its bus, device 0. */
  sid(address: string): number {
    return (HOST_FUNCTIONS.indexOf(address) + 1) << 8;
  }

  // ---- registers and queue ----

  read(offset: number): number {
    return Number(this.vtd.read(offset, 4));
  }

  read64(offset: number): bigint {
    return this.vtd.read(offset, 8);
  }

  command(bits: number): void {
    this.vtd.write(R.GCMD, 4, BigInt(((this.read(R.GSTS) & 0x9680_0000) | bits) >>> 0));
  }

  private get wide(): boolean {
    return this.vtd.properties.scalableMode;
  }

  /** Queued invalidation on, with an empty queue. */
  startQueue(): void {
    this.tail = 0;
    this.vtd.write(R.IQT, 8, 0n);
    this.vtd.write(R.IQA, 8, BigInt(QUEUE) | (this.wide ? 0x800n : 0n));
    this.command(0x0400_0000);
  }

  /** The root table in the mode, translation on. */
  start(scalable = this.vtd.properties.scalableMode): void {
    this.startQueue();
    this.setRoot(scalable);
    this.command(TE);
  }

  setRoot(scalable: boolean): void {
    this.vtd.write(R.RTADDR, 8, BigInt(ROOT) | (scalable ? 0x400n : 0n));
    this.command(SRTP);
  }

  stop(): void {
    this.vtd.write(R.GCMD, 4, BigInt((this.read(R.GSTS) & 0x1680_0000) >>> 0));
  }

  stopQueue(): void {
    this.vtd.write(R.GCMD, 4, BigInt((this.read(R.GSTS) & 0x9280_0000) >>> 0));
  }

  /** Queues descriptors of two 64-bit words without telling the unit. */
  queue(...descriptors: Array<readonly [bigint, bigint?]>): void {
    const bytes = this.wide ? 32 : 16;
    for (const [low, high] of descriptors) {
      this.store(QUEUE + this.tail * bytes, low, high ?? 0n, ...(this.wide ? [0n, 0n] : []));
      this.tail = (this.tail + 1) % (4096 / bytes);
    }
  }

  kick(): void {
    this.vtd.write(R.IQT, 8, BigInt(this.tail * (this.wide ? 32 : 16)));
  }

  run(...descriptors: Array<readonly [bigint, bigint?]>): void {
    this.queue(...descriptors);
    this.kick();
  }

  /** Runs what was left for later, to its end or `until`. Returns how many steps it took. */
  goOn(until: () => boolean = () => false): number {
    let steps = 0;
    for (; this.scheduled.length > 0 && !until(); steps++) {
      this.scheduled.shift()!();
    }
    return steps;
  }

  get head(): number {
    return this.read(R.IQH) / (this.wide ? 32 : 16);
  }

  // ---- tables in RAM ----

  store(address: number, ...values: bigint[]): void {
    this.quads.set(values, address / 8);
  }

  load(address: number): bigint {
    return this.quads[address / 8];
  }

  /** Four levels of tables that map IOVA to a page of their own. Returns their number; `bits` 7 for a first stage, 3 for a second. */
  table(bits = 7n): number {
    const n = this.tables++;
    this.map(n, IOVA, TARGETS + n * 0x1000, bits);
    return n;
  }

  map(n: number, iova: bigint, page: number, bits = 7n): void {
    const base = this.base(n);
    for (let level = 4; level >= 1; level--) {
      const table = base + (4 - level) * 0x1000;
      const index = Number((iova >> BigInt(3 + 9 * level)) & 0x1ffn);
      this.store(table + 8 * index, BigInt(level === 1 ? page : table + 0x1000) | (page === 0 && level === 1 ? 0n : bits));
    }
  }

  base(n: number): number {
    return TABLES + n * 0x4000;
  }

  target(n: number): number {
    return TARGETS + n * 0x1000;
  }

  /** A scalable-mode context entry with a PASID directory of 2^14 PASIDs of its own; `on` false takes it away. */
  context(address: string, on = true): void {
    const sid = this.sid(address);
    const table = CONTEXTS + (sid >> 8) * 0x1000;
    this.store(ROOT + (sid >> 8) * 16, BigInt(table) | 1n, 0n);
    this.store(table + 32 * (sid & 0x7f), on ? BigInt(this.directory(address)) | 1n | 8n | (1n << 9n) : 0n, 0n, 0n, 0n);
  }

  /** A legacy-mode context entry: domain, translation type, tables. */
  legacyContext(address: string, domain: number, type = 0n, n = 0): void {
    const sid = this.sid(address);
    const table = CONTEXTS + (sid >> 8) * 0x1000;
    this.store(ROOT + (sid >> 8) * 16, BigInt(table) | 1n, 0n);
    this.store(table + 16 * (sid & 0xff), BigInt(this.base(n)) | (type << 2n) | 1n, 2n | (BigInt(domain) << 8n));
  }

  private directory(address: string): number {
    return DIRECTORIES + HOST_FUNCTIONS.indexOf(address) * 0x1000;
  }

  /** Writes a PASID entry: its first three 64-bit words. */
  entry(address: string, pasid: number, words: readonly bigint[]): void {
    const slot = this.directory(address) + 8 * (pasid >> 6);
    if (this.load(slot) === 0n) {
      this.store(slot, BigInt(PASID_TABLES + 0x1000 * this.pasidTables++) | 1n);
    }
    const table = Number(this.load(slot) & ~0xfffn);
    this.store(table + 64 * (pasid & 63), words[0] ?? 0n, words[1] ?? 0n, words[2] ?? 0n, 0n, 0n, 0n, 0n, 0n);
  }

  /** First stage through table n. Flags: SRE 1, WPE 0x10, in the third word. */
  firstStage(n: number, domain: number, flags = 0n): readonly bigint[] {
    return [1n | (1n << 6n), BigInt(domain), BigInt(this.base(n)) | flags];
  }

  passThrough(domain: number): readonly bigint[] {
    return [1n | (4n << 6n), BigInt(domain), 0n];
  }

  // ---- what the hardware lets a function do ----

  hardware(address: string): HardwareFunction {
    return this.host.hardware.functions.get(address)!;
  }

  dmaWrite(address: string, iova: bigint, value: bigint, pasid = -1): boolean {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, value, true);
    return this.hardware(address).writeMemory(Number(BigInt.asIntN(32, iova >> 32n)), Number(BigInt.asIntN(32, iova)), data, pasid, ACCESS_WRITE, false);
  }

  private token = 1n;

  /** "bypass" (guest-physical addresses), "table N", "abort", or a mixture as such. */
  probe(address: string, pasid = -1): string {
    const token = (this.token += 0x1_0000_0001n);
    const found: string[] = [];
    const out = new Uint8Array(8);
    if (this.hardware(address).readMemory(0, CANARY, out, pasid, ACCESS_READ, false)) {
      found.push("bypass");
    }
    if (this.dmaWrite(address, IOVA, token, pasid)) {
      const hit = Array.from({ length: this.tables }, (_unused, n) => n).find((n) => this.load(TARGETS + n * 0x1000) === token);
      found.push(hit === undefined ? "nowhere known" : `table ${hit}`);
    }
    if (this.dmaWrite(address, BigInt(RAM_BYTES), token, pasid)) {
      found.push("outside RAM");
    }
    return found.length === 0 ? "abort" : found.join(" and ");
  }

  /** Objects on the host by type; sorted by type. */
  live(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { type } of this.host.liveObjects()) {
      counts[type] = (counts[type] ?? 0) + 1;
    }
    return counts;
  }

  /** The recorded calls, and forgets them. */
  taken(): string[] {
    return this.calls.splice(0);
  }
}

/** Descriptors. */
export const pasidCache = (domain: number, pasid: number): readonly [bigint] => [0x17n | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n)];
export const pasidCacheDomain = (domain: number): readonly [bigint] => [0x7n | (BigInt(domain) << 16n)];
export const pasidCacheGlobal: readonly [bigint] = [0x37n];
export const contextDevice = (sid: number): readonly [bigint] => [0x31n | (BigInt(sid) << 32n)];
export const contextGlobal: readonly [bigint] = [0x11n];
export const piotlbAll = (domain: number, pasid: number): readonly [bigint] => [0x26n | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n)];
export const piotlbPages = (domain: number, pasid: number, address: bigint, mask = 0n, leaf = false): readonly [bigint, bigint] => [
  0x36n | (BigInt(domain) << 16n) | (BigInt(pasid) << 32n),
  address | mask | (leaf ? 0x40n : 0n),
];
export const iotlbDomain = (domain: number): readonly [bigint] => [0x22n | (BigInt(domain) << 16n)];
export const iotlbPages = (domain: number, address: bigint, mask = 0n): readonly [bigint, bigint] => [0x32n | (BigInt(domain) << 16n), address | mask];
export const iotlbGlobal: readonly [bigint] = [0x12n];
export const wait = (data: number): readonly [bigint, bigint] => [0x25n | (BigInt(data) << 32n), BigInt(STATUS)];

/** `target`, with every method followed by `after`, which gets its name, arguments and result, and may put another result in its place. */
function followed<T extends object>(target: T, after: (name: string, args: unknown[], result: unknown) => unknown): T {
  return new Proxy(target, {
    get(object, property) {
      const value = Reflect.get(object, property, object) as unknown;
      return typeof value === "function" ? (...args: unknown[]): unknown => after(String(property), args, Reflect.apply(value, object, args)) : value;
    },
  });
}

/** A host that writes down what tables are made of, and what is attached and invalidated. */
function recordArguments(host: Host, calls: string[]): Host {
  const iommufd = (name: string, args: unknown[], result: unknown): unknown => {
    if (name === "hwptAlloc") {
      const { data, flags, ptId } = args[0] as HwptAllocRequest;
      const view = new DataView(data.buffer, data.byteOffset);
      const made = data.length === 0 ? "" : `: ${view.getBigUint64(0, true)} ${view.getBigUint64(8, true).toString(16)} ${view.getUint32(16, true)}`;
      calls.push(data.length === 0 ? `alloc ${String(result)} flags ${flags}` : `nest ${String(result)} on ${ptId} flags ${flags}${made}`);
    } else if (name === "hwptInvalidate") {
      const request = args[0] as InvalidateRequest;
      const view = new DataView(request.data.buffer, request.data.byteOffset);
      const entries = Array.from({ length: request.entryCount }, (_unused, i) => {
        const pages = view.getBigUint64(24 * i + 8, true);
        return `${view.getBigUint64(24 * i, true).toString(16)}+${pages === 2n ** 64n - 1n ? "all" : pages}${view.getUint32(24 * i + 16, true) === 1 ? " leaf" : ""}`;
      });
      calls.push(`invalidate ${request.hwptId}: ${entries.join(", ")}`);
    } else if (name === "destroy") {
      calls.push(`destroy ${String(args[0])}`);
    }
    return result;
  };
  return followed(host, (name, args, result) => {
    if (name === "openIommufd") {
      return followed(result as Iommufd, iommufd);
    }
    if (name !== "openDevice") {
      return result;
    }
    return followed(result as VfioDevice, (method, [first, second], answer) => {
      const pasid = method === "attach" ? second : first;
      const suffix = pasid === undefined ? "" : ` pasid ${String(pasid)}`;
      if (method === "attach") {
        calls.push(`attach ${String(args[0])} ${String(first)}${suffix}`);
      } else if (method === "detach") {
        calls.push(`detach ${String(args[0])}${suffix}`);
      }
      return answer;
    });
  });
}
