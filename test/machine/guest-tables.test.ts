/**
 * In accelerated mode nothing on this side of the host reads a guest's stage-1 tables or context descriptors:
 * the guest may change them at any moment, and the host's hardware reads them itself.
 */
import { expect, it } from "vitest";
import { descriptor, ENGINE_FILL, Kernel, serviceUntil, watchSlots, type Device, type DmaEngine, type VtdDriver } from "../../src/guest/index.js";
import { get, getAddress, L1CD, OP, STE, STE_S1FMT_LINEAR } from "../../src/smmuv3/spec/index.js";
import type { Machine } from "../../src/machine/index.js";
import type { MachinePort } from "../../src/port/index.js";
import { ACCEL, build, GPU } from "./build.js";

/** Guest-physical pages of a function's context descriptors and of the tables that they lead to. */
async function tablePages(kernel: Kernel, device: Device): Promise<Set<number>> {
  const pages = new Set<number>();
  const { memory } = kernel;
  const ste = await memory.readWords(kernel.smmus[0].steAddress(device.streamId!), 16);
  const base = getAddress(ste, STE.S1CONTEXTPTR);
  pages.add(base >> 12);
  if (get(ste, STE.S1FMT) !== STE_S1FMT_LINEAR) {
    pages.add(getAddress(await memory.readWords(base, 2), L1CD.L2PTR) >> 12);
  }
  (await levels(kernel, device, 3)).forEach((page) => pages.add(page));
  return pages;
}

/** Every page of RAM that this side of the host reads; the port's reads, which are the guest's own, do not count. */
function watchReads(machine: Machine): { readonly read: ReadonlySet<number>; readonly port: MachinePort } {
  const { words, memory } = machine.board;
  // Every load of this side shows: there is no flat part.
  words.flat = new Int32Array(0);
  words.flatBytes = 0;
  const read = new Set<number>();
  const note = (address: number, length: number): void => {
    for (let page = Math.floor(address / 4096); page <= Math.floor((address + length - 1) / 4096); page++) {
      read.add(page);
    }
  };
  const load64 = words.load64.bind(words);
  words.load64 = (high, low) => {
    note(high * 2 ** 32 + (low >>> 0), 8);
    return load64(high, low);
  };
  const readBytes = memory.readBytes.bind(memory);
  memory.readBytes = (address, out) => {
    note(address, out.length);
    return readBytes(address, out);
  };
  // The guest's own reads do not count.
  const port: MachinePort = {
    ...machine.port(),
    readMemory: (address, length) => {
      const out = new Uint8Array(length);
      readBytes(address, out);
      return Promise.resolve(out);
    },
  };
  return { read, port };
}

/** Pages of all levels of a domain's tables. */
async function levels(kernel: Kernel, device: Device, present: number): Promise<Set<number>> {
  const pages = new Set<number>();
  const walk = async (table: number, level: number): Promise<void> => {
    pages.add(table >> 12);
    for (const [i, word] of (await kernel.memory.readWords(table, 1024)).entries()) {
      if (i % 2 === 0 && (word & present) === present && level < 3) {
        await walk(word & ~0xfff, level + 1);
      }
    }
  };
  await walk(device.domain!.table.rootAddress, device.domain!.table.startLevel);
  return pages;
}

