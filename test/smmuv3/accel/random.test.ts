/**
 * Random sequences of what guests and users do, against a model of where every function has to be. After
 * each step the hardware is asked (by DMA) where it lets each function go, and the host what lives in it.
 */
import { expect, test } from "vitest";
import { type Errno, HostError } from "../../../src/iommufd/index.js";
import { Refusal } from "../../../src/support/index.js";
import { buildSte } from "../../../src/smmuv3/spec/index.js";
import { Random } from "../../translation/random.js";
import { Board, encodeCommand, EXPLICIT, HOST_FUNCTIONS, OP } from "./rig.js";

const NIGHTLY = process.env.VIOMMU_FUZZ === "nightly";
const SEQUENCES = NIGHTLY ? 400 : 8;
const STEPS = NIGHTLY ? 400 : 90;
const PORTS = 3;
const TABLES = 4;
const BUSES = [0, 9, 10, 11, 12];

interface Placed {
  readonly address: string;
  readonly port: number;
  /** Where the hardware has to let it go. */
  reach: string;
  /** StreamID of its vDEVICE. */
  bound: number | null;
}

/** One SMMU's side of the model: what the guest wrote, and what the architecture makes of it. */
class Model {
  enabled = false;
  eventq = false;
  aborts = false;
  readonly placed: Placed[] = [];
  readonly entries = new Map<number, string>();

  constructor(private readonly bus: (port: number) => number) {}

  sid(fn: Placed): number | null {
    const bus = this.bus(fn.port);
    return bus === 0 ? null : bus << 8;
  }

  settle(fn: Placed): void {
    if (!this.enabled) {
      fn.reach = this.aborts ? "abort" : "bypass";
      return;
    }
    const sid = this.sid(fn);
    if (sid === null) {
      fn.reach = "abort";
      return;
    }
    if (fn.bound !== sid) {
      fn.bound = null;
      for (const other of this.placed) {
        if (other !== fn && other.bound === sid) {
          if (this.sid(other) === sid) {
            fn.reach = "abort";
            return;
          }
          other.bound = null;
        }
      }
      fn.bound = sid;
    }
    fn.reach = this.entries.get(sid) ?? "abort";
  }

  settleAll(): void {
    this.placed.forEach((fn) => this.settle(fn));
  }

  renumbered(): void {
    for (const fn of this.placed) {
      if (fn.bound !== null && fn.bound !== this.sid(fn)) {
        fn.bound = null;
      }
    }
    if (this.enabled) {
      this.placed.filter((fn) => fn.bound === null).forEach((fn) => this.settle(fn));
    }
  }
}

class Play {
  readonly board = new Board({ properties: [EXPLICIT, EXPLICIT], ports: PORTS });
  readonly models = [0, 1].map((n) => new Model((port) => this.board.ports[n * PORTS + port].secondaryBus));
  readonly trace: string[] = [];

  constructor(
    readonly random: Random,
    /** Host calls may fail. */
    private readonly failing = false,
  ) {
    for (let n = 0; n < TABLES; n++) {
      this.board.table();
    }
    this.board.freeze();
  }

  private write(n: number): void {
    const { board, random } = this;
    const sid = random.pick(BUSES) << 8;
    const [words, reach] = random.pick<() => [Int32Array, string]>([
      () => [buildSte({ V: 0, CONFIG: 5 }), "abort"],
      () => [buildSte({ V: 1, CONFIG: random.below(4) }), "abort"],
      () => [buildSte({ V: 1, CONFIG: 4, EATS: random.below(4) }), "bypass"],
      () => [buildSte({ V: 1, CONFIG: 6 + random.below(2), S2AA64: 1 }), "abort"],
      () => {
        const table = random.below(TABLES);
        return [board.stage1(table, { EATS: random.pick([0, 1, 3]) }), `table ${table}`];
      },
      () => {
        const table = random.below(TABLES);
        return [board.stage1(table, { SHCFG: 3, MEV: 1, S2VMID: random.below(0x10000) }), `table ${table}`];
      },
      () => [board.stage1(0, { S1STALLD: 1 }), "abort"],
    ])();
    this.trace.push(`smmu${n} STE 0x${sid.toString(16)} ${reach}`);
    board.smmus[n].ste(sid, words);
    this.models[n].entries.set(sid, reach);
  }

  private submit(n: number, what: string, covers: (sid: number) => boolean, ...commands: Int32Array[]): void {
    const guest = this.board.smmus[n];
    const model = this.models[n];
    if ((guest.get(0x20) & 8) === 0) {
      return;
    }
    this.trace.push(`smmu${n} ${what}`);
    guest.submit(...commands, encodeCommand(OP.SYNC));
    if (model.enabled) {
      model.placed.filter((fn) => model.sid(fn) !== null && covers(model.sid(fn)!)).forEach((fn) => model.settle(fn));
    }
  }

