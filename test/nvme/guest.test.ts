import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { allocateFor, type Device, functionLevelReset, Kernel, linux, NVME, type NvmeDriver, type NvmeQueue, nvmeDevices, Random, startNvme, statusCode } from "../../src/guest/index.js";
import type { HostDescriptionInput } from "../../src/host/simulated/index.js";
import { contextFor } from "../guest/end-to-end.js";
import { build, hostInput } from "../machine/build.js";

const folder = mkdtempSync(join(tmpdir(), "viommu-nvme-"));
afterAll(() => rmSync(folder, { recursive: true }));
const MIB = 2 ** 20;

type FunctionInput = HostDescriptionInput["functions"][number];

/** A host of the package with an NVMe that is one. */
function hostWith(name: string, address: string, backing: FunctionInput["backing"] = { memory: "16M" }): HostDescriptionInput {
  const input = hostInput(name);
  const fn = input.functions.find((one) => one.address === address)!;
  Object.assign(fn, { model: "nvme", backing, bars: [{ index: 0, size: "128K" }] });
  return input;
}

interface Place {
  readonly name: string;
  readonly line: string;
  readonly host: () => HostDescriptionInput;
  /** Its faults are recorded. */
  readonly faults: boolean;
}

const MEMORY = "-blockdev driver=x-memory,node-name=d,size=16M";
const PLACES: readonly Place[] = [
  { name: "emulated, behind an SMMU in software", line: `-M virt,gic-version=3,iommu=smmuv3 -m 256 -nodefaults ${MEMORY} -device pcie-root-port,id=rp,chassis=1 -device nvme,serial=S,drive=d,bus=rp`, host: () => hostInput("board"), faults: true },
  { name: "emulated, behind VT-d's first stage in software", line: `-M q35 -m 256 -nodefaults -device intel-iommu,scalable-mode=on,fsts=on ${MEMORY} -device pcie-root-port,id=rp,chassis=1 -device nvme,serial=S,drive=d,bus=rp`, host: () => hostInput("desktop"), faults: true },
  { name: "emulated, behind VT-d's legacy mode", line: `-M q35 -m 256 -nodefaults -device intel-iommu ${MEMORY} -device nvme,serial=S,drive=d`, host: () => hostInput("desktop"), faults: true },
  {
    name: "the host's, behind an accelerated SMMU",
    line: "-M virt,gic-version=3 -m 256 -nodefaults -object iommufd,id=i -device arm-smmuv3,primary-bus=pcie.0,accel=on -device pcie-root-port,id=rp,chassis=1 -device vfio-pci,host=0000:01:00.0,bus=rp,iommufd=i",
    host: () => hostWith("board", "0000:01:00.0"),
    faults: true,
  },
  {
    name: "the host's, behind an accelerated VT-d",
    line: "-M q35,kernel-irqchip=split -m 256 -nodefaults -device intel-iommu,scalable-mode=on,fsts=on -object iommufd,id=i -device pcie-root-port,id=rp,chassis=1 -device vfio-pci,host=0000:18:00.0,bus=rp,iommufd=i",
    host: () => hostWith("two-socket-spr", "0000:18:00.0"),
    faults: false,
  },
];

interface Running {
  readonly kernel: Kernel;
  readonly device: Device;
  /** Messages by vector. */
  readonly came: number[];
  readonly end: () => Promise<void>;
}

async function boot(line: string, input: HostDescriptionInput): Promise<Running> {
  const { machine, host } = build(line, input);
  machine.start();
  const kernel = new Kernel(machine.port(), { granule: 12, firmware: line.includes("virt") ? "dt" : "acpi" });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const [device] = await nvmeDevices(kernel);
  if (device.master !== null) {
    await kernel.useOwnDomain(device);
  }
  const came = [0, 0, 0];
  await kernel.setUpMessages(device, came.map((_unused, vector) => () => void came[vector]++));
  return {
    kernel,
    device,
    came,
    end: async () => {
      machine.shutdown();
      await new Promise((resolve) => setImmediate(resolve));
      expect(host.liveObjects()).toEqual([]);
      host.close();
    },
  };
}

