import { describe, expect, it } from "vitest";
import { MemoryDisk, NullDisk } from "../../src/block/index.js";
import { type NvmeCommand, statusCode } from "../../src/guest/devices/nvme.js";
import { Rig, SlowDisk } from "./rig.js";

const MIB = 2 ** 20;
/** Compares long runs of bytes fast. */
const same = (found: Uint8Array, expected: Uint8Array): boolean => Buffer.compare(found, expected) === 0;
const pattern = (length: number, seed = 1): Uint8Array => Uint8Array.from({ length }, (_unused, i) => (i * 31 + (i >> 9) * 7 + seed) & 0xff);

async function start(disk: MemoryDisk | SlowDisk | NullDisk = new MemoryDisk("m", 8 * MIB), options: Parameters<typeof Rig.withDisk>[1] = {}) {
  const rig = Rig.withDisk(disk, options);
  const driver = await rig.start();
  const queue = await driver.createQueue(1, 64);
  const run = async (command: NvmeCommand): Promise<number> => statusCode((await driver.run(queue, command)).status);
  const contents = (length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    (disk instanceof SlowDisk ? disk.under : disk).read(0, bytes, () => {});
    return bytes;
  };
  return { rig, driver, queue, run, disk, contents };
}

describe("data in pages (4.3)", () => {
  it.each([
    ["one block", 512, 0],
    ["a page", 4096, 0],
    ["two parts of pages", 4096, 0x804],
    ["two pages", 8192, 0],
    ["a list of two", 8192, 4],
    ["a list", 128 * 1024, 0],
    ["as much as MDTS allows", 512 * 1024, 0],
    ["as much as MDTS allows, from within a page", 512 * 1024, 0xe00],
  ])("%s of %s bytes, %s bytes into a page, goes and comes back", async (_name, bytes, offset) => {
    const { rig, driver, queue, contents } = await start();
    const buffer = rig.allocate(bytes + 4096);
    const data = pattern(bytes);
    rig.bytes(buffer.physical + offset, bytes).set(data);
    const place = { address: buffer.address + BigInt(offset), bytes };
    expect(await driver.move(queue, true, 0, bytes / 512, place)).toBe(0);
    expect(same(contents(bytes), data)).toBe(true);
    rig.bytes(buffer.physical, bytes + 4096).fill(0xee);
    expect(await driver.move(queue, false, 0, bytes / 512, place)).toBe(0);
    expect(same(rig.bytes(buffer.physical + offset, bytes), data)).toBe(true);
    expect(rig.bytes(buffer.physical + offset + bytes, 4096 - offset).every((byte) => byte === 0xee)).toBe(true);
  });

  it("lists of several pages, without a limit of MDTS: 16 MiB by commands of 4 MiB", async () => {
    const { rig, driver, queue, contents } = await start(new MemoryDisk("m", 16 * MIB), { mdts: 0 });
    const buffer = rig.allocate(4 * MIB);
    const bytes = 4 * MIB;
    const data = pattern(bytes);
    rig.bytes(buffer.physical, bytes).set(data);
    for (let part = 0; part < 4; part++) {
      expect(await driver.move(queue, true, part * 8192, 8192, buffer)).toBe(0);
    }
    const all = contents(16 * MIB);
    expect([0, 1, 2, 3].every((part) => Buffer.compare(all.subarray(part * bytes, (part + 1) * bytes), data) === 0)).toBe(true);
    rig.bytes(buffer.physical, bytes).fill(0);
    expect(await driver.move(queue, false, 8192, 8192, buffer)).toBe(0);
    expect(Buffer.compare(rig.bytes(buffer.physical, bytes), data)).toBe(0);
  });

  it("a list that begins at the end of its page leads on at once", async () => {
    const { rig, run } = await start();
    const data = rig.allocate(16384);
    const list = rig.allocate(8192);
    const entries = new BigUint64Array(rig.memory.buffer, rig.bytes(list.physical, 8192).byteOffset, 1024);
    entries[511] = list.address + 4096n;
    [1, 2, 3].forEach((page, i) => (entries[512 + i] = data.address + BigInt(page * 4096)));
    rig.bytes(data.physical, 16384).fill(0xee);
    expect(await run({ opcode: 2, nsid: 1, prp1: data.address, prp2: list.address + 4088n, words: [0, 0, 31] })).toBe(0);
    expect(rig.bytes(data.physical, 16384).every((byte) => byte === 0)).toBe(true);
  });

  it.each([
    ["an offset in PRP 2", 8192, 0, (at: bigint) => at + 512n, 0x13],
    ["a list within a quadword", 16384, 0, (at: bigint) => at + 4n, 0x13],
    ["an entry of a list with an offset", 16384, 0x100, (at: bigint) => at, 0x13],
    ["a PRP 1 within a dword", 512, 0, () => 0n, 0x13],
  ])("%s is an invalid offset", async (_name, bytes, entry, prp2, expected) => {
    const { rig, run } = await start();
    const data = rig.allocate(16384);
    const list = rig.allocate(4096);
    new BigUint64Array(rig.memory.buffer, rig.bytes(list.physical, 64).byteOffset, 3).fill(data.address + BigInt(entry));
    expect(await run({ opcode: 2, nsid: 1, prp1: data.address + (bytes === 512 ? 2n : 0n), prp2: prp2(list.address), words: [0, 0, bytes / 512 - 1] })).toBe(expected);
  });

  it.each(["list", "data"])("a %s that cannot be reached is a data transfer error, and a write does not happen", async (which) => {
    const { rig, run, contents } = await start();
    const data = rig.allocate(16384);
    const list = rig.allocate(4096);
    new BigUint64Array(rig.memory.buffer, rig.bytes(list.physical, 64).byteOffset, 3).set([1n, 2n, 3n].map((page) => data.address + page * 4096n));
    rig.bytes(data.physical, 16384).fill(0xee);
    rig.faulting.add(which === "list" ? list.physical : data.physical + 8192);
    expect(await run({ opcode: 1, nsid: 1, prp1: data.address, prp2: list.address, words: [0, 0, 31] })).toBe(0x04);
    expect(contents(16384).every((byte) => byte === 0)).toBe(true);
  });

  it("pages of 64 KiB", async () => {
    const rig = Rig.withDisk(new MemoryDisk("m", 8 * MIB), { mdts: 0 });
    await rig.start();
    const { controller } = rig;
    const base = 0x4010_0000;
    controller.write(0x14, 0);
    controller.write(0x24, 0x001f_001f);
    controller.write(0x28, base);
    controller.write(0x30, base + 0x1_0000);
    controller.write(0x14, 0x0046_0001 | (4 << 7));
    expect(controller.read(0x1c)).toBe(1);
    const put = (queue: number, at: number, words: Record<number, number>): void => {
      const entry = new Uint32Array(rig.memory.buffer, rig.bytes(queue + at * 64, 64).byteOffset, 16);
      entry.fill(0);
      Object.entries(words).forEach(([word, value]) => (entry[Number(word)] = value));
    };
    put(base, 0, { 0: 5 | (1 << 16), 6: base + 0x2_0000, 10: 1 | (7 << 16), 11: 1 });
    put(base, 1, { 0: 1 | (2 << 16), 6: base + 0x3_0000, 10: 1 | (7 << 16), 11: 1 | (1 << 16) });
    controller.write(0x1000, 2);
    const data = base + 0x10_0000;
    rig.bytes(data, 0x4_0000).set(pattern(0x4_0000));
    new BigUint64Array(rig.memory.buffer, rig.bytes(base + 0x4_0000, 32).byteOffset, 3).set([1, 2, 3].map((page) => BigInt(data + page * 0x1_0000)));
    put(base + 0x3_0000, 0, { 0: 1, 1: 1, 6: data, 8: base + 0x4_0000, 12: 511 });
    put(base + 0x3_0000, 1, { 0: 2 | (1 << 16), 1: 1, 6: data + 0x8_0000, 8: data + 0x9_0000, 12: 255 });
    controller.write(0x1008, 2);
    expect(same(rig.bytes(data + 0x8_0000, 0x2_0000), pattern(0x4_0000).subarray(0, 0x2_0000))).toBe(true);
  });
});

