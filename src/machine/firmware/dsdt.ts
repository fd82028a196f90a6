/**
 * Differentiated System Description Table of a PC (ACPI 6.5, 5.2.11.1): the host bridges with what they hand down, the
 * serial port, the state of power-off. A kernel gets from it what firmware would else have set up.
 */
import { acpiTable, type Oem } from "./acpi-table.js";
import * as aml from "./aml.js";

/** A root bus as its host bridge tells it. */
export interface HostBridgeDescription {
  /** Buses from its root bus on. */
  readonly firstBus: number;
  readonly lastBus: number;
  /** Guest-physical memory that it hands down, in bytes. */
  readonly windows: ReadonlyArray<{ readonly base: number; readonly size: number }>;
  /** It hands down I/O ports. */
  readonly ports: boolean;
  /** Global system interrupts of pins: by device number on the root bus, INTA first; empty: messages alone. */
  readonly pins: ReadonlyArray<{ readonly device: number; readonly gsis: readonly number[] }>;
  /** NUMA node; null: not told. */
  readonly numaNode: number | null;
}

export interface DsdtDescription {
  readonly bridges: readonly HostBridgeDescription[];
  /** Configuration space, which nobody else may take; null: not mapped. */
  readonly ecam: { readonly base: number; readonly size: number } | null;
  /** First port and ISA interrupt of 16550 serial ports. */
  readonly serialPorts: ReadonlyArray<{ readonly port: number; readonly irq: number }>;
}

/** PCI Firmware 3.3, 4.5.1. */
const OSC_PCI = "33db4d5b-1ff7-401c-9657-7441c03dd766";
/** Hot plug, (no SHPC), PME, AER, capability structure: native control that is given away (table 4-6). */
const OSC_GRANTED = (1 << 0) | (1 << 2) | (1 << 3) | (1 << 4);
/** 6.2.11.1: status bits of the first dword. */
const OSC_UNKNOWN_UUID = 1 << 2;
const OSC_UNKNOWN_REVISION = 1 << 3;
const OSC_MASKED = 1 << 4;

const CONFIG_PORTS = { base: 0xcf8, size: 8 };

export function buildDsdt(description: DsdtDescription, oem?: Oem): Uint8Array {
  const { bridges, ecam, serialPorts } = description;
  const devices = [
    ...bridges.map((bridge, index) => hostBridge(bridge, index)),
    ...(ecam === null ? [] : [aml.device("MCFG", aml.name("_HID", aml.eisaId("PNP0C02")), aml.name("_UID", aml.integer(0)), aml.name("_CRS", aml.resources(aml.memoryFixed(ecam.base, ecam.size))))]),
    ...serialPorts.map(({ port, irq }, index) =>
      aml.device(
        `COM${index + 1}`,
        aml.name("_HID", aml.eisaId("PNP0501")),
        aml.name("_UID", aml.integer(index + 1)),
        aml.name("_CRS", aml.resources(aml.ports(port, 8), aml.isaInterrupt(irq))),
      ),
    ),
  ];
  // 7.4.2: what PM1_CNT.SLP_TYP is to be for S5.
  const off = aml.name("\\_S5", aml.packageOf(aml.integer(5), aml.integer(5), aml.integer(0), aml.integer(0)));
  return acpiTable("DSDT", 2, Uint8Array.from([...aml.scope("\\_SB", ...devices), ...off]), oem);
}

function hostBridge(bridge: HostBridgeDescription, index: number): aml.Term {
  const { firstBus, lastBus, windows, pins, numaNode } = bridge;
  const resources = [
    aml.busNumbers(firstBus, lastBus),
    ...(bridge.ports ? [aml.ports(CONFIG_PORTS.base, CONFIG_PORTS.size), aml.portWindow(0, CONFIG_PORTS.base), aml.portWindow(CONFIG_PORTS.base + CONFIG_PORTS.size, 0x1_0000 - CONFIG_PORTS.base - CONFIG_PORTS.size)] : []),
    ...windows.map(({ base, size }) => aml.memoryWindow(base, size)),
  ];
  return aml.device(
    index === 0 ? "PCI0" : `PC${firstBus.toString(16).toUpperCase().padStart(2, "0")}`,
    aml.name("_HID", aml.eisaId("PNP0A08")),
    aml.name("_CID", aml.eisaId("PNP0A03")),
    aml.name("_UID", aml.integer(firstBus)),
    aml.name("_SEG", aml.integer(0)),
    aml.name("_BBN", aml.integer(firstBus)),
    ...(numaNode === null ? [] : [aml.name("_PXM", aml.integer(numaNode))]),
    aml.name("_CRS", aml.resources(...resources)),
    ...(pins.length === 0 ? [] : [aml.name("_PRT", routing(pins))]),
    operatingSystemCapabilities(),
  );
}

/** 6.2.13: packages of address, pin, source (none: the index is a global system interrupt), index. */
function routing(pins: HostBridgeDescription["pins"]): aml.Term {
  const entries = pins.flatMap(({ device, gsis }) => gsis.map((gsi, pin) => aml.packageOf(aml.integer(device * 0x1_0000 + 0xffff), aml.integer(pin), aml.integer(0), aml.integer(gsi))));
  // PackageOp holds 255 elements, and 32 devices have 128 pins.
  return aml.packageOf(...entries);
}

/** PCI Firmware 3.3, 4.5.1: grants what `OSC_GRANTED` says and tells what else was asked for. */
function operatingSystemCapabilities(): aml.Term {
  const control = aml.reference("CDW3");
  const status = aml.reference("CDW1");
  return aml.method(
    "_OSC",
    4,
    aml.dwordField(aml.arg(3), 0, "CDW1"),
    aml.when(
      aml.equal(aml.arg(0), aml.uuid(OSC_PCI)),
      aml.dwordField(aml.arg(3), 8, "CDW3"),
      aml.store(control, [0x60]),
      aml.and(control, aml.integer(OSC_GRANTED), control),
      aml.when(aml.not(aml.equal(control, [0x60])), aml.or(status, aml.integer(OSC_MASKED), status)),
      aml.when(aml.not(aml.equal(aml.arg(1), aml.integer(1))), aml.or(status, aml.integer(OSC_UNKNOWN_REVISION), status)),
    ),
    aml.otherwise(aml.or(status, aml.integer(OSC_UNKNOWN_UUID), status)),
    aml.returns(aml.arg(3)),
  );
}
