/**
 * Structures of VFIO as the kernel reads them (Linux drivers/vfio/vfio_main.c, device_cdev.c, pci/vfio_pci_core.c): shorter
 * than its first form is EINVAL, what follows is not looked at.
 */
import { VfioFeatureFlags } from "../../../iommufd/index.js";
import type { Refuse } from "./objects.js";
import type { RawStructure } from "./raw-ioctl.js";
import type { SimulatedVfioDevice } from "./vfio-device.js";

/** struct vfio_irq_set. */
const IRQ_SET_BYTES = 20;
const DATA_NONE = 1 << 0;
const DATA_BOOL = 1 << 1;
const DATA_EVENTFD = 1 << 2;
const DATA_TYPES = DATA_NONE | DATA_BOOL | DATA_EVENTFD;
const MASK = 1 << 3;
const UNMASK = 1 << 4;
const TRIGGER = 1 << 5;
const ACTIONS = MASK | UNMASK | TRIGGER;
const U32_MAX = 0xffff_ffff;

type Run = (device: SimulatedVfioDevice, s: RawStructure, refuse: Refuse, isFile: (fd: number) => boolean) => void;

interface Operation {
  /** Bytes that there are to be at least (argsz). */
  readonly least: number;
  /** Flags that there are; left out: any. */
  readonly flags?: number;
  readonly run: Run;
}

/** ATTACH and DETACH by PASID are longer. */
function pasidOf(s: RawStructure, at: number, refuse: Refuse): number | undefined {
  if ((s.u32(4) & 1) === 0) {
    return undefined;
  }
  if (s.u32(0) < at + 4) {
    throw refuse("EINVAL", `${s.u32(0)} bytes have no PASID`);
  }
  return s.u32(at);
}

function info(device: SimulatedVfioDevice, s: RawStructure): void {
  const { canReset, regions, irqs } = device.info();
  s.setU32(4, 2 | (canReset ? 1 : 0));
  s.setU32(8, regions);
  s.setU32(12, irqs);
}

function regionInfo(device: SimulatedVfioDevice, s: RawStructure): void {
  const { size, readable, writable } = device.regionInfo(s.u32(8));
  s.setU32(4, (readable ? 1 : 0) | (writable ? 2 : 0));
  s.setU64(16, BigInt(size));
  s.setU64(24, BigInt(s.u32(8)) << 40n);
}

function irqInfo(device: SimulatedVfioDevice, s: RawStructure): void {
  const { count, eventfd, maskable, autoMasked, noResize } = device.irqInfo(s.u32(8));
  s.setU32(4, (eventfd ? 1 : 0) | (maskable ? 2 : 0) | (autoMasked ? 4 : 0) | (noResize ? 8 : 0));
  s.setU32(12, count);
}

/** vfio_set_irqs_validate_and_prepare, vfio_pci_set_irqs_ioctl. */
function setIrqs(device: SimulatedVfioDevice, s: RawStructure, refuse: Refuse, isFile: (fd: number) => boolean): void {
  const [argsz, flags, index, start, count] = [0, 4, 8, 12, 16].map((at) => s.u32(at));
  const there = device.irqInfo(index).count;
  if ((flags & ~(DATA_TYPES | ACTIONS)) !== 0 || count >= U32_MAX - start || start >= there || start + count > there) {
    throw refuse("EINVAL", `flags 0x${flags.toString(16)}, vectors ${start} and ${count} on of ${there}`);
  }
  const kind = flags & DATA_TYPES;
  const bytes = kind === DATA_EVENTFD ? 4 : kind === DATA_BOOL ? 1 : 0;
  if ((kind & (kind - 1)) !== 0 || kind === 0 || argsz - IRQ_SET_BYTES < bytes * count || (bytes > 0 && count === 0)) {
    throw refuse("EINVAL", `${argsz} bytes for ${count} vectors`);
  }
  const action = flags & ACTIONS;
  if (action !== TRIGGER) {
    const masks = action === MASK || action === UNMASK;
    throw masks ? maskRefusal(device, index, start, count, refuse) : refuse("ENOTTY", `action 0x${action.toString(16)}`);
  }
  if (kind === DATA_NONE && count === 0) {
    return device.setIrqs(index, start, []);
  }
  if (kind === DATA_EVENTFD) {
    const fds = Array.from({ length: count }, (_unused, n) => s.i32(IRQ_SET_BYTES + 4 * n));
    const event = fds.find((fd) => fd >= 0);
    if (event !== undefined) {
      // Events of this host have no descriptors.
      throw isFile(event) ? refuse("EINVAL", `descriptor ${event} is no eventfd`) : refuse("EBADF", `descriptor ${event} is closed`);
    }
    return device.setIrqs(index, start, fds.map(() => null));
  }
  const data = s.tail(IRQ_SET_BYTES);
  device.raiseIrqs(index, Array.from({ length: count }, (_unused, n) => start + n).filter((_vector, n) => kind === DATA_NONE || data[n] !== 0));
}