  private cr0(n: number, value: number): void {
    const model = this.models[n];
    this.trace.push(`smmu${n} CR0 ${value.toString(16)}`);
    const guest = this.board.smmus[n];
    if (guest.get(0x88) === 0) {
      guest.enable(value);
    } else {
      guest.cr0(value);
    }
    const enabled = (value & 1) !== 0;
    model.eventq = (value & 4) !== 0;
    if (enabled !== model.enabled) {
      model.enabled = enabled;
      model.settleAll();
    }
  }

  private number(n: number): void {
    const port = this.random.below(PORTS);
    const bus = this.random.pick(BUSES);
    this.trace.push(`smmu${n} port ${port} bus ${bus}`);
    const changed = this.board.ports[n * PORTS + port].secondaryBus !== bus;
    this.board.number(n * PORTS + port, bus);
    if (changed) {
      this.models.forEach((model) => model.renumbered());
    }
  }

  private plug(n: number): void {
    const { board, random } = this;
    const address = random.pick(HOST_FUNCTIONS);
    const port = random.below(PORTS);
    const model = this.models[n];
    if (board.functions.has(address) || model.placed.some((fn) => fn.port === port)) {
      return;
    }
    this.trace.push(`plug ${address} at smmu${n} port ${port}`);
    const physical = (other: string): string => other.slice(0, 4);
    const misfit = model.placed.some((fn) => physical(fn.address) !== physical(address));
    try {
      board.plug(address, n * PORTS + port, { hotplugged: true });
      expect(misfit).toBe(false);
    } catch (error) {
      if (!(error instanceof Refusal) || !misfit) {
        throw error;
      }
      if (!this.failing) {
        expect(error.message).toContain("exactly one physical SMMU");
      }
      return;
    }
    const fn: Placed = { address, port, reach: "", bound: null };
    model.placed.push(fn);
    model.settle(fn);
  }

  private unplug(n: number): void {
    const model = this.models[n];
    const fn = this.random.pick(model.placed);
    if (fn !== undefined) {
      this.trace.push(`unplug ${fn.address}`);
      model.placed.splice(model.placed.indexOf(fn), 1);
      this.board.unplug(fn.address);
      model.renumbered();
    }
  }

  private reset(n: number): void {
    const models = this.random.chance(2) ? this.models : [this.models[n]];
    this.trace.push(models.length === 2 ? "reset" : `smmu${n} reset`);
    if (models.length === 2) {
      this.board.reset();
      models.forEach((model) => model.renumbered());
    } else {
      this.board.smmus[n].smmu.reset();
    }
    for (const model of models) {
      model.enabled = false;
      model.eventq = false;
      model.aborts = false;
      model.settleAll();
    }
  }

  step(): void {
    const { random } = this;
    const n = random.below(2);
    const sid = random.pick(BUSES) << 8;
    random.pick([
      () => this.write(n),
      () => this.write(n),
      () => this.submit(n, `CFGI_STE 0x${sid.toString(16)}`, (other) => other === sid, encodeCommand(OP.CFGI_STE, { SID: sid, LEAF: 1 })),
      () => {
        const range = random.pick([7, 8, 9, 10, 31]);
        const base = range === 31 ? 0 : sid - (sid % 2 ** (range + 1));
        const covers = (other: number): boolean => other >= base && other < base + 2 ** (range + 1);
        this.submit(n, `CFGI_STE_RANGE 0x${sid.toString(16)} ${range}`, covers, encodeCommand(OP.CFGI_STE_RANGE, { SID: sid, RANGE: range }));
      },
      () =>
        this.submit(
          n,
          "invalidations",
          () => false,
          encodeCommand(OP.TLBI_NSNH_ALL),
          encodeCommand(OP.CFGI_CD_ALL, { SID: sid }),
          encodeCommand(OP.ATC_INV, { SID: sid, ATC_SIZE: 52 }),
          encodeCommand(OP.TLBI_NH_ASID, { ASID: random.below(5) }),
        ),
      () => this.cr0(n, 0xc | random.below(2)),
      () => this.cr0(n, 0xd),
      () => this.cr0(n, random.pick([0, 1, 8, 9, 0xc])),
      () => {
        const aborts = random.chance(2);
        this.trace.push(`smmu${n} GBPA ${aborts}`);
        this.board.smmus[n].gbpa(aborts);
        const changed = this.models[n].aborts !== aborts;
        this.models[n].aborts = aborts;
        if (changed && !this.models[n].enabled) {
          this.models[n].settleAll();
        }
      },
      () => this.number(n),
      () => this.number(n),
      () => this.number(n),
      () => this.plug(n),
      () => this.plug(n),
      () => this.unplug(n),
      () => (random.chance(6) ? this.reset(n) : this.number(n)),
    ])();
  }

