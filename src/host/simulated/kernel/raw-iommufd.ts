/**
 * Structures of iommufd as the kernel reads them (Linux drivers/iommu/iommufd/main.c): each has a least size (EINVAL), may
 * be longer where zeros follow (E2BIG), and has fields that are to be zero (EOPNOTSUPP). What they ask for is the
 * methods' to answer.
 */
import { HwInfoFlags, HwptAllocFlags, type IovaRange } from "../../../iommufd/index.js";
import type { SimulatedIommufd } from "./iommufd.js";
import { IoasObject } from "./iommufd-objects.js";
import type { KernelRules } from "./kernel-rules.js";
import type { Refuse } from "./objects.js";
import type { RawStructure } from "./raw-ioctl.js";

type Run = (iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse) => void;

interface Operation {
  /** Bytes of the structure. */
  readonly size: number;
  /** Bytes that there are to be at least. */
  readonly least: number;
  /** Where 32-bit or 16-bit fields are that have to be zero. */
  readonly reserved?: readonly number[];
  readonly run: Run;
}

/** Flags of IOAS_MAP and IOAS_COPY. */
const FIXED_IOVA = 1;
const WRITEABLE = 2;
const READABLE = 4;

function mapFlags(s: RawStructure): { readonly fixed: boolean; readonly readable: boolean; readonly writable: boolean; readonly extra: number } {
  const flags = s.u32(4);
  return { fixed: (flags & FIXED_IOVA) !== 0, readable: (flags & READABLE) !== 0, writable: (flags & WRITEABLE) !== 0, extra: flags & ~(FIXED_IOVA | WRITEABLE | READABLE) };
}

const map = (isFile: boolean): Run => (iommufd, s) => {
  const { fixed, readable, writable, extra } = mapFlags(s);
  const source = isFile ? { fd: s.i32(12), offset: Number(s.u64(16)) } : { address: Number(s.u64(16)) };
  s.setU64(32, iommufd.ioasMap({ ioasId: s.u32(8), source, length: s.u64(24), iova: fixed ? s.u64(32) : null, readable, writable, extraFlags: extra }));
};

function allowIovas(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const count = s.u32(8);
  const bytes = s.pointed(16, 16 * count, refuse);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const range = (at: number): IovaRange => ({ start: view.getBigUint64(at, true), last: view.getBigUint64(at + 8, true) });
  iommufd.ioasAllowIovas(s.u32(4), Array.from({ length: count }, (_unused, n) => range(16 * n)));
}

function iovaRanges(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const { ranges, alignment } = iommufd.ioasIovaRanges(s.u32(4));
  const room = s.u32(8);
  s.setU32(8, ranges.length);
  s.setU64(24, alignment);
  const given = ranges.slice(0, room);
  const bytes = s.pointed(16, 16 * given.length, refuse);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  given.forEach(({ start, last }, n) => {
    view.setBigUint64(16 * n, start, true);
    view.setBigUint64(16 * n + 8, last, true);
  });
  if (ranges.length > room) {
    throw refuse("EMSGSIZE", `${ranges.length} ranges, and room for ${room}`);
  }
}

function copy(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const { fixed, readable, writable, extra } = mapFlags(s);
  if (extra !== 0) {
    throw refuse("EOPNOTSUPP", `flags 0x${s.u32(4).toString(16)}`);
  }
  s.setU64(24, iommufd.ioasCopy({ dstIoasId: s.u32(8), srcIoasId: s.u32(12), length: s.u64(16), dstIova: fixed ? s.u64(24) : null, srcIova: s.u64(32), readable, writable }));
}

function option(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const operation = s.u16(8);
  if (operation > 1) {
    // The object is looked for first.
    iommufd.option(s.u32(4), "get", s.u32(12), 0n);
    throw refuse("EOPNOTSUPP", `operation ${operation}`);
  }
  s.setU64(16, iommufd.option(s.u32(4), operation === 1 ? "get" : "set", s.u32(12), s.u64(16)));
}

