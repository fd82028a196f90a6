/** What sysfs tells of the host's PCI functions (Linux Documentation/ABI/testing/sysfs-bus-pci). */
import { fstatSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";
import type { HostFunction, HostFunctionFacts, HostIommuFacts } from "../../iommufd/index.js";
import { type Places, PLACES } from "../sysfs/index.js";

const ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

export class Sysfs {
  constructor(private readonly places: Places = PLACES) {}

  /** All PCI functions; empty where there is no PCI. */
  functions(): HostFunction[] {
    return this.addresses().map((address) => this.describe(address));
  }

  /** Their addresses alone. */
  addresses(): string[] {
    return names(join(this.places.sys, "bus/pci/devices"))
      .filter((name) => ADDRESS.test(name))
      .sort();
  }

  has(address: string): boolean {
    return ADDRESS.test(address) && names(this.folder(address)).length > 0;
  }

  private describe(address: string): HostFunction {
    const number = (name: string): number => Number(text(join(this.folder(address), name)) ?? 0);
    const node = number("numa_node");
    return {
      address,
      vendorId: number("vendor"),
      deviceId: number("device"),
      classCode: number("class"),
      iommu: this.link(address, "iommu"),
      numaNode: Number.isInteger(node) ? node : -1,
      driver: this.driver(address) ?? "",
    };
  }

  /** Physical IOMMUs (Documentation/ABI/testing/sysfs-class-iommu*); what an SMMU offers is not among it. */
  iommus(): HostIommuFacts[] {
    const classes = join(this.places.sys, "class/iommu");
    return names(classes)
      .sort()
      .map((id) => {
        const register = (name: string): bigint | null => hexText(text(join(classes, id, "intel-iommu", name)));
        const [cap, ecap] = [register("cap"), register("ecap")];
        const node = Number(text(join(classes, id, "device", "numa_node")) ?? -1);
        return {
          id,
          architecture: /^smmu3\./.test(id) ? "smmuv3" : /^dmar\d+$/.test(id) ? "vtd" : /^ivhd\d+$/.test(id) ? "amd" : "unknown",
          registers: cap === null || ecap === null ? null : new Map([["CAP", cap], ["ECAP", ecap]]),
          numaNode: Number.isInteger(node) && node >= 0 ? node : null,
          errata: [],
        };
      });
  }

  /** Null: there is no such function. */
  facts(address: string): HostFunctionFacts | null {
    if (!this.has(address)) {
      return null;
    }
    const group = this.group(address);
    const reserved = group === null ? null : text(join(this.places.sys, "kernel/iommu_groups", group, "reserved_regions"));
    return { label: "", group: group === null ? null : Number(group), upstream: this.upstream(address), reserved: reservedRanges(reserved ?? "") };
  }

  /** The ports above it, from the root port on. */
  private upstream(address: string): string[] {
    try {
      return realpathSync(this.folder(address))
        .split("/")
        .filter((name) => ADDRESS.test(name) && name !== address);
    } catch {
      return [];
    }
  }

  /** The driver's name; null: none. */
  driver(address: string): string | null {
    return this.link(address, "driver");
  }

  /** The number of its IOMMU group; null: none. */
  group(address: string): string | null {
    return this.link(address, "iommu_group");
  }

  /** All functions of a group. */
  members(group: string): string[] {
    return names(join(this.places.sys, "kernel/iommu_groups", group, "devices")).sort();
  }

  /** The character device of a function that a VFIO driver has: "/dev/vfio/devices/vfio0"; null: the kernel shows none. */
  characterDevice(address: string): string | null {
    const [name] = names(join(this.folder(address), "vfio-dev"));
    return name === undefined ? null : join(this.places.dev, "vfio/devices", name);
  }

  /** The function whose character device a descriptor is of; null: it is none of a PCI function. */
  addressOfDescriptor(fd: number): string | null {
    try {
      const { rdev } = fstatSync(fd);
      const [major, minor] = [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)];
      const address = basename(realpathSync(join(this.places.sys, "dev/char", `${major}:${minor}`, "device")));
      return ADDRESS.test(address) ? address : null;
    } catch {
      return null;
    }
  }

  private folder(address: string): string {
    return join(this.places.sys, "bus/pci/devices", address);
  }

  private link(address: string, name: string): string | null {
    try {
      return basename(readlinkSync(join(this.folder(address), name)));
    } catch {
      return null;
    }
  }
}

/** Names in a folder; none where there is no folder. */
function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function text(path: string): string | null {
  try {
    return readFileSync(path, "latin1").trim();
  } catch {
    return null;
  }
}

function hexText(digits: string | null): bigint | null {
  return digits !== null && /^(?:0x)?[0-9a-f]{1,16}$/i.test(digits) ? BigInt(`0x${digits.replace(/^0x/i, "")}`) : null;
}

/** Lines of a first and a last address and a kind (Documentation/ABI/testing/sysfs-kernel-iommu_groups). */
function reservedRanges(lines: string): HostFunctionFacts["reserved"] {
  return lines.split("\n").flatMap((line) => {
    const [, first, last, kind] = /^(0x[0-9a-f]+) (0x[0-9a-f]+) (\S+)/i.exec(line) ?? [];
    return kind === undefined ? [] : [{ base: BigInt(first), size: BigInt(last) - BigInt(first) + 1n, kind }];
  });
}
