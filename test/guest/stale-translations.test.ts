/**
 * What a guest sees of the hardware's caches through an accelerated SMMU: it changes a table, and the function
 * goes on by the old one until the command that the architecture names has been through the vSMMU and the host.
 * Without that command, and with those for something else, the old translation stays.
 */
import { afterEach, describe, expect, it } from "vitest";
import { Kernel, type CommandQueue, type Device, type Domain } from "../../src/guest/index.js";
import { buildSte, CD, CFGI_RANGE_ALL, get, getAddress, L1CD, OP, put, putAddress, STE, STE_S1FMT_64K_L2 } from "../../src/smmuv3/spec/index.js";
import { machineOf } from "./end-to-end.js";
import { IOVA, landing, type Landing } from "./landing.js";

const LINE =
  "-M virt,gic-version=3 -m 1G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=0x10 " +
  "-device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 " +
  "-device vfio-pci,host=0008:01:00.0,bus=rp1,iommufd=iommufd0,id=gpu0";
const PAGE = 0x1000;
const SID = 0x1100;

let end: () => number = () => 0;
afterEach(() => end());

type Fields = NonNullable<Parameters<CommandQueue["issueAndSync"]>[1]>;

interface Setup extends Landing {
  readonly kernel: Kernel;
  readonly device: Device;
  /** Sends a command and CMD_SYNC. */
  send(opcode: number, fields?: Fields): Promise<void>;
}

async function setUp(): Promise<Setup> {
  const made = machineOf("grace", LINE);
  end = made.end;
  const kernel = new Kernel(made.machine.port(), { granule: 12, firmware: "dt" });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const device = kernel.devices.find((candidate) => candidate.dma !== null)!;
  expect(device.streamId).toBe(SID);
  return {
    ...(await landing(kernel, device)),
    kernel,
    device,
    send: (opcode, fields) => kernel.smmus[0].commands.issueAndSync(opcode, fields),
  };
}

type Command = readonly [name: string, opcode: number, fields: (domain: Domain) => Fields];

describe("a page that the guest maps elsewhere", () => {
  it.each<Command>([
    ["TLBI_NH_VA", OP.TLBI_NH_VA, ({ id }) => ({ ASID: id, ADDRESS: IOVA, LEAF: 1 })],
    ["TLBI_NH_VA of a range", OP.TLBI_NH_VA, ({ id }) => ({ ASID: id, ADDRESS: IOVA - 0x3000n, TG: 1, NUM: 3, SCALE: 0, LEAF: 1, TTL: 3 })],
    ["TLBI_NH_VAA", OP.TLBI_NH_VAA, () => ({ ADDRESS: IOVA, LEAF: 1 })],
    ["TLBI_NH_ASID", OP.TLBI_NH_ASID, ({ id }) => ({ ASID: id })],
    ["TLBI_NH_ALL", OP.TLBI_NH_ALL, () => ({})],
    ["TLBI_NSNH_ALL", OP.TLBI_NSNH_ALL, () => ({})],
  ])("is used where it was until %s", async (_name, opcode, fields) => {
    const { domain, lands, remap, send } = await setUp();
    expect(await lands()).toBe("before");
    await remap();
    expect(await lands()).toBe("before");
    await send(opcode, fields(domain));
    expect(await lands()).toBe("after");
  });

  it.each<Command>([
    ["TLBI_NH_VA of another ASID", OP.TLBI_NH_VA, ({ id }) => ({ ASID: id + 1, ADDRESS: IOVA })],
    ["TLBI_NH_VA of another page", OP.TLBI_NH_VA, ({ id }) => ({ ASID: id, ADDRESS: IOVA + 0x1000n, LEAF: 1 })],
    ["TLBI_NH_VA of a range before it", OP.TLBI_NH_VA, ({ id }) => ({ ASID: id, ADDRESS: IOVA - 0x4000n, TG: 1, NUM: 3, SCALE: 0 })],
    ["TLBI_NH_VAA of another page", OP.TLBI_NH_VAA, () => ({ ADDRESS: IOVA - 0x1000n, LEAF: 1 })],
    ["TLBI_NH_ASID of another ASID", OP.TLBI_NH_ASID, ({ id }) => ({ ASID: id + 1 })],
    ["CFGI_CD", OP.CFGI_CD, () => ({ SID, LEAF: 1 })],
    ["CFGI_CD_ALL", OP.CFGI_CD_ALL, () => ({ SID })],
    ["ATC_INV", OP.ATC_INV, () => ({ SID, ATC_SIZE: 52 })],
  ])("is used where it was after %s", async (_name, opcode, fields) => {
    const { domain, lands, remap, send } = await setUp();
    expect(await lands()).toBe("before");
    await remap();
    await send(opcode, fields(domain));
    expect(await lands()).toBe("before");
  });

  it("is used where it was by a function that cached it itself, until ATC_INV for its StreamID", async () => {
    const { device, domain, lands, remap, send } = await setUp();
    expect(await lands({ ats: true })).toBe("before");
    await remap();
    await send(OP.TLBI_NH_ASID, { ASID: domain.id });
    expect(await lands({ ats: true })).toBe("before");
    expect(await lands()).toBe("after");
    await send(OP.ATC_INV, { SID, ATC_SIZE: 0, ADDRESS: IOVA + 0x1000n });
    expect(await lands({ ats: true })).toBe("before");
    await send(OP.ATC_INV, { SID, ATC_SIZE: 0, ADDRESS: IOVA });
    expect(await lands({ ats: true })).toBe("after");
    expect(device.master?.atsSupported).toBe(true);
  });
});

