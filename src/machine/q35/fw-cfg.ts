/** QEMU's firmware configuration device on a PC: ports 0x510 and 0x511, DMA at 0x514 (QEMU docs/specs/fw_cfg.rst). */
import type { AddressSpace, MmioHandler } from "../../memory/index.js";

export const FW_CFG_PORT = 0x510;
export const FW_CFG_DMA_PORT = 0x514;

const SIGNATURE = 0x00;
const ID = 0x01;
const RAM_SIZE = 0x03;
const NB_CPUS = 0x05;
const MAX_CPUS = 0x0f;
const FILE_DIR = 0x19;
const FILE_FIRST = 0x20;
/** Traditional interface and DMA. */
const FEATURES = 3;
/** Bits of a key that are no key: write channel. */
const KEY_MASK = 0x3fff;

const DMA_ERROR = 0x01;
const DMA_READ = 0x02;
const DMA_SKIP = 0x04;
const DMA_SELECT = 0x08;
const DMA_WRITE = 0x10;
const DMA_SIGNATURE = 0x51454d5520434647n;

export interface FwCfgContents {
  /** Bytes of RAM. */
  readonly ramSize: number;
  readonly cpus: number;
  readonly maxCpus: number;
  /** Files by name, as they are now. */
  files(): ReadonlyMap<string, Uint8Array>;
}

/** The device. Its items are made anew when one is selected. Nothing can be written. */
export class FwCfg {
  private key = SIGNATURE;
  private data: Uint8Array = new Uint8Array(0);
  private at = 0;
  private dmaHigh = 0n;

  constructor(
    private readonly contents: FwCfgContents,
    private readonly memory: AddressSpace,
  ) {
    this.reset();
  }

  reset(): void {
    this.dmaHigh = 0n;
    this.select(SIGNATURE);
  }

  private select(key: number): void {
    this.key = key & KEY_MASK;
    this.data = this.item(this.key);
    this.at = 0;
  }

  private item(key: number): Uint8Array {
    const { contents } = this;
    switch (key) {
      case SIGNATURE:
        return Buffer.from("QEMU", "latin1");
      case ID:
        return number(FEATURES, 4);
      case RAM_SIZE:
        return number(contents.ramSize, 8);
      case NB_CPUS:
        return number(contents.cpus, 2);
      case MAX_CPUS:
        return number(contents.maxCpus, 2);
      default: {
        const files = [...contents.files()].sort(([a], [b]) => (a < b ? -1 : 1));
        return key === FILE_DIR ? directory(files) : (files[key - FILE_FIRST]?.[1] ?? new Uint8Array(0));
      }
    }
  }

  /** Selector (16 bits at 0) and data (8 bits at 1). */
  readonly ports: MmioHandler = {
    read: (offset, size) => {
      if (offset === 0 && size === 2) {
        return 0n;
      }
      return BigInt(offset === 1 ? this.next() : 0);
    },
    write: (offset, size, value) => {
      if (offset === 0 && size === 2) {
        this.select(Number(value));
      }
    },
  };

  private next(): number {
    return this.at < this.data.length ? this.data[this.at++] : 0;
  }

  /** Address of a descriptor, big-endian: the write of its low half starts the transfer. */
  readonly dmaPorts: MmioHandler = {
    read: (offset, size) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(DMA_SIGNATURE);
      return BigInt(bytes.readUIntLE(offset, Math.min(size, 4)));
    },
    write: (offset, size, value) => {
      if (size !== 4) {
        return;
      }
      const word = Buffer.alloc(4);
      word.writeUInt32LE(Number(value));
      const half = BigInt(word.readUInt32BE());
      if (offset === 0) {
        this.dmaHigh = half;
      } else if (offset === 4) {
        const address = (this.dmaHigh << 32n) | half;
        this.dmaHigh = 0n;
        this.transfer(address);
      }
    },
  };

  private transfer(address: bigint): void {
    const descriptor = Buffer.alloc(16);
    if (this.memory.read(address, descriptor) !== 0) {
      return;
    }
    const control = descriptor.readUInt32BE(0);
    const length = descriptor.readUInt32BE(4);
    const target = descriptor.readBigUInt64BE(8);
    if ((control & DMA_SELECT) !== 0) {
      this.select(control >>> 16);
    }
    let status = 0;
    if ((control & DMA_READ) !== 0) {
      status = this.copy(target, length) ? 0 : DMA_ERROR;
    } else if ((control & DMA_WRITE) !== 0) {
      status = DMA_ERROR;
    } else if ((control & DMA_SKIP) !== 0) {
      this.at = Math.min(this.at + length, this.data.length);
    }
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(status);
    this.memory.write(address, answer);
  }

  /** What is left of the item, then zeros, no more than memory takes. */
  private copy(target: bigint, length: number): boolean {
    const chunk = new Uint8Array(Math.min(length, 0x1_0000));
    for (let done = 0; done < length; done += chunk.length) {
      const step = Math.min(chunk.length, length - done);
      const piece = this.data.subarray(this.at, this.at + step);
      chunk.fill(0);
      chunk.set(piece);
      this.at += piece.length;
      if (this.memory.write(target + BigInt(done), chunk.subarray(0, step)) !== 0) {
        return false;
      }
    }
    return true;
  }
}

function number(value: number, size: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, size);
}

function directory(files: ReadonlyArray<readonly [string, Uint8Array]>): Uint8Array {
  const out = Buffer.alloc(4 + 64 * files.length);
  out.writeUInt32BE(files.length);
  files.forEach(([name, bytes], index) => {
    const at = 4 + 64 * index;
    out.writeUInt32BE(bytes.length, at);
    out.writeUInt16BE(FILE_FIRST + index, at + 4);
    out.write(name, at + 8, 55, "latin1");
  });
  return out;
}
