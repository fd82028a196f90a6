/** Tables of functions: their making, their dirty pages, what is invalidated in them (Linux drivers/iommu/iommufd/hw_pagetable.c). */
import {
  DIRTY_BITMAP_NO_CLEAR,
  HwptAllocFlags,
  HwptDataType,
  type DirtyBitmapRequest,
  type HwptAllocRequest,
  type InvalidateRequest,
  type InvalidateResult,
} from "../../../iommufd/index.js";
import { FaultQueue } from "./event-queue.js";
import { U64_MAX } from "./ioas.js";
import { checkSameIommu, DeviceObject, type Hwpt, HwptNested, HwptPaging, IoasObject, ViommuObject } from "./iommufd-objects.js";
import type { KernelRules } from "./kernel-rules.js";
import { guarded, type ObjectTable, type Refuse } from "./objects.js";

const KNOWN_HWPT_FLAGS =
  HwptAllocFlags.NEST_PARENT | HwptAllocFlags.DIRTY_TRACKING | HwptAllocFlags.FAULT_ID_VALID | HwptAllocFlags.PASID;

/** HWPT_ALLOC: on an IOAS, on a vIOMMU, or straight on a nesting parent. */
export function allocateHwpt(table: ObjectTable, request: HwptAllocRequest, refuse: Refuse): Hwpt {
  const { flags, data } = request;
  if ((request.dataType === HwptDataType.NONE) !== (data.length === 0)) {
    throw refuse("EINVAL", `${data.length} bytes of data of type ${request.dataType}`);
  }
  const device = table.get(request.devId, DeviceObject, refuse);
  const target = table.find(request.ptId);
  if (target === undefined) {
    throw refuse("EINVAL", `no object ${request.ptId}`);
  }
  let hwpt: Hwpt;
  if (target instanceof IoasObject) {
    if (data.length > 0) {
      throw refuse("EOPNOTSUPP", "a table of an IOAS takes no data");
    }
    hwpt = allocatePaging(table, target, device, flags, false, refuse);
  } else if (target instanceof ViommuObject) {
    checkSameIommu(target, device, refuse);
    hwpt = table.add(new HwptNested(target, target.share.allocateNested(request, refuse), false));
  } else if (target instanceof HwptPaging) {
    hwpt = allocateOnParent(table, target, device, request, refuse);
  } else {
    throw refuse("EINVAL", `a ${target.type} has no tables`);
  }
  if ((flags & HwptAllocFlags.FAULT_ID_VALID) !== 0) {
    try {
      hwpt.fault = table.get(request.faultId ?? 0, FaultQueue, refuse);
      hwpt.fault.users++;
    } catch (error) {
      table.remove(hwpt);
      throw error;
    }
  }
  return hwpt;
}

/** A table that is kept in step with an IOAS. @param auto for an attachment to the IOAS itself */
export function allocatePaging(table: ObjectTable, ioas: IoasObject, device: DeviceObject, flags: number, auto: boolean, refuse: Refuse): HwptPaging {
  const { master } = device;
  if ((flags & ~KNOWN_HWPT_FLAGS) !== 0) {
    throw refuse("EOPNOTSUPP", `flags 0x${(flags >>> 0).toString(16)}`);
  }
  const kind = flags & ~HwptAllocFlags.FAULT_ID_VALID;
  if (kind !== flags && (flags & HwptAllocFlags.NEST_PARENT) !== 0) {
    throw refuse("EOPNOTSUPP", "a nesting parent has no fault queue");
  }
  const domain = master.driver.allocatePaging(master, kind, refuse);
  try {
    ioas.pagetable.addDomain(domain, refuse);
  } catch (error) {
    domain.release();
    throw error;
  }
  const hwpt = new HwptPaging(ioas, master.driver, domain, auto, (flags & HwptAllocFlags.PASID) !== 0);
  ioas.hwpts.push(hwpt);
  return table.add(hwpt);
}