  expectedObjects(): Record<string, number> {
    const used = this.models.filter((model) => model.placed.length > 0);
    const placed = this.models.flatMap((model) => model.placed);
    const counts = {
      iommufd: placed.length > 0 ? 1 : 0,
      ioas: placed.length > 0 ? 1 : 0,
      device: placed.length,
      "hwpt-paging": used.length,
      viommu: used.length,
      "hwpt-nested": 2 * used.length + placed.filter((fn) => fn.reach.startsWith("table")).length,
      vdevice: placed.filter((fn) => fn.bound !== null).length,
      veventq: used.filter((model) => model.eventq).length,
    };
    return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
  }

  /** What the entry in memory of the function's StreamID says, told by a CFGI or not. */
  entryOf(address: string): string {
    for (const model of this.models) {
      const fn = model.placed.find((placed) => placed.address === address);
      if (fn !== undefined && model.enabled) {
        return model.entries.get(model.sid(fn) ?? -1) ?? "abort";
      }
    }
    return "abort";
  }

  /** Where each host function can go, or has to. */
  reachable(): Record<string, string> {
    return Object.fromEntries(HOST_FUNCTIONS.map((address) => [address, this.board.probe(address)]));
  }

  required(): Record<string, string> {
    const placed = this.models.flatMap((model) => model.placed);
    return Object.fromEntries(HOST_FUNCTIONS.map((address) => [address, placed.find((fn) => fn.address === address)?.reach ?? "abort"]));
  }
}

test(`${SEQUENCES} sequences of ${STEPS} steps: every function is where the architecture says`, () => {
  for (let seed = 1; seed <= SEQUENCES; seed++) {
    const play = new Play(new Random(seed));
    const { board } = play;
    for (let step = 0; step < STEPS; step++) {
      try {
        play.step();
        expect(play.reachable()).toEqual(play.required());
        expect(board.live()).toEqual(play.expectedObjects());
        expect(board.smmus.some((guest) => guest.commandError)).toBe(false);
        expect([...board.functions.values()].filter((fn) => fn.attachedTo === null)).toEqual([]);
      } catch (error) {
        throw new Error(`seed ${seed}, step ${step}:\n${play.trace.slice(-25).join("\n")}`, { cause: error });
      }
    }
    expect(board.log.warnings()).toEqual([]);
    expect(board.log.lines.length).toBeLessThan(100);
    expect(board.strayReads()).toEqual([]);
    expect(board.detaches).toBe(0);
    board.close();
    expect(board.live()).toEqual({});
    expect(Object.values(play.reachable()).every((reach) => reach === "abort")).toBe(true);
    board.host.close();
  }
}, 600_000);

const OPERATIONS: Array<[string, Errno]> = [
  ["HWPT_ALLOC", "ENOMEM"],
  ["VFIO_ATTACH_IOMMUFD_PT", "ENOMEM"],
  ["VDEVICE_ALLOC", "ENOMEM"],
  ["VIOMMU_ALLOC", "ENOMEM"],
  ["VEVENTQ_ALLOC", "ENOMEM"],
  ["DESTROY", "EBUSY"],
  ["HWPT_INVALIDATE", "EIO"],
  ["IOAS_MAP", "ENOMEM"],
  ["*", "EIO"],
];

test(`the same while host calls fail: nobody gets further than its entry, and nothing is left`, () => {
  for (let seed = 1; seed <= SEQUENCES; seed++) {
    const random = new Random(seed + 1000);
    const play = new Play(random, true);
    const { board } = play;
    for (let step = 0; step < STEPS; step++) {
      if (random.chance(3)) {
        const [operation, errno] = random.pick(OPERATIONS);
        board.observer.failOn({ operation, nth: 1 + random.below(3), errno });
      }
      const before = play.reachable();
      try {
        try {
          play.step();
        } catch (error) {
          // A plug may be refused; a guest's access may not throw.
          const plugging = play.trace.at(-1)!.startsWith("plug");
          if (!plugging || !(error instanceof Refusal || error instanceof HostError)) {
            throw error;
          }
        }
        const required = play.required();
        for (const [address, reach] of Object.entries(play.reachable())) {
          // What failed before is tried again with the entry as it is now; an SMMU may read it at any time.
          const allowed = board.functions.has(address) ? [required[address], play.entryOf(address), before[address], "abort"] : ["abort"];
          expect(allowed, address).toContain(reach);
        }
        expect([...board.functions.values()].filter((fn) => fn.attachedTo === null)).toEqual([]);
      } catch (error) {
        throw new Error(`seed ${seed}, step ${step}:\n${play.trace.slice(-25).join("\n")}`, { cause: error });
      }
      board.smmus.forEach((guest) => guest.skipFailed());
    }
    board.observer.clearFailures();
    expect(board.strayReads()).toEqual([]);
    board.close();
    expect(board.live()).toEqual({});
    expect(Object.values(play.reachable()).every((reach) => reach === "abort")).toBe(true);
    board.host.close();
  }
}, 600_000);