function compatibleIoas(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  switch (s.u16(8)) {
    case 0:
      return s.setU32(4, iommufd.compatibleIoas(refuse));
    case 1:
      return iommufd.setCompatibleIoas(s.u32(4), refuse);
    case 2:
      return iommufd.setCompatibleIoas(null, refuse);
    default:
      throw refuse("EOPNOTSUPP", `operation ${s.u16(8)}`);
  }
}

function allocateHwpt(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const flags = s.u32(4);
  const [type, length] = [s.u32(24), s.u32(28)];
  if ((type === 0) !== (length === 0)) {
    throw refuse("EINVAL", `${length} bytes of data of type ${type}`);
  }
  if (length > 0 && iommufd.table.find(s.u32(12)) instanceof IoasObject) {
    throw refuse("EOPNOTSUPP", "a table of an IOAS takes no data, and nobody reads it");
  }
  const faultId = (flags & HwptAllocFlags.FAULT_ID_VALID) === 0 ? undefined : s.u32(40);
  s.setU32(16, iommufd.hwptAlloc({ flags, devId: s.u32(8), ptId: s.u32(12), dataType: type, data: s.pointed(32, length, refuse), faultId }));
}

function hwInfo(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const [flags, length] = [s.u32(4), s.u32(12)];
  const inputType = (flags & HwInfoFlags.INPUT_TYPE) === 0 ? undefined : s.u32(24);
  const info = iommufd.getHwInfo(s.u32(8), { flags, dataLength: length, inputType });
  s.pointed(16, length, refuse).set(info.data.subarray(0, length));
  s.setU32(12, info.dataLength);
  s.setU32(24, info.type);
  s.setU32(28, info.maxPasidLog2);
  s.setU64(32, BigInt(info.capabilities));
}

function setDirtyTracking(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  if (s.u32(4) > 1) {
    throw refuse("EOPNOTSUPP", `flags 0x${s.u32(4).toString(16)}`);
  }
  iommufd.hwptSetDirtyTracking(s.u32(8), s.u32(4) === 1);
}

function dirtyBitmap(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const [length, pageSize] = [s.u64(24), s.u64(32)];
  const bytes = pageSize === 0n ? 0 : Math.min(Math.ceil(Number(length / pageSize) / 8), 2 ** 20);
  iommufd.hwptGetDirtyBitmap({ hwptId: s.u32(4), flags: s.u32(8), iova: s.u64(16), length, pageSize, bitmap: s.pointed(40, bytes, refuse) });
}

function invalidate(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const [entryLength, entryCount] = [s.u32(20), s.u32(24)];
  if (entryCount > 0 && entryLength === 0) {
    throw refuse("EINVAL", "entries of no bytes");
  }
  const { errno, handled } = iommufd.hwptInvalidate({ hwptId: s.u32(4), dataType: s.u32(16), entryLength, entryCount, data: s.pointed(8, entryLength * entryCount, refuse) });
  s.setU32(24, handled);
  if (errno !== null) {
    throw refuse(errno, `${handled} of ${entryCount} entries`);
  }
}

function allocateViommu(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  const length = s.u32(24);
  const data = length === 0 ? undefined : s.pointed(32, length, refuse);
  s.setU32(20, iommufd.viommuAlloc({ flags: s.u32(4), type: s.u32(8), devId: s.u32(12), hwptId: s.u32(16), data }));
}

/** Queues that come with a descriptor: what a process may do with their streams is for the methods that give them. */
function noDescriptor(stream: { close(): void }): void {
  stream.close();
}

function allocateFaultQueue(iommufd: SimulatedIommufd, s: RawStructure, refuse: Refuse): void {
  if (s.u32(4) !== 0) {
    throw refuse("EOPNOTSUPP", `flags 0x${s.u32(4).toString(16)}`);
  }
  const { id, stream } = iommufd.faultQueueAlloc();
  s.setU32(8, id);
  noDescriptor(stream);
}

function allocateVeventq(iommufd: SimulatedIommufd, s: RawStructure): void {
  const { id, stream } = iommufd.veventqAlloc({ flags: s.u32(4), viommuId: s.u32(8), type: s.u32(12), depth: s.u32(16) });
  s.setU32(20, id);
  noDescriptor(stream);
}

