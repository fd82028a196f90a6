/** The Linux that this process runs on, as a host: /dev/iommu, VFIO's character devices, eventfds, sysfs. */
import { release } from "node:os";
import { join } from "node:path";
import { type Host, HostError, type HostEvent, type HostFacts, type HostFunction, type Iommufd, type RawIoctl, type VfioDevice } from "../../iommufd/index.js";
import { pageBytes, SystemError } from "../../linux/index.js";
import type { MakeMemory, RamBlock } from "../../memory/index.js";
import { LinuxEvent } from "./events.js";
import { LinuxIommufd } from "./iommufd.js";
import { type KernelPort, linuxPort } from "./kernel-port.js";
import { LinuxMemory } from "./memory.js";
import { rawIoctl } from "./raw-ioctl.js";
import { asHostCall } from "./refusals.js";
import { DESTROY, IOMMU } from "./structures.js";
import { type Places, PLACES } from "../sysfs/index.js";
import { Sysfs } from "./sysfs.js";
import { LinuxVfioDevice } from "./vfio-device.js";

export interface LinuxHostOptions {
  /** Default: Linux's. */
  readonly port?: KernelPort;
  /** Default: this machine's. */
  readonly places?: Places;
  /** Default: linux's sharedMemory. */
  readonly makeMemory?: MakeMemory;
}

export class LinuxHost implements Host {
  readonly hasDescriptors = true;
  readonly description: string;
  private readonly port: KernelPort;
  private readonly places: Places;
  private readonly sysfs: Sysfs;
  private readonly memory: LinuxMemory;

  constructor({ port = linuxPort, places = PLACES, makeMemory }: LinuxHostOptions = {}) {
    this.description = `Linux ${release()}`;
    this.port = port;
    this.places = places;
    this.sysfs = new Sysfs(places);
    this.memory = new LinuxMemory(makeMemory);
  }

  get pageBytes(): number {
    return pageBytes();
  }

  allocateMemory(name: string, bytes: number): RamBlock {
    return this.memory.allocate(name, bytes);
  }

  freeMemory(block: RamBlock): void {
    this.memory.free(block);
  }

  makeEvent(): HostEvent {
    return new LinuxEvent(this.port);
  }

  openIommufd(given?: { readonly fd: number }): Iommufd {
    if (given !== undefined) {
      this.checkIommufd(given.fd);
    }
    const path = join(this.places.dev, "iommu");
    const fd = given?.fd ?? asHostCall("open /dev/iommu", () => path, () => this.port.open(path));
    return new LinuxIommufd(this.port, fd, given !== undefined, this.memory.fileOf);
  }

  /** An iommufd knows the object 0 not (ENOENT); another file the call not. @throws HostError EBADF */
  private checkIommufd(fd: number): void {
    try {
      this.port.ioctl(fd, "DESTROY", IOMMU.DESTROY, DESTROY.make({ id: 0 }).bytes);
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENOENT") {
        return;
      }
      throw new HostError("open /dev/iommu", "EBADF", `descriptor ${fd} is no iommufd: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  openDevice(device: string | { readonly fd: number }): VfioDevice {
    if (typeof device !== "string") {
      const address = this.sysfs.addressOfDescriptor(device.fd);
      if (address === null) {
        throw new HostError("open /dev/vfio", "EBADF", `descriptor ${device.fd} is no VFIO device of a PCI function`);
      }
      return new LinuxVfioDevice(this.port, address, device.fd);
    }
    const path = this.sysfs.characterDevice(device);
    if (path === null) {
      throw new HostError("open /dev/vfio", "ENODEV", `${device} has no VFIO character device: ${this.sysfs.has(device) ? `its driver is ${this.sysfs.driver(device) ?? "none"}` : "there is no such function"}`);
    }
    return new LinuxVfioDevice(this.port, device, asHostCall("open /dev/vfio", () => path, () => this.port.open(path)));
  }

  get rawIoctl(): RawIoctl {
    return rawIoctl(this.port);
  }

  functions(): HostFunction[] {
    return this.sysfs.functions();
  }

  get facts(): HostFacts {
    const { sysfs } = this;
    return { kernel: release(), iommus: () => sysfs.iommus(), functionFacts: (address) => sysfs.facts(address) };
  }

  close(): void {
    this.memory.freeAll();
  }
}
