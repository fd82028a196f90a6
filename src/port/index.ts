/**
 * A machine as its guest sees it: memory-mapped registers, RAM, interrupts, and where the firmware put its
 * tables. viommu's own machine implements it in the process; a QEMU behind a qtest socket can too, so every
 * call is asynchronous.
 */
export type AccessSize = 1 | 2 | 4 | 8;

export type Interrupt =
  /** Shared peripheral interrupt by its GIC INTID (32 and up). */
  | { readonly kind: "spi"; readonly intid: number }
  /** Message that reached the ITS: device id (requester id) and event id. */
  | { readonly kind: "msi"; readonly deviceId: number; readonly eventId: number };

export interface FirmwareTables {
  /** Guest-physical address of the flattened device tree; null: none. */
  readonly deviceTree: number | null;
  /** Guest-physical address of the ACPI root (RSDP); null: none. */
  readonly acpiRoot: number | null;
}

export interface MachinePort {
  /** One CPU access, naturally aligned, to a guest-physical address. */
  read(address: number, size: AccessSize): Promise<bigint>;
  write(address: number, size: AccessSize, value: bigint): Promise<void>;
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
