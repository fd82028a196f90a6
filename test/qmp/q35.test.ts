import { expect, it } from "vitest";
import { deviceModels, objectTypes } from "../../src/machine/arguments/index.js";
import { MonitorRig } from "./rig.js";

const MACHINE =
  "-M q35 -smp 2 -m 4G -nodefaults -device intel-iommu,id=v,scalable-mode=on,fsts=on -device pxb-pcie,id=p,bus=pcie.0,bus_nr=16 -device pcie-root-port,id=r,bus=p,chassis=1 -device edu,bus=r,id=e";

it("a monitor tells of a q35 what QEMU's tells", async () => {
  const rig = new MonitorRig(MACHINE);
  const client = await rig.client();
  const ask = async (command: string, args?: object): Promise<unknown> => {
    const [answer] = await client.ask(command, args as never);
    return "return" in answer ? answer.return : answer;
  };
  expect(await ask("query-target")).toEqual({ arch: "x86_64" });
  expect(await ask("query-machines")).toEqual([
    { "hotpluggable-cpus": true, name: "pc-q35-11.1", "numa-mem-supported": false, acpi: true, "cpu-max": 4096, deprecated: false, "default-ram-id": "pc.ram", alias: "q35" },
  ]);
  expect(await ask("query-gic-capabilities")).toEqual({ error: { class: "GenericError", desc: "GIC hardware is not available on this target" } });
  expect(await ask("query-memory-size-summary")).toEqual({ "base-memory": 2 ** 32, "plugged-memory": 0 });
  expect(await ask("query-memdev")).toMatchObject([{ id: "pc.ram", size: 2 ** 32 }]);
  expect(await ask("qom-list-types", { implements: "x86-iommu" })).toEqual([{ name: "intel-iommu", parent: "x86-iommu" }]);
  const named = (await ask("qom-list-types", {})) as Array<{ name: string }>;
  expect(named.map(({ name }) => name)).toEqual(expect.arrayContaining([...deviceModels.keys(), ...Object.keys(objectTypes)]));
  expect(await ask("qom-list-types", { implements: "memory-backend" })).toEqual(["ram", "memfd", "file", "shm"].map((kind) => ({ name: `memory-backend-${kind}`, parent: "memory-backend" })));
  expect(await ask("qom-list-properties", { typename: "memory-backend-shm" })).toEqual(expect.arrayContaining([{ name: "type", type: "string" }, { name: "size", type: "int" }, { name: "share", type: "bool" }]));
  // Numbers as QEMU 11.1 gives them to two CPUs.
  const types = new Map((await ask("qom-list", { path: "/machine/unattached" }) as Array<{ name: string; type: string }>).map(({ name, type }) => [name, type]));
  expect([3, 13, 14, 23].map((n) => types.get(`device[${n}]`))).toEqual(["child<ICH9-LPC>", "child<ich9-ahci>", "child<ICH9-SMB>", "child<pxb-host>"]);
  expect((await ask("qom-list", { path: "/machine/q35" }) as Array<{ name: string }>).map(({ name }) => name)).toEqual(expect.arrayContaining(["ioapic", "mch", "pcie.0", "below-4g-mem-size"]));
  expect(await ask("qom-get", { path: "/machine/q35", property: "above-4g-mem-size" })).toBe(2 ** 31);
  expect(await ask("qom-get", { path: "/machine/peripheral/v", property: "fsts" })).toBe(true);
  // `auto` is decided by then.
  expect([await ask("qom-get", { path: "/machine/peripheral/v", property: "intremap" }), await ask("qom-get", { path: "/machine/peripheral/v", property: "eim" })]).toEqual(["on", "off"]);
  for (const command of [["device_add", { driver: "intel-iommu" }], ["device_del", { id: "v" }]] as const) {
    expect(await ask(command[0], command[1])).toMatchObject({ error: { class: "GenericError", desc: expect.stringContaining("Device 'intel-iommu' does not support hotplugging") } });
  }
  const people = async (line: string): Promise<string> => await ask("human-monitor-command", { "command-line": line }) as string;
  const tree = (await people("info qtree")).replaceAll("\r", "");
  for (const line of ['dev: intel-iommu, id "v"', "aw-bits = 48 (0x30)", "pasid-bits = 0 (0x0)", 'eim = "off"', 'intremap = "on"', "scalable-mode = true", "dma-translation = true", 'dev: q35-pcihost, id ""', 'dev: ICH9-LPC, id ""', 'dev: mch, id ""', "class Host bridge, addr 00:00.0, pci id 8086:29c0 (sub 1af4:1100)"]) {
    expect(tree).toContain(line);
  }
  const memory = (await people("info mtree -f")).replaceAll("\r", "");
  for (const line of [
    "0000000000100000-000000007fffffff (prio 0, ram): pc.ram @0000000000100000",
    "00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic",
    "00000000fee00000-00000000feefffff (prio 4096, i/o): apic-msi",
    "00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios",
    "0000000100000000-000000017fffffff (prio 0, ram): pc.ram @0000000080000000",
  ]) {
    expect(memory).toContain(line);
  }
  expect((await people("info iommu")).replaceAll("\r", "")).toBe(
    "v: intel-iommu, translates in software, scalable mode, first stage, disabled, bypasses, interrupts not remapped\n" +
      "  00:00.0 edu 'e', no source id, its bus has no number, address space vtd-00.0\n",
  );
  expect(await people("info pci")).toContain("SATA controller: PCI device 8086:2922");
  const { board } = rig.machine;
  expect(await people("info lapic")).toMatch(/\nIRR\t \(none\)/);
  for (const [address, data] of [[0xfee0_1000, 0x33], [0xfee0_1000, 0x31], [0xfeef_f000, 0x40], [0xfee0_2004, 0x50], [0xfee0_0000, 0x60]]) {
    board.memory.writeBytes(address, Uint8Array.of(data, 0, 0, 0), { requesterId: 0x1100, pasid: -1, execute: false, privileged: false });
  }
  expect(await people("info lapic 1")).toMatch(/\nIRR\t 49 51 64 80 /);
  expect(await people("info lapic")).toMatch(/\nIRR\t 64 96 /);
  expect(await people("info lapic 2")).toMatch(/^No CPU available/);
  rig.close();
});

