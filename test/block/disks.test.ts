import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Disk, type Done, FileDisk, MemoryDisk, NullDisk } from "../../src/block/index.js";

const folder = mkdtempSync(join(tmpdir(), "viommu-disk-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
function file(bytes: Uint8Array): string {
  const path = join(folder, `disk${files++}.raw`);
  writeFileSync(path, bytes);
  return path;
}
const ended = (ask: (done: Done) => void): Promise<Error | null> => new Promise((resolve) => ask(resolve));
async function contents(disk: Disk, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  expect(await ended((done) => disk.read(position, bytes, done))).toBeNull();
  return bytes;
}

describe("a disk", () => {
  it.each([
    ["of memory", () => new MemoryDisk("m", 1 << 20)],
    ["of a file", () => FileDisk.open(file(new Uint8Array(1 << 20)))],
  ])("%s keeps what is written, over pages, and zeros where it is told", async (_name, make) => {
    const disk = make();
    const data = Uint8Array.from({ length: 200_000 }, (_unused, i) => (i % 251) + 1);
    expect(await ended((done) => disk.write(65_000, data, done))).toBeNull();
    expect(Buffer.compare(await contents(disk, 65_000, 200_000), data)).toBe(0);
    expect(await contents(disk, 64_998, 4)).toEqual(Uint8Array.of(0, 0, 1, 2));
    expect(await ended((done) => disk.writeZeroes(65_001, 150_000, true, done))).toBeNull();
    expect(await contents(disk, 65_000, 3)).toEqual(Uint8Array.of(1, 0, 0));
    expect(await contents(disk, 215_000, 2)).toEqual(Uint8Array.of(0, data[150_001]));
    expect(await ended((done) => disk.flush(done))).toBeNull();
    disk.close();
  });

  it("of memory takes what is written, and gives it back", async () => {
    const disk = new MemoryDisk("m", 2 ** 40);
    expect(await ended((done) => disk.write(2 ** 39, Uint8Array.of(7), done))).toBeNull();
    expect(disk.allocated).toBe(65536);
    expect(await contents(disk, 2 ** 39, 2)).toEqual(Uint8Array.of(7, 0));
    expect(await ended((done) => disk.deallocate(0, 2 ** 40, done))).toBeNull();
    expect(disk.allocated).toBe(0);
  });

  it("of nothing reads as zeros", async () => {
    const disk = new NullDisk("n", 1 << 20);
    expect(await ended((done) => disk.write(0, Uint8Array.of(7), done))).toBeNull();
    expect(await contents(disk, 0, 2)).toEqual(Uint8Array.of(0, 0));
  });
});

describe("a disk of a file", () => {
  it("writes into the file", async () => {
    const path = file(new Uint8Array(8192));
    const disk = FileDisk.open(path);
    expect(disk.size).toBe(8192);
    expect(await ended((done) => disk.write(4096, Buffer.from("found"), done))).toBeNull();
    expect(readFileSync(path).subarray(4096, 4101).toString()).toBe("found");
    disk.close();
  });

  it("reads zeros beyond the end of a file that has become shorter", async () => {
    const path = file(new Uint8Array(8192).fill(7));
    const disk = FileDisk.open(path);
    truncateSync(path, 4097);
    expect(await contents(disk, 4096, 3)).toEqual(Uint8Array.of(7, 0, 0));
    disk.close();
  });

  it("that may not be written tells so", async () => {
    const disk = FileDisk.open(file(new Uint8Array(512)), { readOnly: true });
    expect(disk.readOnly).toBe(true);
    expect(await ended((done) => disk.write(0, Uint8Array.of(1), done))).toMatchObject({ code: "EBADF" });
    disk.close();
  });

  it("is one writer's, or any number of readers'", () => {
    const path = file(new Uint8Array(512));
    const writer = FileDisk.open(path);
    expect(() => FileDisk.open(path)).toThrow(/Failed to get "write" lock\nIs another process using the image/);
    expect(() => FileDisk.open(path, { readOnly: true })).toThrow(/Failed to get shared "write" lock/);
    writer.close();
    const readers = [FileDisk.open(path, { readOnly: true }), FileDisk.open(path, { readOnly: true })];
    expect(() => FileDisk.open(path)).toThrow(/write/);
    readers.forEach((reader) => reader.close());
    FileDisk.open(path).close();
  });

  it("that is closed with work under way ends that first", async () => {
    const path = file(new Uint8Array(512));
    const disk = FileDisk.open(path);
    const written = ended((done) => disk.write(0, Buffer.from("late"), done));
    disk.close();
    expect(() => FileDisk.open(path)).toThrow(/lock/);
    expect(await written).toBeNull();
    await new Promise((resolve) => setImmediate(resolve));
    FileDisk.open(path).close();
    expect(readFileSync(path).subarray(0, 4).toString()).toBe("late");
  });

  it("that is not there, or is a folder, is refused; an image of another format is seen", () => {
    expect(() => FileDisk.open(join(folder, "none.raw"))).toThrow(/Could not open '.*none\.raw': No such file or directory/);
    expect(() => FileDisk.open(folder, { readOnly: true })).toThrow(/a directory/);
    const isQcow = (bytes: Uint8Array): boolean => {
      const disk = FileDisk.open(file(bytes));
      const is = disk.isQcow;
      disk.close();
      return is;
    };
    expect(isQcow(Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3))).toBe(true);
    expect(isQcow(new Uint8Array(512))).toBe(false);
  });
});
