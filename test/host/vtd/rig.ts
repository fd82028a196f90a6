/** A simulated host with VT-d units: a server unit, its twin without snoop control, one with erratum 772415, and others by need. */
import {
  createSimulatedHost,
  describeHost,
  type HardwareVtd,
  type HostDescriptionInput,
  type SimulatedHost,
} from "../../../src/host/simulated/index.js";
import {
  HostError,
  HWPT_VTD_S1_BYTES,
  HwptAllocFlags,
  HwptDataType,
  INVALIDATE_VTD_S1_BYTES,
  type InvalidateResult,
  type Iommufd,
} from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { bind, Engine, type Bound } from "../kernel/rig.js";

export { bind, Engine, errno, map } from "../kernel/rig.js";

/** Two functions behind the server unit, one behind each of the others. */
export const A = "0000:17:00.0";
export const B = "0000:18:00.0";
export const OTHER = "0000:40:00.0";
export const UNSNOOPED = "0000:60:00.0";
export const ERRATUM = "0000:80:00.0";

type VtdInput = NonNullable<HostDescriptionInput["vtds"]>[number];
type FunctionInput = HostDescriptionInput["functions"][number];

export const SERVER = {
  sagaw: [48 as const],
  deviceTlb: true,
  scalableMode: true,
  scalableCoherentWalks: true,
  secondStage: true,
  firstStage: true,
  firstStage1g: true,
  nesting: true,
  dirtyTracking: true,
  supervisor: true,
  pasidBits: 20,
};

/** Units of legacy mode, as a desktop has them. */
export const LEGACY: Partial<VtdInput> = {
  deviceTlb: true,
  scalableMode: false,
  scalableCoherentWalks: false,
  secondStage: false,
  firstStage: false,
  firstStage1g: false,
  nesting: false,
  dirtyTracking: false,
  supervisor: false,
  pasidBits: 0,
};

/** @param second what the second unit has beside, or instead */
export function hostInput(unit: Partial<VtdInput> = {}, fn: Partial<FunctionInput> = {}, second: Partial<VtdInput> = {}): HostDescriptionInput {
  const ids = { ...SERVER, ...unit };
  const pasidBits = Math.min(16, ids.pasidBits);
  const shared = { vendor: 0x8086, device: 0x2710, class: 0x0b4000, bars: [{ index: 0, size: "64K" }], msixVectors: 8, ats: ids.deviceTlb, pasidBits, ...fn };
  return {
    name: "test",
    memory: [{ numaNode: 0, base: 0x1_0000_0000, size: "16G" }],
    smmus: [],
    vtds: [
      { name: "dmar0", base: 0xc5ff_c000, ...ids },
      { name: "dmar1", base: 0xd9ff_c000, ...ids, ...second },
      { name: "dmar2", base: 0xeabf_c000, ...ids, snoopControl: false },
      { name: "dmar3", base: 0xfb3f_c000, ...ids, errata: ["772415"] },
    ],
    functions: [
      { address: A, name: "accelerator 0", vtd: "dmar0", ...shared },
      { address: B, name: "accelerator 1", vtd: "dmar0", ...shared },
      { address: OTHER, name: "accelerator 2", vtd: "dmar1", ...shared },
      { address: UNSNOOPED, name: "accelerator 3", vtd: "dmar2", ...shared },
      { address: ERRATUM, name: "accelerator 4", vtd: "dmar3", ...shared },
    ],
  };
}

/** Where the guest's RAM is, for the guest. */
export const GPA = 0x4000_0000;
export const RAM_BYTES = 0x400_0000;
/** Where tests have data in it, and where tables. */
export const DATA = 0x100_0000;
export const TABLES = 0x200_0000;

/** A host, an iommufd, an IOAS that maps the guest's RAM at GPA. */
export class Rig {
  readonly host: SimulatedHost;
  readonly iommufd: Iommufd;
  readonly ram: RamBlock;
  readonly ioas: number;

  constructor(unit: Partial<VtdInput> = {}, fn: Partial<FunctionInput> = {}, second: Partial<VtdInput> = {}) {
    this.host = createSimulatedHost(describeHost(hostInput(unit, fn, second)));
    this.iommufd = this.host.openIommufd();
    this.ram = this.host.allocateMemory("guest", RAM_BYTES);
    this.ioas = this.iommufd.ioasAlloc();
    this.iommufd.ioasMap({ ioasId: this.ioas, source: { address: this.ram.hostAddress }, length: BigInt(RAM_BYTES), iova: BigInt(GPA), readable: true, writable: true });
  }

  bind(address = A, iommufd = this.iommufd): Bound {
    return bind(this.host, iommufd, address);
  }

  unit(name = "dmar0"): HardwareVtd {
    return this.host.hardware.vtds.get(name)!;
  }

