/** An x86 processor as a kernel's 64-bit entry wants it (Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). */
import { ioctl } from "../../linux/index.js";
import { CPUID2, DTABLE, KVM_X86, REGS, SEGMENT, SREGS } from "../uapi.js";
import type { KvmVm } from "../vm.js";

/** Where a kernel is entered, and what is in memory for it. Guest-physical addresses. */
export interface X86Entry {
  readonly instruction: number;
  /** struct boot_params: RSI. */
  readonly bootParameters: number;
  /** A page map level 4 that maps low memory one to one. */
  readonly pageTables: number;
  /** Descriptors as `GDT` says. */
  readonly descriptors: number;
}

/** The descriptor table that the entry needs: flat code at 0x10, flat data at 0x18 (SDM 3A, 3.4.5). */
export const GDT: readonly bigint[] = [0n, 0n, 0x00af_9a00_0000_ffffn, 0x00cf_9200_0000_ffffn];
const CODE = 0x10;
const DATA = 0x18;

/** CR0.PE, ET, NE, WP, AM, PG, MP; CR4.PAE; EFER.LME, LMA (SDM 3A, 2.5 and 2.2.1). */
const CR0 = 0x8005_0033;
const CR4 = 0x20;
const EFER = 0x500;

/** Segment types (SDM 3A, 3.4.5.1): code, execute and read, accessed; data, read and write, accessed; busy TSS. */
const TYPE_CODE = 11;
const TYPE_DATA = 3;
const TYPE_TSS = 11;

/** Puts the first processor at the kernel's entry. @throws SystemError */
export function enterKernel(vcpu: number, entry: X86Entry): void {
  const special = Buffer.alloc(SREGS.BYTES);
  ioctl(vcpu, "KVM_GET_SREGS", KVM_X86.GET_SREGS, special);
  setSegment(special, SREGS.CS, CODE, TYPE_CODE, true);
  for (const at of [SREGS.DS, SREGS.ES, SREGS.FS, SREGS.GS, SREGS.SS]) {
    setSegment(special, at, DATA, TYPE_DATA, false);
  }
  special.writeUInt8(TYPE_TSS, SREGS.TR + SEGMENT.TYPE);
  special.writeBigUInt64LE(BigInt(entry.descriptors), SREGS.GDT + DTABLE.BASE);
  special.writeUInt16LE(GDT.length * 8 - 1, SREGS.GDT + DTABLE.LIMIT);
  special.writeBigUInt64LE(BigInt(CR0), SREGS.CR0);
  special.writeBigUInt64LE(BigInt(entry.pageTables), SREGS.CR3);
  special.writeBigUInt64LE(BigInt(CR4), SREGS.CR4);
  special.writeBigUInt64LE(BigInt(EFER), SREGS.EFER);
  ioctl(vcpu, "KVM_SET_SREGS", KVM_X86.SET_SREGS, special);
  const registers = Buffer.alloc(REGS.BYTES);
  registers.writeBigUInt64LE(BigInt(entry.bootParameters), REGS.RSI);
  registers.writeBigUInt64LE(BigInt(entry.instruction), REGS.RIP);
  registers.writeBigUInt64LE(2n, REGS.RFLAGS);
  ioctl(vcpu, "KVM_SET_REGS", KVM_X86.SET_REGS, registers);
}

function setSegment(special: Buffer, at: number, selector: number, type: number, code: boolean): void {
  special.writeBigUInt64LE(0n, at + SEGMENT.BASE);
  special.writeUInt32LE(0xffff_ffff, at + SEGMENT.LIMIT);
  special.writeUInt16LE(selector, at + SEGMENT.SELECTOR);
  special.writeUInt8(type, at + SEGMENT.TYPE);
  special.writeUInt8(1, at + SEGMENT.PRESENT);
  special.writeUInt8(0, at + SEGMENT.DPL);
  special.writeUInt8(code ? 0 : 1, at + SEGMENT.DB);
  special.writeUInt8(1, at + SEGMENT.S);
  special.writeUInt8(code ? 1 : 0, at + SEGMENT.L);
  special.writeUInt8(1, at + SEGMENT.G);
  special.writeUInt8(0, at + SEGMENT.UNUSABLE);
}

/** Where a VM without a firmware's help keeps what VMX needs below 4 GiB: unused on the board. */
export interface X86Places {
  /** Three pages. */
  readonly tss: number;
  /** One page. */
  readonly identityMap: number;
}

/** The machine's part: before any vCPU is made. @throws SystemError */
export function prepareX86(vm: KvmVm, places: X86Places): void {
  ioctl(vm.fd, "KVM_SET_TSS_ADDR", KVM_X86.SET_TSS_ADDR, places.tss);
  const address = Buffer.alloc(8);
  address.writeBigUInt64LE(BigInt(places.identityMap));
  ioctl(vm.fd, "KVM_SET_IDENTITY_MAP_ADDR", KVM_X86.SET_IDENTITY_MAP_ADDR, address);
}

const CPUID_ROOM = 256;
/** CPUID.1:ECX: TSC-deadline timer, hypervisor present. */
const TSC_DEADLINE = 1 << 24;
const HYPERVISOR = 1 << 31;
/** Leaf 0x40000001, EAX: destinations of messages in bits 11:5 of the address' upper part (KVM_FEATURE_MSI_EXT_DEST_ID). */
const KVM_FEATURES = 0x4000_0001;
const EXTENDED_DESTINATION = 1 << 15;

/** Gives each vCPU the host's features with its own APIC id and the number of its siblings. @throws SystemError */
export function setFeatures(vm: KvmVm, vcpu: number, apicId: number, count: number): void {
  const table = Buffer.alloc(CPUID2.HEADER_BYTES + CPUID_ROOM * CPUID2.ENTRY_BYTES);
  table.writeUInt32LE(CPUID_ROOM, CPUID2.NENT);
  ioctl(vm.device, "KVM_GET_SUPPORTED_CPUID", KVM_X86.GET_SUPPORTED_CPUID, table);
  const entries = table.readUInt32LE(CPUID2.NENT);
  const change = (at: number, register: number, act: (value: number) => number): void => {
    table.writeUInt32LE(act(table.readUInt32LE(at + register)) >>> 0, at + register);
  };
  for (let entry = 0; entry < entries; entry++) {
    const at = CPUID2.HEADER_BYTES + entry * CPUID2.ENTRY_BYTES;
    switch (table.readUInt32LE(at + CPUID2.FUNCTION)) {
      case 1:
        // SDM 2A, CPUID: EBX[31:24] the initial APIC id, EBX[23:16] logical processors of the package.
        change(at, CPUID2.EBX, (ebx) => (ebx & 0xffff) | (Math.min(count, 255) << 16) | (apicId << 24));
        change(at, CPUID2.ECX, (ecx) => ecx | TSC_DEADLINE | HYPERVISOR);
        break;
      case 0xb:
      case 0x1f:
        change(at, CPUID2.EDX, () => apicId);
        break;
      case 0x8000_001e:
        change(at, CPUID2.EAX, () => apicId);
        break;
      case KVM_FEATURES:
        change(at, CPUID2.EAX, (eax) => eax | EXTENDED_DESTINATION);
        break;
    }
  }
  ioctl(vcpu, "KVM_SET_CPUID2", KVM_X86.SET_CPUID2, table);
}