it("nothing reads a guest's stage-1 tables: not for DMA, invalidations, faults or messages, not at hotplug and reset", async () => {
  const { machine, host } = build(`${ACCEL} ${GPU} -device e1000e`);
  machine.start();
  const { read, port } = watchReads(machine);
  const kernel = new Kernel(port, { granule: 12, firmware: "dt" });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const device = kernel.devices.find((one) => one.dma !== null && one.master !== null)!;
  const domain = await kernel.useOwnDomain(device);
  const physical = kernel.memory.allocate(0x4000);
  const iova = await domain.mapBuffer(physical, 0x4000, { read: true, write: true });
  const engine = device.dma as DmaEngine;
  const fill = (address: bigint) => engine.run({ operation: ENGINE_FILL, source: 0n, destination: address, length: 64, pattern: 7 });
  let messages = 0;
  await kernel.setUpMessages(device, [() => void messages++]);
  const tables = await tablePages(kernel, device);
  expect(tables.size).toBeGreaterThanOrEqual(6);

  expect((await fill(iova)).ok).toBe(true);
  await engine.raise(0);
  await kernel.interrupts.until(() => messages > 0, "a message");
  expect((await fill(0x4000_0000n)).ok).toBe(false);
  await kernel.interrupts.poll();
  expect(kernel.events).toHaveLength(1);
  await domain.map(0x1000_0000n, physical, 0x4000, { read: true, write: true });
  await domain.unmap(0x1000_0000n, 0x4000);
  const { commands } = kernel.smmus[0];
  for (const [opcode, fields] of [[OP.CFGI_CD_ALL, { SID: device.streamId! }], [OP.CFGI_STE, { SID: device.streamId!, LEAF: 1 }], [OP.CFGI_STE_RANGE, { RANGE: 31 }], [OP.TLBI_NSNH_ALL, {}]] as const) {
    await commands.issueAndSync(opcode, fields);
  }
  const slots = await watchSlots(kernel);
  const operator = machine.operator();
  await serviceUntil(kernel, slots, operator.requestUnplug("gpu0"));
  await serviceUntil(kernel, slots, operator.plug(GPU.replace("-device ", "")));
  await operator.reset();
  machine.shutdown();

  // The stream table and the command queue are read, so reads are seen at all.
  expect(read.has(commands.base >> 12)).toBe(true);
  expect(read.has(kernel.smmus[0].steAddress(device.streamId!) >> 12)).toBe(true);
  expect([...read].filter((page) => tables.has(page))).toEqual([]);
  host.close();
});

it("nothing reads a guest's first-stage tables behind an intel-iommu either", async () => {
  const { machine, host } = build(
    "-M q35,accel=kvm,kernel-irqchip=split -m 64M -nodefaults -object iommufd,id=iommufd0 -device intel-iommu,scalable-mode=on,fsts=on,pasid-bits=8,caching-mode=on " +
      "-device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:97:00.0,id=nic0,bus=rp1,iommufd=iommufd0",
    "two-socket-spr",
  );
  machine.start();
  const { read, port } = watchReads(machine);
  const kernel = new Kernel(port, { granule: 12, firmware: "acpi" });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const device = kernel.devices.find((one) => one.dma !== null && one.master !== null)!;
  const domain = await kernel.useOwnDomain(device);
  const physical = kernel.memory.allocate(0x4000);
  const iova = await domain.mapBuffer(physical, 0x4000, { read: true, write: true });
  const other = await kernel.createDomain(device);
  await device.master!.attachPasid(3, other);
  await other.map(iova, physical, 0x4000, { read: true, write: true });
  const engine = device.dma as DmaEngine;
  const fill = (address: bigint) => engine.run({ operation: ENGINE_FILL, source: 0n, destination: address, length: 64, pattern: 7 });
  let messages = 0;
  await kernel.setUpMessages(device, [() => void messages++]);
  const tables = new Set([...(await levels(kernel, device, 1)), other.table.rootAddress >> 12]);
  expect(tables.size).toBeGreaterThanOrEqual(5);

  expect((await fill(iova)).ok).toBe(true);
  await engine.raise(0);
  await kernel.interrupts.until(() => messages > 0, "a message");
  expect((await fill(0x4000_0000n)).ok).toBe(false);
  await kernel.interrupts.poll();
  expect(kernel.events).toHaveLength(1);
  await domain.map(0x1000_0000n, physical, 0x4000, { read: true, write: true });
  await domain.unmap(0x1000_0000n, 0x4000);
  const [unit] = kernel.iommus as VtdDriver[];
  await unit.invalidate([descriptor("CONTEXT_CACHE", { G: 1 }), descriptor("PASID_CACHE", { G: 3 }), descriptor("IOTLB", { G: 1 })]);
  const slots = await watchSlots(kernel);
  const operator = machine.operator();
  await serviceUntil(kernel, slots, operator.requestUnplug("nic0"));
  await serviceUntil(kernel, slots, operator.plug("vfio-pci,host=0000:97:00.0,id=nic0,bus=rp1,iommufd=iommufd0"));
  await operator.reset();
  machine.shutdown();

  expect(read.has(unit.root.base >> 12), "the root table is read, so reads are seen at all").toBe(true);
  expect([...read].filter((page) => tables.has(page))).toEqual([]);
  host.close();
});
