/** A simulated host with functions opened and bound, and a small driver of their DMA engines. */
import {
  createSimulatedHost,
  describeHost,
  ENGINE,
  ENGINE_ID,
  CONTROL_ATS,
  CONTROL_PASID,
  CONTROL_START,
  OPERATION_READ,
  OPERATION_WRITE,
  STATUS_FAULT,
  STATUS_BAD_REQUEST,
  type HostDescriptionInput,
  type SimulatedHost,
} from "../../../src/host/simulated/index.js";
import { NVME_ENGINE_OFFSET } from "../../../src/host/simulated/names/index.js";
import {
  HostError,
  HwptDataType,
  type Host,
  VfioRegion,
  type InvalidateResult,
  type Iommufd,
  type VfioDevice,
} from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { buildCd, buildSte, encodeCommand, type CD, type STE, type FieldValues } from "../../../src/smmuv3/spec/index.js";

export const SMMU0 = "smmu3.0x0000000009050000";
export const SMMU1 = "smmu3.0x0000000009070000";
export const A = "0000:01:00.0";
export const B = "0000:02:00.0";
export const OTHER = "0001:01:00.0";

type SmmuInput = HostDescriptionInput["smmus"][number];
type FunctionInput = HostDescriptionInput["functions"][number];

/** The platform of reference/linux-iommufd.md: two functions on one SMMU, a third on another. */
export function hostDescription(smmu: Partial<SmmuInput> = {}, fn: Partial<FunctionInput> = {}): HostDescriptionInput {
  const ids = { idr0: 0x0d44101b, idr1: 0x02730010, idr3: 0x1414, idr5: 0x74, aidr: 1, ...smmu };
  const shared = { vendor: 0x1b36, device: 0x10, class: 0x010802, bars: [{ index: 0, size: "64K" }], msixVectors: 8, ...fn };
  return {
    name: "test",
    memory: [{ numaNode: 0, base: 0x4000_0000, size: "16G" }],
    smmus: [
      { name: SMMU0, base: 0x905_0000, ...ids },
      { name: SMMU1, base: 0x907_0000, ...ids },
    ],
    functions: [
      { address: A, name: "NVMe 0", smmu: SMMU0, ...shared },
      { address: B, name: "NVMe 1", smmu: SMMU0, ...shared },
      { address: OTHER, name: "NVMe 2", smmu: SMMU1, ...shared },
    ],
  };
}

export function makeHost(smmu: Partial<SmmuInput> = {}, fn: Partial<FunctionInput> = {}, kernel?: HostDescriptionInput["kernel"]): SimulatedHost {
  return createSimulatedHost(describeHost({ ...hostDescription(smmu, fn), kernel }));
}

/** The errno that a call is refused with; "ok" when it is not. */
export function errno(call: () => unknown): string {
  try {
    call();
    return "ok";
  } catch (error) {
    if (error instanceof HostError) {
      return error.errno;
    }
    throw error;
  }
}

export interface Bound {
  readonly device: VfioDevice;
  readonly devId: number;
}

export function bind(host: Pick<Host, "openDevice">, iommufd: Iommufd, address: string): Bound {
  const device = host.openDevice(address);
  const devId = device.bind(iommufd.fd);
  // Memory decoding and bus mastering.
  device.regionWrite(VfioRegion.CONFIG, 4, Uint8Array.of(6, 0));
  return { device, devId };
}

export function map(iommufd: Iommufd, ioasId: number, block: RamBlock, iova: number, length = block.size, offset = 0): bigint {
  return iommufd.ioasMap({
    ioasId,
    source: { address: block.hostAddress + offset },
    length: BigInt(length),
    iova: BigInt(iova),
    readable: true,
    writable: true,
  });
}

/** A guest's stream table entry as HWPT_ALLOC takes it. */
export function nestedData(fields: FieldValues<typeof STE>): Uint8Array {
  return bytesOf(buildSte(fields).subarray(0, 4));
}

export function rawNested(word0: bigint, word1 = 0n): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, word0, true);
  view.setBigUint64(8, word1, true);
  return new Uint8Array(view.buffer);
}

export function nested(iommufd: Iommufd, devId: number, viommuId: number, fields: FieldValues<typeof STE>): number {
  return iommufd.hwptAlloc({ flags: 0, devId, ptId: viommuId, dataType: HwptDataType.ARM_SMMUV3, data: nestedData(fields) });
}

export function invalidate(iommufd: Iommufd, viommuId: number, ...commands: Int32Array[]): InvalidateResult {
  const data = new Uint8Array(16 * commands.length);
  commands.forEach((command, i) => data.set(bytesOf(command), 16 * i));
  return iommufd.hwptInvalidate({ hwptId: viommuId, dataType: 1, entryLength: 16, entryCount: commands.length, data });
}

export { encodeCommand };

