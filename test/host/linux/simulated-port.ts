/**
 * A Linux of which each system call is answered by the simulated kernel: what the Linux host puts into structures is
 * taken out here by the offsets that linux/iommufd.h and linux/vfio.h have, so that a machine runs on it.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KernelPort, Places } from "../../../src/host/linux/index.js";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { ERRNO, errnoNumber, type EventStream, type FaultStream, HostError, type HostEvent, type Iommufd, type VfioDevice } from "../../../src/iommufd/index.js";
import { closeFd, signalEventFd, SystemError, watchReadable } from "../../../src/linux/index.js";
import type { MakeMemory } from "../../../src/memory/index.js";

export class SimulatedPort implements KernelPort {
  private readonly files = new Map<number, Iommufd | VfioDevice | EventStream>();
  private readonly pointers: Uint8Array[] = [];
  private nextStream = 2_000_000;
  /** Names of ioctls that a kernel of another version would not have. */
  readonly missing = new Set<string>();

  constructor(
    private readonly host: SimulatedHost,
    private readonly characterDevices: ReadonlyMap<string, string>,
  ) {}

  /** Descriptors that are open. */
  get openFiles(): number {
    return this.files.size;
  }

  open(path: string): number {
    return refusing(() => {
      const file = path.endsWith("/iommu") ? this.host.openIommufd() : this.host.openDevice(this.characterDevices.get(path)!);
      this.files.set(file.fd, file);
      return file.fd;
    });
  }

  close(fd: number): void {
    const file = this.files.get(fd);
    if (file === undefined) {
      closeFd(fd);
    } else {
      this.files.delete(fd);
      file.close();
    }
  }

  addressOf(bytes: Uint8Array): bigint {
    this.pointers.push(bytes);
    return BigInt(this.pointers.length) << 32n;
  }

  private at(address: bigint, length: number): Uint8Array {
    const bytes = this.pointers[Number(address >> 32n) - 1];
    return bytes.subarray(Number(address & 0xffff_ffffn), Number(address & 0xffff_ffffn) + length);
  }

  read(fd: number, out: Uint8Array): number {
    return refusing(() => {
      const data = (this.files.get(fd) as EventStream).read(out.length);
      out.set(data ?? new Uint8Array(0));
      return data?.length ?? 0;
    });
  }

  write(fd: number, data: Uint8Array): number {
    return refusing(() => (this.files.get(fd) as FaultStream).write(data));
  }

  readAt(fd: number, offset: number, out: Uint8Array): number {
    // A part at a time, as a kernel may.
    const part = out.subarray(0, 1024);
    refusing(() => (this.files.get(fd) as VfioDevice).regionRead(Math.floor(offset / 2 ** 40), offset % 2 ** 40, part));
    return part.length;
  }

  writeAt(fd: number, offset: number, data: Uint8Array): number {
    refusing(() => (this.files.get(fd) as VfioDevice).regionWrite(Math.floor(offset / 2 ** 40), offset % 2 ** 40, data));
    return data.length;
  }

  map(): never {
    throw new SystemError("mmap", ERRNO.ENODEV);
  }

  unmap(): void {}

  view(): never {
    throw new RangeError("nothing is mapped");
  }

  watch(fd: number, onReadable: () => void): { close(): void } {
    const stream = this.files.get(fd);
    if (stream === undefined) {
      return watchReadable(fd, onReadable);
    }
    (stream as EventStream).onReadable(onReadable);
    return { close: () => (stream as EventStream).onReadable(null) };
  }

  ioctl(fd: number, name: string, request: number, argument: Uint8Array): number {
    if (this.missing.has(name)) {
      throw new SystemError(`ioctl(${name})`, ERRNO.ENOTTY);
    }
    const file = this.files.get(fd);
    if (file === undefined) {
      throw new SystemError(`ioctl(${name})`, ERRNO.EBADF);
    }
    const view = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
    if (request !== 0x3b6f && view.getUint32(0, true) !== argument.length) {
      throw new SystemError(`ioctl(${name})`, ERRNO.EINVAL);
    }
    if (request === 0x3b75 && view.getUint32(4, true) === 0x1_000b) {
      const [index, offset, size] = [view.getUint32(8, true), Number(view.getBigUint64(24, true)), Number(view.getBigUint64(32, true))];
      let made = 0;
      refusing(() => (made = this.keep((file as VfioDevice).regionFile(index, { offset, size }))));
      return made;
    }
    refusing(() => (request < 0x3b80 ? this.vfio(file as VfioDevice, request, view, argument) : this.iommufd(file as Iommufd, request, view)));
    return 0;
  }

  /** A file of the simulated kernel, which knows it by its own descriptor. */
  private keep(file: { readonly fd: number; close(): void }): number {
    this.files.set(file.fd, file as never);
    return file.fd;
  }

  private stream(stream: EventStream): number {
    const fd = this.nextStream++;
    this.files.set(fd, stream);
    return fd;
  }

  private iommufd(file: Iommufd, request: number, view: DataView): void {
    const u32 = (at: number): number => view.getUint32(at, true);
    const u64 = (at: number): bigint => view.getBigUint64(at, true);
    const answer = (at: number, value: number): void => view.setUint32(at, value, true);
    switch (request) {
      case 0x3b80:
        return file.destroy(u32(4));
      case 0x3b81:
        return answer(8, file.ioasAlloc(u32(4)));
      case 0x3b82: {
        const bytes = this.at(u64(16), 16 * u32(8));
        const ranges = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        return file.ioasAllowIovas(u32(4), Array.from({ length: u32(8) }, (_unused, n) => ({ start: ranges.getBigUint64(16 * n, true), last: ranges.getBigUint64(16 * n + 8, true) })));
      }
      case 0x3b84: {
        const { ranges, alignment } = file.ioasIovaRanges(u32(4));
        const room = u32(8);
        answer(8, ranges.length);
        if (ranges.length > room) {
          throw new SystemError("ioctl", ERRNO.EMSGSIZE);
        }
        const bytes = this.at(u64(16), 16 * ranges.length);
        const out = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        ranges.forEach(({ start, last }, n) => {
          out.setBigUint64(16 * n, start, true);
          out.setBigUint64(16 * n + 8, last, true);
        });
        return view.setBigUint64(24, alignment, true);
      }
      case 0x3b85:
      case 0x3b8f: {
        const [flags, ioasId] = [u32(4), u32(8)];
        const source = request === 0x3b85 ? { address: Number(u64(16)) } : { fd: view.getInt32(12, true), offset: Number(u64(16)) };
        const iova = file.ioasMap({ ioasId, source, length: u64(24), iova: (flags & 1) === 0 ? null : u64(32), writable: (flags & 2) !== 0, readable: (flags & 4) !== 0, extraFlags: flags & ~7 });
        return view.setBigUint64(32, iova, true);
      }
      case 0x3b83: {
        const flags = u32(4);
        const iova = file.ioasCopy({ dstIoasId: u32(8), srcIoasId: u32(12), length: u64(16), dstIova: (flags & 1) === 0 ? null : u64(24), srcIova: u64(32), writable: (flags & 2) !== 0, readable: (flags & 4) !== 0 });
        return view.setBigUint64(24, iova, true);
      }
      case 0x3b86:
        return view.setBigUint64(16, file.ioasUnmap(u32(4), u64(8), u64(16)), true);
      case 0x3b87:
        return view.setBigUint64(16, file.option(u32(4), view.getUint16(8, true) === 1 ? "get" : "set", u32(12), u64(16)), true);
      case 0x3b89:
        return answer(16, file.hwptAlloc({ flags: u32(4), devId: u32(8), ptId: u32(12), dataType: u32(24), data: this.optional(u64(32), u32(28)), ...((u32(4) & 4) === 0 ? {} : { faultId: u32(40) }) }));
      case 0x3b8a: {
        const info = file.getHwInfo(u32(8), { dataLength: u32(12), flags: u32(4), ...((u32(4) & 1) === 0 ? {} : { inputType: u32(24) }) });
        this.optional(u64(16), u32(12)).set(info.data.subarray(0, u32(12)));
        answer(12, info.dataLength);
        answer(24, info.type);
        view.setUint8(28, info.maxPasidLog2);
        return view.setBigUint64(32, BigInt(info.capabilities), true);
      }
      case 0x3b8b:
        return file.hwptSetDirtyTracking(u32(8), u32(4) === 1);
      case 0x3b8c:
        return file.hwptGetDirtyBitmap({ hwptId: u32(4), flags: u32(8), iova: u64(16), length: u64(24), pageSize: u64(32), bitmap: this.at(u64(40), Math.ceil(Number(u64(24) / u64(32)) / 8)) });
      case 0x3b8d: {
        const { errno, handled } = file.hwptInvalidate({ hwptId: u32(4), dataType: u32(16), entryLength: u32(20), entryCount: u32(24), data: this.optional(u64(8), u32(20) * u32(24)) });
        answer(24, handled);
        if (errno !== null) {
          throw new SystemError("ioctl(HWPT_INVALIDATE)", errnoNumber(errno));
        }
        return;
      }
      case 0x3b8e: {
        const { id, stream } = file.faultQueueAlloc();
        answer(8, id);
        return answer(12, this.stream(stream));
      }
      case 0x3b90: {
        const data = u32(24) === 0 ? undefined : this.at(u64(32), u32(24));
        return answer(20, file.viommuAlloc({ flags: u32(4), type: u32(8), devId: u32(12), hwptId: u32(16), data }));
      }
      case 0x3b91:
        return answer(12, file.vdeviceAlloc({ viommuId: u32(4), devId: u32(8), virtId: u64(16) }));
      case 0x3b93: {
        const { id, stream } = file.veventqAlloc({ flags: u32(4), viommuId: u32(8), type: u32(12), depth: u32(16) });
        answer(20, id);
        return answer(24, this.stream(stream));
      }
      default:
        throw new SystemError(`ioctl(0x${request.toString(16)})`, ERRNO.ENOTTY);
    }
  }

  private optional(address: bigint, length: number): Uint8Array {
    return length === 0 ? new Uint8Array(0) : this.at(address, length);
  }

  private vfio(device: VfioDevice, request: number, view: DataView, argument: Uint8Array): void {
    const u32 = (at: number): number => view.getUint32(at, true);
    const answer = (at: number, value: number): void => view.setUint32(at, value, true);
    switch (request) {
      case 0x3b76:
        return answer(12, device.bind(view.getInt32(8, true), (u32(4) & 1) === 0 ? undefined : this.at(view.getBigUint64(16, true), 16)));
      case 0x3b77:
        return device.attach(u32(8), (u32(4) & 1) === 0 ? undefined : u32(12));
      case 0x3b78:
        return device.detach((u32(4) & 1) === 0 ? undefined : u32(8));
      case 0x3b6b: {
        const { canReset, regions, irqs } = device.info();
        answer(4, 2 | (canReset ? 1 : 0));
        answer(8, regions);
        return answer(12, irqs);
      }
      case 0x3b6c: {
        const { size, readable, writable } = device.regionInfo(u32(8));
        answer(4, (readable ? 1 : 0) | (writable ? 2 : 0));
        view.setBigUint64(16, BigInt(size), true);
        return view.setBigUint64(24, BigInt(u32(8)) << 40n, true);
      }
      case 0x3b6d: {
        const { count, eventfd, maskable, autoMasked, noResize } = device.irqInfo(u32(8));
        answer(4, (eventfd ? 1 : 0) | (maskable ? 2 : 0) | (autoMasked ? 4 : 0) | (noResize ? 8 : 0));
        return answer(12, count);
      }
      case 0x3b6e:
        return this.setIrqs(device, view);
      case 0x3b6f:
        return device.reset();
      case 0x3b70:
        return void device.hotResetInfo();
      case 0x3b71:
        return device.hotReset();
      case 0x3b75:
        return device.feature({ feature: u32(4) & 0xffff, flags: u32(4) & ~0xffff, data: argument.subarray(8) });
      default:
        throw new SystemError(`ioctl(0x${request.toString(16)})`, ERRNO.ENOTTY);
    }
  }

  private setIrqs(device: VfioDevice, view: DataView): void {
    const [flags, index, start, count] = [4, 8, 12, 16].map((at) => view.getUint32(at, true));
    const events = (flags & 4) === 0 ? [] : Array.from({ length: count }, (_unused, n) => eventOf(view.getInt32(20 + 4 * n, true)));
    switch (flags & 0x38) {
      case 0x20:
        return device.setIrqs(index, start, events);
      case 0x08:
        return device.maskIrqs(index, start, count);
      default:
        return (flags & 4) === 0 ? device.unmaskIrqs(index, start, count) : device.setUnmaskEvent(index, events[0]);
    }
  }
}

