/** What a plan is made of, and why: each choice by the host's facts. */
import { describe, expect, it } from "vitest";
import { loadHost } from "../../src/host/shipped/index.js";
import { describeHost, type HostDescription, type HostDescriptionInput } from "../../src/host/simulated/file/index.js";
import { functionsOf, HostFacts, type MachinePlan, PLAN_FORMATS, planMachine, type PlanRequest, portsOf, writePlan } from "../../src/plan/index.js";

const GIB = 2 ** 30;
const plan = (host: HostDescription, devices: readonly string[], more: Partial<PlanRequest> = {}): MachinePlan =>
  planMachine({ facts: new HostFacts(host), devices, memory: 4 * GIB, cpus: 4, ...more });
const planOf = async (host: string, devices: readonly string[], more: Partial<PlanRequest> = {}): Promise<MachinePlan> => plan(await loadHost(host), devices, more);
const refused = async (host: string, devices: readonly string[], more: Partial<PlanRequest> = {}): Promise<string> =>
  planOf(host, devices, more).then(
    () => "taken",
    (error: Error) => error.message,
  );

const smmu = (n: number, more: object = {}): object => ({ name: `smmu3.0x${n}`, base: 0x900_0000 + n * 0x2_0000, numaNode: n % 8, idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1414, idr5: 0x74, ...more });
const fn = (address: string, more: object = {}): object => ({ address, name: address, vendor: 0x8086, device: 0x10d3, class: 0x020000, smmu: "smmu3.0x0", bars: [{ index: 0, size: "64K" }], ...more });
const host = (smmus: object[], functions: object[], nodes = 1, more: object = {}): HostDescription =>
  describeHost({ name: "made", memory: Array.from({ length: nodes }, (_, n) => ({ numaNode: n, base: 0x80_0000_0000 * (n + 1), size: "64G" })), smmus, functions, ...more } as HostDescriptionInput);

describe("expander buses", () => {
  it("are one for each IOMMU and NUMA node of the host that has functions, whatever the order of the devices", async () => {
    const devices = ["0018:01:00.0", "0009:01:00.0", "0008:02:00.0", "0009:02:00.0"];
    const one = await planOf("grace", devices);
    expect(one.expanders.map(({ hostIommu, hostNode, cell, ports }) => [hostIommu, hostNode, cell, ports.flatMap(({ functions }) => functions.map((each) => each.host))])).toEqual([
      ["smmu3.0x0000000011600000", 0, 0, ["0008:02:00.0"]],
      ["smmu3.0x0000000016600000", 0, 0, ["0009:01:00.0", "0009:02:00.0"]],
      ["smmu3.0x0000100011600000", 1, 1, ["0018:01:00.0"]],
    ]);
    expect(await planOf("grace", [...devices].reverse())).toEqual(one);
  });

  it("have ranges of bus numbers of their own, with room for their ports", async () => {
    const { expanders } = await planOf("grace", ["0008:01:00.0", "0009:01:00.0", "0019:01:00.0"], { spare: 40 });
    expect(expanders.map(({ busNumber, lastBus, ports }) => [busNumber, lastBus, ports.length])).toEqual([
      [0x40, 0x7f, 41],
      [0x80, 0xbf, 41],
      [0xc0, 0xff, 41],
    ]);
    // More ports than slots: eight share one.
    expect(expanders[0].ports.slice(7, 10).map(({ slot, number }) => [slot, number])).toEqual([[0, 7], [1, 0], [1, 1]]);
    expect(await refused("grace", ["0008:01:00.0", "0009:01:00.0", "0019:01:00.0"], { spare: 100 })).toContain("too many PCI Express ports for 256 bus numbers\n  found: 3 expander buses and 303 ports want 306 numbers");
  });

  it("are no more than the platform bus has interrupts for", () => {
    const many = host(Array.from({ length: 17 }, (_, n) => smmu(n)), Array.from({ length: 17 }, (_, n) => fn(`0000:${(n + 1).toString(16).padStart(2, "0")}:00.0`, { smmu: `smmu3.0x${n}` })));
    expect(() => plan(many, many.functions.map(({ address }) => address))).toThrow("Platform Bus: Can not fit IRQ line\n  found: functions behind 17 IOMMUs");
  });
});

