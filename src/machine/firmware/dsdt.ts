/**
 * Differentiated System Description Table of a PC (ACPI 6.5, 5.2.11.1): the host bridges with what they hand down, the
 * serial port, the state of power-off. A kernel gets from it what firmware would else have set up.
 */
import { acpiTable, type Oem } from "./acpi-table.js";
import * as aml from "./aml.js";
import { hostBridge, type HostBridgeDescription } from "./host-bridge.js";

export interface DsdtDescription {
  readonly bridges: readonly HostBridgeDescription[];
  /** Configuration space, which nobody else may take; null: not mapped. */
  readonly ecam: { readonly base: number; readonly size: number } | null;
  /** First port and ISA interrupt of 16550 serial ports. */
  readonly serialPorts: ReadonlyArray<{ readonly port: number; readonly irq: number }>;
  /** Port of a pvpanic; null: there is none. */
  readonly pvpanic: number | null;
}

export function buildDsdt(description: DsdtDescription, oem?: Oem): Uint8Array {
  const { bridges, ecam, serialPorts, pvpanic } = description;
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
    ...(pvpanic === null ? [] : [pvpanicDevice(pvpanic)]),
  ];
  // 7.4.2: what PM1_CNT.SLP_TYP is to be for S5.
  const off = aml.name("\\_S5", aml.packageOf(aml.integer(5), aml.integer(5), aml.integer(0), aml.integer(0)));
  return acpiTable("DSDT", 2, Uint8Array.from([...aml.scope("\\_SB", ...devices), ...off]), oem);
}

/** QEMU0001 as QEMU describes it (docs/specs/pvpanic.rst): RDPT reads the byte, WRPT writes it. */
function pvpanicDevice(port: number): aml.Term {
  return aml.device(
    "PEVT",
    aml.name("_HID", aml.string("QEMU0001")),
    aml.name("_CRS", aml.resources(aml.ports(port, 1))),
    aml.portRegion("PEOR", port, 1),
    aml.byteOf("PEOR", "PEPT"),
    aml.name("_STA", aml.integer(0xf)),
    aml.method("RDPT", 0, aml.store(aml.reference("PEPT"), aml.local(0)), aml.returns(aml.local(0))),
    aml.method("WRPT", 1, aml.store(aml.arg(0), aml.reference("PEPT"))),
  );
}