describe("a context descriptor that the guest writes anew", () => {
  it.each<Command>([
    ["CFGI_CD", OP.CFGI_CD, () => ({ SID, LEAF: 1 })],
    ["CFGI_CD_ALL", OP.CFGI_CD_ALL, () => ({ SID })],
    ["CFGI_STE", OP.CFGI_STE, () => ({ SID, LEAF: 1 })],
  ])("counts from %s on", async (_name, opcode, fields) => {
    const { kernel, device, domain, after, lands, send } = await setUp();
    const other = await kernel.createDomain(device);
    await other.map(IOVA, after, PAGE, { read: true, write: true });
    expect(await lands()).toBe("before");
    const ste = await kernel.memory.readWords(kernel.smmus[0].steAddress(SID), 16);
    // Two levels: the first Level 1 descriptor leads to the context descriptor of no substream.
    expect(get(ste, STE.S1FMT)).toBe(STE_S1FMT_64K_L2);
    const address = getAddress(await kernel.memory.readWords(getAddress(ste, STE.S1CONTEXTPTR), 2), L1CD.L2PTR);
    const cd = await kernel.memory.readWords(address, 16);
    put(cd, CD.ASID, other.id);
    putAddress(cd, CD.TTB0, other.table.rootAddress);
    await kernel.memory.writeWords(address, cd);
    await send(OP.TLBI_NSNH_ALL);
    await send(OP.CFGI_CD, { SID, SSID: 1, LEAF: 1 });
    expect(await lands()).toBe("before");
    await send(opcode, fields(domain));
    expect(await lands()).toBe("after");
  });

  it("of a substream counts from its own CFGI_CD on", async () => {
    const { kernel, device, lands, after, before, send } = await setUp();
    const [one, two] = [await kernel.createDomain(device), await kernel.createDomain(device)];
    await one.map(IOVA, before, PAGE, { read: true, write: true });
    await two.map(IOVA, after, PAGE, { read: true, write: true });
    await device.master!.attachPasid(5, one);
    expect(await lands({ pasid: 5 })).toBe("before");
    const { commands } = kernel.smmus[0];
    const publish = commands.publish.bind(commands);
    commands.publish = () => Promise.resolve();
    await device.master!.attachPasid(5, two);
    commands.publish = publish;
    await send(OP.CFGI_CD, { SID, SSID: 0, LEAF: 1 });
    expect(await lands({ pasid: 5 })).toBe("before");
    await send(OP.CFGI_CD, { SID, SSID: 5, LEAF: 1 });
    expect(await lands({ pasid: 5 })).toBe("after");
  });
});

describe("a stream table entry that the guest writes anew", () => {
  it.each<Command>([
    ["CFGI_STE", OP.CFGI_STE, () => ({ SID, LEAF: 1 })],
    ["CFGI_STE_RANGE", OP.CFGI_STE_RANGE, () => ({ SID: SID & ~0xff, RANGE: 7 })],
    ["CFGI_ALL", OP.CFGI_STE_RANGE, () => ({ RANGE: CFGI_RANGE_ALL })],
  ])("counts from %s on, and never one for others", async (_name, opcode, fields) => {
    const { kernel, domain, lands, send } = await setUp();
    expect(await lands()).toBe("before");
    const address = kernel.smmus[0].steAddress(SID);
    const ste = await kernel.memory.readWords(address, 16);
    expect(get(ste, STE.CONFIG)).toBe(5);
    await kernel.memory.writeWords(address, buildSte({ V: 1, CONFIG: 0 }));
    await send(OP.CFGI_STE, { SID: SID + 1, LEAF: 1 });
    await send(OP.CFGI_STE_RANGE, { SID: 0x1200, RANGE: 7 });
    await send(OP.CFGI_CD_ALL, { SID });
    await send(OP.TLBI_NSNH_ALL);
    expect(await lands()).toBe("before");
    await send(opcode, fields(domain));
    expect(await lands()).toBe("fault");
    await kernel.memory.writeWords(address, ste);
    expect(await lands()).toBe("fault");
    await send(opcode, fields(domain));
    expect(await lands()).toBe("before");
  });
});
