/**
 * IORT of whole machines against QEMU 11.1.3: as they stand before the guest numbers buses, and after the same
 * writes to the same bridges. QEMU's were read from fw_cfg (etc/acpi/tables) over qtest, the writes being its own
 * `writel` to configuration space.
 */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { splitWords } from "../../../src/machine/arguments/index.js";
import { build } from "../build.js";

interface Enumerated {
  readonly name: string;
  readonly args: string;
  /** Guest-physical address and 32-bit value, in order. */
  readonly writes: ReadonlyArray<readonly [address: string, value: string]>;
  readonly before: string;
  readonly after: string;
}

const machines = JSON.parse(readFileSync(new URL("./enumerated.json", import.meta.url), "utf8")) as Enumerated[];
const vectors = new URL("./vectors/", import.meta.url);

/** Without the checksum and the OEM's names and revisions (bytes 9 to 35). */
function comparable(table: Uint8Array): string {
  const copy = Buffer.from(table);
  copy.fill(0, 9, 36);
  return copy.toString("hex");
}

function iortOf(machine: ReturnType<typeof build>["machine"]): string {
  return comparable(machine.board.buildTables().acpi!.tables.get("IORT")!);
}

describe("a machine's IORT equals QEMU's", () => {
  it.each(machines)("before and after bus numbers are given: $name", async ({ args, writes, before, after }) => {
    const { machine } = build(args);
    machine.start();
    expect(iortOf(machine)).toBe(comparable(Buffer.from(before, "hex")));
    for (const [address, value] of writes) {
      await machine.port().write(Number(address), 4, BigInt(value));
    }
    expect(iortOf(machine)).toBe(comparable(Buffer.from(after, "hex")));
    machine.shutdown();
  });

  it.each(readdirSync(vectors).filter((name) => name.endsWith(".args")))("from its command line: %s", (name) => {
    const { machine } = build(splitWords(readFileSync(new URL(name, vectors), "utf8")).join(" "));
    expect(iortOf(machine)).toBe(comparable(readFileSync(new URL(name.replace(".args", ".IORT.aml"), vectors))));
    machine.shutdown();
  });
});
