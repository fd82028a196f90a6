/** What is asked of a controller, and what it answers, as observations. */
import { createHash } from "node:crypto";
import { NVME, type NvmeCommand, type NvmeCompletion, type NvmeDriver, type NvmeQueue } from "../../../src/guest/index.js";
import type { Random } from "../../fuzz/random.js";
import type { Observation } from "../agreement.js";
import type { Controller } from "./controller.js";
import { DISK_BYTES } from "./controller.js";

const BLOCK = 512;
const NOWHERE = 0xff_0000_0000n;

/** Type and code of a status; whether a retry would help is a hint, and left out. */
export function statusText({ status }: Pick<NvmeCompletion, "status">): string {
  return `${((status >> 8) & 7).toString(16)}/${(status & 0xff).toString(16).padStart(2, "0")}`;
}

const digest = (bytes: Uint8Array): string => createHash("sha1").update(bytes).digest("hex").slice(0, 12);

/** Identify of the controller: fields that the specification or a driver's work decides. */
const CONTROLLER_FIELDS: Readonly<Record<string, readonly [offset: number, bytes: number]>> = {
  VID: [0, 2], SSVID: [2, 2], SN: [4, 20], MDTS: [77, 1], VER: [80, 4], ACL: [258, 1], AERL: [259, 1], WCTEMP: [266, 2], CCTEMP: [268, 2],
  SQES: [512, 1], CQES: [513, 1], NN: [516, 4], FUSES: [522, 2], VWC: [525, 1],
};
const NAMESPACE_FIELDS: typeof CONTROLLER_FIELDS = { NSZE: [0, 8], NCAP: [8, 8], NUSE: [16, 8], FLBAS: [26, 1], DPS: [29, 1], LBAF0: [128, 4] };

const field = (bytes: Uint8Array, [offset, length]: readonly [number, number]): string => Buffer.from(bytes.subarray(offset, offset + length)).toString("hex");

/** Registers after a reset and after enabling. */
export async function playRegisters(controller: Controller): Promise<Observation> {
  const seen: Observation = {};
  const names = { VS: NVME.VS, INTMS: NVME.INTMS, CC: NVME.CC, CSTS: NVME.CSTS, AQA: NVME.AQA, ASQ: NVME.ASQ, ACQ: NVME.ACQ };
  const all = async (when: string): Promise<void> => {
    for (const [name, offset] of Object.entries(names)) {
      seen[`${when} ${name}`] = (await controller.register(offset, 4)).toString(16);
    }
  };
  controller.place();
  await all("reset");
  const cap = await controller.register(NVME.CAP, 8);
  for (const [name, shift, bits] of [["MQES", 0n, 16n], ["CQR", 16n, 1n], ["AMS", 17n, 2n], ["TO", 24n, 8n], ["DSTRD", 32n, 4n], ["NSSRS", 36n, 1n], ["CSS NVM", 37n, 1n], ["BPS", 45n, 1n], ["MPSMIN", 48n, 4n], ["MPSMAX", 52n, 4n]] as const) {
    seen[`CAP.${name}`] = ((cap >> shift) & ((1n << bits) - 1n)).toString(16);
  }
  await controller.start();
  seen["enabled CC"] = (await controller.register(NVME.CC, 4)).toString(16);
  seen["enabled CSTS"] = (await controller.register(NVME.CSTS, 4)).toString(16);
  // Queues of one entry, and pages that the controller does not know.
  for (const [name, aqa, cc] of [["no entries", 0, 0x0046_0001], ["no completions", 31, 0x0046_0001], ["large pages", 0x001f_001f, 0x0046_0781]] as const) {
    controller.driver.write(controller.parts.base + NVME.CC, 4, 0);
    await controller.parts.until(async () => ((await controller.register(NVME.CSTS, 4)) & 1n) === 0n, "the reset");
    controller.driver.write(controller.parts.base + NVME.AQA, 4, aqa);
    controller.driver.write(controller.parts.base + NVME.CC, 4, cc);
    seen[`${name}: CSTS`] = (await controller.register(NVME.CSTS, 4)).toString(16);
  }
  return seen;
}

