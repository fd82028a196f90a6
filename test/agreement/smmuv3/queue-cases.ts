/** Random uses of the command and event queue: made along the architecture's model, played the same on both machines. */
import { type AddressField, CMD, commandFields, type Field, OP, put, REG } from "../../../src/smmuv3/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import type { Observation } from "../agreement.js";
import { COMMAND_QUEUE, EVENT_QUEUE, HOLE } from "./layout.js";
import type { Player } from "./play.js";
import { type QueueMachine, QueueModel, type QueueQuirk, SYNC } from "./queue-model.js";

export type QueueStep =
  | { readonly do: "write"; readonly offset: number; readonly size: 4 | 8; readonly value: bigint }
  | { readonly do: "command"; readonly address: number; readonly words: Int32Array }
  | { readonly do: "fault" };

const SHOWN = [REG.CMDQ_PROD, REG.CMDQ_CONS, REG.EVENTQ_PROD_PAGE0, REG.EVENTQ_CONS_PAGE0, REG.GERROR, REG.GERRORN] as const;
const CLEARED = [[REG.CMDQ_BASE, 8], [REG.CMDQ_PROD, 4], [REG.CMDQ_CONS, 4], [REG.EVENTQ_BASE, 8], [REG.EVENTQ_PROD_PAGE0, 4], [REG.EVENTQ_CONS_PAGE0, 4]] as const;
const OPCODES = Object.values(OP);
const USUAL = [OP.SYNC, OP.CFGI_STE, OP.CFGI_STE_RANGE, OP.TLBI_NSNH_ALL, OP.PREFETCH_CONFIG, OP.TLBI_NH_ALL, OP.TLBI_NH_VA, OP.TLBI_S12_VMALL];

export function generateQueueCase(random: Random, machine: QueueMachine): QueueStep[] {
  const model = new QueueModel(machine, new Set());
  const steps: QueueStep[] = [];
  const write = (offset: number, value: number, size: 4 | 8 = 4): void => {
    steps.push({ do: "write", offset, size, value: BigInt(value) });
    model.write(offset, BigInt(value));
  };
  write(REG.CR0, 0);
  write(REG.GERRORN, model.reads(REG.GERROR));
  const commandBits = random.below(4);
  const eventBits = random.below(4);
  let commands = COMMAND_QUEUE;
  const wrap = (bits: number): number => (2 << bits) - 1;
  write(REG.CMDQ_BASE, commands + commandBits, 8);
  write(REG.EVENTQ_BASE, EVENT_QUEUE + eventBits, 8);
  const start = random.below(wrap(commandBits) + 1);
  write(REG.CMDQ_PROD, start);
  write(REG.CMDQ_CONS, start);
  const first = random.below(wrap(eventBits) + 1);
  write(REG.EVENTQ_PROD_PAGE0, first);
  write(REG.EVENTQ_CONS_PAGE0, first);
  write(REG.CR0, 0xd);

  for (let n = 0; n < 16; n++) {
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2: {
        const mask = wrap(commandBits);
        const prod = model.reads(REG.CMDQ_PROD) & mask;
        const free = (1 << commandBits) - ((prod - model.reads(REG.CMDQ_CONS)) & mask);
        const count = random.oneIn(12) ? random.below(mask + 1) : Math.max(0, random.below(free + 1));
        for (let command = 0; command < count; command++) {
          const address = commands + 16 * ((prod + command) & (mask >> 1));
          const words = randomCommand(random);
          steps.push({ do: "command", address, words });
          model.store(address, words);
        }
        write(REG.CMDQ_PROD, (prod + count) & mask);
        break;
      }
      case 3:
      case 4:
        for (let faults = random.below(4); faults >= 0; faults--) {
          steps.push({ do: "fault" });
          model.fault();
        }
        break;
      case 5: {
        // Takes some records, and acknowledges an overflow or does not.
        const prod = model.reads(REG.EVENTQ_PROD_PAGE0);
        const cons = model.reads(REG.EVENTQ_CONS_PAGE0);
        const taken = random.below(((prod - cons) & wrap(eventBits)) + 1);
        const flag = (random.oneIn(3) ? cons : prod) >>> 31;
        write(REG.EVENTQ_CONS_PAGE0, ((cons + taken) & wrap(eventBits)) + flag * 2 ** 31);
        break;
      }
      case 6: {
        // What Linux does about a command in error: a CMD_SYNC in its place, then the acknowledgement.
        if (random.oneIn(2)) {
          const address = commands + 16 * (model.reads(REG.CMDQ_CONS) & (wrap(commandBits) >> 1));
          steps.push({ do: "command", address, words: SYNC });
          model.store(address, SYNC);
        }
        write(REG.GERRORN, model.reads(REG.GERROR));
        break;
      }
      default: {
        const enables = random.pick([0xd, 0xd, 0xd, 0x9, 0x5, 0x1]);
        write(REG.CR0, enables);
        if ((enables & 8) === 0) {
          commands = random.oneIn(3) ? HOLE : COMMAND_QUEUE;
          write(REG.CMDQ_BASE, commands + commandBits, 8);
        }
        if ((enables & 4) === 0) {
          write(REG.EVENTQ_BASE, (random.oneIn(3) ? HOLE : EVENT_QUEUE) + eventBits, 8);
        }
      }
    }
  }
  return steps;
}

