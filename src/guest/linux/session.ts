/** What the steps of the `linux` program share within one boot. */
import type { Provoked } from "../context.js";
import { makeBuffers, type Buffers } from "../dma-check.js";
import type { DmaDevice } from "../devices/dma-device.js";
import type { Device } from "../device.js";
import type { Kernel } from "../kernel.js";
import type { HotplugSlot } from "../pci/hotplug.js";
import type { Random } from "../random.js";
import type { Reporter } from "../report.js";
import type { Domain } from "../iommu/domain.js";

/** Buffers of each device. */
export const BUFFER_BYTES = 64 * 1024;

/** A device whose DMA goes through its own tables, with its buffers mapped. */
export interface Mapped {
  readonly device: Device & { dma: DmaDevice };
  readonly dma: DmaDevice;
  readonly domain: Domain;
  readonly buffers: Buffers;
  readonly source: bigint;
  readonly destination: bigint;
}

export interface Session {
  readonly kernel: Kernel;
  readonly random: Random;
  readonly reporter: Reporter;
  readonly mapped: Mapped[];
  slots: HotplugSlot[];
  /** Events that steps meant to happen. */
  readonly provoked: Provoked[];
}

/** Devices that do DMA. */
export function dmaDevices(kernel: Kernel): Array<Device & { dma: DmaDevice }> {
  return kernel.devices.filter((device): device is Device & { dma: DmaDevice } => device.dma !== null);
}

/** Gives a device its own tables (attaching it) and maps two fresh buffers, the source readable only. */
export async function mapOwnBuffers(session: Session, device: Device & { dma: DmaDevice }): Promise<Mapped> {
  const { kernel, random, mapped } = session;
  const domain = await kernel.useOwnDomain(device);
  const buffers = await makeBuffers(kernel, random, BUFFER_BYTES);
  const limit = Math.min(device.dma.features.addressLimit, 2 ** 32);
  const source = await domain.mapBuffer(buffers.source, BUFFER_BYTES, { read: true }, limit);
  const destination = await domain.mapBuffer(buffers.destination, BUFFER_BYTES, { read: true, write: true }, limit);
  const entry = { device, dma: device.dma, domain, buffers, source, destination };
  mapped.push(entry);
  return entry;
}

/** A plural of its own for accounts: `1 function`, `2 functions`. */
export function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** The first of a long list, and how many more there are. */
export function listed(items: readonly string[], separator = " ", most = 12): string {
  const rest = items.length - most;
  return items.slice(0, most).join(separator) + (rest > 0 ? `${separator}and ${rest} more` : "");
}

export const hexText = (value: number | bigint): string => `0x${value.toString(16)}`;
