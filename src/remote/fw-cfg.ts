/**
 * QEMU's fw_cfg device (QEMU docs/specs/fw_cfg.rst): files that the board hands to firmware, read by its DMA
 * interface with a descriptor and a buffer in RAM.
 */
import type { MachinePort } from "../port/index.js";
import { Refusal } from "../support/index.js";

const KEY_FILE_DIR = 0x19;
const DMA_READ = 0x02;
const DMA_SELECT = 0x08;
const DIRECTORY_ENTRY_BYTES = 64;
export const FW_CFG_NAME_BYTES = 56;
/** Files larger than this are not tables. */
const FILE_LIMIT = 16 * 2 ** 20;

/** A name in a fixed field. */
export function fwCfgText(bytes: Buffer, at: number): string {
  return bytes.toString("latin1", at, at + FW_CFG_NAME_BYTES).replace(/\0.*$/s, "");
}

/** How a board's device is told the address of a descriptor. */
export interface FwCfgDoorbell {
  /** For messages. */
  readonly where: string;
  readonly board: string;
  ring(port: MachinePort, descriptor: number): Promise<void>;
}

/** virt: one big-endian register of 64 bits in memory. */
export const FW_CFG_VIRT: FwCfgDoorbell = {
  where: "0x9020000",
  board: "virt",
  ring: async (port, descriptor) => {
    const address = Buffer.alloc(8);
    address.writeBigUInt64BE(BigInt(descriptor));
    await port.write(0x0902_0010, 8, address.readBigUInt64LE());
  },
};

/** A PC: two big-endian ports of 32 bits; the second one, with the low half, starts. */
export const FW_CFG_PC: FwCfgDoorbell = {
  where: "port 0x510",
  board: "q35",
  ring: async (port, descriptor) => {
    const address = Buffer.alloc(8);
    address.writeBigUInt64BE(BigInt(descriptor));
    await port.writePort?.(0x514, 4, address.readUInt32LE(0));
    await port.writePort?.(0x518, 4, address.readUInt32LE(4));
  },
};

export interface FwCfgFile {
  readonly key: number;
  /** Bytes. */
  readonly size: number;
}

/** The device's DMA interface, with a descriptor and a buffer in RAM. */
export class FwCfg {
  constructor(
    private readonly port: MachinePort,
    private readonly doorbell: FwCfgDoorbell,
    /** Guest-physical, with room for a page and 32 KiB. */
    private readonly scratch: number,
  ) {}

  private get fallback(): string {
    return this.doorbell === FW_CFG_VIRT ? "; --firmware dt" : "";
  }

  async files(): Promise<Map<string, FwCfgFile>> {
    const count = (await this.read({ key: KEY_FILE_DIR, size: 4 })).readUInt32BE(0);
    const directory = await this.read({ key: KEY_FILE_DIR, size: 4 + count * DIRECTORY_ENTRY_BYTES });
    return new Map(
      Array.from({ length: count }, (_, i) => {
        const at = 4 + i * DIRECTORY_ENTRY_BYTES;
        return [fwCfgText(directory, at + 8), { size: directory.readUInt32BE(at), key: directory.readUInt16BE(at + 4) }] as const;
      }),
    );
  }

  async read({ key, size }: FwCfgFile): Promise<Buffer> {
    if (size > FILE_LIMIT) {
      throw new Refusal(`a file of fw_cfg claims ${size} bytes`);
    }
    const out = Buffer.alloc(size);
    const piece = 32 * 1024;
    for (let done = 0; done < size; done += piece) {
      const length = Math.min(piece, size - done);
      const control = (DMA_READ | (done === 0 ? (key << 16) | DMA_SELECT : 0)) >>> 0;
      const descriptor = Buffer.alloc(16);
      descriptor.writeUInt32BE(control, 0);
      descriptor.writeUInt32BE(length, 4);
      descriptor.writeBigUInt64BE(BigInt(this.scratch + 0x1000), 8);
      await this.port.writeMemory(this.scratch, descriptor);
      await this.doorbell.ring(this.port, this.scratch);
      const left = Buffer.from(await this.port.readMemory(this.scratch, 4)).readUInt32BE();
      if (left === control) {
        throw new Refusal(`no fw_cfg device at ${this.doorbell.where}, from which ACPI tables come`, { found: "a DMA descriptor that nobody has taken", wouldWork: `QEMU's ${this.doorbell.board} board${this.fallback}` });
      }
      if (left !== 0) {
        throw new Refusal("fw_cfg refuses to be read", { found: `control 0x${left.toString(16)} after a read of key 0x${key.toString(16)}`, wouldWork: `QEMU's ${this.doorbell.board} board${this.fallback}` });
      }
      out.set(await this.port.readMemory(this.scratch + 0x1000, length), done);
    }
    return out;
  }
}
