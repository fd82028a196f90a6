/**
 * Two machines on one simulated host that share physical IOMMUs. One does what a random guest does; the other
 * is an honest witness. Beside them lies memory that belongs to nobody. Every DMA request that leaves an IOMMU,
 * every attachment and every host call is watched.
 */
import { expect } from "vitest";
import { checkTransfer, Kernel, makeBuffers, fillBuffers, Random as GuestRandom, type Buffers, type Device } from "../../src/guest/index.js";
import { createSimulatedHost, loadHostDescription, type SimulatedHost } from "../../src/host/simulated/index.js";
import { ForwardingDevice, ForwardingHost, HostObserver, observeHost } from "../../src/host/instruments/index.js";
import { type Host, type VfioDevice } from "../../src/iommufd/index.js";
import { parseArguments, splitWords } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import type { MachineIommu } from "../../src/machine/board.js";
import type { RamBlock } from "../../src/memory/index.js";
import { Log } from "../../src/support/index.js";
import { readFileSync } from "node:fs";
import { architectureOf } from "./architecture.js";
import { type Architecture, passedThrough, type PassedThrough } from "./intent.js";

export interface WorldSpec {
  readonly name: string;
  readonly host: string;
  /** The command line of the fuzzed machine. */
  readonly line: string;
  /** Of the witness, whose functions are behind the same physical IOMMUs. */
  readonly witness: string;
  /** Host calls fail at random. */
  readonly failing?: boolean;
}

const CANARY_BYTES = 0x1_0000;

/** Loads of double words that the vIOMMUs of the fuzzed machine make in its RAM. */
interface Loads {
  count: number;
}

export class World {
  readonly host: SimulatedHost;
  readonly architecture: Architecture;
  readonly observer = new HostObserver();
  readonly log = new Log();
  readonly machine: Machine;
  readonly loads: Loads = { count: 0 };
  private readonly witness: Machine;
  private readonly canaries: Array<{ block: RamBlock; pattern: number }> = [];
  /** What was seen that must not be. */
  readonly violations: string[] = [];
  /** Requests of functions that an IOMMU let through, and writes among them. */
  requests = 0;
  private running: Machine | null = null;
  /** Pieces of the kernel's table memory that there were before the machines. */
  private readonly pagesBefore: number;
  /** Functions of the fuzzed machine that went to their parent since the last look. */
  private toParent: string[] = [];
  private honest!: { kernel: Kernel; device: Device; buffers: Buffers; source: bigint; destination: bigint; random: GuestRandom };

  private constructor(readonly spec: WorldSpec) {
    const url = new URL(`../../hosts/${spec.host}.json`, import.meta.url);
    this.host = createSimulatedHost(loadHostDescription(readFileSync(url, "utf8"), `${spec.host}.json`));
    this.architecture = architectureOf(this.host);
    this.pagesBefore = this.host.hardware.memory.livePages;
    this.placeCanary(0x11);
    const watched = observeHost(this.watchAttachments(this.host), this.observer);
    this.machine = new Machine(parseArguments(splitWords(spec.line, "fuzzed")), watched, this.log);
    this.machine.start();
    this.placeCanary(0x5a);
    this.witness = new Machine(parseArguments(splitWords(spec.witness, "witness")), this.host, new Log());
    this.witness.start();
    this.placeCanary(0xc3);
    this.watchDma();
    this.countLoads();
  }

  static async make(spec: WorldSpec): Promise<World> {
    const world = new World(spec);
    await world.bootWitness();
    return world;
  }

  // ---- what is watched ----

  private placeCanary(pattern: number): void {
    const block = this.host.allocateMemory("canary", CANARY_BYTES);
    block.byteWindow(0).fill(pattern);
    this.canaries.push({ block, pattern });
  }

  /** Every request beyond an SMMU goes to RAM of the machine that has the function, or to the doorbell. */
  private watchDma(): void {
    const { hardware } = this.host;
    const check = (machine: Machine | null, hpa: number, length: number, what: string): void => {
      this.requests++;
      const inside = machine !== null && machine.board.ram.some(({ block }) => hpa >= block.hostAddress && hpa + length <= block.hostAddress + block.size);
      if (!inside && !this.architecture.isMessage(this.host, hpa) && !(machine !== null && this.ownRegisters(machine, hpa, length))) {
        this.violations.push(`a ${what} of ${length} bytes reached 0x${hpa.toString(16)}, outside of the machine's memory`);
      }
    };
    const read = hardware.read.bind(hardware);
    const write = hardware.write.bind(hardware);
    hardware.read = (hpa, out) => {
      check(this.running, hpa, out.length, "read");
      return read(hpa, out);
    };
    hardware.write = (source, hpa, data) => {
      check(this.ownerOf(source.description.address), hpa, data.length, "write");
      return write(source, hpa, data);
    };
  }