/** Writes a structure of 32-bit words into guest memory. */
export function putWords(block: RamBlock, offset: number, words: Int32Array): void {
  block.write(offset, bytesOf(words));
}

export function bytesOf(words: Int32Array): Uint8Array {
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => view.setInt32(4 * i, word, true));
  return bytes;
}

/** A guest's stage 1 with 4 KiB granules and 39 bits (levels 1 to 3) in a RAM block whose GPA 0 is `base`. */
export class GuestTables {
  private next: number;
  readonly root: number;

  constructor(
    private readonly ram: RamBlock,
    private readonly base: number,
    offset: number,
  ) {
    this.root = offset;
    this.next = offset + 0x1000;
  }

  map(iova: number, gpa: number): void {
    let table = this.root;
    for (const shift of [30, 21]) {
      const at = table + 8 * (Math.floor(iova / 2 ** shift) % 512);
      const entry = this.load(at);
      if ((entry & 1n) === 0n) {
        this.store(at, BigInt(this.base + this.next) | 3n);
        table = this.next;
        this.next += 0x1000;
      } else {
        table = Number(entry & 0xffff_ffff_f000n) - this.base;
      }
    }
    // AF, unprivileged read and write, not global.
    this.store(table + 8 * (Math.floor(iova / 4096) % 512), BigInt(gpa) | 0xc43n);
  }

  unmap(iova: number): void {
    let table = this.root;
    for (const shift of [30, 21]) {
      table = Number(this.load(table + 8 * (Math.floor(iova / 2 ** shift) % 512)) & 0xffff_ffff_f000n) - this.base;
    }
    this.store(table + 8 * (Math.floor(iova / 4096) % 512), 0n);
  }

  /** The context descriptor for these tables. */
  context(asid: number, extra: FieldValues<typeof CD> = {}): Int32Array {
    return buildCd({ V: 1, T0SZ: 25, TG0: 0, IPS: 4, AA64: 1, EPD1: 1, R: 1, A: 1, ASET: 1, ASID: asid, TTB0: this.base + this.root, MAIR0: 0xff, ...extra });
  }

  private load(offset: number): bigint {
    const bytes = new Uint8Array(8);
    this.ram.read(offset, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  private store(offset: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.ram.write(offset, bytes);
  }
}

/** DMA by the function's engine. */
export class Engine {
  constructor(private readonly device: VfioDevice) {}

  /** Where BAR 0 has the engine: behind an NVMe controller's registers, or where it begins. */
  private get at(): number {
    if (this.device.regionInfo(0).size <= NVME_ENGINE_OFFSET) {
      return 0;
    }
    const id = new Uint8Array(4);
    this.device.regionRead(0, NVME_ENGINE_OFFSET + ENGINE.ID, id);
    return new DataView(id.buffer).getUint32(0, true) === ENGINE_ID ? NVME_ENGINE_OFFSET : 0;
  }

  set(register: number, value: number): void {
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, value >>> 0, true);
    this.device.regionWrite(0, this.at + register, data);
  }

  get(register: number): number {
    const out = new Uint8Array(4);
    this.device.regionRead(0, this.at + register, out);
    return new DataView(out.buffer).getUint32(0, true);
  }

  /** Writes bytes to an IOVA; false: it faulted. */
  write(iova: number, data: Uint8Array, options: { pasid?: number; ats?: boolean } = {}): boolean {
    this.device.regionWrite(0, this.at + ENGINE.BUFFER, data);
    this.address(ENGINE.DST_LOW, iova);
    return this.run(data.length, OPERATION_WRITE, options);
  }

  /** Reads bytes from an IOVA; null: it faulted. */
  read(iova: number, length: number, options: { pasid?: number; ats?: boolean } = {}): Uint8Array | null {
    this.address(ENGINE.SRC_LOW, iova);
    if (!this.run(length, OPERATION_READ, options)) {
      return null;
    }
    const out = new Uint8Array(length);
    this.device.regionRead(0, this.at + ENGINE.BUFFER, out);
    return out;
  }

  raise(vector: number): void {
    this.set(ENGINE.INTERRUPT, vector);
  }

  private address(register: number, iova: number): void {
    this.set(register, iova % 0x1_0000_0000);
    this.set(register + 4, Math.floor(iova / 0x1_0000_0000));
  }

  private run(length: number, operation: number, options: { pasid?: number; ats?: boolean }): boolean {
    this.set(ENGINE.LENGTH, length);
    this.set(ENGINE.PASID, options.pasid ?? 0);
    this.set(
      ENGINE.CONTROL,
      CONTROL_START | (operation << 1) | (options.pasid === undefined ? 0 : CONTROL_PASID) | (options.ats === true ? CONTROL_ATS : 0),
    );
    const status = this.get(ENGINE.STATUS);
    if ((status & STATUS_BAD_REQUEST) !== 0) {
      throw new Error("the engine refused the request");
    }
    return (status & STATUS_FAULT) === 0;
  }
}
