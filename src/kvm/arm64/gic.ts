/** KVM's GICv3 and ITS (Linux Documentation/virt/kvm/devices/arm-vgic-v3.rst, arm-vgic-its.rst), and lines into it. */
import { closeFd, ioctl, SystemError } from "../../linux/index.js";
import { Refusal } from "../../support/index.js";
import { createDevice, setAttribute, u32, u64 } from "../device.js";
import { ARM_IRQ, DEVICE_TYPE, IRQ_LEVEL, KVM_ARM, VGIC } from "../uapi.js";
import type { KvmVm } from "../vm.js";

/** Guest-physical addresses. */
export interface GicPlaces {
  readonly distributor: number;
  /** A frame of 128 KiB for each vCPU, one after the other. */
  readonly redistributors: number;
  /** Null: the machine has no ITS. */
  readonly its: number | null;
}

/** Descriptors of the kernel's devices: they live as long as their VM, whether closed or not. */
export class KvmGic {
  private readonly fds: number[] = [];
  private readonly level = Buffer.alloc(IRQ_LEVEL.BYTES);

  /**
   * Makes the devices. All vCPUs are to be there, and no other can be made after.
   * @param lines interrupts by number: 32 of each processor, and those that are shared
   * @throws Refusal where the host has no GICv3; SystemError. Nothing is left open
   */
  constructor(
    private readonly vm: KvmVm,
    places: GicPlaces,
    lines: number,
  ) {
    try {
      const gic = this.make(DEVICE_TYPE.ARM_VGIC_V3, "a GICv3");
      setAttribute(gic, VGIC.GROUP_NR_IRQS, 0, u32(lines));
      setAttribute(gic, VGIC.GROUP_ADDRESS, VGIC.ADDRESS_DIST, u64(places.distributor));
      setAttribute(gic, VGIC.GROUP_ADDRESS, VGIC.ADDRESS_REDIST, u64(places.redistributors));
      setAttribute(gic, VGIC.GROUP_CTRL, VGIC.CTRL_INIT, null);
      if (places.its !== null) {
        const its = this.make(DEVICE_TYPE.ARM_VGIC_ITS, "an ITS");
        setAttribute(its, VGIC.GROUP_ADDRESS, VGIC.ADDRESS_ITS, u64(places.its));
        setAttribute(its, VGIC.GROUP_CTRL, VGIC.CTRL_INIT, null);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  private make(type: number, what: string): number {
    let fd: number;
    try {
      fd = createDevice(this.vm, type);
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENODEV") {
        throw new Refusal(`kvm: the host's interrupt controller cannot give a guest ${what}`, { found: "KVM_CREATE_DEVICE: ENODEV", wouldWork: "a host with a GICv3, or newer" });
      }
      throw error;
    }
    this.fds.push(fd);
    return fd;
  }

  /** Sets a shared line, by INTID (32 and up). @throws SystemError */
  setLine(intid: number, high: boolean): void {
    const { level } = this;
    level.writeUInt32LE(((ARM_IRQ.TYPE_SPI << ARM_IRQ.TYPE_SHIFT) | intid) >>> 0, IRQ_LEVEL.IRQ);
    level.writeUInt32LE(high ? 1 : 0, IRQ_LEVEL.LEVEL);
    ioctl(this.vm.fd, "KVM_IRQ_LINE", KVM_ARM.IRQ_LINE, level);
  }

  close(): void {
    this.fds.splice(0).forEach((fd) => closeFd(fd));
  }
}
