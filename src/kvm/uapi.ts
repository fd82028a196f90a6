/** Numbers of Linux's linux/kvm.h, by its names without KVM_. A request's number holds its structure's size, so some differ by architecture. */

/** ioctls of every architecture. */
export const KVM = {
  GET_API_VERSION: 0xae00,
  CREATE_VM: 0xae01,
  CHECK_EXTENSION: 0xae03,
  GET_VCPU_MMAP_SIZE: 0xae04,
  CREATE_VCPU: 0xae41,
  SET_USER_MEMORY_REGION: 0x4020ae46,
  REGISTER_COALESCED_MMIO: 0x4010ae67,
  SET_GSI_ROUTING: 0x4008ae6a,
  IRQFD: 0x4020ae76,
  RUN: 0xae80,
  ENABLE_CAP: 0x4068aea3,
  SIGNAL_MSI: 0x4020aea5,
  CREATE_DEVICE: 0xc00caee0,
  SET_DEVICE_ATTR: 0x4018aee1,
} as const;

/** ioctls of arm64 (asm/kvm.h's structures). */
export const KVM_ARM = {
  IRQ_LINE: 0x4008ae61,
  SET_VCPU_EVENTS: 0x4040aea0,
  GET_ONE_REG: 0x4010aeab,
  SET_ONE_REG: 0x4010aeac,
  VCPU_INIT: 0x4020aeae,
  PREFERRED_TARGET: 0x8020aeaf,
} as const;

/** ioctls of x86 (asm/kvm.h's structures). */
export const KVM_X86 = {
  GET_SUPPORTED_CPUID: 0xc008ae05,
  SET_TSS_ADDR: 0xae47,
  SET_IDENTITY_MAP_ADDR: 0x4008ae48,
  SET_REGS: 0x4090ae82,
  GET_SREGS: 0x8138ae83,
  SET_SREGS: 0x4138ae84,
  SET_CPUID2: 0x4008ae90,
} as const;

export const KVM_API_VERSION = 12;

export const CAP = {
  /** Its value is the page of the ring behind a vCPU's shared ones. */
  COALESCED_MMIO: 15,
  IRQ_ROUTING: 25,
  MAX_VCPUS: 66,
  READONLY_MEM: 81,
  IRQFD_RESAMPLE: 82,
  SPLIT_IRQCHIP: 121,
  X2APIC_API: 129,
  COALESCED_PIO: 162,
  ARM_VM_IPA_SIZE: 165,
  ARM_NISV_TO_USER: 177,
  ARM_INJECT_EXT_DABT: 178,
} as const;

/** Arguments of CAP.X2APIC_API. */
export const X2APIC_API = { USE_32BIT_IDS: 1 << 0, DISABLE_BROADCAST_QUIRK: 1 << 1 } as const;

export const MEM_READONLY = 1 << 1;

export const EXIT = {
  UNKNOWN: 0,
  IO: 2,
  HLT: 5,
  MMIO: 6,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  ARM_NISV: 28,
} as const;

export const INTERNAL_ERROR = { EMULATION: 1, SIMUL_EX: 2, DELIVERY_EV: 3, UNEXPECTED_EXIT_REASON: 4 } as const;
export const EXIT_IO_OUT = 1;
/** What EXIT.SYSTEM_EVENT is about. */
export const SYSTEM_EVENT = { SHUTDOWN: 1, RESET: 2, CRASH: 3 } as const;

/** Byte offsets in struct kvm_run. */
export const RUN = {
  IMMEDIATE_EXIT: 1,
  EXIT_REASON: 8,
  /** EXIT.IO */
  IO: { DIRECTION: 32, SIZE: 33, PORT: 34, COUNT: 36, DATA_OFFSET: 40 },
  /** EXIT.MMIO */
  MMIO: { ADDRESS: 32, DATA: 40, LENGTH: 48, IS_WRITE: 52 },
  /** EXIT.FAIL_ENTRY: u64 */
  FAIL_ENTRY_REASON: 32,
  /** EXIT.INTERNAL_ERROR */
  INTERNAL: { SUBERROR: 32, NDATA: 36, DATA: 40 },
  /** EXIT.IOAPIC_EOI: u8 */
  EOI_VECTOR: 32,
  /** EXIT.SYSTEM_EVENT: u32 */
  SYSTEM_EVENT_TYPE: 32,
  /** EXIT.ARM_NISV: an access whose instruction tells neither width nor register, by address. */
  ARM_NISV: { ESR_ISS: 32, FAULT_ADDRESS: 40 },
} as const;

