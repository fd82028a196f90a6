/** Steps about translation: substreams, ATS, what an unmapped and a read-only page do. */
import { checkFault, checkTransfer, fillBuffers, transferLength } from "../dma-check.js";
import { check } from "../failure.js";
import { describeInterrupt } from "../interrupts.js";
import { isProvoked, skip } from "../report.js";
import type { DecodedEvent } from "../iommu/events.js";
import { BUFFER_BYTES, count, listed, type Mapped, type Session } from "./session.js";

/** Bytes of a transfer whose every access may be recorded: few enough for the records to have room. */
const SHORT_BYTES = 64;

/** PASIDs with domains of their own: the same IOVA leads elsewhere with and without PASID. */
export async function pasids(session: Session): Promise<string> {
  const { kernel, random, reporter, mapped } = session;
  for (const { dma } of mapped) {
    await dma.refresh();
  }
  const able = mapped.filter(({ device, dma }) => dma.features.pasid && (device.master?.pasidBits ?? 0) > 0);
  if (able.length === 0) {
    skip("no function and IOMMU offer PASID together");
  }
  const hindrance = able[0].device.iommu?.pasidHindrance ?? null;
  if (hindrance !== null) {
    skip(hindrance);
  }
  const account: string[] = [];
  for (const entry of able) {
    const { device, dma, buffers } = entry;
    const { master, iommu } = device;
    if (master === null || iommu === null) {
      continue;
    }
    const last = 2 ** master.pasidBits - 1;
    for (const pasid of last > 1 ? [1, last] : [1]) {
      const domain = await kernel.createDomain(device);
      await master.attachPasid(pasid, domain);
      await fillBuffers(kernel, buffers, random);
      // The addresses are those of the function's own domain, exchanged: only the PASID's tables make this right.
      await domain.map(entry.destination, buffers.source, BUFFER_BYTES, { read: true });
      await domain.map(entry.source, buffers.destination, BUFFER_BYTES, { read: true, write: true });
      const bytes = await checkTransfer(kernel, dma, buffers, {
        source: entry.destination,
        destination: entry.source,
        length: transferLength(dma, random, BUFFER_BYTES),
        pasid,
      });
      await master.detachPasid(pasid);
      await domain.destroy();
      const event = await checkFault(
        kernel,
        device,
        buffers,
        { source: entry.destination, destination: entry.source, length: 64, pasid },
        iommu.expectedFault({ kind: "no-domain", pasid }),
      );
      reporter.dmaChecked += bytes;
      remember(session, event, 64);
      account.push(`${device.fn.name} PASID ${pasid} ${bytes} bytes, then ${event?.name ?? "no event"}`);
    }
  }
  return listed(account, "; ", 8);
}

/** Translations that the device caches; they have to be gone after an unmap. */
export async function ats(session: Session): Promise<string> {
  const { kernel, random, reporter, mapped } = session;
  for (const { dma } of mapped) {
    await dma.refresh();
  }
  const able = mapped.filter(({ device, dma }) => dma.features.ats && device.master?.atsEnabled === true);
  if (able.length === 0) {
    skip("no function and IOMMU offer ATS together");
  }
  let bytes = 0;
  for (const { device, dma, domain, buffers, source } of able) {
    await fillBuffers(kernel, buffers, random);
    const iova = await domain.mapBuffer(buffers.destination, BUFFER_BYTES, { read: true, write: true });
    const length = transferLength(dma, random, BUFFER_BYTES);
    bytes += await checkTransfer(kernel, dma, buffers, { source, destination: iova, length, ats: true });
    await domain.unmapBuffer(iova);
    await fillBuffers(kernel, buffers, random);
    // A Translation Request for an unmapped page is answered without access; no event is recorded (3.9.1).
    await checkFault(kernel, device, buffers, { source, destination: iova, length, ats: true }, { event: null });
  }
  reporter.dmaChecked += bytes;
  return `${count(able.length, "function")}, ${bytes} bytes through cached translations, none left after the unmap`;
}

