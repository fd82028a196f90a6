/** What a kernel lacks: its version, its options, its words, the nodes of its devices. */
import type { DescribedHost } from "../described/index.js";
import { type HostProblem, type Patient, problem, versionOf } from "./wanted.js";

type Need = readonly [option: string, level: HostProblem["level"], what: string];

/** Options without which a guest's virtual IOMMU cannot be had, or has less. */
const ALWAYS: readonly Need[] = [
  ["CONFIG_IOMMUFD", "error", "there is no /dev/iommu"],
  ["CONFIG_VFIO_DEVICE_CDEV", "error", "functions have no character devices in /dev/vfio/devices"],
  ["CONFIG_VFIO_PCI", "error", "no function can be given to a process"],
];
const ARM: readonly Need[] = [
  ["CONFIG_ARM_SMMU_V3_IOMMUFD", "error", "no guest's tables are nested in an SMMU's, and its registers are not told"],
  ["CONFIG_ARM_SMMU_V3_SVA", "warning", "the host's own processes share no address space with a device (CUDA on GB10 fails: cuInit 3)"],
];
const NVIDIA_ARM: readonly Need[] = [["CONFIG_TEGRA241_CMDQV", "warning", "a guest has no command queue of its own, and each of its invalidations is a call of the host's"]];
const INTEL: readonly Need[] = [
  ["CONFIG_INTEL_IOMMU", "error", "VT-d is not used"],
  ["CONFIG_IRQ_REMAP", "error", "interrupts are not remapped, and no function is bound to an iommufd"],
  ["CONFIG_INTEL_IOMMU_SVM", "warning", "the host's own processes share no address space with a device"],
];
const AMD: readonly Need[] = [["CONFIG_AMD_IOMMU", "error", "AMD-Vi is not used"]];

export function optionProblems({ host }: Patient): HostProblem[] {
  const { description } = host;
  const { kernelConfig, architecture, smmus, amds, kernel, functions } = description;
  if (kernelConfig === null) {
    return [problem("note", "kernel-config", "the kernel's configuration is not known", "neither /proc/config.gz nor /boot/config-* can be read", "CONFIG_IKCONFIG_PROC, or the package with the kernel's configuration")];
  }
  const isNvidia = functions.some(({ vendor }) => vendor === 0x10de) || smmus.some(({ iidr }) => (iidr & 0xfff) === 0x36b);
  const needs = architecture === "aarch64" ? [...ALWAYS, ...ARM, ...(isNvidia ? NVIDIA_ARM : [])] : architecture === "x86_64" ? [...ALWAYS, ...(amds.length > 0 ? AMD : INTEL)] : ALWAYS;
  const debian = /deb\d|-(?:arm64|amd64)(?:-|$)/.test(kernel) ? "; Debian's kernels have no IOMMUFD, and so none of what needs it" : "";
  return needs
    .filter(([option]) => kernelConfig[option] === "n")
    .map(([option, level, what]) => problem(level, "kernel-option", `${option} is not set`, `Linux ${kernel}: ${what}`, `a kernel with ${option}=y${option === "CONFIG_IOMMUFD" || option === "CONFIG_VFIO_DEVICE_CDEV" ? debian : ""}`));
}

/** First versions of Linux that have it. */
export function versionProblems({ host }: Patient): HostProblem[] {
  const { kernel, smmus, vtds } = host.description;
  const is = versionOf(kernel);
  const tooOld = (since: number, what: string): HostProblem[] =>
    is >= since ? [] : [problem("error", "kernel-version", `Linux ${kernel} is too old`, what, `Linux ${Math.floor(since / 1000)}.${since % 1000} or newer`)];
  const cdev = tooOld(6006, "functions have character devices and iommufd since 6.6");
  if (cdev.length > 0) {
    return cdev;
  }
  return smmus.length > 0 ? tooOld(6013, "guests' tables are nested in an SMMUv3's since 6.13") : vtds.length > 0 ? tooOld(6007, "guests' tables are nested in VT-d's since 6.7") : [];
}

/** /dev/iommu. */
export function iommufdProblems({ host }: Patient): HostProblem[] {
  const { kernel } = host.description;
  const state = host.nodes["dev/iommu"] as string | undefined;
  if (state === "absent") {
    return [
      problem(
        "error",
        "no-iommufd",
        "Could not open '/dev/iommu': No such file or directory",
        `Linux ${kernel}, ${host.hasIommufdModule ? "whose module iommufd is not loaded" : "which has no module iommufd"}`,
        host.hasIommufdModule ? "modprobe iommufd" : "a kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV (Debian's has neither)",
      ),
    ];
  }
  return nodeProblems(host, "dev/iommu", "a group or an ACL that lets this user open it, or a descriptor from who may: -object iommufd,id=...,fd=N");
}

/** A node that is there and that this user may not open. */
export function nodeProblems(host: DescribedHost, path: string, cure: string): HostProblem[] {
  return host.nodes[path] === "forbidden" ? [problem("error", "permission", `Could not open '/${path}': Permission denied`, "this user may not read and write it", cure)] : [];
}

export function kvmProblems({ host }: Patient): HostProblem[] {
  const { description, nodes } = host;
  if (nodes["dev/kvm"] === "forbidden") {
    return nodeProblems(host, "dev/kvm", "the group kvm for this user: usermod -a -G kvm USER").map((one) => ({ ...one, level: "warning" }));
  }
  if (description.kvm !== false) {
    return [];
  }
  const cure = description.architecture === "x86_64" ? "VT-x or AMD-V (SVM) on in the firmware; modprobe kvm_intel or kvm_amd; in a guest, nested virtualization" : "a kernel that was started in EL2 (firmware), with CONFIG_KVM";
  return [problem("warning", "no-kvm", "Could not access KVM kernel module: No such file or directory", "there is no /dev/kvm: guests' processors are emulated", cure)];
}

/** Pinned memory counts against RLIMIT_MEMLOCK where the process has no CAP_IPC_LOCK (iommufd, iopt_pages). */
export function memoryProblems({ host, wanted }: Patient): HostProblem[] {
  const memlock = host.description.limits?.memlock ?? "unlimited";
  const bytes = wanted.pinnedBytes;
  if (memlock === "unlimited" || memlock >= bytes || host.locksFreely === true) {
    return [];
  }
  return [
    problem(
      "error",
      "memlock",
      "memory of the guest cannot be pinned: Cannot allocate memory",
      `RLIMIT_MEMLOCK of ${memlock} bytes, and ${bytes} to pin (the guest's RAM, once for each iommufd)`,
      `ulimit -l ${Math.ceil(bytes / 1024)} or more (systemd: LimitMEMLOCK=; containers: --ulimit memlock=), or CAP_IPC_LOCK`,
    ),
  ];
}

/** The same where nobody has said how large a guest is to be. */
export function limitProblems({ host, wanted }: Patient): HostProblem[] {
  const memlock = host.description.limits?.memlock ?? "unlimited";
  if (wanted.pinnedBytes > 0) {
    return memoryProblems({ host, wanted });
  }
  return memlock === "unlimited" || host.locksFreely === true || memlock >= 2 ** 30
    ? []
    : [problem("warning", "memlock", `RLIMIT_MEMLOCK is ${memlock} bytes`, "a guest's RAM is pinned, once for each iommufd", "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; containers: --ulimit memlock=-1); --memory SIZE tells how much")];
}
