import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { QueueStream } from "../../../src/host/simulated/kernel/event-queue.js";
import { createSimulatedHost, describeHost, type SimulatedHost } from "../../../src/host/simulated/index.js";
import { VfioFeature, VfioFeatureFlags, VfioIrq, VfioRegion } from "../../../src/iommufd/index.js";
import type { RamBacking } from "../../../src/memory/index.js";
import { eventOf } from "../host-event.js";
import { A, bind, errno, hostDescription, makeHost } from "./rig.js";

let host: SimulatedHost;
beforeEach(() => {
  host = makeHost({}, { msiVectors: 4 });
});
afterEach(() => host.close());

describe("descriptors", () => {
  test("a given iommufd is the one that is open, and stays open when who was given it closes it", () => {
    const mine = host.openIommufd();
    const given = host.openIommufd({ fd: mine.fd });
    const ioas = given.ioasAlloc();
    given.close();
    expect(errno(() => mine.destroy(ioas))).toBe("ok");
    mine.close();
    expect(errno(() => host.openIommufd({ fd: mine.fd }))).toBe("EBADF");
    expect(errno(() => host.openIommufd({ fd: 12345 }))).toBe("EBADF");
  });

  test("a given device is the one that is open", () => {
    const device = host.openDevice(A);
    const given = host.openDevice({ fd: device.fd });
    expect([given.address, given.bind(host.openIommufd().fd)]).toEqual([A, 1]);
    given.close();
    expect(errno(() => host.openDevice({ fd: device.fd }))).toBe("EBADF");
    expect(errno(() => device.info())).toBe("EBADF");
  });

  test("a file that is none of the process's cannot be mapped", () => {
    const iommufd = host.openIommufd();
    const request = { ioasId: iommufd.ioasAlloc(), source: { fd: 77, offset: 0 }, length: 4096n, iova: 0n, readable: true, writable: true };
    expect(errno(() => iommufd.ioasMap(request))).toBe("EBADF");
  });
});

describe("events", () => {
  test("call their listener in a turn of their own, once for all that came, and keep what came before one", async () => {
    const event = host.makeEvent();
    let calls = 0;
    event.signal();
    event.onSignal(() => calls++);
    event.signal();
    expect(calls).toBe(0);
    await Promise.resolve();
    expect(calls).toBe(1);
    await Promise.resolve();
    expect(calls, "nothing new").toBe(1);
    event.onSignal(null);
    event.signal();
    await Promise.resolve();
    event.onSignal(() => (calls += 10));
    await Promise.resolve();
    expect(calls).toBe(11);
    event.signal();
    event.close();
    event.close();
    await Promise.resolve();
    expect(calls, "closed").toBe(11);
  });

  test("of a queue come again while its listener leaves something behind, and not where it reads nothing", () => {
    const tasks: Array<() => void> = [];
    let left = 3;
    const queue = {
      users: 0,
      get readable() {
        return left > 0;
      },
      read: () => (left-- > 0 ? new Uint8Array(1) : null),
    };
    const stream = new QueueStream(
      queue,
      (task) => tasks.push(task),
      () => {},
    );
    let calls = 0;
    const turn = (): void => tasks.splice(0).forEach((task) => task());
    stream.onReadable(() => void (calls++, stream.read(1)));
    expect([tasks.length, calls], "it was readable before").toEqual([1, 0]);
    for (let i = 0; i < 5; i++) {
      turn();
    }
    expect([calls, left, tasks.length]).toEqual([3, 0, 0]);
    left = 1;
    stream.onReadable(() => calls++);
    turn();
    expect([calls, tasks.length]).toEqual([4, 0]);
  });

  test("a fault queue reads nothing, takes whole responses, and knows no request", () => {
    host.close();
    const tasks: Array<() => void> = [];
    host = createSimulatedHost(describeHost(hostDescription()), { later: (task) => tasks.push(task) });
    const { stream } = host.openIommufd().faultQueueAlloc();
    stream.onReadable(() => {});
    expect(tasks, "nothing to read").toEqual([]);
    expect(stream.read(4080)).toBeNull();
    expect(errno(() => stream.read(4096)), "whole page requests alone").toBe("ESPIPE");
    expect(stream.write(new Uint8Array(0))).toBe(0);
    expect(errno(() => stream.write(new Uint8Array(8)))).toBe("EINVAL");
    expect(errno(() => stream.write(new Uint8Array(7)))).toBe("ESPIPE");
    stream.close();
    expect(errno(() => stream.write(new Uint8Array(8)))).toBe("EBADF");
  });
});

