/**
 * Whole runs of the linux guest with one host call that fails: which calls there are, one run with one of
 * them refused, and what has to hold afterwards.
 */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { linux, type GuestReport, type VtdChoice } from "../../src/guest/index.js";
import { createSimulatedHost, ENGINE, loadHostDescription, type HostDescription, type SimulatedHost } from "../../src/host/simulated/index.js";
import { ForwardingDevice, ForwardingHost, HostObserver, observeHost } from "../../src/host/instruments/index.js";
import { type Errno, type Host, type VfioDevice } from "../../src/iommufd/index.js";
import { parseArguments, splitWords } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import type { MachineOperator, MachinePort } from "../../src/port/index.js";
import { Log, Refusal } from "../../src/support/index.js";
import { architectureOf } from "../fuzz/architecture.js";
import { type Architecture, passedThrough } from "../fuzz/intent.js";

export interface Spec {
  readonly name: string;
  readonly host: string;
  readonly line: string;
  /** What kernels choose that start without a reset, one after the other; left out: one, the same. */
  readonly kexecs?: readonly VtdChoice[];
}

export interface Plan {
  readonly operation: string;
  readonly nth: number;
  readonly errno: Errno;
  /** Entries of a HWPT_INVALIDATE that are done before it fails. */
  readonly handled?: number;
  /** How many calls in a row fail; default 1. "all": every one from then on, to the end. */
  readonly times?: number | "all";
}

/** A call of the clean run: its name, its number among those of that name, and the phase and step that it came in. */
export interface Call {
  readonly operation: string;
  readonly nth: number;
  phase: string;
  step: string;
}

/** Phases of a machine's life by the first words of the guest's steps. */
function phaseOf(step: string): string {
  if (step.startsWith("second boot")) {
    return "boot after a reset";
  }
  if (/^kexec \d/.test(step)) {
    return "another kexec";
  }
  const phases: Record<string, string> = {
    build: "build",
    kexec: "kexec",
    shutdown: "shutdown",
    "system reset": "system reset",
    "unplug and plug": "hotplug",
    "firmware tables": "boot",
    "enable IOMMUs": "boot",
    "enumerate PCI": "boot",
    "identity DMA": "boot",
    "own tables": "reconfigure",
    messages: "boot",
  };
  return phases[step.split(":")[0]] ?? "steady";
}

/** The observed host, which tells when a function has been attached for the first time: to its parent. */
export function observeAll(simulated: Host, observer: HostObserver, openedOnParent: (address: string) => void = () => {}): Host {
  class WatchedDevice extends ForwardingDevice {
    private onParent = false;

    override attach(ptId: number, pasid?: number): void {
      super.attach(ptId, pasid);
      if (!this.onParent) {
        this.onParent = true;
        openedOnParent(this.address);
      }
    }
  }
  class WatchedHost extends ForwardingHost {
    protected override wrapDevice(device: VfioDevice): VfioDevice {
      return new WatchedDevice(device);
    }
  }
  return new WatchedHost(observeHost(simulated, observer));
}

/** What a port or an operator threw that is not theirs to throw. */
interface Thrown {
  readonly what: string;
  readonly error: unknown;
}

export class World {
  readonly simulated: SimulatedHost;
  readonly observer = new HostObserver(true);
  readonly log = new Log();
  readonly architecture: Architecture;
  readonly host: Host;
  machine: Machine | null = null;
  readonly thrown: Thrown[] = [];
  /** Refusals of device_add. */
  readonly refusals: Refusal[] = [];

  private readonly pagesBefore: number;

  constructor(readonly spec: Spec) {
    this.simulated = createSimulatedHost(description(spec.host));
    this.pagesBefore = this.simulated.hardware.memory.livePages;
    this.architecture = architectureOf(this.simulated);
    this.host = observeAll(this.simulated, this.observer, (address) => this.architecture.noteParent(this.simulated, address));
  }

  build(): Machine {
    const machine = new Machine(parseArguments(splitWords(this.spec.line, this.spec.name)), this.host, this.log);
    try {
      machine.start();
    } catch (error) {
      machine.shutdown();
      throw error;
    }
    this.machine = machine;
    return machine;
  }

  /** Boots once more, after a reset, with nothing refused: the machine goes on. */
  async recover(): Promise<GuestReport> {
    this.machine!.reset();
    return this.runLinux();
  }

  /** The machine's port; what it throws is kept. */
  port(): MachinePort {
    return this.guarded("port", this.machine!.port());
  }

  operator(): MachineOperator {
    return this.guarded("operator", this.machine!.operator());
  }