/** Writes blocks at random, each with a pattern of its own, and reads all of them back. */
async function writeAndVerify({ kernel, device }: Running, driver: NvmeDriver, queue: NvmeQueue, times: number, seed: number): Promise<void> {
  const random = new Random(seed);
  const buffer = await allocateFor(kernel, device, 128 * 1024);
  const model = new Map<number, Uint8Array>();
  for (let time = 0; time < times; time++) {
    const blocks = 1 + random.below(256);
    const first = random.below(32768 - blocks);
    const data = random.bytes(blocks * 512);
    await kernel.memory.write(buffer.physical, data);
    expect(await driver.move(queue, true, first, blocks, { address: buffer.address, bytes: data.length })).toBe(0);
    for (let block = 0; block < blocks; block++) {
      model.set(first + block, data.subarray(block * 512, block * 512 + 512));
    }
  }
  for (const [block, data] of [...model].filter((_unused, i) => i % 37 === 0)) {
    expect(await driver.move(queue, false, block, 1, { address: buffer.address, bytes: 512 })).toBe(0);
    expect(Buffer.compare(await kernel.memory.read(buffer.physical, 512), data)).toBe(0);
  }
  await buffer.release();
}

describe.each(PLACES)("an NVMe controller, $name", ({ line, host, faults }) => {
  it("writes and reads, with messages, through queues that wrap", async () => {
    const running = await boot(line, host());
    const driver = await startNvme(running.kernel, running.device);
    expect(await driver.namespaces()).toEqual([1]);
    const queue = await driver.createQueue(1, 4, 1);
    const other = await driver.createQueue(2, 64, 2);
    await writeAndVerify(running, driver, queue, 12, 7);
    await writeAndVerify(running, driver, other, 12, 8);
    await running.kernel.interrupts.poll();
    expect(running.came.every((count) => count > 0)).toBe(true);
    await driver.stop();
    await running.end();
  });

  it("fails a command whose data are not mapped, and itself where a queue is not", async () => {
    const running = await boot(line, host());
    const { kernel, device } = running;
    const driver = await startNvme(kernel, device);
    const queue = await driver.createQueue(1, 8, 1);
    const buffer = await allocateFor(kernel, device, 4096);
    await buffer.release();
    const from = device.iommu!.events.length;
    for (const opcode of [1, 2]) {
      expect(statusCode((await driver.run(queue, { opcode, nsid: 1, prp1: buffer.address, words: [0, 0, 7] })).status)).toBe(0x04);
    }
    await kernel.interrupts.poll();
    await device.iommu!.pollEvents();
    const events = device.iommu!.events.slice(from).filter((event) => event.streamId === device.streamId);
    if (faults) {
      expect(events.map((event) => event.inputAddress & ~0xfffn)).toContain(buffer.address);
    }
    await device.domain!.unmapBuffer(queue.sq.address);
    await driver.submit(queue, { opcode: 0, nsid: 1 });
    expect((await driver.register(NVME.CSTS)) & 3).toBe(3);
    const again = await startNvme(kernel, device);
    expect(await again.namespaces()).toEqual([1]);
    await running.end();
  });

  it("is reset as a function with commands under way, and starts anew", async () => {
    const running = await boot(line, host());
    const { kernel, device, came } = running;
    const driver = await startNvme(kernel, device);
    const queue = await driver.createQueue(1, 64, 1);
    const buffer = await allocateFor(kernel, device, 512 * 1024);
    const list = await allocateFor(kernel, device, 4096);
    const prp2 = await driver.prp2(buffer.address, buffer.bytes, list);
    for (let i = 0; i < 63; i++) {
      await driver.submit(queue, { opcode: 2, nsid: 1, prp1: buffer.address, prp2, words: [0, 0, 1023] }, i === 62);
    }
    const domain = device.domain!;
    expect(await functionLevelReset(device.fn, { block: () => device.master!.attachBlocked(), resume: () => device.master!.attach(domain) })).toBe(true);
    expect(await driver.register(NVME.CSTS)).toBe(0);
    const marked = new Uint8Array(buffer.bytes).fill(0xa5);
    await kernel.memory.write(buffer.physical, marked);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(Buffer.compare(await kernel.memory.read(buffer.physical, buffer.bytes), marked)).toBe(0);
    await kernel.setUpMessages(device, came.map((_unused, vector) => () => void came[vector]++));
    const again = await startNvme(kernel, device);
    await writeAndVerify(running, again, await again.createQueue(1, 64, 1), 4, 9);
    await running.end();
  });
});

