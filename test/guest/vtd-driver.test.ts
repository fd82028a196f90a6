import { describe, expect, it } from "vitest";
import {
  GuestMemory,
  InterruptController,
  VtdDriver,
  messageController,
  vtdFeatures,
  type AtsControl,
  type VtdChoice,
  type VtdDomain,
  type VtdMaster,
} from "../../src/guest/index.js";
import { FakeVtd, VTD_BASE, VTD_RAM_BYTES } from "./fake-vtd.js";

/** CAP and ECAP of QEMU 11.1 by its properties, read over qtest. */
const LEGACY = [0x80d2008c222f0606n, 0xf00f4an] as const;
const FIRST_STAGE = [0x81d2008c222f0606n, 0x880000f00f4an] as const;
const SECOND_STAGE = [0x80d2008c222f0606n, 0x480080f00f4an] as const;
const PASID = [0x81d2008c222f0606n, 0x8d9a20f00f4en] as const;
const CACHING = 0x80n;
/** CAP.ESRTPS, which QEMU 11.1 has, and ESIRTPS. */
const ESRTPS = 1n << 63n;
const ESIRTPS = 1n << 62n;

interface Setup {
  readonly fake: FakeVtd;
  readonly driver: VtdDriver;
  readonly interrupts: InterruptController;
}

function setUp([cap, ecap]: readonly [bigint, bigint], choice: VtdChoice = {}, before: (fake: FakeVtd) => void = () => {}): Setup {
  const fake = new FakeVtd(cap, ecap);
  before(fake);
  const interrupts = new InterruptController(fake);
  const messages = messageController(fake, interrupts, { kind: "apic", doorbell: 0xfee0_0000, firstSpi: 0, spiCount: 0 }, { wired: new Set(), firstVector: 0x41 });
  const description = { name: "vtd@fed90000", base: VTD_BASE, segment: 0, includeAll: true, scopes: [], proximity: null };
  const driver = new VtdDriver(fake, new GuestMemory(fake, [{ base: 0, size: VTD_RAM_BYTES }], []), interrupts, description, {
    choice,
    addressWidth: 48,
    ram: [{ base: 0, size: VTD_RAM_BYTES }],
    interruptRemapping: true,
    x2apic: true,
    ownMessage: (handler) => messages.take({ deviceId: 0, requesterId: 0, remapper: null }, 0n, [handler]),
  });
  return { fake, driver, interrupts };
}

async function ready(registers: readonly [bigint, bigint], choice: VtdChoice = {}): Promise<Setup> {
  const setup = setUp(registers, choice);
  await setup.driver.prepare();
  await setup.driver.probe();
  await setup.driver.start();
  setup.fake.taken();
  return setup;
}

const low = (address: number): string => address.toString(16);
/** Descriptors since the last look. */
const descriptors = (fake: FakeVtd): string[] => fake.taken().filter((line) => line.startsWith("desc"));

