/** Steps that change functions under the guest: function level reset, hot-unplug and hot-plug. */
import type { GuestContext } from "../context.js";
import { checkTransfer, fillBuffers, transferLength } from "../dma-check.js";
import { check } from "../failure.js";
import type { Device } from "../device.js";
import { serviceUntil } from "../pci/hotplug.js";
import { messageCount } from "../pci/msi.js";
import { functionLevelReset, hasFunctionLevelReset } from "../pci/reset.js";
import { skip } from "../report.js";
import { raiseMessages } from "./boot.js";
import { BUFFER_BYTES, dmaDevices, listed, mapOwnBuffers, type Session } from "./session.js";

/** Each function that has a function level reset: DMA and messages work after it as before. */
export async function resetFunctions(session: Session): Promise<string> {
  const { kernel, mapped, random, reporter } = session;
  const names: string[] = [];
  for (const { device, dma, buffers, source, destination } of mapped) {
    const { master } = device;
    if (master === null || !(await hasFunctionLevelReset(device.fn))) {
      continue;
    }
    const domain = await kernel.useOwnDomain(device);
    await functionLevelReset(device.fn, { block: () => master.attachBlocked(), resume: () => master.attach(domain) });
    await dma.refresh();
    for (const ats of dma.features.ats && master.atsEnabled ? [false, true] : [false]) {
      await fillBuffers(kernel, buffers, random);
      reporter.dmaChecked += await checkTransfer(kernel, dma, buffers, { source, destination, length: transferLength(dma, random, BUFFER_BYTES), ats });
    }
    const { count: messages } = await messageCount(device.fn);
    if (messages > 0 && dma.features.raises && kernel.firmware.msi !== null) {
      await raiseMessages(kernel, device, 1);
    }
    names.push(device.fn.name);
  }
  return names.length === 0 ? skip("no function behind an IOMMU has a function level reset") : `${listed(names)}: DMA and messages as before`;
}

/** One device is unplugged by the operator and plugged again; afterwards it does DMA as before. */
export async function replug(session: Session, context: GuestContext): Promise<string> {
  const { kernel, slots, mapped, reporter } = session;
  const { operator } = context;
  const [candidate] = context.options.hotplug ?? [];
  if (candidate === undefined) {
    skip("no function can be unplugged");
  }
  if (slots.length === 0) {
    skip("no port of the machine has a hot-plug slot");
  }
  const removed: string[] = [];
  const added: Device[] = [];
  for (const slot of slots) {
    slot.onChange = (change) => {
      removed.push(...change.removed);
      added.push(...change.added);
    };
  }
  const before = new Set<Device>(mapped.map((entry) => entry.device));
  await serviceUntil(kernel, slots, operator.requestUnplug(candidate.id));
  check(!(await operator.isPlugged(candidate.id)), `expected ${candidate.id} to be gone, found it plugged`);
  await settle(session, () => removed.length > 0, `the slot of ${candidate.id} to be empty`);
  // What went has no buffers to map any more; its domain is freed with it.
  for (const entry of [...mapped]) {
    if (before.has(entry.device) && !kernel.devices.includes(entry.device)) {
      kernel.memory.release(entry.buffers.source);
      kernel.memory.release(entry.buffers.destination);
      mapped.splice(mapped.indexOf(entry), 1);
    }
  }
  await serviceUntil(kernel, slots, operator.plug(candidate.argument));
  await settle(session, () => added.length > 0, `the slot of ${candidate.id} to be filled`);
  check(await operator.isPlugged(candidate.id), `expected ${candidate.id} to be plugged, found it gone`);
  let bytes = 0;
  for (const device of added) {
    bytes += await useAgain(session, device);
  }
  reporter.dmaChecked += bytes;
  return `${candidate.id}: ${removed.join(" ")} unplugged, ${added.map((device) => device.fn.name).join(" ")} plugged, ${bytes} bytes moved and compared`;
}

async function settle({ kernel, slots }: Session, done: () => boolean, what: string): Promise<void> {
  await kernel.interrupts.until(async () => {
    for (const slot of slots) {
      await slot.service();
    }
    return done();
  }, what);
}

/** DMA of a function that came, through tables of its own where an IOMMU translates it. */
async function useAgain(session: Session, device: Device): Promise<number> {
  const { kernel, random } = session;
  const found = dmaDevices(kernel).find((candidate) => candidate.fn === device.fn);
  if (found === undefined || found.master === null) {
    return 0;
  }
  const { dma, buffers, source, destination } = await mapOwnBuffers(session, found);
  const bytes = await checkTransfer(kernel, dma, buffers, { source, destination, length: transferLength(dma, random, BUFFER_BYTES) });
  const { count: messages } = await messageCount(found.fn);
  if (messages > 0 && dma.features.raises && kernel.firmware.msi !== null) {
    await raiseMessages(kernel, found, 1);
  }
  return bytes;
}
