import { expect, it } from "vitest";
import { build } from "../build.js";

/** Contents after the header, as QEMU 11.1.2 gave them for the same machine. */
const SRAT = [
  "010000000000000000000000",
  "00100000010000000000000000000000",
  "00100001010000000000000000000000",
  "00100102010000000000000000000000",
  "0128000000000000000000000000000000000a000000000000000000010000000000000000000000",
  "012800000000000000001000000000000000f01f0000000000000000010000000000000000000000",
  "01280100000000000000002000000000000000100000000000000000010000000000000000000000",
  "01280000000000000000000000000000000000000000000000000000000000000000000000000000",
].join("");
const SLIT = "02000000000000000a15150a";

it("tells a q35's NUMA nodes in SRAT and SLIT, byte for byte as QEMU", () => {
  const { machine } = build(
    "-M q35 -m 768M -smp 3 -nodefaults -object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=256M " +
      "-numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2,memdev=m1 -numa dist,src=0,dst=1,val=21",
    "desktop",
  );
  const tables = new Map(machine.board.buildTables().acpi!.tables);
  const of = (name: string): [number, string] => [tables.get(name)![8], Buffer.from(tables.get(name)!.subarray(36)).toString("hex")];
  expect(of("SRAT")).toEqual([1, SRAT]);
  expect(of("SLIT")).toEqual([1, SLIT]);
  expect([...tables.keys()].filter((name) => ["APIC", "SRAT", "SLIT"].includes(name))).toEqual(["APIC", "SRAT", "SLIT"]);
  machine.shutdown();
  const without = build("-M q35 -nodefaults", "desktop").machine;
  expect([...without.board.buildTables().acpi!.tables.keys()]).not.toContain("SRAT");
  without.shutdown();
});
