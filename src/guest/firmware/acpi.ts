/**
 * ACPI tables as far as a PCI and IOMMU driver needs them: RSDP, XSDT or RSDT (ACPI 6.5, 5.2), MCFG (PCI
 * Firmware Specification 3.3, 4.1.2), MADT for what takes messages, SRAT for RAM; IORT and DMAR are in files of
 * their own.
 */
import { GuestFailure } from "../failure.js";
import type { FirmwareDescription, HostBridgeDescription, MsiController } from "./description.js";
import { type AddressRange, parseDmar } from "./dmar.js";
import { parseIort } from "./iort.js";

export interface AcpiTable {
  readonly signature: string;
  readonly address: number;
  readonly data: DataView;
}

/** Reads guest memory; bytes. */
export type MemoryReader = (address: number, length: number) => Promise<Uint8Array>;

const HEADER_BYTES = 36;
/** A table longer than this is not one. */
const LONGEST_TABLE = 16 * 1024 * 1024;

const viewOf = (data: Uint8Array): DataView => new DataView(data.buffer, data.byteOffset, data.byteLength);
const textOf = (view: DataView, at: number, length: number): string =>
  Array.from({ length }, (_, i) => String.fromCharCode(view.getUint8(at + i))).join("");

function checksum(view: DataView, what: string): void {
  let sum = 0;
  for (let i = 0; i < view.byteLength; i++) {
    sum = (sum + view.getUint8(i)) & 0xff;
  }
  if (sum !== 0) {
    throw new GuestFailure(`${what}: the bytes add up to 0x${sum.toString(16)}, not to 0`);
  }
}

/** Follows the RSDP to all tables. Throws GuestFailure for a wrong signature, length or checksum. */
export async function readAcpiTables(read: MemoryReader, rsdpAddress: number): Promise<AcpiTable[]> {
  const rsdp = viewOf(await read(rsdpAddress, 36));
  if (textOf(rsdp, 0, 8) !== "RSD PTR ") {
    throw new GuestFailure(`no RSDP at 0x${rsdpAddress.toString(16)}`);
  }
  const extended = rsdp.getUint8(15) >= 2;
  checksum(new DataView(rsdp.buffer, rsdp.byteOffset, 20), "RSDP");
  if (extended) {
    checksum(rsdp, "RSDP");
  }
  const root = await readTable(read, extended ? Number(rsdp.getBigUint64(24, true)) : rsdp.getUint32(16, true));
  const wide = root.signature === "XSDT";
  if (!wide && root.signature !== "RSDT") {
    throw new GuestFailure(`the RSDP leads to a table ${root.signature}, not to XSDT or RSDT`);
  }
  const tables: AcpiTable[] = [root];
  for (let at = HEADER_BYTES; at + (wide ? 8 : 4) <= root.data.byteLength; at += wide ? 8 : 4) {
    tables.push(await readTable(read, wide ? Number(root.data.getBigUint64(at, true)) : root.data.getUint32(at, true)));
  }
  return tables;
}

async function readTable(read: MemoryReader, address: number): Promise<AcpiTable> {
  const header = viewOf(await read(address, HEADER_BYTES));
  const signature = textOf(header, 0, 4);
  const length = header.getUint32(4, true);
  if (length < HEADER_BYTES || length > LONGEST_TABLE) {
    throw new GuestFailure(`ACPI table ${signature} at 0x${address.toString(16)} claims ${length} bytes`);
  }
  const data = viewOf(await read(address, length));
  checksum(data, `ACPI table ${signature}`);
  return { signature, address, data };
}

/** One ECAM range of MCFG. */
interface EcamRange {
  readonly base: number;
  readonly segment: number;
  readonly busStart: number;
  readonly busEnd: number;
}

function parseMcfg(view: DataView): EcamRange[] {
  const out = [];
  for (let at = HEADER_BYTES + 8; at + 16 <= view.byteLength; at += 16) {
    out.push({
      base: Number(view.getBigUint64(at, true)),
      segment: view.getUint16(at + 8, true),
      busStart: view.getUint8(at + 10),
      busEnd: view.getUint8(at + 11),
    });
  }
  return out;
}

/** Where local APICs take messages (Intel SDM 3A, 11.11.1). */
const APIC_MESSAGES = 0xfee0_0000;

/**
 * MADT: GIC ITS structures (type 0xf) and GIC MSI frames (type 0xd), local APICs (type 0) and x2APICs (type 9);
 * ACPI 6.5, 5.2.12.
 */
