/** Captures from anybody: bounded, and nothing of them leads out of them. */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { compress } from "@bokuweb/zstd-wasm";
import fc from "fast-check";
import tar, { type Header } from "tar-stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeSnapshot, readCapture } from "../../../src/host/described/index.js";
import { blanked, capabilitiesOf, collect, FolderSource, pack, Snapshot } from "../../../src/host/sysfs/index.js";
import { captures, SECRET } from "../captures/index.js";

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "archive-"));
  // Makes the library ready, which is done once in a process.
  await pack(new Snapshot());
});
afterAll(() => rmSync(folder, { recursive: true }));

async function tarOf(...entries: Array<Partial<Header> & { name: string; data?: string }>): Promise<Buffer> {
  const archive = tar.pack();
  for (const { data, ...header } of entries) {
    archive.entry(header, data ?? "");
  }
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive) {
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts);
}

const VENDOR = { name: "sys/bus/pci/devices/0000:01:00.0/vendor", data: "0x8086\n" };

async function read(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  try {
    return (await readCapture(path)).text("sys/bus/pci/devices/0000:01:00.0/vendor") ?? "no vendor";
  } catch (error) {
    return (error as Error).message.replaceAll(path, name);
  }
}

describe("an archive", () => {
  it("is tar, gzip or zstd, by its first bytes", async () => {
    const plain = await tarOf(VENDOR);
    expect(await read("a.tar", plain)).toBe("0x8086");
    expect(await read("b.tar.gz", gzipSync(plain))).toBe("0x8086");
    expect(await read("c.tar.zst", compress(plain))).toBe("0x8086");
    // `./sys`, `/sys`, folders of their own.
    expect(await read("d.tar", await tarOf({ ...VENDOR, name: `./${VENDOR.name}` }))).toBe("0x8086");
    expect(await read("e.tar", await tarOf({ ...VENDOR, name: `/${VENDOR.name}` }))).toBe("0x8086");
  });

  it("is refused where it is none, with what would work", async () => {
    expect(await read("f.tar", Buffer.from("hello"))).toBe("f.tar: no capture of a host: it is neither tar nor gzip nor zstd\n  would work: a capture of viommu host --capture, or a tar of a host's /sys, /proc and /dev (.tar, .tar.gz, .tar.zst)");
    expect(await read("g.tar.gz", gzipSync(Buffer.from("hello")))).toContain("no capture of a host");
    expect(await read("h.tar.gz", Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3]))).toContain("it cannot be unpacked: ");
    expect(await read("i.tar.zst", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0]))).toContain("its zstd frame is damaged");
    expect(await read("j.tar.zst", Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 9]), Buffer.alloc(40, 7)]))).toContain("it cannot be unpacked: ");
    expect(await read("k.tar", await tarOf({ name: "etc/passwd", data: "root" }))).toContain("k.tar: no copy of a host: there is no folder sys in it");
    await expect(readCapture(join(folder, "nowhere.tar"))).rejects.toThrow("No such file or directory");
  });

  it("that unpacks to more than a host has is not unpacked", async () => {
    // A frame that says 8 GiB: of single segment, with eight bytes of size (RFC 8878, 3.1.1.1).
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(2n ** 33n);
    expect(await read("l.tar.zst", Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xe0]), size, Buffer.alloc(20)]))).toContain("it unpacks to 8589934592 bytes, and a capture to at most 268435456");
    expect(await read("m.tar.gz", Buffer.concat(Array<Buffer>(20).fill(gzipSync(Buffer.alloc(15 * 2 ** 20)))))).toContain("it cannot be unpacked: ");
  });

  it("is read, and packed, after damaged ones", async () => {
    const snapshot = new Snapshot();
    // More than the memory that the library starts with.
    snapshot.file("sys/bus/pci/devices/0000:01:00.0/vendor", "0x8086\n");
    for (let i = 0; i < 4; i++) {
      snapshot.file(`sys/firmware/${i}`, randomBytes(2 ** 21));
    }
    const packed = await pack(snapshot);
    for (const at of [5, 9, 100, 100_000, packed.length - 300]) {
      const damaged = Buffer.from(packed);
      damaged.fill(0xa5, at, at + 200);
      await read("damaged.tar.zst", damaged);
      await read("short.tar.zst", packed.subarray(0, at));
    }
    expect(await read("good.tar.zst", packed)).toBe("0x8086");
    expect(Buffer.compare(await pack(snapshot), packed)).toBe(0);
  });

  it("has no entry that leads out of it", async () => {
    expect(await read("n.tar", await tarOf({ name: "sys/../../../etc/cron.d/x", data: "x" }))).toContain('an entry leads out of it: "sys/../../../etc/cron.d/x"');
    expect(await read("o.tar", await tarOf({ name: "sys/bus/pci/devices/0000:01:00.0", type: "symlink", linkname: "/etc" }))).toBe("no vendor");
    // A link is data: what is below it in the archive is dropped, and a ring of links ends.
    const ring = await tarOf({ name: "sys/bus/pci/devices/0000:01:00.0", type: "symlink", linkname: "0000:02:00.0" }, { name: "sys/bus/pci/devices/0000:02:00.0", type: "symlink", linkname: "0000:01:00.0" }, VENDOR);
    expect(await read("p.tar", ring)).toBe("no vendor");
    expect(await read("q.tar", await tarOf({ name: "sys", data: "a file" }, VENDOR, { name: "dev/null", type: "character-device" }))).toBe("no vendor");
  });

  it("of any bytes at all is refused, or read", async () => {
    const start = fc.constantFrom(Buffer.alloc(0), Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
    const plain = await tarOf(VENDOR);
    await fc.assert(
      fc.asyncProperty(start, fc.uint8Array({ maxLength: 200 }), fc.nat(plain.length - 1), fc.nat(255), async (head, bytes, at, value) => {
        await read("fuzz.tar", Buffer.concat([head, bytes]));
        const damaged = Buffer.from(plain);
        damaged[at] = value;
        await read("damaged.tar", damaged);
      }),
      { seed: 20261201, numRuns: 60 },
    );
  });
});