describe("enabling a unit in Linux's order", () => {
  it("queue, interrupt remapping, root table, fault event, translation", async () => {
    const { fake, driver } = setUp([FIRST_STAGE[0] & ~ESRTPS, FIRST_STAGE[1]]);
    await driver.prepare();
    await driver.probe();
    await driver.start();
    const [iqa, irta, rtaddr] = ["IQA", "IRTA", "RTADDR"].map((name) => fake.trace.find((line) => line.startsWith(`${name} `))!);
    // Descriptors of 256 bits in two pages; 2^16 entries without EIM; scalable mode.
    expect(iqa).toMatch(/^IQA [0-9a-f]+801$/);
    expect(irta).toMatch(/^IRTA [0-9a-f]+00f$/);
    expect(rtaddr).toMatch(/^RTADDR [0-9a-f]+400$/);
    expect(fake.trace).toEqual([
      "IQT 0",
      iqa,
      "GCMD 4000000",
      irta,
      "GCMD 5000000",
      "IQT 40",
      "desc 4 0",
      "GCMD 6000000",
      rtaddr,
      "GCMD 46000000",
      "IQT c0",
      "desc 11 0",
      "desc 37 0",
      "desc d2 0",
      "FEDATA 41",
      "FEADDR fee00000",
      "FEUADDR 0",
      "FECTL 0",
      "GCMD 86000000",
    ]);
    expect(driver.tookOver).toBe(false);
  });

  it("descriptors of 128 bits without scalable mode, and no PASID caches", async () => {
    const { fake, driver } = setUp([LEGACY[0] & ~ESRTPS, LEGACY[1]], { interruptRemapping: false });
    await driver.prepare();
    await driver.probe();
    await driver.start();
    expect(fake.trace[1]).toMatch(/^IQA [0-9a-f]+000$/);
    expect(fake.trace.find((line) => line.startsWith("RTADDR"))).toMatch(/000$/);
    expect(fake.trace.filter((line) => /^(desc|IQT|GCMD)/.test(line))).toEqual(["IQT 0", "GCMD 4000000", "GCMD 44000000", "IQT 30", "desc 11 0", "desc d2 0", "GCMD 84000000"]);
  });

  it("descriptors of 256 bits also where scalable mode is there and not used", async () => {
    const { fake, driver } = setUp(FIRST_STAGE, { scalable: false });
    await driver.prepare();
    await driver.probe();
    await driver.start();
    expect(fake.trace[1]).toMatch(/^IQA [0-9a-f]+801$/);
    expect(fake.trace.find((line) => line.startsWith("RTADDR"))).toMatch(/000$/);
  });

  it("leaves out the invalidations that the status bits imply", async () => {
    const { fake, driver } = setUp([FIRST_STAGE[0] | ESRTPS | ESIRTPS, FIRST_STAGE[1]]);
    await driver.prepare();
    await driver.probe();
    await driver.start();
    expect(descriptors(fake)).toEqual([]);
  });

  it("turns off what another kernel left on: remapping, the queue, translation", async () => {
    const { fake, driver } = setUp(FIRST_STAGE, {}, (before) => before.set(0x1c, 0x8600_0000n));
    await driver.prepare();
    await driver.probe();
    await driver.start();
    expect(fake.trace.slice(0, 3)).toEqual(["GCMD 84000000", "GCMD 80000000", "IQT 0"]);
    const gcmd = fake.trace.filter((line) => line.startsWith("GCMD"));
    expect(gcmd.slice(2)).toEqual(["GCMD 84000000", "GCMD 85000000", "GCMD 86000000", "GCMD 6000000", "GCMD 46000000", "GCMD 86000000"]);
    expect([driver.tookOver, driver.copiedTables]).toEqual([true, false]);
  });

  it("copies the tables of the same mode, keeps their domain ids, and leaves translation on", async () => {
    const { fake, driver } = setUp(LEGACY, { copyTables: true }, (before) => {
      before.set(0x1c, 0x8000_0000n);
      before.set(0x20, 0x10_0000n);
      // Bus 3, 00.1: a context entry with DID 2 and three levels.
      const bytes = new DataView(new ArrayBuffer(16));
      bytes.setBigUint64(0, 0x10_1001n, true);
      void before.writeMemory(0x10_0030, new Uint8Array(bytes.buffer.slice(0)));
      bytes.setBigUint64(0, 0x10_2001n, true);
      bytes.setBigUint64(8, 0x201n, true);
      void before.writeMemory(0x10_1010, new Uint8Array(bytes.buffer));
    });
    await driver.prepare();
    await driver.probe();
    await driver.start();
    expect(driver.copiedTables).toBe(true);
    expect(fake.trace.filter((line) => line.startsWith("GCMD")).every((line) => Number.parseInt(line.slice(5), 16) >= 0x8000_0000)).toBe(true);
    const copied = Number(fake.ram64(driver.root.base + 0x30) & ~0xfffn);
    expect(copied).not.toBe(0x10_1000);
    expect(fake.words(copied + 0x10, 2)).toEqual(["102001", "201"]);
    expect((await driver.createDomain()).id).toBe(3);
  });

  it("does not take over tables of the other mode", async () => {
    const { driver } = setUp(FIRST_STAGE, { copyTables: true }, (before) => before.set(0x1c, 0x8000_0000n));
    await driver.prepare();
    await driver.probe();
    await driver.start();
    expect(driver.copiedTables).toBe(false);
  });
});

