import { describe, expect, it } from "vitest";
import { MemoryDisk } from "../../src/block/index.js";
import { NVME, type NvmeCommand, type NvmeDriver, statusCode } from "../../src/guest/devices/nvme.js";
import { Rig, SlowDisk } from "./rig.js";

const MIB = 2 ** 20;
const make = (options: Parameters<typeof Rig.withDisk>[1] = {}) => Rig.withDisk(new MemoryDisk("m", 4 * MIB), options);
const pattern = (length: number, seed = 1): Uint8Array => Uint8Array.from({ length }, (_unused, i) => (i * 31 + (i >> 9) * 7 + seed) & 0xff);
const code = async (driver: NvmeDriver, command: NvmeCommand): Promise<number> => statusCode((await driver.runAdmin(command)).status);
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

describe("the registers (3.1)", () => {
  it("tell of contiguous queues of 2048 entries, 7.5 s, the NVM command set, pages of 4 to 64 KiB, version 1.4", () => {
    const { controller } = make();
    expect(controller.read(NVME.CAP) >>> 0).toBe(0x0f01_07ff);
    expect(controller.read(NVME.CAP + 4) >>> 0).toBe(0x0040_0020);
    expect(controller.read(NVME.VS)).toBe(0x0001_0400);
    expect([controller.read(NVME.CC), controller.read(NVME.CSTS), controller.read(NVME.AQA)]).toEqual([0, 0, 0]);
  });

  it.each<[string, { aqa?: number; cc?: number; asq?: number }]>([
    ["queues of one entry", { aqa: 0x001f_0000 }],
    ["completion queues of one entry", { aqa: 0x0000_001f }],
    ["pages of 128 KiB", { cc: 5 << 7 }],
    ["another command set", { cc: 1 << 4 }],
    ["weighted arbitration", { cc: 1 << 11 }],
    ["a queue that is not aligned to the page", { cc: 4 << 7, asq: 0x4000_1000 }],
  ])("fail to enable with %s", (_name, { aqa = 0x001f_001f, cc = 0, asq = 0x4000_0000 }) => {
    const { controller } = make();
    controller.write(NVME.AQA, aqa);
    controller.write(NVME.ASQ, asq);
    controller.write(NVME.ACQ, 0x4001_0000);
    controller.write(NVME.CC, 0x0046_0001 | cc);
    expect(controller.read(NVME.CSTS)).toBe(2);
    controller.write(NVME.CC, 0);
    expect(controller.read(NVME.CSTS)).toBe(0);
  });

  it("keep the admin queue over a controller reset and lose it over a function's (7.3.2)", async () => {
    const rig = make();
    await rig.start();
    const { controller } = rig;
    const admin = [controller.read(NVME.AQA), controller.read(NVME.ASQ), controller.read(NVME.ACQ)];
    controller.write(NVME.INTMS, 5);
    expect(controller.read(NVME.INTMC)).toBe(5);
    controller.write(NVME.CC, 0x0046_0000);
    expect(controller.read(NVME.CSTS)).toBe(0);
    expect(controller.read(NVME.INTMS)).toBe(0);
    expect([controller.read(NVME.AQA), controller.read(NVME.ASQ), controller.read(NVME.ACQ)]).toEqual(admin);
    controller.write(NVME.CC, 0x0046_0001);
    expect(controller.read(NVME.CSTS)).toBe(1);
    controller.reset();
    expect([NVME.CC, NVME.CSTS, NVME.AQA, NVME.ASQ, NVME.ACQ].map((at) => controller.read(at))).toEqual([0, 0, 0, 0, 0]);
  });
});

