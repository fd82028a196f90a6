import { describe, expect, it } from "vitest";
import { build } from "../build.js";
import { bridgeRanges, disassembled, has } from "./iasl.js";

function tablesOf(words: string): ReadonlyMap<string, Uint8Array> {
  const { machine } = build(words);
  machine.start();
  const { acpi } = machine.board.buildTables();
  machine.shutdown();
  return acpi!.tables;
}

const MACHINE =
  "-M q35,accel=kvm -m 512 -nodefaults -kernel k -serial null -serial null -device intel-iommu -device pxb-pcie,id=p1,bus_nr=32 -device pcie-root-port,id=r1,bus=p1,chassis=1 -device pxb-pcie,id=p2,bus_nr=128 -device pcie-root-port,id=r2,bus=pcie.0,chassis=2";

describe("what AML tells of a q35", () => {
  const tables = tablesOf(MACHINE);

  it("the FADT points to the DSDT and the FACS, and names the board's ports", () => {
    const fadt = Buffer.from(tables.get("FACP")!);
    expect([fadt.length, fadt[8], fadt.readUInt16LE(46)]).toEqual([276, 6, 9]);
    expect([fadt.readUInt32LE(56), fadt.readUInt32LE(64), fadt.readUInt32LE(76)]).toEqual([0x600, 0x604, 0x608]);
    expect([fadt.readBigUInt64LE(120), fadt[128]]).toEqual([0xcf9n, 6]);
    expect(fadt.readBigUInt64LE(140)).toBe(BigInt(fadt.readUInt32LE(40)));
    expect(fadt.reduce((sum, byte) => (sum + byte) & 0xff, 0)).toBe(0);
    expect(Buffer.from(tables.get("FACS")!).toString("latin1", 0, 4)).toBe("FACS");
  });

  it.skipIf(!has("iasl"))("iasl reads and compiles all of it without a warning or remark", () => {
    for (const name of ["DSDT", "FACP", "FACS"]) {
      const { verdict } = disassembled(tables.get(name)!, name);
      expect(verdict, name).not.toMatch(/[1-9]\d* (Errors|Warnings|Remarks)/);
    }
  });

  it.skipIf(!has("iasl"))("has a host bridge for each root bus, with the bus numbers up to the next one's and windows that do not overlap", () => {
    const { text } = disassembled(tables.get("DSDT")!, "DSDT");
    expect([...text.matchAll(/Device \((PC..)\)/g)].map((match) => match[1])).toEqual(["PCI0", "PC20", "PC80"]);
    const ranges = bridgeRanges(text);
    expect(ranges.filter(({ kind }) => kind === "WordBusNumber").map(({ low, high }) => [low, high])).toEqual([
      [0, 31],
      [32, 127],
      [128, 255],
    ]);
    const memory = ranges.filter(({ kind }) => kind !== "WordBusNumber").sort((a, b) => a.low - b.low);
    expect(memory.length).toBe(6);
    memory.slice(1).forEach((one, index) => expect(one.low).toBeGreaterThan(memory[index].high));
    expect(text).toMatch(/Name \(\\_S5, Package \(0x04\)/);
  });

  it("pins of pcie.0 are the chipset's: device 25 has A to D, device 2 turns E to H", () => {
    const dsdt = Buffer.from(tables.get("DSDT")!);
    const entry = (device: number, pin: number, gsi: number): Buffer => {
      const address = Buffer.alloc(4);
      address.writeUInt32LE(device * 0x1_0000 + 0xffff);
      return Buffer.concat([Buffer.from([0x04, 0x0c]), address, Buffer.from(pin < 2 ? [pin] : [0x0a, pin]), Buffer.from([0x00, 0x0a, gsi])]);
    };
    expect(dsdt.includes(entry(25, 0, 16))).toBe(true);
    expect(dsdt.includes(entry(25, 3, 19))).toBe(true);
    expect(dsdt.includes(entry(2, 0, 22))).toBe(true);
    expect(dsdt.includes(entry(2, 3, 21))).toBe(true);
  });
});