describe("an SMMU", () => {
  it("has what the host's has, said and not auto", async () => {
    const [grace] = (await planOf("grace", ["0009:01:00.0"])).expanders;
    expect(grace.smmu).toMatchObject({ ril: true, ats: true, oas: 48, ssidsize: 20 });
    expect(grace.smmu!.because.join()).toContain("ssidsize=20 for IDR1.SSIDSIZE=20");
    const [small] = (await planOf("arm-small", ["0000:01:00.0"])).expanders;
    expect(small.smmu).toMatchObject({ ril: false, ats: false, oas: 44, ssidsize: 0 });
  });

  it("is not planned on one that does not nest, but by a word", () => {
    const flat = host([smmu(0, { idr0: 0x0d44_101a })], [fn("0000:01:00.0")]);
    expect(() => plan(flat, ["0000:01:00.0"])).toThrow("the host's IOMMU does not nest a guest's tables\n  found: 0000:01:00.0: smmu3.0x0 does not nest: IDR0 has no S2P\n  would work: functions behind an IOMMU that nests, or --without-iommu");
    expect(plan(flat, ["0000:01:00.0"], { withoutIommu: true }).expanders[0].smmu).toBeNull();
  });

  it("is not planned while the host's ID registers are unknown", () => {
    const dark = host([smmu(0, { idr0: null, idr1: null, idr5: null })], [fn("0000:01:00.0")]);
    expect(() => plan(dark, ["0000:01:00.0"])).toThrow("found: 0000:01:00.0: smmu3.0x0 has ID registers that are not known\n  would work: a host file with idr0, idr1 and idr5");
  });

  it("is not planned for QEMU 10.2, whose arm-smmuv3 has no acceleration", async () => {
    expect(await refused("grace", ["0009:01:00.0"], { qemu: "10.2" })).toContain("Property 'arm-smmuv3.accel' not found");
  });
});

describe("the intel-iommu", () => {
  it("has a first stage where all units nest, with what the least of them has", async () => {
    const { vtd } = await planOf("two-socket-spr", ["0000:17:00.0", "0000:6a:01.0"]);
    expect(vtd).toMatchObject({ fsts: true, fs1gp: true, pasidBits: 20, awBits: 48, deviceIotlb: true, eim: false });
    expect((await planOf("two-socket-spr", ["0000:e2:00.0"])).vtd).toMatchObject({ fsts: true, pasidBits: 0, deviceIotlb: false });
  });

  it("has mirrors where one does not, or QEMU cannot, and says what they cost", async () => {
    const { vtd } = await planOf("desktop", ["0000:02:00.0"]);
    expect(vtd).toMatchObject({ fsts: false, pasidBits: 0, awBits: 39, deviceIotlb: false });
    expect(vtd!.because.join("\n")).toContain("each mapping and unmapping of the guest's is an exit and calls of the host");
    expect((await planOf("two-socket-spr", ["0000:17:00.0"], { qemu: "10.2" })).vtd).toMatchObject({ fsts: false, awBits: 48 });
  });

  it("is planned for AMD's IOMMUs too, by mirrors", () => {
    const epyc = host([], [fn("0000:41:00.0", { smmu: undefined, amd: "ivhd0" })], 1, { amds: [{ name: "ivhd0" }] });
    const one = plan(epyc, ["0000:41:00.0"]);
    expect([one.board, one.vtd?.fsts, one.expanders[0].hostIommu]).toEqual(["q35", false, "ivhd0"]);
    expect(one.vtd!.because[0]).toContain("ivhd0 is an AMD unit, in which no guest's tables are nested");
  });

  it("has 32-bit APIC ids for more than 255 CPUs", async () => {
    expect((await planOf("two-socket-spr", ["0000:17:00.0"], { cpus: 256 })).vtd!.eim).toBe(true);
  });
});