describe("Read, Write, Compare (6)", () => {
  it.each([
    ["one past the end", 16384, 0, 1, 0x80],
    ["over the end", 16383, 0, 2, 0x80],
    ["far away", 0, 0x8000_0000, 1, 0x80],
    ["more than MDTS", 0, 0, 1025, 0x02],
  ])("%s is refused", async (_name, low, high, blocks, expected) => {
    const { rig, run } = await start();
    const buffer = rig.allocate(4096);
    for (const opcode of [1, 2, 5]) {
      expect(await run({ opcode, nsid: 1, prp1: buffer.address, words: [low, high, blocks - 1] })).toBe(expected);
    }
  });

  it("compares", async () => {
    const { rig, driver, queue, run } = await start();
    const buffer = rig.allocate(4096);
    rig.bytes(buffer.physical, 4096).set(pattern(4096));
    await driver.move(queue, true, 3, 8, { address: buffer.address, bytes: 4096 });
    expect(await run({ opcode: 5, nsid: 1, prp1: buffer.address, words: [3, 0, 7] })).toBe(0);
    rig.bytes(buffer.physical, 4096)[4095] ^= 1;
    expect(await run({ opcode: 5, nsid: 1, prp1: buffer.address, words: [3, 0, 7] })).toBe(0x285);
  });

  it("tell of the disk's failures by their kinds", async () => {
    const disk = new SlowDisk(MIB);
    disk.quick = true;
    const { rig, driver, run } = await start(disk);
    const buffer = rig.allocate(4096);
    disk.failing = new Error("EIO");
    const at = { nsid: 1, prp1: buffer.address, words: [0, 0, 7] };
    expect(await run({ opcode: 2, ...at })).toBe(0x281);
    expect(await run({ opcode: 5, ...at })).toBe(0x281);
    expect(await run({ opcode: 1, ...at })).toBe(0x280);
    expect(await run({ opcode: 8, ...at })).toBe(0x280);
    expect(await run({ opcode: 0, nsid: 1 })).toBe(0x280);
    const smart = (await driver.log(2, 512)).data;
    expect(smart[160]).toBe(5);
  });

  it("write to a disk that is read-only: write protected", async () => {
    const { rig, driver, run } = await start(new NullDisk("n", MIB, true));
    const buffer = rig.allocate(4096);
    for (const opcode of [1, 8]) {
      expect(await run({ opcode, nsid: 1, prp1: buffer.address, words: [0, 0, 0] })).toBe(0x20);
    }
    expect(await run({ opcode: 9, nsid: 1, prp1: buffer.address, words: [0, 4] })).toBe(0x20);
    expect(await run({ opcode: 0, nsid: 1 })).toBe(0);
    expect((await driver.identify(0, 1)).data[99]).toBe(1);
  });
});

