/** An NVMe controller of q35 as the suite drives it: placed by this side, its disk a file of its own. */
import { GuestFailure, NvmeDriver, type NvmeBuffer, type NvmeParts } from "../../../src/guest/index.js";
import type { MachinePort } from "../../../src/port/index.js";
import type { Driver } from "../driver.js";

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const DEVFN = 3 << 3;
const BAR = 0xe000_0000;
const MEMORY_AND_MASTER = 6;
/** RAM that buffers are taken from. */
const FIRST = 0x100_0000;
const PAGE = 4096;
const POLLS = 4000;

export const DISK_BYTES = 8 << 20;

/** Arguments for both, with the disk's file. */
export function nvmeMachine(file: string): string[] {
  return ["-machine", "q35", "-m", "256", "-nodefaults", "-drive", `file=${file},format=raw,if=none,id=d`, "-device", "nvme,drive=d,serial=agreement,addr=3,max_ioqpairs=8,msix_qsize=9"];
}

/** What the driver needs of a machine without interrupts, its registers among it. */
export class Controller {
  private next = FIRST;
  private readonly free: Array<{ physical: number; bytes: number }> = [];
  readonly parts: NvmeParts;

  constructor(readonly driver: Driver) {
    const port: MachinePort = {
      read: (address, size) => driver.read(address, size),
      write: (address, size, value) => Promise.resolve(driver.write(address, size, value)),
      readMemory: (address, length) => driver.load(address, length),
      writeMemory: (address, data) => Promise.resolve(driver.store(address, data)),
      interrupts: () => Promise.resolve([]),
      firmware: () => Promise.resolve({ deviceTree: null, acpiRoot: null }),
    };
    this.parts = {
      port,
      base: BAR,
      name: driver.name,
      allocate: (bytes) => Promise.resolve(this.allocate(bytes)),
      until: async (condition, what) => {
        for (let poll = 0; poll < POLLS; poll++) {
          if (await condition()) {
            return;
          }
          await new Promise((resolve) => (poll < 64 ? setImmediate(resolve) : setTimeout(resolve, 1)));
        }
        throw new GuestFailure(`waited in vain for ${what}`);
      },
    };
  }

  /** Gives BAR 0 its place, and lets the function answer and send requests. */
  place(): void {
    const config = (offset: number, value: number): void => {
      this.driver.writePort(CONFIG_ADDRESS, 4, (0x8000_0000 | (DEVFN << 8) | offset) >>> 0);
      this.driver.writePort(CONFIG_DATA, 4, value);
    };
    config(0x10, BAR);
    config(0x14, 0);
    config(0x04, MEMORY_AND_MASTER);
  }

  async start(): Promise<NvmeDriver> {
    return await NvmeDriver.start(this.parts, { masked: true });
  }

  /** A CPU register access. */
  async register(offset: number, size: 4 | 8): Promise<bigint> {
    return await this.driver.read(BAR + offset, size);
  }

  allocate(bytes: number): NvmeBuffer & { readonly bytes: number } {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    const at = this.free.findIndex((one) => one.bytes === size);
    const physical = at >= 0 ? this.free.splice(at, 1)[0].physical : this.next;
    this.next += at >= 0 ? 0 : size;
    return {
      physical,
      address: BigInt(physical),
      bytes: size,
      release: () => {
        this.free.push({ physical, bytes: size });
        return Promise.resolve();
      },
    };
  }
}
