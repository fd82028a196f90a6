/**
 * A machine as its guest sees it: memory-mapped registers, RAM, interrupts, and where the firmware put its
 * tables. viommu's own machine implements it in the process; a QEMU behind a qtest socket can too, so every
 * call is asynchronous.
 */
export type AccessSize = 1 | 2 | 4 | 8;

/** Width of an access to I/O port space, in bytes. */
export type PortSize = 1 | 2 | 4;

export type Interrupt =
  /** Shared peripheral interrupt by its GIC INTID (32 and up). */
  | { readonly kind: "spi"; readonly intid: number }
  /** Message that reached the ITS: device id (requester id) and event id. */
  | { readonly kind: "msi"; readonly deviceId: number; readonly eventId: number }
  /**
   * Vector that reached local APICs (x86), of a message or an IOAPIC's pin, after interrupt remapping: the APIC ID
   * that it is for, or a logical destination (Intel SDM 3A, 11.11).
   */
  | { readonly kind: "vector"; readonly vector: number; readonly destination: number; readonly logical: boolean };

export interface FirmwareTables {
  /** Guest-physical address of the flattened device tree; null: none. */
  readonly deviceTree: number | null;
  /** Guest-physical address of the ACPI root (RSDP); null: none. */
  readonly acpiRoot: number | null;
  /** Address ranges as INT 15h, E820h gives them (ACPI 6.5, 15.1); not there: the tables hold RAM. */
  readonly memoryMap?: readonly MemoryMapEntry[];
  /** Memory that a host bridge hands down, as _CRS of its AML object would tell; not there: the tables hold it. */
  readonly pciWindows?: readonly PciWindow[];
  /** Why a table is not there; not there: the machine has them all. */
  readonly missing?: string;
}

export interface MemoryMapEntry {
  readonly base: number;
  /** Bytes. */
  readonly size: number;
  /** ACPI 6.5, table 15.5: 1 usable, 2 reserved, 3 ACPI tables. */
  readonly type: 1 | 2 | 3;
}

export interface PciWindow {
  readonly base: number;
  /** Bytes. */
  readonly size: number;
}

export interface MachinePort {
  /** Vectors stay pending where no CPU takes them: each is told once after a reset. What signals again is to be polled. */
  readonly vectorsOnce?: boolean;
  /** One CPU access, naturally aligned, to a guest-physical address. */
  read(address: number, size: AccessSize): Promise<bigint>;
  write(address: number, size: AccessSize, value: bigint): Promise<void>;
  /** One CPU access to I/O port space; missing where the architecture has none. */
  readPort?(port: number, size: PortSize): Promise<number>;
  writePort?(port: number, size: PortSize, value: number): Promise<void>;
  /** RAM, any length. */
  readMemory(address: number, length: number): Promise<Uint8Array>;
  writeMemory(address: number, data: Uint8Array): Promise<void>;
  /** Takes the interrupts that have come since the last call, oldest first. Lets the machine finish what is under way before. */
  interrupts(): Promise<Interrupt[]>;
  firmware(): Promise<FirmwareTables>;
}

/** What an administrator does to a running machine from outside (QMP's part). Refusals are thrown as Refusal. */
export interface MachineOperator {
  /** Asks the guest to give a device up (device_del); completes when the guest has let go of it or at once where nothing asks. */
  requestUnplug(id: string): Promise<void>;
  /** Plugs a device by its QEMU spelling without `-device` (device_add). */
  plug(argument: string): Promise<void>;
  /** True while a device of that id is plugged. */
  isPlugged(id: string): Promise<boolean>;
  /** system_reset. */
  reset(): Promise<void>;
}
export type { PinDevice, PinListener, SteppedClock } from "./pins.js";
