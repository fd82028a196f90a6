/** DMAR: DMA Remapping Reporting Structure (Intel VT-d 5.x, chapter 8): remapping units, reserved memory, ATS, and their device scopes. */
import { GuestFailure } from "../failure.js";

const HEADER_BYTES = 48;
const DRHD = 0;
const RMRR = 1;
const ATSR = 2;
const RHSA = 3;
const SATC = 5;
const SCOPE_HEADER_BYTES = 6;

/** Addresses are guest-physical bytes. */
export interface AddressRange {
  readonly base: number;
  /** Bytes. */
  readonly size: number;
}

/** Types of device scope (8.3.1). */
export const SCOPE = { ENDPOINT: 1, BRIDGE: 2, IOAPIC: 3, HPET: 4, NAMESPACE: 5 } as const;

export interface DeviceScope {
  readonly type: number;
  /** IOAPIC id, HPET number. */
  readonly enumerationId: number;
  readonly bus: number;
  /** From the bus down: device and function of each bridge, the last one's are the device's own. */
  readonly path: ReadonlyArray<{ readonly device: number; readonly fn: number }>;
}

export interface RemappingUnit {
  /** `vtd@fed90000`. */
  readonly name: string;
  readonly base: number;
  readonly segment: number;
  /** All functions of the segment that no other unit's scope names. */
  readonly includeAll: boolean;
  readonly scopes: readonly DeviceScope[];
  /** Of the memory nearest to it (RHSA); null: not told. */
  readonly proximity: number | null;
}

/** Memory that has to be mapped to itself for devices (RMRR). */
export interface ReservedMemory extends AddressRange {
  readonly segment: number;
  readonly scopes: readonly DeviceScope[];
}

/** Root ports below which ATS may be used (ATSR), or integrated devices that use it (SATC). */
export interface AtsScope {
  readonly kind: "root-ports" | "integrated";
  readonly segment: number;
  /** ATSR: every root port. SATC: the devices work with ATS only. */
  readonly flag: boolean;
  readonly scopes: readonly DeviceScope[];
}

export interface Dmar {
  /** Bits of a physical address. */
  readonly addressWidth: number;
  readonly interruptRemapping: boolean;
  readonly x2apicOptOut: boolean;
  readonly units: readonly RemappingUnit[];
  readonly reserved: readonly ReservedMemory[];
  readonly ats: readonly AtsScope[];
}

/** Reads the table. Throws GuestFailure where a structure or a scope goes beyond what holds it. */
export function parseDmar(view: DataView): Dmar {
  const units: Array<Omit<RemappingUnit, "proximity">> = [];
  const reserved: ReservedMemory[] = [];
  const ats: AtsScope[] = [];
  const proximities = new Map<number, number>();
  for (let at = HEADER_BYTES; at < view.byteLength; ) {
    const length = at + 4 <= view.byteLength ? view.getUint16(at + 2, true) : 0;
    if (length < 4 || at + length > view.byteLength) {
      throw new GuestFailure(`DMAR: the structure at ${at} does not hold what it claims`);
    }
    const structure = new DataView(view.buffer, view.byteOffset + at, length);
    const segment = length >= 8 ? structure.getUint16(6, true) : 0;
    switch (structure.getUint16(0, true)) {
      case DRHD: {
        const base = address(structure, 8, at);
        const includeAll = (structure.getUint8(4) & 1) !== 0;
        units.push({ name: `vtd@${base.toString(16)}`, base, segment, includeAll, scopes: parseScopes(structure, 16, at) });
        break;
      }
      case RMRR: {
        const base = address(structure, 8, at);
        reserved.push({ base, size: address(structure, 16, at) - base + 1, segment, scopes: parseScopes(structure, 24, at) });
        break;
      }
      case ATSR:
      case SATC:
        ats.push({
          kind: structure.getUint16(0, true) === ATSR ? "root-ports" : "integrated",
          segment,
          flag: (structure.getUint8(4) & 1) !== 0,
          scopes: parseScopes(structure, 8, at),
        });
        break;
      case RHSA:
        proximities.set(address(structure, 8, at), structure.getUint32(16, true));
        break;
    }
    at += length;
  }
  const flags = view.getUint8(37);
  return {
    addressWidth: view.getUint8(36) + 1,
    interruptRemapping: (flags & 1) !== 0,
    x2apicOptOut: (flags & 2) !== 0,
    units: units.map((unit) => ({ ...unit, proximity: proximities.get(unit.base) ?? null })),
    reserved,
    ats,
  };
}

function address(structure: DataView, offset: number, at: number): number {
  if (offset + 8 > structure.byteLength) {
    throw new GuestFailure(`DMAR: the structure at ${at} does not hold what it claims`);
  }
  return Number(structure.getBigUint64(offset, true));
}

function parseScopes(structure: DataView, from: number, at: number): DeviceScope[] {
  const scopes = [];
  for (let offset = from; offset < structure.byteLength; ) {
    const length = offset + 2 <= structure.byteLength ? structure.getUint8(offset + 1) : 0;
    if (length < SCOPE_HEADER_BYTES + 2 || length % 2 !== 0 || offset + length > structure.byteLength) {
      throw new GuestFailure(`DMAR: the device scope at ${offset} of the structure at ${at} does not hold what it claims`);
    }
    scopes.push({
      type: structure.getUint8(offset),
      enumerationId: structure.getUint8(offset + 4),
      bus: structure.getUint8(offset + 5),
      path: Array.from({ length: (length - SCOPE_HEADER_BYTES) / 2 }, (_, i) => ({
        device: structure.getUint8(offset + SCOPE_HEADER_BYTES + 2 * i),
        fn: structure.getUint8(offset + SCOPE_HEADER_BYTES + 2 * i + 1),
      })),
    });
    offset += length;
  }
  return scopes;
}