function parseMadtMsi(view: DataView): MsiController | null {
  let frame: MsiController | null = null;
  for (let at = HEADER_BYTES + 8; at + 2 <= view.byteLength; ) {
    const length = view.getUint8(at + 1);
    if (length < 2) {
      break;
    }
    if (view.getUint8(at) === 0xf) {
      return { kind: "its", doorbell: Number(view.getBigUint64(at + 8, true)) + 0x1_0040, firstSpi: 0, spiCount: 0 };
    }
    if (view.getUint8(at) === 0 || view.getUint8(at) === 9) {
      frame = { kind: "apic", doorbell: APIC_MESSAGES, firstSpi: 0, spiCount: 0 };
    }
    if (view.getUint8(at) === 0xd) {
      // Flag 0: the counts below override MSI_TYPER.
      const override = (view.getUint32(at + 16, true) & 1) !== 0;
      frame = {
        kind: "gicv2m",
        doorbell: Number(view.getBigUint64(at + 8, true)) + 0x40,
        firstSpi: override ? view.getUint16(at + 22, true) : 0,
        spiCount: override ? view.getUint16(at + 20, true) : 0,
      };
    }
    at += length;
  }
  return frame;
}

/** SRAT memory affinity structures (type 1) that are enabled; ACPI 6.5, 5.2.16.2. */
function parseSratMemory(view: DataView): AddressRange[] {
  const out = [];
  for (let at = HEADER_BYTES + 12; at + 2 <= view.byteLength; ) {
    const length = view.getUint8(at + 1);
    if (length < 2) {
      break;
    }
    if (view.getUint8(at) === 1 && (view.getUint32(at + 28, true) & 1) !== 0) {
      out.push({ base: Number(view.getBigUint64(at + 8, true)), size: Number(view.getBigUint64(at + 16, true)) });
    }
    at += length;
  }
  return out.filter((range) => range.size > 0);
}

/**
 * Builds the description from ACPI. What an operating system has from AML or from UEFI, and a table does not
 * hold (bridge windows; RAM where there is no SRAT), is taken from `fallback`, which is the device tree's
 * description where the machine has one.
 */
export async function describeFromAcpi(
  read: MemoryReader,
  rsdpAddress: number,
  fallback: FirmwareDescription | null,
): Promise<FirmwareDescription> {
  const tables = await readAcpiTables(read, rsdpAddress);
  const find = (signature: string): DataView | undefined => tables.find((table) => table.signature === signature)?.data;
  const iortTable = find("IORT");
  const mcfg = find("MCFG");
  const madt = find("APIC");
  const srat = find("SRAT");
  const iort = iortTable === undefined ? { smmus: [], rootComplexes: [], reservedWindows: [] } : parseIort(iortTable);
  const dmar = find("DMAR");
  const described = (mcfg === undefined ? [] : parseMcfg(mcfg)).map((ecam): HostBridgeDescription => {
    const complexes = iort.rootComplexes.filter((complex) => complex.segment === ecam.segment);
    return {
      name: `segment ${ecam.segment}`,
      segment: ecam.segment,
      ecamBase: ecam.base,
      busStart: ecam.busStart,
      busEnd: ecam.busEnd,
      windows: fallback?.hostBridges.find((bridge) => bridge.segment === ecam.segment)?.windows ?? [],
      streamMaps: complexes.flatMap((complex) => complex.streamMaps),
      msiMaps: complexes.flatMap((complex) => complex.msiMaps),
      ats: complexes.some((complex) => complex.ats),
    };
  });
  // A machine without MCFG has its host bridge behind I/O ports (the fallback says so) or none.
  const hostBridges = described.length > 0 ? described : (fallback?.hostBridges ?? []).filter((bridge) => bridge.ecamBase === null);
  const ram = srat === undefined ? [] : parseSratMemory(srat);
  return {
    source: "acpi",
    ram: ram.length > 0 ? ram : (fallback?.ram ?? []),
    occupied: [
      ...(fallback?.occupied ?? []),
      { base: rsdpAddress, size: 36 },
      ...tables.map((table) => ({ base: table.address, size: table.data.byteLength })),
    ],
    smmus: iort.smmus,
    dmar: dmar === undefined ? null : parseDmar(dmar),
    hostBridges,
    msi: (madt === undefined ? null : parseMadtMsi(madt)) ?? fallback?.msi ?? null,
    reservedWindows: iort.reservedWindows,
  };
}
