/** A step about disks: each NVMe controller is enabled, asked what it is, and read from. Nothing is written: the disk is somebody's. */
import { check } from "../failure.js";
import type { Device } from "../device.js";
import { allocateFor, nvmeDevices, startNvme } from "../nvme-disk.js";
import { listed, type Session } from "./session.js";

const BYTES = 16 * 1024;
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

async function disks({ kernel, reporter }: Session, controllers: readonly Device[]): Promise<string> {
  const account: string[] = [];
  for (const device of controllers) {
    const driver = await startNvme(kernel, device);
    const { status, data } = await driver.identify(1);
    check(status === 0, () => `${device.fn.name}: Identify of the controller failed with status 0x${status.toString(16)}`);
    const serial = Buffer.from(data.subarray(4, 24)).toString("latin1").trim();
    const ids = await driver.namespaces();
    let read = 0;
    if (ids.length > 0) {
      const queue = await driver.createQueue(1, ENTRIES);
      for (const id of ids) {
        const namespace = await driver.identify(0, id);
        const view = new DataView(namespace.data.buffer, namespace.data.byteOffset);
        const blocks = Number(view.getBigUint64(0, true));
        const blockBytes = 2 ** namespace.data[128 + 4 * (namespace.data[26] & 0xf) + 2];
        const count = Math.min(blocks, Math.max(1, BYTES / blockBytes));
        const buffer = await allocateFor(kernel, device, count * blockBytes);
        // The ends of the disk, each twice: what is read again is the same.
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
      }
    }
    await driver.stop();
    // Messages of its last completions are taken while they have somebody.
    await kernel.interrupts.poll();
    reporter.dmaChecked += read;
    account.push(`${device.fn.name} '${serial}' ${ids.length === 0 ? "has no namespace" : `${read} bytes read`}`);
  }
  return listed(account, "; ", 8);
}