it.each(["virt,gic-version=3", "q35"])("interrupts by its pin where no messages are enabled, on %s", async (type) => {
  const { machine, host } = build(`-M ${type} -m 256 -nodefaults ${MEMORY} -device nvme,serial=S,drive=d`, "board");
  machine.start();
  const kernel = new Kernel(machine.port(), { granule: 12, firmware: type === "q35" ? "acpi" : "dt" });
  await kernel.readFirmware();
  await kernel.enumerate();
  const [device] = await nvmeDevices(kernel);
  const levels: boolean[] = [];
  const { topology } = machine.board.functions[0].fn.bus!;
  const changed = topology!.intxChanged.bind(topology);
  topology!.intxChanged = (fn, level) => {
    levels.push(level);
    changed(fn, level);
  };
  const driver = await startNvme(kernel, device);
  await driver.namespaces();
  expect(levels).toEqual([]);
  await driver.setRegister(NVME.INTMC, 1);
  await driver.namespaces();
  expect(levels).toEqual([true, false]);
  await driver.stop();
  machine.shutdown();
  host.close();
});

describe("a disk of a file", () => {
  it.each([
    ["emulated", (path: string) => ({ line: `-M virt,gic-version=3,iommu=smmuv3 -m 256 -nodefaults -drive file=${path},format=raw,if=none,id=d -device nvme,serial=S,drive=d`, input: hostInput("board") })],
    ["of the host", (path: string) => ({ line: PLACES[3].line, input: hostWith("board", "0000:01:00.0", { file: path }) })],
  ])("%s has what the guest has written and flushed", async (_name, make) => {
    const path = join(folder, `${_name.replaceAll(" ", "-")}.raw`);
    const before = Uint8Array.from({ length: 16 * MIB }, (_unused, i) => i >> 9);
    writeFileSync(path, before);
    const { line, input } = make(path);
    const running = await boot(line, input);
    const driver = await startNvme(running.kernel, running.device);
    const queue = await driver.createQueue(1, 16, 1);
    const buffer = await allocateFor(running.kernel, running.device, 8192);
    expect(await driver.move(queue, false, 5, 3, { address: buffer.address, bytes: 1536 })).toBe(0);
    expect(Buffer.compare(await running.kernel.memory.read(buffer.physical, 1536), before.subarray(5 * 512, 8 * 512))).toBe(0);
    await running.kernel.memory.write(buffer.physical, Buffer.from("written by a guest"));
    expect(await driver.move(queue, true, 1000, 1, { address: buffer.address, bytes: 512 })).toBe(0);
    expect((await driver.run(queue, { opcode: 0, nsid: 1 })).status).toBe(0);
    expect(readFileSync(path).subarray(512_000, 512_018).toString()).toBe("written by a guest");
    await driver.stop();
    await running.end();
    const after = readFileSync(path);
    after.set(before.subarray(512_000, 512_512), 512_000);
    expect(Buffer.compare(after, before)).toBe(0);
  });

  it("is only read by the linux guest, and goes with its device and comes back", async () => {
    const path = join(folder, "kept.raw");
    writeFileSync(path, new Uint8Array(MIB).fill(7));
    const { machine, host } = build(`-M virt,gic-version=3,iommu=smmuv3 -m 256 -nodefaults -drive file=${path},format=raw,if=none,id=d -device pcie-root-port,id=rp,chassis=1 -device nvme,id=disk,serial=S7,drive=d,bus=rp`, "board");
    machine.start();
    const hotplug = [{ id: "disk", argument: "nvme,id=disk,serial=S7,drive=d,bus=rp" }];
    const report = await linux(contextFor(machine, { hotplug }));
    expect(report.steps.filter((step) => !step.ok)).toEqual([]);
    expect(report.steps.find((step) => step.name === "disks")?.detail).toBe("01:00.0 'S7' 65536 bytes read, message 1, unmapped page F_TRANSLATION, read-only page F_PERMISSION");
    expect(report.steps.find((step) => step.name === "unplug and plug")?.detail).toMatch(/^disk: 01:00\.0 unplugged, 01:00\.0 plugged/);
    machine.shutdown();
    host.close();
    expect(readFileSync(path).every((byte) => byte === 7)).toBe(true);
  });
});