describe("what VFIO tells", () => {
  test("of the device, its regions and interrupts", () => {
    const { device } = bind(host, host.openIommufd(), A);
    expect(device.info()).toEqual({ canReset: true, regions: 9, irqs: 5 });
    expect(device.regionInfo(VfioRegion.BAR0)).toEqual({ size: 0x1_0000, readable: true, writable: true, areas: [] });
    expect(device.regionInfo(VfioRegion.ROM)).toEqual({ size: 0, readable: false, writable: false, areas: [] });
    expect(device.regionMap(VfioRegion.BAR0)).toBeNull();
    const flags = (index: number): unknown[] => Object.values(device.irqInfo(index));
    expect(flags(VfioIrq.INTX)).toEqual([true, true, true, false, 0]);
    expect(flags(VfioIrq.MSI)).toEqual([true, false, false, true, 4]);
    expect(flags(VfioIrq.MSIX)).toEqual([true, false, false, false, 8]);
  });

  test("masks are INTx's alone; features of power management and registers alone", () => {
    const { device } = bind(host, host.openIommufd(), A);
    expect(errno(() => device.maskIrqs(VfioIrq.MSIX, 0, 1))).toBe("ENOTTY");
    expect(errno(() => device.unmaskIrqs(VfioIrq.MSI, 0, 1))).toBe("ENOTTY");
    expect(errno(() => device.maskIrqs(VfioIrq.INTX, 0, 1))).toBe("EINVAL");
    expect(errno(() => device.setUnmaskEvent(VfioIrq.MSIX, null))).toBe("ENOTTY");
    const { GET, SET, PROBE } = VfioFeatureFlags;
    expect(errno(() => device.feature({ feature: VfioFeature.MIGRATION, flags: GET | PROBE }))).toBe("ENOTTY");
    expect(errno(() => device.feature({ feature: VfioFeature.DMA_BUF, flags: GET }))).toBe("EINVAL");
    expect(errno(() => device.feature({ feature: VfioFeature.DMA_BUF, flags: PROBE | GET }))).toBe("ok");
    expect(errno(() => device.feature({ feature: VfioFeature.LOW_POWER_EXIT, flags: SET }))).toBe("ok");
    expect(errno(() => device.feature({ feature: 0, flags: 0 })), "the feature is looked for first").toBe("ENOTTY");
    expect(errno(() => device.feature({ feature: 0, flags: GET | SET }))).toBe("EINVAL");
  });

  test("a hot reset reaches the functions of a bus, which are to be the process's; a root bus has none", () => {
    host.close();
    const input = hostDescription();
    input.functions[1].address = "0000:01:00.1";
    input.functions[2].address = "0000:00:04.0";
    host = createSimulatedHost(describeHost(input));
    const iommufd = host.openIommufd();
    const device = host.openDevice(A);
    expect(errno(() => device.hotResetInfo())).toBe("EINVAL");
    const devId = device.bind(iommufd.fd);
    expect(device.hotResetInfo()).toEqual([{ address: A, devId }, { address: "0000:01:00.1", devId: -1 }]);
    expect(errno(() => device.hotReset())).toBe("EINVAL");
    const other = host.openDevice("0000:01:00.1");
    const stranger = other.bind(host.openIommufd().fd);
    expect(stranger).toBe(1);
    expect(device.hotResetInfo()[1].devId).toBe(-1);
    other.close();
    const mine = bind(host, iommufd, "0000:01:00.1");
    expect(device.hotResetInfo()[1].devId).toBe(mine.devId);
    expect(errno(() => device.hotReset())).toBe("ok");
    const root = bind(host, iommufd, "0000:00:04.0");
    expect(errno(() => root.device.hotResetInfo())).toBe("ENODEV");
    expect(errno(() => root.device.hotReset())).toBe("ENODEV");
  });

  test("MSI's vectors are on together, and survive a reset", () => {
    const iommufd = host.openIommufd();
    const { device } = bind(host, iommufd, A);
    device.attach(iommufd.ioasAlloc());
    const hits: number[] = [];
    const events = [0, 1].map((vector) => eventOf(() => hits.push(vector)));
    device.setIrqs(VfioIrq.MSI, 0, events);
    expect(errno(() => device.setIrqs(VfioIrq.MSI, 2, [null]))).toBe("EINVAL");
    expect(errno(() => device.setIrqs(VfioIrq.MSIX, 0, [null]))).toBe("EINVAL");
    device.regionWrite(VfioRegion.CONFIG, 4, new Uint8Array([6, 0]));
    const fn = host.hardware.functions.get(A)!;
    [1, 0, 2].forEach((vector) => fn.raise(vector));
    expect(hits).toEqual([1, 0]);
    device.reset();
    fn.raise(1);
    expect(hits).toEqual([1, 0, 1]);
    device.setIrqs(VfioIrq.MSI, 0, []);
    fn.raise(1);
    expect(hits).toHaveLength(3);
  });
});