/** The destination is unmapped with the invalidations that belong to it: the same DMA faults, and the event says where. */
export async function unmapped(session: Session): Promise<string> {
  const { kernel, random, mapped } = session;
  if (mapped.length === 0) {
    skip("no DMA function is behind an IOMMU");
  }
  const events: string[] = [];
  for (const entry of mapped) {
    const { device, dma, domain, buffers, source, destination } = entry;
    await domain.unmapBuffer(destination);
    await fillBuffers(kernel, buffers, random);
    const length = dma.features.stops ? transferLength(dma, random, BUFFER_BYTES) : SHORT_BYTES;
    const event = await checkFault(
      kernel,
      device,
      buffers,
      { source, destination, length },
      device.iommu!.expectedFault({ kind: "unmapped", domain, page: destination }),
    );
    remember(session, event, length);
    events.push(event?.name ?? "fails without a record");
    await remap(session, entry);
  }
  return `${count(events.length, "function")}, each ${events[0]} at the unmapped page`;
}

/** Maps the destination again, wherever that is, and moves data once more. */
async function remap(session: Session, entry: Mapped): Promise<void> {
  const { kernel, random, reporter, mapped } = session;
  const { dma, domain, buffers, source } = entry;
  const limit = Math.min(dma.features.addressLimit, 2 ** 32);
  const destination = await domain.mapBuffer(buffers.destination, BUFFER_BYTES, { read: true, write: true }, limit);
  reporter.dmaChecked += await checkTransfer(kernel, dma, buffers, { source, destination, length: transferLength(dma, random, BUFFER_BYTES) });
  mapped[mapped.indexOf(entry)] = { ...entry, destination };
}

/** A write to the source buffer, which is mapped for reading only. */
export async function provokedFault(session: Session): Promise<string> {
  const { kernel, mapped } = session;
  const [entry] = mapped;
  if (entry === undefined) {
    skip("no DMA function is behind an IOMMU");
  }
  const { device, domain, buffers, source } = entry;
  // The device reads the page before it writes there, unless what that leaves in caches has to be kept from them.
  const uncached = kernel.options.tolerate?.includes("cached-permission") === true;
  if (uncached) {
    await domain.invalidateAll();
  }
  const length = Math.min(SHORT_BYTES, entry.dma.features.maxLength);
  const event = await checkFault(
    kernel,
    device,
    // What must stay as it is here is the source.
    { ...buffers, destination: buffers.source },
    { source: uncached ? entry.destination : source, destination: source, length },
    device.iommu!.expectedFault({ kind: "read-only", domain, page: source }),
  );
  remember(session, event, length);
  return event === null ? "fails without a record" : event.text;
}

/** The event was meant to happen. */
export function remember(session: Session, event: DecodedEvent | null, length: number): void {
  if (event !== null) {
    session.provoked.push({ event, length });
  }
}

/** Nothing came that was not provoked: no further event, no global error, no interrupt that nobody had asked for. */
export async function quiet(session: Session): Promise<string> {
  const { kernel, provoked } = session;
  await kernel.interrupts.poll();
  for (const iommu of kernel.iommus) {
    await iommu.pollEvents();
  }
  const wrong = [
    ...kernel.events.filter((event) => !isProvoked(event, provoked)).map((event) => `event ${event.text}`),
    ...kernel.iommus.flatMap((iommu) => iommu.complaints()),
    ...kernel.interrupts.unexpected.map(describeInterrupt),
  ];
  check(wrong.length === 0, () => `expected nothing else, found ${wrong.join("; ")}`);
  const commands = kernel.iommus.reduce((sum, iommu) => sum + iommu.commandCount, 0);
  return `${provoked.length === 0 ? "no event" : `${count(kernel.events.length, "event")}, all provoked`}; ${count(kernel.interrupts.received, "interrupt")}; ${count(commands, "IOMMU command")}`;
}

/** Everything that the boot mapped goes, with what TLBs have of it. */
export async function tearDown(session: Session): Promise<string> {
  const { kernel, mapped } = session;
  if (mapped.length === 0) {
    skip("no DMA function is behind an IOMMU");
  }
  const domains = new Set(mapped.map((entry) => entry.domain));
  const left = new Set<string>();
  for (const { device } of mapped) {
    left.add((await device.master?.detach()) === "identity" ? "bypass, as their reserved window demands" : "abort");
    device.domain = null;
  }
  for (const domain of domains) {
    await domain.destroy();
  }
  for (const { buffers } of mapped.splice(0)) {
    kernel.memory.release(buffers.source);
    kernel.memory.release(buffers.destination);
  }
  return `${count(domains.size, "domain")} freed, their functions ${[...left].join(" or ")}`;
}
