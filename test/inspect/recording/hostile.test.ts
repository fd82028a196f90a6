import { deflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { withoutFolders } from "../../../src/inspect/recorder/index.js";
import { CHUNK_TEXT_LIMIT, type ChunkKind, encodeChunk, FIRST_LINE, openRecording, RecordingError } from "../../../src/inspect/recording/index.js";

const HEADER = JSON.stringify({ version: "0.1.0", machine: ["-M", "virt"], host: "simulated: grace", about: "" });
const MAP = { machine: null, functions: [], attachments: [], tables: [], host: { description: "", kernel: null, iommus: [], functions: [], unknown: [] } };
const row = (number: number): object => ({ number, time: 1, kind: "machine", name: "STOP", words: "", iommu: null, function: null, streamId: null, cause: null });
const line = (number: number, changes: object = { map: MAP }): string => JSON.stringify([row(number), changes]);

function chunk(kind: ChunkKind, text: string, more: { readonly first?: number; readonly rows?: number; readonly textBytes?: number } = {}): Buffer {
  const stored = deflateSync(text);
  return Buffer.concat([encodeChunk({ kind, first: more.first ?? 0, rows: more.rows ?? 0, textBytes: more.textBytes ?? Buffer.byteLength(text), storedBytes: stored.length }), stored]);
}

const file = (...chunks: readonly Buffer[]): Uint8Array => Uint8Array.from(Buffer.concat([Buffer.from(FIRST_LINE), ...chunks]));
const GOOD = [chunk("header", HEADER), chunk("key", `${line(1)}\n${line(2, {})}`, { first: 1, rows: 2 })];

describe("a file that is no recording, or a damaged one", () => {
  it.each<[string, Uint8Array, string]>([
    ["is empty", new Uint8Array(0), "the file is no recording of viommu run --record"],
    ["is another file", Uint8Array.from(Buffer.from("PK\u0003\u0004")), "the file is no recording"],
    ["is of another version", Uint8Array.from(Buffer.from("viommu recording 2\n")), "the recording has format version 2; this viommu reads version 1"],
    ["ends in its header", file(GOOD[0].subarray(0, 40)), "the recording is cut off in its header"],
    ["has no chunk where one should be", file(GOOD[0], Buffer.alloc(64)), "what is at byte"],
    ["claims more text than is read", file(chunk("header", HEADER, { textBytes: CHUNK_TEXT_LIMIT + 1 })), "at most 67108864 bytes are read"],
    ["has more text than it claims", file(chunk("header", HEADER, { textBytes: 10 })), "is not 10 bytes of compressed text"],
    ["has a header without members", file(chunk("header", "{}")), "the recording's header has not the members that it should have"],
    ["has a header that is no JSON", file(chunk("header", "{")), "the recording's header is no JSON"],
    ["begins in the middle", file(GOOD[0], chunk("rows", line(5, {}), { first: 5, rows: 1 })), "does not follow the one before it"],
    ["has a gap", file(...GOOD, chunk("rows", line(5, {}), { first: 5, rows: 1 })), "does not follow the one before it"],
  ])("%s", async (_what, bytes, words) => {
    await expect(openRecording(bytes)).rejects.toThrow(RecordingError);
    await expect(openRecording(bytes)).rejects.toThrow(words);
  });

  it.each<[string, Buffer, string]>([
    ["rows of another number", chunk("key", line(3), { first: 1, rows: 1 }), "row 1 is not where it should be"],
    ["a key without the whole state", chunk("key", line(1, {}), { first: 1, rows: 1 }), "row 1 is not where it should be"],
    ["more rows than it claims", chunk("key", `${line(1)}\n${line(2)}`, { first: 1, rows: 1 }), "a chunk has 2 rows and claims 1"],
    ["words beyond a page", chunk("key", line(1, { map: MAP, pages: [{ side: "guest", page: 1, words: [1024, 1] }] }), { first: 1, rows: 1 }), "row 1 has not the members"],
    ["a register that is no number", chunk("key", line(1, { map: MAP, units: [{ id: "a", side: "guest", architecture: "vtd", whole: true, batch: null, registers: { CAP: "x" } }] }), { first: 1, rows: 1 }), "row 1 has not the members"],
  ])("has %s", async (_what, damaged, words) => {
    const recording = await openRecording(file(GOOD[0], damaged));
    await expect(recording.at(1)).rejects.toThrow(words);
  });

  it("is read up to its last whole chunk where its process has ended without a word", async () => {
    const whole = file(...GOOD, chunk("rows", line(3, {}), { first: 3, rows: 1 }));
    const recording = await openRecording(whole.subarray(0, whole.length - 5));
    expect([recording.first, recording.last, recording.end]).toEqual([1, 2, null]);
    expect((await recording.at(2)).map()).toEqual(MAP);
    await expect(recording.at(3)).rejects.toThrow("the recording has no row 3: it has 1 to 2");
  });
});

it("a recording's header has no folders", () => {
  expect(withoutFolders(["-drive", "file=/home/me/disk.img,format=raw", "-kernel", "/boot/vmlinuz", "-qmp", "unix:/tmp/q.sock,server=on", "-device", "vfio-pci,host=0000:01:00.0,id=a"])).toEqual(["-drive", "file=disk.img,format=raw", "-kernel", "vmlinuz", "-qmp", "unix:q.sock,server=on", "-device", "vfio-pci,host=0000:01:00.0,id=a"]);
});
