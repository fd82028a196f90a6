/** What sysfs tells of the host's PCI functions (Linux Documentation/ABI/testing/sysfs-bus-pci). */
import { fstatSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";
import type { HostFunction } from "../../iommufd/index.js";
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