describe("Identify (5.15)", () => {
  it("describes the controller", async () => {
    const rig = make({ serial: "SN 7", modelNumber: "Model X", firmware: "2.5" });
    const driver = await rig.start();
    const { status, data } = await driver.identify(1);
    const view = new DataView(data.buffer, data.byteOffset);
    expect(status).toBe(0);
    expect([view.getUint16(0, true), view.getUint16(2, true)]).toEqual([0x1b36, 0x1af4]);
    expect(text(data.subarray(4, 24))).toBe("SN 7".padEnd(20));
    expect(text(data.subarray(24, 64))).toBe("Model X".padEnd(40));
    expect(text(data.subarray(64, 72))).toBe("2.5".padEnd(8));
    expect([data[77], view.getUint32(80, true), data[512], data[513], view.getUint32(516, true), view.getUint16(520, true), data[525]]).toEqual([7, 0x10400, 0x66, 0x44, 256, 0x1d, 7]);
    expect([view.getUint16(256, true), view.getUint32(536, true)]).toEqual([0, 0]); // OACS, SGLS: nothing optional
    expect(text(data.subarray(768, 1024)).replace(/\0+$/, "")).toMatch(/^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it("describes namespaces, and lists them with their names", async () => {
    const driver = await make({ blockBytes: 4096 }).start();
    const { data } = await driver.identify(0, 1);
    const view = new DataView(data.buffer, data.byteOffset);
    expect([view.getBigUint64(0, true), view.getBigUint64(8, true), view.getBigUint64(16, true)]).toEqual([1024n, 1024n, 1024n]);
    expect([data[25], data[26], view.getUint32(128, true)]).toEqual([0, 0, 12 << 16]);
    expect(await driver.namespaces()).toEqual([1]);
    const list = (await driver.identify(3, 1)).data;
    expect([list[0], list[1], list[12], list[13], list[32], list[33], list[52]]).toEqual([1, 8, 2, 16, 3, 16, 0]);
    expect(list.subarray(4, 12)).toEqual(data.subarray(120, 128));
    expect(list.subarray(16, 32)).toEqual(data.subarray(104, 120));
    expect((await driver.identify(0, 2)).data.every((byte) => byte === 0)).toBe(true);
    expect((await driver.identify(2, 1)).data.every((byte) => byte === 0)).toBe(true);
  });

  it.each([
    ["a namespace 0", 0, 0, 0x0b],
    ["a namespace beyond NN", 0, 257, 0x0b],
    ["all namespaces, without management of them", 0, 0xffff_ffff, 0x0b],
    ["names of a namespace that is not active", 3, 2, 0x02],
    ["names of no namespace", 3, 0, 0x0b],
    ["a list above the last id", 2, 0xffff_fffe, 0x0b],
    ["a namespace by its command set", 5, 1, 0x02],
    ["the controller by its command set", 6, 0, 0x02],
    ["allocated namespaces", 0x10, 0, 0x02],
  ])("refuses %s", async (_name, cns, nsid, expected) => {
    const driver = await make().start();
    expect(statusCode((await driver.identify(cns, nsid)).status)).toBe(expected);
  });
});

describe("queues (5.3 to 5.6)", () => {
  const contiguous = 1;
  it.each([
    ["a completion queue 0", 5, 0, [0 | (7 << 16), contiguous], 0x101],
    ["a completion queue beyond those that there are", 5, 0, [9 | (7 << 16), contiguous], 0x101],
    ["a completion queue that is there", 5, 0, [1 | (7 << 16), contiguous], 0x101],
    ["a completion queue of one entry", 5, 0, [2, contiguous], 0x102],
    ["a completion queue of more than MQES", 5, 0, [2 | (2048 << 16), contiguous], 0x102],
    ["a completion queue with an offset", 5, 8, [2 | (7 << 16), contiguous], 0x13],
    ["a completion queue with a vector that there is not", 5, 0, [2 | (7 << 16), contiguous | (9 << 16)], 0x108],
    ["a completion queue of pages", 5, 0, [2 | (7 << 16), 0], 0x02],
    ["a submission queue 0", 1, 0, [0 | (7 << 16), contiguous | (1 << 16)], 0x101],
    ["a submission queue that is there", 1, 0, [1 | (7 << 16), contiguous | (1 << 16)], 0x101],
    ["a submission queue beyond those that there are", 1, 0, [9 | (7 << 16), contiguous | (1 << 16)], 0x101],
    ["a submission queue on the admin completion queue", 1, 0, [2 | (7 << 16), contiguous], 0x100],
    ["a submission queue on a completion queue that there is not", 1, 0, [2 | (7 << 16), contiguous | (3 << 16)], 0x100],
    ["a submission queue of one entry", 1, 0, [2, contiguous | (1 << 16)], 0x102],
    ["a submission queue with an offset", 1, 64, [2 | (7 << 16), contiguous | (1 << 16)], 0x13],
    ["a submission queue of pages", 1, 0, [2 | (7 << 16), 1 << 16], 0x02],
    ["the end of submission queue 0", 0, 0, [0], 0x101],
    ["the end of a submission queue that there is not", 0, 0, [2], 0x101],
    ["the end of completion queue 0", 4, 0, [0], 0x101],
    ["the end of a completion queue that is used", 4, 0, [1], 0x10c],
  ])("%s: refused", async (_name, opcode, offset, words, expected) => {
    const rig = make();
    const driver = await rig.start();
    await driver.createQueue(1, 8);
    const at = rig.allocate(8192);
    expect(await code(driver, { opcode, prp1: at.address + BigInt(offset), words })).toBe(expected);
  });

  it("come and go, several submission queues on one completion queue", async () => {
    const rig = make();
    const driver = await rig.start();
    const queue = await driver.createQueue(1, 8);
    const sq = rig.allocate(4096);
    expect(await code(driver, { opcode: 1, prp1: sq.address, words: [2 | (7 << 16), 1 | (1 << 16)] })).toBe(0);
    expect(await code(driver, { opcode: 0, words: [1] })).toBe(0);
    expect(await code(driver, { opcode: 4, words: [1] })).toBe(0x10c);
    expect(await code(driver, { opcode: 0, words: [2] })).toBe(0);
    expect(await code(driver, { opcode: 4, words: [1] })).toBe(0);
    expect(await code(driver, { opcode: 4, words: [1] })).toBe(0x101);
    await rig.bytes(queue.cq.physical, 128).fill(0);
    await driver.createQueue(1, 8);
  });

  it("wrap, with the phase turned, for many times their size", async () => {
    const rig = make();
    const driver = await rig.start(4);
    const queue = await driver.createQueue(1, 3);
    for (let i = 0; i < 20; i++) {
      const done = await driver.run(queue, { opcode: 0, nsid: 1 });
      expect([done.status, done.sqHead, done.sqId]).toEqual([0, (i + 1) % 3, 1]);
    }
  });

  it("hold commands back while the completion queue has no room, and go on when it has", async () => {
    const rig = make();
    const driver = await rig.start();
    const cq = rig.allocate(4096);
    const sq = rig.allocate(4096);
    expect(await code(driver, { opcode: 5, prp1: cq.address, words: [1 | (2 << 16), 1] })).toBe(0);
    expect(await code(driver, { opcode: 1, prp1: sq.address, words: [1 | (15 << 16), 1 | (1 << 16)] })).toBe(0);
    for (let i = 0; i < 8; i++) {
      new DataView(rig.bytes(sq.physical + i * 64, 8).buffer, rig.bytes(sq.physical + i * 64, 8).byteOffset).setUint32(0, i << 16, true);
      rig.bytes(sq.physical + i * 64 + 4, 1)[0] = 1;
    }
    const entry = (at: number): number => new DataView(rig.memory.buffer, rig.bytes(cq.physical + at * 16, 16).byteOffset).getUint32(12, true);
    await driver.ringTail(1, 8);
    expect([entry(0), entry(1), entry(2)]).toEqual([0x1_0000, 0x1_0001, 0]);
    await driver.ringHead(1, 1);
    expect([entry(0), entry(1), entry(2)]).toEqual([0x1_0000, 0x1_0001, 0x1_0002]);
    await driver.ringHead(1, 2);
    expect(entry(0)).toBe(3);
  });
});

describe("doorbells", () => {
  async function event(ring: (driver: NvmeDriver) => Promise<void>): Promise<number> {
    const rig = make();
    const driver = await rig.start();
    await driver.createQueue(1, 8);
    const id = await driver.submit(driver.admin, { opcode: 0x0c });
    expect(await driver.completion(driver.admin, id)).toBeNull();
    await ring(driver);
    return (await driver.await(driver.admin, id)).result;
  }
  it.each([
    ["of a queue that there is not", (driver: NvmeDriver) => driver.ringTail(3, 1), 0x1_0000],
    ["beyond all queues", (driver: NvmeDriver) => driver.setRegister(0x3000, 1), 0x1_0000],
    ["of a tail beyond the queue", (driver: NvmeDriver) => driver.ringTail(1, 8), 0x1_0100],
    ["of a head that takes more than there is", (driver: NvmeDriver) => driver.ringHead(1, 1), 0x1_0100],
    ["of a head beyond the queue", (driver: NvmeDriver) => driver.ringHead(1, 8), 0x1_0100],
  ])("%s give an error event", async (_name, ring, expected) => {
    expect(await event(ring)).toBe(expected);
  });

  it("are told of once until the error log is read, and again after it (5.2)", async () => {
    const driver = await make().start();
    const [first, second] = [await driver.submit(driver.admin, { opcode: 0x0c }), await driver.submit(driver.admin, { opcode: 0x0c })];
    await driver.ringTail(3, 1);
    await driver.ringTail(3, 1);
    expect((await driver.await(driver.admin, first)).result).toBe(0x1_0000);
    expect(await driver.completion(driver.admin, second)).toBeNull();
    await driver.log(1, 64, { retain: true });
    expect(await driver.completion(driver.admin, second)).toBeNull();
    const { data } = await driver.log(1, 64);
    expect(new DataView(data.buffer, data.byteOffset).getUint16(8, true)).toBe(0xffff);
    expect((await driver.await(driver.admin, second)).result).toBe(0x1_0000);
  });
});

describe("asynchronous event requests (5.2)", () => {
  it("wait, as many as AERL allows; more are refused; Abort ends one", async () => {
    const driver = await make({ aerl: 1 }).start();
    const ids = [await driver.submit(driver.admin, { opcode: 0x0c }), await driver.submit(driver.admin, { opcode: 0x0c })];
    expect(await code(driver, { opcode: 0x0c })).toBe(0x105);
    expect(await driver.runAdmin({ opcode: 0x08, words: [ids[1] << 16] })).toMatchObject({ status: 0, result: 0 });
    expect(statusCode((await driver.await(driver.admin, ids[1])).status)).toBe(0x07);
    expect(await driver.runAdmin({ opcode: 0x08, words: [77 << 16] })).toMatchObject({ status: 0, result: 1 });
    expect(await code(driver, { opcode: 0x08, words: [5] })).toBe(0x02);
  });

  it("bring a temperature that passes a threshold, where it is asked for", async () => {
    const driver = await make().start();
    const id = await driver.submit(driver.admin, { opcode: 0x0c });
    expect(await code(driver, { opcode: 9, words: [4, 300] })).toBe(0);
    expect(await driver.completion(driver.admin, id)).toBeNull();
    expect((await driver.log(2, 512)).data[0]).toBe(2);
    expect(await code(driver, { opcode: 9, words: [0x0b, 2] })).toBe(0);
    expect((await driver.await(driver.admin, id)).result).toBe(0x2_0101);
  });
});

describe("log pages (5.14)", () => {
  it("count what was read and written, and errors with their place", async () => {
    const rig = make();
    const driver = await rig.start();
    const queue = await driver.createQueue(1, 8);
    const buffer = rig.allocate(8192);
    for (let i = 0; i < 3; i++) {
      expect(await driver.move(queue, i > 0, 0, 16, buffer)).toBe(0);
    }
    expect(statusCode(await driver.move(queue, false, 8190, 16, buffer))).toBe(0x80);
    const smart = new DataView((await driver.log(2, 512)).data.slice().buffer);
    expect([smart.getUint16(1, true), smart.getUint8(3)]).toEqual([323, 100]);
    expect([32, 48, 64, 80, 112, 176].map((at) => smart.getBigUint64(at, true))).toEqual([1n, 1n, 1n, 2n, 1n, 1n]);
    const errors = new DataView((await driver.log(1, 128)).data.slice().buffer);
    expect([errors.getBigUint64(0, true), errors.getUint16(8, true), errors.getUint16(12, true) >> 1, errors.getBigUint64(16, true), errors.getUint32(24, true)]).toEqual([1n, 1, 0x4080, 8190n, 1]);
    expect(errors.getBigUint64(64, true)).toBe(0n);
  });

  it("tell of the firmware's slot, of no changed namespace, and of what is supported", async () => {
    const driver = await make({ firmware: "3.1" }).start();
    const firmware = (await driver.log(3, 512)).data;
    expect([firmware[0], text(firmware.subarray(8, 16))]).toEqual([1, "3.1     "]);
    expect((await driver.log(4, 4096)).data.every((byte) => byte === 0)).toBe(true);
    const effects = new DataView((await driver.log(5, 4096)).data.slice().buffer);
    const list = (from: number): number[] => Array.from({ length: 256 }, (_unused, opcode) => opcode).filter((opcode) => effects.getUint32(from + 4 * opcode, true) !== 0);
    expect(list(0)).toEqual([0, 1, 2, 4, 5, 6, 8, 9, 10, 12]);
    expect(list(1024)).toEqual([0, 1, 2, 5, 8, 9]);
    expect((await driver.log(5, 8, { offset: 1024 })).data).toEqual(Uint8Array.of(1, 0, 0, 0, 3, 0, 0, 0));
  });

  it.each([
    ["a page that there is not", 0x06, 64, {}, 0x109],
    ["an offset beyond the page", 0x02, 64, { offset: 512 }, 0x02],
    ["an offset within a dword", 0x02, 64, { offset: 6 }, 0x02],
    ["SMART of a namespace that there is not", 0x02, 64, { nsid: 5 }, 0x0b],
  ])("%s: refused", async (_name, page, bytes, options, expected) => {
    const driver = await make().start();
    expect(statusCode((await driver.log(page, bytes, options)).status)).toBe(expected);
  });
});

describe("features (5.21)", () => {
  const get = async (driver: NvmeDriver, feature: number, word = 0, select = 0, nsid = 0) => {
    const { status, result } = await driver.runAdmin({ opcode: 0x0a, nsid, words: [feature | (select << 8), word] });
    return status === 0 ? result >>> 0 : `0x${statusCode(status).toString(16)}`;
  };
  const set = async (driver: NvmeDriver, feature: number, word: number, nsid = 0) => {
    const { status, result } = await driver.runAdmin({ opcode: 0x09, nsid, words: [feature, word] });
    return status === 0 ? result >>> 0 : `0x${statusCode(status).toString(16)}`;
  };

  it("have defaults, are set, and are back at the defaults after a reset", async () => {
    const rig = make();
    const driver = await rig.start();
    const read = async (one: NvmeDriver) => {
      const values: unknown[] = [];
      for (const [feature, nsid] of [[1, 0], [2, 0], [4, 0], [5, 1], [6, 0], [7, 0], [8, 0], [9, 0], [10, 0], [11, 0]]) {
        values.push(await get(one, feature, 0, 0, nsid));
      }
      return values;
    };
    const defaults = [7, 0, 0x157, 0, 1, 0x0007_0007, 0, 0x1_0000, 0, 0];
    expect(await read(driver)).toEqual(defaults);
    for (const [feature, word, nsid] of [[1, 3, 0], [4, 0x160, 0], [5, 100, 1], [6, 0, 0], [8, 0x0203, 0], [9, 0x1_0002, 0], [10, 1, 0], [11, 0x100, 0]]) {
      expect(await set(driver, feature, word, nsid)).toBe(0);
    }
    expect(await set(driver, 7, 0x0001_0001)).toBe(0x0007_0007);
    expect(await read(driver)).toEqual([3, 0, 0x160, 100, 0, 0x0007_0007, 0x0203, 0x1_0000, 1, 0x100]);
    expect([await get(driver, 4, 0, 1), await get(driver, 6, 0, 2), await get(driver, 6, 0, 3), await get(driver, 5, 0, 3, 1)]).toEqual([0x157, 1, 4, 6]);
    expect([await get(driver, 4, 1 << 20), await get(driver, 9, 2), await get(driver, 9, 3), await get(driver, 9, 2, 1)]).toEqual([0, 0x1_0002, 3, 2]);
    expect(await read(await rig.start())).toEqual(defaults);
  });

  it.each([
    ["a feature that there is not", async (d: NvmeDriver) => set(d, 0x0c, 0), "0x2"],
    ["one to be read that there is not", async (d: NvmeDriver) => get(d, 0x80), "0x2"],
    ["what is to be saved", async (d: NvmeDriver) => set(d, 0x8000_0006 | 0, 0), "0x10d"],
    ["a power state that there is not", async (d: NvmeDriver) => set(d, 2, 1), "0x2"],
    ["65536 queues", async (d: NvmeDriver) => set(d, 7, 0xffff), "0x2"],
    ["a sensor that there is not", async (d: NvmeDriver) => set(d, 4, 0x1_0100), "0x2"],
    ["a vector that there is not", async (d: NvmeDriver) => set(d, 9, 9), "0x2"],
    ["a controller's feature of a namespace", async (d: NvmeDriver) => set(d, 6, 0, 1), "0x10f"],
    ["a namespace's feature of none", async (d: NvmeDriver) => set(d, 5, 0, 0), "0xb"],
    ["a selection that there is not", async (d: NvmeDriver) => get(d, 6, 0, 4), "0x2"],
  ])("%s: refused", async (_name, ask, expected) => {
    expect(await ask(await make().start())).toBe(expected);
  });

  it("number of queues is out of sequence once there are queues", async () => {
    const driver = await make().start();
    await driver.createQueue(1, 8);
    expect(await set(driver, 7, 0)).toBe("0xc");
  });
});

describe("commands that are not there", () => {
  it.each([0x0d, 0x10, 0x11, 0x15, 0x18, 0x1c, 0x7c, 0x80, 0x81, 0x82, 0xff])("admin 0x%s: invalid opcode, not to be retried", async (opcode) => {
    const driver = await make().start();
    expect((await driver.runAdmin({ opcode })).status & 0x4fff).toBe(0x4001);
  });

  it("I/O 0x0c and SGLs and fused commands", async () => {
    const rig = make();
    const driver = await rig.start();
    const queue = await driver.createQueue(1, 8);
    const run = async (command: NvmeCommand) => statusCode((await driver.run(queue, command)).status);
    expect(await run({ opcode: 0x0c, nsid: 1 })).toBe(0x01);
    expect(await run({ opcode: 0x02, nsid: 1, flags: 0x40 })).toBe(0x02);
    expect(await run({ opcode: 0x02, nsid: 1, flags: 0x01 })).toBe(0x02);
    expect(await run({ opcode: 0x02, nsid: 0 })).toBe(0x0b);
    expect(await run({ opcode: 0x02, nsid: 257 })).toBe(0x0b);
    expect(await run({ opcode: 0x02, nsid: 2 })).toBe(0x02);
  });
});

describe("interrupts (7.5)", () => {
  it("are a message for each batch of completions, of the queue's vector", async () => {
    const rig = make();
    const driver = await rig.start();
    const queue = await driver.createQueue(1, 16, 3);
    const silent = await driver.createQueue(2, 16);
    rig.raised.length = 0;
    for (let i = 0; i < 5; i++) {
      await driver.submit(queue, { opcode: 0, nsid: 1 }, i === 4);
    }
    await driver.submit(silent, { opcode: 0, nsid: 1 });
    expect(rig.raised).toEqual([3]);
  });

  it("by the pin are a level while there are entries, masked by INTMS", async () => {
    const rig = make();
    rig.messages = false;
    const driver = await rig.start();
    const id = await driver.submit(driver.admin, { opcode: 0x0a, words: [6] });
    expect(rig.pin).toBe(true);
    await driver.setRegister(NVME.INTMS, 1);
    expect(rig.pin).toBe(false);
    await driver.setRegister(NVME.INTMC, 1);
    expect(rig.pin).toBe(true);
    expect(await driver.completion(driver.admin, id)).not.toBeNull();
    expect(rig.pin).toBe(false);
    await driver.submit(driver.admin, { opcode: 0x0a, words: [6] });
    expect(rig.pin).toBe(true);
    rig.controller.write(NVME.CC, 0);
    expect(rig.pin).toBe(false);
  });
});

describe("memory that fails", () => {
  it("fails a command whose data it has, with Data Transfer Error", async () => {
    const rig = make();
    const driver = await rig.start();
    const buffer = rig.allocate(4096);
    rig.faulting.add(buffer.physical);
    const { status } = await driver.runAdmin({ opcode: 6, prp1: buffer.address, words: [1] });
    expect([statusCode(status), status & 0x4000]).toEqual([0x04, 0]);
    expect(await code(driver, { opcode: 0x0a, words: [6] })).toBe(0);
  });

  it.each(["submission", "completion"])("fails the controller when a %s queue cannot be reached, until it is reset", async (which) => {
    const rig = make();
    const driver = await rig.start();
    rig.faulting.add(which === "submission" ? driver.admin.sq.physical : driver.admin.cq.physical);
    await driver.submit(driver.admin, { opcode: 0x0a, words: [6] });
    expect(rig.controller.read(NVME.CSTS)).toBe(3);
    const { requests } = rig;
    await driver.ringTail(0, 9);
    await driver.ringTail(5, 9);
    expect(rig.requests).toBe(requests);
    rig.faulting.clear();
    const again = await rig.start();
    expect(await again.namespaces()).toEqual([1]);
  });
});

describe("reset and shutdown with commands under way", () => {
  it("wait for the disk: RDY goes when nothing can be written any more, and nothing is told of it", async () => {
    const disk = new SlowDisk(MIB);
    const rig = Rig.withDisk(disk);
    const driver = await rig.start();
    const queue = await driver.createQueue(1, 8, 1);
    const buffer = rig.allocate(4096);
    rig.bytes(buffer.physical, 4096).set(pattern(4096));
    await driver.submit(queue, { opcode: 1, nsid: 1, prp1: buffer.address, words: [0, 0, 7] });
    expect(disk.waiting.map(({ what }) => what)).toEqual(["write 0 4096"]);
    rig.raised.length = 0;
    rig.controller.write(NVME.CC, 0x0046_0000);
    expect(rig.controller.read(NVME.CSTS)).toBe(1);
    const { requests } = rig;
    disk.endAll();
    expect(rig.controller.read(NVME.CSTS)).toBe(0);
    expect([rig.requests - requests, rig.raised]).toEqual([0, []]);
  });

  it("hold the next enabling back after a function level reset", async () => {
    const disk = new SlowDisk(MIB);
    const rig = Rig.withDisk(disk);
    const driver = await rig.start();
    const queue = await driver.createQueue(1, 8);
    const buffer = rig.allocate(4096);
    await driver.submit(queue, { opcode: 2, nsid: 1, prp1: buffer.address, words: [0, 0, 7] });
    rig.controller.reset();
    expect(rig.controller.read(NVME.CSTS)).toBe(0);
    rig.controller.write(NVME.AQA, 0x001f_001f);
    rig.controller.write(NVME.ASQ, driver.admin.sq.physical);
    rig.controller.write(NVME.ACQ, driver.admin.cq.physical);
    rig.controller.write(NVME.CC, 0x0046_0001);
    expect(rig.controller.read(NVME.CSTS)).toBe(0);
    const before = rig.bytes(buffer.physical, 4096).slice();
    disk.endAll();
    expect(rig.controller.read(NVME.CSTS)).toBe(1);
    expect(rig.bytes(buffer.physical, 4096)).toEqual(before);
  });

  it("end a deleted queue's commands first", async () => {
    const disk = new SlowDisk(MIB);
    const rig = Rig.withDisk(disk);
    const driver = await rig.start();
    const queue = await driver.createQueue(1, 8);
    const buffer = rig.allocate(4096);
    const io = await driver.submit(queue, { opcode: 2, nsid: 1, prp1: buffer.address, words: [0, 0, 7] });
    const end = await driver.submit(driver.admin, { opcode: 0, words: [1] });
    expect(await driver.completion(driver.admin, end)).toBeNull();
    expect(await code(driver, { opcode: 0, words: [1] })).toBe(0x101);
    disk.endAll();
    expect((await driver.await(queue, io)).status).toBe(0);
    expect((await driver.await(driver.admin, end)).status).toBe(0);
  });

  it("flush at a shutdown, which is complete afterwards (7.6.2)", async () => {
    const disk = new SlowDisk(MIB);
    const rig = Rig.withDisk(disk);
    await rig.start();
    rig.controller.write(NVME.CC, 0x0046_4001);
    expect(disk.asked).toEqual(["flush"]);
    expect(rig.controller.read(NVME.CSTS)).toBe(1 | (1 << 2));
    disk.endAll();
    expect(rig.controller.read(NVME.CSTS)).toBe(1 | (2 << 2));
    rig.controller.write(NVME.CC, 0x0046_0000);
    expect(rig.controller.read(NVME.CSTS)).toBe(0);
    disk.quick = true;
    expect(await (await rig.start()).namespaces()).toEqual([1]);
  });
});
