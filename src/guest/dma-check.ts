/** DMA through a device with the data compared in memory, and DMA that has to fail with the right event. */
import type { DmaDevice, DmaRequest } from "./devices/dma-device.js";
import type { Tolerance } from "./choices/index.js";
import { GuestFailure, check } from "./failure.js";
import type { Device } from "./device.js";
import type { Kernel } from "./kernel.js";
import type { Random } from "./random.js";
import type { DecodedEvent, ExpectedFault } from "./iommu/events.js";

export interface Buffers {
  /** Guest-physical addresses. */
  readonly source: number;
  readonly destination: number;
  /** Bytes of each. */
  readonly bytes: number;
}

/** Two buffers of the guest's RAM for a device: the source filled with a pattern, the destination with its opposite. */
export async function makeBuffers(kernel: Kernel, random: Random, bytes: number, below?: number): Promise<Buffers> {
  const source = kernel.memory.allocate(bytes, { below });
  const destination = kernel.memory.allocate(bytes, { below });
  await fillBuffers(kernel, { source, destination, bytes }, random);
  return { source, destination, bytes };
}

export async function fillBuffers(kernel: Kernel, buffers: Buffers, random: Random): Promise<void> {
  const pattern = random.bytes(buffers.bytes);
  await kernel.memory.write(buffers.source, pattern);
  for (let i = 0; i < pattern.length; i++) {
    pattern[i] = ~pattern[i];
  }
  await kernel.memory.write(buffers.destination, pattern);
}

export function freeBuffers(kernel: Kernel, buffers: Buffers): void {
  kernel.memory.release(buffers.source);
  kernel.memory.release(buffers.destination);
}

/** How many bytes a device moves in one check: what it can do, up to the buffer, and not a whole number of pages. */
export function transferLength(dma: DmaDevice, random: Random, bytes: number): number {
  const most = Math.min(dma.features.maxLength, bytes);
  return most <= 64 ? most : most - random.below(Math.min(most >> 2, 2048)) - 1;
}

/**
 * Moves `length` bytes and compares. `source` and `destination` are the addresses as the device emits them.
 * Returns the bytes compared. Throws GuestFailure with what was expected and found.
 */
export async function checkTransfer(kernel: Kernel, dma: DmaDevice, buffers: Buffers, request: DmaRequest): Promise<number> {
  const iommu = kernel.devices.find((device) => device.dma === dma)?.iommu ?? null;
  const from = iommu?.events.length ?? 0;
  const outcome = await dma.transfer(request, buffers.destination);
  if (!outcome.ok) {
    await kernel.interrupts.poll();
    await iommu?.pollEvents();
    const [event] = iommu?.events.slice(from) ?? [];
    throw new GuestFailure(`${describe(dma, request)}: expected success, found ${outcome.detail}${event === undefined ? "" : ` and ${event.text}`}`);
  }
  const expected = dma.expected(await kernel.memory.read(buffers.source, request.length));
  const found = await kernel.memory.read(buffers.destination, expected.length);
  const wrong = firstDifference(expected, found);
  check(
    wrong < 0,
    () => `${describe(dma, request)}: expected ${byteText(expected[wrong])} at byte ${wrong} of the destination, found ${byteText(found[wrong])}`,
  );
  return expected.length;
}

/** The first byte of `some` that `others` has otherwise; -1: none. A plain loop: every byte that a guest moves goes through it. */
function firstDifference(some: Uint8Array, others: Uint8Array): number {
  for (let i = 0; i < some.length; i++) {
    if (some[i] !== others[i]) {
      return i;
    }
  }
  return -1;
}

const byteText = (byte: number): string => `0x${byte.toString(16).padStart(2, "0")}`;

function describe(dma: DmaDevice, request: DmaRequest): string {
  const pasid = request.pasid === undefined || request.pasid === null ? "" : ` PASID ${request.pasid}`;
  return `${dma.kind} ${dma.fn.name}${pasid} 0x${request.source.toString(16)} to 0x${request.destination.toString(16)}, ${request.length} bytes`;
}

/**
 * A transfer that must not happen: the device sees an error, the destination stays as it is, and the event
 * queue has the record. Returns the event, null where none is expected.
 */
export async function checkFault(
  kernel: Kernel,
  device: Device,
  buffers: Buffers,
  request: DmaRequest,
  expected: ExpectedFault,
): Promise<DecodedEvent | null> {
  const { dma, iommu, streamId } = device;
  check(dma !== null && iommu !== null && streamId !== null, `${device.fn.name} is no DMA device behind an IOMMU`);
  const before = await kernel.memory.read(buffers.destination, request.length);
  // Records that are under way belong to what was before.
  await kernel.interrupts.poll();
  await iommu.pollEvents();
  const from = iommu.events.length;
  const outcome = await dma.transfer(request, buffers.destination);
  check(outcome.faulted !== false, () => `${describe(dma, request)}: expected a fault, found ${outcome.detail}`);
  const after = await kernel.memory.read(buffers.destination, request.length);
  check(
    firstDifference(after, before) < 0,
    () => `${describe(dma, request)}: expected the destination untouched, found it changed`,
  );
  if (expected.event === null) {
    return null;
  }
  const event = await kernel.awaitEvent(iommu, from, (candidate) => candidate.streamId === streamId);
  if (event === null && kernel.options.tolerate?.includes("unreported-fault") === true) {
    return null;
  }
  check(event !== null, () => `${describe(dma, request)}: expected event 0x${expected.event?.toString(16)} of source id 0x${streamId.toString(16)}, found none`);
  checkEvent(event, expected, kernel.options.tolerate ?? []);
  return event;
}

function checkEvent(event: DecodedEvent, expected: ExpectedFault, tolerated: readonly Tolerance[]): void {
  const wrong: string[] = [];
  const compare = (what: string, found: unknown, wanted: unknown): void => {
    if (found !== wanted) {
      wrong.push(`${what} ${String(wanted)} expected, ${String(found)} found`);
    }
  };
  compare("event", event.number, expected.event);
  const pasid = event.substreamId === 0 && tolerated.includes("rid-pasid") ? null : event.substreamId;
  compare("PASID", pasid, expected.substreamId ?? null);
  if (event.translationRelated) {
    if (expected.stage2 !== undefined) {
      compare("second stage", event.stage2, expected.stage2);
    }
    compare("read", event.read, expected.read ?? false);
    if (!tolerated.includes("event-class") && expected.faultClass !== undefined) {
      compare("CLASS", event.faultClass, expected.faultClass);
    }
    if (expected.page !== undefined) {
      compare("address page", `0x${(event.inputAddress & ~0xfffn).toString(16)}`, `0x${(expected.page & ~0xfffn).toString(16)}`);
    }
  }
  check(wrong.length === 0, () => `${event.text}: ${wrong.join("; ")}`);
}
