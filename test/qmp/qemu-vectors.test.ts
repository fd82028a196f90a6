import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { MonitorRig, QmpClient } from "./rig.js";

/**
 * Conversations with QEMU 11.1.3's monitor (-accel qtest -nodefaults): each entry is a line that was sent, and what
 * came back without timestamps; a line alone is sent and its answer is not compared, for it tells of what only QEMU has.
 */
const conversations = JSON.parse(readFileSync(new URL("./qemu-11.1.json", import.meta.url), "utf8")) as ReadonlyArray<{
  readonly machine: string;
  readonly said: ReadonlyArray<readonly [line: string, ...answers: unknown[]]>;
}>;

describe("what QEMU answers", () => {
  it.each(conversations.map((one) => [one.machine, one.said] as const))("to the monitor of %s", async (machine, said) => {
    const rig = new MonitorRig(`-accel qtest -nodefaults -qmp unix:/somewhere,server=on,wait=off ${machine}`);
    const client = new QmpClient(rig.monitor);
    expect(await client.take()).toMatchObject([{ QMP: { version: { qemu: { major: 11, minor: 1 } }, capabilities: ["oob"] } }]);
    const differences: unknown[] = [];
    let compared = 0;
    for (const [line, ...answers] of said) {
      client.write(`${line}\n`);
      const came = await client.take();
      if (answers.length > 0) {
        compared++;
        if (!equal(came, answers)) {
          differences.push({ line, came, answers });
        }
      }
    }
    expect(differences).toEqual([]);
    expect(compared).toBeGreaterThan(said.length / 2);
    expect(rig.close()).toBe(0);
  });
});

/** Order of members does not count. */
function equal(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(sorted);
  }
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1)).map(([key, one]) => [key, sorted(one)]));
  }
  return value;
}
