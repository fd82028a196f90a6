import type { NumaDescription } from "./numa.js";

/** What firmware tables say of a machine; the device tree and ACPI are made of this one description. All addresses are guest-physical, in bytes. */
export interface FirmwareDescription {
  readonly ram: ReadonlyArray<{ readonly base: number; readonly size: number; readonly numaNode: number | null }>;
  readonly cpus: number;
  /** NUMA; null: the machine has no nodes. */
  readonly numa: (NumaDescription & { /** Node of each processor, those that may come too. */ readonly cpus: readonly number[] }) | null;
  readonly interrupts: InterruptHardware;
  readonly pci: PciHostDescription;
  readonly smmus: readonly SmmuDescription[];
  /** Root buses in order of creation: pcie.0 first, then the expanders'. */
  readonly rootBuses: readonly RootBusDescription[];
  readonly platform: PlatformDescription;
  /** The kernel that is started without firmware, which numbers buses after it has read the tables; null: a guest that numbers them before. */
  readonly boot: KernelBoot | null;
  /** IOVAs that functions behind accelerated SMMUs need mapped to the same guest-physical address: the host's MSI window. */
  readonly reservedWindow: { readonly base: number; readonly size: number };
}

/** Registers, in bytes, and the SPI as device trees count: INTID - 32. */
export interface PlatformDevice {
  readonly base: number;
  readonly size: number;
  readonly spi: number;
}

export interface PlatformDescription {
  /** PL011, the console first. */
  readonly uarts: readonly PlatformDevice[];
  /** PL031. */
  readonly rtc: PlatformDevice;
  /** PL061, whose input `powerKey` is the power button. */
  readonly gpio: PlatformDevice & { readonly powerKey: number };
  /** ACPI's generic event device. */
  readonly events: PlatformDevice;
}

/** What a kernel is told at its entry. */
export interface KernelBoot {
  readonly commandLine: string;
  /** The initial ramdisk; null: none. */
  readonly ramdisk: { readonly base: number; readonly size: number } | null;
}

export interface InterruptHardware {
  readonly gicVersion: 2 | 3;
  readonly distributor: { readonly base: number; readonly size: number };
  /** GICv3 redistributors, or the GICv2 CPU interface. */
  readonly second: { readonly base: number; readonly size: number };
  readonly its: { readonly base: number; readonly size: number } | null;
  readonly v2m: { readonly base: number; readonly size: number; /** The first of its `spis` SPIs, from 0. */ readonly spi: number; readonly spis: number } | null;
}

export interface PciHostDescription {
  readonly ecamBase: number;
  readonly ecamSize: number;
  readonly mmio32: { readonly base: number; readonly size: number };
  readonly mmio64: { readonly base: number; readonly size: number } | null;
  readonly pio: { readonly base: number; readonly size: number };
  /** First of the four SPIs (as device trees count: INTID - 32) of INTA to INTD. */
  readonly intxSpi: number;
}

export interface SmmuDescription {
  readonly base: number;
  readonly size: number;
  /** First of its four SPIs (INTID - 32): event queue, PRI queue, CMD_SYNC, global error. */
  readonly spi: number;
  readonly accelerated: boolean;
  readonly ats: boolean;
  /** Made by the machine property iommu=smmuv3: it serves every root bus that does not bypass. */
  readonly legacy: boolean;
}

export interface RootBusDescription {
  readonly number: number;
  /**
   * Lowest of its own number and the secondary bus numbers of the bridges on it, as they are programmed now: 0
   * while such a bridge has no number yet. IORT's ranges begin here, as QEMU's do (hw/pci/pci.c, pci_bus_range).
   */
  readonly lowest: number;
  /** Highest bus number below it, as bridges are programmed now. */
  readonly highest: number;
  /** Index in `smmus`; null: no SMMU, or bypassed. */
  readonly smmu: number | null;
  /** The last bus that may be below it: the next root bus follows, or configuration space ends. */
  readonly last: number;
  /** Its part of the host bridge's memory, of the 32-bit window first. */
  readonly windows: ReadonlyArray<{ readonly base: number; readonly size: number }>;
  /** NUMA node; null: not told. */
  readonly numaNode: number | null;
  /** What is on it, and what may come. */
  readonly functions: readonly PlacedFunction[];
}

/** A function by its place. In an empty slot stands the one that may be plugged there. */
export interface PlacedFunction {
  readonly devfn: number;
  /** What is behind a bridge; null: it is none. */
  readonly behind: readonly PlacedFunction[] | null;
}

/** Requester ids of a bus range: bus << 8 of the first to the last of the highest. */
export interface RequesterRange {
  readonly first: number;
  readonly count: number;
}

export const REQUESTER_IDS = 0x10000;

/** Requester ids of the buses `number` to `highest`. */
export function requesterRange(number: number, highest: number): RequesterRange {
  return { first: number << 8, count: (Math.max(number, highest) - number + 1) << 8 };
}

/** INTID of the first shared peripheral interrupt (Arm IHI 0069, 2.2). */
export const FIRST_SPI = 32;

/** MPIDR's affinity of a processor: 16 in a cluster, as GICv3's redistributors and KVM count. */
export const affinityOf = (cpu: number): number => ((cpu >> 4) << 8) | (cpu & 15);
