import { describe, expect, it } from "vitest";
import { ACCEL, build, type Built, GPU, VFIO } from "./build.js";

const RAM = 0x4000_0000;
const ECAM = 0x40_1000_0000;

/** A guest sees a machine that has been started only. */
function running(line: string): Built {
  const built = build(line);
  built.machine.start();
  return built;
}

/** Address of a register in configuration space. */
function config(bus: number, devfn: number, register: number, ecam = ECAM): number {
  return ecam + bus * 0x10_0000 + devfn * 0x1000 + register;
}

describe("the virt board", () => {
  it("has RAM, configuration space and windows where QEMU has them", async () => {
    const { machine } = running("-M virt,gic-version=3 -m 64G -nodefaults -device edu");
    const { map } = machine.board;
    expect(map).toEqual({
      ram: { base: RAM, size: 64 * 2 ** 30 },
      deviceMemory: null,
      moreBuses: null,
      ecam: { base: ECAM, size: 0x1000_0000 },
      busCount: 256,
      mmio32: { base: 0x1000_0000, size: 0x2eff_0000 },
      mmio64: { base: 0x80_0000_0000, size: 0x80_0000_0000 },
      pio: { base: 0x3eff_0000, size: 0x1_0000 },
    });
    const port = machine.port();
    expect(await port.read(config(0, 0, 0), 4)).toBe(0x0008_1b36n);
    expect(await port.read(config(0, 8, 0), 4)).toBe(0x11e8_1234n);
    expect(await port.read(config(0, 16, 0), 4)).toBe(0xffff_ffffn);
    await port.writeMemory(RAM + 63 * 2 ** 30, Uint8Array.of(1, 2, 3));
    expect(await port.readMemory(RAM + 63 * 2 ** 30, 4)).toEqual(Uint8Array.of(1, 2, 3, 0));
    machine.shutdown();
  });

  it("answers a processor's accesses at once: registers, RAM, ports that Arm has not", () => {
    const { machine } = running("-M virt,gic-version=3 -nodefaults -device edu");
    const { accesses } = machine.board;
    accesses.writeMemory(config(0, 8, 0x10), 4, 0x1010_0000n);
    accesses.writeMemory(config(0, 8, 4), 2, 2n);
    expect(accesses.readMemory(0x1010_0000, 4)).toBe(0x0100_00edn);
    accesses.writeMemory(RAM + 8, 8, 0x8877_6655_4433_2211n);
    expect(accesses.readMemory(RAM + 10, 2)).toBe(0x4433n);
    expect([accesses.readPort(0xcf8, 4), accesses.readPort(0xcf8, 1)]).toEqual([0xffff_ffff, 0xff]);
    accesses.writePort(0xcf8, 4, 1);
    accesses.endOfInterrupt(0x31);
    expect([ECAM, RAM, 0].map((address) => accesses.nameOf(address, false))).toEqual(["pcie-ecam", "mach-virt.ram", "nothing"]);
    expect(accesses.nameOf(0xcf8, true)).toBe("no port");
    machine.shutdown();
  });

  it("moves the high regions as highmem options and RAM say", () => {
    const ecam = (line: string): number => build(line).machine.board.map.ecam.base;
    expect(ecam("-M virt,highmem=off")).toBe(0x3f00_0000);
    expect(ecam("-M virt,highmem-ecam=off")).toBe(0x3f00_0000);
    // Without the redistributors' 64 MiB the configuration space is the first.
    expect(ecam("-M virt,highmem-redists=off")).toBe(0x40_0000_0000);
    expect(ecam("-M virt,highmem-redists=off,compact-highmem=off")).toBe(0x40_1000_0000);
    expect(build("-M virt,highmem-mmio=off").machine.board.map.mmio64).toBeNull();
    expect(build("-M virt -m 1G,slots=1,maxmem=300G").machine.board.map.ecam.base).toBe((1 + 1 + 299 + 1) * 2 ** 30 + 0x1000_0000);
  });

  it("decodes BARs in both windows", async () => {
    const { machine } = running("-M virt -nodefaults -device edu");
    const port = machine.port();
    await port.write(config(0, 8, 0x10), 4, 0x1010_0000n);
    await port.write(config(0, 8, 4), 2, 2n);
    expect(await port.read(0x1010_0000, 4)).toBe(0x0100_00edn);
    machine.shutdown();
  });

  it("gives SMMUs their registers and interrupts by their number on the command line", async () => {
    const { machine } = running(
      "-M virt -nodefaults -device arm-smmuv3,primary-bus=pcie.0,id=a -device pxb-pcie,id=p1,bus_nr=16 -device pxb-pcie,id=p2,bus_nr=32 " +
        "-device arm-smmuv3,primary-bus=p2,id=c,stage=nested -device arm-smmuv3,primary-bus=p1,id=b,stage=2",
    );
    expect(machine.describe().iommus.map(({ id, bus, base, interrupts }) => [id, bus, base, interrupts[0]])).toEqual([
      ["a", "pcie.0", 0x0c00_0000, 144],
      ["c", "p2", 0x0c02_0000, 148],
      ["b", "p1", 0x0c04_0000, 152],
    ]);
    // IDR0 of each as QEMU 11.1 shows it: stage 1, nested, stage 2.
    const idr0 = await Promise.all([0x0c00_0000, 0x0c02_0000, 0x0c04_0000].map((base) => machine.port().read(base, 4)));
    expect(idr0).toEqual([0x0d44_101an, 0x0d44_101bn, 0x0d44_1019n]);
    machine.shutdown();
  });

  it("raises an SMMU's interrupts at its own lines", async () => {
    const { machine } = running("-M virt -nodefaults -device pxb-pcie,id=p1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.0 -device arm-smmuv3,primary-bus=p1");
    const port = machine.port();
    const smmu = 0x0c02_0000;
    // An illegal command in a queue of one page, with the global error interrupt on (Arm IHI 0070, 6.3).
    await port.write(RAM + 0x1_0000, 8, 0xffn);
    await port.write(smmu + 0x50, 4, 1n);
    await port.write(smmu + 0x90, 8, BigInt(RAM + 0x1_0000) | 8n);
    await port.write(smmu + 0x20, 4, 8n);
    await port.write(smmu + 0x98, 4, 1n);
    expect(await port.interrupts()).toEqual([{ kind: "spi", intid: 148 + 3 }]);
    expect(await port.interrupts()).toEqual([]);
    machine.shutdown();
  });

  it("tells a CMD_SYNC in memory where the SMMU has messages, and writes no registers by them", async () => {
    const { machine } = running("-M virt,gic-version=3 -nodefaults -device arm-smmuv3,primary-bus=pcie.0,x-msi=on");
    const { accesses } = machine.board;
    const { base } = machine.describe().iommus[0];
    const [queue, told] = [RAM + 0x10000, RAM + 0x20000];
    expect(accesses.readMemory(base, 4) & (1n << 13n)).toBe(1n << 13n);
    expect(machine.describe().iommus[0].features).toMatchObject({ msi: true });
    // IHI 0070, 4.7.3: CS = SIG_IRQ, MSIDATA, MSIADDR.
    const sync = (at: number, address: number): void => {
      [0x46n | (1n << 12n) | (0x1234n << 32n), BigInt(address)].forEach((word, index) => accesses.writeMemory(queue + 16 * at + 8 * index, 8, word));
    };
    accesses.writeMemory(base + 0x90, 8, BigInt(queue) | 4n);
    accesses.writeMemory(base + 0x20, 4, 8n);
    sync(0, told);
    accesses.writeMemory(base + 0x98, 4, 1n);
    expect(accesses.readMemory(told, 4)).toBe(0x1234n);
    // Its own CR0: the write aborts, 6.3.17 MSI_CMDQ_ABT_ERR.
    sync(1, base + 0x20);
    accesses.writeMemory(base + 0x98, 4, 2n);
    expect([accesses.readMemory(base + 0x20, 4), accesses.readMemory(base + 0x60, 4), accesses.readMemory(base + 0x9c, 4)]).toEqual([8n, 1n << 4n, 2n]);
    machine.shutdown();
  });

  it.each([
    ["-M virt,accel=kvm,gic-version=3 -nodefaults -kernel Image -device arm-smmuv3,primary-bus=pcie.0", true],
    ["-M virt,accel=kvm,gic-version=3 -nodefaults -kernel Image -device arm-smmuv3,primary-bus=pcie.0,x-msi=off", false],
    ["-M virt,accel=kvm,gic-version=3,iommu=smmuv3 -nodefaults -kernel Image", true],
    ["-M virt,accel=kvm,gic-version=3,iommu=smmuv3 -nodefaults", false],
    ["-M virt,gic-version=3 -nodefaults -device arm-smmuv3,primary-bus=pcie.0", false],
  ])("%s: its SMMU has messages %s", (line, msi) => {
    const { machine } = build(line);
    expect(machine.describe().iommus[0].features).toMatchObject({ msi });
    machine.shutdown();
  });

  it("has the legacy SMMU cover all expander buses but those that bypass", () => {
    const { machine } = build(
      "-M virt,iommu=smmuv3 -nodefaults -device pxb-pcie,id=p1,bus_nr=16 -device pcie-root-port,id=r1,bus=p1,chassis=1 -device e1000e,bus=r1,id=in " +
        "-device pxb-pcie,id=p2,bus_nr=32,bypass_iommu=on -device pcie-root-port,id=r2,bus=p2,chassis=2 -device e1000e,bus=r2,id=out -device edu,id=low",
    );
    const iommuOf = (id: string): unknown => machine.describe().functions.find((fn) => fn.id === id)!.iommu;
    expect(machine.describe().iommus).toMatchObject([{ id: "smmuv3", base: 0x0905_0000, legacy: true, interrupts: [106, 107, 108, 109] }]);
    expect([iommuOf("in"), iommuOf("out"), iommuOf("low")]).toEqual(["smmuv3", null, "smmuv3"]);
    machine.shutdown();
  });

  it.each([
    ["virt", 0x0d44_101bn, 0x1414n],
    ["virt-9.2", 0x0d44_101bn, 0x1414n],
    ["virt-9.1", 0x0d44_101an, 0x1404n],
    ["virt-8.0", 0x0d44_101an, 0x1404n],
  ])("gives the legacy SMMU of %s the stages that QEMU 11.1 gives it", async (type, idr0, idr3) => {
    const { machine } = running(`-M ${type},iommu=smmuv3 -nodefaults`);
    const port = machine.port();
    expect([await port.read(0x0905_0000, 4), await port.read(0x0905_000c, 4)]).toEqual([idr0, idr3]);
    machine.shutdown();
  });

  it("has functions in one address space for all accelerated SMMUs, bridges in the SMMU's, others in system memory", () => {
    const { machine } = build(
      `${ACCEL} ${GPU} -device pxb-pcie,id=pcie.2,bus_nr=32 -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on -device pcie-root-port,id=rp3,bus=pcie.2,chassis=3 ` +
        "-device vfio-pci,host=0008:01:00.0,id=gpu1,bus=rp3,iommufd=iommufd0 -device virtio-net-pci,id=net0",
    );
    const { functions, iommus } = machine.describe();
    const spaces = Object.fromEntries(functions.filter((fn) => fn.id !== "").map((fn) => [fn.id, fn.addressSpace]));
    expect(spaces.gpu0).toBe("smmuv3-accel-as-sysmem");
    expect(spaces.net0).toBe("memory");
    expect(spaces.rp1).toMatch(/^smmuv3-iommu-memory-region/);
    const dma = machine.board.functions.filter(({ fn }) => fn.passthrough !== null).map(({ fn }) => fn.dma);
    expect(dma[0]).toBe(dma[1]);
    expect(iommus.map((iommu) => iommu.hostIommu)).toEqual(["smmu3.0x0000000016600000", "smmu3.0x0000000011600000"]);
    machine.shutdown();
  });

  it("takes RAM in the blocks of its NUMA nodes", async () => {
    const { machine, host } = running(
      "-M virt -m 3G -object memory-backend-ram,id=m0,size=1G -object memory-backend-memfd,id=m1,size=2G,share=on -smp 2 -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1",
    );
    expect(machine.board.ram.map(({ base, piece }) => [piece.name, base, piece.size, piece.node])).toEqual([
      ["m0", RAM, 2 ** 30, 0],
      ["m1", RAM + 2 ** 30, 2 ** 31, 1],
    ]);
    await machine.port().writeMemory(RAM + 2 ** 30 - 2, Uint8Array.of(1, 2, 3, 4));
    expect(await machine.port().readMemory(RAM + 2 ** 30 - 2, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    machine.shutdown();
    host.close();
  });

  it("sends messages to the ITS, or through the GICv2m frame", async () => {
    for (const [line, controller] of [
      ["-M virt,gic-version=3", "its"],
      ["-M virt,gic-version=3,msi=gicv2m", "gicv2m"],
      ["-M virt,gic-version=2", "gicv2m"],
      ["-M virt", "gicv2m"],
      ["-M virt,accel=kvm", "its"],
      ["-M virt,gic-version=3,its=off", "none"],
      ["-M virt,gic-version=3,msi=off", "none"],
    ] as const) {
      const { machine } = build(`${line} -nodefaults`);
      expect(machine.describe().msiController, line).toBe(controller);
      machine.shutdown();
    }
    const { machine } = running("-M virt,gic-version=3 -nodefaults -device edu");
    const { memory } = machine.board;
    const attributes = { requesterId: 8, pasid: -1, execute: false, privileged: false };
    memory.writeBytes(0x0809_0040, Uint8Array.of(5, 0, 0, 0), attributes);
    memory.writeBytes(0x0809_0040, Uint8Array.of(5, 0, 0, 0), attributes);
    // Pending is a bit: the second merges with the first.
    expect(await machine.port().interrupts()).toEqual([{ kind: "msi", deviceId: 8, eventId: 5 }]);
    memory.writeBytes(0x0809_0040, Uint8Array.of(0, 0, 1, 0), attributes);
    expect(await machine.port().interrupts()).toEqual([]);
    machine.shutdown();
    const v2m = running("-M virt,gic-version=2 -nodefaults").machine;
    v2m.board.memory.writeBytes(0x0802_0040, Uint8Array.of(81, 0, 0, 0), attributes);
    expect(await v2m.port().interrupts()).toEqual([{ kind: "spi", intid: 81 }]);
    v2m.shutdown();
  });

  it("places functions without addr= in the first free slot, in the order of the command line", () => {
    const { machine } = build("-M virt -nodefaults -device e1000e,id=a -device edu,id=b,addr=1.0x0 -device nvme,serial=1,id=c".replace("1.0x0", "3.0"));
    expect(machine.describe().functions.map(({ id, bdf }) => [id, bdf])).toEqual([
      ["a", "00:01.0"],
      ["b", "00:03.0"],
      ["c", "00:02.0"],
    ]);
    machine.shutdown();
  });

  it("writes its firmware's tables when it starts, without ACPI where that is off", async () => {
    const { machine } = build(`${ACCEL} ${GPU}`);
    expect(machine.board.firmware).toEqual({ deviceTree: null, acpiRoot: null });
    machine.start();
    const { deviceTree, acpiRoot } = await machine.port().firmware();
    expect(deviceTree).toBe(RAM);
    expect(await machine.port().readMemory(RAM, 4)).toEqual(Uint8Array.of(0xd0, 0x0d, 0xfe, 0xed));
    expect(new TextDecoder().decode(await machine.port().readMemory(acpiRoot!, 8))).toBe("RSD PTR ");
    machine.shutdown();
    const off = build("-M virt,acpi=off -nodefaults").machine;
    off.start();
    expect((await off.port().firmware()).acpiRoot).toBeNull();
    expect(off.board.buildTables().acpi).toBeNull();
    off.shutdown();
  });

  it("costs what is touched, with much memory and with little", () => {
    const before = process.memoryUsage().rss;
    const { machine } = build("-M virt -m 200G -nodefaults");
    machine.start();
    expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 30);
    machine.shutdown();
    const small = build(`-M virt -m 1M -nodefaults ${VFIO}`).machine;
    small.start();
    expect(small.board.firmware.deviceTree).toBe(RAM);
    small.shutdown();
  });
});