function randomCommand(random: Random): Int32Array {
  const opcode = random.oneIn(5) ? (random.oneIn(2) ? random.pick(OPCODES) : random.below(256)) : random.pick(USUAL);
  const words = new Int32Array(4);
  words[0] = opcode;
  for (const name of commandFields.get(opcode) ?? []) {
    const field: Field | AddressField = CMD[name];
    // Messages of CMD_SYNC go nowhere without IDR0.MSI; SSEC is an error.
    if ("mask" in field && name !== "OPCODE" && random.oneIn(name === "SSEC" ? 16 : 3)) {
      put(words, field, random.word());
    }
  }
  return words;
}

/** What the registers show after each step. */
export function expectQueueCase(steps: readonly QueueStep[], machine: QueueMachine, quirks: ReadonlySet<QueueQuirk>): Observation {
  const model = new QueueModel(machine, quirks);
  const out: Observation = {};
  for (const [n, step] of steps.entries()) {
    if (step.do === "write") {
      // GERRORN is written with what the architecture's GERROR is: a QEMU that has raised another error sees a toggle of its own.
      model.write(step.offset, step.value);
    } else if (step.do === "command") {
      model.store(step.address, step.words);
    } else {
      model.fault();
    }
    out[keyOf(n, step)] = SHOWN.map((offset) => model.reads(offset).toString(16)).join(" ");
  }
  return out;
}

export async function playQueueCase(player: Player, steps: readonly QueueStep[]): Promise<Observation> {
  const { driver } = player;
  const { smmu } = player.machine;
  const shown: Array<Promise<[string, string]>> = [];
  // Errors of earlier cases are acknowledged; what GERROR is then counts as zero.
  driver.write(smmu + REG.CR0, 4, 0);
  const errors = await driver.read(smmu + REG.GERROR, 4);
  driver.write(smmu + REG.GERRORN, 4, errors);
  CLEARED.forEach(([offset, size]) => driver.write(smmu + offset, size, 0));
  driver.fill(COMMAND_QUEUE, 16 * 8, 0);
  const base = (offset: number): bigint => (offset === REG.GERROR || offset === REG.GERRORN ? errors : 0n);
  for (const [n, step] of steps.entries()) {
    if (step.do === "write") {
      driver.write(smmu + step.offset, step.size, step.value ^ base(step.offset));
    } else if (step.do === "command") {
      driver.store(step.address, new Uint8Array(step.words.buffer, 0, 16));
    } else {
      await player.probe();
    }
    shown.push(Promise.all(SHOWN.map((offset) => driver.read(smmu + offset, 4).then((value) => value ^ base(offset)))).then((values) => [keyOf(n, step), values.map((value) => value.toString(16)).join(" ")]));
  }
  return Object.fromEntries(await Promise.all(shown));
}

function keyOf(n: number, step: QueueStep): string {
  const what = step.do === "write" ? `${Object.entries(REG).find(([, offset]) => offset === step.offset)?.[0] ?? ""} = 0x${step.value.toString(16)}` : step.do === "command" ? `command ${Buffer.from(new Uint8Array(step.words.buffer, 0, 16)).toString("hex")} at 0x${step.address.toString(16)}` : "fault";
  return `step ${n}: ${what}`;
}
