import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { prepareTables } from "../../../src/kernel-guest/arm64/tables.js";
import { runtimeCode } from "../../../src/machine/firmware/efi-runtime.js";
import { VirtBoard } from "../../../src/machine/index.js";
import { ACCEL, build, GPU, VFIO } from "../build.js";
import { bridgeRanges, disassembled, has } from "./iasl.js";

/** An Image of 4 KiB that takes 16 MiB. */
function image(): Uint8Array {
  const file = new Uint8Array(4096);
  const view = new DataView(file.buffer);
  view.setBigUint64(16, 0x100_0000n, true);
  view.setUint32(56, 0x644d_5241, true);
  return file;
}

interface Tables {
  readonly tree: Uint8Array;
  readonly treeAddress: number;
  readonly acpi: ReadonlyMap<string, Uint8Array> | null;
  readonly acpiAddress: number;
  readonly efi: { address: number; bytes: Buffer } | null;
  readonly ramdisk: { base: number; size: number } | null;
}

/** What a kernel on such a machine gets. */
function tablesOf(line: string, ramdisk: Uint8Array | null = new Uint8Array(5000)): Tables {
  const { machine } = build(line);
  try {
    machine.start();
    const { board } = machine;
    if (!(board instanceof VirtBoard)) {
      throw new Error("no virt");
    }
    prepareTables(board, { kernel: image(), kernelName: "Image", ramdisk, commandLine: "console=ttyAMA0" });
    const { deviceTree, acpi, efi } = board.buildTables();
    return {
      tree: deviceTree!.bytes,
      treeAddress: deviceTree!.address,
      acpi: acpi?.tables ?? null,
      acpiAddress: acpi?.address ?? 0,
      efi: efi === undefined ? null : { address: efi.address, bytes: Buffer.from(efi.bytes) },
      ramdisk: board.kernelBoot!.ramdisk,
    };
  } finally {
    machine.shutdown();
  }
}

function source(tree: Uint8Array): { text: string; complaints: string } {
  const { stdout, stderr } = spawnSync("dtc", ["-I", "dtb", "-O", "dts", "-"], { input: tree, encoding: "utf8" });
  return { text: stdout, complaints: stderr };
}

const KVM = ACCEL.replace("-M virt", "-M virt,accel=kvm,gic-version=3").concat(" -kernel Image");
/** Nothing is behind these SMMUs from the start. */
const FIXED = "ril=on,ats=off,oas=44,ssidsize=0";
const EXPANDERS = `${KVM} ${GPU} -device pxb-pcie,id=pcie.2,bus_nr=32 -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on,${FIXED} -device pcie-root-port,id=rp3,bus=pcie.2,chassis=3`;
const PLAIN = `-M virt,accel=kvm,gic-version=3 -m 1G -nodefaults -kernel Image ${VFIO} -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on,${FIXED} -device pcie-root-port,id=rp1,bus=pcie.0,chassis=1 -device vfio-pci,host=0009:03:00.0,bus=pcie.0,id=nvme0,iommufd=iommufd0`;