describe("vfio-pci's denylist", () => {
  test.each([0x0435, 0x0443, 0x0b25, 0x0cfe, 0x19e2, 0x19e3, 0x37c8, 0x37c9])("8086:%x has no character device, in the kernel's words", (device) => {
    host.close();
    host = makeHost({}, { vendor: 0x8086, device });
    const id = `8086:${device.toString(16).padStart(4, "0")}`;
    expect(() => host.openDevice(A)).toThrow(`open: ENODEV (${A}: ${id} exists in vfio-pci device denylist, driver probing disallowed)`);
    expect(host.functions()[0].driver).toBe("");
  });
});

describe("memory from outside", () => {
  test("is asked for by block before anything of it is used, and given back", () => {
    host.close();
    const told: string[] = [];
    const buffers = new Map<string, SharedArrayBuffer>();
    const makeMemory = (name: string, bytes: number): RamBacking => {
      told.push(`make ${name} ${bytes}`);
      return {
        window: (offset, length) => {
          told.push(`window ${name} ${offset} ${length}`);
          const buffer = new SharedArrayBuffer(length);
          buffers.set(name, buffer);
          return buffer;
        },
        fd: 7,
        address: 0x7f00_0000_0000n,
        release: () => told.push(`release ${name}`),
      };
    };
    host = createSimulatedHost(describeHost(hostDescription()), { makeMemory });
    const ram = host.allocateMemory("ram", 0x20_0000);
    expect([ram.backing.fd, ram.backing.address]).toEqual([7, 0x7f00_0000_0000n]);
    const rom = host.allocateMemory("pc.rom", 0x2_0000);
    rom.write(8, new Uint8Array([1, 2, 3]));
    expect([...new Uint8Array(buffers.get("pc.rom")!, 8, 3)]).toEqual([1, 2, 3]);
    new Uint32Array(buffers.get("ram")!)[1] = 0x55;
    expect(ram.wordWindow(4)[1]).toBe(0x55);
    host.freeMemory(ram);
    host.freeMemory(rom);
    expect(told).toEqual(["make ram 2097152", "window ram 0 2097152", "make pc.rom 131072", "window pc.rom 0 131072", "release ram", "release pc.rom"]);
  });
});
