import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createSimulatedHost, loadHostDescription } from "../../../src/host/simulated/index.js";
import { HwptAllocFlags, HwptDataType, type Iommufd } from "../../../src/iommufd/index.js";
import { bind, DATA, errno, GPA, GuestTables, nested, readText, writeText } from "./rig.js";

const ROM = 0xffff_0000;

/**
 * The diagram of the series "intel_iommu: enable first stage translation for passthrough device": read-only and
 * writable mappings with a coherent and a non-coherent second stage in one iommufd, writable ones alone for the
 * erratum in the same, and another iommufd.
 */
describe("three containers on the shipped server", () => {
  test("as few second stages as the kernel allows, each with what its functions may have", () => {
    const host = createSimulatedHost(loadHostDescription(readFileSync("hosts/two-socket-spr.json", "utf8"), "two-socket-spr.json"));
    const [iommufd0, iommufd1] = [host.openIommufd(), host.openIommufd()];
    const ram = host.allocateMemory("RAM", 0x400_0000);
    const rom = host.allocateMemory("ROM", 0x1_0000);
    ram.write(DATA, new TextEncoder().encode("data"));
    rom.write(0, new TextEncoder().encode("BIOS"));
    const container = (iommufd: Iommufd, readOnly: boolean): number => {
      const ioasId = iommufd.ioasAlloc();
      const map = (block: typeof ram, iova: number, writable: boolean): unknown =>
        iommufd.ioasMap({ ioasId, source: { address: block.hostAddress }, length: BigInt(block.size), iova: BigInt(iova), readable: true, writable });
      map(ram, GPA, true);
      if (readOnly) {
        map(rom, ROM, false);
      }
      return ioasId;
    };
    const parent = (iommufd: Iommufd, devId: number, ptId: number): number =>
      iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
    const [nic, gpu, unsnooped, erratum] = ["0000:97:00.0", "0000:98:00.0", "0000:e2:00.0", "0000:6a:01.0"].map((address) => bind(host, iommufd0, address));
    const other = bind(host, iommufd1, "0000:97:00.1");

    const all = container(iommufd0, true);
    const coherent = parent(iommufd0, nic.devId, all);
    nic.device.attach(coherent);
    gpu.device.attach(coherent);
    expect(errno(() => unsnooped.device.attach(coherent))).toBe("EINVAL");
    const plain = parent(iommufd0, unsnooped.devId, all);
    unsnooped.device.attach(plain);
    expect([errno(() => erratum.device.attach(coherent)), errno(() => erratum.device.attach(plain)), errno(() => parent(iommufd0, erratum.devId, all))]).toEqual(["EINVAL", "EINVAL", "EINVAL"]);
    const writable = container(iommufd0, false);
    const its = parent(iommufd0, erratum.devId, writable);
    erratum.device.attach(its);
    const others = parent(iommufd1, other.devId, container(iommufd1, true));
    other.device.attach(others);

    const tables = new GuestTables(ram);
    tables.map(0x1000, GPA + DATA);
    tables.map(0x2000, ROM);
    for (const [iommufd, bound, hwpt, hasRom] of [
      [iommufd0, nic, coherent, true],
      [iommufd0, gpu, coherent, true],
      [iommufd0, unsnooped, plain, true],
      [iommufd0, erratum, its, false],
      [iommufd1, other, others, true],
    ] as const) {
      bound.device.attach(nested(iommufd, bound.devId, hwpt, tables));
      expect([readText(bound, 0x1000, 4), readText(bound, 0x2000, 4), writeText(bound, 0x2000, "x")]).toEqual(["data", hasRom ? "BIOS" : null, false]);
    }
    const left = new Uint8Array(4);
    rom.read(0, left);
    expect(new TextDecoder().decode(left)).toBe("BIOS");
    expect(host.kernel.tableAccounts().length).toBe(4);
    host.close();
    expect(host.hardware.memory.livePages).toBe(0);
  });
});