/** Admin commands, with every status of theirs that can be caused. */
export async function playAdmin(controller: Controller): Promise<Observation> {
  const seen: Observation = {};
  controller.place();
  const driver = await controller.start();
  const run = async (name: string, command: NvmeCommand, result = false): Promise<void> => {
    const done = await driver.runAdmin(command);
    seen[name] = statusText(done) + (result && (done.status & 0x7ff) === 0 ? ` ${done.result.toString(16)}` : "");
  };
  const page = controller.allocate(4096);
  for (const cns of [0, 1, 2, 3, 0x10, 0x13, 0x1e, 0xff]) {
    for (const nsid of [0, 1, 2, 256, 257, 0xffff_fffe, 0xffff_ffff]) {
      await run(`identify ${cns.toString(16)} of ${nsid.toString(16)}`, { opcode: 6, nsid, prp1: page.address, words: [cns] });
    }
  }
  for (const [name, place] of Object.entries(CONTROLLER_FIELDS)) {
    seen[`controller ${name}`] = field((await driver.identify(1)).data, place);
  }
  for (const [name, place] of Object.entries(NAMESPACE_FIELDS)) {
    seen[`namespace ${name}`] = field((await driver.identify(0, 1)).data, place);
  }
  seen["namespaces"] = (await driver.namespaces()).join(" ");
  seen["inactive namespace"] = digest((await driver.identify(0, 2)).data);
  await run("identify without memory", { opcode: 6, prp1: NOWHERE, words: [1] });
  await run("identify, PRP 2 with an offset", { opcode: 6, prp1: page.address + 2048n, prp2: page.address + 16n, words: [1] });

  for (const feature of [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]) {
    for (const select of [0, 1, 2]) {
      await run(`get feature ${feature.toString(16)} select ${select}`, { opcode: 0xa, nsid: feature === 5 ? 1 : 0, words: [feature | (select << 8)] }, true);
    }
  }
  for (const [name, word, nsid] of [["threshold", 4 | 0, 0], ["under threshold", 4, 0], ["none", 0x7f, 0], ["error recovery of none", 5, 0], ["error recovery of another", 5, 2], ["error recovery beyond", 5, 300]] as const) {
    await run(`get feature: ${name}`, { opcode: 0xa, nsid, words: [word, name === "under threshold" ? 1 << 20 : 0] }, true);
  }
  for (const [name, word, value, nsid] of [
    ["threshold", 4, 0x15a, 0], ["under threshold", 4, (1 << 20) | 0x100, 0], ["no sensor", 4, 0x3_0000, 0], ["cache off", 6, 0, 0], ["cache on", 6, 1, 0], ["error recovery", 5, 9, 1],
    ["error recovery of none", 5, 9, 0], ["cache of a namespace", 6, 1, 1], ["saved", (0x8000_0006) | 0, 1, 0], ["queues", 7, 0x0003_0003, 0], ["65536 queues", 7, 0xffff, 0],
    ["65536 completion queues", 7, -0x1_0000, 0], ["events", 0xb, 0x1f, 0], ["none", 0x7f, 0, 0], ["of a namespace beyond", 6, 1, 300],
  ] as const) {
    await run(`set feature: ${name}`, { opcode: 9, nsid, words: [word, value] }, true);
  }
  await run("get feature: threshold as set", { opcode: 0xa, words: [4] }, true);
  await run("get feature: error recovery as set", { opcode: 0xa, nsid: 1, words: [5] }, true);

  for (const [name, log, words] of [
    ["error", 1, [15 << 16, 0, 0, 0]], ["SMART", 2, [127 << 16, 0, 0, 0]], ["firmware", 3, [127 << 16, 0, 0, 0]], ["changed namespaces", 4, [1023 << 16, 0, 0, 0]], ["effects", 5, [1023 << 16, 0, 0, 0]],
    ["SMART beyond", 2, [127 << 16, 0, 600, 0]], ["SMART within a dword", 2, [127 << 16, 0, 2, 0]],
  ] as const) {
    await run(`log ${name}`, { opcode: 2, nsid: 0xffff_ffff, prp1: page.address, words: [log | words[0], ...words.slice(1)] });
  }
  await run("log of no kind", { opcode: 2, nsid: 0xffff_ffff, prp1: page.address, words: [0x7f | (15 << 16), 0, 0, 0] });
  await run("log SMART of a namespace beyond", { opcode: 2, nsid: 300, prp1: page.address, words: [2 | (15 << 16), 0, 0, 0] });
  await run("log SMART of the namespace", { opcode: 2, nsid: 1, prp1: page.address, words: [2 | (15 << 16), 0, 0, 0] });

  for (const opcode of [0x0d, 0x10, 0x11, 0x14, 0x18, 0x84, 0xc0, 0xff]) {
    await run(`opcode ${opcode.toString(16)}`, { opcode });
  }
  await run("abort of nothing", { opcode: 8, words: [0x7777 << 16] }, true);
  await run("abort in no queue", { opcode: 8, words: [7] });

  for (const [name, words, offset] of [
    ["0", [0 | (7 << 16), 1], 0n], ["9", [9 | (7 << 16), 1], 0n], ["of one entry", [1, 1], 0n], ["of too many entries", [1 | (2048 << 16), 1], 0n], ["with an offset", [1 | (7 << 16), 1], 16n],
    ["with vector 1 without MSI-X", [1 | (7 << 16), 3 | (1 << 16)], 0n], ["of pages", [1 | (7 << 16), 0], 0n], ["1", [1 | (7 << 16), 1], 0n], ["1 again", [1 | (7 << 16), 1], 0n],
  ] as const) {
    await run(`completion queue ${name}`, { opcode: 5, prp1: page.address + offset, words });
  }
  for (const [name, words, offset] of [
    ["0", [0 | (7 << 16), 1 | (1 << 16)], 0n], ["9", [9 | (7 << 16), 1 | (1 << 16)], 0n], ["of one entry", [1, 1 | (1 << 16)], 0n], ["of too many entries", [1 | (2048 << 16), 1 | (1 << 16)], 0n],
    ["with an offset", [1 | (7 << 16), 1 | (1 << 16)], 64n], ["of pages", [1 | (7 << 16), 1 << 16], 0n], ["on queue 2", [1 | (7 << 16), 1 | (2 << 16)], 0n], ["on queue 9", [1 | (7 << 16), 1 | (9 << 16)], 0n],
    ["1", [1 | (7 << 16), 1 | (1 << 16)], 0n], ["1 again", [1 | (7 << 16), 1 | (1 << 16)], 0n],
  ] as const) {
    await run(`submission queue ${name}`, { opcode: 1, prp1: page.address + offset, words });
  }
  await run("set feature: queues with queues", { opcode: 9, words: [7, 0x0003_0003] });
  for (const [name, opcode, id] of [["completion queue 1 with its submission queue", 4, 1], ["submission queue 0", 0, 0], ["submission queue 2", 0, 2], ["submission queue 1", 0, 1], ["submission queue 1 again", 0, 1], ["completion queue 0", 4, 0], ["completion queue 2", 4, 2], ["completion queue 1", 4, 1]] as const) {
    await run(`delete ${name}`, { opcode, words: [id] });
  }

  const events: number[] = [];
  for (let i = 0; i < 4; i++) {
    events.push(await driver.submit(driver.admin, { opcode: 0xc }));
  }
  await run("one event request too many", { opcode: 0xc });
  /** The result of whichever request brings the next event. */
  const event = async (): Promise<string> => {
    let result: number | null = null;
    await controller.parts.until(async () => {
      for (const id of events) {
        result ??= (await driver.completion(driver.admin, id))?.result ?? null;
      }
      return result !== null;
    }, "an event");
    return (result ?? 0).toString(16);
  };
  await driver.ringTail(5, 1);
  seen["event of a doorbell without queue"] = await event();
  await driver.log(1, 64);
  await driver.ringTail(0, 500);
  seen["event of a value beyond the queue"] = await event();
  return seen;
}

