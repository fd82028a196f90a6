/**
 * A step about disks: each NVMe controller is enabled, asked what it is, and read from; its messages are awaited, and
 * what it would write to pages that are not mapped for it has to fault. Nothing is written to a disk: it is somebody's.
 */
import { checkFault } from "../dma-check.js";
import { check } from "../failure.js";
import type { Device } from "../device.js";
import type { DmaDevice, DmaRequest } from "../devices/dma-device.js";
import type { NvmeDriver, NvmeQueue } from "../devices/nvme.js";
import { allocateFor, nvmeDevices, startNvme } from "../nvme-disk.js";
import { listed, type Session } from "./session.js";
import { remember } from "./translation.js";

const BYTES = 16 * 1024;
const PAGE = 4096;
/** The NVM command (NVM Express 1.4, 6.9). */
const READ = 0x02;
const ENTRIES = 8;

/** The step where there are controllers, and where it is not to be found out whether there are: it fails there. */
export async function diskSteps(session: Session): Promise<Array<readonly [name: string, body: () => Promise<string>]>> {
  try {
    const found = await nvmeDevices(session.kernel);
    return found.length > 0 ? [["disks", () => disks(session, found)]] : [];
  } catch (error) {
    return [["disks", () => Promise.reject(error)]];
  }
}

async function disks(session: Session, controllers: readonly Device[]): Promise<string> {
  const { kernel, reporter } = session;
  const account: string[] = [];
  for (const device of controllers) {
    // Its admin queue has vector 0, its I/O queue the other one where it has two.
    const came = [0, 0];
    const vectors = kernel.firmware.msi === null ? 0 : await kernel.setUpMessages(device, came.map((_, vector) => () => void came[vector]++));
    const vector = vectors === 0 ? null : vectors - 1;
    const driver = await startNvme(kernel, device);
    const { status, data } = await driver.identify(1);
    check(status === 0, () => `${device.fn.name}: Identify of the controller failed with status 0x${status.toString(16)}`);
    const serial = Buffer.from(data.subarray(4, 24)).toString("latin1").trim();
    const ids = await driver.namespaces();
    let read = 0;
    let seen: string[] = [];
    if (ids.length > 0) {
      const queue = await driver.createQueue(1, ENTRIES, vector);
      for (const id of ids) {
        read += await readEnds(session, device, driver, queue, id);
      }
      if (vector !== null) {
        await kernel.interrupts.until(() => came[vector] > 0, `message ${vector} of ${device.fn.name}`);
        seen.push(`message ${vector}`);
      }
      seen = [...seen, ...(await faults(session, device, driver, queue, ids[0]))];
    }
    await driver.stop();
    // Messages of its last completions are taken while they have somebody.
    await kernel.interrupts.poll();
    reporter.dmaChecked += read;
    account.push(`${device.fn.name} '${serial}' ${[ids.length === 0 ? "has no namespace" : `${read} bytes read`, ...seen].join(", ")}`);
  }
  return listed(account, "; ", 8);
}

async function blockBytesOf(driver: NvmeDriver, id: number): Promise<{ blocks: number; blockBytes: number }> {
  const { data } = await driver.identify(0, id);
  const view = new DataView(data.buffer, data.byteOffset);
  return { blocks: Number(view.getBigUint64(0, true)), blockBytes: 2 ** data[128 + 4 * (data[26] & 0xf) + 2] };
}

/** The ends of the disk, each twice: what is read again is the same. Returns the bytes. */
async function readEnds({ kernel }: Session, device: Device, driver: NvmeDriver, queue: NvmeQueue, id: number): Promise<number> {
  const { blocks, blockBytes } = await blockBytesOf(driver, id);
  const count = Math.min(blocks, Math.max(1, BYTES / blockBytes));
  const buffer = await allocateFor(kernel, device, count * blockBytes);
  let read = 0;
  for (const first of [0, blocks - count]) {
    const found: Uint8Array[] = [];
    for (let time = 0; time < 2; time++) {
      await kernel.memory.write(buffer.physical, new Uint8Array(buffer.bytes).fill(0xa5 ^ time));
      const ended = await driver.move(queue, false, first, count, buffer, id);
      check(ended === 0, () => `${device.fn.name}: reading ${count} blocks from ${first} on failed with status 0x${ended.toString(16)}`);
      found.push(await kernel.memory.read(buffer.physical, buffer.bytes));
      read += buffer.bytes;
    }
    check(found[0].every((byte, i) => byte === found[1][i]), () => `${device.fn.name}: block ${first} and those behind it read twice are not the same`);
  }
  await buffer.release();
  return read;
}

/** The first block, which would go to a page that is unmapped, then to one that is mapped for reading only. Returns the events' names. */
async function faults(session: Session, device: Device, driver: NvmeDriver, queue: NvmeQueue, id: number): Promise<string[]> {
  const { kernel } = session;
  const { domain, iommu } = device;
  const { blockBytes } = await blockBytesOf(driver, id);
  if (domain === null || iommu === null || blockBytes > PAGE) {
    return [];
  }
  const dma = reader(device, driver, queue, id, blockBytes);
  const physical = kernel.memory.allocate(PAGE);
  await kernel.memory.write(physical, new Uint8Array(PAGE).fill(0x5a));
  const buffers = { source: physical, destination: physical, bytes: PAGE };
  const readOnly = await domain.mapBuffer(physical, PAGE, { read: true });
  const gone = await domain.mapBuffer(physical, PAGE, { read: true, write: true });
  await domain.unmapBuffer(gone);
  const seen: string[] = [];
  for (const [page, kind] of [[gone, "unmapped"], [readOnly, "read-only"]] as const) {
    const event = await checkFault(kernel, { ...device, dma }, buffers, { source: page, destination: page, length: blockBytes }, iommu.expectedFault({ kind, domain, page }));
    remember(session, event, blockBytes);
    seen.push(`${kind} page ${event?.name ?? "fails without a record"}`);
  }
  await domain.unmapBuffer(readOnly);
  kernel.memory.release(physical);
  return seen;
}

/** The controller as something that writes a block of its disk where it is told to. */
function reader({ fn }: Device, driver: NvmeDriver, queue: NvmeQueue, id: number, blockBytes: number): DmaDevice {
  return {
    kind: "nvme",
    fn,
    features: { pasid: false, ats: false, maxLength: blockBytes, addressLimit: Number.MAX_SAFE_INTEGER, readsSource: false, raises: false, faults: true, stops: true },
    refresh: () => Promise.resolve(),
    transfer: async ({ destination }: DmaRequest) => {
      // A block within a page has no list, whose page could get the address of the one that went.
      const { status } = await driver.run(queue, { opcode: READ, nsid: id, prp1: destination, words: [0, 0, 0] });
      // QEMU's controller has no status for data that did not arrive: memory and the IOMMU tell.
      return { ok: status === 0, faulted: status === 0 ? null : true, faultAddress: null, detail: `status 0x${status.toString(16)}` };
    },
    expected: (source) => source,
    raise: () => Promise.resolve(),
    acknowledge: () => Promise.resolve(),
  };
}
