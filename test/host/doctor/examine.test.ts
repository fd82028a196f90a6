/** What is wrong with hosts of different kinds, by severity, each with its cure. */
import { describe, expect, it } from "vitest";
import { describeSnapshot, type DescribedHost } from "../../../src/host/described/index.js";
import { examine, formatProblems, type HostProblem } from "../../../src/host/doctor/index.js";
import { CAPTURES, type CaptureName, captures, HostMaker } from "../captures/index.js";

const patient = (name: CaptureName): DescribedHost => describeSnapshot(captures[name]());
const ask = (name: CaptureName | DescribedHost, functions: string[] = [], memory: number | null = null): HostProblem[] => examine(typeof name === "string" ? patient(name) : name, { functions, memory });
const short = (problems: readonly HostProblem[]): string[] => problems.map(({ level, rule, words }) => `${level} ${rule}: ${words}`);
/** A host with one thing changed. */
const changed = (name: CaptureName, change: (host: { -readonly [K in keyof DescribedHost]: DescribedHost[K] }) => void): DescribedHost => {
  const host = { ...patient(name) };
  host.description = structuredClone(host.description);
  change(host);
  return host;
};

describe("the doctor", () => {
  it("finds nothing in the way of a Grace whose GPUs are VFIO's", () => {
    expect(short(ask("grace"))).toEqual(["note unknown-smmu: what smmu3.0x0000000005000000, smmu3.0x0000000012000000, smmu3.0x0000100005000000, smmu3.0x0000100012000000 can do is not known"]);
    expect(ask("grace", ["0009:01:00.0"])).toEqual([]);
    expect(short(ask("grace", ["0002:01:00.0"], 2 ** 36))).toEqual([
      "error driver: vfio 0002:01:00.0: couldn't open directory /sys/bus/pci/devices/0002:01:00.0/vfio-dev: No such file or directory",
      "note unknown-smmu: what smmu3.0x0000000012000000 can do is not known",
    ]);
  });

  it("tells a user of an Ampere which option, which node, whose group, how much memory", () => {
    expect(short(ask("ampere", ["0000:01:00.0"], 2 ** 34))).toEqual([
      "error kernel-option: CONFIG_ARM_SMMU_V3_IOMMUFD is not set",
      "error permission: Could not open '/dev/iommu': Permission denied",
      "error group: vfio 0000:01:00.0: group 1 is not viable",
      "error memlock: memory of the guest cannot be pinned: Cannot allocate memory",
      "warning permission: Could not open '/dev/kvm': Permission denied",
    ]);
    const [, , group, memory] = ask("ampere", ["0000:01:00.0"], 2 ** 34);
    expect([group.found, group.wouldWork]).toEqual(["0000:01:00.1 (mlx5_core) in the same IOMMU group", "all functions of the group without a driver or with vfio-pci; they are functions of one device, which stay together"]);
    expect(memory.wouldWork).toContain("ulimit -l 16777216 or more");
  });

  it("tells that an Altra's SMMUs do not nest, and that its limit is low for a large guest alone", () => {
    expect(short(ask("altra", ["000d:01:00.0"]))).toEqual(["error no-nesting: smmu3.0x000033fffe000000: does not nest: an erratum forbids it"]);
    expect(short(ask("altra", ["000d:01:00.0"], 2 ** 33)).slice(1)).toEqual(["error memlock: memory of the guest cannot be pinned: Cannot allocate memory"]);
  });

  it("tells of a Xeon's switch without ACS, its RMRR, its denylist", () => {
    const [group] = ask("xeon", ["0000:18:00.0"]);
    expect(group).toMatchObject({ level: "error", rule: "group", found: "0000:19:00.0 (nvidia) in the same IOMMU group" });
    expect(group.wouldWork).toBe("all functions of the group without a driver or with vfio-pci; 0000:17:00.0 has no ACS, or it is off: a slot behind a port with ACS puts a function in a group of its own");
    expect(short(ask("xeon", ["0000:00:17.0"]))).toEqual([
      "error no-nesting: dmar2: does not nest: it lacks ECAP.SMTS (scalable mode), ECAP.FSTS (first stage), ECAP.NEST (nested translation)",
      "error driver: vfio 0000:00:17.0: couldn't open directory /sys/bus/pci/devices/0000:00:17.0/vfio-dev: No such file or directory",
      "error direct-mapping: vfio 0000:00:17.0: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor.",
      "warning no-reset: vfio 0000:00:17.0: the function cannot be reset",
    ]);
    expect(short(ask("xeon", ["0000:70:01.0"]))).toEqual(["error denylist: vfio 0000:70:01.0: 8086:0b25 exists in vfio-pci device denylist, driver probing disallowed"]);
    expect(ask("xeon", ["0000:38:00.1", "0000:38:00.2"], 2 ** 38)).toEqual([]);
    expect(short(ask("xeon", ["0000:17:00.0", "0000:77:00.0"]))).toEqual(["error bridge: vfio 0000:17:00.0: a bridge is not passed through", "error no-function: vfio 0000:77:00.0: no such host device"]);
  });

  it("tells that AMD's IOMMUs nest nothing here", () => {
    expect(short(ask("epyc"))).toEqual(["error amd: ivhd0, ivhd1, ivhd2, ivhd3: AMD-Vi nests no tables of a guest's here"]);
  });

  it("tells that a desktop's Debian lacks IOMMUFD, and what else of the card is in its group", () => {
    const problems = ask("desktop", ["0000:01:00.0"]);
    expect(short(problems)).toEqual([
      "error kernel-option: CONFIG_IOMMUFD is not set",
      "error kernel-option: CONFIG_VFIO_DEVICE_CDEV is not set",
      "error no-nesting: dmar1: does not nest: it lacks ECAP.SMTS (scalable mode), ECAP.FSTS (first stage), ECAP.NEST (nested translation)",
      "error group: vfio 0000:01:00.0: group 2 is not viable",
    ]);
    expect(problems[0].wouldWork).toBe("a kernel with CONFIG_IOMMUFD=y; Debian's kernels have no IOMMUFD, and so none of what needs it");
    expect(problems[3].found).toBe("0000:01:00.1 (snd_hda_intel), 0000:01:00.2 (xhci_hcd), 0000:01:00.3 (nvidia-gpu) in the same IOMMU group");
  });

  it.each<[string, CaptureName, Parameters<typeof changed>[1], string[], string, RegExp]>([
    ["no IOMMU, which the kernel was told", "xeon", (h) => (Object.assign(h, { commandLine: "intel_iommu=off" }), strip(h)), [], "error no-iommu: the host has no IOMMU", /a kernel that is not told intel_iommu=off/],
    ["no IOMMU, by the firmware", "xeon", (h) => (h.description.kernelConfig!.CONFIG_INTEL_IOMMU_DEFAULT_ON = "n", strip(h)), [], "error no-iommu: the host has no IOMMU", /VT-d or AMD-Vi on in the firmware, and in the kernel: intel_iommu=on/],
    ["no IOMMU of an Arm", "grace", strip, [], "error no-iommu: the host has no IOMMU", /an SMMUv3 in the firmware's tables \(IORT/],
    ["an old kernel", "grace", (h) => (h.description.kernel = "6.11.0"), [], "error kernel-version: Linux 6.11.0 is too old", /Linux 6\.13 or newer/],
    ["a very old kernel", "xeon", (h) => (h.description.kernel = "5.15.0-91-generic"), [], "error kernel-version: Linux 5.15.0-91-generic is too old", /Linux 6\.6 or newer/],
    ["an unknown configuration", "grace", (h) => (h.description.kernelConfig = null), [], "note kernel-config: the kernel's configuration is not known", /CONFIG_IKCONFIG_PROC/],
    ["no command queue for guests", "grace", (h) => (h.description.kernelConfig!.CONFIG_TEGRA241_CMDQV = "n"), [], "warning kernel-option: CONFIG_TEGRA241_CMDQV is not set", /CONFIG_TEGRA241_CMDQV=y/],
    ["a module that is not loaded", "xeon", (h) => Object.assign(h, { nodes: { ...h.nodes, "dev/iommu": "absent" }, hasIommufdModule: true }), [], "error no-iommufd: Could not open '/dev/iommu': No such file or directory", /^modprobe iommufd$/],
    ["a character device of somebody else's", "grace", (h) => (h.nodes = { ...h.nodes, "dev/vfio/devices/vfio0": "forbidden" }), [], "error permission: Could not open '/dev/vfio/devices/vfio0': Permission denied", /-device vfio-pci,fd=N/],
    ["neither CANWBS nor S2FWB", "grace", (h) => h.description.smmus.forEach((smmu) => Object.assign(smmu, { coherent: false, idr3: smmu.idr3 & ~0x100 })), ["0009:01:00.0"], "error no-nesting: smmu3.0x0000000011600000: has neither CANWBS nor S2FWB", /IORT says CANWBS/],
    ["T264-SMMU-3", "grace", (h) => h.description.smmus[1].errata.push("nvidia-t264-smmu-3"), ["0009:01:00.0"], "warning t264-smmu-3: smmu3.0x0000000011600000: erratum T264-SMMU-3, invalidations may be lost", /viommu, which gives them twice/],
    ["no interrupt remapping", "xeon", (h) => (h.description.vtds[1].ecap = "0x3ef9e86f050d7"), ["0000:38:00.1"], "error no-interrupt-remapping: dmar1: interrupts are not remapped (ECAP.IR=0)", /allow_unsafe_interrupts=1/],
    ["the wrong driver for coherent memory", "grace", (h) => (h.description.functions.find(({ device }) => device === 0x2342)!.driver = "vfio-pci"), ["0009:01:00.0"], "warning nvgrace-driver: vfio 0009:01:00.0: the GPU's memory is not given with it", /driverctl set-override 0009:01:00\.0 nvgrace-gpu-vfio-pci/],
    ["companions in groups of their own", "desktop", (h) => h.description.functions.filter(({ address }) => address.startsWith("0000:01:")).forEach((fn, i) => (fn.group = 100 + i)), ["0000:01:00.0"], "warning companions: vfio 0000:01:00.0: other functions of the GPU are not given with it", /a reset of one is a reset of all/],
    ["an NVSwitch", "xeon", (h) => h.description.functions.push({ ...h.description.functions[0], address: "0000:66:00.0", vendor: 0x10de, device: 0x22a3, class: 0x068000, driver: "nvidia-nvswitch" }), ["0000:18:00.0"], "warning nvswitch: vfio 0000:18:00.0: the GPU's NVLinks go through switches that the guest does not have", /Fabric Manager/],
    ["a BAR that finds no place", "desktop", (h) => (h.description.functions.find(({ address }) => address === "0000:01:00.0")!.bars[1].size = 2 ** 39), ["0000:01:00.0"], "error bar-size: vfio 0000:01:00.0: BAR 1 of 512 GiB finds no place", /resizable BAR/],
    ["the name of a driver that there is not", "xeon", (h) => (h.functions = new Map([...h.functions].map(([address, fn]) => [address, { ...fn, driverOverride: "vfio_pci", characterDevice: null }]))), ["0000:38:00.0"], "error driver: vfio 0000:38:00.0: couldn't open directory /sys/bus/pci/devices/0000:38:00.0/vfio-dev: No such file or directory", /set-override 0000:38:00\.0 vfio-pci/],
    ["no KVM", "xeon", (h) => (h.description.kvm = false), [], "warning no-kvm: Could not access KVM kernel module: No such file or directory", /VT-x or AMD-V \(SVM\) on in the firmware/],
    ["a low limit", "xeon", (h) => ((h.description.limits = { memlock: 8 * 2 ** 20 }), Object.assign(h, { locksFreely: false })), [], "warning memlock: RLIMIT_MEMLOCK is 8388608 bytes", /LimitMEMLOCK=infinity/],
    ["nothing that VFIO has", "desktop", (h) => h.description.functions.forEach((fn) => (fn.driver = fn.driver === "vfio-pci" ? "nvidia" : fn.driver)), [], "note no-vfio-function: no function has the driver vfio-pci", /--device ADDRESS/],
  ])("tells of %s", (_what, name, change, functions, words, cure) => {
    const problems = ask(changed(name, change), functions);
    expect(short(problems)).toContain(words);
    expect(problems.find((one) => words.endsWith(one.words))?.wouldWork).toMatch(cure);
  });

  it.each(CAPTURES)("has a finding and a cure of one line for all that it tells of a %s, the worst first", (name) => {
    const problems = [...ask(name), ...patient(name).description.functions.flatMap(({ address }) => ask(name, [address], 2 ** 40))];
    for (const { words, found, wouldWork, rule } of problems) {
      expect(`${words}${found}${wouldWork}`).not.toMatch(/undefined|null|\n/);
      expect(rule).toMatch(/^[a-z0-9]+(?:-[a-z0-9]+)*$/);
    }
    const levels = ask(name).map(({ level }) => ["error", "warning", "note"].indexOf(level));
    expect([...levels].sort()).toEqual(levels);
  });
});

/** Takes a host's IOMMUs away. */
function strip({ description }: Pick<DescribedHost, "description">): void {
  Object.assign(description, { smmus: [], vtds: [] });
  description.functions.forEach((fn) => Object.assign(fn, { group: null, ...(fn.smmu === undefined ? { vtd: null } : { smmu: null }) }));
}

it("a misspelt driver is told of with its name", () => {
  const host = changed("xeon", (h) => (h.functions = new Map([...h.functions].map(([address, fn]) => [address, { ...fn, driverOverride: "vfio_pci" }]))));
  expect(ask(host, ["0000:38:00.0"])[0].found).toBe("the function's driver is mlx5_core, and its driver_override is vfio_pci, a name that no driver has");
});

it("problems are told for people in lines of 100 columns", () => {
  const text = formatProblems("a host", ask("desktop", ["0000:01:00.0"]));
  expect(text.split("\n")[0]).toBe("a host: 4 problems in the way of passing functions through with a virtual IOMMU");
  expect(text).toContain("error: CONFIG_IOMMUFD is not set [kernel-option]\n  found: Linux 6.12.48+deb13-amd64: there is no /dev/iommu\n  cure: a kernel with CONFIG_IOMMUFD=y; ");
  expect(formatProblems("a host", [])).toBe("a host: nothing is in the way of passing functions through with a virtual IOMMU\n");
});

it("a host with nothing at all is told of without a fault", () => {
  const bare = describeSnapshot(new HostMaker("x86_64", "7.3.4", "").made());
  expect(short(ask(bare))).toEqual(["error no-iommu: the host has no IOMMU", "note kernel-config: the kernel's configuration is not known"]);
});
