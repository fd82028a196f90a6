/** Bytes and words: accesses of any length as the naturally aligned ones that registers take. */
import type { DmaAttributes } from "./dma.js";
import type { MmioHandler } from "./region.js";

export function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) {
    value = (value << 8n) | BigInt(bytes[i]);
  }
  return value;
}

export function toLittleEndian(value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) {
    bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
  return bytes;
}

/** Splits a run of bytes into naturally aligned accesses of at most 8 bytes. */
function accessSize(offset: number, left: number): number {
  for (const size of [8, 4, 2]) {
    if (left >= size && offset % size === 0) {
      return size;
    }
  }
  return 1;
}

export function mmioRead(handler: MmioHandler, offset: number, out: Uint8Array, attributes?: DmaAttributes): void {
  let done = 0;
  while (done < out.length) {
    const size = accessSize(offset + done, out.length - done);
    out.set(toLittleEndian(handler.read(offset + done, size, attributes), size), done);
    done += size;
  }
}

export function mmioWrite(handler: MmioHandler, offset: number, data: Uint8Array, attributes?: DmaAttributes): void {
  let done = 0;
  while (done < data.length) {
    const size = accessSize(offset + done, data.length - done);
    handler.write(offset + done, size, littleEndian(data.subarray(done, done + size)), attributes);
    done += size;
  }
}