/** I/O commands with their statuses, and the data. */
export async function playIo(controller: Controller): Promise<Observation> {
  const seen: Observation = {};
  controller.place();
  const driver = await controller.start();
  const queue = await driver.createQueue(1, 16);
  const blocks = DISK_BYTES / BLOCK;
  const buffer = controller.allocate(1 << 20);
  const list = controller.allocate(4096);
  const { port } = controller.parts;
  const run = async (name: string, command: NvmeCommand): Promise<void> => {
    seen[name] = statusText(await driver.run(queue, command));
  };
  const at = (block: number, count: number): number[] => [block >>> 0, Math.floor(block / 2 ** 32), count - 1];
  for (const opcode of [1, 2, 5, 8]) {
    for (const [name, words] of Object.entries({ "the last block": at(blocks - 1, 1), "behind the last": at(blocks, 1), "over the end": at(blocks - 1, 2), "far away": at(2 ** 40, 1) })) {
      await run(`${opcode}: ${name}`, { opcode, nsid: 1, prp1: buffer.address, words });
    }
    for (const nsid of [0, 2, 257, 0xffff_ffff]) {
      await run(`${opcode}: namespace ${nsid.toString(16)}`, { opcode, nsid, prp1: buffer.address, words: at(0, 1) });
    }
    await run(`${opcode}: fused`, { opcode, nsid: 1, flags: 1, prp1: buffer.address, words: at(0, 1) });
  }
  for (const opcode of [1, 2, 5]) {
    await run(`${opcode}: beyond MDTS`, { opcode, nsid: 1, prp1: buffer.address, prp2: list.address, words: at(0, 1025) });
    await run(`${opcode}: no memory`, { opcode, nsid: 1, prp1: NOWHERE, words: at(0, 1) });
    await run(`${opcode}: no list`, { opcode, nsid: 1, prp1: buffer.address, prp2: NOWHERE, words: at(0, 24) });
    await run(`${opcode}: PRP 2 with an offset`, { opcode, nsid: 1, prp1: buffer.address, prp2: buffer.address + 512n, words: at(0, 16) });
    await port.writeMemory(list.physical, new Uint8Array(new BigUint64Array([buffer.address + 4096n, buffer.address + 8200n]).buffer));
    await run(`${opcode}: an entry with an offset`, { opcode, nsid: 1, prp1: buffer.address, prp2: list.address, words: at(0, 24) });
  }
  for (const nsid of [0, 1, 2, 257, 0xffff_ffff]) {
    await run(`flush ${nsid.toString(16)}`, { opcode: 0, nsid });
  }
  await run("opcode 7f", { opcode: 0x7f, nsid: 1 });

  const ranges = async (list_: ReadonlyArray<readonly [block: number, count: number]>): Promise<void> => {
    const bytes = new DataView(new ArrayBuffer(16 * list_.length));
    list_.forEach(([block, count], i) => {
      bytes.setUint32(i * 16 + 4, count, true);
      bytes.setBigUint64(i * 16 + 8, BigInt(block), true);
    });
    await port.writeMemory(buffer.physical, new Uint8Array(bytes.buffer));
  };
  await ranges([[0, 8], [blocks - 8, 8]]);
  await run("deallocate", { opcode: 9, nsid: 1, prp1: buffer.address, words: [1, 4] });
  await run("deallocate without the attribute", { opcode: 9, nsid: 1, prp1: buffer.address, words: [1, 0] });
  await run("deallocate without memory", { opcode: 9, nsid: 1, prp1: NOWHERE, words: [1, 4] });
  await ranges([[0, 8], [blocks - 8, 9]]);
  await run("deallocate over the end", { opcode: 9, nsid: 1, prp1: buffer.address, words: [1, 4] });
  return seen;
}

