import { describe, expect, it } from "vitest";
import type { Q35Board } from "../../src/machine/index.js";
import { build, type Built } from "./build.js";

function running(line: string): Built & { board: Q35Board } {
  const built = build(line);
  built.machine.start();
  return { ...built, board: built.machine.board as Q35Board };
}

const ADDRESS = 0xcf8;
const DATA = 0xcfc;

/** A configuration register by ports. */
function read(board: Q35Board, bdf: number, register: number, size = 4): number {
  board.ports.write(ADDRESS, 4, BigInt(0x8000_0000 + bdf * 256 + (register & 0xfc)));
  return Number(board.ports.read(DATA + (register & 3), size));
}

function write(board: Q35Board, bdf: number, register: number, value: number, size = 4): void {
  board.ports.write(ADDRESS, 4, BigInt(0x8000_0000 + bdf * 256 + (register & 0xfc)));
  board.ports.write(DATA + (register & 3), size, BigInt(value >>> 0));
}

/** IOAPIC entries by its two registers. */
function redirect(board: Q35Board, pin: number, low: number, high = 0): void {
  for (const [register, value] of [[0x11 + 2 * pin, high], [0x10 + 2 * pin, low]]) {
    board.memory.writeWord(0xfec0_0000, 4, BigInt(register));
    board.memory.writeWord(0xfec0_0010, 4, BigInt(value >>> 0));
  }
}

const GIB = 2 ** 30;

