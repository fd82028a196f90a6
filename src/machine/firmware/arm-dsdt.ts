/**
 * Differentiated System Description Table of the virt board (ACPI 6.5, 5.2.11.1): processors, serial ports, host
 * bridges, configuration space, the event device with the power button.
 */
import { acpiTable, type Oem } from "./acpi-table.js";
import * as aml from "./aml.js";
import { type FirmwareDescription, FIRST_SPI, type PlatformDevice, type RootBusDescription } from "./description.js";
import { hostBridge, type HostBridgeDescription } from "./host-bridge.js";

/** Bit of the event device's register. */
const POWER_BUTTON = 1 << 1;
/** 5.6.6: the power button has been pressed. */
const NOTIFY_PRESSED = 0x80;
const DEVICES = 32;
const PINS = [0, 1, 2, 3] as const;

export function buildArmDsdt(description: FirmwareDescription, oem?: Oem): Uint8Array {
  const { cpus, pci, platform, rootBuses } = description;
  const ordered = [...rootBuses].sort((a, b) => a.number - b.number);
  const devices = [
    ...Array.from({ length: cpus }, (_, cpu) =>
      aml.device(`C${cpu.toString(16).toUpperCase().padStart(3, "0")}`, aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(cpu))),
    ),
    ...platform.uarts.map((uart, index) => serialPort(uart, index)),
    ...ordered.map((bus, index) => hostBridge(bridgeOf(bus, description, index === 0), index)),
    aml.device("MCFG", aml.name("_HID", aml.eisaId("PNP0C02")), aml.name("_UID", aml.integer(0)), aml.name("_CRS", aml.resources(aml.memoryRange(pci.ecamBase, pci.ecamSize)))),
    aml.device("PWRB", aml.name("_HID", aml.eisaId("PNP0C0C")), aml.name("_UID", aml.integer(0))),
    eventDevice(platform.events),
  ];
  return acpiTable("DSDT", 2, Uint8Array.from(aml.scope("\\_SB", ...devices)), oem);
}

/** An SBSA generic UART, whose registers the PL011 has. */
function serialPort({ base, size, spi }: PlatformDevice, index: number): aml.Term {
  return aml.device(
    `COM${index}`,
    aml.name("_HID", aml.string("ARMH0011")),
    aml.name("_UID", aml.integer(index)),
    aml.name("_CRS", aml.resources(aml.memoryFixed(base, size), aml.interrupt(FIRST_SPI + spi, "level"))),
  );
}

function bridgeOf({ number, last, windows, smmu, numaNode }: RootBusDescription, { pci, smmus }: FirmwareDescription, first: boolean): HostBridgeDescription {
  return {
    firstBus: number,
    lastBus: last,
    windows,
    ports: first ? { memory: pci.pio.base, size: pci.pio.size } : null,
    // Pins turn by the device's number, on an expander's bus as on pcie.0 (hw/pci-bridge/pci_expander_bridge.c, pxb_map_irq_fn).
    pins: Array.from({ length: DEVICES }, (_, device) => ({ device, gsis: PINS.map((pin) => FIRST_SPI + pci.intxSpi + ((device + pin) & 3)) })),
    keepsProgrammed: smmu !== null && smmus[smmu].accelerated,
    coherent: true,
    numaNode,
  };
}

/** 5.6.9.1, in QEMU's form (hw/acpi/generic_event_device.c, build_ged_aml). */
function eventDevice({ base, size, spi }: PlatformDevice): aml.Term {
  const event = [0x60];
  return aml.device(
    "GED",
    aml.name("_HID", aml.string("ACPI0013")),
    aml.name("_UID", aml.string("GED")),
    aml.name("_CRS", aml.resources(aml.interrupt(FIRST_SPI + spi, "edge"))),
    aml.memoryRegion("EREG", base, size),
    aml.dwordOf("EREG", "ESEL"),
    aml.serialized(
      "_EVT",
      1,
      aml.store(aml.reference("ESEL"), event),
      aml.when(aml.equal(aml.and(event, aml.integer(POWER_BUTTON), [0x00]), aml.integer(POWER_BUTTON)), aml.notify(aml.reference("PWRB"), aml.integer(NOTIFY_PRESSED))),
    ),
  );
}