describe("capabilities", () => {
  it.each([
    ["legacy", LEGACY, {}, { scalable: false, firstStage: false, secondStageLevels: 4, secondStageBits: 48, pasidBits: 0, maxAddressMask: 18, domainBits: 16, queued: true, deviceTlb: false }],
    ["first stage", FIRST_STAGE, {}, { scalable: true, firstStage: true, firstStage1g: true, pasidBits: 0 }],
    ["second stage", SECOND_STAGE, {}, { scalable: true, firstStage: false, firstStage1g: false }],
    ["PASIDs", PASID, {}, { pasidBits: 20, deviceTlb: true }],
    ["sm_off", PASID, { scalable: false }, { scalable: false, firstStage: false, pasidBits: 0, wideDescriptors: true }],
    ["no queue", PASID, { queued: false }, { scalable: false, queued: false, deviceTlb: false, interruptRemapping: false }],
    ["39 bits", [0x80d2008c22260206n, 0xf00f4an] as const, {}, { secondStageLevels: 3, secondStageBits: 39 }],
  ])("%s", (_what, [cap, ecap], choice, expected) => {
    expect(vtdFeatures("u", cap, ecap, choice)).toMatchObject(expected);
    expect(vtdFeatures("u", cap, ecap, choice).faultRecords).toEqual({ offset: 0x220, count: 1 });
    expect(vtdFeatures("u", cap, ecap, choice).iotlbRegisters).toBe(0xf0);
  });

  it("refuses scalable mode without a stage, and no width", () => {
    expect(() => vtdFeatures("u", LEGACY[0], 0x080000f00f4an)).toThrow("has scalable mode and neither stage");
    expect(() => vtdFeatures("u", LEGACY[0] & ~0x1f00n, LEGACY[1])).toThrow("has no width of second-stage tables");
  });
});

