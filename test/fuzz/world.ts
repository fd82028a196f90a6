/**
 * Two machines on one simulated host that share physical SMMUs. One does what a random guest does; the other
 * is an honest witness. Beside them lies memory that belongs to nobody. Every DMA request that leaves an SMMU,
 * every attachment and every host call is watched.
 */
import { expect } from "vitest";
import { checkTransfer, Kernel, makeBuffers, fillBuffers, Random as GuestRandom, type Buffers, type Device } from "../../src/guest/index.js";
import { createSimulatedHost, loadHostDescription, type SimulatedHost } from "../../src/host/simulated/index.js";
import { HostObserver, observeHost, type Host, type VfioDevice } from "../../src/iommufd/index.js";
import { Machine, parseArguments, splitWords } from "../../src/machine/index.js";
import type { RamBlock } from "../../src/memory/index.js";
import { Log } from "../../src/support/index.js";
import { readFileSync } from "node:fs";
import { guestEntry, hostEntry, passedThrough, wantedTable } from "./intent.js";

export interface WorldSpec {
  readonly name: string;
  readonly host: string;
  /** The command line of the fuzzed machine. */
  readonly line: string;
  /** Of the witness, whose functions are behind the same physical SMMUs. */
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
  readonly observer = new HostObserver();
  readonly log = new Log();
  readonly machine: Machine;
  readonly loads: Loads = { count: 0 };
  private readonly witness: Machine;
  private readonly canaries: Array<{ block: RamBlock; pattern: number }> = [];
  /** What was seen that must not be. */
  readonly violations: string[] = [];
  /** Requests of functions that an SMMU let through, and writes among them. */
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
    const doorbell = Math.floor(hardware.msiDoorbell / 4096);
    const check = (machine: Machine | null, hpa: number, length: number, what: string): void => {
      this.requests++;
      const inside = machine !== null && machine.board.ram.some(({ block }) => hpa >= block.hostAddress && hpa + length <= block.hostAddress + block.size);
      if (!inside && Math.floor(hpa / 4096) !== doorbell) {
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
    const openDevice = (address: string): VfioDevice => {
      const device = host.openDevice(address);
      let parent: number | null = null;
      return new Proxy(device, {
        get: (target, property) => {
          if (property === "attach") {
            return (ptId: number, pasid?: number): void => {
              target.attach(ptId, pasid);
              if (parent === null) {
                parent = ptId;
              } else if (ptId === parent) {
                this.toParent.push(address);
                if ((this.host.hardware.functions.get(address)!.configRead(4, 2) & 4) !== 0) {
                  this.violations.push(`${address} went to its parent with its bus mastering on`);
                }
              } else {
                this.attached(address);
              }
            };
          }
          if (property === "detach") {
            return (pasid?: number): void => {
              this.violations.push(`${address} was detached`);
              target.detach(pasid);
            };
          }
          const value: unknown = Reflect.get(target, property, target);
          return typeof value === "function" ? (value.bind(target) as unknown) : value;
        },
      });
    };
    return {
      description: host.description,
      allocateMemory: (name, bytes) => host.allocateMemory(name, bytes),
      freeMemory: (block) => host.freeMemory(block),
      openIommufd: () => host.openIommufd(),
      openDevice,
      functions: () => host.functions(),
      liveObjects: () => host.liveObjects(),
      close: () => host.close(),
    };
  }

  /** A function has just been given another table: no more than its guest asks for at this moment. */
  private attached(address: string): void {
    const { table } = hostEntry(this.host, address);
    if (table === "abort") {
      return;
    }
    const machine = this.machine as Machine | undefined;
    const one = machine === undefined ? undefined : passedThrough(machine).find((candidate) => candidate.address === address);
    if (one === undefined || one.smmu === null) {
      return;
    }
    const wanted = wantedTable(this.machine, one.smmu, one.fn);
    if (wanted !== table) {
      this.violations.push(`${one.fn.label} was attached to a ${table} table, its guest asks for ${wanted}`);
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
    // A command: two loads; a configuration command also the STE of each function, twice, with its descriptor.
    const most = 20_000 + fetched * (4 + 20 * functions);
    if (loads > most) {
      this.violations.push(`${loads} loads with ${fetched} commands`);
    }
    const mostCalls = 64 + (fetched + 1) * 10 * (functions + 1);
    if (observer.total() - calls > mostCalls) {
      this.violations.push(`${observer.total() - calls} host calls with ${fetched} commands`);
    }
    if (this.violations.length > 0) {
      throw new Error(`${this.violations.slice(0, 4).join("\n")}\nafter ${what()}`);
    }
  }

  private fetches(): number {
    return this.machine.board.smmus.all.reduce((sum, smmu) => sum + smmu.device.commands.fetches, 0);
  }

  /** A CMD_CFGI_ALL of the SMMU at `base` has been done: nobody has more, or something else, than its entry says. */
  checkEntries(base: number): void {
    const { machine, host, violations } = this;
    for (const { fn, address, smmu } of passedThrough(machine)) {
      if (smmu !== null && smmu.base === base) {
        const wanted = wantedTable(machine, smmu, fn);
        const have = hostEntry(host, address);
        if (have.table !== "abort" && have.table !== wanted) {
          violations.push(`${fn.label} is on a ${have.table} table, after CMD_CFGI_ALL its entry asks for ${wanted}`);
        }
        const entry = guestEntry(machine, smmu, fn);
        if (have.table === "nested" && entry !== null && have.contexts !== (entry[0] & 0x000f_ffff_ffff_ffc0n)) {
          violations.push(`${fn.label} has context descriptors at 0x${have.contexts.toString(16)}, after CMD_CFGI_ALL its entry says 0x${entry[0].toString(16)}`);
        }
      }
    }
  }

  private checkTables(): void {
    const { machine, host, violations } = this;
    for (const { fn, address, smmu } of passedThrough(machine)) {
      const have = hostEntry(host, address);
      if (smmu === null) {
        // The kernel's own tables, by stage 1: nothing of the guest's is in its way.
        if (have.config !== 5) {
          violations.push(`${fn.label}: a host entry of Config ${have.config}`);
        }
        continue;
      }
      if (have.config !== 0 && have.config < 6) {
        violations.push(`${fn.label}: a host entry of Config ${have.config}, without stage 2`);
      }
      const believed = smmu.acceleration!.describeFunctions().find((one) => one.name.includes(address))?.table;
      if (believed !== have.table) {
        violations.push(`${fn.label} is on a ${have.table} table, the machine believes ${believed ?? "nothing"}`);
      }
      if (this.spec.failing !== true) {
        if (this.toParent.includes(address)) {
          violations.push(`${fn.label} went to its parent while it was plugged`);
        }
        if (!smmu.device.translationEnabled && have.table !== (smmu.device.globalBypassAborts ? "abort" : "bypass")) {
          violations.push(`${fn.label} is on a ${have.table} table with SMMUEN=0`);
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
    const plugged = passedThrough(machine);
    const both = [...plugged, ...passedThrough(this.witness)];
    const smmus = [...machine.board.smmus.all, ...this.witness.board.smmus.all].filter((smmu) => smmu.acceleration !== null);
    const serving = smmus.filter((smmu) => both.some((one) => one.smmu === smmu));
    const described = smmus.flatMap((smmu) => smmu.acceleration!.describeFunctions());
    const parents = new Set(both.map((one) => `${plugged.includes(one) ? "a" : "b"} ${host.hardware.functions.get(one.address)!.smmu!.name} ${one.smmu === null}`));
    const expected = {
      iommufd: (plugged.length > 0 ? 1 : 0) + 1,
      device: both.length,
      ioas: new Set(both.map((one) => `${plugged.includes(one) ? "a" : "b"} ${one.smmu === null}`)).size,
      "hwpt-paging": parents.size,
      viommu: serving.length,
      "hwpt-nested": 2 * serving.length + described.filter((one) => one.table === "nested").length,
      vdevice: described.filter((one) => one.vdeviceId !== null).length,
      veventq: serving.filter((smmu) => smmu.device.eventQueueEnabled).length,
    };
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
    expect(kernel.smmus.flatMap((smmu) => [...smmu.globalErrors, ...smmu.commands.errors])).toEqual([]);
    this.running = null;
    expect(this.violations).toEqual([]);
  }

  /** The witness's DMA needs no walk: nobody has taken its translations from the TLB. */
  async checkWitnessTlb(disturb: () => void): Promise<void> {
    const { device } = this.honest;
    const host = passedThrough(this.witness).find((one) => one.fn.requesterId === device.fn.requesterId)!;
    const { counters } = this.host.hardware.functions.get(host.address)!.smmu!;
    await this.checkWitness();
    const walks = counters.walks;
    disturb();
    await this.checkWitness();
    expect(counters.walks - walks, "walks of the witness after another machine's invalidations").toBe(0);
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
    for (const account of this.host.kernel.smmuAccounts()) {
      expect([account.vmids, account.asids]).toEqual([0, 0]);
    }
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

/** An honest guest up to enumerated buses and enabled SMMUs. */
export async function bootKernel(machine: Machine): Promise<Kernel> {
  const kernel = new Kernel(machine.port(), { granule: 12, firmware: "dt" });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  return kernel;
}
