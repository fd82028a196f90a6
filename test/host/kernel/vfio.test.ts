import { eventOf } from "../host-event.js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type SimulatedHost, ENGINE, ENGINE_ID } from "../../../src/host/simulated/index.js";
import { HwptAllocFlags, VfioIrq, VfioRegion, type Iommufd, type VfioDevice } from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { A, B, bind, type Bound, Engine, errno, GuestTables, hostDescription, makeHost, map, nested, putWords } from "./rig.js";
import { createSimulatedHost, describeHost } from "../../../src/host/simulated/index.js";

const GPA = 0x4000_0000;
const NONE = new Uint8Array(0);
const { CONFIG } = VfioRegion;

let host: SimulatedHost;
let iommufd: Iommufd;
let ioas: number;
let ram: RamBlock;
beforeEach(() => {
  host = makeHost();
  iommufd = host.openIommufd();
  ioas = iommufd.ioasAlloc();
  ram = host.allocateMemory("ram", 0x40_0000);
  map(iommufd, ioas, ram, GPA);
});
afterEach(() => host.close());

function config(device: VfioDevice, offset: number, bytes: number): number {
  const out = new Uint8Array(bytes);
  device.regionRead(CONFIG, offset, out);
  return out.reduceRight((value, byte) => value * 256 + byte, 0);
}

function setConfig(device: VfioDevice, offset: number, bytes: number, value: number): void {
  device.regionWrite(CONFIG, offset, Uint8Array.from({ length: bytes }, (_unused, i) => value >>> (8 * i)));
}

/** The function on a nesting parent. */
function onParent(bound: Bound): { parent: number; viommu: number } {
  const parent = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId: bound.devId, ptId: ioas, dataType: 0, data: NONE });
  bound.device.attach(parent);
  return { parent, viommu: iommufd.viommuAlloc({ type: 1, devId: bound.devId, hwptId: parent }) };
}

describe("opening and binding", () => {
  test("needs a function that vfio-pci has, behind an SMMU with coherent walks", () => {
    expect(errno(() => host.openDevice("0000:99:00.0"))).toBe("ENODEV");
    const input = hostDescription({ idr0: 0x0d44_100b });
    input.functions[1].driver = "nvme";
    input.functions[2].smmu = null;
    const other = createSimulatedHost(describeHost(input));
    expect(errno(() => other.openDevice(B))).toBe("ENODEV");
    const fd = other.openIommufd();
    expect(errno(() => other.openDevice("0001:01:00.0").bind(fd.fd)), "no SMMU").toBe("EINVAL");
    expect(errno(() => other.openDevice(A).bind(fd.fd)), "COHACC is 0").toBe("EINVAL");
    other.close();
  });

  test("nothing but binding works before, and nothing at all after closing", () => {
    const device = host.openDevice(A);
    for (const call of [
      () => device.attach(ioas),
      () => device.detach(),
      () => device.regionInfo(0),
      () => device.regionRead(CONFIG, 0, new Uint8Array(4)),
      () => device.irqInfo(0),
      () => device.setIrqs(VfioIrq.MSIX, 0, []),
      () => device.reset(),
    ]) {
      expect(errno(call)).toBe("EINVAL");
    }
    device.bind(iommufd.fd);
    expect(errno(() => device.bind(iommufd.fd))).toBe("EINVAL");
    device.close();
    expect(errno(() => device.attach(ioas))).toBe("EBADF");
    expect(errno(() => device.bind(iommufd.fd))).toBe("EBADF");
    device.close();
    const again = host.openDevice(A);
    expect(again.bind(iommufd.fd), "the function is free again, and its id").toBe(2);
    expect(errno(() => host.openDevice(A).bind(iommufd.fd))).toBe("EINVAL");
  });

  test("of an iommufd that is closed, or of another host, is refused", () => {
    const closed = host.openIommufd();
    closed.close();
    expect(errno(() => host.openDevice(A).bind(closed.fd))).toBe("EBADF");
    expect(errno(() => closed.ioasAlloc())).toBe("EBADF");
  });
});

