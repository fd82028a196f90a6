/** What a guest's PASID entry says, on a nesting parent (Linux drivers/iommu/intel/nested.c). */
import {
  type Errno,
  HWPT_VTD_S1,
  HWPT_VTD_S1_BYTES,
  HwptVtdS1Flags,
  INVALIDATE_VTD_S1,
  INVALIDATE_VTD_S1_BYTES,
  InvalidateDataType,
  type InvalidateRequest,
  type InvalidateResult,
  InvalidateVtdFlags,
} from "../../../../iommufd/index.js";
import type { NestedDomain } from "../iommu-driver.js";
import type { Refuse } from "../objects.js";
import { spanOf } from "../page-span.js";
import { flushPages } from "./cache-tags.js";
import { ALL_PAGES, type Pages } from "./descriptors.js";
import { type Attachment, DomainIds } from "./domain-ids.js";
import type { VtdPagingDomain } from "./paging-domain.js";

const U64_MAX = (1n << 64n) - 1n;
const PAGE_NUMBER_MASK = (1n << 52n) - 1n;

/** struct iommu_hwpt_vtd_s1, decoded. */
export interface GuestTable {
  /** GPA of the first table; its lowest 12 bits are dropped, as Linux does. */
  readonly pointer: bigint;
  /** addr_width: checked when a function is attached. */
  readonly addressBits: number;
  readonly supervisor: boolean;
  readonly extendedAccess: boolean;
  readonly writeProtect: boolean;
}

/** Reads the structure: EINVAL for another length than its own (iommu_copy_struct_from_user). Unknown flags are passed over, as in Linux. */
export function readGuestTable(data: Uint8Array, refuse: Refuse): GuestTable {
  if (data.length !== HWPT_VTD_S1_BYTES) {
    throw refuse("EINVAL", `${data.length} bytes of data`);
  }
  const view = new DataView(data.buffer, data.byteOffset);
  const flags = view.getUint32(HWPT_VTD_S1.FLAGS, true);
  return {
    pointer: view.getBigUint64(HWPT_VTD_S1.PGTBL_ADDR, true) & ~0xfffn,
    addressBits: view.getUint32(HWPT_VTD_S1.ADDR_WIDTH, true),
    supervisor: (flags & HwptVtdS1Flags.SRE) !== 0,
    extendedAccess: (flags & HwptVtdS1Flags.EAFE) !== 0,
    writeProtect: (flags & HwptVtdS1Flags.WPE) !== 0,
  };
}

export class VtdNestedDomain implements NestedDomain {
  readonly ids = new DomainIds();
  readonly attachments = new Set<Attachment>();

  constructor(
    readonly parent: VtdPagingDomain,
    readonly guest: GuestTable,
  ) {}

  /** HWPT_INVALIDATE: entries one after the other; those before a refused one are done. */
  readonly invalidate = (request: InvalidateRequest): InvalidateResult => {
    if (request.dataType !== InvalidateDataType.VTD_S1) {
      return { errno: "EINVAL", handled: 0 };
    }
    for (let handled = 0; handled < request.entryCount; handled++) {
      const errno = this.invalidateEntry(request, handled);
      if (errno !== null) {
        return { errno, handled };
      }
    }
    return { errno: null, handled: request.entryCount };
  };

  release(): void {}

  private invalidateEntry(request: InvalidateRequest, index: number): Errno | null {
    const { data, entryLength } = request;
    if (entryLength < INVALIDATE_VTD_S1_BYTES) {
      return "EINVAL";
    }
    const at = index * entryLength;
    if (at + entryLength > data.length) {
      return "EFAULT";
    }
    if (data.subarray(at + INVALIDATE_VTD_S1_BYTES, at + entryLength).some((byte) => byte !== 0)) {
      return "E2BIG";
    }
    const view = new DataView(data.buffer, data.byteOffset + at);
    const address = view.getBigUint64(INVALIDATE_VTD_S1.ADDR, true);
    const pages = view.getBigUint64(INVALIDATE_VTD_S1.NPAGES, true);
    const flags = view.getUint32(INVALIDATE_VTD_S1.FLAGS, true);
    if ((flags & ~InvalidateVtdFlags.LEAF) !== 0 || view.getUint32(INVALIDATE_VTD_S1.RESERVED, true) !== 0) {
      return "EOPNOTSUPP";
    }
    if ((address & 0xfffn) !== 0n || (pages === U64_MAX && address !== 0n)) {
      return "EINVAL";
    }
    if (pages !== 0n) {
      flushPages(this.attachments, [], "pasid", pagesOf(address, pages), (flags & InvalidateVtdFlags.LEAF) !== 0);
    }
    return null;
  }
}

/** A range that passes the end of the addresses is everything. */
function pagesOf(address: bigint, pages: bigint): Pages {
  const first = address >> 12n;
  const last = first + pages - 1n;
  return last > PAGE_NUMBER_MASK ? ALL_PAGES : spanOf(Number(first), Number(last));
}