/** Reads, writes, compares and zeroes at random, of all lengths and alignments of PRPs; the disk at the end. */
export async function playRandom(controller: Controller, random: Random, count: number): Promise<Observation> {
  const seen: Observation = {};
  controller.place();
  const driver = await controller.start();
  const queue = await driver.createQueue(1, 5);
  const buffer = controller.allocate(600 << 10);
  const list = controller.allocate(8192);
  const { port } = controller.parts;
  const blocks = DISK_BYTES / BLOCK;
  for (let i = 0; i < count; i++) {
    const length = random.below(4) === 0 ? 1 + random.below(1024) : 1 + random.below(24);
    const block = random.below(20) === 0 ? blocks - random.below(32) : random.below(blocks - length);
    const address = buffer.address + BigInt(random.below(1024) * 4);
    const opcode = [1, 1, 2, 2, 5, 8][random.below(6)];
    const bytes = length * BLOCK;
    const prp2 = await driver.prp2(address, bytes, list);
    if (opcode === 1) {
      await port.writeMemory(Number(address), Uint8Array.from({ length: Math.min(bytes, 8192) }, () => random.below(256)));
    }
    const status = statusText(await run(driver, queue, { opcode, nsid: 1, prp1: address, prp2, words: [block, 0, length - 1] }));
    const data = opcode === 2 ? ` ${digest(await port.readMemory(Number(address), bytes))}` : "";
    seen[`${i}: ${opcode} of ${length} at ${block}, ${(address % 4096n).toString(16)}`] = status + data;
  }
  return seen;
}

function run(driver: NvmeDriver, queue: NvmeQueue, command: NvmeCommand): Promise<NvmeCompletion> {
  return driver.run(queue, command);
}
