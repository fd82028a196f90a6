import { describe, expect, it } from "vitest";
import { Namespace } from "../../src/nvme/index.js";
import { Random } from "../fuzz/random.js";
import { Rig, RAM, SlowDisk } from "./rig.js";

const MIB = 2 ** 20;
const nightly = process.env.VIOMMU_FUZZ === "nightly";
const SEEDS = nightly ? 2000 : 20;
const STEPS = 400;
/** What one register access may read and write of memory: the steps of a budget, a command's last transfer, and entries of queues. */
const MOST_REQUESTS = 3 * 4096;

/** RAM whose every word may be an address in it. */
const ADDRESSES = new Uint8Array(32 * MIB);
{
  const random = new Random(0);
  const words = new Int32Array(ADDRESSES.buffer);
  for (let at = 0; at < words.length; at += 2) {
    words[at] = RAM + (random.word() & 0x1ff_f000);
  }
}

/** Values that have a meaning somewhere, and others. */
function word(random: Random): number {
  switch (random.below(6)) {
    case 0:
      return random.below(70);
    case 1:
      return random.below(64) | (random.below(64) << 16);
    case 2:
      return RAM + random.below(64) * 4096 + (random.oneIn(4) ? random.below(4096) : 0);
    case 3:
      return 0x0046_0001 & ~(random.oneIn(4) ? 1 : 0);
    case 4:
      return -1;
    default:
      return random.word();
  }
}

function command(random: Random, opcodes: readonly number[]): Int32Array {
  const words = Int32Array.from({ length: 16 }, () => (random.oneIn(3) ? word(random) : 0));
  words[0] = random.pick(opcodes) | (random.word() & 0xffff_0000) | (random.oneIn(20) ? random.word() & 0xff00 : 0);
  words[1] = random.oneIn(5) ? word(random) : 1;
  words[6] = RAM + random.below(4096) * 4096 + (random.oneIn(8) ? random.below(4096) : 0);
  words[8] = RAM + random.below(4096) * 4096 + (random.oneIn(8) ? random.below(4096) : 0);
  words[7] = words[9] = 0;
  if (random.oneIn(2)) {
    words[10] = random.below(12) | (random.below(40) << 16);
    words[11] = 1 | (random.below(3) << 1) | (random.below(5) << 16);
  }
  words[12] = random.oneIn(3) ? random.word() : random.below(1100);
  return words;
}

