import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { LinuxHost } from "../../../src/host/linux/index.js";
import { createSimulatedHost, loadHostDescription, type SimulatedHost } from "../../../src/host/simulated/index.js";
import { HostError, HwptAllocFlags, HwptDataType } from "../../../src/iommufd/index.js";
import { runMachine } from "../../../src/run/index.js";
import { packageFolder } from "../../../src/support/index.js";
import { memoryOf, SimulatedPort, sysfsOf } from "./simulated-port.js";

const closing: Array<() => void> = [];
afterEach(() => closing.splice(0).forEach((close) => close()));

function linuxOn(name: string): { simulated: SimulatedHost; host: LinuxHost; port: SimulatedPort } {
  const simulated = createSimulatedHost(loadHostDescription(readFileSync(`${packageFolder()}/hosts/${name}.json`, "utf8"), name));
  const { places, characterDevices, remove } = sysfsOf(simulated);
  const port = new SimulatedPort(simulated, characterDevices);
  const host = new LinuxHost({ port, places, makeMemory: memoryOf(simulated) });
  closing.push(() => (host.close(), simulated.close(), remove()));
  return { simulated, host, port };
}

const words = (text: string): string[] => text.trim().split(/\s+/);

describe.skipIf(process.platform !== "linux")("the Linux host", () => {
  it("tells of functions what sysfs does", () => {
    const { simulated, host } = linuxOn("grace");
    const expected = simulated.functions().map((fn) => ({ ...fn, driver: "vfio-pci" }));
    expect(host.functions()).toEqual(expected.sort((a, b) => (a.address < b.address ? -1 : 1)));
  });

  for (const [name, machine] of [
    ["grace", "-machine virt,gic-version=3 -m 512M -object iommufd,id=i -device pxb-pcie,id=pcie.1,bus_nr=8 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0009:02:00.0,id=nic0,bus=rp1,iommufd=i"],
    ["two-socket-spr", "-machine q35 -m 512M -object iommufd,id=i -device intel-iommu,x-scalable-mode=on,x-flts=on -device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=HOST,id=nic0,bus=rp1,iommufd=i"],
  ] as const) {
    it(`runs a machine and its guest by ioctls as by the interface (${name})`, async () => {
      const { simulated, host, port } = linuxOn(name);
      const address = simulated.functions()[0].address;
      const { findGuest } = await import("../../../src/run/index.js");
      const description = loadHostDescription(readFileSync(`${packageFolder()}/hosts/${name}.json`, "utf8"), name);
      const request = { arguments: words(machine.replace("HOST", address)), host: description, guest: await findGuest("linux") };
      const plain = await runMachine(request);
      const byIoctls = await runMachine({ ...request, wrapHost: () => host });
      expect(plain.failure).toBe(null);
      expect(byIoctls.failure).toBe(null);
      // Linux tells nobody of VT-d's faults (iommufd.h has no queue for them): what a guest sees of them differs.
      const steps = ({ guest }: typeof plain): unknown => guest?.steps.map(({ detail, ...rest }) => (name === "grace" ? { detail, ...rest } : rest));
      expect(steps(byIoctls)).toEqual(steps(plain));
      expect(port.openFiles).toBe(0);
      expect(simulated.liveObjects()).toEqual([]);
    });
  }

  it("maps memory by its file where the kernel can, and by its address where it cannot", () => {
    const { simulated, port } = linuxOn("grace");
    const calls: string[] = [];
    const ioctl = port.ioctl.bind(port);
    port.ioctl = (fd, name, request, argument) => {
      calls.push(name);
      return ioctl(fd, name, request, argument);
    };
    port.missing.add("IOAS_MAP_FILE");
    const make = memoryOf(simulated);
    const { places, characterDevices, remove } = sysfsOf(simulated);
    closing.push(remove);
    expect(characterDevices.size).toBeGreaterThan(0);
    const host = new LinuxHost({ port, places, makeMemory: (name, bytes) => ({ ...make(name, bytes), fd: 77 }) });
    const block = host.allocateMemory("ram", 2 ** 20);
    const iommufd = host.openIommufd();
    const ioasId = iommufd.ioasAlloc();
    for (const iova of [0n, 0x10_0000n]) {
      iommufd.ioasMap({ ioasId, source: { address: block.hostAddress }, length: 2n ** 20n, iova, readable: true, writable: true });
    }
    expect(calls).toEqual(["IOAS_ALLOC", "IOAS_MAP_FILE", "IOAS_MAP", "IOAS_MAP"]);
    iommufd.close();
    host.close();
  });

  it("makes ioctls by number and bytes, with what they point to", () => {
    const { host } = linuxOn("grace");
    const { fd } = host.openIommufd();
    const made = new Uint32Array([12, 0, 0]);
    host.rawIoctl.ioctl(fd, 0x3b81, new Uint8Array(made.buffer));
    expect(made[2]).toBe(1);
    const ranges = new BigUint64Array(2);
    const request = new Uint32Array([32, made[2], 1, 0, 0, 0, 0, 0]);
    host.rawIoctl.ioctl(fd, 0x3b84, new Uint8Array(request.buffer), [{ at: 16, to: new Uint8Array(ranges.buffer) }]);
    expect([...ranges]).toEqual([0n, 2n ** 64n - 1n]);
    expect(() => host.rawIoctl.ioctl(fd, 0x3bbf, new Uint8Array(new Uint32Array([4]).buffer))).toThrow(new HostError("ioctl", "ENOTTY", "0x3bbf"));
    host.close();
  });

  it("gives registers of a function as a dma-buf, which an iommufd maps, and closes it once", () => {
    const { host, port } = linuxOn("grace");
    const iommufd = host.openIommufd();
    const device = host.openDevice("0009:01:00.0");
    device.bind(iommufd.fd);
    device.regionWrite(7, 4, Uint8Array.of(2, 0));
    const before = port.openFiles;
    const file = device.regionFile(0, { offset: 0x1000, size: 0x2000 });
    const map = (offset: number): bigint => iommufd.ioasMap({ ioasId, source: { fd: file.fd, offset }, length: 0x1000n, iova: 0x10_0000n, readable: true, writable: true });
    const ioasId = iommufd.ioasAlloc();
    expect(map(0x1000)).toBe(0x10_0000n);
    expect(() => map(0x2000)).toThrow("EINVAL");
    expect(() => device.regionFile(0, { offset: 0x800, size: 0x1000 })).toThrow("VFIO_FEATURE: EINVAL (0009:01:00.0, a dma-buf of region 0 at 0x800)");
    file.close();
    file.close();
    expect(port.openFiles).toBe(before);
    device.close();
    iommufd.close();
  });

  it("answers with the kernel's errno and with what it was about, and not at all once closed", () => {
    const { host } = linuxOn("grace");
    const iommufd = host.openIommufd();
    const refused = (call: () => unknown): string => {
      try {
        call();
        return "ok";
      } catch (error) {
        return error instanceof HostError ? error.message : String(error);
      }
    };
    const device = host.openDevice("0009:01:00.0");
    const devId = device.bind(iommufd.fd);
    expect(refused(() => iommufd.destroy(99))).toBe("DESTROY: ENOENT (id 99)");
    expect(refused(() => iommufd.ioasAlloc(1))).toBe("IOAS_ALLOC: EOPNOTSUPP");
    expect(refused(() => iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId: 99, dataType: HwptDataType.NONE, data: new Uint8Array(0) }))).toBe(`HWPT_ALLOC: EINVAL (device ${devId}, of 99)`);
    expect(refused(() => device.regionRead(7, 4095, new Uint8Array(2)))).toBe("read: EINVAL (0009:01:00.0, 2 bytes at 0xfff of region 7, which has 0x1000)");
    expect(refused(() => host.openDevice("0000:99:00.0"))).toBe("open /dev/vfio: ENODEV (0000:99:00.0 has no VFIO character device: there is no such function)");
    expect(refused(() => host.openIommufd({ fd: 987654 }))).toMatch(/^open \/dev\/iommu: EBADF \(descriptor 987654 is no iommufd: /);
    expect(host.openIommufd({ fd: iommufd.fd }).ioasAlloc()).toBeGreaterThan(0);
    device.close();
    device.close();
    expect(refused(() => device.info())).toBe("VFIO_GET_INFO: EBADF (0009:01:00.0 is closed)");
    iommufd.close();
    expect(refused(() => iommufd.ioasAlloc())).toBe("IOAS_ALLOC: EBADF (the iommufd is closed)");
  });
});
