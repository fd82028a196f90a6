import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseArguments } from "../../src/machine/arguments/index.js";
import type { Q35Board } from "../../src/machine/index.js";
import { firmwareTables } from "../../src/run/index.js";
import { describeHost } from "../../src/host/simulated/index.js";
import { build, hostInput } from "./build.js";
import { anonymous, expectQemusTables, lineNames, tablesOf } from "./qemu-tables.js";

const folder = new URL("./firmware/x86/", import.meta.url);
const names = lineNames(folder);
const available = (program: string): boolean => spawnSync(program, ["-v"]).error === undefined;

describe("tables of a q35", () => {
  it("are compared with QEMU's for each of the shapes that DMAR has", () => {
    expect(names.length).toBeGreaterThanOrEqual(12);
  });

  it.each(names)("equal QEMU's byte for byte: %s", (name) => {
    const { line, ours } = expectQemusTables(folder, name);
    expect(ours.has("DMAR")).toBe(line.includes("intel-iommu"));
  });

  it("tell the NUMA node of the hardware, and functions with ATS of the root complex, where properties ask for it", () => {
    const line =
      "-M q35 -m 1G -nodefaults -object memory-backend-ram,id=m0,size=1G -numa node,memdev=m0 -numa node " +
      "-device intel-iommu,device-iotlb=on,x-numa-node=1,x-satc=on -device virtio-net-pci,ats=on,addr=4 -device virtio-blk-pci,addr=5 -device pcie-root-port,id=r,addr=6,chassis=1 -device virtio-net-pci,ats=on,bus=r";
    const dmar = Buffer.from(tablesOf(line).get("DMAR")!);
    const structures: string[] = [];
    for (let at = 48; at < dmar.length; at += dmar.readUInt16LE(at + 2)) {
      structures.push(dmar.subarray(at, at + dmar.readUInt16LE(at + 2)).toString("hex"));
    }
    expect(structures.slice(1)).toEqual([
      "0200080001000000", // ATSR: all ports
      "03001400000000000000d9fe0000000001000000", // RHSA: 0xfed90000 in proximity domain 1
      "0500100000000000" + "0108000000000400", // SATC: 00:04.0
    ]);
  });

  it.runIf(available("iasl"))("are read by iasl without a complaint", () => {
    const out = mkdtempSync(join(tmpdir(), "viommu-acpi-"));
    const line =
      "-M q35 -m 8G -smp 300 -nodefaults -object memory-backend-ram,id=m0,size=8G -numa node,memdev=m0 -device intel-iommu,device-iotlb=on,x-numa-node=0,x-satc=on -device virtio-net-pci,ats=on " +
      "-device pxb-pcie,id=p,bus_nr=16 -device pcie-root-port,id=r,bus=p,chassis=1";
    for (const [name, bytes] of tablesOf(line)) {
      if (name === "RSDP") {
        continue;
      }
      const file = join(out, `${name}.aml`);
      writeFileSync(file, bytes);
      const result = spawnSync("iasl", ["-d", file], { encoding: "utf8" });
      const said = `${result.stdout}${result.stderr}${readFileSync(join(out, `${name}.dsl`), "utf8")}`;
      if (name === "DMAR" && /Unknown (?:DMAR )?subtable type 0x5/i.test(said)) {
        continue; // An iasl from before SATC (ACPICA 20210930).
      }
      expect(result.status, said).toBe(0);
      expect(said).not.toMatch(/warning|error|incorrect|invalid|unknown/i);
    }
  });

  it("are found by a guest from the RSDP on, at the end of low RAM, and are not in the memory that is free", async () => {
    const { machine } = build("-M q35 -m 4G -nodefaults -device intel-iommu");
    machine.start();
    const port = machine.port();
    const { acpiRoot, memoryMap, deviceTree } = await port.firmware();
    expect(deviceTree).toBeNull();
    const rsdp = Buffer.from(await port.readMemory(acpiRoot!, 36));
    expect(rsdp.toString("latin1", 0, 8)).toBe("RSD PTR ");
    const xsdt = Number(rsdp.readBigUInt64LE(24));
    const length = Number(await port.read(xsdt + 4, 4));
    const entries = Buffer.from(await port.readMemory(xsdt + 36, length - 36));
    const found: string[] = [];
    for (let at = 0; at < entries.length; at += 8) {
      const address = Number(entries.readBigUInt64LE(at));
      found.push(Buffer.from(await port.readMemory(address, 4)).toString("latin1"));
      expect(memoryMap!.find(({ base, size }) => address >= base && address < base + size)!.type).toBe(3);
    }
    expect(found.sort()).toEqual(["APIC", "DMAR", "FACP", "MCFG"]);
    expect(memoryMap!.filter(({ type }) => type === 1).map(({ base, size }) => [base, base + size])).toEqual([
      [0, 0xa_0000],
      [0x10_0000, 0x7fff_0000],
      [0x1_0000_0000, 0x1_8000_0000],
    ]);
    machine.shutdown();
  });

  it("are what `viommu tables` writes", async () => {
    const files = await firmwareTables(parseArguments(["-M", "q35", "-nodefaults", "-device", "intel-iommu"]), describeHost(hostInput("board")));
    expect([...files.keys()]).toEqual(["FACS.aml", "DSDT.aml", "FACP.aml", "APIC.aml", "MCFG.aml", "DMAR.aml", "XSDT.aml", "RSDP.aml"]);
    expect(anonymous(files.get("DMAR.aml")!)).toBe(anonymous(readFileSync(new URL("default.DMAR.aml", folder))));
  });

  it("are left out with acpi=off", async () => {
    const { machine } = build("-M q35,acpi=off -nodefaults -device intel-iommu");
    machine.start();
    expect((await machine.port().firmware()).acpiRoot).toBeNull();
    expect(machine.board.buildTables().acpi).toBeNull();
    machine.shutdown();
  });

  it("come out of fw_cfg with a script that places them, as from QEMU", async () => {
    const { machine } = build("-M q35 -m 512 -nodefaults -device intel-iommu");
    machine.start();
    const board = machine.board as Q35Board;
    const select = (key: number, length: number): Buffer => {
      board.ports.write(0x510, 2, BigInt(key));
      return Buffer.from(Array.from({ length }, () => Number(board.ports.read(0x511, 1))));
    };
    expect(select(0, 6).toString("latin1")).toBe("QEMU\0\0");
    expect([select(1, 4).readUInt32LE(), select(3, 8).readBigUInt64LE(), select(5, 2).readUInt16LE()]).toEqual([3, 2n ** 29n, 1]);
    const count = select(0x19, 4).readUInt32BE();
    const directory = select(0x19, 4 + 64 * count).subarray(4);
    const files = new Map<string, Buffer>();
    const dma = (control: number, length: number): number => {
      const descriptor = Buffer.alloc(16);
      descriptor.writeUInt32BE(control >>> 0, 0);
      descriptor.writeUInt32BE(length, 4);
      descriptor.writeBigUInt64BE(0x20_0000n, 8);
      board.memory.writeBytes(0x10_0000, descriptor);
      board.ports.write(0x514, 4, 0n);
      board.ports.write(0x518, 4, 0x0000_1000n); // 0x00100000, big-endian
      return Number(board.memory.readWord(0x10_0000, 4));
    };
    for (let i = 0; i < count; i++) {
      const entry = directory.subarray(64 * i, 64 * i + 64);
      const size = entry.readUInt32BE(0);
      // Select and read in one transfer.
      expect(dma((entry.readUInt16BE(4) << 16) | 0x0a, size)).toBe(0);
      const bytes = Buffer.alloc(size);
      board.memory.readBytes(0x20_0000, bytes);
      files.set(entry.toString("latin1", 8).replace(/\0.*$/s, ""), bytes);
    }
    expect([...files.keys()]).toEqual(["etc/acpi/rsdp", "etc/acpi/tables", "etc/e820", "etc/table-loader"]);
    // Skipping: by DMA bit 2 as far as is asked, and no farther than the end.
    const after = (skipped: readonly number[]): string => {
      board.memory.writeBytes(0x20_0000, new Uint8Array(8).fill(0xff));
      expect(dma(0x08, 0)).toBe(0);
      skipped.forEach((bytes) => expect(dma(0x04, bytes)).toBe(0));
      expect(dma(0x02, 4)).toBe(0);
      const bytes = Buffer.alloc(4);
      board.memory.readBytes(0x20_0000, bytes);
      return bytes.toString("latin1");
    };
    expect([after([]), after([1]), after([1, 1]), after([3]), after([4]), after([400])]).toEqual(["QEMU", "EMU\0", "MU\0\0", "U\0\0\0", "\0\0\0\0", "\0\0\0\0"]);
    // Writing is refused.
    expect(dma(0x10, 4)).toBe(0x0100_0000);
    // The three entries of QEMU's for 512 MiB without the third: 12 GiB below 1 TiB, and RAM.
    expect(files.get("etc/e820")!.toString("hex")).toBe("00000000fd0000000000000003000000020000000000000000000000000000200000000001000000");
    expect(files.get("etc/table-loader")!.length % 128).toBe(0);
    const tables = files.get("etc/acpi/tables")!;
    const dmar = tables.indexOf("DMAR");
    expect(anonymous(tables.subarray(dmar, dmar + tables.readUInt32LE(dmar + 4)))).toBe(anonymous(readFileSync(new URL("default.DMAR.aml", folder))));
    machine.shutdown();
  });
});