describe("NUMA nodes", () => {
  it("divide CPUs and memory between the host's nodes of the functions", async () => {
    const { cells, expanders } = await planOf("two-socket-spr", ["0000:17:00.0", "0000:97:00.0"], { cpus: 5, memory: 9 * GIB });
    expect(cells.map(({ hostNode, memory, cpus }) => [hostNode, memory / GIB, cpus])).toEqual([[0, 4.5, [0, 1]], [1, 4.5, [2, 4]]]);
    expect(expanders.map(({ cell }) => cell)).toEqual([0, 1]);
  });

  it("have neither CPUs nor memory where there are no CPUs for them: their functions are initiators", async () => {
    const one = await planOf("two-socket-spr", ["0000:17:00.0", "0000:97:00.0"], { cpus: 1 });
    expect(one.cells.map(({ hostNode, memory, cpus }) => [hostNode, memory / GIB, cpus])).toEqual([[0, 4, [0, 0]], [1, 0, null]]);
    expect(functionsOf(one).map(({ host: address, initiatorOf }) => [address, initiatorOf])).toEqual([["0000:17:00.0", []], ["0000:97:00.0", [1]]]);
  });

  it("are eight more for each GPU with coherent memory, and none for a GPU behind VT-d", async () => {
    const two = await planOf("grace", ["0009:01:00.0", "0018:01:00.0"]);
    expect(two.cells.length).toBe(18);
    expect(functionsOf(two).map(({ initiatorOf }) => [initiatorOf[0], initiatorOf.length])).toEqual([[2, 8], [10, 8]]);
    expect((await planOf("two-socket-spr", ["0000:98:00.0"])).cells.length).toBe(1);
  });

  it("are not told where the host has one", async () => {
    expect((await planOf("board", ["0000:01:00.0"])).cells).toEqual([]);
  });

  it("have the host's distances where each is one of the host's", () => {
    const numa = { nodes: [{ id: 0 }, { id: 1 }, { id: 2 }], distances: [[10, 12, 32], [12, 10, 32], [32, 32, 10]] };
    const far = host([smmu(0), smmu(2)], [fn("0000:01:00.0", { numaNode: 0 }), fn("0000:02:00.0", { smmu: "smmu3.0x2", numaNode: 2 })], 3, { numa });
    const one = plan(far, ["0000:01:00.0", "0000:02:00.0"]);
    expect(one.distances).toEqual([[10, 32], [32, 10]]);
    expect(writePlan(one, "qemu", { hostName: "made", qemu: "11.1", libvirt: "12.9" })).toContain("-numa dist,src=0,dst=1,val=32");
  });

  it("are refused more memory than the host's have", async () => {
    expect(await refused("board", ["0000:01:00.0"], { memory: 17 * GIB })).toContain("cannot set up guest memory: Cannot allocate memory");
    expect(await refused("grace", ["0009:01:00.0"], { memory: 241 * GIB })).toContain("grace has on its node 0 245760 MiB");
  });
});