describe("what a kernel with expander buses is told: ACPI by EFI's system table", () => {
  const tables = tablesOf(EXPANDERS);

  it.skipIf(!has("dtc"))("a tree with nothing but /chosen, which leads to the system table and the memory map", () => {
    const { text, complaints } = source(tables.tree);
    expect(complaints).toBe("");
    expect(text.match(/^\t?[\w@-]* ?\{|^\t[\w@-]+ \{/gm)?.length ?? 0).toBeLessThanOrEqual(2);
    expect(text).toContain('bootargs = "console=ttyAMA0"');
    const address = tables.efi!.address.toString(16);
    expect(text).toContain(`linux,uefi-system-table = <0x00 0x${address}>`);
    expect(text).toContain("linux,uefi-mmap-desc-size = <0x28>");
    expect(text).toContain("linux,uefi-secure-boot = <0x02>");
    expect(text).toContain("linux,initrd-start = <0x00 0x48000000>");
    expect(text).toContain("linux,initrd-end = <0x00 0x48001388>");
    expect(tables.ramdisk).toEqual({ base: 0x4800_0000, size: 5000 });
    expect(tables.treeAddress).toBe(0x4000_0000);
  });

  it("the system table as UEFI lays it out: 120 bytes, three configuration tables, runtime services at their virtual address", () => {
    const { bytes, address } = tables.efi!;
    expect(bytes.toString("latin1", 0, 8)).toBe("IBI SYST");
    expect([bytes.readUInt32LE(8), bytes.readUInt32LE(12), bytes.readUInt32LE(20)]).toEqual([(2 << 16) | 70, 120, 0]);
    // The CRC is over the table with a CRC of zero (UEFI 2.10, 4.2).
    const header = Buffer.from(bytes.subarray(0, 120));
    header.writeUInt32LE(0, 16);
    expect(bytes.readUInt32LE(16)).toBe(crc32(header));
    const vendor = Number(bytes.readBigUInt64LE(24)) - address;
    expect(bytes.toString("utf16le", vendor, vendor + 14)).toBe("viommu\0");
    expect([bytes.readBigUInt64LE(88), bytes.readBigUInt64LE(96), bytes.readBigUInt64LE(104)]).toEqual([0x2001_0000n, 0n, 3n]);
    const entries = Number(bytes.readBigUInt64LE(112)) - address;
    const entry = (n: number): [string, number] => [bytes.toString("hex", entries + 24 * n, entries + 24 * n + 16), Number(bytes.readBigUInt64LE(entries + 24 * n + 16))];
    expect(entry(0)).toEqual(["71e86888f1e4d311bc220080c73c8881", tables.acpiAddress]);
    const [reservationsGuid, reservations] = entry(1);
    expect(reservationsGuid).toBe("c6b08e88de8ef54fa8f09aee5cb977c2");
    expect([...bytes.subarray(reservations - address, reservations - address + 16)]).toEqual(new Array(16).fill(0));
    const [propertiesGuid, properties] = entry(2);
    expect(propertiesGuid).toBe("8a9166ebef7e2a40842e931d21c38ae9");
    expect([...bytes.subarray(properties - address, properties - address + 8)]).toEqual([1, 0, 8, 0, 0xf, 0, 0, 0]);
  });

  it.skipIf(!has("dtc"))("the memory map: all of RAM, what holds the tables kept as ACPI's, in whole 64 KiB", () => {
    const { bytes, address } = tables.efi!;
    const { text } = source(tables.tree);
    const start = Number(/uefi-mmap-start = <0x00 (0x\w+)>/.exec(text)![1]) - address;
    const size = Number(/uefi-mmap-size = <(0x\w+)>/.exec(text)![1]);
    const map: Array<{ type: number; from: number; to: number; virtual: number; attributes: bigint }> = [];
    for (let at = start; at < start + size; at += 40) {
      const from = Number(bytes.readBigUInt64LE(at + 8));
      map.push({ type: bytes.readUInt32LE(at), from, to: from + 4096 * Number(bytes.readBigUInt64LE(at + 24)), virtual: Number(bytes.readBigUInt64LE(at + 16)), attributes: bytes.readBigUInt64LE(at + 32) });
    }
    const runtime = 1n << 63n;
    expect(map.map(({ type, virtual, attributes }) => [type, virtual, attributes])).toEqual([
      [11, 0x2002_0000, runtime | 1n],
      [7, 0, 8n],
      [9, 0, 8n],
      [5, 0x2000_0000, runtime | 8n],
      [6, 0x2001_0000, runtime | 8n],
      [7, 0, 8n],
    ]);
    const [clock, ...ram] = map;
    expect([clock.from, clock.to]).toEqual([0x910_0000, 0x911_0000]);
    expect([ram[0].from, ram[4].to]).toEqual([0x4000_0000, 0x8000_0000]);
    ram.slice(1).forEach(({ from }, n) => expect(from).toBe(ram[n].to));
    ram.slice(1).forEach(({ from }) => expect(from % 0x1_0000).toBe(0));
    expect(ram[1].from).toBe(tables.acpiAddress);
    expect(ram[1].to).toBeGreaterThanOrEqual(address + start + size);
    // The services: code, and a table that names it.
    const [code, table] = [ram[2].from - address, ram[3].from - address];
    expect(bytes.toString("latin1", table, table + 8)).toBe("RUNTSERV");
    expect(bytes.length).toBe(table + 136);
    const functions = Array.from({ length: 14 }, (_, n) => Number(bytes.readBigUInt64LE(table + 24 + 8 * n)));
    expect(functions).toEqual([0x2000_0000, ...new Array<number>(13).fill(0x2000_0018)]);
    expect(bytes.readUInt32LE(code)).toBe(0xd2a4_0042);
  });

  it.skipIf(!has("dtc") || spawnSync("aarch64-linux-gnu-objdump", ["--version"]).error !== undefined)("the clock's code as an assembler reads it", () => {
    const folder = mkdtempSync(join(tmpdir(), "efi-"));
    try {
      writeFileSync(join(folder, "code"), runtimeCode());
      const { stdout } = spawnSync("aarch64-linux-gnu-objdump", ["-D", "-b", "binary", "-m", "aarch64", "--no-show-raw-insn", join(folder, "code")], { encoding: "utf8" });
      expect([...stdout.matchAll(/^\s+\w+:\s+(.*?)\s*(?:\/\/.*)?$/gm)].map(([, instruction]) => instruction.replace(/\s+/g, " "))).toEqual([
        "mov x2, #0x20020000",
        "ldr x3, [x2]",
        "ldr x4, [x2, #8]",
        "stp x3, x4, [x0]",
        "mov x0, #0x0",
        "ret",
        "mov x0, #0x3",
        "movk x0, #0x8000, lsl #48",
        "ret",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.skipIf(!has("iasl"))("tables that iasl reads and compiles without a warning or remark", () => {
    for (const name of ["DSDT", "FACP", "APIC", "GTDT", "MCFG", "SPCR"]) {
      const { verdict } = disassembled(tables.acpi!.get(name)!, name);
      expect(verdict, name).not.toMatch(/[1-9]\d* (Errors|Warnings|Remarks)/);
    }
  });

  it("no ACPI hardware, PSCI by HVC", () => {
    const fadt = Buffer.from(tables.acpi!.get("FACP")!);
    expect([fadt.length, fadt[8], fadt.readUInt32LE(112), fadt.readUInt16LE(129), fadt[131]]).toEqual([276, 6, 1 << 20, 3, 3]);
    expect([fadt.readUInt32LE(40), fadt.readUInt32LE(36)]).toEqual([0, 0]);
    expect(Number(fadt.readBigUInt64LE(140))).toBeGreaterThan(tables.acpiAddress);
  });

  it.skipIf(!has("iasl"))("a host bridge for each root bus, with numbers up to the next one's and memory of its own", () => {
    const { text } = disassembled(tables.acpi!.get("DSDT")!, "DSDT");
    expect([...text.matchAll(/Device \((PC..)\)/g)].map((match) => match[1])).toEqual(["PCI0", "PC10", "PC20"]);
    const ranges = bridgeRanges(text);
    expect(ranges.filter(({ kind }) => kind === "WordBusNumber").map(({ low, high }) => [low, high])).toEqual([
      [0, 15],
      [16, 31],
      [32, 255],
    ]);
    const memory = ranges.filter(({ kind }) => kind !== "WordBusNumber").sort((a, b) => a.low - b.low);
    // Two windows each, and configuration space.
    expect(memory.length).toBe(7);
    memory.slice(1).forEach((one, index) => expect(one.low).toBeGreaterThan(memory[index].high));
    expect(text).toMatch(/QWordIO \(ResourceProducer[^)]*TypeStatic|QWordIO \(ResourceProducer/);
    expect(text).toContain("0x000000003EFF0000, // Translation Offset");
    // Reserved ranges are heeded where what is programmed is to be kept: pcie.0 has none.
    expect(text.match(/Method \(_DSM, 4/g)?.length).toBe(2);
    expect(text).toContain("Notify (PWRB, 0x80)");
    expect(text.match(/"ARMH0011"/g)?.length).toBe(1);
  });

  it("an IORT whose ranges hold for all numbers that the kernel may give, also for slots that are empty", () => {
    const table = Buffer.from(tables.acpi!.get("IORT")!);
    const nodes: Buffer[] = [];
    for (let at = 48; at < table.length; at += table.readUInt16LE(at + 1)) {
      nodes.push(table.subarray(at, at + table.readUInt16LE(at + 1)));
    }
    const maps = (node: Buffer): number[][] =>
      Array.from({ length: node.readUInt32LE(8) }, (_, n) => [0, 4, 8, 12, 16].map((field) => node.readUInt32LE(node.readUInt32LE(12) + 20 * n + field)));
    expect(nodes.map((node) => node[0])).toEqual([0, 4, 4, 2, 6, 6]);
    const [first, second] = [48 + 24, 48 + 24 + 88];
    expect(maps(nodes[3])).toEqual([
      [0x1000, 0xfff, 0x1000, first, 0],
      [0x2000, 0xdfff, 0x2000, second, 0],
      [0, 0xfff, 0, 48, 0],
    ]);
    expect([maps(nodes[4]), maps(nodes[5])]).toEqual([[[0x1000, 0xfff, 0x1000, first, 0]], [[0x2000, 0xdfff, 0x2000, second, 0]]]);
    // May be remapped: else Linux lets no program have the function by VFIO.
    expect([nodes[4].readUInt32LE(16), nodes[4].readBigUInt64LE(48), nodes[4].readBigUInt64LE(56)]).toEqual([1, 0x800_0000n, 0x10_0000n]);
  });

  it("are those of the guest program as long as no kernel is placed", () => {
    const { machine } = build(EXPANDERS);
    machine.start();
    const { deviceTree, efi } = machine.board.buildTables();
    machine.shutdown();
    expect(efi).toBeUndefined();
    expect(deviceTree!.bytes.length).toBeGreaterThan(2000);
  });
});

describe("by which of the two a kernel is told", () => {
  it("ACPI with expanders or acpi=on, the device tree else or with acpi=off", () => {
    const acpi = (line: string): boolean => tablesOf(line).acpi !== null;
    expect([acpi(EXPANDERS), acpi(EXPANDERS.replace("-M virt", "-M virt,acpi=off"))]).toEqual([true, false]);
    expect([acpi(PLAIN), acpi(PLAIN.replace("-M virt", "-M virt,acpi=on")), acpi(PLAIN.replace("-M virt", "-M virt,acpi=auto"))]).toEqual([false, true, false]);
  });
});

describe.skipIf(!has("dtc"))("what a kernel is told by the device tree", () => {
  it("a host bridge with a domain, memory and requester ids of its own for each root bus", () => {
    const { text, complaints } = source(tablesOf(EXPANDERS.replace("-M virt", "-M virt,acpi=off")).tree);
    expect(complaints).toBe("");
    const all = (pattern: RegExp): string[] => [...text.matchAll(pattern)].map((match) => match[1]);
    expect(all(/linux,pci-domain = <(.*)>/g)).toEqual(["0x00", "0x01", "0x02"]);
    expect(all(/bus-range = <(.*)>/g)).toEqual(["0x00 0x0f", "0x10 0x1f", "0x20 0xff"]);
    expect(all(/iommu-map = <(.*)>/g)).toEqual(["0x1000 0x8010 0x1000 0x1000", "0x2000 0x8011 0x2000 0xe000"]);
    expect(all(/msi-map = <(.*)>/g)).toEqual(["0x00 0x8001 0x00 0x1000", "0x1000 0x8001 0x1000 0x1000", "0x2000 0x8001 0x2000 0xe000"]);
    expect(text).toContain("reg = <0x40 0x11000000 0x00 0x1000000>");
  });

  it("the reserved window at functions' own nodes, those of empty slots too, with addresses of three cells", () => {
    const { text } = source(tablesOf(EXPANDERS.replace("-M virt", "-M virt,acpi=off")).tree);
    // rp1 with a GPU, rp2 and rp3 empty.
    expect(text.match(/pcie@\d,0 \{/g)).toEqual(["pcie@0,0 {", "pcie@1,0 {", "pcie@0,0 {"]);
    expect(text.match(/dev@0,0 \{/g)?.length).toBe(3);
    expect(text).toContain("iommu-addresses = <0x9000 0x2000000 0x00 0x8000000 0x00 0x100000 0x9001 0x2000000 0x00 0x8000000 0x00 0x100000 0x9002 0x2000000 0x00 0x8000000 0x00 0x100000>");
    expect(text.match(/memory-region = <0x8003>/g)?.length).toBe(3);
  });

  it("functions of pcie.0 beside its ports, where an SMMU is there", () => {
    const { text, complaints } = source(tablesOf(PLAIN).tree);
    expect(complaints).toBe("");
    expect(text.match(/(pcie|dev)@[12],0 \{/g)).toEqual(["pcie@1,0 {", "dev@2,0 {"]);
    expect(text).toContain("bus-range = <0x00 0xff>");
    expect(text).toContain('bootargs = "console=ttyAMA0"');
    expect(text).toContain('stdout-path = "/pl011@9000000"');
  });

  it("has timers, PSCI, serial ports, clock and power key as QEMU's board", () => {
    const { text } = source(tablesOf(`${PLAIN} -serial null -serial null`, null).tree);
    expect(text).toContain("interrupts = <0x01 0x0d 0x04 0x01 0x0e 0x04 0x01 0x0b 0x04 0x01 0x0a 0x04>");
    expect(text).toContain('method = "hvc"');
    expect(text.match(/pl011@\w+ \{/g)).toEqual(["pl011@9000000 {", "pl011@9040000 {"]);
    expect(text).toMatch(/pl031@9010000 \{[^}]*interrupts = <0x00 0x02 0x04>/);
    expect(text).toMatch(/pl061@9030000 \{[^}]*interrupts = <0x00 0x07 0x04>/);
    expect(text).toContain("gpios = <0x8005 0x03 0x00>");
    expect(text).not.toContain("initrd");
  });
});

describe("NUMA nodes of a kernel's machine", () => {
  const NODES =
    "-M virt,accel=kvm,gic-version=3,acpi=on -smp 4 -m 1G -nodefaults -kernel Image -object memory-backend-ram,id=a,size=768M -object memory-backend-ram,id=b,size=256M " +
    "-numa node,nodeid=0,memdev=a,cpus=0-2 -numa node,nodeid=1,memdev=b,cpus=3 -numa dist,src=0,dst=1,val=30";

  it("are in SRAT and SLIT, as iasl reads them", () => {
    const { acpi } = tablesOf(NODES);
    const srat = Buffer.from(acpi!.get("SRAT")!);
    const entries: number[][] = [];
    for (let at = 48; at < srat.length; at += srat[at + 1]) {
      entries.push(srat[at] === 3 ? [3, srat.readUInt32LE(at + 2), srat.readUInt32LE(at + 6), srat.readUInt32LE(at + 10)] : [1, srat.readUInt32LE(at + 2), Number(srat.readBigUInt64LE(at + 8)), Number(srat.readBigUInt64LE(at + 16)), srat.readUInt32LE(at + 28)]);
    }
    expect(entries).toEqual([
      [3, 0, 0, 1],
      [3, 0, 1, 1],
      [3, 0, 2, 1],
      [3, 1, 3, 1],
      [1, 0, 0x4000_0000, 0x3000_0000, 1],
      [1, 1, 0x7000_0000, 0x1000_0000, 1],
    ]);
    expect([...acpi!.get("SLIT")!.subarray(36)]).toEqual([2, 0, 0, 0, 0, 0, 0, 0, 10, 30, 30, 10]);
    for (const name of has("iasl") ? ["SRAT", "SLIT"] : []) {
      expect(disassembled(acpi!.get(name)!, name).verdict, name).not.toMatch(/[1-9]\d* (Errors|Warnings|Remarks)/);
    }
  });

  it.skipIf(!has("dtc"))("are at processors, memory and a distance map in the device tree", () => {
    const { text, complaints } = source(tablesOf(NODES.replace("acpi=on", "acpi=off")).tree);
    expect(complaints).toBe("");
    expect([...text.matchAll(/cpu@(\w+) \{[^}]*numa-node-id = <(\w+)>/g)].map(([, cpu, node]) => [cpu, node])).toEqual([["0", "0x00"], ["1", "0x00"], ["2", "0x00"], ["3", "0x01"]]);
    expect(text).toContain("distance-matrix = <0x00 0x00 0x0a 0x00 0x01 0x1e 0x01 0x00 0x1e 0x01 0x01 0x0a>");
  });
});

/** ISO 3309's, bit by bit. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0xedb8_8320);
    }
  }
  return ~crc >>> 0;
}
