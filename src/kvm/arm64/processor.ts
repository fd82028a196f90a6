/** An arm64 processor as a kernel's entry wants it (Linux Documentation/arch/arm64/booting.rst): EL1, MMU off, interrupts masked, which is what KVM resets one to. */
import { addressOf, ioctl } from "../../linux/index.js";
import { Refusal } from "../../support/index.js";
import { ARM_REGISTER, CAP, KVM_ARM, ONE_REG, VCPU_EVENTS, VCPU_FEATURE, VCPU_INIT } from "../uapi.js";
import type { KvmVm } from "../vm.js";

/** Where a kernel is entered, and what it is given. Guest-physical addresses. */
export interface Arm64Entry {
  readonly instruction: number;
  readonly deviceTree: number;
}

/** Bits of a guest-physical address that KVM gives a machine which does not ask for more. */
const DEFAULT_ADDRESS_BITS = 40;

/**
 * KVM_CREATE_VM's machine type: bits of a guest-physical address.
 * @param most what the kernel offers (CAP.ARM_VM_IPA_SIZE); 0: the default alone
 * @throws Refusal where the machine needs more than there are
 */
export function arm64MachineType(needed: number, most: number): number {
  if (needed <= DEFAULT_ADDRESS_BITS && (most === 0 || most >= DEFAULT_ADDRESS_BITS)) {
    return 0;
  }
  if (needed > (most === 0 ? DEFAULT_ADDRESS_BITS : most)) {
    throw new Refusal(`requested IPA size ${needed} is not supported by KVM`, {
      found: `memory, configuration space and PCI windows up to 2^${needed}; the kernel has ${most === 0 ? DEFAULT_ADDRESS_BITS : most} bits`,
      wouldWork: "a smaller highmem-mmio-size, less memory, or highmem=off",
    });
  }
  return needed;
}

/** Before the first vCPU is made: accesses that tell no register come here (they would fail KVM_RUN else). */
export function prepareArm64(vm: KvmVm): void {
  if (vm.extension(CAP.ARM_NISV_TO_USER) > 0) {
    vm.enable(CAP.ARM_NISV_TO_USER, 0);
  }
}

/** Gives all vCPUs the host's features and PSCI 1.x; the first is on, the others wait for CPU_ON in the kernel. @throws SystemError */
export function initVcpus(vm: KvmVm, vcpus: ReadonlyArray<{ readonly fd: number; readonly index: number }>): void {
  for (const { fd, index } of vcpus) {
    const init = Buffer.alloc(VCPU_INIT.BYTES);
    ioctl(vm.fd, "KVM_ARM_PREFERRED_TARGET", KVM_ARM.PREFERRED_TARGET, init);
    const features = init.readUInt32LE(VCPU_INIT.FEATURES) | (1 << VCPU_FEATURE.PSCI_0_2) | (index === 0 ? 0 : 1 << VCPU_FEATURE.POWER_OFF);
    init.writeUInt32LE(features, VCPU_INIT.FEATURES);
    ioctl(fd, "KVM_ARM_VCPU_INIT", KVM_ARM.VCPU_INIT, init);
  }
}

/** Puts the first processor at the kernel's entry: x0 the device tree, x1 to x3 zero. @throws SystemError */
export function enterArm64(vcpu: number, entry: Arm64Entry): void {
  setRegister(vcpu, ARM_REGISTER.PC, BigInt(entry.instruction));
  [BigInt(entry.deviceTree), 0n, 0n, 0n].forEach((value, n) => setRegister(vcpu, ARM_REGISTER.X0 + BigInt(2 * n), value));
}

function setRegister(vcpu: number, id: bigint, value: bigint): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  ioctl(vcpu, "KVM_SET_ONE_REG", KVM_ARM.SET_ONE_REG, oneRegister(id, bytes));
}

function oneRegister(id: bigint, bytes: Buffer): Buffer {
  const one = Buffer.alloc(ONE_REG.BYTES);
  one.writeBigUInt64LE(id, ONE_REG.ID);
  one.writeBigUInt64LE(addressOf(bytes), ONE_REG.ADDRESS);
  return one;
}

/**
 * The processors have FEAT_S2FWB (ID_AA64MMFR2_EL1.FWB, bits 43:40; Arm DDI 0487, D23.2.72): Linux's KVM uses it where all of
 * them have it, and shows a vCPU that was not told otherwise what all of them have. What the guest's stage 1 says of
 * memory does not make its accesses pass by the caches then.
 * @param vcpu one that is initialised
 * @throws SystemError
 */
export function stage2WritesBack(vcpu: number): boolean {
  const bytes = Buffer.alloc(8);
  ioctl(vcpu, "KVM_GET_ONE_REG", KVM_ARM.GET_ONE_REG, oneRegister(ARM_REGISTER.ID_AA64MMFR2_EL1, bytes));
  return ((bytes.readBigUInt64LE() >> 40n) & 0xfn) !== 0n;
}

/** The access that a vCPU has exited for ends in a synchronous external abort. False: the kernel cannot do that. @throws SystemError */
export function injectAbort(vm: KvmVm, vcpu: number): boolean {
  if (vm.extension(CAP.ARM_INJECT_EXT_DABT) === 0) {
    return false;
  }
  const events = Buffer.alloc(VCPU_EVENTS.BYTES);
  events.writeUInt8(1, VCPU_EVENTS.EXT_DABT_PENDING);
  ioctl(vcpu, "KVM_SET_VCPU_EVENTS", KVM_ARM.SET_VCPU_EVENTS, events);
  return true;
}
