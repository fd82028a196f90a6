/** A virtual machine of KVM (Linux Documentation/virt/kvm/api.rst): /dev/kvm, memory slots, messages. */
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { closeFd, ioctl, openFile, SystemError } from "../linux/index.js";
import { Refusal } from "../support/index.js";
import { CAP, ENABLE_CAP, IRQ_ROUTING, IRQ_ROUTING_IRQCHIP, IRQ_ROUTING_MSI, IRQFD, IRQFD_FLAG, KVM, KVM_API_VERSION, MEM_READONLY, MEMORY_REGION, MSI, MSI_VALID_DEVID } from "./uapi.js";

const DEVICE = "/dev/kvm";

/** A range of guest-physical memory that the kernel maps from this process's. */
export interface MemorySlot {
  readonly guestAddress: number;
  readonly bytes: number;
  readonly userAddress: bigint;
  readonly readOnly: boolean;
}

/** A message as KVM takes it; `deviceId` where the interrupt controller tells sources apart (an ITS). */
export interface KvmMessage {
  /** x86: bits 63:40 hold bits 31:8 of the destination. */
  readonly address: bigint;
  readonly data: number;
  readonly deviceId?: number;
}

/** What a GSI raises: a message, or a pin of the interrupt controller that the kernel has (arm64: SPI n is pin n of INTID 32 + n). */
export type GsiRoute = KvmMessage | { readonly pin: number };

export class KvmVm {
  private readonly slots: boolean[] = [];
  private readonly message = Buffer.alloc(MSI.BYTES);

  private constructor(
    readonly device: number,
    readonly fd: number,
  ) {}

  /**
   * @param machineType KVM_CREATE_VM's argument, of what /dev/kvm says of extensions (KVM_CHECK_EXTENSION)
   * @throws Refusal that says what is missing, nothing left open
   */
  static open(machineType: (extension: (capability: number) => number) => number = () => 0): KvmVm {
    const device = openDevice();
    try {
      const version = ioctl(device, "KVM_GET_API_VERSION", KVM.GET_API_VERSION);
      if (version !== KVM_API_VERSION) {
        throw new Refusal(`Could not access KVM kernel module: its interface is of version ${version}`, { found: `${DEVICE} with version ${version}`, wouldWork: `version ${KVM_API_VERSION}, which Linux has since 2.6.22` });
      }
      const type = machineType((capability) => ioctl(device, "KVM_CHECK_EXTENSION", KVM.CHECK_EXTENSION, capability));
      return new KvmVm(device, ioctl(device, "KVM_CREATE_VM", KVM.CREATE_VM, type));
    } catch (error) {
      closeFd(device);
      throw error;
    }
  }

  /** KVM_CHECK_EXTENSION: 0 where there is none. */
  extension(capability: number): number {
    return ioctl(this.fd, "KVM_CHECK_EXTENSION", KVM.CHECK_EXTENSION, capability);
  }

  /** KVM_ENABLE_CAP of the machine. @throws SystemError */
  enable(capability: number, argument: number): void {
    const structure = Buffer.alloc(ENABLE_CAP.BYTES);
    structure.writeUInt32LE(capability, ENABLE_CAP.CAP);
    structure.writeBigUInt64LE(BigInt(argument), ENABLE_CAP.ARGS);
    ioctl(this.fd, "KVM_ENABLE_CAP", KVM.ENABLE_CAP, structure);
  }

  /** Makes a memory slot; returns its number. @throws SystemError */
  addSlot(slot: MemorySlot): number {
    let number = this.slots.indexOf(false);
    if (number < 0) {
      number = this.slots.length;
    }
    this.setSlot(number, slot);
    this.slots[number] = true;
    return number;
  }

  /** Takes a memory slot away. Its range is to be that of the memory that was given. @throws SystemError */
  removeSlot(number: number): void {
    this.setSlot(number, { guestAddress: 0, bytes: 0, userAddress: 0n, readOnly: false });
    this.slots[number] = false;
  }

  private setSlot(number: number, slot: MemorySlot): void {
    const region = Buffer.alloc(MEMORY_REGION.BYTES);
    region.writeUInt32LE(number, MEMORY_REGION.SLOT);
    region.writeUInt32LE(slot.readOnly ? MEM_READONLY : 0, MEMORY_REGION.FLAGS);
    region.writeBigUInt64LE(BigInt(slot.guestAddress), MEMORY_REGION.GUEST_ADDRESS);
    region.writeBigUInt64LE(BigInt(slot.bytes), MEMORY_REGION.SIZE);
    region.writeBigUInt64LE(slot.userAddress, MEMORY_REGION.USER_ADDRESS);
    ioctl(this.fd, "KVM_SET_USER_MEMORY_REGION", KVM.SET_USER_MEMORY_REGION, region);
  }

  /**
   * KVM_SIGNAL_MSI. False: nobody takes the message. A guest says where its messages go, and may say what the kernel
   * refuses (an address that no interrupt controller has, an ITS that is off): as on a bus, the message is lost.
   */
  signal({ address, data, deviceId }: KvmMessage): boolean {
    const { message } = this;
    message.writeUInt32LE(Number(address & 0xffff_ffffn), MSI.ADDRESS_LOW);
    message.writeUInt32LE(Number(address >> 32n), MSI.ADDRESS_HIGH);
    message.writeUInt32LE(data >>> 0, MSI.DATA);
    message.writeUInt32LE(deviceId === undefined ? 0 : MSI_VALID_DEVID, MSI.FLAGS);
    message.writeUInt32LE(deviceId ?? 0, MSI.DEVID);
    try {
      return ioctl(this.fd, "KVM_SIGNAL_MSI", KVM.SIGNAL_MSI, message) > 0;
    } catch (error) {
      if (error instanceof SystemError) {
        return false;
      }
      throw error;
    }
  }

