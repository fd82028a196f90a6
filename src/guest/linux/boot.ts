/** Steps of a boot: firmware, IOMMUs, PCI, and each function's first domain. */
import { messageCount } from "../pci/msi.js";
import { watchSlots } from "../pci/hotplug.js";
import { checkTransfer, freeBuffers, makeBuffers, transferLength } from "../dma-check.js";
import type { DmaDevice } from "../devices/dma-device.js";
import { check } from "../failure.js";
import type { Device } from "../device.js";
import type { Kernel } from "../kernel.js";
import { skip } from "../report.js";
import { BUFFER_BYTES, count, dmaDevices, hexText, listed, mapOwnBuffers, type Session } from "./session.js";

const MIB = 1024 * 1024;

export async function readTables({ kernel }: Session): Promise<string> {
  const firmware = await kernel.readFirmware();
  const ram = firmware.ram.reduce((sum, range) => sum + range.size, 0);
  const windows = firmware.reservedWindows.filter((window) => window.identity).length;
  return [
    firmware.source === "dt" ? "device tree" : "ACPI",
    `${ram / MIB} MiB of RAM`,
    ...(firmware.dmar === null ? [count(firmware.smmus.length, "SMMUv3")] : [count(firmware.dmar.units.length, "VT-d unit")]),
    count(firmware.hostBridges.length, "PCI host bridge"),
    ...(windows > 0 ? [count(windows, "reserved identity window")] : []),
  ].join(", ");
}

export async function enableIommus({ kernel }: Session): Promise<string> {
  if (kernel.firmware.smmus.length === 0 && kernel.firmware.dmar === null) {
    skip("the firmware describes no IOMMU");
  }
  await kernel.probeIommus();
  const found = kernel.iommus.map((iommu) => `${iommu.name} (${[...iommu.traits, ...(iommu.tookOver ? ["was enabled"] : [])].join(", ")})`);
  return listed(found, "; ", 8);
}

export async function enumerate(session: Session): Promise<string> {
  const { kernel } = session;
  if (kernel.firmware.hostBridges.length === 0) {
    skip("the firmware describes no PCI host bridge");
  }
  await kernel.enumerate();
  const roots = kernel.bridges.flatMap((bridge) => bridge.roots.map((root) => root.number));
  const unplaced = kernel.bridges.flatMap((bridge) => bridge.resources.unplaced);
  // Linux gives bridges and ports a translated domain like any other function.
  for (const device of kernel.devices) {
    if (device.dma === null && device.master !== null && device.master.domain === null) {
      await kernel.useOwnDomain(device);
    }
  }
  session.slots = await watchSlots(kernel);
  const dma = dmaDevices(kernel);
  return [
    count(kernel.devices.length, "function"),
    `root buses ${roots.map((bus) => bus.toString(16).padStart(2, "0")).join(" ")}`,
    `DMA: ${listed(dma.map((device) => `${device.fn.name}${device.streamId === null ? "" : ` (${kernel.firmware.dmar === null ? "StreamID" : "source-id"} ${hexText(device.streamId)})`}`)) || "none"}`,
    ...(session.slots.length > 0 ? [count(session.slots.length, "hot-plug slot")] : []),
    ...unplaced.map((bar) => `BAR ${bar.bar} of ${bar.fn.name} (${hexText(bar.size)} bytes) has no place`),
  ].join(", ");
}

/** Every function with bypass entries: addresses are physical. */
export async function identity(session: Session): Promise<string> {
  const { kernel, random, reporter } = session;
  const devices = dmaDevices(kernel);
  if (devices.length === 0) {
    skip("no function does DMA");
  }
  let bytes = 0;
  let done = 0;
  const left: string[] = [];
  for (const device of devices) {
    await device.master?.attachIdentity();
    const { dma } = device;
    const lowest = Math.min(...kernel.firmware.ram.map((range) => range.base));
    if (dma.features.addressLimit <= lowest) {
      left.push(`${dma.kind} ${device.fn.name} reaches ${Math.log2(dma.features.addressLimit)} bits, RAM begins at ${hexText(lowest)}`);
      continue;
    }
    const buffers = await makeBuffers(kernel, random, BUFFER_BYTES);
    const length = transferLength(dma, random, BUFFER_BYTES);
    bytes += await checkTransfer(kernel, dma, buffers, {
      source: BigInt(buffers.source),
      destination: BigInt(buffers.destination),
      length,
    });
    freeBuffers(kernel, buffers);
    done++;
  }
  reporter.dmaChecked += bytes;
  if (done === 0) {
    skip(left.join("; "));
  }
  return [`${count(done, "function")}, ${bytes} bytes moved and compared`, ...left].join("; ");
}

/** Every function behind an IOMMU with tables of its own. */
export async function ownTables(session: Session): Promise<string> {
  const { kernel, random, reporter, mapped } = session;
  const devices = dmaDevices(kernel).filter((device) => device.master !== null);
  if (devices.length === 0) {
    skip("no DMA function is behind an IOMMU");
  }
  let bytes = 0;
  for (const device of devices) {
    const { dma, source, destination, buffers } = await mapOwnBuffers(session, device);
    bytes += await checkTransfer(kernel, dma, buffers, { source, destination, length: transferLength(dma, random, BUFFER_BYTES) });
  }
  reporter.dmaChecked += bytes;
  const ids = mapped.map(({ device, domain }) => `${device.fn.name} ${device.iommu?.domainIdName ?? "id"} ${domain.id}`);
  return `${count(devices.length, "function")}, ${bytes} bytes moved and compared; ${listed(ids, ", ")}`;
}

const MOST_VECTORS = 3;

/** Messages of each function: set up, raised one after the other, awaited. */
export async function messages(session: Session): Promise<string> {
  const { kernel } = session;
  const account: string[] = [];
  const without: string[] = [];
  if (kernel.firmware.msi === null) {
    skip("the machine has no MSI controller");
  }
  for (const device of dmaDevices(kernel)) {
    const { kind, count: offered } = await messageCount(device.fn);
    if (kind === "none" || !device.dma.features.raises) {
      without.push(device.fn.name);
      continue;
    }
    const vectors = await raiseMessages(kernel, device, Math.min(offered, MOST_VECTORS));
    if (vectors === 0) {
      without.push(`${device.fn.name} (the MSI controller has no interrupt left)`);
    } else {
      account.push(`${device.fn.name} ${kind} x${vectors}`);
    }
  }
  if (account.length === 0) {
    skip("no function sends messages");
  }
  return [listed(account, ", "), ...(without.length > 0 ? [`without: ${listed(without)}`] : [])].join("; ");
}

/** Sets up to `wanted` messages up and raises each once. Returns how many there are. */
export async function raiseMessages(kernel: Kernel, device: Device & { dma: DmaDevice }, wanted: number): Promise<number> {
  const came = new Array<number>(wanted).fill(0);
  const vectors = await kernel.setUpMessages(device, came.map((_, i) => () => {
    came[i]++;
  }));
  for (let vector = 0; vector < vectors; vector++) {
    await device.dma.raise(vector);
    await kernel.interrupts.until(() => came[vector] > 0, `message ${vector} of ${device.fn.name} (data ${device.messages?.messages[vector]?.data ?? "none"})`);
    await device.dma.acknowledge();
  }
  check(came.slice(0, vectors).every((times) => times === 1), () => `${device.fn.name}: expected one interrupt a message, found ${came.join(" ")}`);
  return vectors;
}