/** A guest that does at random what it can reach: registers, doorbells, entries of queues and lists, before and while the controller works. */
describe("a hostile guest", () => {
  it.each(Array.from({ length: Math.ceil(SEEDS / 10) }, (_unused, group) => group))("gets answers and no exception, with bounded work at each access (seeds %#0 to %#9)", async (group) => {
    let asked = 0;
    for (let seed = group * 10; seed < Math.min(SEEDS, group * 10 + 10); seed++) {
      const random = new Random(seed + 1);
      const disk = new SlowDisk(4 * MIB);
      const rig = new Rig(new Map([[1, new Namespace({ disk, blockBytes: random.pick([512, 4096]), seed: "h" })]]), { mdts: random.pick([0, 5, 7]) });
      const { controller } = rig;
      rig.memory.set(ADDRESSES);
      const ram = new Int32Array(rig.memory.buffer);
      const queues = [RAM + 0x10_0000, RAM + 0x11_0000, RAM + 0x12_0000, RAM + 0x13_0000];
      const bounded = (what: string, act: () => void): void => {
        const before = rig.requests;
        act();
        expect(rig.requests - before, `seed ${seed}: ${what}`).toBeLessThan(MOST_REQUESTS);
      };
      const heads = [0, 0, 0, 0];
      const put = (queue: number, at: number, words: Record<number, number>): void => {
        const entry = (queue + at * 64 - RAM) / 4;
        ram.fill(0, entry, entry + 16);
        Object.entries(words).forEach(([word, value]) => (ram[entry + Number(word)] = value));
      };
      const enable = (): void => {
        controller.write(0x24, 0x003f_003f);
        controller.write(0x28, queues[0]);
        controller.write(0x2c, 0);
        controller.write(0x30, queues[1]);
        controller.write(0x34, 0);
        controller.write(0x14, 0x0046_0001);
        // A pair of I/O queues, made as it should be.
        queues.forEach((queue, i) => {
          ram.fill(0, (queue - RAM) / 4, (queue - RAM) / 4 + 1024);
          heads[i] = 0;
        });
        put(queues[0], 0, { 0: 5, 6: queues[3], 10: 1 | (63 << 16), 11: 3 });
        put(queues[0], 1, { 0: 1 | (1 << 16), 6: queues[2], 10: 1 | (63 << 16), 11: 1 | (1 << 16) });
        controller.write(0x1000, 2);
      };
      /** Takes what a completion queue seems to hold, as a driver would. */
      const reap = (queue: number, doorbell: number): void => {
        let head = heads[doorbell];
        const phase = (): number => (ram[(queues[queue] - RAM) / 4 + (head % 64) * 4 + 3] >>> 16) & 1;
        while (head < heads[doorbell] + 63 && phase() !== (head >> 6) % 2) {
          head++;
        }
        heads[doorbell] = head;
        bounded("a head", () => controller.write(0x1004 + doorbell * 8, head % 64));
      };
      enable();
      for (let step = 0; step < STEPS; step++) {
        switch (random.below(11)) {
          case 0: {
            const offset = random.oneIn(3) ? random.pick([0x0c, 0x10, 0x14, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34]) : 0x1000 + random.below(24) * 4;
            bounded(`register ${offset}`, () => controller.write(offset, word(random)));
            break;
          }
          case 1:
          case 2:
          case 3: {
            const entry = command(random, [0, 1, 1, 2, 4, 5, 5, 6, 8, 9, 10, 12, 0xff]);
            ram.set(entry, (queues[0] + random.below(64) * 64 - RAM) / 4);
            bounded("the admin doorbell", () => controller.write(0x1000, random.below(64)));
            break;
          }
          case 4:
          case 5:
          case 6: {
            for (let i = 0; i < 8; i++) {
              ram.set(command(random, [0, 1, 2, 2, 5, 8, 9, 0x7f]), (queues[2] + random.below(64) * 64 - RAM) / 4);
            }
            reap(1, 0);
            reap(3, 1);
            bounded("a doorbell", () => controller.write(random.oneIn(8) ? 0x1000 + random.below(10) * 4 : 0x1008, random.below(64)));
            break;
          }
          case 7:
            disk.failing = random.oneIn(4) ? new Error("EIO") : null;
            disk.quick = random.oneIn(2);
            for (let i = random.below(8); i > 0 && disk.waiting.length > 0; i--) {
              const [next] = disk.waiting.splice(random.below(disk.waiting.length), 1);
              bounded(next.what, () => next.end());
            }
            break;
          case 8:
            rig.later.splice(0).forEach((work) => bounded("what goes on later", work));
            break;
          case 9:
            if (random.oneIn(3)) {
              rig.faulting.clear();
            } else {
              rig.faulting.add(RAM + random.below(8192) * 4096);
            }
            break;
          default:
            if (random.oneIn(10)) {
              controller.reset();
            }
            if ((controller.read(0x1c) & 3) !== 1) {
              controller.write(0x14, 0);
              disk.endAll();
              enable();
            }
        }
      }
      asked += disk.asked.length;
      // Whatever has become of it, a reset brings it back.
      rig.faulting.clear();
      disk.failing = null;
      disk.quick = true;
      controller.reset();
      disk.endAll();
      rig.later.splice(0).forEach((work) => work());
      const driver = await rig.start();
      expect(await driver.namespaces(), `seed ${seed}`).toEqual([1]);
    }
    // It has come as far as the disk, often.
    expect(asked).toBeGreaterThan(200);
  });
});
