import { CommandRules } from "../src/smmuv3/lookup/index.js";
import { CMD, CMD_WORDS, encodeCommand, OP, TLBI_TG_4K } from "../src/smmuv3/spec/index.js";
import { compare, processorTime, type Round } from "./measure.js";
import { xorshift32 } from "./random.js";
import type { Bench } from "./registry.js";

/** Commands in the queue; bench/c/command.c makes the same ones. */
export const COMMANDS = 1 << 14;
/** Times that a round goes through them. */
const PASSES = 64;

/** ID registers of an SMMU that nests, with ATS and range invalidation: what IDR0, IDR1, IDR3 and IDR5 say. */
export const ID_REGISTERS = [0x0d44_141b, 0x0273_0010, 0, 0x1414, 0, 0x74];

/**
 * What a drain of the command queue does with a command before anything acts on it: fetch, judge (is it
 * CERROR_ILL), clear the bits that its opcode does not define, put into the batch what goes to the host.
 */
export const commandBench: Bench = {
  name: "command",
  title: "decoding of commands",
  async run(context) {
    const queue = makeQueue();
    const rules = new CommandRules(ID_REGISTERS);
    const command = new Int32Array(CMD_WORDS);
    const batch = new Int32Array(COMMANDS * CMD_WORDS);
    const js = (): Round => {
      let sum = 0;
      const start = processorTime();
      for (let pass = 0; pass < PASSES; pass++) {
        sum = decodeAll(queue, rules, command, batch, sum);
      }
      return { figure: ((processorTime() - start) * 1e6) / (COMMANDS * PASSES), checksum: String(sum >>> 0) };
    };
    const program = await context.startC("command");
    return compare([{ name: "commandDecode", unit: "ns/command", target: 2.2, js, question: "decode" }], program, context.rounds);
  },
};

/** Decodes the whole queue into the batch; returns `sum` with the results mixed in. */
function decodeAll(queue: Int32Array, rules: CommandRules, command: Int32Array, batch: Int32Array, sum: number): number {
  let at = 0;
  let illegal = 0;
  for (let from = 0; from < queue.length; from += CMD_WORDS) {
    command[0] = queue[from];
    command[1] = queue[from + 1];
    command[2] = queue[from + 2];
    command[3] = queue[from + 3];
    if (!rules.admit(command)) {
      illegal++;
      continue;
    }
    const opcode = command[0] & CMD.OPCODE.mask;
    switch (opcode) {
      case OP.CFGI_CD:
      case OP.CFGI_CD_ALL:
      case OP.TLBI_NH_ALL:
      case OP.TLBI_NH_ASID:
      case OP.TLBI_NH_VA:
      case OP.TLBI_NH_VAA:
      case OP.TLBI_NSNH_ALL:
      case OP.ATC_INV:
        batch[at] = command[0];
        batch[at + 1] = command[1];
        batch[at + 2] = command[2];
        batch[at + 3] = command[3];
        at += CMD_WORDS;
        break;
      default:
        sum = (Math.imul(sum, 31) + command[1]) | 0;
    }
  }
  return (Math.imul(sum, 31) + (batch[at - 4] ^ batch[at - 3] ^ batch[at - 2] ^ at) + illegal) | 0;
}

/** A queue as Linux fills it, with some reserved bits set and now and then an illegal command. */
export function makeQueue(): Int32Array {
  const queue = new Int32Array(COMMANDS * CMD_WORDS);
  const random = xorshift32(12_345);
  for (let n = 0; n < COMMANDS; n++) {
    const kind = random() % 16;
    const low = random();
    const high = random();
    const opcode =
      kind < 8 ? OP.TLBI_NH_VA : kind < 10 ? OP.ATC_INV : kind < 12 ? OP.SYNC : kind === 12 ? OP.CFGI_CD : kind === 13 ? OP.CFGI_STE : kind === 14 ? OP.TLBI_NH_ASID : 0xff;
    const words = encodeCommand(opcode);
    if (opcode === OP.TLBI_NH_VA) {
      words[0] |= (low & 0x1f) << 12;
      words[1] = (low & 0xffff_0000) | 1;
      words[2] = (high & ~0xfff) | (TLBI_TG_4K << 10) | (3 << 8) | 1;
      words[3] = low & 0xffff;
    } else if (opcode !== OP.SYNC) {
      words[1] = low;
      words[2] = opcode === OP.ATC_INV ? high & ~0xfff : 0;
      words[3] = opcode === OP.ATC_INV ? low : high;
    } else {
      words[0] |= (low % 3) << 12;
    }
    queue.set(words, n * CMD_WORDS);
  }
  return queue;
}