describe("attaching in scalable mode", () => {
  const context = (fake: FakeVtd, driver: VtdDriver, sid: number): number => {
    const half = (sid & 0x80) !== 0 ? 8 : 0;
    return Number(fake.ram64(driver.root.base + (sid >> 8) * 16 + half) & ~0xfffn) + (sid & 0x7f) * 32;
  };
  const entry = (fake: FakeVtd, driver: VtdDriver, sid: number, pasid: number): number => {
    const directory = Number(fake.ram64(context(fake, driver, sid)) & ~0xfffn);
    return Number(fake.ram64(directory + (pasid >> 6) * 8) & ~0xfffn) + (pasid & 63) * 64;
  };

  async function attached(registers: readonly [bigint, bigint], choice: VtdChoice = {}, options = {}): Promise<Setup & { master: VtdMaster; domain: VtdDomain }> {
    const setup = await ready(registers, choice);
    const master = await setup.driver.addMaster("f", [0x0398], options);
    const domain = await setup.driver.createDomain();
    await master.attach(domain);
    return { ...setup, master, domain };
  }

  it("writes context entry and PASID entry, and invalidates nothing that was not present", async () => {
    const { fake, driver, domain } = await attached(FIRST_STAGE);
    const [c0, c1, ...rest] = fake.words(context(fake, driver, 0x398), 4);
    // P alone: no DTE, PASIDE, PDTS 2 (512 directory entries), RID_PASID 0.
    expect(BigInt(`0x${c0}`) & 0xfffn).toBe(0x401n);
    expect([c1, ...rest]).toEqual(["0", "0", "0"]);
    // The root entry's upper half: device 19.
    expect(fake.ram64(driver.root.base + 0x30)).toBe(0n);
    // P, AW 2 (four levels), PGTT 1; DID; FSPTPTR.
    expect(fake.words(entry(fake, driver, 0x398, 0), 8)).toEqual(["49", "2", low(domain.table.rootAddress), "0", "0", "0", "0", "0"]);
    expect(descriptors(fake)).toEqual([]);
  });

  it("invalidates with caching mode: the context entry under DID 0, the PASID entry under its own", async () => {
    const { fake } = await attached([FIRST_STAGE[0] | CACHING, FIRST_STAGE[1]]);
    // Device-selective; IOTLB of domain 0; PASID-selective of both caches.
    expect(descriptors(fake)).toEqual(["desc 39800000031 0", "desc e2 0", "desc 20017 0", "desc 20026 0"]);
  });

  it("takes an entry away with its caches before another one comes", async () => {
    const { fake, driver, master, domain } = await attached(FIRST_STAGE, { tearDownPasids: true });
    fake.taken();
    const second = await driver.createDomain();
    await master.attach(second);
    expect(descriptors(fake)).toEqual(["desc 20017 0", "desc 20026 0"]);
    expect(fake.words(entry(fake, driver, 0x398, 0), 3)).toEqual(["49", "3", low(second.table.rootAddress)]);
    expect(domain.users).toEqual([]);
    await domain.destroy();
    expect((await driver.createDomain()).id).toBe(2);
  });

  it("replaces an entry in one step", async () => {
    const { fake, driver, master } = await attached(FIRST_STAGE);
    const at = entry(fake, driver, 0x398, 0);
    let absent = 0;
    const write = fake.writeMemory.bind(fake);
    fake.writeMemory = async (address, data) => {
      await write(address, data);
      absent += (fake.ram64(at) & 1n) === 0n ? 1 : 0;
    };
    await master.attach(await driver.createDomain());
    expect(absent).toBe(0);
    expect(descriptors(fake)).toEqual(["desc 20017 0", "desc 20026 0"]);
  });

  it("has pass-through under domain id 1, and clears the entry to block", async () => {
    const { fake, driver, master } = await attached(FIRST_STAGE);
    await master.attachIdentity();
    expect(fake.words(entry(fake, driver, 0x398, 0), 3)).toEqual(["109", "1", "0"]);
    fake.taken();
    await master.attachBlocked();
    expect(fake.words(entry(fake, driver, 0x398, 0), 8)).toEqual(new Array(8).fill("0"));
    expect(descriptors(fake)).toEqual(["desc 10017 0", "desc 10026 0"]);
    expect(master.domain).toBe("blocked");
  });

  it("has second-stage entries, whose invalidation is the domain's", async () => {
    const { fake, driver, master, domain } = await attached(SECOND_STAGE);
    expect(fake.words(entry(fake, driver, 0x398, 0), 3)).toEqual([(BigInt(domain.table.rootAddress) | 0x89n).toString(16), "2", "0"]);
    fake.taken();
    await master.attachBlocked();
    expect(descriptors(fake)).toEqual(["desc 20017 0", "desc 200e2 0"]);
  });

  it("gives PASIDs their own tables, and takes ATS on after the entries and off before they go", async () => {
    const order: string[] = [];
    const ats: AtsControl = {
      enable: async (stu) => void order.push(`on ${stu}`),
      disable: async () => void order.push("off"),
    };
    const { fake, driver, master } = await attached(PASID, {}, { pasidBits: 16, ats, atsQueueDepth: 32 });
    expect([master.pasidBits, master.atsEnabled, order]).toEqual([16, true, ["on 12"]]);
    // P, DTE, PASIDE; PDTS: 1024 directory entries.
    expect(fake.ram64(context(fake, driver, 0x398)) & 0xfffn).toBe(0x60dn);
    const other = await driver.createDomain();
    await master.attachPasid(0xffff, other);
    expect(fake.words(entry(fake, driver, 0x398, 0xffff), 3)).toEqual(["49", "3", low(other.table.rootAddress)]);
    fake.taken();
    await other.map(0x10_0000n, 0x20_0000, 0x3000, { read: true });
    await other.unmap(0x10_0000n, 0x3000);
    // Page-selective of PASID 0xffff: four pages with the leaf hint; the device's TLB: 16 KiB, PFSID 0x398.
    expect(descriptors(fake)).toEqual(["desc ffff00030036 100042", "desc 390ffff03988008 101800"]);
    await master.detachPasid(0xffff);
    const all = descriptors(fake);
    expect(all.slice(0, 2)).toEqual(["desc ffff00030017 0", "desc ffff00030026 0"]);
    expect(all[2]).toMatch(/^desc 390ffff03988008 7ffffffffffff800$/);
    await expect(master.attachPasid(0x1_0000, other)).rejects.toThrow("not within the 16 bits");
    await master.release();
    expect(order.at(-1)).toBe("off");
    expect(driver.masterOf(0x398)).toBeNull();
    expect(fake.words(context(fake, driver, 0x398), 4)).toEqual(["0", "0", "0", "0"]);
  });

  it("invalidates everything of a PASID where a page-selective invalidation does not reach", async () => {
    const { fake, domain } = await attached([FIRST_STAGE[0] & ~(0x3fn << 48n), FIRST_STAGE[1]]);
    fake.taken();
    await domain.map(0x10_0000n, 0x20_0000, 0x3000, { read: true });
    expect(descriptors(fake)).toEqual([]);
    await domain.unmap(0x10_0000n, 0x3000);
    // MAMV 0: one page at the most.
    expect(descriptors(fake)).toEqual(["desc 20026 0"]);
  });

  it("tells of new second-stage mappings with caching mode, of first-stage ones not", async () => {
    const second = await attached([SECOND_STAGE[0] | CACHING, SECOND_STAGE[1]]);
    second.fake.taken();
    await second.domain.map(0x20_0000n, 0x40_0000, 0x20_0000, { read: true, write: true });
    // DR, DW, page-selective; 512 pages, tables may be new.
    expect(descriptors(second.fake)).toEqual(["desc 200f2 200009"]);
    const first = await attached([FIRST_STAGE[0] | CACHING, FIRST_STAGE[1]]);
    first.fake.taken();
    await first.domain.map(0x20_0000n, 0x40_0000, 0x20_0000, { read: true, write: true });
    expect(descriptors(first.fake)).toEqual([]);
  });
});

