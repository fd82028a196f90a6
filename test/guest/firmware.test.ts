import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { describeFromAcpi, describeFromDeviceTree, parseDeviceTree, parseIort, readFirmware, streamOf, msiDeviceOf } from "../../src/guest/index.js";
import { machineOf } from "./end-to-end.js";

const data = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(`data/${name}`, import.meta.url)));

describe("a device tree that QEMU 11.1 wrote (virt, iommu=smmuv3)", () => {
  const description = describeFromDeviceTree(parseDeviceTree(data("virt-iommu-smmuv3.dtb")), []);

  it("gives RAM, SMMU, host bridge and ITS", () => {
    expect(description.ram).toEqual([{ base: 0x4000_0000, size: 128 * 2 ** 20 }]);
    expect(description.smmus).toEqual([
      { name: "smmuv3@9050000", base: 0x905_0000, coherent: true, interrupts: { eventq: 106, priq: 107, cmdqSync: 108, gerror: 109, combined: undefined } },
    ]);
    expect(description.hostBridges).toMatchObject([
      {
        segment: 0,
        ecamBase: 0x40_1000_0000,
        busStart: 0,
        busEnd: 255,
        windows: [
          { kind: "mem32", cpuBase: 0x1000_0000, pciBase: 0x1000_0000, size: 0x2eff_0000 },
          { kind: "mem64", cpuBase: 0x80_0000_0000, pciBase: 0x80_0000_0000, size: 0x80_0000_0000 },
        ],
        streamMaps: [{ ridBase: 0, length: 0x1_0000, outputBase: 0, smmu: 0 }],
        ats: false,
      },
    ]);
    expect(description.msi).toMatchObject({ kind: "its", doorbell: 0x809_0040 });
    expect(description.reservedWindows).toEqual([]);
  });

  it("is refused where it is cut off or something else", () => {
    const blob = data("virt-iommu-smmuv3.dtb");
    expect(() => parseDeviceTree(blob.subarray(0, 2000))).toThrow("ends within its structure block");
    expect(() => parseDeviceTree(blob.subarray(8))).toThrow("magic number");
  });
});

describe("an IORT that QEMU 11.1 wrote (two SMMUs, three root buses)", () => {
  const bytes = data("two-smmus.IORT.aml");
  const iort = parseIort(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));

  it("gives SMMUs with their GSIVs, stream maps by bus, and DeviceIDs on both ways to the ITS", () => {
    expect(iort.smmus.map((smmu) => [smmu.base, smmu.coherent, smmu.interrupts])).toEqual([
      [0xc00_0000, true, { eventq: 144, priq: 145, gerror: 147, cmdqSync: 146 }],
      [0xc02_0000, true, { eventq: 148, priq: 149, gerror: 151, cmdqSync: 150 }],
    ]);
    const [complex] = iort.rootComplexes;
    const bridge = { ...complex, name: "", ecamBase: 0, busStart: 0, busEnd: 255, windows: [] };
    expect(streamOf(bridge, 0x08)).toEqual({ smmu: 0, streamId: 8 });
    expect(streamOf(bridge, 0x10ff)).toEqual({ smmu: 1, streamId: 0x10ff });
    expect(streamOf(bridge, 0x1100)).toBeNull();
    for (const rid of [0x08, 0x10ff, 0x1100, 0x2000, 0xffff]) {
      expect(msiDeviceOf(bridge, rid)).toBe(rid);
    }
    expect(complex.ats).toBe(false);
  });

  it("is refused where a node does not fit or a reference leads nowhere", () => {
    const broken = (change: (view: DataView) => void): (() => unknown) => {
      const copy = bytes.slice();
      const view = new DataView(copy.buffer);
      change(view);
      return () => parseIort(view);
    };
    expect(broken((view) => view.setUint32(36, 9, true))).toThrow("node 4 of 9 begins beyond the table's end");
    expect(broken((view) => view.setUint32(0x98, 0x31, true))).toThrow("refers to 49, where no node is");
    expect(broken((view) => view.setUint32(0x50, 0x1000, true))).toThrow("does not hold what it claims");
  });
});

describe("the machine's own tables", () => {
  const line =
    "-M virt,accel=kvm,gic-version=3 -m 1G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=0x10,bus=pcie.0 " +
    "-device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 -device arm-smmuv3,primary-bus=pcie.0,id=smmu0";

  it("say the same through device tree and ACPI, the reserved window included", async () => {
    const { machine, end } = machineOf("grace", line);
    try {
      const port = machine.port();
      const dt = await readFirmware(port, "dt");
      const acpi = await readFirmware(port, "acpi");
      expect([dt.source, acpi.source]).toEqual(["dt", "acpi"]);
      const smmus = (description: typeof dt): unknown => description.smmus.map(({ base, coherent, interrupts }) => [base, coherent, interrupts.eventq, interrupts.gerror]).sort();
      expect(smmus(acpi)).toEqual(smmus(dt));
      expect(acpi.ram).toEqual(dt.ram);
      expect(acpi.msi).toEqual(dt.msi);
      for (const description of [dt, acpi]) {
        const [bridge] = description.hostBridges;
        expect(bridge.ecamBase).toBe(0x40_1000_0000);
        expect(bridge.ats).toBe(true);
        const base = (rid: number): number => description.smmus[streamOf(bridge, rid)!.smmu].base;
        expect(base(0x08)).not.toBe(base(0x1000));
        const accelerated = streamOf(bridge, 0x1000)!.smmu;
        expect(description.reservedWindows.filter((window) => window.iommu === accelerated && window.streams[0] <= 0x1000 && window.streams[1] >= 0x1000)).toMatchObject([
          { base: 0x800_0000, size: 0x10_0000, identity: true, device: true },
        ]);
      }
    } finally {
      expect(end()).toBe(0);
    }
  });

  it("have no RSDP with acpi=off, which is an error for who asks for ACPI", async () => {
    const { machine, end } = machineOf("board", "-M virt,acpi=off -nodefaults");
    await expect(readFirmware(machine.port(), "acpi")).rejects.toThrow("ACPI is asked for and the machine has no RSDP");
    expect((await readFirmware(machine.port(), "dt")).source).toBe("dt");
    end();
  });

  it("are refused with a wrong checksum", async () => {
    const { machine, end } = machineOf("board", "-M virt -nodefaults");
    const port = machine.port();
    const { acpiRoot } = await port.firmware();
    const read = async (address: number, length: number): Promise<Uint8Array> => {
      const bytes = await port.readMemory(address, length);
      if (length > 36) {
        bytes[20] ^= 1;
      }
      return bytes;
    };
    await expect(describeFromAcpi(read, acpiRoot!, null)).rejects.toThrow(/the bytes add up to 0x/);
    end();
  });
});