it("memory comes and goes by the monitor", async () => {
  const rig = new MonitorRig("-M q35 -m 256M,slots=4,maxmem=2G -nodefaults -object memory-backend-ram,id=m1,size=128M -object memory-backend-ram,id=m2,size=128M -device pc-dimm,id=d0,memdev=m1");
  const client = await rig.client();
  const people = async (line: string): Promise<string> => {
    const [answer] = await client.ask("human-monitor-command", { "command-line": line });
    return (answer as { return: string }).return.replaceAll("\r", "");
  };
  // As QEMU 11.1 shows it.
  expect(await people("info memory-devices")).toBe('Memory device [dimm]: "d0"\n  addr: 0x100000000\n  slot: 0\n  node: 0\n  size: 134217728\n  memdev: /objects/m1\n  hotplugged: false\n  hotpluggable: true\n');
  expect(await client.ask("device_add", { driver: "pc-dimm", id: "d1", memdev: "m2" })).toEqual([{ return: {} }]);
  expect(await client.ask("query-memory-devices")).toMatchObject([
    { return: [{ type: "dimm", data: { id: "d0", addr: 0x1_0000_0000 } }, { type: "dimm", data: { id: "d1", addr: 0x1_0800_0000, slot: 1, node: 0, size: 2 ** 27, memdev: "/objects/m2", hotplugged: true, hotpluggable: true } }] },
  ]);
  expect(await people("info memory_size_summary")).toBe("base memory: 268435456\nplugged memory: 268435456\n");
  expect(await people("info mtree -f")).toContain("0000000108000000-000000010fffffff (prio 0, ram): m2");
  expect(await people("device_add pc-dimm,id=d1,memdev=m2")).toContain("Duplicate ID 'd1' for device");
  expect(await people("device_add pc-dimm,id=d2,memdev=m2")).toContain("can't use already busy memdev: m2");
  expect(await client.ask("qom-get", { path: "/machine/peripheral/d1", property: "addr" })).toEqual([{ return: 0x1_0800_0000 }]);
  expect(await client.ask("object-del", { id: "m2" })).toEqual([{ error: { class: "GenericError", desc: "Cannot delete host memory backend 'm2' which is mapped" } }]);
  expect(await client.ask("device_del", { id: "d1" })).toEqual([{ return: {} }, { event: "DEVICE_DELETED", data: { device: "d1", path: "/machine/peripheral/d1" } }]);
  expect(await client.ask("object-del", { id: "m2" })).toEqual([{ return: {} }]);
  expect(await client.ask("device_del", { id: "/machine/peripheral/d0" })).toEqual([{ return: {} }, { event: "DEVICE_DELETED", data: { device: "d0", path: "/machine/peripheral/d0" } }]);
  expect(await client.ask("query-memory-size-summary")).toEqual([{ return: { "base-memory": 2 ** 28, "plugged-memory": 0 } }]);
  expect(rig.close()).toBe(0);
});
