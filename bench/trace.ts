import { CommandRules } from "../src/smmuv3/lookup/index.js";
import { CMD, CMD_WORDS, get } from "../src/smmuv3/spec/index.js";
import { traceEvent } from "../src/support/index.js";
import { COMMANDS, ID_REGISTERS, makeQueue } from "./command.js";
import { median, processorTime } from "./measure.js";
import type { Bench } from "./registry.js";

const PASSES = 48;

/** The events that a drain of the command queue meets with each command; of the names of the device's own, and off. */
const traceConsume = traceEvent("smmuv3_cmdq_consume", "prod=%d cons=%d prod.wrap=%d cons.wrap=%d");
const traceOpcode = traceEvent("smmuv3_cmdq_opcode", "<--- %s");
const traceRange = traceEvent("smmuv3_range_inval", "vmid=%d asid=%d addr=0x%x tg=%d num_pages=0x%x ttl=%d leaf=%d stage=%d");

/**
 * What traces cost while they are off: a drain of the command queue (fetch, judge, clear undefined bits) with
 * the guards that stand in the device's, against the same without. The two functions differ in the guards alone.
 */
export const traceBench: Bench = {
  name: "trace",
  title: "trace events that are off",
  run(context) {
    const queue = makeQueue();
    const rules = new CommandRules(ID_REGISTERS);
    const command = new Int32Array(CMD_WORDS);
    const ratios: number[] = [];
    for (let round = -3; round < context.rounds; round++) {
      const plain = measure(() => drain(queue, rules, command));
      const guarded = measure(() => drainGuarded(queue, rules, command));
      if (plain.sum !== guarded.sum) {
        throw new Error(`trace.offOverhead: ${plain.sum} without the guards, ${guarded.sum} with them`);
      }
      if (round >= 0) {
        ratios.push(guarded.time / plain.time);
      }
    }
    return Promise.resolve([{ name: "trace.offOverhead", unit: "times", value: median(ratios), target: 1.05 }]);
  },
};

function measure(pass: () => number): { time: number; sum: number } {
  let sum = 0;
  const start = processorTime();
  for (let n = 0; n < PASSES; n++) {
    sum = (Math.imul(sum, 31) + pass()) | 0;
  }
  return { time: processorTime() - start, sum };
}

function drain(queue: Int32Array, rules: CommandRules, command: Int32Array): number {
  let sum = 0;
  for (let at = 0; at < COMMANDS; at++) {
    const from = at * CMD_WORDS;
    command[0] = queue[from];
    command[1] = queue[from + 1];
    command[2] = queue[from + 2];
    command[3] = queue[from + 3];
    if (!rules.admit(command)) {
      sum = (sum + 1) | 0;
      continue;
    }
    sum = (Math.imul(sum, 31) + command[0]) | 0;
    sum = (Math.imul(sum, 31) + command[1]) | 0;
    sum = (Math.imul(sum, 31) + command[2]) | 0;
    sum = (Math.imul(sum, 31) + command[3]) | 0;
  }
  return sum;
}

function drainGuarded(queue: Int32Array, rules: CommandRules, command: Int32Array): number {
  let sum = 0;
  for (let at = 0; at < COMMANDS; at++) {
    if (traceConsume.on) {
      traceConsume.emit(COMMANDS, at, 0, 0);
    }
    const from = at * CMD_WORDS;
    command[0] = queue[from];
    command[1] = queue[from + 1];
    command[2] = queue[from + 2];
    command[3] = queue[from + 3];
    const opcode = command[0] & CMD.OPCODE.mask;
    if (traceOpcode.on) {
      traceOpcode.emit(String(opcode));
    }
    if (!rules.admit(command)) {
      sum = (sum + 1) | 0;
      continue;
    }
    if (traceRange.on) {
      traceRange.emit(-1, get(command, CMD.ASID), 0, 0, 1, 0, 0, 1);
    }
    sum = (Math.imul(sum, 31) + command[0]) | 0;
    sum = (Math.imul(sum, 31) + command[1]) | 0;
    sum = (Math.imul(sum, 31) + command[2]) | 0;
    sum = (Math.imul(sum, 31) + command[3]) | 0;
  }
  return sum;
}