/** A nested table straight on a nesting parent (Linux iommufd_hwpt_nested_alloc). */
function allocateOnParent(table: ObjectTable, parent: HwptPaging, device: DeviceObject, request: HwptAllocRequest, refuse: Refuse): HwptNested {
  const { master } = device;
  const flags = request.flags & ~HwptAllocFlags.FAULT_ID_VALID;
  const domain = master.driver.allocateNested(master, parent, { ...request, flags }, refuse);
  return table.add(new HwptNested(parent, domain, (flags & HwptAllocFlags.PASID) !== 0));
}

/** HWPT_SET_DIRTY_TRACKING. */
export function setDirtyTracking({ domain }: HwptPaging, enable: boolean, refuse: Refuse): void {
  if (!domain.dirtyTracking) {
    throw refuse("EOPNOTSUPP", "the table was made without dirty tracking");
  }
  guarded(() => domain.setDirtyTracking(enable), refuse);
  if (enable) {
    // Writes before now do not count.
    domain.readDirty(0, 2 ** domain.apertureBits, true, () => {});
  }
}

/** HWPT_GET_DIRTY_BITMAP. */
export function readDirtyBitmap(table: ObjectTable, request: DirtyBitmapRequest, rules: KernelRules, refuse: Refuse): void {
  const { flags, iova, length, pageSize, bitmap } = request;
  if ((flags & ~DIRTY_BITMAP_NO_CLEAR) !== 0) {
    throw refuse("EOPNOTSUPP", `flags 0x${flags.toString(16)}`);
  }
  const { domain, ioas } = table.get(request.hwptId, HwptPaging, refuse);
  if (length === 0n && rules.refusesEmptyBitmaps) {
    throw refuse("EINVAL", "a range of length 0");
  }
  const end = iova + length;
  // Without a length its last byte is the one before the first: that wraps.
  if (iova + BigInt.asUintN(64, length - 1n) > U64_MAX) {
    throw refuse("EOVERFLOW", "the range wraps");
  }
  if (((iova | end) & (ioas.pagetable.alignment - 1n)) !== 0n || pageSize <= 0n || ((iova | end) & (pageSize - 1n)) !== 0n) {
    throw refuse("EINVAL", "the range is not made of pages");
  }
  if (!domain.dirtyTracking) {
    throw refuse("EOPNOTSUPP", "the table was made without dirty tracking");
  }
  if (length === 0n || !ioas.pagetable.covers(iova, length)) {
    throw refuse("EINVAL", "not all of the range is mapped");
  }
  const pages = Number(length / pageSize);
  if (bitmap.length * 8 < pages) {
    throw refuse("EFAULT", `a bitmap of ${bitmap.length} bytes is too small for ${pages} pages`);
  }
  const start = Number(iova);
  const size = Number(pageSize);
  const note = (base: number, bytes: number): void => {
    const last = Math.min(pages - 1, Math.floor((base + bytes - 1 - start) / size));
    for (let page = Math.max(0, Math.floor((base - start) / size)); page <= last; page++) {
      bitmap[page >> 3] |= 1 << (page & 7);
    }
  };
  guarded(() => domain.readDirty(start, Number(length), (flags & DIRTY_BITMAP_NO_CLEAR) === 0, note), refuse);
}

/** HWPT_INVALIDATE, of a vIOMMU or a nested table. */
export function invalidate(table: ObjectTable, request: InvalidateRequest): InvalidateResult {
  if (request.entryCount > 0 && request.entryLength === 0) {
    return { errno: "EINVAL", handled: 0 };
  }
  const target = table.find(request.hwptId);
  if (target instanceof ViommuObject) {
    return target.share.invalidate(request);
  }
  if (target instanceof HwptNested) {
    return target.domain.invalidate?.(request) ?? { errno: "EOPNOTSUPP", handled: 0 };
  }
  return { errno: target === undefined ? "ENOENT" : "EINVAL", handled: 0 };
}
