import { PassThrough } from "node:stream";
import { expect, it } from "vitest";
import { JsonInput } from "../../src/qmp/json-input.js";
import { QmpSession, type SessionOwner } from "../../src/qmp/session.js";

it.each([0xfe, 0xff])("byte 0x%s in a string is an error, as with QEMU", (byte) => {
  const out: unknown[] = [];
  const input = new JsonInput((value) => out.push(value), (error) => out.push(error.message));
  input.feed(Uint8Array.of(0x22, 0x61, byte, 0x22, 0x0a));
  expect(out).toEqual([`1:1: JSON parse error, stray '"a${String.fromCharCode(byte)}'`]);
});

it("a client whose commands wait is read no further than eight of them", async () => {
  let free: () => void = () => {};
  const held = new Promise<undefined>((resolve) => (free = () => resolve(undefined)));
  const run = (): Promise<undefined> => held;
  const owner = {
    context: { target: { packageName: "test" }, commands: () => [] },
    find: (name: string) => ({ name, parameters: {}, run }),
    begin: () => {},
    end: () => {},
  } as unknown as SessionOwner;
  const readable = new PassThrough();
  const writable = new PassThrough();
  writable.resume();
  const session = new QmpSession({ readable, writable, end: () => writable.end(), close: () => readable.destroy() }, owner, false);
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  readable.write('{"execute":"qmp_capabilities"}');
  await turn();
  for (let i = 0; i < 30; i++) {
    readable.write('{"execute":"slow"}');
    await turn();
  }
  // One runs, eight wait; the others have not been read.
  expect(readable.readableLength).toBe(21 * '{"execute":"slow"}'.length);
  free();
  for (let i = 0; i < 60; i++) {
    await turn();
  }
  expect(readable.readableLength).toBe(0);
  session.close();
});
