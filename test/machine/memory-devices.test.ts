import { describe, expect, it } from "vitest";
import { build } from "./build.js";
import { refusalOf } from "./refused.js";

const GIB = 2 ** 30;
const M1 = "-object memory-backend-ram,id=m1,size=128M";
const M2 = "-object memory-backend-ram,id=m2,size=128M";
const ROOM = "-m 256M,slots=2,maxmem=1G -nodefaults";

describe("pc-dimm", () => {
  // Addresses as `info memory-devices` of QEMU 11.1 shows them.
  it.each([
    ["virt", 0x8000_0000],
    ["q35", 0x1_0000_0000],
  ])("is memory of a %s from its first instruction on, the second behind the first", (board, base) => {
    const { machine, host } = build(`-M ${board} ${ROOM} ${M1} ${M2} -device pc-dimm,id=d0,memdev=m1 -device pc-dimm,memdev=m2,node=0`);
    const devices = machine.board.memoryDevices;
    expect(devices.list.map(({ id, address, size, slot, node, hotplugged }) => [id, address, size, slot, node, hotplugged])).toEqual([
      ["d0", base, 2 ** 27, 0, 0, false],
      ["", base + 2 ** 27, 2 ** 27, 1, 0, false],
    ]);
    expect([machine.board.ramSize, devices.size]).toEqual([2 ** 28, 2 ** 28]);
    machine.start();
    machine.board.memory.writeWord(base + 2 ** 28 - 8, 8, 77n);
    expect(machine.board.memory.readWord(base + 2 ** 28 - 8, 8)).toBe(77n);
    expect(machine.board.memory.find(base + 2 ** 28)).toBeNull();
    // A queue or table in it is read as one in RAM.
    expect(machine.board.words.load64(Math.floor((base + 2 ** 28 - 8) / 2 ** 32), (base + 2 ** 28 - 8) | 0)).toBe(0);
    expect(machine.board.words.loadedLow).toBe(77);
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it.each([
    ["virt", "grace", "0009:01:00.0", "-device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=v,accel=on -device pcie-root-port,id=r0,bus=pcie.1,chassis=1", 0x8000_0000],
    ["q35", "two-socket-spr", "0000:97:00.0", "-device pcie-root-port,id=r0,chassis=1 -device intel-iommu,id=v,scalable-mode=on,fsts=on", 0x1_0000_0000],
  ])("comes to the stage-2 tables of a %s when it is plugged, and leaves them when it is unplugged", async (board, hostName, address, iommu, base) => {
    const line = `-M ${board} ${ROOM} ${M1} ${M2} -object iommufd,id=i0 ${iommu} -device vfio-pci,host=${address},id=nic,bus=r0,iommufd=i0 -device pc-dimm,id=d0,memdev=m1`;
    const { machine, host, observer } = build(line, hostName);
    machine.start();
    const { hotplug, events } = machine;
    const seen: unknown[] = [];
    events.subscribe((event) => seen.push(event));
    const calls = () => [observer.calls.get("IOAS_MAP") ?? 0, observer.calls.get("IOAS_UNMAP") ?? 0];
    const [maps, unmaps] = calls();
    const before = host.liveObjects().length;
    hotplug.plug("pc-dimm,id=d1,memdev=m2");
    expect(calls()).toEqual([maps + 1, unmaps]);
    expect(machine.board.memory.find(base + 2 ** 27)?.region.name).toBe("m2");
    expect(refusalOf(() => hotplug.plug("pc-dimm,id=d1,memdev=m2")).words).toBe("Duplicate ID 'd1' for device");
    expect(refusalOf(() => machine.board.objects.delete("m2")).words).toBe("Cannot delete host memory backend 'm2' which is mapped");
    await machine.operator().requestUnplug("d1");
    expect(calls()).toEqual([maps + 1, unmaps + 1]);
    expect(machine.board.memory.find(base + 2 ** 27)).toBeNull();
    expect(host.liveObjects()).toHaveLength(before);
    expect(seen).toEqual([{ name: "DEVICE_DELETED", data: { device: "d1", path: "/machine/peripheral/d1" } }]);
    // One that was there at start goes in the same way, and its place is free again.
    await machine.operator().requestUnplug("d0");
    expect(calls()).toEqual([maps + 1, unmaps + 2]);
    // A host that does not map it: nothing of it is there, and it can be tried again.
    observer.failOn({ operation: "IOAS_MAP", nth: 1, errno: "ENOMEM" });
    expect(refusalOf(() => hotplug.plug("pc-dimm,id=d2,memdev=m1")).words).toContain("IOAS_MAP: ENOMEM");
    expect(machine.board.memoryDevices.list).toEqual([]);
    expect(machine.board.memory.find(base)).toBeNull();
    hotplug.plug("pc-dimm,id=d2,memdev=m1");
    expect(machine.board.memory.find(base)?.region.name).toBe("m1");
    machine.reset();
    expect(machine.board.memory.find(base)?.region.name).toBe("m1");
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("takes the first place that is free", () => {
    const { machine } = build(`-M q35 -m 5G,slots=4,maxmem=8G -nodefaults ${M1} ${M2} -object memory-backend-ram,id=m3,size=64M -device pc-dimm,id=a,memdev=m1 -device pc-dimm,id=b,memdev=m2`);
    machine.start();
    // 5 GiB: 2 GiB below and 3 GiB above 4 GiB.
    const base = 7 * GIB;
    expect(machine.board.memoryDevices.list[0].address).toBe(base);
    machine.hotplug.unplugMemory(machine.board.memoryDevices.list[0]);
    machine.hotplug.plug(`pc-dimm,id=c,memdev=m3,addr=${base + 0x20_0000}`);
    machine.hotplug.plug("pc-dimm,id=d,memdev=m1");
    expect(machine.board.memoryDevices.inOrder().map(({ id, address, slot }) => [id, address - base, slot])).toEqual([
      ["c", 0x20_0000, 0],
      ["b", 2 ** 27, 1],
      ["d", 2 ** 28, 2],
    ]);
    machine.shutdown();
  });

  // The words are QEMU 11.1's for the same lines.
  it.each([
    ["-m 256M", M1, "pc-dimm,id=d0,memdev=m1", "no slots where allocated, please specify the 'slots' option"],
    ["-m 256M,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1", "no slots where allocated, please specify the 'slots' option"],
    ["-m 256M,slots=2,maxmem=256M", M1, "pc-dimm,id=d0,memdev=m1", "invalid value of maxmem: memory slots were specified but maximum memory size (0x10000000) is equal to the initial memory size (0x10000000)"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0", "'memdev' property must be set"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m9", "Device 'm9' not found"],
    ["-m 256M,slots=2,maxmem=1G", "-object iommufd,id=m1", "pc-dimm,id=d0,memdev=m1", "Invalid parameter type for 'memdev', expected: memory-backend"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1 -device pc-dimm,id=d1,memdev=m1", "can't use already busy memdev: m1"],
    ["-m 256M,slots=1,maxmem=1G", `${M1} ${M2}`, "pc-dimm,id=d0,memdev=m1 -device pc-dimm,id=d1,memdev=m2", "no free slots available"],
    ["-m 256M,slots=2,maxmem=512M", "-object memory-backend-ram,id=m1,size=512M", "pc-dimm,id=d0,memdev=m1", "not enough space, currently 0x0 in use of total space for memory devices 0x10000000"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1,addr=0x1000", "address must be aligned to 0x200000 bytes"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1,addr=0x1f0000000", "can't add memory device [0x1f0000000:0x8000000], usable range for memory devices [0x100000000:0xb0000000]"],
    ["-m 256M,slots=2,maxmem=1G", `${M1} ${M2}`, "pc-dimm,id=d0,memdev=m1,addr=0x100000000 -device pc-dimm,id=d1,memdev=m2,addr=0x104000000", "address range conflicts with memory device id='d0'"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1,slot=5", "invalid slot number 5, valid range is [0-1]"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1,slot=-2", "invalid slot number -2, valid range is [0-1]"],
    ["-m 256M,slots=2,maxmem=1G", `${M1} ${M2}`, "pc-dimm,id=d0,memdev=m1,slot=1 -device pc-dimm,id=d1,memdev=m2,slot=1", "slot 1 is busy"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1,node=3", "'DIMM property node has value 3' which exceeds the number of numa nodes: 1"],
    ["-m 256M,slots=2,maxmem=1G", "-object memory-backend-ram,id=m1,size=100K", "pc-dimm,id=d0,memdev=m1", "backend memory size must be multiple of 0x200000"],
    ["-m 256M,slots=2,maxmem=1G", M1, "pc-dimm,id=d0,memdev=m1,bus=pcie.0", "Device 'pc-dimm' can't go on PCIE bus"],
    ["-m 256M,slots=2,maxmem=1G", M1, "nvdimm,id=d0,memdev=m1", "'nvdimm' is not a valid device model name"],
  ])("%s %s -device %s: %s", (memory, objects, device, words) => {
    expect(refusalOf(() => build(`-M q35 ${memory} -nodefaults ${objects} -device ${device}`)).words).toBe(words);
  });
});
