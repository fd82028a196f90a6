/** What a host file may tell beside what is simulated, and what the kernel answers because of it. */
import { describe, expect, it } from "vitest";
import { HostError, HwInfoType, HwptAllocFlags, HwptDataType, ViommuType } from "../../../src/iommufd/index.js";
import { createSimulatedHost, describeHost, type HostDescriptionInput, loadHostDescription, type SimulatedHost } from "../../../src/host/simulated/index.js";
import { hostInput as smmuHost } from "./rig.js";
import { hostInput as vtdHost } from "../vtd/rig.js";

type FunctionInput = HostDescriptionInput["functions"][number];

const load = (host: object): ReturnType<typeof describeHost> => loadHostDescription(JSON.stringify(host), "my.json");

function complaint(host: object): string {
  try {
    load(host);
    return "accepted";
  } catch (error) {
    return (error as Error).message;
  }
}

/** The errno and the words of a call that a host refuses. */
function refused(call: () => unknown): [string, string] {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(HostError);
    return [(error as HostError).errno, (error as HostError).message];
  }
  return ["", "done"];
}

/** A host whose functions are changed one by one. */
function made(input: HostDescriptionInput, ...changes: Array<Partial<FunctionInput>>): SimulatedHost {
  return createSimulatedHost(describeHost({ ...input, functions: input.functions.map((fn, i) => ({ ...fn, ...changes[i] })) }));
}

function bindTo(host: SimulatedHost, address: string, iommufd = host.openIommufd()) {
  const device = host.openDevice(address);
  return { device, iommufd, devId: device.bind(iommufd.fd) };
}

/** Two units of a client's board and a function behind the second. */
const unit = (name: string, base: string, cap: string, ecap: string): object => ({ name, base, cap, ecap });
const client = (vtds: object[]): object => ({
  name: "client",
  memory: [{ numaNode: 0, base: "0x100000000", size: "16G" }],
  vtds,
  functions: [{ address: "0000:01:00.0", name: "GPU", vendor: "0x10de", device: "0x1c03", class: "0x030000", vtd: "dmar1", bars: [{ index: 0, size: "16M" }], msixVectors: 1 }],
});

describe("CAP and ECAP of a VT-d unit", () => {
  const LOGGED = [unit("dmar0", "0xfed90000", "0x1c0000c40660462", "19e2ff0505e"), unit("dmar1", "0xfed91000", "D2008C40660462", "f050da")];

  it("are what the keys that name their bits would say (Intel VT-d 11.4.2, 11.4.3)", () => {
    const { vtds } = load(client(LOGGED));
    // dmar0: C and SC are clear, DT is set; NEST, EAFS and PASID without SMTS count for nothing. dmar1: SC alone of those.
    const decoded = load(
      client([
        { name: "dmar0", base: "0xfed90000", sagaw: [48], mgaw: 39, coherentWalks: false, snoopControl: false, deviceTlb: true },
        { name: "dmar1", base: "0xfed91000", sagaw: [48], mgaw: 39, coherentWalks: false, snoopControl: true },
      ]),
    );
    expect(vtds).toEqual(
      decoded.vtds.map((one, i) => ({ ...one, cap: ["0x1c0000c40660462", "0xd2008c40660462"][i], ecap: ["0x19e2ff0505e", "0xf050da"][i] })),
    );
  });

  it("of a server of scalable mode have both stages, nesting and PASIDs", () => {
    // MGAW 57, SAGAW 48 and 57, FS1GP, FS5LP; NEST, SRS, PASIDs of 20 bits, SMTS, SSADS, SSTS, FSTS, SMPWCS.
    const [dmar] = load(client([unit("dmar1", "0xfbffc000", "19ed008c40780c66", "3ef9e86f050df")])).vtds;
    expect(dmar).toMatchObject({
      sagaw: [48, 57],
      mgaw: 57,
      secondStagePages: ["2M", "1G"],
      coherentWalks: true,
      snoopControl: true,
      deviceTlb: true,
      scalableMode: true,
      scalableCoherentWalks: true,
      secondStage: true,
      firstStage: true,
      firstStage1g: true,
      firstStage5Level: true,
      nesting: true,
      dirtyTracking: true,
      supervisor: true,
      pasidBits: 20,
    });
  });

  it("and keys that say something else are refused", () => {
    const with0 = (more: object): string => complaint(client([{ ...LOGGED[0], ...more }, LOGGED[1]]));
    expect(with0({ mgaw: 39, deviceTlb: true })).toBe("accepted");
    expect(with0({ mgaw: 48 })).toBe("my.json: vtds[0].mgaw: 48, and cap says 39\n  would work: cap alone");
    expect(with0({ snoopControl: true })).toBe("my.json: vtds[0].snoopControl: true, and ecap says false\n  would work: ecap alone");
    expect(with0({ ecap: "xyz" })).toContain('vtds[0].ecap: expected the digits of a 64-bit register, such as "0x1c0000c40660462"');
    expect(with0({ cap: 5 })).toContain("vtds[0].cap: ");
  });

  it("are what the simulated unit shows of it", () => {
    const host = createSimulatedHost(load(client(LOGGED)));
    const { cap, ecap } = host.hardware.vtds.get("dmar1")!;
    expect([(cap >> 8n) & 31n, (cap >> 16n) & 63n, ecap & 1n, (ecap >> 7n) & 1n]).toEqual([4n, 38n, 0n, 1n]);
    host.close();
  });
});

