/** The PCI hierarchy as query-pci and `info pci` tell it (QEMU's qapi/pci.json, hw/pci/pci-qmp-cmds.c, pci-hmp-cmds.c). */
import { type Bar, PCI_CLASSES, type PciBus, type PciFunction, type PciRoot } from "../pci/index.js";
import type { Json } from "./json.js";

interface Range {
  readonly base: number | bigint;
  readonly limit: number | bigint;
}

export interface PciRegionInfo {
  readonly bar: number;
  readonly type: "memory" | "io";
  /** -1: not mapped. */
  readonly address: number | bigint;
  readonly size: number;
  readonly prefetch: boolean;
  readonly mem_type_64: boolean;
}

export interface PciBridgeInfo {
  readonly bus: {
    readonly number: number;
    readonly secondary: number;
    readonly subordinate: number;
    readonly io_range: Range;
    readonly memory_range: Range;
    readonly prefetchable_range: Range;
  };
  readonly devices?: readonly PciDeviceInfo[];
}

export interface PciDeviceInfo {
  readonly bus: number;
  readonly slot: number;
  readonly function: number;
  readonly class_info: { readonly class: number; readonly desc?: string };
  readonly id: { readonly vendor: number; readonly device: number; readonly subsystem?: number; readonly "subsystem-vendor"?: number };
  readonly irq?: number;
  /** 0: none, 1: INTA. */
  readonly irq_pin: number;
  readonly qdev_id: string;
  readonly regions: readonly PciRegionInfo[];
  readonly pci_bridge?: PciBridgeInfo;
}

export interface PciBusInfo {
  readonly bus: number;
  readonly devices: readonly PciDeviceInfo[];
}

/** Root buses, the last expander's first, as QEMU keeps its host bridges. */
export function describePci(root: PciRoot): PciBusInfo[] {
  const expanders = root.rootBuses().slice(1);
  return [...expanders.reverse(), root.bus].map((bus) => ({ bus: bus.number, devices: describeBus(bus, bus.number) }));
}

export function pciAsJson(buses: readonly PciBusInfo[]): Json {
  return buses as unknown as Json;
}

function describeBus(bus: PciBus, number: number): PciDeviceInfo[] {
  return [...bus.functions.keys()].sort((a, b) => a - b).map((devfn) => describeFunction(bus.functions.get(devfn)!, number));
}

function describeFunction(fn: PciFunction, busNumber: number): PciDeviceInfo {
  const { config } = fn;
  const code = config.get16(0x0a);
  const desc = PCI_CLASSES.get(code);
  const isBridge = (config.bytes[0x0e] & 0x7f) === 1;
  const pin = config.bytes[0x3d];
  return {
    bus: busNumber,
    slot: fn.devfn >> 3,
    function: fn.devfn & 7,
    class_info: { class: code, ...(desc === undefined ? {} : { desc }) },
    id: {
      vendor: config.get16(0),
      device: config.get16(2),
      ...(isBridge ? {} : { "subsystem-vendor": config.get16(0x2c), subsystem: config.get16(0x2e) }),
    },
    ...(pin === 0 ? {} : { irq: config.bytes[0x3c] }),
    irq_pin: pin,
    qdev_id: fn.id,
    regions: fn.bars.map((bar) => describeBar(fn, bar)),
    ...(isBridge ? { pci_bridge: describeBridge(fn) } : {}),
  };
}

/** Where the BAR decodes, the windows of the bridges above left aside. */
function describeBar(fn: PciFunction, bar: Bar): PciRegionInfo {
  const start = fn.decodesMemory ? fn.barAddress(bar) : null;
  const last = start === null ? 0n : start + BigInt(bar.size) - 1n;
  const mapped = start !== null && last < 2n ** 64n - 1n && (bar.is64 || last < 0xffff_ffffn);
  return { bar: bar.index, type: "memory", address: mapped ? whole(start) : -1, size: bar.size, prefetch: bar.prefetchable, mem_type_64: bar.is64 };
}