describe("attaching in legacy mode", () => {
  it("has the tables in the context entry, and one at a time", async () => {
    const { fake, driver } = await ready(LEGACY);
    const master = await driver.addMaster("f", [0x0010]);
    const domain = await driver.createDomain();
    await master.attach(domain);
    const at = Number(fake.ram64(driver.root.base) & ~0xfffn) + 0x10 * 16;
    // P, TT 0; AW 2; DID 2.
    expect(fake.words(at, 2)).toEqual([(BigInt(domain.table.rootAddress) | 1n).toString(16), "202"]);
    expect(descriptors(fake)).toEqual([]);
    await master.attachIdentity();
    // TT 2, DID 1.
    expect(fake.words(at, 2)).toEqual(["9", "102"]);
    expect(descriptors(fake)).toEqual(["desc 1000020031 0", "desc 200e2 0"]);
    await master.attachBlocked();
    expect(fake.words(at, 2)).toEqual(["0", "0"]);
    await expect(master.attachPasid(1, domain)).rejects.toThrow("PASIDs need scalable mode");
  });

  it("maps RAM to itself where there is no pass-through", async () => {
    const { driver } = await ready([LEGACY[0], LEGACY[1] & ~0x40n]);
    const master = await driver.addMaster("f", [0x0010]);
    await master.attachIdentity();
    const domain = master.domain as VtdDomain;
    expect(domain.table.lookup(0x123_4567n)).toBe(0x123_4567);
    await master.release();
    expect((await driver.createDomain()).id).toBe(2);
  });

  it("invalidates by registers without a queue, and believes no finer granularity", async () => {
    const { fake, driver } = await ready(LEGACY, { queued: false });
    const master = await driver.addMaster("f", [0x0010]);
    const domain = await driver.createDomain();
    await master.attach(domain);
    await domain.map(0x1000n, 0x5000, 0x1000, { read: true });
    fake.taken();
    await domain.unmap(0x1000n, 0x1000);
    // The leaf hint with the address; IVT, page-selective, drain, DID 2.
    expect(fake.taken()).toEqual(["IVA 1040", "IOTLB b003000200000000"]);
    await master.attachBlocked();
    // ICC, device-selective, SID, DID.
    expect(fake.taken().filter((line) => line.startsWith("CCMD"))).toEqual(["CCMD e000000000100002"]);
    fake.granularity = 3n;
    await expect(driver.flushContext(0x10, 2)).rejects.toThrow("register 0xf8 performed granularity 3, 2 was asked for");
  });
});

