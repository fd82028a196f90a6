/**
 * What the firmware tells an operating system about the machine, in one form for the device tree and for
 * ACPI. Addresses are guest-physical bytes.
 */
import type { AddressRange, Dmar } from "./dmar.js";

/** GIC INTIDs of an SMMU's wired interrupts (32 and up); missing where the firmware names none. */
export interface SmmuInterrupts {
  readonly eventq?: number;
  readonly priq?: number;
  readonly cmdqSync?: number;
  readonly gerror?: number;
  /** One line for all of them. */
  readonly combined?: number;
}

export interface SmmuDescription {
  /** `smmuv3@c000000`, whichever table it comes from. */
  readonly name: string;
  readonly base: number;
  /** Table walks are coherent: DT `dma-coherent`, IORT's COHACC override. */
  readonly coherent: boolean;
  readonly interrupts: SmmuInterrupts;
}

/** A range of requester ids and where it leads. */
export interface IdMap {
  readonly ridBase: number;
  readonly length: number;
  /** The id that `ridBase` becomes: a StreamID, or a DeviceID of the ITS. */
  readonly outputBase: number;
  /** Index in `smmus`; for a map to the ITS -1. */
  readonly smmu: number;
}

/** A window of CPU addresses that a host bridge turns into PCI memory cycles. */
export interface PciWindow {
  readonly kind: "mem32" | "mem64";
  readonly prefetchable: boolean;
  readonly cpuBase: number;
  readonly pciBase: number;
  readonly size: number;
}

export interface HostBridgeDescription {
  readonly name: string;
  readonly segment: number;
  /** Null: only I/O ports reach configuration space. */
  readonly ecamBase: number | null;
  readonly busStart: number;
  readonly busEnd: number;
  /** Memory windows; I/O windows are left out since no driver here uses I/O space. */
  readonly windows: readonly PciWindow[];
  readonly streamMaps: readonly IdMap[];
  readonly msiMaps: readonly IdMap[];
  /** ATS may be used below it (IORT's ATS attribute; in a device tree `ats-supported`). */
  readonly ats: boolean;
}

/** Addresses of which a device's IOVA space must take account. */
export interface ReservedWindow extends AddressRange {
  /** Has to be mapped to itself in every domain of the streams (IORT RMR; `iommu-addresses` with an equal `reg`). */
  readonly identity: boolean;
  /** Accesses are to device memory, not to RAM. */
  readonly device: boolean;
  /** The IOMMU whose functions it applies to (index); null: every one. */
  readonly iommu: number | null;
  /** First and last StreamID or source-id that it applies to. */
  readonly streams: readonly [number, number];
}

/** Where a device's message write goes. */
export interface MsiController {
  /** ITS: the data is an event id of the device. GICv2m: the data is the INTID of an SPI. APIC: address and data are the message. */
  readonly kind: "its" | "gicv2m" | "apic";
  /** GITS_TRANSLATER, MSI_SETSPI_NS, or where APICs take messages. */
  readonly doorbell: number;
  /** GICv2m where the firmware overrides MSI_TYPER: first INTID and number of SPIs; else 0. */
  readonly firstSpi: number;
  readonly spiCount: number;
}

export interface FirmwareDescription {
  readonly source: "dt" | "acpi";
  readonly ram: readonly AddressRange[];
  /** RAM that the firmware's own data occupies. */
  readonly occupied: readonly AddressRange[];
  readonly smmus: readonly SmmuDescription[];
  /** Intel VT-d; null: the machine has none. */
  readonly dmar: Dmar | null;
  readonly hostBridges: readonly HostBridgeDescription[];
  readonly msi: MsiController | null;
  readonly reservedWindows: readonly ReservedWindow[];
}

/** The SMMU and StreamID of a requester id; null: no SMMU translates it. */
export function streamOf(bridge: HostBridgeDescription, rid: number): { smmu: number; streamId: number } | null {
  for (const map of bridge.streamMaps) {
    if (rid >= map.ridBase && rid - map.ridBase < map.length) {
      return { smmu: map.smmu, streamId: map.outputBase + (rid - map.ridBase) };
    }
  }
  return null;
}

/** The ITS's DeviceID of a requester id; the requester id itself where no map covers it. */
export function msiDeviceOf(bridge: HostBridgeDescription, rid: number): number {
  for (const map of bridge.msiMaps) {
    if (rid >= map.ridBase && rid - map.ridBase < map.length) {
      return map.outputBase + (rid - map.ridBase);
    }
  }
  return rid;
}
