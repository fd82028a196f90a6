/** A PCI host bridge in AML: buses, windows, pins, and what of native control the operating system gets. */
import * as aml from "./aml.js";

/** A root bus as its host bridge tells it. */
export interface HostBridgeDescription {
  /** Buses from its root bus on. */
  readonly firstBus: number;
  readonly lastBus: number;
  /** Guest-physical memory that it hands down, in bytes. */
  readonly windows: ReadonlyArray<{ readonly base: number; readonly size: number }>;
  /** I/O ports that it hands down: a PC's, all of them and configuration's ports; those that are memory at an address; null: none. */
  readonly ports: "pc" | { readonly memory: number; readonly size: number } | null;
  /** Global system interrupts of pins: by device number on the root bus, INTA first; empty: messages alone. */
  readonly pins: ReadonlyArray<{ readonly device: number; readonly gsis: readonly number[] }>;
  /** What is programmed is to be kept, which Linux wants before it heeds reserved memory ranges (_DSM 5, PCI Firmware 3.3, 4.6.5). */
  readonly keepsProgrammed: boolean;
  /** Its functions' DMA is coherent, which has to be told on Arm (6.2.17). */
  readonly coherent: boolean;
  /** NUMA node; null: not told. */
  readonly numaNode: number | null;
}

/** PCI Firmware 3.3, 4.5.1. */
const OSC_PCI = "33db4d5b-1ff7-401c-9657-7441c03dd766";
/** Hot plug, (no SHPC), PME, AER, capability structure: native control that is given away (table 4-6). */
const OSC_GRANTED = (1 << 0) | (1 << 2) | (1 << 3) | (1 << 4);
/** 6.2.11.1: status bits of the first dword. */
const OSC_UNKNOWN_UUID = 1 << 2;
const OSC_UNKNOWN_REVISION = 1 << 3;
const OSC_MASKED = 1 << 4;
/** PCI Firmware 3.3, 4.6. */
const DSM_PCI = "e5c937d0-3553-4d7a-9117-ea4d19c3434d";

const CONFIG_PORTS = { base: 0xcf8, size: 8 };

/** `index` 0 is PCI0; others are named by their first bus. */
export function hostBridge(bridge: HostBridgeDescription, index: number): aml.Term {
  const { firstBus, lastBus, windows, ports, pins, numaNode } = bridge;
  const resources = [
    aml.busNumbers(firstBus, lastBus),
    ...portWindows(ports),
    ...windows.map(({ base, size }) => aml.memoryWindow(base, size)),
  ];
  return aml.device(
    index === 0 ? "PCI0" : `PC${firstBus.toString(16).toUpperCase().padStart(2, "0")}`,
    aml.name("_HID", aml.eisaId("PNP0A08")),
    aml.name("_CID", aml.eisaId("PNP0A03")),
    aml.name("_UID", aml.integer(firstBus)),
    aml.name("_SEG", aml.integer(0)),
    aml.name("_BBN", aml.integer(firstBus)),
    ...(bridge.coherent ? [aml.name("_CCA", aml.integer(1))] : []),
    ...(numaNode === null ? [] : [aml.name("_PXM", aml.integer(numaNode))]),
    aml.name("_CRS", aml.resources(...resources)),
    ...(pins.length === 0 ? [] : [aml.name("_PRT", routing(pins))]),
    operatingSystemCapabilities(),
    ...(bridge.keepsProgrammed ? [keepProgrammed()] : []),
  );
}

function portWindows(ports: HostBridgeDescription["ports"]): aml.Resource[] {
  if (ports === null) {
    return [];
  }
  const { base, size } = CONFIG_PORTS;
  return ports === "pc" ? [aml.ports(base, size), aml.portWindow(0, base), aml.portWindow(base + size, 0x1_0000 - base - size)] : [aml.translatedPortWindow(0, ports.size, ports.memory)];
}

/** Functions 0, which tells the others by bits, and 5 (PCI Firmware 3.3, 4.6.5): 0, nothing may be changed. */
function keepProgrammed(): aml.Term {
  return aml.method(
    "_DSM",
    4,
    aml.when(
      aml.equal(aml.arg(0), aml.uuid(DSM_PCI)),
      aml.when(aml.equal(aml.arg(2), aml.integer(0)), aml.returns(aml.buffer([(1 << 0) | (1 << 5)]))),
      aml.when(aml.equal(aml.arg(2), aml.integer(5)), aml.returns(aml.integer(0))),
    ),
    aml.returns(aml.buffer([0])),
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
