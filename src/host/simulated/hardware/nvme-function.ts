/** An NVMe controller as the work of a function: the nvme room's controller, on the function's requests and messages. */
import { type Disk, FileDisk, MemoryDisk } from "../../../block/index.js";
import { Namespace, NvmeController, type NvmeHost } from "../../../nvme/index.js";
import { Refusal } from "../../../support/index.js";
import { ACCESS_READ, ACCESS_WRITE } from "../../../translation/index.js";
import type { FunctionDescription } from "../file/index.js";
import { NO_PASID } from "./device-cache.js";

const QUEUE_PAIRS = 64;
/** A request does not cross a 4 KiB boundary (PCIe 2.2.7). */
const REQUEST_BYTES = 4096;

/** What the controller asks of its function. */
export interface NvmeCarrier {
  readonly atsEnabled: boolean;
  readonly msixEnabled: boolean;
  /** Vectors of MSI-X or MSI, whichever is enabled; 0: neither. */
  readonly messageVectors: number;
  mayRequest(pasid: number, access: number, ats: boolean): boolean;
  readMemory(high: number, low: number, out: Uint8Array, pasid: number, access: number, ats: boolean): boolean;
  writeMemory(high: number, low: number, data: Uint8Array, pasid: number, access: number, ats: boolean): boolean;
  raise(vector: number): void;
}

export class NvmeFunction implements NvmeHost {
  private readonly controller: NvmeController;
  private readonly disk: Disk;

  /** @throws Refusal where the disk's file cannot be opened */
  constructor(
    private readonly fn: NvmeCarrier,
    description: FunctionDescription,
  ) {
    this.disk = openDisk(description);
    const serial = description.serial ?? description.address;
    this.controller = new NvmeController(
      this,
      {
        vendorId: description.vendor,
        subsystemVendorId: description.vendor,
        serial,
        modelNumber: description.name,
        firmware: "1.0",
        queuePairs: QUEUE_PAIRS,
        mdts: 7,
        mqes: 2047,
        aerl: 3,
        writeCache: true,
      },
      new Map([[1, new Namespace({ disk: this.disk, blockBytes: description.blockSize, seed: `${serial} 1` })]]),
    );
  }

  /** Reads bytes of the registers. */
  read(offset: number, out: Uint8Array): void {
    const { controller } = this;
    for (let i = 0; i < out.length; i++) {
      const at = offset + i;
      out[i] = at < controller.registerBytes ? controller.read(at & ~3) >>> (8 * (at & 3)) : 0;
    }
  }

  /** Writes registers: whole 32-bit words alone, in the order of their offsets. */
  write(offset: number, data: Uint8Array): void {
    for (let i = 0; offset % 4 === 0 && i + 4 <= data.length; i += 4) {
      this.controller.write(offset + i, data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24));
    }
  }

  reset(): void {
    this.controller.reset();
  }

  close(): void {
    this.controller.reset();
    this.disk.close();
  }

  readMemory(high: number, low: number, out: Uint8Array): boolean {
    const { fn } = this;
    const ats = fn.atsEnabled;
    return fn.mayRequest(NO_PASID, ACCESS_READ, ats) && this.each(high, low, out, (h, l, part) => fn.readMemory(h, l, part, NO_PASID, ACCESS_READ, ats));
  }

  writeMemory(high: number, low: number, data: Uint8Array): boolean {
    const { fn } = this;
    const ats = fn.atsEnabled;
    return fn.mayRequest(NO_PASID, ACCESS_WRITE, ats) && this.each(high, low, data, (h, l, part) => fn.writeMemory(h, l, part, NO_PASID, ACCESS_WRITE, ats));
  }

  vectors(): number {
    return Math.max(1, this.fn.messageVectors);
  }

  unmasked(): boolean {
    return this.fn.msixEnabled;
  }

  raise(vector: number): void {
    this.fn.raise(vector);
  }

  /** The function has no interrupt pin. */
  setPin(): void {}

  /** Request by request, until one fails. */
  private each(high: number, low: number, data: Uint8Array, request: (high: number, low: number, part: Uint8Array) => boolean): boolean {
    for (let done = 0; done < data.length; ) {
      const at = (low >>> 0) + done;
      const step = Math.min(data.length - done, REQUEST_BYTES - (at % REQUEST_BYTES));
      const part = step === data.length ? data : data.subarray(done, done + step);
      if (!request((high + Math.floor(at / 0x1_0000_0000)) | 0, at | 0, part)) {
        return false;
      }
      done += step;
    }
    return true;
  }
}

function openDisk({ address, backing }: FunctionDescription): Disk {
  if (backing === undefined || "memory" in backing) {
    return new MemoryDisk(address, backing?.memory ?? 0);
  }
  try {
    return FileDisk.open(backing.file, { readOnly: backing.readonly });
  } catch (error) {
    throw error instanceof Refusal ? error.prefixed(`the host's ${address}: `) : error;
  }
}