describe("closing", () => {
  test("a function blocks it, frees its table, and destroys its vDEVICE, whose id stays taken", () => {
    const a = bind(host, iommufd, A);
    const { parent, viommu } = onParent(a);
    const vdevice = iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    const engine = new Engine(a.device);
    expect(engine.write(GPA, Uint8Array.of(1))).toBe(true);
    a.device.close();
    const live = host.liveObjects();
    expect(live.map((object) => object.id)).not.toContain(vdevice);
    expect(errno(() => iommufd.destroy(vdevice))).toBe("ENOENT");
    const b = bind(host, iommufd, B);
    expect(b.devId, "the lowest free id").toBe(a.devId);
    expect(iommufd.ioasAlloc()).toBe(vdevice + 1);
    expect(iommufd.vdeviceAlloc({ viommuId: viommu, devId: b.devId, virtId: 5n })).toBe(vdevice + 2);
    iommufd.destroy(vdevice + 2);
    iommufd.destroy(viommu);
    iommufd.destroy(parent);
    const hardware = host.hardware.functions.get(A)!;
    expect(hardware.configRead(4, 2) & 4, "bus mastering is off").toBe(0);
    expect([...host.hardware.smmus.get(hardware.smmu!.name)!.readSte(hardware.sourceId).subarray(0, 2)]).toEqual([1, 0]);
  });

  test("an iommufd waits for the functions and queues that hold it", () => {
    const a = bind(host, iommufd, A);
    const { viommu } = onParent(a);
    const { stream } = iommufd.veventqAlloc({ viommuId: viommu, type: 1, depth: 4 });
    iommufd.close();
    expect(new Engine(a.device).write(GPA, Uint8Array.of(1))).toBe(true);
    expect(host.liveObjects().map((object) => object.type)).toEqual(["iommufd", "ioas", "device", "hwpt-paging", "viommu", "veventq"]);
    a.device.close();
    expect(host.liveObjects().length).toBeGreaterThan(1);
    stream.close();
    expect(host.liveObjects()).toEqual([]);
  });

  test("the host frees everything that is left, tags, tables and memory", () => {
    const { memory } = host.hardware;
    const a = bind(host, iommufd, A);
    const { viommu } = onParent(a);
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    a.device.attach(nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA }));
    iommufd.veventqAlloc({ viommuId: viommu, type: 1, depth: 4 });
    iommufd.faultQueueAlloc();
    bind(host, iommufd, B).device.attach(ioas);
    host.openDevice("0001:01:00.0");
    host.openIommufd();
    expect(host.liveObjects().map((object) => object.type).sort()).toEqual(
      ["device", "device", "fault", "hwpt-nested", "hwpt-paging", "hwpt-paging", "ioas", "iommufd", "iommufd", "vdevice", "veventq", "vfio-device", "viommu"],
    );
    host.close();
    expect(host.liveObjects()).toEqual([]);
    expect(host.kernel.smmuAccounts().map(({ vmids, asids }) => [vmids, asids])).toEqual([[0, 0], [0, 0]]);
    expect([memory.livePages, memory.liveBlocks]).toEqual([0, 0]);
  });
});