describe("the window for BARs", () => {
  it("is QEMU's where that does, else large enough for all with their alignment", async () => {
    expect((await planOf("grace", ["0009:02:00.0"])).window.size).toBeNull();
    expect((await planOf("grace", ["0009:01:00.0"])).window.size).toBeNull();
    expect((await planOf("grace", ["0008:01:00.0", "0009:01:00.0", "0018:01:00.0", "0019:01:00.0"])).window.size).toBe(2048 * GIB);
    expect((await planOf("two-socket-spr", ["0000:17:00.0"])).window.size).toBeNull();
    expect((await planOf("two-socket-spr", ["0000:98:00.0"])).window.size).toBe(512 * GIB);
  });

  it("has room for what is plugged later", async () => {
    const one = await planOf("grace", ["0009:01:00.0"], { spare: 2 });
    expect(portsOf(one).map(({ reserve }) => reserve)).toEqual([null, 256 * GIB, 256 * GIB]);
    expect(one.window.size).toBe(2048 * GIB);
    expect(portsOf(await planOf("board", ["0000:01:00.0"], { spare: 1 })).at(-1)!.reserve).toBeNull();
  });

  it("ends where the host's processors address memory", () => {
    const bars = [{ index: 0, size: "64K" }, { index: 2, size: "256G", prefetchable: true }];
    const narrow = (addressBits: number): HostDescription => host([smmu(0)], [fn("0000:01:00.0", { bars })], 1, { addressBits });
    expect(plan(narrow(40), ["0000:01:00.0"], { spare: 0 }).window.size).toBeNull();
    expect(() => plan(narrow(39), ["0000:01:00.0"])).toThrow("Address space limit 2^39 is too low");
  });

  it("below 4 GiB is what it is", () => {
    const wide = host([smmu(0)], Array.from({ length: 13 }, (_, n) => fn(`0000:${(n + 1).toString(16).padStart(2, "0")}:00.0`, { bars: [{ index: 0, size: "64M", is64: false }] })));
    const all = wide.functions.map(({ address }) => address);
    expect(plan(wide, all.slice(0, 11)).expanders.length).toBe(1);
    expect(() => plan(wide, all)).toThrow("BARs have no room below 4 GiB");
  });
});

