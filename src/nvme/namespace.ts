/** A namespace: logical blocks on a disk, and the names that tell it from others (6.1, 7.10). */
import { createHash } from "node:crypto";
import type { Disk } from "../block/index.js";

export interface NamespaceOptions {
  readonly disk: Disk;
  /** Bytes of a logical block, a power of two from 512 on. */
  readonly blockBytes: number;
  /** What the names are made of: the same gives the same. */
  readonly seed: string;
}

export class Namespace {
  readonly disk: Disk;
  /** LBADS: log2 of a block's bytes. */
  readonly blockBits: number;
  readonly blockBytes: number;
  /** NSZE: blocks; what does not fill a block is left out. */
  readonly blocks: number;
  readonly eui64: Uint8Array;
  readonly nguid: Uint8Array;
  readonly uuid: Uint8Array;

  constructor(options: NamespaceOptions) {
    this.disk = options.disk;
    this.blockBytes = options.blockBytes;
    this.blockBits = Math.log2(options.blockBytes);
    this.blocks = Math.floor(options.disk.size / options.blockBytes);
    this.uuid = nameUuid(`namespace ${options.seed}`);
    // Locally administered: no organisation's (IEEE EUI-64; bit 1 of the first byte).
    this.eui64 = this.uuid.slice(0, 8);
    this.eui64[0] = (this.eui64[0] & 0xfc) | 0x02;
    this.nguid = new Uint8Array([...this.uuid.subarray(8), ...this.eui64]);
  }
}

/** A UUID of a name (RFC 9562, version 5 by its form). */
export function nameUuid(name: string): Uint8Array {
  const bytes = new Uint8Array(createHash("sha1").update(`viommu nvme ${name}`).digest().subarray(0, 16));
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes;
}

export function uuidText(uuid: Uint8Array): string {
  const digits = Buffer.from(uuid).toString("hex");
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join("-");
}