  parent(devId: number, extra = 0, ioas = this.ioas): number {
    return this.iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT | extra, devId, ptId: ioas, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
  }

  nested(devId: number, parent: number, tables: { readonly root: number }, options: NestedOptions = {}): number {
    return nested(this.iommufd, devId, parent, tables, options);
  }

  put(offset: number, text: string): void {
    this.ram.write(offset, new TextEncoder().encode(text));
  }

  text(offset: number, length: number): string {
    const out = new Uint8Array(length);
    this.ram.read(offset, out);
    return new TextDecoder().decode(out);
  }
}

/** Flags and width of struct iommu_hwpt_vtd_s1, and flags of the call. */
export interface NestedOptions {
  flags?: number;
  width?: number;
  hwptFlags?: number;
}

/** A nested table for a guest's first stage whose first table is at a GPA. */
export function nested(iommufd: Iommufd, devId: number, parent: number, tables: { readonly root: number }, options: NestedOptions = {}): number {
  const data = vtdS1(BigInt(tables.root), options.flags ?? 0, options.width ?? 48);
  return iommufd.hwptAlloc({ flags: options.hwptFlags ?? 0, devId, ptId: parent, dataType: HwptDataType.VTD_S1, data });
}

/** struct iommu_hwpt_vtd_s1, put together by hand. */
export function vtdS1(pointer: bigint, flags = 0, width = 48): Uint8Array {
  const view = new DataView(new ArrayBuffer(HWPT_VTD_S1_BYTES));
  view.setBigUint64(0, BigInt(flags), true);
  view.setBigUint64(8, pointer, true);
  view.setUint32(16, width, true);
  return new Uint8Array(view.buffer);
}

export interface Entry {
  addr?: bigint;
  npages?: bigint;
  flags?: number;
  reserved?: number;
}

/** HWPT_INVALIDATE with struct iommu_hwpt_vtd_s1_invalidate entries. */
export function invalidate(iommufd: Iommufd, hwptId: number, ...entries: Entry[]): InvalidateResult {
  const view = new DataView(new ArrayBuffer(INVALIDATE_VTD_S1_BYTES * entries.length));
  entries.forEach((entry, i) => {
    const at = i * INVALIDATE_VTD_S1_BYTES;
    view.setBigUint64(at, entry.addr ?? 0n, true);
    view.setBigUint64(at + 8, entry.npages ?? 1n, true);
    view.setUint32(at + 16, entry.flags ?? 0, true);
    view.setUint32(at + 20, entry.reserved ?? 0, true);
  });
  return iommufd.hwptInvalidate({ hwptId, dataType: 0, entryLength: INVALIDATE_VTD_S1_BYTES, entryCount: entries.length, data: new Uint8Array(view.buffer) });
}

export const EVERYTHING: Entry = { addr: 0n, npages: 0xffff_ffff_ffff_ffffn };

/** A guest's first stage of four levels in its RAM: literal bits of SDM volume 3, 4.5 (P, R/W, U/S, A, D). */
export class GuestTables {
  readonly root: number;
  private next: number;

  constructor(
    private readonly ram: RamBlock,
    /** Offset in RAM from which tables are taken. */
    offset = TABLES,
  ) {
    this.root = GPA + offset;
    this.next = offset + 0x1000;
  }

  /** Maps a page; returns the offset in RAM of its entry. */
  map(iova: number, gpa: number, bits = 0x7n): number {
    let table = this.root - GPA;
    for (const shift of [39, 30, 21]) {
      const at = table + 8 * (Math.floor(iova / 2 ** shift) % 512);
      const entry = this.load(at);
      if ((entry & 1n) === 0n) {
        this.store(at, BigInt(GPA + this.next) | 0x7n);
        table = this.next;
        this.next += 0x1000;
      } else {
        table = Number(entry & 0xf_ffff_ffff_f000n) - GPA;
      }
    }
    const at = table + 8 * (Math.floor(iova / 4096) % 512);
    this.store(at, BigInt(gpa) | bits);
    return at;
  }

  load(offset: number): bigint {
    const bytes = new Uint8Array(8);
    this.ram.read(offset, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  store(offset: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.ram.write(offset, bytes);
  }
}

/** What a function reads at an IOVA; null: it was refused. */
export function readText(bound: Bound, iova: number, length: number, options: { pasid?: number; ats?: boolean } = {}): string | null {
  const bytes = new Engine(bound.device).read(iova, length, options);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}

export function writeText(bound: Bound, iova: number, text: string, options: { pasid?: number; ats?: boolean } = {}): boolean {
  return new Engine(bound.device).write(iova, new TextEncoder().encode(text), options);
}

/** The refusal of a call. */
export function refusal(call: () => unknown): HostError {
  try {
    call();
  } catch (error) {
    if (error instanceof HostError) {
      return error;
    }
    throw error;
  }
  throw new Error("not refused");
}