  private guarded<T extends object>(what: string, target: T): T {
    return new Proxy(target, {
      get: (object, property) => {
        const value: unknown = Reflect.get(object, property, object);
        if (typeof value !== "function") {
          return value;
        }
        return async (...args: unknown[]): Promise<unknown> => {
          try {
            return (await value.apply(object, args)) as unknown;
          } catch (error) {
            if (what === "operator" && error instanceof Refusal) {
              this.refusals.push(error);
              throw error;
            }
            this.thrown.push({ what: `${what}.${String(property)}`, error });
            throw error;
          }
        };
      },
    });
  }

  /** The linux guest; `step` is called after each of its steps. */
  async runLinux(step: (text: string) => void = () => {}): Promise<GuestReport> {
    return linux({
      port: this.port(),
      operator: this.operator(),
      say: (text) => step(text.slice(5)),
      options: { seed: 7, granule: 4096, firmware: this.architecture.firmware, tolerate: this.architecture.tolerate, kexecs: this.spec.kexecs, hotplug: this.machine!.hotplugCandidates() },
    });
  }

  end(): void {
    this.machine?.shutdown();
  }

  /** Nothing of the process is left in the kernel, no memory, and no tags of the IOMMUs. */
  expectNothingLeft(): void {
    const { simulated, architecture } = this;
    expect(simulated.liveObjects()).toEqual([]);
    expect(simulated.hardware.memory.liveBlocks).toBe(0);
    expect(simulated.hardware.memory.livePages, "table memory of the kernel").toBe(this.pagesBefore);
    expect(architecture.tagsInUse(simulated), "tags").toBe(0);
    for (const [address, { iommu }] of simulated.hardware.functions) {
      if (iommu !== null) {
        expect(architecture.host(simulated, address).table).toBe("abort");
        expect([...architecture.hostPasids(simulated, address).keys()], "PASIDs").toEqual([]);
      }
    }
  }

  /** Warnings, guest errors and refusals that name the call and the errno of a plan. */
  tellsOf(plan: Plan): string[] {
    return [...this.log.lines.map((line) => line.text), ...this.refusals.map((refusal) => refusal.message)].filter(
      (text) => text.includes(plan.operation.split(" ")[0]) && text.includes(plan.errno),
    );
  }

  /** Whether the log says that a function has kept a table: it may, when blocking it has been refused too. */
  private keeps(address: string, table: string): boolean {
    const names: Record<string, string[]> = { bypass: ["bypass", "parent"], abort: ["abort", "blocked"] };
    return this.log.lines.some((line) => line.text.includes(address) && (names[table] ?? [table]).some((name) => line.text.includes(`it keeps its ${name} table`)));
  }

  /**
   * Every function is where its guest wants it, or is blocked, or has what it had, and a line of the log says
   * so. Throws else.
   */
  checkTables(): void {
    const machine = this.machine!;
    const architecture = this.architecture;
    for (const { fn, address, guarded } of passedThrough(machine)) {
      const have = architecture.host(this.simulated, address);
      expect(have.confined, `${fn.label}: the host's entry, ${have.words}, lets it beyond the machine`).toBe(true);
      if (!guarded) {
        expect(["bypass", "shadow"], fn.label).toContain(have.table);
        continue;
      }
      const want = architecture.wanted(machine, fn);
      const told = (words: string): boolean => this.log.lines.some((line) => line.text.includes(address) && line.text.includes(words));
      if (have.table === "abort" && want !== "abort") {
        expect(told("blocked") || this.keeps(address, "abort"), `${fn.label} is blocked, the guest asks for ${want}, and nothing tells of it`).toBe(true);
        continue;
      }
      if (have.table === want || !this.keeps(address, have.table)) {
        expect(have.table, `${fn.label}: table`).toBe(want);
        if (want === "nested") {
          expect(have.pointer, `${fn.label}: the guest's tables`).toBe(architecture.wantedPointer(machine, fn));
        }
      }
      for (const [pasid, { table, confined, pointer }] of architecture.hostPasids(this.simulated, address)) {
        const wanted = architecture.wantedPasid(machine, fn, pasid);
        expect(confined, `${fn.label}, PASID ${pasid}: beyond the machine`).toBe(true);
        if (table !== wanted.table && told("keeps its table")) {
          continue;
        }
        expect([table, table === "nested" ? pointer : 0n], `${fn.label}, PASID ${pasid}`).toEqual([wanted.table, wanted.table === "nested" ? wanted.pointer : 0n]);
      }
    }
  }

