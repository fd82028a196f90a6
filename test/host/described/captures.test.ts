/** What is told of hosts of different kinds by their sysfs. */
import { describe, expect, it } from "vitest";
import { describeSnapshot } from "../../../src/host/described/index.js";
import { formatHost, hostFileText } from "../../../src/host/formats/index.js";
import { createSimulatedHost, type HostDescription, loadHostDescription } from "../../../src/host/simulated/index.js";
import { NOTES, notesOf, pack, Snapshot, unpack } from "../../../src/host/sysfs/index.js";
import { CAPTURES, type CaptureName, captures, HostMaker, SECRET } from "../captures/index.js";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const described = (name: CaptureName): HostDescription => describeSnapshot(captures[name]()).description;
const fn = (host: HostDescription, address: string): HostDescription["functions"][number] => host.functions.find((one) => one.address === address)!;

describe.each(CAPTURES)("a capture: %s", (name) => {
  it("is a host file that is taken, with all that was read", () => {
    const { description } = describeSnapshot(captures[name]());
    expect(loadHostDescription(hostFileText(description), "host.json")).toEqual(description);
  });

  it("comes out of its archive as it went in, without what is nobody's business", async () => {
    const folder = mkdtempSync(join(tmpdir(), "capture-"));
    try {
      const packed = await pack(captures[name]());
      expect(Buffer.from(packed).equals(Buffer.from(await pack(captures[name]())))).toBe(true);
      writeFileSync(join(folder, "host.tar.zst"), packed);
      expect(describeSnapshot(await unpack(join(folder, "host.tar.zst")))).toEqual(describeSnapshot(captures[name]()));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("is told for people with each of its functions once", () => {
    const text = formatHost(describeSnapshot(captures[name]()));
    for (const one of described(name).functions.filter(({ class: code }) => code >>> 16 !== 6 && code >>> 8 !== 0x0806)) {
      expect(text.split(`  ${one.address}  ${one.name}`).length, one.address).toBe(2);
    }
    expect(text).not.toContain(SECRET.slice(0, 6));
  });
});

describe("a Grace", () => {
  const host = described("grace");

  it("has its SMMUs by node, those whose functions VFIO has with their registers", () => {
    expect(host.smmus.map(({ name, base, numaNode, idr0, idr1, idr5 }) => [name, base, numaNode, idr0, idr1, idr5])).toEqual([
      ["smmu3.0x0000000005000000", 0x500_0000, 0, null, null, null],
      ["smmu3.0x0000000011600000", 0x1160_0000, 0, 0x0d4c_749b, 0x0273_0518, 0x75],
      ["smmu3.0x0000000012000000", 0x1200_0000, 0, null, null, null],
      ["smmu3.0x0000100005000000", 0x1000_0500_0000, 1, null, null, null],
      ["smmu3.0x0000100011600000", 0x1000_1160_0000, 1, 0x0d4c_749b, 0x0273_0518, 0x75],
      ["smmu3.0x0000100012000000", 0x1000_1200_0000, 1, null, null, null],
    ]);
    expect(host.memory).toEqual([
      { numaNode: 0, base: 2 ** 31, size: 240 * 2 ** 30 },
      { numaNode: 1, base: 2 ** 44 + 2 ** 31, size: 240 * 2 ** 30 },
    ]);
    expect([host.architecture, host.kernel, host.kvm, host.limits, host.numa?.nodes.length, host.numa?.distances?.[0][2]]).toEqual(["aarch64", "7.3.4-64k", true, { memlock: "unlimited" }, 18, 80]);
    expect(host.hugepages).toEqual([
      { node: 0, size: 2 ** 29, total: 128, free: 128 },
      { node: 1, size: 2 ** 29, total: 128, free: 0 },
    ]);
  });

  it("has functions with all that their configuration space says", () => {
    expect(fn(host, "0009:01:00.0")).toEqual({
      address: "0009:01:00.0",
      name: "NVIDIA 3D controller 10de:2342",
      vendor: 0x10de,
      device: 0x2342,
      class: 0x030200,
      revision: 0xa1,
      smmu: "smmu3.0x0000000011600000",
      numaNode: 0,
      ats: true,
      pri: false,
      pasidBits: 20,
      bars: [
        { index: 0, size: 2 ** 24, is64: true, prefetchable: false },
        { index: 2, size: 2 ** 37, is64: true, prefetchable: true },
        { index: 4, size: 2 ** 25, is64: true, prefetchable: true },
      ],
      noSoftReset: true,
      msiVectors: 1,
      msixVectors: 9,
      model: "engine",
      blockSize: 512,
      driver: "nvgrace-gpu-vfio-pci",
      group: 1,
      reserved: [{ base: 0x800_0000, size: 0x10_0000, type: "msi" }],
      rootPort: "0009:00:00.0",
      upstream: ["0009:00:00.0"],
      reset: ["bus"],
    });
    // An NVMe's registers have no room for an engine.
    expect([fn(host, "0000:01:00.0").model, fn(host, "0000:01:00.0").bars]).toEqual(["inert", [{ index: 0, size: 32768, is64: true, prefetchable: false }]]);
    expect(host.ports?.[0]).toEqual({ address: "0000:00:00.0", name: "NVIDIA PCI bridge 10de:22b8", vendor: 0x10de, device: 0x22b8, parent: null, acs: true, group: 4, numaNode: 0 });
  });

  it("can be run on with the functions behind SMMUs that are known", () => {
    const simulated = createSimulatedHost({ ...host, functions: host.functions.map((one) => ({ ...one, driver: one.driver.includes("vfio") ? one.driver : "vfio-pci" })) });
    const { fd } = simulated.openIommufd();
    expect(simulated.openDevice("0009:01:00.0").bind(fd)).toBeGreaterThan(0);
    expect(() => simulated.openDevice("0002:01:00.0").bind(fd)).toThrow("whose ID registers are not known");
    simulated.close();
  });
});

describe("what others have", () => {
  it("a user's Ampere tells nothing beyond 64 bytes, but for what the IOMMU says of a function", () => {
    const host = described("ampere");
    expect(host.functions.map(({ address, ats, pri, pasidBits, msixVectors, msiVectors }) => [address, ats, pri, pasidBits, msixVectors, msiVectors])).toEqual([
      ["0000:01:00.0", null, null, 0, null, null],
      ["0000:01:00.1", null, null, null, null, null],
      ["0001:01:00.0", null, null, null, null, null],
      ["0001:01:00.1", null, null, null, null, null],
    ]);
    expect(host.ports?.map(({ acs }) => acs)).toEqual([null, null, null, null]);
    expect(describeSnapshot(captures.ampere()).remarks).toEqual([
      "the SMMUs' ID registers are told to who may open a function behind them that vfio-pci has: unknown here",
      "capabilities beyond the first 64 bytes of configuration space are root's to read: ATS, PRI, PASID, MSI-X and ACS are unknown here",
    ]);
  });

  it("a Xeon has units by their registers, RMRRs, virtual functions, and ports that keep nobody apart", () => {
    const { description: host, functions } = describeSnapshot(captures.xeon());
    expect(host.vtds.map(({ name, base, nesting, pasidBits, scalableMode }) => [name, base, nesting, pasidBits, scalableMode])).toEqual([
      ["dmar0", 0xc2ff_c000, true, 20, true],
      ["dmar1", 0xd57f_c000, true, 20, true],
      ["dmar2", 0xfbff_c000, false, 0, false],
      ["dmar3", 0x9c7f_c000, true, 20, true],
      ["dmar4", 0xaf3f_c000, true, 20, true],
      ["dmar5", 0xe7ff_c000, false, 0, false],
    ]);
    expect(fn(host, "0000:00:17.0")).toMatchObject({ reset: [], reserved: [{ base: 0x7863_c000, size: 0x4000, type: "direct" }, { base: 0xfee0_0000, size: 0x10_0000, type: "msi" }] });
    expect(functions.get("0000:38:00.1")).toEqual({ characterDevice: "vfio/devices/vfio1", driverOverride: null, physicalFunction: "0000:38:00.0", iommu: "dmar1" });
    expect(fn(host, "0000:18:00.0").upstream).toEqual(["0000:15:01.0", "0000:16:00.0", "0000:17:00.0"]);
    expect(host.ports?.filter(({ acs }) => acs === false).map(({ address }) => address)).toEqual(["0000:02:00.0", "0000:16:00.0", "0000:17:00.0", "0000:17:01.0", "0000:96:00.0", "0000:97:00.0", "0000:97:01.0"]);
    expect([host.addressBits, host.architecture, host.msiDoorbell]).toEqual([52, "x86_64", 0xfee0_0000]);
    createSimulatedHost(host).close();
  });

  it("an Epyc has AMD's units, a desktop its options", () => {
    const epyc = described("epyc");
    expect(epyc.amds[3]).toEqual({ name: "ivhd3", base: null, segment: 0, numaNode: 0, cap: "40190b0f", features: "246577efa2254afa:10" });
    expect(fn(epyc, "0000:c1:00.0").amd).toBe("ivhd3");
    createSimulatedHost(epyc).close();
    const desktop = described("desktop");
    expect([desktop.kernelConfig?.CONFIG_IOMMUFD, desktop.kernelConfig?.CONFIG_INTEL_IOMMU, desktop.kernelConfig?.CONFIG_VFIO]).toEqual(["n", "y", "m"]);
    expect(fn(desktop, "0000:01:00.0").bars.map(({ index }) => index)).toEqual([0, 1, 3]);
    expect(desktop.functions.filter(({ group }) => group === 8).length).toBe(3);
    createSimulatedHost(desktop).close();
  });

  it("an Altra's SMMU is one that the kernel does not nest", () => {
    expect(formatHost(describeSnapshot(captures.altra()))).toContain("smmu3.0x000033fffe000000  SMMUv3, node 0: does not nest: an erratum forbids it");
  });
});

describe("odd trees", () => {
  it("of nothing are a host of which nothing is known", () => {
    const host = describeSnapshot(new Snapshot());
    expect(host.description).toMatchObject({ functions: [], smmus: [], vtds: [], amds: [], architecture: null, kernelConfig: null, kvm: null, numa: null, limits: null, hugepages: null });
    expect(loadHostDescription(hostFileText(host.description), "x").name).toBe("unknown, Linux of an unknown version");
  });

  it("with files that say nothing sensible have what they say left out", () => {
    const odd = new Snapshot();
    const at = "sys/bus/pci/devices/0000:01:00.0";
    odd.file(`${at}/vendor`, "nonsense");
    odd.file(`${at}/class`, "0xffffffffff");
    odd.file(`${at}/resource`, "0x0 0xfff 0x200\n0x5 0x1 0x200\nxyz\n0x0 0x2fff 0x200\n0x0 0xffffffffffffffff 0x100200\n");
    odd.file(`${at}/config`, new Uint8Array(4096).fill(0xff));
    odd.file(`${at}/numa_node`, "1e99");
    odd.link(`${at}/iommu_group`, "../../../../kernel/iommu_groups/5");
    odd.link(`${at}/driver`, "/");
    odd.file("sys/kernel/iommu_groups/5/reserved_regions", "0x5 0x1 direct\n0x0 0xffffffffffffffff direct\nzzz\n0x1000 0x1fff odd\n0x1000 0x1fff direct\n");
    odd.link("sys/bus/pci/devices/0000:02:00.0", "../../../devices/loop");
    odd.link("sys/devices/loop", "../devices/loop");
    odd.folder("sys/bus/pci/devices/10000:00:06.0");
    odd.file("sys/class/iommu/dmar0/intel-iommu/cap", "0");
    odd.file("sys/class/iommu/dmar0/intel-iommu/ecap", "nothing");
    odd.folder("sys/class/iommu/smmu.0x2b400000");
    odd.file("sys/devices/system/node/node0/distance", "10 20");
    odd.file("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 1000 kB");
    odd.file("sys/devices/system/memory/block_size_bytes", "0");
    odd.file("proc/self/limits", "Max locked memory  many many bytes");
    odd.file("proc/sys/kernel/osrelease", "../../etc/passwd");
    odd.file(NOTES, '{"nodes": 5, "hwInfo": {"0000:01:00.0": {"data": "xyz"}}}');
    const { description, remarks } = describeSnapshot(odd);
    expect(description.functions[0]).toMatchObject({ vendor: 0xffff, numaNode: -1, group: 5, driver: "", bars: [{ index: 0, size: 4096 }], reserved: [{ base: 0x1000, size: 0x1000, type: "direct" }] });
    expect(description.numa?.distances).toBeNull();
    expect(description.limits).toEqual({ memlock: null });
    expect(remarks.some((remark) => remark.startsWith("10000:00:06.0: behind a VMD controller"))).toBe(true);
    expect(remarks.some((remark) => remark.startsWith("smmu.0x2b400000: IOMMUs of a kind"))).toBe(true);
    expect(loadHostDescription(hostFileText(description), "x").vtds.length).toBe(1);
  });

  it("with notes that are none have none", () => {
    for (const text of ["", "null", "[]", "{", '{"architecture": 5}']) {
      const snapshot = new Snapshot();
      snapshot.file(NOTES, text);
      expect(notesOf(snapshot)).toEqual({ architecture: null, nodes: {}, hwInfo: {} });
    }
  });

  it("of segments that share an SMMU put functions of the same requester id apart", () => {
    const host = new HostMaker("aarch64", "7.3.0", "");
    const smmu = host.smmu(0x1000_0000, 0, 0);
    for (const segment of ["0000", "0001"]) {
      host.fn(`pci${segment}:00/${segment}:01:00.0`, { vendor: 0x8086, device: 0x10d3, class: 0x020000, iommu: smmu, group: Number(segment) });
    }
    const { description } = describeSnapshot(host.made());
    expect(description.functions.map(({ streamId }) => streamId)).toEqual([undefined, 0x1_0100]);
    expect(loadHostDescription(hostFileText(description), "x").functions.length).toBe(2);
  });
});
