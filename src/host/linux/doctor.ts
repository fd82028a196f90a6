/** What of a Linux keeps a machine from its functions, each with its cure, before anything is made of it. */
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { Refusal } from "../../support/index.js";
import { type Places, PLACES, Sysfs } from "./sysfs.js";

/** What a machine wants of the host. */
export interface Wanted {
  /** Host PCI addresses of its functions, in full. */
  readonly functions: readonly string[];
  /** It opens /dev/iommu itself: no descriptor of one is given. */
  readonly opensIommufd: boolean;
  /** Bytes of memory that are pinned for devices, once for each iommufd. */
  readonly pinnedBytes: number;
}

export interface HostProblem {
  /** QEMU's or the kernel's words first. */
  readonly words: string;
  readonly found: string;
  readonly wouldWork: string;
}

/** Drivers beside VFIO's that a group's functions may have: they leave DMA alone (driver_managed_dma in Linux). */
const HARMLESS = new Set(["pcieport", "pci-stub", "pci-pf-stub", "shpchp"]);
/** CAP_IPC_LOCK's bit (capabilities(7)). */
const CAP_IPC_LOCK = 14n;

/** All that is wrong, in the order in which it is to be mended. */
export function diagnose(wanted: Wanted, places: Places = PLACES): HostProblem[] {
  const sysfs = new Sysfs(places);
  const problems = wanted.opensIommufd ? iommufdProblems(places) : [];
  const known = sysfs.addresses();
  const groups = new Set<string>();
  for (const address of wanted.functions) {
    if (!known.includes(address)) {
      problems.push({ words: `vfio ${address}: no such host device`, found: `${places.sys}/bus/pci/devices has ${known.length === 0 ? "no PCI functions" : listed(known)}`, wouldWork: "a function of this host (lspci -D)" });
      continue;
    }
    const group = sysfs.group(address);
    if (group === null) {
      problems.push({ words: `vfio ${address}: no iommu_group found: No such file or directory`, found: "no IOMMU of the host serves the function", wouldWork: iommuCure() });
      continue;
    }
    problems.push(...driverProblems(sysfs, address, places));
    if (!groups.has(group)) {
      groups.add(group);
      problems.push(...groupProblems(sysfs, group, address));
    }
  }
  return wanted.pinnedBytes === 0 ? problems : [...problems, ...memoryProblems(wanted.pinnedBytes, places)];
}

/** @throws Refusal with all that `diagnose` finds */
export function checkHost(wanted: Wanted, places?: Places): void {
  const problems = diagnose(wanted, places);
  const [first, ...rest] = problems;
  if (first === undefined) {
    return;
  }
  if (rest.length === 0) {
    throw new Refusal(first.words, first);
  }
  throw new Refusal(problems.map(({ words, found, wouldWork }) => `${words}\n  found: ${found}\n  would work: ${wouldWork}`).join("\n"));
}

function iommufdProblems(places: Places): HostProblem[] {
  const path = join(places.dev, "iommu");
  if (!existsSync(path)) {
    const module = existsSync(`/lib/modules/${release()}/kernel/drivers/iommu/iommufd`);
    return [
      {
        words: `Could not open '${path}': No such file or directory`,
        found: `Linux ${release()}, ${module ? "whose module iommufd is not loaded" : "which has no module iommufd"}`,
        wouldWork: module ? "modprobe iommufd" : "a kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV (Debian's has neither)",
      },
    ];
  }
  return accessProblem(path, "a group or an ACL that lets this user open it, or a descriptor from who may: -object iommufd,id=...,fd=N");
}

function driverProblems(sysfs: Sysfs, address: string, places: Places): HostProblem[] {
  const driver = sysfs.driver(address);
  const device = sysfs.characterDevice(address);
  if (device !== null) {
    return accessProblem(device, "a group or an ACL that lets this user open it, or a descriptor from who may: -device vfio-pci,fd=N");
  }
  if (driver === null || !/vfio/.test(driver)) {
    return [
      {
        words: `vfio ${address}: couldn't open directory ${places.sys}/bus/pci/devices/${address}/vfio-dev: No such file or directory`,
        found: driver === null ? "the function has no driver" : `the function's driver is ${driver}`,
        wouldWork: `the driver vfio-pci: modprobe vfio-pci; driverctl set-override ${address} vfio-pci (or, by hand: echo vfio-pci >/sys/bus/pci/devices/${address}/driver_override; ${driver === null ? "" : `echo ${address} >/sys/bus/pci/drivers/${driver}/unbind; `}echo ${address} >/sys/bus/pci/drivers_probe)`,
      },
    ];
  }
  return [
    {
      words: `vfio ${address}: couldn't open directory ${places.sys}/bus/pci/devices/${address}/vfio-dev: No such file or directory`,
      found: `the function's driver is ${driver}, and Linux ${release()} shows no character device of it`,
      wouldWork: "a kernel with CONFIG_VFIO_DEVICE_CDEV (Linux 6.6 or newer)",
    },
  ];
}

/** DMA of a group is one process's: no function in it may have a driver of the kernel's (iommu_device_claim_dma_owner). */
function groupProblems(sysfs: Sysfs, group: string, address: string): HostProblem[] {
  const others = sysfs.members(group).flatMap((member) => {
    const driver = sysfs.driver(member);
    return member === address || driver === null || HARMLESS.has(driver) || /vfio/.test(driver) ? [] : [`${member} (${driver})`];
  });
  return others.length === 0
    ? []
    : [
        {
          words: `vfio ${address}: group ${group} is not viable`,
          found: `${listed(others)} in the same IOMMU group`,
          wouldWork: "all functions of the group without a driver or with vfio-pci; a slot behind a port with ACS puts a function in a group of its own",
        },
      ];
}

/** Pinned memory counts against RLIMIT_MEMLOCK where the process has no CAP_IPC_LOCK (iommufd, iopt_pages). */
function memoryProblems(bytes: number, places: Places): HostProblem[] {
  const limits = read(join(places.proc, "self/limits"));
  const status = read(join(places.proc, "self/status"));
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1] ?? "unlimited";
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  if (soft === "unlimited" || Number(soft) >= bytes || ((effective >> CAP_IPC_LOCK) & 1n) !== 0n) {
    return [];
  }
  return [
    {
      words: "memory of the guest cannot be pinned: Cannot allocate memory",
      found: `RLIMIT_MEMLOCK of ${soft} bytes, and ${bytes} to pin (the guest's RAM, once for each iommufd)`,
      wouldWork: `ulimit -l ${Math.ceil(bytes / 1024)} or more (systemd: LimitMEMLOCK=; containers: --ulimit memlock=), or CAP_IPC_LOCK`,
    },
  ];
}

function accessProblem(path: string, cure: string): HostProblem[] {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return [];
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "EACCES";
    return [{ words: `Could not open '${path}': ${code === "EACCES" ? "Permission denied" : code}`, found: `user ${process.getuid?.() ?? "?"} may not read and write it`, wouldWork: cure }];
  }
}

function iommuCure(): string {
  return process.arch === "x64"
    ? "VT-d or AMD-Vi on in the firmware, and in the kernel: intel_iommu=on (CONFIG_INTEL_IOMMU_DEFAULT_ON has it by itself)"
    : "an SMMUv3 in the firmware's tables (IORT, or the device tree) and CONFIG_ARM_SMMU_V3 in the kernel";
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** At most eight, and how many more. */
function listed(all: readonly string[]): string {
  return all.length <= 8 ? all.join(", ") : `${all.slice(0, 8).join(", ")} and ${all.length - 8} more`;
}
