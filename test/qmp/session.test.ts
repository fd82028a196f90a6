import { PassThrough, Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import type { QmpCommand } from "../../src/qmp/command.js";
import { QmpSession, type SessionOwner } from "../../src/qmp/session.js";
import { settle } from "./rig.js";

/** A session of a client whose commands come one a piece; `held` are the pieces that nobody has taken from it. */
function session(command: QmpCommand, toClient: Writable) {
  const fromClient = new PassThrough({ readableObjectMode: true, highWaterMark: 1000 });
  const owner = { context: { target: { packageName: "viommu test" } }, find: () => command, begin: () => {}, end: () => {} } as unknown as SessionOwner;
  const stream = { readable: fromClient, writable: toClient, end: () => toClient.end(), close: () => fromClient.destroy() };
  const made = new QmpSession(stream, owner, false);
  fromClient.write('{"execute":"qmp_capabilities"}');
  return { session: made, send: (count: number) => Array.from({ length: count }, (_unused, id) => fromClient.write(`{"execute":"x","id":${id}}`)), held: () => fromClient.readableLength };
}

describe("a client's commands", () => {
  it("are taken from it up to eight that wait; the others when these are done, in their order", async () => {
    const started: Array<() => void> = [];
    const toClient = new PassThrough();
    const { send, held } = session({ name: "x", parameters: {}, run: () => new Promise((resolve) => started.push(() => resolve({}))) }, toClient);
    await settle();
    send(100);
    await settle();
    // One runs, eight wait.
    expect([started.length, held()]).toEqual([1, 91]);
    for (let done = 0; done < 100; done++) {
      started[done]();
      await settle();
      expect(100 - held() - started.length).toBeLessThanOrEqual(8);
    }
    expect([started.length, held()]).toEqual([100, 0]);
    const text = String(toClient.read());
    expect([...text.matchAll(/"id": (\d+)/g)].map(([, id]) => Number(id))).toEqual(Array.from({ length: 100 }, (_unused, id) => id));
  });

  it("stay with it, and events are dropped, while it leaves 4 MiB of answers unread", async () => {
    let text = "";
    let taken: (() => void) | null = null;
    const release = (): void => {
      const call = taken;
      taken = null;
      call?.();
    };
    const toClient = new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        taken = done;
      },
    });
    const { session: made, send, held } = session({ name: "x", parameters: {}, run: () => "a".repeat(1 << 20) }, toClient);
    await settle();
    send(12);
    await settle();
    // The fifth command waits for an answer to be read.
    expect(toClient.writableLength >> 20).toBe(4);
    expect(held()).toBeGreaterThan(0);
    made.event({ event: "DROPPED" });
    for (let turn = 0; turn < 60; turn++) {
      release();
      await settle();
    }
    made.event({ event: "TOLD" });
    release();
    await settle();
    expect([held(), text.split('"return": "a').length - 1, text.includes("DROPPED"), text.includes("TOLD")]).toEqual([0, 12, false, true]);
  });
});
