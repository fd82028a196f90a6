/** Devices that the kernel has for a VM (Linux Documentation/virt/kvm/api.rst, KVM_CREATE_DEVICE, KVM_SET_DEVICE_ATTR). */
import { addressOf, ioctl } from "../linux/index.js";
import { CREATE_DEVICE, DEVICE_ATTR, KVM } from "./uapi.js";

/** Makes a device; returns its descriptor: the device lives as long as its VM, whether that is closed or not. @throws SystemError */
export function createDevice(vm: { readonly fd: number }, type: number): number {
  const device = Buffer.alloc(CREATE_DEVICE.BYTES);
  device.writeUInt32LE(type, CREATE_DEVICE.TYPE);
  ioctl(vm.fd, "KVM_CREATE_DEVICE", KVM.CREATE_DEVICE, device);
  return device.readInt32LE(CREATE_DEVICE.FD);
}

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

export const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

/** Sets a device's attribute; null: one without a value. @throws SystemError */
export function setAttribute(fd: number, group: number, attribute: number, value: Buffer | null): void {
  const structure = Buffer.alloc(DEVICE_ATTR.BYTES);
  structure.writeUInt32LE(group, DEVICE_ATTR.GROUP);
  structure.writeBigUInt64LE(BigInt(attribute), DEVICE_ATTR.ATTR);
  structure.writeBigUInt64LE(value === null ? 0n : addressOf(value), DEVICE_ATTR.ADDRESS);
  ioctl(fd, "KVM_SET_DEVICE_ATTR", KVM.SET_DEVICE_ATTR, structure);
}
