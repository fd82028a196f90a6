/**
 * What a user may set on a device, as data: the machine lists it and reads command lines by it. Names, types
 * and defaults are QEMU's (`-device NAME,help`).
 */
export type PropertyType = "bool" | "uint8" | "uint16" | "uint32" | "uint64" | "int32" | "size" | "str" | "OnOffAuto" | "link" | "PCIELinkSpeed" | "PCIELinkWidth";

export interface DeviceProperty {
  readonly name: string;
  readonly type: PropertyType;
  /** As QEMU prints it; undefined: none. */
  readonly default?: string;
  readonly description: string;
  /** Accepted for the command line's sake and without effect here: what the property controls is not modelled. */
  readonly withoutEffect?: boolean;
}

/** Properties that every PCI device has. */
export const pciDeviceProperties: readonly DeviceProperty[] = [
  { name: "addr", type: "str", default: "-1", description: "Slot and optional function number, example: 06.0 or 06" },
  { name: "multifunction", type: "bool", default: "off", description: "Functions beside function 0 may be populated" },
  { name: "acpi-index", type: "uint32", default: "0", description: "Index that operating systems name network interfaces by", withoutEffect: true },
  { name: "rombar", type: "int32", default: "-1", description: "Whether the option ROM gets a BAR; there are no option ROMs here", withoutEffect: true },
  { name: "romfile", type: "str", description: "Option ROM; there are no option ROMs here", withoutEffect: true },
  { name: "romsize", type: "uint32", default: "4294967295", description: "Bytes of the option ROM", withoutEffect: true },
];

/** Properties of a port with a slot (pcie-root-port, xio3130-downstream). */
export const pcieSlotProperties: readonly DeviceProperty[] = [
  ...pciDeviceProperties,
  { name: "port", type: "uint8", default: "0", description: "Port number in the link capabilities" },
  { name: "chassis", type: "uint8", default: "0", description: "Chassis; (chassis, slot) is unique in the machine" },
  { name: "slot", type: "uint16", default: "0", description: "Physical slot number (13 bits)" },
  { name: "hotplug", type: "bool", default: "on", description: "The slot can be plugged and unplugged while the machine runs" },
  { name: "power_controller_present", type: "bool", default: "on", description: "The slot has a power controller" },
  { name: "x-do-not-expose-native-hotplug-cap", type: "bool", default: "off", description: "Hides the hot-plug capability from the guest", withoutEffect: true },
  { name: "aer_log_max", type: "uint16", default: "8", description: "Errors that are kept; no error is raised here", withoutEffect: true },
];

export const pcieRootPortProperties: readonly DeviceProperty[] = [
  ...pcieSlotProperties,
  { name: "x-speed", type: "PCIELinkSpeed", default: "16", description: "Link speed: 2_5/5/8/16/32/64 GT/s" },
  { name: "x-width", type: "PCIELinkWidth", default: "32", description: "Link width: 1/2/4/8/12/16/32 lanes" },
  { name: "bus-reserve", type: "uint32", default: "4294967295", description: "Bus numbers to keep for hotplug, a hint to firmware", withoutEffect: true },
  { name: "io-reserve", type: "size", default: "18446744073709551615", description: "I/O window to keep, a hint to firmware", withoutEffect: true },
  { name: "mem-reserve", type: "size", default: "18446744073709551615", description: "Memory window to keep, a hint to firmware", withoutEffect: true },
  { name: "pref32-reserve", type: "size", default: "18446744073709551615", description: "Prefetchable window below 4 GiB to keep, a hint to firmware", withoutEffect: true },
  { name: "pref64-reserve", type: "size", default: "18446744073709551615", description: "Prefetchable window to keep, a hint to firmware", withoutEffect: true },
];

export const x3130UpstreamProperties: readonly DeviceProperty[] = [
  ...pciDeviceProperties,
  { name: "port", type: "uint8", default: "0", description: "Port number in the link capabilities" },
  { name: "aer_log_max", type: "uint16", default: "8", description: "Errors that are kept; no error is raised here", withoutEffect: true },
];

export const pciePciBridgeProperties: readonly DeviceProperty[] = [
  ...pciDeviceProperties,
  { name: "msi", type: "OnOffAuto", default: "auto", description: "The bridge has an MSI capability" },
];

export const pxbPcieProperties: readonly DeviceProperty[] = [
  ...pciDeviceProperties,
  { name: "bus_nr", type: "uint8", default: "0", description: "Number of the expander's bus; 0 is pcie.0's" },
  { name: "numa_node", type: "uint16", default: "128", description: "NUMA node of the bus; 128: none" },
  { name: "bypass_iommu", type: "bool", default: "off", description: "Functions below are not behind an IOMMU" },
];