  /** Registers of functions that the machine has: its functions may reach each other's. */
  private ownRegisters(machine: Machine, hpa: number, length: number): boolean {
    const { hardware } = this.host;
    return passedThrough(machine).some(({ address }) =>
      [0, 1, 2, 3, 4, 5].some((index) => {
        const base = hardware.barAddress(address, index);
        return base !== null && hpa >= base && hpa + length <= base + hardware.functions.get(address)!.regionInfo(index).size;
      }),
    );
  }

  private ownerOf(address: string): Machine | null {
    return [this.machine, this.witness].find((machine) => passedThrough(machine).some((one) => one.address === address)) ?? null;
  }

  /** The vIOMMUs read RAM through one object; without its flat part every load is seen. */
  private countLoads(): void {
    const { words } = this.machine.board;
    const { loads } = this;
    const load64 = words.load64.bind(words);
    words.flat = new Int32Array(0);
    words.flatBytes = 0;
    words.load64 = (high, low) => {
      loads.count++;
      return load64(high, low);
    };
  }

  private watchAttachments(host: Host): Host {
    const noteAttach = (address: string, isParent: boolean, isFirst: boolean, pasid: number | undefined): void => {
      if (isFirst) {
        this.architecture.noteParent(this.host, address);
      } else if (pasid !== undefined) {
        this.attachedPasid(address, pasid);
      } else if (isParent) {
        this.wentToParent(address);
      } else {
        this.attached(address);
      }
    };
    const noteDetach = (address: string): void => {
      if (!this.architecture.detaches) {
        this.violations.push(`${address} was detached`);
      }
    };
    class WatchedDevice extends ForwardingDevice {
      private parent: number | null = null;

      override attach(ptId: number, pasid?: number): void {
        super.attach(ptId, pasid);
        const isFirst = this.parent === null;
        this.parent ??= ptId;
        noteAttach(this.address, ptId === this.parent, isFirst, pasid);
      }

      override detach(pasid?: number): void {
        noteDetach(this.address);
        super.detach(pasid);
      }
    }
    class WatchedHost extends ForwardingHost {
      protected override wrapDevice(device: VfioDevice): VfioDevice {
        return new WatchedDevice(device);
      }
    }
    return new WatchedHost(host);
  }

  private pluggedAt(address: string): PassedThrough | undefined {
    const machine = this.machine as Machine | undefined;
    const one = machine === undefined ? undefined : passedThrough(machine).find((candidate) => candidate.address === address);
    return one?.guarded === true ? one : undefined;
  }

  /** It has all of the machine's memory now: because its guest asks for that, or on its way out, and then it is still. */
  private wentToParent(address: string): void {
    const one = this.pluggedAt(address);
    if (one !== undefined && this.architecture.wanted(this.machine, one.fn) === "bypass") {
      return;
    }
    this.toParent.push(address);
    if ((this.host.hardware.functions.get(address)!.configRead(4, 2) & 4) !== 0) {
      this.violations.push(`${address} went to its parent with its bus mastering on`);
    }
  }

  /** A function has just been given another table: no more than its guest asks for at this moment. */
  private attached(address: string): void {
    const { table } = this.architecture.host(this.host, address);
    const one = this.pluggedAt(address);
    if (table === "abort" || one === undefined) {
      return;
    }
    const wanted = this.architecture.wanted(this.machine, one.fn);
    if (wanted !== table) {
      this.violations.push(`${one.fn.label} was attached to a ${table} table, its guest asks for ${wanted}`);
    }
  }

  private attachedPasid(address: string, pasid: number): void {
    const have = this.architecture.hostPasids(this.host, address).get(pasid);
    const one = this.pluggedAt(address);
    if (have !== undefined && one !== undefined) {
      const wanted = this.architecture.wantedPasid(this.machine, one.fn, pasid);
      if (wanted.table !== have.table || (have.table === "nested" && wanted.pointer !== have.pointer)) {
        this.violations.push(`PASID ${pasid} of ${one.fn.label} was attached to a ${have.table} table, its guest asks for ${wanted.table}`);
      }
    }
  }

  // ---- what is checked ----