describe("configuration space", () => {
  test("shows the hardware's registers and keeps addresses and enables of its own", () => {
    const { device } = bind(host, iommufd, A);
    expect(device.regionInfo(CONFIG)).toEqual({ size: 4096, readable: true, writable: true, areas: [] });
    expect(config(device, 0, 4)).toBe(0x0010_1b36);
    setConfig(device, 0, 4, 0);
    expect(config(device, 0, 4)).toBe(0x0010_1b36);
    expect(config(device, 0x10, 4), "a 64-bit BAR at no address").toBe(4);
    setConfig(device, 0x10, 4, 0xffff_ffff);
    setConfig(device, 0x14, 4, 0xffff_ffff);
    expect(config(device, 0x10, 4)).toBe(0xffff_0004);
    expect(config(device, 0x14, 4)).toBe(0xffff_ffff);
    setConfig(device, 0x18, 4, 0xffff_ffff);
    expect(config(device, 0x18, 4), "no such BAR").toBe(0);
    const hardware = host.hardware.functions.get(A)!;
    expect(hardware.configRead(0x10, 4)).toBe(4);
    setConfig(device, 4, 2, 0xffff);
    expect(config(device, 4, 2)).toBe(0x547);
    setConfig(device, 4, 2, 0);
    expect(config(device, 4, 2)).toBe(0);
    expect(hardware.configRead(4, 2), "it decodes the host's addresses").toBe(2);
    setConfig(device, 0x3c, 1, 0x55);
    expect(config(device, 0x3c, 1)).toBe(0x55);
  });

  test("MSI-X and ATS enables are the host's", () => {
    host.close();
    host = makeHost({ idr0: 0x0d44_141b }, { ats: true });
    const { device } = bind(host, host.openIommufd(), A);
    let msix = config(device, 0x34, 1);
    while (config(device, msix, 1) !== 0x11) {
      msix = config(device, msix + 1, 1);
    }
    setConfig(device, msix + 2, 2, 0x8000);
    expect(config(device, msix + 2, 2)).toBe(7);
    expect(config(device, 0x100, 2)).toBe(0x0f);
    setConfig(device, 0x106, 2, 0x8000);
    expect(host.hardware.functions.get(A)!.atsEnabled).toBe(false);
  });

  test("FLR in Device Control resets the function and keeps what the process and the kernel have set", () => {
    const a = bind(host, iommufd, A);
    a.device.attach(ioas);
    const hits: number[] = [];
    a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => hits.push(0)), null, eventOf(() => hits.push(2))]);
    const engine = new Engine(a.device);
    engine.set(ENGINE.PATTERN, 77);
    let express = config(a.device, 0x34, 1);
    while (config(a.device, express, 1) !== 0x10) {
      express = config(a.device, express + 1, 1);
    }
    setConfig(a.device, express + 8, 2, 0xa810);
    expect(config(a.device, express + 8, 2) & 0x8000, "it reads as zero").toBe(0);
    expect(engine.get(ENGINE.PATTERN)).toBe(0);
    expect(engine.write(GPA, Uint8Array.of(1)), "bus mastering is restored").toBe(true);
    engine.raise(2);
    expect(hits).toEqual([2]);
    engine.set(ENGINE.PATTERN, 77);
    a.device.reset();
    expect(engine.get(ENGINE.PATTERN)).toBe(0);
    engine.raise(0);
    expect(hits).toEqual([2, 0]);
  });

  test("a reset leaves ATS on where the function's table has it", () => {
    host.close();
    host = makeHost({ idr0: 0x0d44_141b }, { ats: true });
    iommufd = host.openIommufd();
    ioas = iommufd.ioasAlloc();
    map(iommufd, ioas, host.allocateMemory("ram", 0x40_0000), GPA);
    const a = bind(host, iommufd, A);
    a.device.reset();
    expect(host.hardware.functions.get(A)!.atsEnabled).toBe(false);
    a.device.attach(ioas);
    a.device.reset();
    expect(host.hardware.functions.get(A)!.atsEnabled).toBe(true);
    expect(new Engine(a.device).write(GPA, Uint8Array.of(1), { ats: true })).toBe(true);
  });

  test("closing resets the function: the next one to open it finds nothing of the last", () => {
    const a = bind(host, iommufd, A);
    new Engine(a.device).set(ENGINE.PATTERN, 77);
    a.device.close();
    expect(new Engine(bind(host, iommufd, A).device).get(ENGINE.PATTERN)).toBe(0);
  });
});