describe("groups", () => {
  const [A, B] = ["0000:01:00.0", "0000:02:00.0"];
  const one = { group: 7 };

  it("with a driver of the kernel's in them go to nobody", () => {
    const host = made(smmuHost(), one, { ...one, driver: "snd_hda_intel" });
    expect(refused(() => bindTo(host, A))).toEqual([
      "EPERM",
      expect.stringContaining(`group 7 is not viable: ${B} (snd_hda_intel) in it, and only all devices within the iommu_group bound to their vfio bus driver go to a process`),
    ]);
    host.close();
    for (const driver of ["", "pci-stub", "vfio-pci"]) {
      const fine = made(smmuHost(), one, { ...one, driver });
      bindTo(fine, A);
      fine.close();
    }
    const alone = made(smmuHost(), one, { group: 8, driver: "nvme" });
    bindTo(alone, A);
    alone.close();
  });

  it("go to one iommufd, and have one table", () => {
    const host = made(smmuHost(), one, one);
    const a = bindTo(host, A);
    expect(refused(() => bindTo(host, B))[1]).toContain(`group 7 is not viable: ${A} in it is another iommufd's`);
    const b = bindTo(host, B, a.iommufd);
    const [first, second] = [a.iommufd.ioasAlloc(), a.iommufd.ioasAlloc()];
    a.device.attach(first);
    expect(refused(() => b.device.attach(second))).toEqual(["EINVAL", expect.stringContaining(`${A} of the same IOMMU group is attached to another table`)]);
    b.device.attach(first);
    // In place of the first table goes the second, for both: the first is nobody's any more.
    a.device.attach(second);
    a.iommufd.destroy(first);
    expect(refused(() => a.iommufd.destroy(second))[0]).toBe("EBUSY");
    a.device.detach();
    b.device.detach();
    a.iommufd.destroy(second);
    host.close();
    expect(host.hardware.memory.livePages).toBe(0);
  });
});

describe("reserved ranges", () => {
  const A = "0000:01:00.0";
  const direct = { base: "0x3988e000", size: "0x24a000", type: "direct" as const };

  it.each([
    ["of an SMMU's function", smmuHost()],
    ["of a VT-d unit's", vtdHost()],
  ])("that the firmware wants one to one keep it from everybody: %s", (_what, input) => {
    const { address } = input.functions[0];
    const host = made(input, { reserved: [direct] });
    expect(refused(() => bindTo(host, address))).toEqual([
      "EINVAL",
      expect.stringContaining("Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor."),
    ]);
    host.close();
    const relaxable = made(input, { reserved: [{ ...direct, type: "direct-relaxable" }] });
    const { device, iommufd } = bindTo(relaxable, address);
    const ioas = iommufd.ioasAlloc();
    device.attach(ioas);
    expect(iommufd.ioasIovaRanges(ioas).ranges.some(({ start, last }) => start <= 0x3988_e000n && last >= 0x3988_e000n)).toBe(true);
    relaxable.close();
  });

  it("keep it from who has a function of the same group", () => {
    const host = made(smmuHost(), { group: 1 }, { group: 1, reserved: [direct] });
    expect(refused(() => bindTo(host, A))).toEqual(["EINVAL", expect.stringContaining("0000:02:00.0: Firmware has requested")]);
    host.close();
  });

  it("are taken from an IOAS while a function is attached", () => {
    const window = { base: "0x8000000", size: "1M", type: "msi" as const };
    const host = made(smmuHost(), { reserved: [window, { base: "0x10000000", size: "16M", type: "reserved" }] });
    const { device, iommufd } = bindTo(host, A);
    const ioas = iommufd.ioasAlloc();
    const holes = (): string[] => iommufd.ioasIovaRanges(ioas).ranges.map(({ start, last }) => `${start.toString(16)}-${last.toString(16)}`);
    expect(holes()).toEqual(["0-ffffffffffffffff"]);
    device.attach(ioas);
    expect(holes().slice(0, 2)).toEqual(["0-7ffffff", "8100000-fffffff"]);
    device.detach();
    expect(holes()).toEqual(["0-ffffffffffffffff"]);
    host.close();
  });
});