  /** Runs one operation of the random guest and checks what can be checked each time. `what` is for the message. */
  operation(what: () => string, body: () => void): void {
    const { machine, observer } = this;
    const fetches = this.fetches();
    const calls = observer.total();
    this.loads.count = 0;
    this.running = machine;
    try {
      body();
    } catch (error) {
      this.violations.push(`threw ${error instanceof Error ? (error.stack ?? error.message).split("\n").slice(0, 8).join("\n") : String(error)}`);
    }
    const fetched = this.fetches() - fetches;
    const loads = this.loads.count;
    this.checkTables();
    this.toParent = [];
    const functions = passedThrough(machine).length;
    const most = this.architecture.bounds(machine, fetched, functions);
    if (loads > most.loads) {
      this.violations.push(`${loads} loads with ${fetched} commands`);
    }
    if (observer.total() - calls > most.calls) {
      this.violations.push(`${observer.total() - calls} host calls with ${fetched} commands`);
    }
    if (this.violations.length > 0) {
      throw new Error(`${this.violations.slice(0, 4).join("\n")}\nafter ${what()}`);
    }
  }

  private fetches(): number {
    return this.architecture.fetches(this.machine);
  }

  /** Everything that was cached of an IOMMU's tables has been invalidated: nobody has more, or something else, than its entry says. */
  checkEntries(iommu: MachineIommu): void {
    const { machine, host, violations, architecture } = this;
    for (const { fn, address } of passedThrough(machine)) {
      if (machine.board.iommuOf(fn) !== iommu) {
        continue;
      }
      const wanted = architecture.wanted(machine, fn);
      const have = architecture.host(host, address);
      if (have.table !== "abort" && have.table !== wanted) {
        violations.push(`${fn.label} is on a ${have.table} table, after the invalidation of all its entry asks for ${wanted}`);
      }
      const pointer = architecture.wantedPointer(machine, fn);
      if (have.table === "nested" && pointer !== null && have.pointer !== pointer) {
        violations.push(`${fn.label} has tables at 0x${have.pointer.toString(16)}, after the invalidation of all its entry says 0x${pointer.toString(16)}`);
      }
      for (const [pasid, { table, pointer: at }] of architecture.hostPasids(host, address)) {
        const entry = architecture.wantedPasid(machine, fn, pasid);
        if (table !== entry.table || (table === "nested" && at !== entry.pointer)) {
          violations.push(`PASID ${pasid} of ${fn.label} is on a ${table} table, after the invalidation of all its entry asks for ${entry.table}`);
        }
      }
    }
  }

  /** An honest guest has just given every function tables of its own: each is on them, and none is blocked. */
  checkHonest(): void {
    for (const { fn, address, guarded } of passedThrough(this.machine)) {
      const { table, pointer } = this.architecture.host(this.host, address);
      if (guarded) {
        const wanted = this.architecture.wanted(this.machine, fn);
        expect([fn.label, table, table === "nested" ? pointer : null]).toEqual([fn.label, wanted, wanted === "nested" ? this.architecture.wantedPointer(this.machine, fn) : null]);
        expect(table, fn.label).not.toBe("abort");
      }
    }
  }

  private checkTables(): void {
    const { machine, host, violations, architecture } = this;
    for (const { fn, address, guarded } of passedThrough(machine)) {
      const have = architecture.host(host, address);
      if (!have.confined) {
        violations.push(`${fn.label}: the host's entry, ${have.words}, lets it beyond the machine`);
      }
      if (!guarded) {
        // The kernel's own tables: nothing of the guest's is in its way.
        if (have.table !== "bypass" && have.table !== "shadow") {
          violations.push(`${fn.label} is on a ${have.table} table`);
        }
        continue;
      }
      const believed = architecture.believed(machine, fn);
      if (believed !== have.table) {
        violations.push(`${fn.label} is on a ${have.table} table, the machine believes ${believed ?? "nothing"}`);
      }
      for (const [pasid, { confined, words }] of architecture.hostPasids(host, address)) {
        if (!confined) {
          violations.push(`PASID ${pasid} of ${fn.label}: the host's entry, ${words}, lets it beyond the machine`);
        }
      }
      if (this.spec.failing !== true) {
        if (this.toParent.includes(address)) {
          violations.push(`${fn.label} went to its parent while it was plugged`);
        }
        const idle = architecture.withoutTranslation(machine, fn);
        if (idle !== null && have.table !== idle) {
          violations.push(`${fn.label} is on a ${have.table} table with translation off`);
        }
      }
    }
  }

