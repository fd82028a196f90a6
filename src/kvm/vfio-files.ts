/**
 * KVM's VFIO device (Linux Documentation/virt/kvm/devices/vfio.rst): the functions of the host that a VM has. KVM learns
 * from it whether there is DMA that is not coherent, which changes what a guest's cache attributes mean (x86).
 */
import { closeFd } from "../linux/index.js";
import { createDevice, setAttribute, u32 } from "./device.js";
import { DEV_VFIO, DEVICE_TYPE } from "./uapi.js";
import type { KvmVm } from "./vm.js";

export class KvmVfio {
  private readonly fd: number;

  /** @throws SystemError where the kernel has no such device (ENODEV) */
  constructor(vm: Pick<KvmVm, "fd">) {
    this.fd = createDevice(vm, DEVICE_TYPE.VFIO);
  }

  /** The VM has a function, by the descriptor of its VFIO device. @throws SystemError */
  add(file: number): void {
    setAttribute(this.fd, DEV_VFIO.FILE, DEV_VFIO.FILE_ADD, u32(file));
  }

  /** Before that descriptor is closed. @throws SystemError */
  remove(file: number): void {
    setAttribute(this.fd, DEV_VFIO.FILE, DEV_VFIO.FILE_DEL, u32(file));
  }

  /** The functions stay the VM's until that goes. */
  close(): void {
    closeFd(this.fd);
  }
}