const operations = new Map<number, Operation>([
  [0x80, { size: 8, least: 8, run: (iommufd, s) => iommufd.destroy(s.u32(4)) }],
  [0x81, { size: 12, least: 12, run: (iommufd, s) => s.setU32(8, iommufd.ioasAlloc(s.u32(4))) }],
  [0x82, { size: 24, least: 24, reserved: [12], run: allowIovas }],
  [0x83, { size: 40, least: 40, run: copy }],
  [0x84, { size: 32, least: 32, reserved: [12], run: iovaRanges }],
  [0x85, { size: 40, least: 40, reserved: [12], run: map(false) }],
  [0x86, { size: 24, least: 24, run: (iommufd, s) => s.setU64(16, iommufd.ioasUnmap(s.u32(4), s.u64(8), s.u64(16))) }],
  [0x87, { size: 24, least: 24, reserved: [10], run: option }],
  [0x88, { size: 12, least: 12, reserved: [10], run: compatibleIoas }],
  [0x89, { size: 48, least: 24, reserved: [20], run: allocateHwpt }],
  [0x8a, { size: 40, least: 32, run: hwInfo }],
  [0x8b, { size: 16, least: 16, reserved: [12], run: setDirtyTracking }],
  [0x8c, { size: 48, least: 48, reserved: [12], run: dirtyBitmap }],
  [0x8d, { size: 32, least: 32, reserved: [28], run: invalidate }],
  [0x8e, { size: 16, least: 16, run: allocateFaultQueue }],
  [0x8f, { size: 40, least: 40, run: map(true) }],
  [0x90, { size: 40, least: 24, reserved: [28], run: allocateViommu }],
  [0x91, { size: 24, least: 24, run: (iommufd, s) => s.setU32(12, iommufd.vdeviceAlloc({ viommuId: s.u32(4), devId: s.u32(8), virtId: s.u64(16) })) }],
  [0x92, { size: 8, least: 8, reserved: [4], run: (iommufd, _s, refuse) => iommufd.changeProcess(refuse) }],
  [0x93, { size: 32, least: 32, reserved: [28], run: allocateVeventq }],
  [0x94, { size: 40, least: 40, run: (iommufd, s, refuse) => iommufd.refuseHwQueue(s.u32(4), s.u32(12), s.u32(8), s.u64(32), refuse) }],
]);

/** Linux 7.3's IOAS_NOIOMMU_GET_PA, of devices without an IOMMU, which this host has not. */
const noIommuAddress: Operation = {
  size: 40,
  least: 40,
  reserved: [12],
  run: (_iommufd, _s, refuse) => {
    throw refuse("EOPNOTSUPP", "no device without an IOMMU");
  },
};

/** @param request the whole number, with its type @throws HostError */
export function iommufdIoctl(iommufd: SimulatedIommufd, rules: KernelRules, request: number, structure: RawStructure | null, refuse: Refuse): void {
  const number = request === (0x3b00 | (request & 0xff)) ? request & 0xff : 0;
  const operation = number === 0x95 && rules.hasNoIommuAddress ? noIommuAddress : operations.get(number);
  // The size is read before the number is looked at.
  if (structure === null && operation !== undefined) {
    throw refuse("EFAULT", "no structure");
  }
  if (operation === undefined) {
    throw refuse("ENOTTY", `no ioctl 0x${request.toString(16)}`);
  }
  const { size, least, reserved = [], run } = operation;
  const given = structure!.u32(0);
  if (given < least) {
    throw refuse("EINVAL", `${given} bytes, of ${least} at least`);
  }
  if (structure!.tail(size).subarray(0, Math.max(0, given - size)).some((byte) => byte !== 0)) {
    throw refuse("E2BIG", `more than ${size} bytes that are not zero`);
  }
  const isSet = (at: number): boolean => (at % 4 === 0 ? structure!.u32(at) : structure!.u16(at)) !== 0;
  if (reserved.some(isSet)) {
    throw refuse("EOPNOTSUPP", "a reserved field is not zero");
  }
  run(iommufd, structure!, refuse);
}