describe("functions", () => {
  it("that cannot be had are all told", async () => {
    expect(await refused("grace", ["0009:01:00.0", "9:1:0.0", "1234:00:00.0"])).toBe(
      "vfio 0009:01:00.0: device is already attached\n  found: --device 9:1:0.0 a second time\n  would work: each function once\n" +
        "vfio 1234:00:00.0: no such host device\n  found: 1234:00:00.0, which grace does not have\n  would work: one of 0000:01:00.0, 0000:01:00.1, 0002:01:00.0, 0002:01:00.1, 0004:01:00.0, 0005:01:00.0, 0006:01:00.0, 0008:01:00.0, 0008:02:00.0, 0009:01:00.0, 0009:02:00.0, 0009:03:00.0 and 5 more",
    );
    expect(await refused("grace", [])).toContain("no function of the host");
  });

  it("that share an IOMMU group are refused with the others' names: one can be behind a virtual IOMMU, and nobody uses the others", () => {
    const grouped = host([smmu(0)], [fn("0000:01:00.0", { group: 7 }), fn("0000:01:00.1", { group: 7, name: "audio", driver: "snd_hda_intel" }), fn("0000:02:00.0", { group: 7, driver: "" }), fn("0000:03:00.0", { group: 8 }), fn("0000:00:01.0", { class: 0x060400, group: 7 })]);
    expect(() => plan(grouped, ["0000:01:00.0", "0000:03:00.0"])).toThrow(
      "vfio 0000:01:00.0: group 7 is not viable\n  found: 0000:01:00.1 (audio, bound to snd_hda_intel), 0000:02:00.0 (0000:02:00.0, no driver) in the same IOMMU group\n  would work: --with-group: they are kept for the machine, and nobody uses them",
    );
    const one = plan(grouped, ["0000:01:00.0", "0000:03:00.0"], { withGroup: true });
    expect(functionsOf(one).map(({ host: address }) => address)).toEqual(["0000:01:00.0", "0000:03:00.0"]);
    expect(one.preparations.slice(0, 2)).toEqual([
      "0000:01:00.1 (audio) is in IOMMU group 7 with 0000:01:00.0: it is bound to snd_hda_intel, give it to vfio-pci; nobody may use it while the machine runs, the machine itself neither: the kernel keeps one table for a group, and each function behind a virtual IOMMU has its own",
      "0000:02:00.0 (0000:02:00.0) is in IOMMU group 7 with 0000:01:00.0: nobody may use it while the machine runs, the machine itself neither: the kernel keeps one table for a group, and each function behind a virtual IOMMU has its own",
    ]);
  });

  it("of one IOMMU group go together without a virtual IOMMU alone, in one slot where they are one device", () => {
    const pair = [fn("0000:01:00.0", { group: 7 }), fn("0000:01:00.1", { group: 7 }), fn("0000:02:00.0", { group: 8 })];
    const all = ["0000:01:00.0", "0000:01:00.1", "0000:02:00.0"];
    const grouped = host([smmu(0)], pair);
    expect(() => plan(grouped, all)).toThrow("in IOMMU group 7: the kernel keeps one table for a group, and a virtual IOMMU has one for each function\n  would work: one of them and --with-group; or --without-iommu");
    const arm = plan(grouped, all, { withoutIommu: true });
    expect(arm.expanders.map(({ smmu: one, ports }) => [one?.id ?? null, ports.map(({ functions }) => functions.map(({ host: address, number }) => [address, number]))])).toEqual([
      ["smmu1", [[["0000:02:00.0", 0]]]],
      [null, [[["0000:01:00.0", 0], ["0000:01:00.1", 1]]]],
    ]);
    const x86 = plan(host([], pair.map((one) => ({ ...one, smmu: undefined, vtd: "dmar0" })), 1, { vtds: [{ name: "dmar0", base: "0xfed90000" }] }), all, { withoutIommu: true });
    expect(x86.expanders.map(({ bypass }) => bypass)).toEqual([false, true]);
    expect(writePlan(x86, "qemu", { hostName: "made", qemu: "11.1", libvirt: "12.9" })).toContain("bypass_iommu=on");
  });

  it("that firmware wants mapped one to one are refused", () => {
    const rmrr = host([smmu(0)], [fn("0000:01:00.0", { reserved: [{ base: "0x7b800000", size: "8M", type: "direct" }] })]);
    expect(() => plan(rmrr, ["0000:01:00.0"])).toThrow("whose range 0x7b800000 to 0x7bffffff firmware wants mapped one to one (RMRR)");
  });

  it("for a kernel without the options are planned, and they are told", () => {
    const bare = host([smmu(0)], [fn("0000:01:00.0")], 1, { kernelConfig: { CONFIG_IOMMUFD: "n", CONFIG_VFIO_DEVICE_CDEV: "y", CONFIG_ARM_SMMU_V3_IOMMUFD: "n" }, limits: { memlock: "unlimited" } });
    expect(plan(bare, ["0000:01:00.0"]).preparations).toEqual(["a kernel with CONFIG_IOMMUFD, CONFIG_ARM_SMMU_V3_IOMMUFD: the host's was built without"]);
  });

  it("of another driver are planned, and what is to be done is told", async () => {
    expect((await planOf("grace", ["0006:01:00.0"])).preparations[0]).toBe("0006:01:00.0 (BMC graphics) is bound to ast: give it to vfio-pci");
  });
});

it("64 functions over 16 SMMUs and 8 nodes are planned, and twice the same", () => {
  const large = host(
    Array.from({ length: 16 }, (_, n) => smmu(n)),
    Array.from({ length: 64 }, (_, n) => fn(`${(n >> 2).toString(16).padStart(4, "0")}:0${(n & 3) + 1}:00.0`, { smmu: `smmu3.0x${n >> 2}`, numaNode: (n >> 2) % 8 })),
    8,
  );
  const devices = large.functions.map(({ address }) => address);
  const one = plan(large, devices, { memory: 64 * GIB, cpus: 64, spare: 1 });
  expect(one.expanders.length).toBe(16);
  expect(one.cells.length).toBe(8);
  expect(one.expanders.map(({ busNumber }) => busNumber)).toEqual(Array.from({ length: 16 }, (_, n) => 0x80 + 8 * n));
  for (const format of PLAN_FORMATS) {
    const options = { hostName: "made", qemu: "11.1", libvirt: "12.9" } as const;
    expect(writePlan(plan(large, [...devices].reverse(), { memory: 64 * GIB, cpus: 64, spare: 1 }), format, options)).toBe(writePlan(one, format, options));
  }
});