describe("what goes wrong", () => {
  it("an invalid descriptor becomes a wait descriptor, and is told", async () => {
    const { fake, driver } = await ready(FIRST_STAGE);
    const master = await driver.addMaster("f", [0x10]);
    await master.attach(await driver.createDomain());
    fake.invalid.add(6);
    await master.attachBlocked();
    expect(driver.queue!.errors).toEqual([{ fsts: 0x10, reason: 3, descriptor: "PASID_IOTLB" }]);
    expect(driver.complaints()).toEqual(["vtd@fed90000 queue error FSTS 0x10, reason 3, at PASID_IOTLB"]);
  });

  it("a queue that stops at everything ends the wait", async () => {
    const { fake, driver } = await ready(FIRST_STAGE);
    fake.invalid.add(5).add(3).add(7);
    await expect(driver.flushContext(0x10, 0)).rejects.toThrow(/the wait descriptor does not end \[IQH 0x[0-9a-f]+, IQT 0x[0-9a-f]+, error 3 at/);
  });

  it("a fault's record is decoded and cleared, with the interrupt or without", async () => {
    const { fake, driver, interrupts } = await ready([FIRST_STAGE[0] | (1n << 40n), FIRST_STAGE[1]]);
    // Two records: a write of PASID 5 by 03:13.0, first-stage entry not present; a read without PASID.
    fake.fault(1, 0xfffe_0000n, (1n << 63n) | (5n << 40n) | (0x71n << 32n) | (1n << 31n) | 0x398n);
    fake.fault(0, 0x1000n, (1n << 63n) | (1n << 62n) | (0x86n << 32n) | 0x10n);
    fake.pending.push({ kind: "vector", vector: 0x41, destination: 0, logical: false });
    await interrupts.poll();
    expect(driver.events.map((event) => event.text)).toEqual([
      "SM_FS_NOT_PRESENT source-id 0x398 PASID 0x5 write 0xfffe0000",
      "SM_READ source-id 0x10 read 0x1000",
    ]);
    expect(driver.events[0]).toMatchObject({ iommu: "vtd@fed90000", number: 0x71, streamId: 0x398, substreamId: 5, inputAddress: 0xfffe_0000n, read: false, translationRelated: true });
    expect(driver.events[1]).toMatchObject({ substreamId: null, read: true });
    expect(fake.get(0x34) & 3n).toBe(2n);
    fake.set(0x34, 1n);
    await driver.pollEvents();
    expect(driver.complaints()).toEqual(["vtd@fed90000 fault records lost"]);
  });
});

describe("messages through the interrupt remapping table", () => {
  it("have a handle, an entry for their requester, and an invalidation of it", async () => {
    const { fake, driver } = await ready(FIRST_STAGE);
    const taken = await driver.remapper!.takeMessage(0x398, 0x51);
    // Format 1, SHV, handle 0.
    expect(taken).toEqual({ handle: 0, message: { address: 0xfee0_0018n, data: 0 } });
    // P, V = 0x51; SVT 1, SID.
    expect(fake.words(driver.remapper!.base, 2)).toEqual(["510001", "40398"]);
    expect(descriptors(fake)).toEqual(["desc 14 0"]);
    const second = await driver.remapper!.takeMessage(0x10, 0x52);
    expect(second?.message.address).toBe(0xfee0_0038n);
    expect(descriptors(fake)).toEqual(["desc 100000014 0"]);
    await driver.remapper!.releaseMessage(0);
    expect(fake.words(driver.remapper!.base, 2)).toEqual(["0", "0"]);
    expect((await driver.remapper!.takeMessage(0x10, 0x53))?.handle).toBe(0);
  });
});
