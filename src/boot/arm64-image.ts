/** An Image: Linux's arm64 kernel with its 64-byte header (Linux Documentation/arch/arm64/booting.rst), as it is or compressed. */
import { gunzipSync } from "node:zlib";
import { Refusal } from "../support/index.js";
import { foreignKind, IMAGE_MAGIC, IMAGE_MAGIC_AT } from "./kinds.js";

/** Byte offsets of the header. */
const HEADER = { TEXT_OFFSET: 8, IMAGE_SIZE: 16, FLAGS: 24, BYTES: 64 } as const;
/** Flags: bit 0 big-endian kernel, bits 2:1 page size. */
const FLAG_BIG_ENDIAN = 1n << 0n;
const PAGE_SIZES = ["not told", "4 KiB", "16 KiB", "64 KiB"] as const;

/** Before Linux 3.17 the header told no size, and text_offset was of no fixed byte order: this was its value. */
const OLD_TEXT_OFFSET = 0x8_0000;

/** Bytes of a decompressed kernel at the most, as QEMU's LOAD_IMAGE_MAX_DECOMPRESSED_BYTES. */
const MOST_DECOMPRESSED = 256 * 2 ** 20;

/** Offsets of an EFI zboot image (Linux drivers/firmware/efi/libstub/zboot-header.S): a decompressor for EFI with the Image inside. */
const ZBOOT = { MAGIC: 4, PAYLOAD_OFFSET: 8, PAYLOAD_SIZE: 12, COMPRESSION: 24, COMPRESSION_BYTES: 32, BYTES: 64 } as const;
const ZBOOT_MAGIC = 0x676d_697a;

export interface Arm64Image {
  /** What is loaded. */
  readonly payload: Uint8Array;
  /** Where from a multiple of 2 MiB it is put. */
  readonly textOffset: number;
  /** Memory that the kernel takes from there, its zeroed part with it. */
  readonly bytes: number;
  readonly pageSize: (typeof PAGE_SIZES)[number];
}

/** Reads a kernel file: an Image, one in gzip, or one in an EFI zboot image with gzip. @throws Refusal where it is none */
export function readArm64Image(file: Uint8Array, name: string): Arm64Image {
  const refuse = (found: string): never => {
    throw new Refusal(`linux kernel '${name}' cannot be started`, { found, wouldWork: "the Image of an arm64 Linux, as it is, in gzip (Image.gz), or in an EFI zboot image with gzip (vmlinuz.efi)" });
  };
  const inner = zbootPayload(file, refuse) ?? file;
  const payload = isGzip(inner) ? decompress(inner, refuse) : inner;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (payload.length < HEADER.BYTES || view.getUint32(IMAGE_MAGIC_AT, true) !== IMAGE_MAGIC) {
    return refuse(foreignKind(payload) ?? `${payload.length} bytes without the magic of an Image`);
  }
  const size = Number(view.getBigUint64(HEADER.IMAGE_SIZE, true));
  const flags = view.getBigUint64(HEADER.FLAGS, true);
  if (size !== 0 && (flags & FLAG_BIG_ENDIAN) !== 0n) {
    return refuse(`${name}: a big-endian kernel`);
  }
  const textOffset = size === 0 ? OLD_TEXT_OFFSET : Number(view.getBigUint64(HEADER.TEXT_OFFSET, true));
  if (textOffset >= 2 ** 31 || size >= 2 ** 32) {
    return refuse(`${name}: text_offset ${textOffset}, image_size ${size}`);
  }
  return { payload, textOffset, bytes: Math.max(size, payload.length), pageSize: PAGE_SIZES[Number((flags >> 1n) & 3n)] };
}

const isGzip = (file: Uint8Array): boolean => file.length >= 2 && file[0] === 0x1f && file[1] === 0x8b;

function decompress(file: Uint8Array, refuse: (found: string) => never): Uint8Array {
  try {
    return gunzipSync(file, { maxOutputLength: MOST_DECOMPRESSED });
  } catch (error) {
    return refuse(`a gzip file that cannot be decompressed to ${MOST_DECOMPRESSED / 2 ** 20} MiB at the most: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The compressed Image in an EFI zboot image; null: it is none. */
function zbootPayload(file: Uint8Array, refuse: (found: string) => never): Uint8Array | null {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < ZBOOT.BYTES || view.getUint16(0, false) !== 0x4d5a || view.getUint32(ZBOOT.MAGIC, true) !== ZBOOT_MAGIC) {
    return null;
  }
  const compression = new TextDecoder("latin1").decode(file.subarray(ZBOOT.COMPRESSION, ZBOOT.COMPRESSION + ZBOOT.COMPRESSION_BYTES)).replace(/\0.*$/s, "");
  const [start, size] = [view.getUint32(ZBOOT.PAYLOAD_OFFSET, true), view.getUint32(ZBOOT.PAYLOAD_SIZE, true)];
  if (compression !== "gzip") {
    return refuse(`an EFI zboot image with ${compression === "" ? "no compression told" : compression}`);
  }
  if (start + size > file.length) {
    return refuse(`an EFI zboot image of ${file.length} bytes whose payload ends at ${start + size}`);
  }
  return file.subarray(start, start + size);
}