  /** Objects in the kernel are those that the machine has reason to have, and nobody's memory has changed. */
  checkObjects(): void {
    const { machine, host } = this;
    for (const { block, pattern } of this.canaries) {
      expect(block.byteWindow(0).every((byte) => byte === pattern), "memory that belongs to nobody").toBe(true);
    }
    if (this.spec.failing === true) {
      return;
    }
    const machines = [machine, this.witness];
    const plugged = machines.flatMap((one, n) => passedThrough(one).map(({ fn }) => `${n} ${fn.passthrough!.iommufd ?? ""}`));
    const expected: Record<string, number> = { iommufd: new Set(plugged).size, device: plugged.length, ...this.architecture.expectedObjects(machines, host) };
    const found: Record<string, number> = Object.fromEntries(Object.keys(expected).map((type) => [type, 0]));
    for (const { type } of host.liveObjects()) {
      found[type] = (found[type] ?? 0) + 1;
    }
    expect(found).toEqual(expected);
  }

  // ---- the witness ----

  private async bootWitness(): Promise<void> {
    this.running = this.witness;
    const kernel = await bootKernel(this.witness);
    const device = kernel.devices.find((candidate) => candidate.dma !== null && candidate.master !== null)!;
    const domain = await kernel.useOwnDomain(device);
    const random = new GuestRandom(99);
    const buffers = await makeBuffers(kernel, random, 8192);
    const source = await domain.mapBuffer(buffers.source, 8192, { read: true });
    const destination = await domain.mapBuffer(buffers.destination, 8192, { read: true, write: true });
    this.honest = { kernel, device, buffers, source, destination, random };
    this.running = null;
  }

  /** The witness's function moves data through its own tables, and nothing came to the witness that it did not cause. */
  async checkWitness(): Promise<void> {
    const { kernel, device, buffers, source, destination, random } = this.honest;
    this.running = this.witness;
    await fillBuffers(kernel, buffers, random);
    await checkTransfer(kernel, device.dma!, buffers, { source, destination, length: 4096 + random.below(4096) });
    await kernel.interrupts.poll();
    expect(kernel.events).toEqual([]);
    expect(kernel.interrupts.unexpected).toEqual([]);
    expect(kernel.iommus.flatMap((iommu) => iommu.complaints())).toEqual([]);
    this.running = null;
    expect(this.violations).toEqual([]);
  }

  /** The witness's DMA needs no walk: nobody has taken its translations from the TLB. */
  async checkWitnessTlb(disturb: () => void): Promise<void> {
    const { device } = this.honest;
    const { address } = passedThrough(this.witness).find((one) => one.fn.requesterId === device.fn.requesterId)!;
    const walked = (): number => this.architecture.walks(this.host, address);
    await this.checkWitness();
    const walks = walked();
    disturb();
    await this.checkWitness();
    expect(walked() - walks, "walks of the witness after another machine's invalidations").toBe(0);
  }

  /** Takes both machines apart: nothing is left. */
  end(): void {
    this.observer.clearFailures();
    this.machine.shutdown();
    expect(this.host.liveObjects().length).toBeGreaterThan(0);
    this.witness.shutdown();
    expect(this.host.liveObjects()).toEqual([]);
    if (this.spec.failing !== true) {
      expect(this.observer.created).toBe(this.observer.freed);
    }
    for (const { block, pattern } of this.canaries) {
      expect(block.byteWindow(0).every((byte) => byte === pattern), "memory that belongs to nobody").toBe(true);
      this.host.freeMemory(block);
    }
    expect(this.host.hardware.memory.liveBlocks).toBe(0);
    expect(this.host.hardware.memory.livePages, "table memory of the kernel").toBe(this.pagesBefore);
    expect(this.architecture.tagsInUse(this.host), "tags and domain ids in use").toBe(0);
    this.host.close();
    expect(this.log.lines.length, "lines of the log").toBeLessThan(2000);
  }

  /** Sets which machine's functions do DMA in what follows. */
  async as<T>(machine: Machine, body: () => Promise<T>): Promise<T> {
    this.running = machine;
    try {
      return await body();
    } finally {
      this.running = null;
    }
  }
}

/** An honest guest up to enumerated buses and enabled IOMMUs. */
export async function bootKernel(machine: Machine): Promise<Kernel> {
  const kernel = new Kernel(machine.port(), { granule: 12, firmware: machine.board.kind === "q35" ? "acpi" : "dt" });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  return kernel;
}
