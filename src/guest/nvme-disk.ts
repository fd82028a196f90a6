/** NVMe controllers of the machine, driven through the tables that the kernel has made for them. */
import { ENGINE_ID } from "./devices/engine.js";
import { NVME_CLASS, type NvmeBuffer, NvmeDriver } from "./devices/nvme.js";
import type { Device } from "./device.js";
import { check, GuestFailure } from "./failure.js";
import type { Kernel } from "./kernel.js";

/** Polls that follow at once; those after them come a millisecond apart, for a disk takes its time. */
const QUICK_POLLS = 256;
const SLOW_POLLS = 20_000;

/** Functions that are NVMe controllers with a place for their registers, and not the DMA engine under an NVMe's name. */
export async function nvmeDevices(kernel: Kernel): Promise<Device[]> {
  const found: Device[] = [];
  for (const device of kernel.devices) {
    const base = device.fn.classCode === NVME_CLASS ? device.fn.barAddress(0) : null;
    if (base !== null && Number(await kernel.port.read(base, 4)) !== ENGINE_ID) {
      found.push(device);
    }
  }
  return found;
}

/** Memory that the CPU and the function reach: mapped in the function's domain, where it has one. */
export async function allocateFor(kernel: Kernel, device: Device, bytes: number): Promise<NvmeBuffer & { readonly bytes: number }> {
  const physical = await kernel.memory.allocateZeroed(bytes);
  const { domain } = device;
  const address = domain === null ? BigInt(physical) : await domain.mapBuffer(physical, bytes, { read: true, write: true });
  return {
    physical,
    address,
    bytes,
    release: async () => {
      await domain?.unmapBuffer(address);
      kernel.memory.release(physical);
    },
  };
}

/** Enables the controller. Its addresses are those of the function's domain; without one they are physical. */
export async function startNvme(kernel: Kernel, device: Device, entries?: number): Promise<NvmeDriver> {
  const base = device.fn.barAddress(0);
  check(base !== null, () => `BAR 0 of ${device.fn.name} has no place`);
  return await NvmeDriver.start(
    {
      port: kernel.port,
      base,
      name: device.fn.name,
      allocate: (bytes) => allocateFor(kernel, device, bytes),
      until: async (condition, what) => {
        for (let polls = 0; polls < SLOW_POLLS; polls++) {
          if (await condition()) {
            return;
          }
          await kernel.interrupts.poll();
          await new Promise((resolve) => (polls < QUICK_POLLS ? setImmediate(resolve) : setTimeout(resolve, 1)));
        }
        throw new GuestFailure(`waited in vain for ${what}`);
      },
    },
    // Without messages nobody listens to the pin.
    { entries, masked: device.messages === null },
  );
}
