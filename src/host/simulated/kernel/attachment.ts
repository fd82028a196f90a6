/**
 * Attaching functions to tables (Linux iommufd device.c): the reservations and MSI pages that go with an
 * attachment, replacement in one step, and tables that an IOAS makes by itself. A call that throws leaves
 * the old attachment as it was.
 */
import { HostError, type IovaRange } from "../../../iommufd/index.js";
import {
  DeviceObject,
  type Hwpt,
  HwptNested,
  HwptPaging,
  IoasObject,
  pagingOf,
} from "./iommufd-objects.js";
import { allocatePaging } from "./hwpt.js";
import type { ObjectTable, Refuse } from "./objects.js";

/** Host-physical pages of doorbells by their place in the MSI window, the same in all tables of an iommufd. */
export class MsiWindow {
  private readonly pages: number[] = [];

  /** The place of a doorbell's page in a window of that size; ENOMEM when the window is full. */
  placeOf(doorbellPage: number, windowPages: number, refuse: Refuse): number {
    let place = this.pages.indexOf(doorbellPage);
    if (place < 0) {
      place = this.pages.length;
      if (place === windowPages) {
        throw refuse("ENOMEM", "the window for MSIs is full");
      }
      this.pages.push(doorbellPage);
    }
    return place;
  }

  pageAt(place: number): number {
    return this.pages[place];
  }
}

/** What attaching needs of the iommufd. */
export interface AttachContext {
  readonly table: ObjectTable;
  readonly msiWindow: MsiWindow;
}

/** VFIO_DEVICE_ATTACH_IOMMUFD_PT: an IOAS or a HWPT, in place of what is attached. */
export function attachDevice(context: AttachContext, device: DeviceObject, ptId: number, refuse: Refuse): void {
  const target = context.table.find(ptId);
  if (target === undefined) {
    throw refuse("ENOENT", `no object ${ptId}`);
  }
  if (target instanceof IoasObject) {
    attachIoas(context, device, target, refuse);
  } else if (target instanceof HwptPaging || target instanceof HwptNested) {
    attachHwpt(context, device, target, refuse);
  } else {
    throw refuse("EINVAL", `a ${target.type} is not a table`);
  }
}

/** VFIO_DEVICE_DETACH_IOMMUFD_PT: the function's DMA is blocked from then on. */
export function detachDevice(context: AttachContext, device: DeviceObject, refuse: Refuse): void {
  const old = device.hwpt;
  if (old !== null) {
    device.master.attach(null, refuse);
    device.hwpt = null;
    device.attachedAsPasid = false;
    pagingOf(old).ioas.pagetable.release(device);
    device.users--;
    putHwpt(context, old);
  }
}

/** The same for transactions with a PASID (Linux vfio_iommufd_physical_pasid_attach_ioas). */
export function attachPasid(context: AttachContext, device: DeviceObject, pasid: number, ptId: number, refuse: Refuse): void {
  if (pasid >= 2 ** 31) {
    throw refuse("ENOSPC", `PASID ${pasid}`);
  }
  const target = context.table.find(ptId);
  if (target === undefined) {
    throw refuse("ENOENT", `no object ${ptId}`);
  }
  if (pasid === 0) {
    attachPasidZero(context, device, ptId, refuse);
    return;
  }
  const isTable = target instanceof HwptPaging || target instanceof HwptNested;
  if (!isTable || !target.forPasids || device.hwpt?.forPasids === false) {
    throw refuse("EINVAL", "PASIDs need tables that were made for them (HWPT_ALLOC_PASID)");
  }
  const old = device.pasids.get(pasid);
  if (old === target) {
    return;
  }
  checkFaultQueue(device, target, refuse);
  // A function without PASIDs sends none: its driver is not asked (Linux __iommu_set_group_pasid).
  if (device.master.pasidBits > 0) {
    device.master.attachPasid(pasid, target.domain, refuse);
  }
  device.pasids.set(pasid, target);
  target.users++;
  if (old !== undefined) {
    putHwpt(context, old);
  } else {
    device.users++;
  }
}

/** PASID 0 is the function itself (IOMMU_NO_PASID): what VFIO has attached so it replaces, what it has not it attaches. */
function attachPasidZero(context: AttachContext, device: DeviceObject, ptId: number, refuse: Refuse): void {
  if (device.hwpt !== null && !device.attachedAsPasid) {
    throw refuse("EBUSY", "the function is attached");
  }
  attachDevice(context, device, ptId, refuse);
  device.attachedAsPasid = true;
}

export function detachPasid(context: AttachContext, device: DeviceObject, pasid: number, refuse: Refuse): void {
  if (pasid === 0) {
    if (device.attachedAsPasid) {
      detachDevice(context, device, refuse);
    }
    return;
  }
  const old = device.pasids.get(pasid);
  if (old !== undefined) {
    if (device.master.pasidBits > 0) {
      device.master.attachPasid(pasid, null, refuse);
    }
    device.pasids.delete(pasid);
    device.users--;
    putHwpt(context, old);
  }
}

