/** The calls that change what an IOAS maps, with the checks of Linux's ioas.c (drivers/iommu/iommufd). */
import type { CopyRequest, MapRequest } from "../../../iommufd/index.js";
import type { DmaBuf } from "./dma-buf.js";
import type { AreaPart } from "./io-pagetable.js";
import { IoasObject } from "./iommufd-objects.js";
import type { ObjectTable, Refuse } from "./objects.js";

/** ULONG_MAX. */
export const U64_MAX = (1n << 64n) - 1n;

/** IOAS_MAP, IOAS_MAP_FILE. @returns the IOVA */
export function mapRange(table: ObjectTable, request: MapRequest, fileOf: (fd: number) => DmaBuf | null, refuse: Refuse): bigint {
  if ((request.extraFlags ?? 0) !== 0) {
    throw refuse("EOPNOTSUPP", `flags 0x${request.extraFlags!.toString(16)}`);
  }
  if (request.length >= U64_MAX || (request.iova ?? 0n) >= U64_MAX) {
    throw refuse("EOVERFLOW", "the range wraps");
  }
  if (!request.readable && !request.writable) {
    throw refuse("EINVAL", "neither readable nor writable");
  }
  const { pagetable } = table.get(request.ioasId, IoasObject, refuse);
  if (!("address" in request.source)) {
    const part = filePart(fileOf(request.source.fd), request.source, request.length, refuse);
    return pagetable.map([part], request.iova, request.readable, request.writable, refuse);
  }
  const part = { userAddress: request.source.address, length: request.length, writable: true };
  return pagetable.map([part], request.iova, request.readable, request.writable, refuse);
}

/** Linux iopt_map_file_pages, iopt_alloc_dmabuf_pages. */
function filePart(file: DmaBuf | null, { fd, offset }: { readonly fd: number; readonly offset: number }, length: bigint, refuse: Refuse): AreaPart {
  if (file === null) {
    throw refuse("EBADF", `${fd} is no file of this process`);
  }
  if (offset < 0 || BigInt(offset) + length > BigInt(file.bytes)) {
    throw refuse("EINVAL", `${length} bytes from ${offset} on, of a dma-buf of ${file.bytes}`);
  }
  if (file.revoked) {
    throw refuse("ENODEV", "the device does not give it now");
  }
  return { userAddress: file.address + offset, length, writable: true, file };
}

/** IOAS_COPY. @returns the IOVA */
export function copyRange(table: ObjectTable, request: CopyRequest, refuse: Refuse): bigint {
  if (request.length >= U64_MAX || request.srcIova >= U64_MAX || (request.dstIova ?? 0n) >= U64_MAX) {
    throw refuse("EOVERFLOW", "the range wraps");
  }
  if (!request.readable && !request.writable) {
    throw refuse("EINVAL", "neither readable nor writable");
  }
  const source = table.get(request.srcIoasId, IoasObject, refuse).pagetable;
  const parts = source.parts(request.srcIova, request.length, refuse);
  const target = table.get(request.dstIoasId, IoasObject, refuse).pagetable;
  return target.map(parts, request.dstIova, request.readable, request.writable, refuse);
}

/** IOAS_UNMAP; all of it is 0 and 2^64 - 1. @returns the bytes */
export function unmapRange(table: ObjectTable, ioasId: number, iova: bigint, length: bigint, refuse: Refuse): bigint {
  const { pagetable } = table.get(ioasId, IoasObject, refuse);
  if (iova === 0n && length === U64_MAX) {
    return pagetable.unmapAll(refuse);
  }
  if (iova >= U64_MAX || length >= U64_MAX) {
    throw refuse("EOVERFLOW", "the range wraps");
  }
  if (length === 0n) {
    throw refuse("EINVAL", "length 0");
  }
  if (iova + length - 1n > U64_MAX) {
    throw refuse("EOVERFLOW", "the range wraps");
  }
  return pagetable.unmap(iova, iova + length - 1n, refuse);
}