  /** KVM_SET_GSI_ROUTING: replaces the whole table; routes by GSI. @throws SystemError, then the table is as before */
  setRoutes(routes: ReadonlyMap<number, GsiRoute>): void {
    const table = Buffer.alloc(IRQ_ROUTING.HEADER_BYTES + routes.size * IRQ_ROUTING.ENTRY_BYTES);
    table.writeUInt32LE(routes.size, IRQ_ROUTING.NR);
    let at = IRQ_ROUTING.HEADER_BYTES;
    for (const [gsi, route] of routes) {
      table.writeUInt32LE(gsi, at + IRQ_ROUTING.GSI);
      if ("pin" in route) {
        table.writeUInt32LE(IRQ_ROUTING_IRQCHIP, at + IRQ_ROUTING.TYPE);
        table.writeUInt32LE(route.pin, at + IRQ_ROUTING.PIN);
      } else {
        table.writeUInt32LE(IRQ_ROUTING_MSI, at + IRQ_ROUTING.TYPE);
        table.writeUInt32LE(route.deviceId === undefined ? 0 : MSI_VALID_DEVID, at + IRQ_ROUTING.FLAGS);
        table.writeUInt32LE(Number(route.address & 0xffff_ffffn), at + IRQ_ROUTING.MSI_ADDRESS_LOW);
        table.writeUInt32LE(Number(route.address >> 32n), at + IRQ_ROUTING.MSI_ADDRESS_HIGH);
        table.writeUInt32LE(route.data >>> 0, at + IRQ_ROUTING.MSI_DATA);
        table.writeUInt32LE(route.deviceId ?? 0, at + IRQ_ROUTING.MSI_DEVID);
      }
      at += IRQ_ROUTING.ENTRY_BYTES;
    }
    ioctl(this.fd, "KVM_SET_GSI_ROUTING", KVM.SET_GSI_ROUTING, table);
  }

  /**
   * KVM_IRQFD: signals of an eventfd raise a GSI from now on, those that wait in its count too.
   * @param resampleFd the GSI is a level: it stays up until the guest has finished with it, which signals that eventfd
   * @throws SystemError
   */
  bindIrq(fd: number, gsi: number, resampleFd: number | null = null): void {
    this.irqfd(fd, gsi, resampleFd === null ? 0 : IRQFD_FLAG.RESAMPLE, resampleFd ?? 0);
  }

  /** Takes that back: what comes from now on stays in the eventfd's count. @throws SystemError */
  unbindIrq(fd: number, gsi: number): void {
    this.irqfd(fd, gsi, IRQFD_FLAG.DEASSIGN, 0);
  }

  private irqfd(fd: number, gsi: number, flags: number, resampleFd: number): void {
    const structure = Buffer.alloc(IRQFD.BYTES);
    structure.writeUInt32LE(fd, IRQFD.FD);
    structure.writeUInt32LE(gsi, IRQFD.GSI);
    structure.writeUInt32LE(flags, IRQFD.FLAGS);
    structure.writeUInt32LE(resampleFd, IRQFD.RESAMPLE_FD);
    ioctl(this.fd, "KVM_IRQFD", KVM.IRQFD, structure);
  }

  /** Processors that a machine may have. */
  get mostVcpus(): number {
    return this.extension(CAP.MAX_VCPUS);
  }

  /** Bytes of a vCPU's shared pages. */
  get runBytes(): number {
    return ioctl(this.device, "KVM_GET_VCPU_MMAP_SIZE", KVM.GET_VCPU_MMAP_SIZE);
  }

  /** Closes the machine; its memory slots and vCPUs go with the last of their descriptors. */
  close(): void {
    closeFd(this.fd);
    closeFd(this.device);
  }
}

/** Opens /dev/kvm. @throws Refusal with what would make it there */
function openDevice(): number {
  try {
    return openFile(DEVICE);
  } catch (error) {
    if (!(error instanceof SystemError)) {
      throw error;
    }
    throw new Refusal(`Could not access KVM kernel module: ${words(error)}`, { found: `${DEVICE}: ${error.code}`, wouldWork: cure(error) });
  }
}

function words(error: SystemError): string {
  switch (error.code) {
    case "ENOENT":
      return "No such file or directory";
    case "EACCES":
      return "Permission denied";
    default:
      return error.message;
  }
}

function cure(error: SystemError): string {
  if (error.code === "EACCES" || error.code === "EPERM") {
    return "membership of the group that owns /dev/kvm (often kvm), or root";
  }
  const module = process.arch === "x64" ? (processorIs("AuthenticAMD") ? "kvm-amd" : "kvm-intel") : "KVM built into the kernel";
  if (error.code === "ENOENT" && existsSync("/sys/hypervisor") && !canLoad()) {
    return "nested virtualization for the virtual machine that this is, or a machine with KVM";
  }
  return process.arch === "x64"
    ? `modprobe ${module}; where it says "Operation not supported": virtualization switched on in the firmware, or nested virtualization in the hypervisor below`
    : `a kernel with ${module}, started at EL2; in a virtual machine: nested virtualization`;
}

function processorIs(vendor: string): boolean {
  return cpuinfo().includes(vendor);
}

function canLoad(): boolean {
  return /\b(vmx|svm)\b/.test(cpuinfo());
}

function cpuinfo(): string {
  try {
    accessSync("/proc/cpuinfo", constants.R_OK);
    return readFileSync("/proc/cpuinfo", "latin1");
  } catch {
    return "";
  }
}