describe("a kernel", () => {
  const A = "0000:01:00.0";
  const host = (kernelConfig: Record<string, string> | null, kernel = "7.3"): SimulatedHost => createSimulatedHost(describeHost({ ...smmuHost(), kernelConfig, kernel }));

  it("without iommufd or character devices has neither", () => {
    expect(refused(() => host({ CONFIG_IOMMUFD: "n" }).openIommufd())).toEqual(["ENOENT", expect.stringContaining("CONFIG_IOMMUFD")]);
    expect(refused(() => host({ CONFIG_IOMMUFD: "n" }).openDevice(A))[0]).toBe("ENODEV");
    expect(refused(() => host({ CONFIG_IOMMUFD: "m", CONFIG_VFIO_DEVICE_CDEV: "n" }).openDevice(A))).toEqual(["ENODEV", expect.stringContaining("CONFIG_VFIO_DEVICE_CDEV")]);
  });

  it("without the SMMUv3's part of iommufd tells no registers and makes no vIOMMU", () => {
    const answer = (config: Record<string, string> | null): unknown[] => {
      const made = host(config);
      const { iommufd, devId } = bindTo(made, A);
      const { type, dataLength } = iommufd.getHwInfo(devId);
      const ioasId = iommufd.ioasAlloc();
      const hwptId = iommufd.hwptAlloc({ devId, ptId: ioasId, flags: HwptAllocFlags.NEST_PARENT, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
      const viommu = refused(() => iommufd.viommuAlloc({ devId, hwptId, type: ViommuType.ARM_SMMUV3 }));
      made.close();
      return [type, dataLength > 0, viommu[0]];
    };
    expect(answer({ CONFIG_ARM_SMMU_V3_IOMMUFD: "n" })).toEqual([HwInfoType.NONE, false, "EOPNOTSUPP"]);
    expect(answer({ CONFIG_ARM_SMMU_V3_IOMMUFD: "y" })).toEqual([HwInfoType.ARM_SMMUV3, true, ""]);
    expect(answer(null)).toEqual([HwInfoType.ARM_SMMUV3, true, ""]);
  });

  it("answers by its version", () => {
    // From 7.3 on a bitmap of no length is EINVAL before the table is looked at.
    const answer = (version: string): string => {
      const made = host(null, version);
      const { iommufd, devId } = bindTo(made, A);
      const hwptId = iommufd.hwptAlloc({ devId, ptId: iommufd.ioasAlloc(), flags: 0, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
      const [errno] = refused(() => iommufd.hwptGetDirtyBitmap({ hwptId, iova: 0n, length: 0n, pageSize: 4096n, flags: 0, bitmap: new Uint8Array(8) }));
      made.close();
      return errno;
    };
    expect(["6.12.48+deb13-arm64", "7.2", "7.3", "7.10.1", "8.0-rc1"].map(answer)).toEqual(["EOPNOTSUPP", "EOPNOTSUPP", "EINVAL", "EINVAL", "EINVAL"]);
    expect(complaint({ ...smmuHost(), kernel: "new" })).toContain("kernel: expected a version of Linux");
  });
});

describe("what is not known or not simulated", () => {
  it("is not there where it is simulated", () => {
    const host = made(smmuHost(), { ats: null, pri: null, pasidBits: null, msixVectors: null, msiVectors: null });
    const { device, iommufd, devId } = bindTo(host, "0000:01:00.0");
    expect(iommufd.getHwInfo(devId).maxPasidLog2).toBe(0);
    expect(device.irqInfo(2).count).toBe(0);
    host.close();
  });

  it("of an SMMU's registers lets nobody have a function behind it", () => {
    const input = smmuHost();
    const unknown = describeHost({ ...input, smmus: [{ ...input.smmus[0], idr1: null, idr5: null }] });
    const host = createSimulatedHost(unknown);
    expect(host.functions()[0].iommu).toBe("smmu3.0x0000000009050000");
    expect(refused(() => bindTo(host, "0000:01:00.0"))).toEqual(["EOPNOTSUPP", expect.stringContaining("behind smmu3.0x0000000009050000, whose ID registers are not known: it is not simulated")]);
    host.close();
  });

  it("are AMD units: a function behind one is bound to no iommufd", () => {
    const input = {
      name: "epyc",
      memory: [{ numaNode: 0, size: "16G" }, { numaNode: 1, size: "16G" }],
      amds: [{ name: "ivhd0", cap: "40190b0f", features: "246577efa2254afa:10" }],
      functions: [{ address: "0000:41:00.0", name: "NIC", vendor: "0x15b3", device: "0x1021", class: "0x020000", amd: "ivhd0", bars: [{ index: 0, size: "32M" }] }],
    };
    const description = load(input);
    expect(description.memory.map(({ base }) => base)).toEqual([2 ** 32, 2 ** 32 + 2 ** 34]);
    expect(description.msiDoorbell).toBe(0xfee0_0000);
    const host = createSimulatedHost(description);
    expect(host.functions().map(({ iommu }) => iommu)).toEqual(["ivhd0"]);
    expect(refused(() => bindTo(host, "0000:41:00.0"))).toEqual(["EOPNOTSUPP", expect.stringContaining("behind ivhd0: AMD units of a host are described, and not simulated")]);
    host.close();
    expect(complaint({ ...input, functions: [{ ...input.functions[0], amd: "ivhd1" }] })).toContain("functions[0].amd: unknown AMD unit 'ivhd1'\n  would work: one of ivhd0, or null");
    expect(complaint({ ...input, smmus: smmuHost().smmus, msiDoorbell: undefined })).toContain("amds: the host has SMMUs too");
    expect(complaint({ ...input, msiDoorbell: "0x08090040" })).toContain("msiDoorbell: a host of this architecture takes interrupts at 0xfee00000");
  });

  it("are registers of inert functions, of any size", () => {
    const bars = [{ index: 1, size: 256, is64: false }, { index: 2, size: "16K" }];
    const host = made(smmuHost(), { model: "inert", bars, msixVectors: 33 });
    const { device } = bindTo(host, "0000:01:00.0");
    expect([0, 1, 2].map((index) => device.regionInfo(index).size)).toEqual([0, 256, 16384]);
    expect(device.irqInfo(2).count).toBe(0);
    host.close();
  });

  it("are ways to be reset", () => {
    const reset = (methods: string[] | null): [boolean, string] => {
      const host = made(smmuHost(), { reset: methods });
      const { device } = bindTo(host, "0000:01:00.0");
      const answer: [boolean, string] = [device.info().canReset, refused(() => device.reset())[0]];
      host.close();
      return answer;
    };
    expect([reset(null), reset(["flr", "bus"]), reset(["bus"]), reset([])]).toEqual([[true, ""], [true, ""], [true, ""], [false, "EINVAL"]]);
  });
});

describe("facts of a host", () => {
  it("are taken as they are, and unknown where they are left out", () => {
    const facts = {
      architecture: "aarch64",
      addressBits: 48,
      kvm: true,
      numa: { nodes: [{ id: 0, cpus: "0-71", memory: "480G" }, { id: 4, cpus: "", memory: 0 }], distances: [[10, 80], [80, 10]] },
      hugepages: [{ size: "1G", total: 16, free: 12, node: 0 }],
      limits: { memlock: "unlimited" },
      ports: [{ address: "0000:00:00.0", vendor: "0x10de", device: "0x22b1", acs: true, group: 0 }],
    };
    const host = load({ ...smmuHost(), ...facts });
    expect(host.numa?.nodes[1]).toEqual({ id: 4, cpus: "", memory: 0 });
    expect(host.ports).toEqual([{ address: "0000:00:00.0", name: "", vendor: 0x10de, device: 0x22b1, parent: null, acs: true, group: 0, numaNode: -1 }]);
    expect(load(host)).toEqual(host);
    const bare = load(smmuHost());
    expect([bare.architecture, bare.kvm, bare.numa, bare.ports, bare.kernelConfig, bare.limits, bare.hugepages, bare.functions[0].group, bare.functions[0].reserved]).toEqual(Array(9).fill(null));
  });

  it.each<[string, object, string]>([
    ["distances of another shape", { numa: { nodes: [{ id: 0 }], distances: [[10, 20]] } }, "numa.distances: not a row and a column for each of numa.nodes\n  would work: 1 rows of 1"],
    ["a node twice", { numa: { nodes: [{ id: 0 }, { id: 0 }] } }, "numa.nodes[1].id: the same as numa.nodes[0].id"],
    ["a port twice", { ports: [{ address: "0000:00:00.0" }, { address: "0000:00:00.0" }] }, "ports[1].address: the same as ports[0].address"],
    ["an option that is none", { kernelConfig: { IOMMUFD: "y" } }, "kernelConfig"],
  ])("are refused: %s", (_what, more, message) => {
    expect(complaint({ ...smmuHost(), ...more })).toContain(message);
  });
});