/** A real eventfd, which the simulated kernel signals. */
function eventOf(fd: number): HostEvent | null {
  return fd < 0 ? null : { fd, signal: () => signalEventFd(fd), onSignal: () => {}, close: () => {} };
}

/** A refusal of the simulated kernel as the system call has it. */
function refusing<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw error instanceof HostError ? new SystemError(error.operation, errnoNumber(error.errno)) : error;
  }
}

/** A folder as sysfs shows the simulated host's functions, with character devices of VFIO. */
export function sysfsOf(host: SimulatedHost): { places: Places; characterDevices: Map<string, string>; remove(): void } {
  const root = mkdtempSync(join(tmpdir(), "sysfs-"));
  const places = { sys: join(root, "sys"), dev: join(root, "dev"), proc: "/proc" };
  const characterDevices = new Map<string, string>();
  mkdirSync(join(places.dev, "vfio/devices"), { recursive: true });
  writeFileSync(join(places.dev, "iommu"), "");
  host.functions().forEach(({ address, vendorId, deviceId, classCode, iommu, numaNode }, n) => {
    const folder = join(places.sys, "bus/pci/devices", address);
    mkdirSync(join(folder, `vfio-dev/vfio${n}`), { recursive: true });
    writeFileSync(join(folder, "vendor"), `0x${vendorId.toString(16)}\n`);
    writeFileSync(join(folder, "device"), `0x${deviceId.toString(16)}\n`);
    writeFileSync(join(folder, "class"), `0x${classCode.toString(16).padStart(6, "0")}\n`);
    writeFileSync(join(folder, "numa_node"), `${numaNode}\n`);
    symlinkSync("../../../bus/pci/drivers/vfio-pci", join(folder, "driver"));
    if (iommu !== null) {
      symlinkSync(`../../../devices/virtual/iommu/${iommu}`, join(folder, "iommu"));
      symlinkSync(`../../../kernel/iommu_groups/${n}`, join(folder, "iommu_group"));
      const members = join(places.sys, "kernel/iommu_groups", String(n), "devices");
      mkdirSync(members, { recursive: true });
      symlinkSync(folder, join(members, address));
    }
    const device = join(places.dev, "vfio/devices", `vfio${n}`);
    writeFileSync(device, "");
    characterDevices.set(device, address);
  });
  return { places, characterDevices, remove: () => rmSync(root, { recursive: true }) };
}

/** Memory of the simulated host's process, so that its kernel finds it by its address. */
export function memoryOf(host: SimulatedHost): MakeMemory {
  return (name, bytes) => {
    const block = host.allocateMemory(name, bytes);
    return {
      fd: null,
      address: BigInt(block.hostAddress),
      window: (offset) => block.byteWindow(offset).buffer,
      release: () => host.freeMemory(block),
    };
  };
}