function maskRefusal(device: SimulatedVfioDevice, index: number, start: number, count: number, refuse: Refuse): Error {
  try {
    device.maskIrqs(index, start, count);
    return refuse("EINVAL", "INTx is not enabled");
  } catch (error) {
    return error as Error;
  }
}

function feature(device: SimulatedVfioDevice, s: RawStructure): void {
  const flags = s.u32(4);
  device.feature({ feature: flags & 0xffff, flags: flags & (VfioFeatureFlags.GET | VfioFeatureFlags.SET | VfioFeatureFlags.PROBE | 0xfff8_0000), data: s.tail(8) });
}

/** VFIO_DEVICE_IOEVENTFD: no descriptor of this host is an eventfd. */
function ioEvent(_device: SimulatedVfioDevice, s: RawStructure, refuse: Refuse): void {
  throw s.i32(24) >= 0 ? refuse("EBADF", `descriptor ${s.i32(24)} is no eventfd`) : refuse("EINVAL", `no such event at 0x${s.u64(8).toString(16)}`);
}

const operations = new Map<number, Operation>([
  [107, { least: 16, run: info }],
  [108, { least: 32, run: regionInfo }],
  [109, { least: 16, run: irqInfo }],
  [110, { least: IRQ_SET_BYTES, run: setIrqs }],
  [112, { least: 12, run: (device, s) => s.setU32(8, device.hotResetInfo().length) }],
  [113, { least: 12, flags: 0, run: (device) => device.hotReset() }],
  [116, { least: 28, run: ioEvent }],
  [117, { least: 8, run: feature }],
  [118, { least: 16, flags: 0, run: (device, s) => s.setU32(12, device.bind(s.i32(8))) }],
  [119, { least: 12, flags: 1, run: (device, s, refuse) => device.attach(s.u32(8), pasidOf(s, 12, refuse)) }],
  [120, { least: 8, flags: 1, run: (device, s, refuse) => device.detach(pasidOf(s, 8, refuse)) }],
]);

/** VFIO_BASE. */
const BASE = 0x3b00;
const RESET = 111;

/** @param isFile whether a descriptor is one of the process's that is no eventfd @throws HostError */
export function vfioIoctl(device: SimulatedVfioDevice, request: number, structure: RawStructure | null, isFile: (fd: number) => boolean, refuse: Refuse): void {
  if (request === (BASE | RESET)) {
    return device.reset();
  }
  const operation = request === (BASE | (request & 0xff)) ? operations.get(request & 0xff) : undefined;
  if (operation === undefined) {
    throw refuse("ENOTTY", `no ioctl 0x${request.toString(16)}`);
  }
  if (structure === null) {
    throw refuse("EFAULT", "no structure");
  }
  const { least, flags, run } = operation;
  if (structure.u32(0) < least) {
    throw refuse("EINVAL", `${structure.u32(0)} bytes, of ${least} at least`);
  }
  if (flags !== undefined && (structure.u32(4) & ~flags) !== 0) {
    throw refuse("EINVAL", `flags 0x${structure.u32(4).toString(16)}`);
  }
  run(device, structure, refuse, isFile);
}