describe("a folder", () => {
  it("is read as an archive is, without what its links lead to outside", async () => {
    const root = join(folder, "copy");
    const real = join(root, "sys/devices/pci0000:00/0000:01:00.0");
    mkdirSync(real, { recursive: true });
    mkdirSync(join(root, "sys/bus/pci/devices"), { recursive: true });
    mkdirSync(join(folder, "outside"));
    writeFileSync(join(folder, "outside/vendor"), "0xdead\n");
    writeFileSync(join(real, "vendor"), "0x8086\n");
    writeFileSync(join(real, "serial_number"), SECRET);
    symlinkSync(join(folder, "outside/vendor"), join(real, "device"));
    symlinkSync("../../../devices/pci0000:00/0000:01:00.0", join(root, "sys/bus/pci/devices/0000:01:00.0"));
    symlinkSync(join(folder, "outside"), join(root, "sys/bus/pci/devices/0000:02:00.0"));
    symlinkSync("../../../../../outside", join(root, "sys/bus/pci/devices/0000:03:00.0"));
    const { description } = describeSnapshot(await readCapture(root));
    expect(description.functions.map(({ address, vendor, device }) => [address, vendor, device])).toEqual([
      ["0000:01:00.0", 0x8086, 0xffff],
      ["0000:02:00.0", 0xffff, 0xffff],
      ["0000:03:00.0", 0xffff, 0xffff],
    ]);
    const packed = await pack(collect(new FolderSource(root), null));
    writeFileSync(join(folder, "again.tar.zst"), packed);
    expect(describeSnapshot(await readCapture(join(folder, "again.tar.zst"))).description).toEqual(description);
  });
});

describe("what is copied of configuration space", () => {
  const space = captures.grace().bytes("sys/bus/pci/devices/0009:01:00.0/config")!;

  it("is the header and the capabilities that matter: no serial number, no vital product data, nothing of a vendor's", () => {
    expect(Buffer.from(space).includes(SECRET.slice(3, 11))).toBe(true);
    const copy = Buffer.from(blanked(space));
    for (let at = 0; at + 4 <= SECRET.length; at++) {
      expect(copy.includes(SECRET.slice(at, at + 4)), SECRET.slice(at, at + 4)).toBe(false);
    }
    expect(capabilitiesOf(copy)).toEqual(capabilitiesOf(space));
    expect(copy.length).toBe(4096);
    expect(blanked(blanked(space))).toEqual(blanked(space));
  });

  it("ends where lists go in circles, and with what is there", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        const copy = blanked(bytes);
        expect(copy.length).toBe(bytes.length);
        expect(capabilitiesOf(bytes).length).toBeLessThan(200);
      }),
      { seed: 20261201, numRuns: 200 },
    );
  });
});

it("a snapshot has one thing at each place, and folders for what is in them", () => {
  const snapshot = new Snapshot();
  snapshot.file("a/b", "one");
  snapshot.file("a/b", "two");
  snapshot.file("a/b/c", "below a file");
  snapshot.link("l", "a");
  snapshot.link("up", "../../../a/b");
  expect([snapshot.text("a/b"), snapshot.text("l/b"), snapshot.text("up"), snapshot.real("l/b"), snapshot.target("l"), snapshot.targetName("up")]).toEqual(["one", "one", "one", "a/b", "a", "b"]);
  expect([snapshot.names("a"), snapshot.names("nowhere"), snapshot.has("a/b/c"), snapshot.text("a")]).toEqual([["b"], [], false, null]);
});
