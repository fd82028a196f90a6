/** ioctls by number and bytes: which file they are for, and how it reads them (Linux drivers/iommu/iommufd/main.c, drivers/vfio). */
import type { RawIoctl, RawPointer } from "../../../iommufd/index.js";
import type { SimulatedIommufd } from "./iommufd.js";
import { refusing, type Refuse } from "./objects.js";
import { iommufdIoctl } from "./raw-iommufd.js";
import { vfioIoctl } from "./raw-vfio.js";
import type { KernelRules } from "./kernel-rules.js";
import type { SimulatedVfioDevice } from "./vfio-device.js";

/** A structure that a process has passed: its fields, and the memory that it points to. */
export class RawStructure {
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly pointers: readonly RawPointer[],
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  /** A field of the structure, 0 where the process's is shorter. */
  u16(at: number): number {
    return at + 2 <= this.bytes.length ? this.view.getUint16(at, true) : 0;
  }

  u32(at: number): number {
    return at + 4 <= this.bytes.length ? this.view.getUint32(at, true) : 0;
  }

  i32(at: number): number {
    return this.u32(at) | 0;
  }

  u64(at: number): bigint {
    return at + 8 <= this.bytes.length ? this.view.getBigUint64(at, true) : 0n;
  }

  setU32(at: number, value: number): void {
    if (at + 4 <= this.bytes.length) {
      this.view.setUint32(at, value >>> 0, true);
    }
  }

  setU64(at: number, value: bigint): void {
    if (at + 8 <= this.bytes.length) {
      this.view.setBigUint64(at, value, true);
    }
  }

  /** What stands behind `from`. */
  tail(from: number): Uint8Array {
    return this.bytes.subarray(from);
  }

  /** `length` bytes that the pointer at `at` is to; none where there are none to be. EFAULT where there is no such memory. */
  pointed(at: number, length: number, refuse: Refuse): Uint8Array {
    if (length === 0) {
      return new Uint8Array(0);
    }
    const found = this.pointers.find((pointer) => pointer.at === at);
    if (found === undefined || found.to.length < length) {
      throw refuse("EFAULT", `${length} bytes at 0x${this.u64(at).toString(16)}`);
    }
    return found.to.subarray(0, length);
  }
}

/** The ioctls of a kernel's files. */
export function rawIoctl(rules: KernelRules, fileOf: (fd: number) => SimulatedIommufd | SimulatedVfioDevice | null, isIommufd: (fd: number) => boolean): RawIoctl {
  return {
    ioctl(fd, request, argument, pointers = []) {
      const refuse = refusing(`ioctl 0x${request.toString(16)}`);
      const file = fileOf(fd);
      if (file === null) {
        throw refuse("EBADF", `descriptor ${fd} is closed`);
      }
      const structure = argument === null ? null : new RawStructure(argument, pointers);
      if (isIommufd(fd)) {
        iommufdIoctl(file as SimulatedIommufd, rules, request, structure, refuse);
      } else {
        vfioIoctl(file as SimulatedVfioDevice, request, structure, isIommufd, refuse);
      }
    },
  };
}