  /** DMA of every function to memory that the guest has mapped for none: it gets there with a bypass only. */
  checkDma(): void {
    const machine = this.machine!;
    const { block, base } = machine.board.ram.at(-1)!;
    // The end of RAM: the guest's allocator takes from the start, its IOVAs are near the end of 32 bits.
    const offset = block.size - 0x2000;
    for (const { fn, address, guarded } of passedThrough(machine)) {
      const device = this.simulated.hardware.functions.get(address)!;
      const before = new Uint8Array(64);
      block.read(offset, before);
      const command = device.configRead(4, 2);
      device.configWrite(4, 2, command | 6);
      const set = (register: number, value: number): void => device.regionWrite(0, register, Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24));
      const gpa = base + offset;
      set(ENGINE.DST_LOW, gpa | 0);
      set(ENGINE.DST_HIGH, Math.floor(gpa / 2 ** 32));
      set(ENGINE.LENGTH, 64);
      set(ENGINE.PATTERN, 0x5eed_5eed);
      set(ENGINE.CONTROL, 1 | (3 << 1));
      device.configWrite(4, 2, command);
      const after = new Uint8Array(64);
      block.read(offset, after);
      const open = !guarded || this.architecture.wanted(machine, fn) === "bypass" || this.keeps(address, "bypass");
      const reached = after.some((byte, i) => byte !== before[i]);
      expect(reached && !open, `${fn.label} reached memory that its guest has not mapped`).toBe(false);
      block.write(offset, before);
    }
  }
}

export function description(name: string): HostDescription {
  return loadHostDescription(readFileSync(new URL(`../../hosts/${name}.json`, import.meta.url), "utf8"), `${name}.json`);
}

/** The calls of a run without failures, in order; the run is a success. */
export async function cleanRun(spec: Spec): Promise<Call[]> {
  const world = new World(spec);
  const calls: Call[] = [];
  const counts = new Map<string, number>();
  let labelled = 0;
  const label = (step: string): void => {
    for (; labelled < calls.length; labelled++) {
      calls[labelled].phase = phaseOf(step);
      calls[labelled].step = step.split(": ").slice(0, step.startsWith("second boot") || step.startsWith("kexec: ") ? 2 : 1).join(": ");
    }
  };
  world.observer.onCall = (operation) => {
    const nth = (counts.get(operation) ?? 0) + 1;
    counts.set(operation, nth);
    calls.push({ operation, nth, phase: "", step: "" });
  };
  world.build();
  label("build");
  const report = await world.runLinux((step) => {
    label(step);
    world.checkTables();
  });
  expect(report.steps.filter((step) => !step.ok)).toEqual([]);
  world.end();
  label("shutdown");
  world.expectNothingLeft();
  expect(world.observer.created).toBe(world.observer.freed);
  world.simulated.close();
  return calls;
}

/** One run with calls refused. Returns whether they came. */
export async function faultyRun(spec: Spec, plan: Plan): Promise<boolean> {
  const world = new World(spec);
  const { observer, simulated } = world;
  // A run has fewer calls of a kind than that.
  const times = plan.times === "all" ? 2000 : (plan.times ?? 1);
  for (let i = 0; i < times; i++) {
    observer.failOn({ ...plan, nth: plan.nth + i });
  }
  const came = (): boolean => (observer.calls.get(plan.operation) ?? 0) >= plan.nth;
  try {
    world.build();
  } catch (error) {
    expect(error).toBeInstanceOf(Refusal);
    expect((error as Refusal).message).toContain(plan.operation.split(" ")[0]);
    expect((error as Refusal).message).toContain(plan.errno);
    world.expectNothingLeft();
    // Nothing stands in the way of the next try.
    observer.clearFailures();
    world.build();
    world.end();
    world.expectNothingLeft();
    simulated.close();
    return true;
  }
  const candidates = world.machine!.hotplugCandidates();
  const report = await world.runLinux(() => world.checkTables());
  if (came()) {
    if (plan.times !== "all") {
      observer.clearFailures();
    }
    world.checkTables();
    world.checkDma();
    if (!report.ok && plan.times !== "all") {
      for (const { id, argument } of candidates) {
        // A refused device_add has left nothing that stands in the way of the next.
        if (world.machine!.board.find(id) === null) {
          await world.machine!.operator().plug(argument);
        }
      }
      const again = await world.recover();
      expect(again.steps.filter((step) => !step.ok), "a boot after the failure").toEqual([]);
    }
  }
  world.end();
  expect(world.thrown).toEqual([]);
  world.expectNothingLeft();
  if (came()) {
    expect(world.tellsOf(plan), "a line that names the call and its errno").not.toEqual([]);
  }
  simulated.close();
  return came();
}
