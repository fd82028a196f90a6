/** The ACPI tables of a machine and the root to find them by (ACPI 6.5, 5.2.5). */
import { ACPI_RSDP_BYTES, rsdp } from "./rsdp.js";
import { acpiTable, ByteWriter, HEADER_BYTES, type Oem } from "./acpi-table.js";
import type { FirmwareDescription } from "./description.js";
import { buildArmDsdt } from "./arm-dsdt.js";
import { buildArmMadt } from "./arm-madt.js";
import { buildDmar } from "./dmar.js";
import { buildDsdt } from "./dsdt.js";
import { buildFacs, buildFadt, buildReducedFadt, FADT_POINTERS } from "./fadt.js";
import { buildGtdt } from "./gtdt.js";
import { buildIort } from "./iort.js";
import { buildMadt } from "./madt.js";
import { buildHmat } from "./hmat.js";
import { buildArmSrat, buildSlit, buildX86Srat, type NumaDescription } from "./numa.js";
import { buildSpcr } from "./spcr.js";
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
  /** Addresses in the image, by their place in bytes from the base, and the tables whose checksum they change: at `start`, of `length` bytes. */
  readonly pointers: ReadonlyArray<{ readonly offset: number; readonly size: number }>;
  readonly checksums: ReadonlyArray<{ readonly start: number; readonly length: number }>;
}

/** The virt board's tables. */
export function buildAcpi(description: FirmwareDescription, base: number): AcpiImage {
  const { numa } = description;
  const layout = new Layout(base, 6 + numaTables(numa));
  const dsdt = layout.unlisted("DSDT", buildArmDsdt(description));
  layout.listed("FACP", buildReducedFadt(base + dsdt));
  layout.listed("APIC", buildArmMadt(description));
  layout.listed("GTDT", buildGtdt());
  layout.listed("MCFG", buildMcfg(description.pci));
  layout.listed("SPCR", buildSpcr(description.platform.uarts[0]));
  if (numa !== null) {
    layout.listed("SRAT", buildArmSrat(numa.cpus, description.ram.map(({ base: at, size, numaNode }) => ({ base: at, size, node: numaNode ?? 0 })), numa));
    nearness(layout, numa);
  }
  layout.listed("IORT", buildIort(description));
  return layout.finish();
}

/** A PC's tables. */
export function buildX86Acpi(description: X86Description, base: number): AcpiImage {
  const { ecam, remapping, numa } = description;
  const layout = new Layout(base, 2 + (ecam === null ? 0 : 1) + (remapping === null ? 0 : 1) + numaTables(numa));
  const facs = layout.unlisted("FACS", buildFacs());
  const dsdt = layout.unlisted("DSDT", buildDsdt(description));
  const fadt = layout.listed("FACP", buildFadt(description.hardware, { facs: base + facs, dsdt: base + dsdt }));
  FADT_POINTERS.forEach(({ offset, size }) => layout.pointers.push({ offset: fadt + offset, size }));
  layout.checksums.push({ start: fadt, length: layout.tables.get("FACP")!.length });
  layout.listed("APIC", buildMadt(description));
  if (numa !== null) {
    layout.listed("SRAT", buildX86Srat(description.apicIds.map((apicId, cpu) => ({ apicId, node: numa.cpus[cpu] })), numa.memory, numa));
    nearness(layout, numa);
  }
  if (ecam !== null) {
    layout.listed("MCFG", buildMcfg({ ecamBase: ecam.base, ecamSize: ecam.size }));
  }
  if (remapping !== null) {
    layout.listed("DMAR", buildDmar(remapping));
  }
  return layout.finish();
}

function numaTables(numa: NumaDescription | null): number {
  return numa === null ? 0 : 1 + (numa.distances === null ? 0 : 1) + (numa.hmat === null ? 0 : 1);
}

function nearness(layout: Layout, { nodes, distances, hmat }: NumaDescription): void {
  if (distances !== null) {
    layout.listed("SLIT", buildSlit(distances));
  }
  if (hmat !== null) {
    layout.listed("HMAT", buildHmat(hmat, nodes));
  }
}

const align = (offset: number): number => Math.ceil(offset / 64) * 64;

/** RSDP, XSDT and the tables as one image for guest-physical address `base` (a multiple of 64). */
class Layout {
  readonly tables = new Map<string, Uint8Array>();
  readonly pointers: Array<{ offset: number; size: number }> = [];
  readonly checksums: Array<{ start: number; length: number }> = [];
  private readonly xsdtOffset = align(ACPI_RSDP_BYTES);
  private readonly entries = new ByteWriter();
  private readonly placed: Array<{ offset: number; bytes: Uint8Array }> = [];
  private next: number;

  /** @param count tables that the XSDT lists */
  constructor(
    private readonly base: number,
    private readonly count: number,
  ) {
    this.next = align(this.xsdtOffset + HEADER_BYTES + 8 * count);
  }

  /** A table that the XSDT lists; returns its offset from the base. */
  listed(signature: string, bytes: Uint8Array): number {
    this.pointers.push({ offset: this.xsdtOffset + HEADER_BYTES + this.entries.length, size: 8 });
    this.entries.int(this.base + this.next, 8);
    return this.unlisted(signature, bytes);
  }

  /** One that another table points to. */
  unlisted(signature: string, bytes: Uint8Array): number {
    const offset = this.next;
    this.tables.set(signature, bytes);
    this.placed.push({ offset, bytes });
    this.next = align(offset + bytes.length);
    return offset;
  }

  finish(): AcpiImage {
    const { base, tables, xsdtOffset, placed } = this;
    if (this.entries.length !== 8 * this.count) {
      throw new RangeError(`an XSDT of ${this.entries.length / 8} tables where ${this.count} were told`);
    }
    const xsdt = acpiTable("XSDT", 1, this.entries.toBytes());
    tables.set("XSDT", xsdt);
    const root = rsdp(base + xsdtOffset);
    tables.set("RSDP", root);
    const image = new Uint8Array(this.next);
    image.set(root, 0);
    image.set(xsdt, xsdtOffset);
    for (const { offset, bytes } of placed) {
      image.set(bytes, offset);
    }
    this.checksums.push({ start: xsdtOffset, length: xsdt.length });
    return { bytes: image, root: base, xsdtOffset, tables, pointers: this.pointers, checksums: this.checksums };
  }
}
