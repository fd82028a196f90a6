/** Captures as files: tar, packed by zstd or gzip or not at all. Nothing of one is written to a disk, and what it holds is bounded. */
import { readFileSync, statSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type * as Zstd from "@bokuweb/zstd-wasm";
import { Refusal, systemWords } from "../../support/index.js";
import { Snapshot } from "./snapshot.js";

/** Bytes of a file, of what it unpacks to, and of one entry; entries. */
const MOST_PACKED = 64 * 2 ** 20;
const MOST_UNPACKED = 256 * 2 ** 20;
const MOST_ENTRY = 4 * 2 ** 20;
const MOST_ENTRIES = 400_000;
const MOST_PATH = 4096;

const WOULD_WORK = "a capture of viommu host --capture, or a tar of a host's /sys, /proc and /dev (.tar, .tar.gz, .tar.zst)";

/** Packs a snapshot: a tar in a zstd frame. The same snapshot is the same bytes. */
export async function pack(snapshot: Snapshot): Promise<Uint8Array> {
  const { default: tar } = await import("tar-stream");
  const archive = tar.pack();
  const mtime = new Date(0);
  for (const { path, data, target } of snapshot.entries()) {
    if (target !== null) {
      archive.entry({ name: path, type: "symlink", linkname: target, mtime });
    } else if (data !== null) {
      archive.entry({ name: path, mtime, mode: 0o444 }, Buffer.from(data));
    } else {
      archive.entry({ name: `${path}/`, type: "directory", mtime });
    }
  }
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive) {
    parts.push(part as Buffer);
  }
  const { compress } = await zstd();
  return compress(Buffer.concat(parts), 10);
}

/** Reads an archive. @throws Refusal where it is none, or holds more than a host does */
export async function unpack(path: string): Promise<Snapshot> {
  const packed = readBounded(path);
  const bytes = await unpacked(packed, path);
  const { default: tar } = await import("tar-stream");
  const snapshot = new Snapshot();
  const entries = tar.extract();
  entries.end(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  let count = 0;
  try {
    for await (const entry of entries) {
      const { name, type, linkname, size } = entry.header;
      if (++count > MOST_ENTRIES) {
        throw refuse(path, `more than ${MOST_ENTRIES} entries`);
      }
      const inside = insidePath(name, path);
      if (type === "file" && (size ?? 0) <= MOST_ENTRY) {
        const parts: Buffer[] = [];
        for await (const part of entry) {
          parts.push(part as Buffer);
        }
        snapshot.file(inside, Buffer.concat(parts));
      } else {
        entry.resume();
        if (type === "symlink" && typeof linkname === "string" && linkname.length <= MOST_PATH) {
          snapshot.link(inside, linkname);
        } else if (type === "directory") {
          snapshot.folder(inside);
        }
      }
    }
  } catch (error) {
    throw error instanceof Refusal ? error : refuse(path, error instanceof Error ? error.message : String(error));
  }
  return snapshot;
}

function readBounded(path: string): Uint8Array {
  try {
    const status = statSync(path);
    if (!status.isFile() || status.size > MOST_PACKED) {
      throw refuse(path, status.isFile() ? `it has ${status.size} bytes, and a capture at most ${MOST_PACKED}` : "it is no file");
    }
    return readFileSync(path);
  } catch (error) {
    if (error instanceof Refusal) {
      throw error;
    }
    throw new Refusal(`Could not open '${path}': ${systemWords(error)}`, { wouldWork: WOULD_WORK });
  }
}

const startsWith = (bytes: Uint8Array, ...start: number[]): boolean => start.every((byte, i) => bytes[i] === byte);

async function unpacked(packed: Uint8Array, path: string): Promise<Uint8Array> {
  try {
    if (startsWith(packed, 0x1f, 0x8b)) {
      return gunzipSync(packed, { maxOutputLength: MOST_UNPACKED });
    }
    if (startsWith(packed, 0x28, 0xb5, 0x2f, 0xfd)) {
      return await unpackZstd(packed, path);
    }
  } catch (error) {
    throw error instanceof Refusal ? error : refuse(path, `it cannot be unpacked: ${error instanceof Error ? error.message : String(error)}`);
  }
  // A tar has "ustar" in its first header (POSIX.1-1988).
  if (Buffer.from(packed.subarray(257, 262)).toString("latin1") !== "ustar") {
    throw refuse(path, "it is neither tar nor gzip nor zstd");
  }
  return packed;
}

async function unpackZstd(packed: Uint8Array, path: string): Promise<Uint8Array> {
  if (packed.length < 18 || (packed[4] & 8) !== 0) {
    throw refuse(path, "its zstd frame is damaged");
  }
  const size = frameContentSize(packed);
  if (size !== null && size > MOST_UNPACKED) {
    throw refuse(path, `it unpacks to ${size} bytes, and a capture to at most ${MOST_UNPACKED}`);
  }
  const { decompress } = await zstd();
  if (size !== null) {
    return decompress(packed, { defaultHeapSize: Math.max(size, 1) });
  }
  // The frame does not say how large it is: room for it is made until it fits, up to the bound.
  for (let room = 4 * 2 ** 20; ; room *= 4) {
    try {
      return decompress(packed, { defaultHeapSize: Math.min(room, MOST_UNPACKED) });
    } catch (error) {
      if (room >= MOST_UNPACKED) {
        throw error;
      }
    }
  }
}

/** Bytes that a zstd frame unpacks to, by its header (RFC 8878, 3.1.1.1); null: it does not say. */
function frameContentSize(packed: Uint8Array): number | null {
  const descriptor = packed[4] ?? 0;
  const single = (descriptor & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3];
  const at = 5 + (single ? 0 : 1) + dictionary;
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  if (at + 8 > packed.length) {
    return null;
  }
  switch (descriptor >>> 6) {
    case 0:
      return single ? view.getUint8(at) : null;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}

let loaded: Promise<typeof Zstd> | null = null;

/**
 * The library, ready. Its `init` makes a WebAssembly memory anew each time, and what has been called before goes on
 * with the old one: whatever else in the process has made it ready, it is not done again.
 */
function zstd(): Promise<typeof Zstd> {
  loaded ??= import("@bokuweb/zstd-wasm").then(async (library) => {
    if (!isReady(library)) {
      await library.init();
    }
    return library;
  });
  return loaded;
}

/** Before `init` there is no function to call. */
function isReady(library: typeof Zstd): boolean {
  try {
    return library.compress(new Uint8Array(1)).length > 0;
  } catch {
    return false;
  }
}

/** An entry's path from the archive's root on. @throws Refusal where it would lead out of it */
function insidePath(name: string, archive: string): string {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..") || name.length > MOST_PATH || name.includes("\0")) {
    throw refuse(archive, `an entry leads out of it: ${JSON.stringify(name.slice(0, 80))}`);
  }
  return parts.join("/");
}

function refuse(path: string, what: string): Refusal {
  return new Refusal(`${path}: no capture of a host: ${what}`, { wouldWork: WOULD_WORK });
}
