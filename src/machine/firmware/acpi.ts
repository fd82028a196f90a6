/** The ACPI tables of a machine and the root to find them by (ACPI 6.5, 5.2.5). */
import { ACPI_RSDP_BYTES, rsdp } from "./rsdp.js";
import { acpiTable, ByteWriter, HEADER_BYTES, type Oem } from "./acpi-table.js";
import type { FirmwareDescription } from "./description.js";
import { buildDmar } from "./dmar.js";
import { buildIort } from "./iort.js";
import { buildMadt } from "./madt.js";
import type { X86Description } from "./x86-description.js";

/** Memory-mapped configuration space (PCI Firmware 3.3, 4.1.2): one segment, buses 0 to those that the window holds. */
export function buildMcfg({ ecamBase, ecamSize }: { ecamBase: number; ecamSize: number }, oem?: Oem): Uint8Array {
  const body = new ByteWriter()
    .int(0, 8)
    .int(ecamBase, 8)
    .int(0, 2)
    .int(0, 1)
    .int(ecamSize / 0x10_0000 - 1, 1)
    .int(0, 4)
    .toBytes();
  return acpiTable("MCFG", 1, body, oem);
}

export interface AcpiImage {
  /** What goes to guest memory at the base that the tables were made for. */
  readonly bytes: Uint8Array;
  /** Guest-physical address of the RSDP: the base. */
  readonly root: number;
  /** Where the XSDT is, the first after the RSDP, in bytes from the base. */
  readonly xsdtOffset: number;
  readonly tables: ReadonlyMap<string, Uint8Array>;
}

/** The virt board's tables. */
export function buildAcpi(description: FirmwareDescription, base: number): AcpiImage {
  return acpiImage(
    new Map([
      ["MCFG", buildMcfg(description.pci)],
      ["IORT", buildIort(description)],
    ]),
    base,
  );
}

/** A PC's tables. What AML would tell (DSDT, and the FADT that points to it) is not there. */
export function buildX86Acpi(description: X86Description, base: number): AcpiImage {
  const { ecam, remapping } = description;
  const tables = new Map([["APIC", buildMadt(description)]]);
  if (ecam !== null) {
    tables.set("MCFG", buildMcfg({ ecamBase: ecam.base, ecamSize: ecam.size }));
  }
  if (remapping !== null) {
    tables.set("DMAR", buildDmar(remapping));
  }
  return acpiImage(tables, base);
}

/** RSDP, XSDT and the tables as one image for guest-physical address `base` (a multiple of 64). */
function acpiImage(content: ReadonlyMap<string, Uint8Array>, base: number): AcpiImage {
  const tables = new Map(content);
  const align = (offset: number): number => Math.ceil(offset / 64) * 64;
  const xsdtOffset = align(ACPI_RSDP_BYTES);
  let next = align(xsdtOffset + HEADER_BYTES + 8 * tables.size);
  const entries = new ByteWriter();
  const placed: Array<{ offset: number; bytes: Uint8Array }> = [];
  for (const bytes of tables.values()) {
    entries.int(base + next, 8);
    placed.push({ offset: next, bytes });
    next = align(next + bytes.length);
  }
  const xsdt = acpiTable("XSDT", 1, entries.toBytes());
  tables.set("XSDT", xsdt);
  const root = rsdp(base + xsdtOffset);
  tables.set("RSDP", root);
  const image = new Uint8Array(next);
  image.set(root, 0);
  image.set(xsdt, xsdtOffset);
  for (const { offset, bytes } of placed) {
    image.set(bytes, offset);
  }
  return { bytes: image, root: base, xsdtOffset, tables };
}