describe("what survives", () => {
  it("flushes for FUA, for every write while the cache is off, and for Flush of one and of all namespaces", async () => {
    const disk = new SlowDisk(MIB);
    disk.quick = true;
    const { rig, driver, run } = await start(disk);
    const buffer = rig.allocate(4096);
    const write = (flags: number) => run({ opcode: 1, nsid: 1, prp1: buffer.address, words: [0, 0, flags] });
    await write(0);
    expect(disk.asked.splice(0)).toEqual(["write 0 512"]);
    await write(1 << 30);
    expect(disk.asked.splice(0)).toEqual(["write 0 512", "flush"]);
    await driver.runAdmin({ opcode: 9, words: [6, 0] });
    await write(0);
    await run({ opcode: 8, nsid: 1, words: [1, 0, 1] });
    expect(disk.asked.splice(0)).toEqual(["write 0 512", "flush", "zeroes 512 1024 false", "flush"]);
    await run({ opcode: 0, nsid: 1 });
    await run({ opcode: 0, nsid: 0xffff_ffff });
    expect(disk.asked.splice(0)).toEqual(["flush", "flush"]);
  });
});

describe("Write Zeroes and Dataset Management (6.16, 6.7)", () => {
  it("make zeros, of more than MDTS, with memory given back", async () => {
    const disk = new MemoryDisk("m", 8 * MIB);
    const { rig, driver, queue, run, contents } = await start(disk);
    const buffer = rig.allocate(512 * 1024);
    rig.bytes(buffer.physical, 512 * 1024).fill(0xee);
    for (let part = 0; part < 16; part++) {
      await driver.move(queue, true, part * 1024, 1024, buffer);
    }
    expect(disk.allocated).toBe(8 * MIB);
    expect(await run({ opcode: 8, nsid: 1, words: [1, 0, 12287] })).toBe(0);
    const all = contents(8 * MIB);
    expect([all[511], all[512], all[512 + 6 * MIB - 1], all[512 + 6 * MIB]]).toEqual([0xee, 0, 0, 0xee]);
    expect(disk.allocated).toBeLessThan(3 * MIB);
  });

  it("deallocate ranges", async () => {
    const { rig, run, contents, driver, queue } = await start();
    const buffer = rig.allocate(65536);
    rig.bytes(buffer.physical, 65536).fill(0xee);
    await driver.move(queue, true, 0, 128, buffer);
    const ranges = new DataView(rig.memory.buffer, rig.bytes(buffer.physical, 64).byteOffset);
    const put = (at: number, first: bigint, blocks: number): void => {
      ranges.setUint32(at * 16 + 4, blocks, true);
      ranges.setBigUint64(at * 16 + 8, first, true);
    };
    put(0, 2n, 2);
    put(1, 0n, 0);
    put(2, 100n, 1);
    expect(await run({ opcode: 9, nsid: 1, prp1: buffer.address, words: [2, 4] })).toBe(0);
    const found = contents(65536);
    expect(Array.from({ length: 128 }, (_unused, block) => block).filter((block) => found[block * 512] === 0)).toEqual([2, 3, 100]);
    expect(await run({ opcode: 9, nsid: 1, prp1: buffer.address, words: [2, 0] })).toBe(0);
    put(1, 16384n, 1);
    expect(await run({ opcode: 9, nsid: 1, prp1: buffer.address, words: [2, 4] })).toBe(0x80);
    put(1, 0xffff_ffff_ffffn, 1);
    expect(await run({ opcode: 9, nsid: 1, prp1: buffer.address, words: [2, 4] })).toBe(0x80);
  });
});