function describeBridge(fn: PciFunction): PciBridgeInfo {
  const { config } = fn;
  const upper = (low: number, high: number): bigint => (BigInt(config.get32(high)) << 32n) | (BigInt(config.get16(low) & 0xfff0) << 16n);
  const secondary = fn.secondaryBus;
  const devices = secondary === 0 ? [] : fn.secondaryBuses.flatMap((bus) => describeBus(bus, secondary));
  return {
    bus: {
      number: config.bytes[0x18],
      secondary,
      subordinate: fn.subordinateBus,
      io_range: { base: (config.bytes[0x1c] & 0xf0) << 8, limit: ((config.bytes[0x1d] & 0xf0) << 8) | 0xfff },
      memory_range: { base: (config.get16(0x20) & 0xfff0) * 0x1_0000, limit: (config.get16(0x22) & 0xfff0) * 0x1_0000 + 0xf_ffff },
      prefetchable_range: { base: whole(upper(0x24, 0x28)), limit: whole(upper(0x26, 0x2c) | 0xf_ffffn) },
    },
    ...(devices.length === 0 ? {} : { devices }),
  };
}

function whole(value: bigint): number | bigint {
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

// ---- for people ----

export function formatPci(buses: readonly PciBusInfo[]): string {
  return buses.flatMap(({ devices }) => devices.flatMap((device) => formatDevice(device))).join("");
}

function formatDevice(device: PciDeviceInfo): string[] {
  const { class_info: info, id } = device;
  const lines = [
    `  Bus ${decimal(device.bus, 2)}, device ${decimal(device.slot, 3)}, function ${device.function}:\n`,
    `    ${info.desc ?? `Class ${String(info.class).padStart(4, "0")}`}: PCI device ${digits(id.vendor, 4)}:${digits(id.device, 4)}\n`,
  ];
  if (id["subsystem-vendor"] !== undefined && id.subsystem !== undefined) {
    lines.push(`      PCI subsystem ${digits(id["subsystem-vendor"], 4)}:${digits(id.subsystem, 4)}\n`);
  }
  if (device.irq !== undefined) {
    lines.push(`      IRQ ${device.irq}, pin ${String.fromCharCode(0x40 + device.irq_pin)}\n`);
  }
  const bridge = device.pci_bridge?.bus;
  if (bridge !== undefined) {
    lines.push(
      `      BUS ${bridge.number}.\n`,
      `      secondary bus ${bridge.secondary}.\n`,
      `      subordinate bus ${bridge.subordinate}.\n`,
      `      IO range [0x${digits(bridge.io_range.base, 4)}, 0x${digits(bridge.io_range.limit, 4)}]\n`,
      `      memory range [0x${digits(bridge.memory_range.base, 8)}, 0x${digits(bridge.memory_range.limit, 8)}]\n`,
      `      prefetchable memory range [0x${digits(bridge.prefetchable_range.base, 8)}, 0x${digits(bridge.prefetchable_range.limit, 8)}]\n`,
    );
  }
  for (const { bar, address, size, prefetch, mem_type_64: is64 } of device.regions) {
    const kind = `${is64 ? 64 : 32} bit${prefetch ? " prefetchable" : ""} memory`;
    lines.push(`      BAR${bar}: ${kind} ${address === -1 ? "(not mapped)" : `at 0x${digits(address, 8)} [0x${digits(BigInt(address) + BigInt(size) - 1n, 8)}]`}\n`);
  }
  lines.push(`      id "${device.qdev_id}"\n`);
  return [...lines, ...(device.pci_bridge?.devices ?? []).flatMap((behind) => formatDevice(behind))];
}

function digits(value: number | bigint, width: number): string {
  return value.toString(16).padStart(width, "0");
}

function decimal(value: number, width: number): string {
  return String(value).padStart(width, " ");
}