describe("regions", () => {
  test("are read and written within their size, while the process has memory decoding on", () => {
    const { device } = bind(host, iommufd, A);
    const engine = new Engine(device);
    expect(engine.get(ENGINE.ID)).toBe(ENGINE_ID);
    expect(device.regionInfo(0).size).toBe(0x1_0000);
    expect(device.regionInfo(1).size).toBe(0);
    expect(errno(() => device.regionInfo(9))).toBe("EINVAL");
    expect(errno(() => device.regionRead(0, 0xffff, new Uint8Array(2)))).toBe("EINVAL");
    expect(errno(() => device.regionWrite(1, 0, new Uint8Array(1)))).toBe("EINVAL");
    expect(errno(() => device.regionRead(CONFIG, 4095, new Uint8Array(2)))).toBe("EINVAL");
    setConfig(device, 4, 2, 4);
    expect(errno(() => engine.get(ENGINE.ID))).toBe("EIO");
    expect(errno(() => engine.set(ENGINE.ID, 0))).toBe("EIO");
  });

  test("do not show the MSI-X table", () => {
    const { device } = bind(host, iommufd, A);
    const out = new Uint8Array(8);
    device.regionRead(0, 0x3ffc, out);
    expect([...out]).toEqual([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    device.regionWrite(0, 0x4000, Uint8Array.of(1, 2, 3, 4));
    device.regionRead(0, 0x4000, out);
    expect([...out]).toEqual(Array(8).fill(0xff));
  });
});

describe("interrupts", () => {
  test("are counted and refused by kind and number", () => {
    const { device } = bind(host, iommufd, A);
    expect([VfioIrq.INTX, VfioIrq.MSI, VfioIrq.MSIX, VfioIrq.ERR, VfioIrq.REQ].map((index) => device.irqInfo(index).count)).toEqual([0, 0, 8, 1, 1]);
    expect(errno(() => device.irqInfo(5))).toBe("EINVAL");
    expect(errno(() => device.setIrqs(VfioIrq.MSIX, 7, [null, null]))).toBe("EINVAL");
    expect(errno(() => device.setIrqs(VfioIrq.MSIX, 8, [null]))).toBe("EINVAL");
    expect(errno(() => device.setIrqs(VfioIrq.INTX, 0, [eventOf(() => {})]))).toBe("EINVAL");
    expect(errno(() => device.setIrqs(VfioIrq.ERR, 0, [eventOf(() => {})]))).toBe("ok");
    expect(errno(() => device.setIrqs(VfioIrq.MSIX, 0, [])), "disabling what is off").toBe("EINVAL");
  });

  test("reach the trigger of their vector through the kernel's page in the window, in both kinds of tables", () => {
    const a = bind(host, iommufd, A);
    const hits: number[] = [];
    const engine = new Engine(a.device);
    const { parent } = onParent(a);
    a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => hits.push(0)), eventOf(() => hits.push(1))]);
    const memory = host.hardware.memory.livePageBytes;
    engine.raise(1);
    engine.raise(0);
    engine.raise(2);
    expect(hits).toEqual([1, 0]);
    // The page follows the function into every table that it is attached to.
    a.device.attach(ioas);
    engine.raise(0);
    a.device.attach(parent);
    engine.raise(1);
    expect(hits).toEqual([1, 0, 0, 1]);
    a.device.setIrqs(VfioIrq.MSIX, 1, [null]);
    engine.raise(1);
    expect(hits, "masked").toEqual([1, 0, 0, 1]);
    a.device.setIrqs(VfioIrq.MSIX, 1, [eventOf(() => hits.push(11))]);
    expect(hits, "what was pending comes").toEqual([1, 0, 0, 1, 11]);
    a.device.setIrqs(VfioIrq.MSIX, 0, []);
    engine.raise(0);
    expect(hits.length).toBe(5);
    a.device.detach();
    expect(host.hardware.memory.livePageBytes).toBeLessThanOrEqual(memory);
  });

  test("of a nested function need the guest's own mapping of the window, and fault without it", () => {
    const a = bind(host, iommufd, A);
    const { viommu } = onParent(a);
    const tables = new GuestTables(ram, GPA, 0x20_0000);
    putWords(ram, 0x10_0000, tables.context(1));
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    const { stream } = iommufd.veventqAlloc({ viommuId: viommu, type: 1, depth: 4 });
    a.device.attach(nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + 0x10_0000 }));
    let hits = 0;
    a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => hits++)]);
    const engine = new Engine(a.device);
    engine.raise(0);
    expect(hits).toBe(0);
    const record = stream.read(40)!;
    const at = new DataView(record.buffer).getUint32(24, true);
    expect(at, "in the reserved window, at GITS_TRANSLATER's offset in its page").toBe(0x800_0000 + (host.hardware.msiDoorbell % 4096));
    tables.map(0x800_0000, 0x800_0000);
    engine.raise(0);
    expect(hits).toBe(1);
  });

  test("of one function do not come from another, nor from DMA that is not to the doorbell's register", () => {
    const a = bind(host, iommufd, A);
    const b = bind(host, iommufd, B);
    a.device.attach(ioas);
    b.device.attach(ioas);
    const hits: string[] = [];
    a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => hits.push("a"))]);
    const address = 0x800_0000 + (host.hardware.msiDoorbell % 4096);
    // B has no vectors: its write has no device and event that would be A's.
    new Engine(b.device).write(address, Uint8Array.of(0, 0, 0, 0));
    expect(hits).toEqual([]);
    new Engine(a.device).write(address + 8, Uint8Array.of(0, 0, 0, 0));
    expect(hits).toEqual([]);
    new Engine(a.device).write(address, Uint8Array.of(0, 0, 0, 0));
    expect(hits).toEqual(["a"]);
    new Engine(a.device).write(address, Uint8Array.of(200, 0, 0, 0));
    expect(hits).toEqual(["a"]);
  });

  test("cannot be set up while the function is detached, where a table has to map the doorbell; what is set up stays", () => {
    const a = bind(host, iommufd, A);
    let hits = 0;
    expect(errno(() => a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => hits++)]))).toBe("ENOSPC");
    expect(errno(() => a.device.setIrqs(VfioIrq.MSIX, 0, [])), "none is on").toBe("EINVAL");
    a.device.attach(ioas);
    a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => hits++)]);
    a.device.detach();
    a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => (hits += 10))]);
    expect(errno(() => a.device.setIrqs(VfioIrq.MSIX, 1, [eventOf(() => {})]))).toBe("ENOSPC");
    a.device.attach(ioas);
    new Engine(a.device).raise(0);
    expect(hits).toBe(10);
  });

  test("of MSI-X cannot be added one by one where the kernel is 7.2 on Arm", () => {
    for (const [kernel, answer] of [["7.2", "EINVAL"], ["7.3", "ok"]] as const) {
      const other = makeHost({}, {}, kernel);
      const fd = other.openIommufd();
      const { device } = bind(other, fd, A);
      device.attach(fd.ioasAlloc());
      expect(device.irqInfo(VfioIrq.MSIX).noResize).toBe(kernel === "7.2");
      device.setIrqs(VfioIrq.MSIX, 0, [null]);
      expect(errno(() => device.setIrqs(VfioIrq.MSIX, 1, [null]))).toBe(answer);
      other.close();
    }
  });
});

test("functions are listed as sysfs has them", () => {
  expect(host.functions()[0]).toEqual({
    address: A,
    vendorId: 0x1b36,
    deviceId: 0x10,
    classCode: 0x010802,
    iommu: "smmu3.0x0000000009050000",
    numaNode: -1,
    driver: "vfio-pci",
  });
});