/** Makes a doorbell reachable by the function; returns the address that its vectors write to. */
export function prepareMsi(context: AttachContext, device: DeviceObject, doorbell: number, refuse: Refuse): number {
  const { mapsDoorbells, reserved } = device.master.driver;
  if (!mapsDoorbells) {
    return doorbell;
  }
  if (device.hwpt === null) {
    throw refuse("ENOSPC", "the function is attached to nothing that would map the doorbell");
  }
  const offset = doorbell % 4096;
  const windowPages = Number(reserved.last - reserved.start + 1n) / 4096;
  const place = context.msiWindow.placeOf(doorbell - offset, windowPages, refuse);
  pagingOf(device.hwpt).installMsi(place, doorbell - offset, refuse);
  device.msiPages.add(place);
  return Number(reserved.start) + place * 4096 + offset;
}

/** A table that the IOAS has made before and that suits the function, or a new one. */
function attachIoas(context: AttachContext, device: DeviceObject, ioas: IoasObject, refuse: Refuse): void {
  for (const hwpt of ioas.hwpts) {
    if (hwpt.auto) {
      try {
        attachHwpt(context, device, hwpt, refuse);
        return;
      } catch (error) {
        // EINVAL says that the table does not suit this function; everything else is a failure.
        if (!(error instanceof HostError) || error.errno !== "EINVAL") {
          throw error;
        }
      }
    }
  }
  const hwpt = allocatePaging(context.table, ioas, device, 0, true, refuse);
  try {
    attachHwpt(context, device, hwpt, refuse);
  } catch (error) {
    context.table.remove(hwpt);
    throw error;
  }
}

function checkFaultQueue(device: DeviceObject, hwpt: Hwpt, refuse: Refuse): void {
  if (hwpt.fault !== null && device.master.driver.wantsPageRequests) {
    throw refuse("ENODEV", "the table has a fault queue, and the function makes no page requests");
  }
}

function attachOne(context: AttachContext, device: DeviceObject, hwpt: Hwpt, refuse: Refuse): void {
  const old = device.hwpt;
  if (old === hwpt) {
    return;
  }
  checkFaultQueue(device, hwpt, refuse);
  if (device.pasids.size > 0 && !hwpt.forPasids) {
    throw refuse("EINVAL", "PASIDs of the function are attached; the table was not made for that (HWPT_ALLOC_PASID)");
  }
  const { ioas } = pagingOf(hwpt);
  const oldIoas = old === null ? null : pagingOf(old).ioas;
  try {
    if (ioas !== oldIoas) {
      reservedOf(device).forEach(({ start, last }) => ioas.pagetable.reserve(start, last, device, refuse));
    }
    for (const place of device.msiPages) {
      pagingOf(hwpt).installMsi(place, context.msiWindow.pageAt(place), refuse);
    }
    device.master.attach(hwpt.domain, refuse);
  } catch (error) {
    if (ioas !== oldIoas) {
      ioas.pagetable.release(device);
    }
    throw error;
  }
  device.hwpt = hwpt;
  hwpt.users++;
  if (old === null) {
    device.users++;
  } else {
    if (ioas !== oldIoas) {
      oldIoas!.pagetable.release(device);
    }
    putHwpt(context, old);
  }
}

/**
 * IOVAs that an IOAS loses with a function: its driver's window, and what the firmware keeps from it (Linux
 * iopt_table_enforce_dev_resv_regions); a range of type direct-relaxable counts no more.
 */
function reservedOf(device: DeviceObject): IovaRange[] {
  const window = device.master.driver.reserved;
  const others = (device.device.description.reserved ?? [])
    .filter(({ type }) => type === "reserved" || type === "msi")
    .map(({ base, size }) => ({ start: BigInt(base), last: BigInt(base) + BigInt(size) - 1n }))
    .filter(({ start, last }) => start < window.start || last > window.last);
  return [window, ...others];
}

/** Other functions of its IOMMU group that are attached: the group has one table (Linux iommufd_hw_pagetable_attach). */
function attachedPeers(context: AttachContext, device: DeviceObject): DeviceObject[] {
  const { group } = device.device.description;
  return context.table.live().filter(
    (object): object is DeviceObject => object instanceof DeviceObject && object !== device && object.hwpt !== null && group !== null && object.device.description.group === group,
  );
}

/** What is attached in place of another table goes to the whole group; what is attached anew has to be what the group has. */
function attachHwpt(context: AttachContext, device: DeviceObject, hwpt: Hwpt, refuse: Refuse): void {
  const peers = attachedPeers(context, device);
  if (device.hwpt === null) {
    const other = peers.find((peer) => peer.hwpt !== hwpt);
    if (other !== undefined) {
      throw refuse("EINVAL", `${other.device.description.address} of the same IOMMU group is attached to another table`);
    }
    attachOne(context, device, hwpt, refuse);
    return;
  }
  const done: Array<{ device: DeviceObject; old: Hwpt }> = [];
  // The new table outlives a way back: who made it takes it away. The old one has a user until the last is over.
  hwpt.users++;
  try {
    for (const one of [device, ...peers]) {
      const old = one.hwpt!;
      attachOne(context, one, hwpt, refuse);
      done.push({ device: one, old });
    }
  } catch (error) {
    done.reverse().forEach(({ device: one, old }) => attachOne(context, one, old, refuse));
    throw error;
  } finally {
    hwpt.users--;
  }
}

function putHwpt(context: AttachContext, hwpt: Hwpt): void {
  hwpt.users--;
  if (hwpt instanceof HwptPaging && hwpt.auto && hwpt.users === 1) {
    context.table.remove(hwpt);
  }
}