/** Bytes of structures, and byte offsets in them. */
export const MEMORY_REGION = { BYTES: 32, SLOT: 0, FLAGS: 4, GUEST_ADDRESS: 8, SIZE: 16, USER_ADDRESS: 24 } as const;
export const COALESCED_ZONE = { BYTES: 16, ADDRESS: 0, SIZE: 8, PIO: 12 } as const;
/** struct kvm_coalesced_mmio_ring, and struct kvm_coalesced_mmio behind it. */
export const COALESCED_RING = { FIRST: 0, LAST: 4, ENTRIES: 8, ENTRY: { BYTES: 24, ADDRESS: 0, LENGTH: 8, PIO: 12, DATA: 16 } } as const;
export const ENABLE_CAP = { BYTES: 104, CAP: 0, ARGS: 8 } as const;
export const MSI = { BYTES: 32, ADDRESS_LOW: 0, ADDRESS_HIGH: 4, DATA: 8, FLAGS: 12, DEVID: 16 } as const;
export const MSI_VALID_DEVID = 1 << 0;
export const IRQ_ROUTING = { HEADER_BYTES: 8, NR: 0, ENTRY_BYTES: 48, GSI: 0, TYPE: 4, FLAGS: 8, CHIP: 16, PIN: 20, MSI_ADDRESS_LOW: 16, MSI_ADDRESS_HIGH: 20, MSI_DATA: 24, MSI_DEVID: 28 } as const;
export const IRQ_ROUTING_IRQCHIP = 1;
export const IRQ_ROUTING_MSI = 2;
export const IRQFD = { BYTES: 32, FD: 0, GSI: 4, FLAGS: 8, RESAMPLE_FD: 12 } as const;
export const IRQFD_FLAG = { DEASSIGN: 1 << 0, RESAMPLE: 1 << 1 } as const;
export const CPUID2 = { HEADER_BYTES: 8, NENT: 0, ENTRY_BYTES: 40, FUNCTION: 0, INDEX: 4, FLAGS: 8, EAX: 12, EBX: 16, ECX: 20, EDX: 24 } as const;
/** struct kvm_regs: 64-bit registers in this order, then rip and rflags. */
export const REGS = { BYTES: 144, RSI: 32, RSP: 48, RIP: 128, RFLAGS: 136 } as const;
/** struct kvm_sregs. */
export const SREGS = { BYTES: 312, CS: 0, DS: 24, ES: 48, FS: 72, GS: 96, SS: 120, TR: 144, LDT: 168, GDT: 192, IDT: 208, CR0: 224, CR3: 240, CR4: 248, EFER: 264, APIC_BASE: 272 } as const;
/** struct kvm_segment. */
export const SEGMENT = { BASE: 0, LIMIT: 8, SELECTOR: 12, TYPE: 14, PRESENT: 15, DPL: 16, DB: 17, S: 18, L: 19, G: 20, UNUSABLE: 22 } as const;
/** struct kvm_dtable. */
export const DTABLE = { BASE: 0, LIMIT: 8 } as const;
/** struct kvm_vcpu_init of arm64: a target and a bit for each feature. */
export const VCPU_INIT = { BYTES: 32, TARGET: 0, FEATURES: 4 } as const;
/** Bits of VCPU_INIT.FEATURES. */
export const VCPU_FEATURE = { POWER_OFF: 0, PSCI_0_2: 2 } as const;
export const ONE_REG = { BYTES: 16, ID: 0, ADDRESS: 8 } as const;
/** struct kvm_irq_level, and the fields of its number on arm64. */
export const IRQ_LEVEL = { BYTES: 8, IRQ: 0, LEVEL: 4 } as const;
export const ARM_IRQ = { TYPE_SHIFT: 24, TYPE_SPI: 1 } as const;
/** struct kvm_vcpu_events of arm64. */
export const VCPU_EVENTS = { BYTES: 64, EXT_DABT_PENDING: 2 } as const;
export const CREATE_DEVICE = { BYTES: 12, TYPE: 0, FD: 4 } as const;
export const DEVICE_ATTR = { BYTES: 24, GROUP: 4, ATTR: 8, ADDRESS: 16 } as const;
export const DEVICE_TYPE = { VFIO: 4, ARM_VGIC_V3: 7, ARM_VGIC_ITS: 8 } as const;
/** Groups and attributes of the VFIO device. */
export const DEV_VFIO = { FILE: 1, FILE_ADD: 1, FILE_DEL: 2 } as const;
/** Groups and attributes of both. */
export const VGIC = {
  GROUP_ADDRESS: 0,
  GROUP_NR_IRQS: 3,
  GROUP_CTRL: 4,
  CTRL_INIT: 0,
  ADDRESS_DIST: 2,
  ADDRESS_REDIST: 3,
  ADDRESS_ITS: 4,
} as const;
/** Ids of KVM_SET_ONE_REG and KVM_GET_ONE_REG: 64-bit registers of struct kvm_regs, xN at X0 + 2 N; a system register. */
export const ARM_REGISTER = { X0: 0x6030000000100000n, PC: 0x6030000000100040n, ID_AA64MMFR2_EL1: 0x603000000013c03an } as const;