describe("bounded work", () => {
  it("a doorbell that asks for much does a part at once, and the rest later", async () => {
    const { rig, driver } = await start(new MemoryDisk("m", 8 * MIB));
    const big = await driver.createQueue(2, 64);
    const buffer = rig.allocate(512 * 1024);
    const list = rig.allocate(4096);
    const prp2 = await driver.prp2(buffer.address, 512 * 1024, list);
    for (let i = 0; i < 63; i++) {
      await driver.submit(big, { opcode: 2, nsid: 1, prp1: buffer.address, prp2, words: [0, 0, 1023] }, i === 62);
    }
    const first = await driver.reap(big);
    expect(first).toBeGreaterThan(20);
    expect(first).toBeLessThan(40);
    expect(rig.later).toHaveLength(1);
    rig.runLater();
    rig.runLater();
    expect(await driver.reap(big)).toBe(63 - first);
    expect(rig.later).toHaveLength(0);
  });

  it("at most 64 commands are under way, in turn between queues", async () => {
    const disk = new SlowDisk(MIB);
    const { rig, driver, queue } = await start(disk);
    const other = await driver.createQueue(2, 64);
    const buffer = rig.allocate(4096);
    for (let i = 0; i < 63; i++) {
      await driver.submit(queue, { opcode: 2, nsid: 1, prp1: buffer.address, words: [i, 0, 0] }, i === 62);
    }
    for (let i = 0; i < 10; i++) {
      await driver.submit(other, { opcode: 2, nsid: 1, prp1: buffer.address, words: [1000 + i, 0, 0] }, i === 9);
    }
    expect(disk.waiting).toHaveLength(64);
    expect(disk.asked.slice(62)).toEqual(["read 31744 512", "read 512000 512"]);
    disk.quick = true;
    disk.endAll();
    expect((await driver.reap(queue)) + (await driver.reap(other))).toBe(73);
  });

  it("what the host writes into a queue after the fetch has no effect", async () => {
    const disk = new SlowDisk(MIB);
    const { rig, driver, queue } = await start(disk);
    const buffer = rig.allocate(8192);
    rig.bytes(buffer.physical, 512).fill(0x11);
    const id = await driver.submit(queue, { opcode: 1, nsid: 1, prp1: buffer.address, words: [0, 0, 0] });
    rig.bytes(queue.sq.physical, 64).fill(0xff);
    rig.bytes(buffer.physical, 512).fill(0x22);
    disk.endAll();
    expect((await driver.await(queue, id)).status).toBe(0);
    const found = new Uint8Array(512);
    disk.under.read(0, found, () => {});
    expect(found.every((byte) => byte === 0x11)).toBe(true);
  });
});