describe("the q35 board", () => {
  it.each([
    ["-m 512M", [[0, 0x2000_0000]]],
    ["-m 2560M", [[0, 0xa000_0000]]],
    // What would reach configuration space is split at 2 GiB (QEMU 11.1, info mtree).
    ["-m 2816M", [[0, 2 * GIB], [4 * GIB, 0x3000_0000]]],
    ["-m 8G", [[0, 2 * GIB], [4 * GIB, 6 * GIB]]],
    ["-m 4G -M max-ram-below-4g=1G", [[0, GIB], [4 * GIB, 3 * GIB]]],
    ["-m 8G -M max-ram-below-4g=3G", [[0, 2 * GIB], [4 * GIB, 6 * GIB]]],
  ])("has RAM below and above 4 GiB: %s", (memory, spans) => {
    const { machine, board, host } = running(`-M q35 ${memory} -nodefaults`);
    expect(board.ram.map(({ base, size }) => [base, size])).toEqual(spans);
    for (const [base, size] of spans) {
      board.memory.writeWord(base + size - 8, 8, BigInt(base + 1));
      expect(board.memory.readWord(base + size - 8, 8)).toBe(BigInt(base + 1));
    }
    expect(machine.describe().memory).toBe(spans.reduce((sum, [, size]) => sum + size, 0));
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("fills both spans from several memory backends, one going on where the other ends", () => {
    const { machine, board } = running(
      "-M q35 -m 4G -nodefaults -object memory-backend-ram,id=a,size=1G -object memory-backend-ram,id=b,size=3G -numa node,memdev=a -numa node,memdev=b",
    );
    expect(board.ram.map(({ piece, base, offset, size }) => [piece.name, base, offset, size])).toEqual([
      ["a", 0, 0, GIB],
      ["b", GIB, 0, GIB],
      ["b", 4 * GIB, GIB, 2 * GIB],
    ]);
    board.memory.writeWord(4 * GIB, 4, 0x1234n);
    expect(board.words.load64(1, 0)).toBe(0);
    expect(board.words.loadedLow).toBe(0x1234);
    machine.shutdown();
  });

  it("has read-only ranges where QEMU has them before firmware moves them", () => {
    const { machine, board } = running("-M q35 -m 512M -nodefaults");
    const rom = board.memory.sections().filter(({ region }) => region.kind === "rom").map(({ region, address, size }) => [region.name, address, size]);
    expect(rom).toEqual([
      ["pc.rom", 0xc_0000, 0x2_0000],
      ["pc.bios", 0xe_0000, 0x2_0000],
      ["pc.bios", 0xfffc_0000, 0x4_0000],
    ]);
    board.memory.writeWord(0xf_0000, 4, 5n);
    expect(board.memory.readWord(0xf_0000, 4)).toBe(0n);
    machine.shutdown();
  });

  it("shows the chipset's functions as QEMU does", () => {
    const { machine, board } = running("-M q35 -nodefaults -device edu");
    // Vendor and device, class and revision, header type, subsystem, capabilities, pin: of QEMU 11.1.
    const seen = [0x00, 0xf8, 0xfa, 0xfb, 0x08].map((bdf) => [0x00, 0x08, 0x0c, 0x2c, 0x34, 0x3c].map((register) => read(board, bdf, register).toString(16)));
    expect(seen).toEqual([
      ["29c08086", "6000000", "0", "11001af4", "0", "0"],
      ["29188086", "6010002", "800000", "11001af4", "0", "0"],
      ["29228086", "1060102", "800000", "11001af4", "80", "100"],
      ["29308086", "c050002", "800000", "11001af4", "0", "100"],
      ["11e81234", "ff0010", "0", "11001af4", "40", "100"],
    ]);
    expect(read(board, 0x10, 0)).toBe(0xffff_ffff);
    machine.shutdown();
  });

  it("leaves the AHCI and SMBus controllers out where the machine is asked to", () => {
    const { machine, board } = running("-M q35,sata=off,smbus=off -nodefaults");
    expect([0xf8, 0xfa, 0xfb].map((bdf) => read(board, bdf, 0))).toEqual([0x2918_8086, 0xffff_ffff, 0xffff_ffff]);
    machine.shutdown();
  });

  it("has configuration space where PCIEXBAR says, and by ports", () => {
    const { machine, board } = running("-M q35 -nodefaults");
    // Firmware has put it there.
    expect(read(board, 0, 0x60)).toBe(0xb000_0001);
    expect(board.memory.readWord(0xb000_0000 + 0xf8 * 4096, 4)).toBe(0x2918_8086n);
    // 64 MiB: 64 buses.
    write(board, 0, 0x60, 0xd000_0005);
    expect(board.memory.readWord(0xb000_0000, 4)).toBe(0n);
    expect(board.memory.readWord(0xd000_0000, 4)).toBe(0x29c0_8086n);
    expect(board.mch.ecam).toEqual({ base: 0xd000_0000, size: 0x400_0000 });
    write(board, 0, 0x60, 0);
    expect(board.memory.find(0xd000_0000)).toBeNull();
    // Ports: bytes and words of the data register; the address register takes whole words only.
    expect([read(board, 0xf8, 2, 2), read(board, 0xf8, 1, 1)]).toEqual([0x2918, 0x80]);
    board.ports.write(ADDRESS, 2, 0n);
    expect(board.ports.read(ADDRESS, 4)).toBe(0x8000_f800n);
    board.ports.write(ADDRESS, 4, 0x0000_f800n);
    expect(board.ports.read(DATA, 4)).toBe(0xffff_ffffn);
    machine.reset();
    expect(board.mch.ecam).toEqual({ base: 0xb000_0000, size: 0x1000_0000 });
    machine.shutdown();
  });

  it("leaves configuration space to a client that plays the firmware", () => {
    const { machine, board } = running("-M q35 -nodefaults -accel qtest -qtest unix:/tmp/nobody.sock");
    expect(board.mch.ecam).toBeNull();
    expect(machine.board.buildTables().acpi!.tables.has("MCFG")).toBe(false);
    write(board, 0, 0x60, 0xb000_0001);
    expect(machine.board.buildTables().acpi!.tables.has("MCFG")).toBe(true);
    machine.shutdown();
  });

  it("decodes BARs below and above 4 GiB, and RAM wins where they meet", () => {
    const { machine, board } = running("-M q35 -m 512 -nodefaults -device edu,addr=3");
    write(board, 0x18, 0x10, 0xc100_0000);
    write(board, 0x18, 4, 2, 2);
    expect(board.memory.readWord(0xc100_0000, 4)).toBe(0x0100_00edn);
    write(board, 0x18, 0x10, 0x1000_0000);
    expect(board.memory.readWord(0x1000_0000, 4)).toBe(0n);
    machine.shutdown();
  });
});

describe("interrupts of a q35", () => {
  // Of QEMU 11.1, with an edu at each place and irq_intercept_in ioapic.
  const rows: Array<[line: string, find: (board: Q35Board) => number, pin: number]> = [
    ...([[1, 21], [2, 22], [3, 23], [4, 20], [0x17, 23], [0x18, 20], [0x19, 16], [0x1d, 16], [0x1e, 20]] as const).map(
      ([slot, pin]): [string, () => number, number] => [`-device edu,id=e,addr=${slot.toString(16)}`, () => slot << 3, pin],
    ),
    ["-device edu,id=e,addr=1f.5", () => 0xfd, 16],
    ["-device pcie-root-port,id=r,addr=5,chassis=1 -device edu,id=e,bus=r", () => 0x100, 21],
    ["-device pcie-pci-bridge,id=b,addr=1a -device edu,id=e,bus=b,addr=3", () => 0x118, 19],
  ];

  it.each(rows)("reach the IOAPIC's pin that QEMU has for %s", (line, _find, pin) => {
    const { machine, board } = running(`-M q35 -nodefaults ${line}`);
    const heard: Array<[number, number]> = [];
    expect(machine.pins.find("ioapic")!.intercept("in", null, (line, level) => void heard.push([line, level]))).toBe(true);
    const { fn } = board.find("e")!;
    fn.setIntx(true);
    fn.setIntx(false);
    expect(heard).toEqual([[pin, 1], [pin, 0]]);
    machine.shutdown();
  });

  it("become vectors by the IOAPIC's entries: edges once, levels until their end", async () => {
    const { machine, board } = running("-M q35 -nodefaults -device edu,id=e,addr=1");
    const port = machine.port();
    const pins = machine.pins.find("/machine/q35/ioapic")!;
    const pulse = (pin: number): void => [1, 0].forEach((level) => pins.set(null, pin, level));
    // Masked after a reset: an edge is lost.
    pulse(4);
    redirect(board, 4, 0x31, 0x0300_0000);
    expect(await port.interrupts()).toEqual([]);
    pulse(4);
    pulse(4);
    // A bit for each vector.
    expect(await port.interrupts()).toEqual([{ kind: "vector", vector: 0x31, destination: 3, logical: false }]);
    // Level, logical destination: sent once until EOI, again where the line is still up.
    redirect(board, 21, 0x1_a841 & ~0x1_0000, 0x0f00_0000);
    const { fn } = board.find("e")!;
    fn.setIntx(true);
    const vector = { kind: "vector", vector: 0x41, destination: 0xf, logical: true };
    expect(await port.interrupts()).toEqual([vector]);
    board.memory.writeWord(0xfec0_0000, 4, BigInt(0x10 + 42));
    expect(Number(board.memory.readWord(0xfec0_0010, 4)) & 0x4000).toBe(0x4000);
    expect(await port.interrupts()).toEqual([]);
    board.memory.writeWord(0xfec0_0040, 4, 0x41n);
    expect(await port.interrupts()).toEqual([vector]);
    fn.setIntx(false);
    board.memory.writeWord(0xfec0_0040, 4, 0x41n);
    expect(await port.interrupts()).toEqual([]);
    // What waits behind a mask comes when it is lifted.
    redirect(board, 21, 0x1_8041, 0);
    fn.setIntx(true);
    expect(await port.interrupts()).toEqual([]);
    redirect(board, 21, 0x8041, 0);
    expect(await port.interrupts()).toEqual([{ kind: "vector", vector: 0x41, destination: 0, logical: false }]);
    machine.shutdown();
  });

  it("has the IOAPIC's registers as QEMU's", () => {
    const { machine, board } = running("-M q35 -nodefaults");
    const register = (index: number): number => {
      board.memory.writeWord(0xfec0_0000, 4, BigInt(index));
      return Number(board.memory.readWord(0xfec0_0010, 4));
    };
    expect([register(0), register(1), register(0x10), register(0x11), register(0x3e), register(0x40)]).toEqual([0, 0x17_0020, 0x1_0000, 0, 0x1_0000, 0]);
    machine.shutdown();
  });

  it("takes messages of devices at 0xfee00000, and drops what no local APIC takes", async () => {
    const { machine, board, log } = running("-M q35 -nodefaults -device virtio-net-pci,id=n,addr=2");
    const port = machine.port();
    const { fn } = board.find("n")!;
    write(board, 0x10, 4, 6, 2);
    fn.sendMessage(0xfee0_500cn, 0x4055);
    fn.sendMessage(0xfee0_5000n, 0x0155);
    expect(await port.interrupts()).toEqual([
      { kind: "vector", vector: 0x55, destination: 5, logical: true },
      { kind: "vector", vector: 0x55, destination: 5, logical: false },
    ]);
    // NMI; two bytes; a processor's write to its own APIC's registers.
    fn.sendMessage(0xfee0_0000n, 0x0400);
    board.memory.writeBytes(0xfee0_0000, Uint8Array.of(1, 2), fn.dmaAttributes());
    board.memory.writeWord(0xfee0_00b0, 4, 0n);
    expect(await port.interrupts()).toEqual([]);
    expect(log.lines.map(({ text }) => text).join("\n")).toContain("NMI");
    // A processor's write beyond the registers is a message (QEMU's apic_mem_write).
    board.memory.writeWord(0xfee0_7000, 4, 0x66n);
    expect(await port.interrupts()).toEqual([{ kind: "vector", vector: 0x66, destination: 7, logical: false }]);
    machine.reset();
    machine.shutdown();
  });

  it("are remapped by the guest's table, of the IOAPIC as of functions, and blocked where an entry is not the source's", async () => {
    const { machine, board } = running("-M q35 -m 64M -nodefaults -device intel-iommu -device virtio-net-pci,id=n,addr=2");
    const port = machine.port();
    const table = 0x10_0000;
    const vtd = 0xfed9_0000;
    // Entries (VT-d 9.10): present, vector, APIC ID in DST 15:8; source id with SVT = 1.
    const entry = (index: number, vector: number, apicId: number, sourceId: number): void => {
      board.memory.writeWord(table + 16 * index, 8, 1n | (BigInt(vector) << 16n) | (BigInt(apicId) << 40n));
      board.memory.writeWord(table + 16 * index + 8, 8, BigInt(sourceId) | (1n << 18n));
    };
    entry(5, 0x61, 2, 0xff00);
    entry(6, 0x62, 3, 0x0010);
    board.memory.writeWord(vtd + 0xb8, 8, BigInt(table | 7));
    board.memory.writeWord(vtd + 0x18, 4, 1n << 24n);
    board.memory.writeWord(vtd + 0x18, 4, 1n << 25n);
    expect(board.memory.readWord(vtd + 0x1c, 4)).toBe(3n << 24n);
    // An IOAPIC entry in remappable format: the index in bits 63:49, the format in bit 48.
    redirect(board, 10, 0x61, (5 << 17) | (1 << 16));
    machine.pins.find("ioapic")!.set(null, 10, 1);
    expect(await port.interrupts()).toEqual([{ kind: "vector", vector: 0x61, destination: 2, logical: false }]);
    const { fn } = board.find("n")!;
    write(board, 0x10, 4, 6, 2);
    fn.sendMessage(0xfee0_0010n | (6n << 5n), 0);
    expect(await port.interrupts()).toEqual([{ kind: "vector", vector: 0x62, destination: 3, logical: false }]);
    expect(board.memory.readWord(vtd + 0x34, 4)).toBe(0n);
    // The IOAPIC's entry is not the function's.
    fn.sendMessage(0xfee0_0010n | (5n << 5n), 0);
    expect(await port.interrupts()).toEqual([]);
    // FSTS.PPF, and the record: reason 0x26, source id 0x10.
    expect(board.memory.readWord(vtd + 0x34, 4) & 2n).toBe(2n);
    const record = board.memory.readWord(vtd + 0x228, 8);
    expect([record & 0xffffn, (record >> 32n) & 0xffn]).toEqual([0x10n, 0x26n]);
    machine.shutdown();
  });

  it("asks the intel-iommu before a message of a function behind it is one, not of those that bypass it", async () => {
    const { machine, board } = running(
      "-M q35 -nodefaults -device intel-iommu -device pxb-pcie,id=p,bus_nr=16,bypass_iommu=on -device pcie-root-port,id=r,bus=p,chassis=1 -device edu,id=free,bus=r -device edu,id=covered,bus=pcie.0",
    );
    const asked: number[] = [];
    board.vtd!.device.remapInterrupt = (requesterId, address, data) => {
      asked.push(requesterId);
      return requesterId === 0xff00 ? null : { address, data: data + 1 };
    };
    const message = (rid: number): void => void board.memory.writeBytes(0xfee0_1000, Uint8Array.of(0x40, 0, 0, 0), { requesterId: rid, pasid: -1, execute: false, privileged: false });
    write(board, 0x1000, 0x18, 0x11_11_10, 4);
    message(0x08);
    message(0x1100);
    redirect(board, 2, 0x50);
    machine.pins.find("ioapic")!.set(null, 2, 1);
    expect(asked).toEqual([0x08, 0xff00]);
    expect(await machine.port().interrupts()).toEqual([
      { kind: "vector", vector: 0x41, destination: 1, logical: false },
      { kind: "vector", vector: 0x40, destination: 1, logical: false },
    ]);
    machine.shutdown();
  });
});

describe("an intel-iommu on a q35", () => {
  it("covers every root bus that does not bypass it, wherever it stands on the command line", () => {
    const { machine, host } = running(
      "-M q35 -nodefaults -device edu,id=a -device pxb-pcie,id=p,bus_nr=16 -device pcie-root-port,id=r,bus=p,chassis=1 -device edu,id=b,bus=r " +
        "-device pxb-pcie,id=q,bus_nr=32,bypass_iommu=on -device pcie-root-port,id=s,bus=q,chassis=2 -device edu,id=c,bus=s -device intel-iommu,id=vtd0",
    );
    const { functions, iommus, buses } = machine.describe();
    expect(functions.filter(({ model }) => model === "edu").map(({ id, iommu, addressSpace }) => [id, iommu, addressSpace])).toEqual([
      ["a", "vtd0", "vtd-01.0"],
      ["b", "vtd0", "vtd-00.0"],
      ["c", null, "memory"],
    ]);
    expect(iommus[0]).toMatchObject({ id: "vtd0", bus: "pcie.0", base: 0xfed9_0000, interrupts: [], legacy: false, features: { scalableMode: false, awBits: 48, intremap: true, eim: false } });
    expect(buses[0].iommu).toBe("vtd0");
    expect(machine.board.names.pathOf((machine.board as Q35Board).vtd!.device)).toBe("/machine/peripheral/vtd0");
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  // QEMU 11.1's, read over qtest.
  it.each([
    ["", 0x80d2_008c_222f_0606n, 0xf0_0f4an],
    [",scalable-mode=on", 0x80d2_008c_222f_0606n, 0x4800_80f0_0f4an],
    [",scalable-mode=on,fsts=on", 0x81d2_008c_222f_0606n, 0x8800_00f0_0f4an],
    [",scalable-mode=on,fsts=on,fs1gp=off", 0x80d2_008c_222f_0606n, 0x8800_00f0_0f4an],
    [",scalable-mode=on,fsts=on,pasid-bits=8", 0x81d2_008c_222f_0606n, 0x8938_00f0_0f4an],
    [",scalable-mode=on,fsts=on,pasid-bits=20,device-iotlb=on,svm=on", 0x81d2_008c_222f_0606n, 0x8d9a_20f0_0f4en],
    [",caching-mode=on", 0x80d2_008c_222f_0686n, 0xf0_0f4an],
    [",aw-bits=39", 0x80d2_008c_2226_0206n, 0xf0_0f4an],
  ])("shows CAP and ECAP as QEMU does: intel-iommu%s", (properties, cap, ecap) => {
    const { machine, board } = running(`-M q35 -nodefaults -device intel-iommu${properties}`);
    expect([board.memory.readWord(0xfed9_0000, 4), board.memory.readWord(0xfed9_0008, 8), board.memory.readWord(0xfed9_0010, 8)]).toEqual([0x10n, cap, ecap]);
    machine.shutdown();
  });

  it("takes older spellings with a note, and older machines' defaults", () => {
    const { machine } = running("-M q35 -nodefaults -device intel-iommu,x-scalable-mode=on,x-flts=on,x-pasid-mode=on");
    expect(machine.describe().iommus[0].features).toMatchObject({ scalableMode: true, fsts: true, pasidBits: 8 });
    expect(machine.args.notes).toEqual([
      "intel-iommu: x-scalable-mode=on is of an older version; taken as scalable-mode=on",
      "intel-iommu: x-flts=on is of an older version; taken as fsts=on",
      "intel-iommu: x-pasid-mode=on is of an older version; taken as pasid-bits=8",
    ]);
    machine.shutdown();
    const global = running("-M q35 -nodefaults -global intel-iommu.flts=on -device intel-iommu,scalable-mode=on,x-pasid-mode=off").machine;
    expect(global.describe().iommus[0].features).toMatchObject({ fsts: true, pasidBits: 0 });
    global.shutdown();
    const old = running("-M pc-q35-9.1 -nodefaults -device intel-iommu").machine;
    expect(old.describe().iommus[0].features).toMatchObject({ awBits: 39 });
    old.shutdown();
    expect(running("-M pc-q35-9.2 -nodefaults -device intel-iommu").machine.describe().iommus[0].features).toMatchObject({ awBits: 48 });
  });

  it("remaps interrupts but where KVM's own irqchip takes them all", () => {
    const features = (line: string) => running(`-M q35${line} -nodefaults -device intel-iommu`).machine.describe().iommus[0].features;
    expect(features(",accel=tcg")).toMatchObject({ intremap: true, eim: false });
    expect(features(",accel=kvm")).toMatchObject({ intremap: false, eim: false });
    expect(features(",accel=kvm,kernel-irqchip=split")).toMatchObject({ intremap: true, eim: true });
    expect(features(",accel=kvm,kernel-irqchip=off")).toMatchObject({ intremap: true, eim: false });
  });
});
