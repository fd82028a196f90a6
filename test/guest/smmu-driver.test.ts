import { describe, expect, it } from "vitest";
import { DomainIds, GuestMemory, InterruptController, SmmuDriver, type AtsControl, type Domain, type SyncMode } from "../../src/guest/index.js";
import { FakeMachine, RAM_BASE, RAM_BYTES, SMMU_BASE, SMMU_INTERRUPTS } from "./fake-machine.js";

/** ID registers of QEMU 11.1's SMMUv3, stage 1; the other ones add what a test needs. */
const QEMU = { idr0: 0x0d44_101a, idr1: 0x0273_0010, idr3: 0x1404, idr5: 0x74 };

interface Setup {
  readonly fake: FakeMachine;
  readonly driver: SmmuDriver;
  readonly interrupts: InterruptController;
}

function setUp(idr = QEMU, sync?: SyncMode): Setup {
  const fake = new FakeMachine(idr);
  const interrupts = new InterruptController(fake);
  const memory = new GuestMemory(fake, [{ base: RAM_BASE, size: RAM_BYTES }], []);
  const description = { name: "smmuv3@9050000", base: SMMU_BASE, coherent: true, interrupts: SMMU_INTERRUPTS };
  return { fake, interrupts, driver: new SmmuDriver(fake, memory, interrupts, description, { ids: new DomainIds("ASIDs"), sync }) };
}

async function ready(idr = QEMU, sync?: SyncMode): Promise<Setup> {
  const setup = setUp(idr, sync);
  await setup.driver.probe();
  setup.fake.trace.length = 0;
  setup.fake.commands.length = 0;
  return setup;
}

/** The consumed commands since the last look, CMD_SYNC as `sync`. */
function taken(fake: FakeMachine): string[] {
  return fake.commands.splice(0).map(([low, high]) => (low === 0xfc02046n && high === 0n ? "sync" : `${low.toString(16)} ${high.toString(16)}`));
}

/** CMD_SYNC with CS = SIG_SEV, MSH = ISH, MSIATTR = 0xf: what Linux's trace shows. */
const SYNC = "command fc02046 0";

describe("enabling an SMMU in Linux's order", () => {
  it("writes the registers of arm_smmu_device_reset, one after the other", async () => {
    const { fake, driver } = setUp();
    await driver.probe();
    const [strtab, cmdq, evtq] = ["STRTAB_BASE", "CMDQ_BASE", "EVENTQ_BASE"].map((name) => fake.trace.find((line) => line.startsWith(`${name} `)));
    expect(strtab).toMatch(/^STRTAB_BASE 40{7}4[0-9a-f]{7}$/);
    expect(cmdq).toMatch(/^CMDQ_BASE 4[0-9a-f]{13}10$/);
    expect(evtq).toMatch(/^EVENTQ_BASE 4[0-9a-f]{13}0f$/);
    expect(fake.trace).toEqual([
      "CR0 0",
      "CR1 d75",
      "CR2 6",
      strtab,
      "STRTAB_BASE_CFG 10210",
      cmdq,
      "CMDQ_PROD 0",
      "CMDQ_CONS 0",
      "CR0 8",
      "CMDQ_PROD 2",
      "command 4 1f",
      SYNC,
      "CMDQ_PROD 4",
      "command 30 0",
      SYNC,
      evtq,
      "EVENTQ_PROD 0",
      "EVENTQ_CONS 0",
      "CR0 c",
      "IRQ_CTRL 0",
      "GERROR_IRQ_CFG0 0",
      "EVENTQ_IRQ_CFG0 0",
      "IRQ_CTRL 5",
      "CR0 d",
    ]);
    expect(driver.tookOver).toBe(false);
  });

  it("aborts by GBPA before it disables an SMMU that is on", async () => {
    const { fake, driver } = setUp();
    fake.registers.set(0x20, 0xd);
    fake.registers.set(0x44, 0x1000);
    await driver.probe();
    expect(fake.trace.slice(0, 3)).toEqual(["GBPA 80101000", "CR0 0", "CR1 d75"]);
    expect(driver.tookOver).toBe(true);
  });

  it("adds the PRI queue, ATSCHK and EL2 where the ID registers have them", async () => {
    const { fake, driver } = setUp({ ...QEMU, idr0: QEMU.idr0 | (1 << 16) | (1 << 10) | (1 << 9) });
    await driver.probe();
    expect(fake.trace.filter((line) => line.startsWith("CR0 ") || line.startsWith("IRQ_CTRL"))).toEqual([
      "CR0 0", "CR0 8", "CR0 c", "CR0 e", "CR0 1e", "IRQ_CTRL 0", "IRQ_CTRL 7", "CR0 1f",
    ]);
    expect(taken(fake)).toEqual(["4 1f", "sync", "20 0", "sync", "30 0", "sync"]);
  });

  it("uses a linear stream table where SIDSIZE fits one leaf, its entries valid and aborting", async () => {
    const { fake, driver } = setUp({ ...QEMU, idr1: 0x0273_0008 });
    await driver.probe();
    expect(fake.trace).toContain("STRTAB_BASE_CFG 8");
    expect(fake.ram64(driver.steAddress(0xff))).toBe(1n);
  });

  it.each([
    ["no translation", { ...QEMU, idr0: QEMU.idr0 & ~3 }],
    ["tables of the other endianness only", { ...QEMU, idr0: (QEMU.idr0 & ~(3 << 21)) | (3 << 21) }],
    ["AArch32 tables only", { ...QEMU, idr0: (QEMU.idr0 & ~0xc) | (1 << 2) }],
    ["preset queues", { ...QEMU, idr1: QEMU.idr1 | (1 << 29) }],
    ["a command queue that is too small for a batch", { ...QEMU, idr1: (QEMU.idr1 & ~(31 << 21)) | (6 << 21) }],
  ])("refuses an SMMU with %s", async (_what, idr) => {
    await expect(setUp(idr).driver.probe()).rejects.toThrow("smmuv3@9050000");
  });

  it("gives the streams of an RMR bypass entries before the SMMU is on", async () => {
    const { fake, driver } = setUp();
    await driver.probe([{ base: 0x800_0000, size: 0x10_0000, identity: true, device: true, iommu: 0, streams: [0x1000, 0x10ff] }]);
    // V, Config = 0b100.
    expect(fake.ram64(driver.steAddress(0x1080))).toBe(0x9n);
  });
});

describe("attaching a stream", () => {
  it("writes CD, then STE in hitless steps, each with CFGI and CMD_SYNC, then prefetches", async () => {
    const { fake, driver } = await ready();
    const master = await driver.addMaster("01:00.0", [0x100]);
    const domain = await driver.createDomain();
    await master.attach(domain);
    // Abort to context table: the words that abort ignores first, then word 0.
    expect(taken(fake)).toEqual([
      "10000000005 1", "sync", "10000000005 1", "sync",
      "10000000003 1", "sync", "10000000003 1", "sync",
      "10000000001 0",
    ]);
    const ste = driver.steAddress(0x100);
    expect(fake.ram64(ste) & 0xfn).toBe(0xbn);
    // S1DSS = SSID0, S1CIR and S1COR write-back, S1CSH inner; stalls are not supported, so S1STALLD is 0.
    expect(fake.ram64(ste + 8)).toBe(0xd6n);
    const cd = Number(fake.ram64(ste) & 0xff_ffff_ffff_ffc0n);
    // T0SZ 16, TG0 4K, IR0/OR0 write-back, SH0 inner, EPD1, V; IPS 44 bits, AA64, R, A, ASET, ASID 1.
    expect(fake.ram64(cd)).toBe(0x0001_e204_c000_3510n);
    expect(fake.ram64(cd + 24)).toBe(0xf404_ff44n);
  });

  it("goes to bypass and back to abort", async () => {
    const { fake, driver } = await ready();
    const master = await driver.addMaster("01:00.0", [0x100]);
    await master.attachIdentity();
    expect(taken(fake)).toEqual(["10000000003 1", "sync", "10000000001 0"]);
    expect(fake.ram64(driver.steAddress(0x100))).toBe(9n);
    await master.release();
    expect(fake.ram64(driver.steAddress(0x100))).toBe(1n);
    expect(driver.masterOf(0x100)).toBeNull();
  });

  it("bypasses at the end where firmware demands identity windows", async () => {
    const { fake, driver } = await ready();
    const master = await driver.addMaster("01:00.0", [0x100], { requireDirect: true });
    await master.attach(await driver.createDomain());
    await master.release();
    expect(fake.ram64(driver.steAddress(0x100))).toBe(9n);
  });

  it("refuses a StreamID that another function has", async () => {
    const { driver } = await ready();
    await driver.addMaster("01:00.0", [0x100]);
    await expect(driver.addMaster("02:00.0", [0x200, 0x100])).rejects.toThrow("StreamID 0x100 of 02:00.0 is 01:00.0's already");
  });

  it("gives each substream a CD of a two-level table, first telling of the new Level 1 descriptor", async () => {
    const { fake, driver } = await ready({ ...QEMU, idr0: QEMU.idr0 | (1 << 19), idr1: QEMU.idr1 | (16 << 6) });
    const master = await driver.addMaster("01:00.0", [0x100], { pasidBits: 20 });
    expect(master.pasidBits).toBe(16);
    await master.attach(await driver.createDomain());
    fake.commands.length = 0;
    await master.attachPasid(0xffff, await driver.createDomain());
    // CFGI_CD of SubstreamID 0xffff: not leaf for the Level 1 descriptor, leaf for the CD (two steps).
    expect(taken(fake)).toEqual(["1000ffff005 0", "sync", "1000ffff005 1", "sync", "1000ffff005 1", "sync"]);
    const word = fake.ram64(driver.steAddress(0x100));
    // S1CDMax 16, S1Fmt 64 KiB leaves.
    expect([word >> 59n, (word >> 4n) & 3n]).toEqual([16n, 2n]);
    await expect(master.attachPasid(0x1_0000, await driver.createDomain())).rejects.toThrow("not within the 16 bits");
  });

  it("turns ATS on after the STE allows it, and off before it ends", async () => {
    const { fake, driver } = await ready({ ...QEMU, idr0: QEMU.idr0 | (1 << 10) });
    const ats: AtsControl = {
      enable: async (stu) => void fake.trace.push(`ATS on ${stu}`),
      disable: async () => void fake.trace.push("ATS off"),
    };
    const master = await driver.addMaster("01:00.0", [0x100], { ats });
    await master.attach(await driver.createDomain());
    const steps = (): string[] => fake.trace.splice(0).filter((line) => line.startsWith("command") || line.startsWith("ATS"));
    expect(steps().slice(-4)).toEqual(["command 10000000001 0", "command 10000000040 34", SYNC, "ATS on 12"]);
    // EATS = 1.
    expect((fake.ram64(driver.steAddress(0x100) + 8) >> 28n) & 3n).toBe(1n);
    await master.attachIdentity();
    const off = steps();
    expect(off[0]).toBe("ATS off");
    expect(off).toContain("command 10000000040 34");
  });
});

describe("invalidations", () => {
  async function unmapping(idr: typeof QEMU, iova: bigint, size: number): Promise<{ fake: FakeMachine; domain: Domain }> {
    const { fake, driver } = await ready(idr);
    const master = await driver.addMaster("01:00.0", [0x100]);
    const domain = await driver.createDomain();
    await master.attach(domain);
    await domain.map(iova, RAM_BASE, size, { read: true, write: true });
    fake.commands.length = 0;
    await domain.unmap(iova, size);
    return { fake, domain };
  }

  it("are one command a page without range invalidation", async () => {
    const { fake } = await unmapping({ ...QEMU, idr3: 0 }, 0x1_0000n, 0x3000);
    expect(taken(fake)).toEqual(["1000000000012 10001", "1000000000012 11001", "1000000000012 12001", "sync"]);
  });

  it("are published in batches of 64", async () => {
    const { fake } = await unmapping({ ...QEMU, idr3: 0 }, 0x1_0000n, 130 * 0x1000);
    // Enabling and attaching took 13 slots.
    expect(fake.trace.filter((line) => line.startsWith("CMDQ_PROD")).slice(-3).map((line) => parseInt(line.split(" ")[1], 16))).toEqual([13 + 64, 13 + 128, 13 + 131]);
    expect(taken(fake)).toHaveLength(131);
  });

  it("are ranges with NUM, SCALE, TTL and TG where IDR3.RIL is set", async () => {
    const { fake } = await unmapping(QEMU, 0x1_0000n, 35 * 0x1000);
    // 35 pages: 3 * 2^0, then 1 * 2^5. NUM is one less, in [16:12]; SCALE in [24:20]; TTL 3 in [9:8], TG 4K = 1 in [11:10].
    expect(taken(fake)).toEqual(["1000000002012 10701", "1000000500012 13701", "sync"]);
  });

  it("name level 2 for a 2 MiB block", async () => {
    const { fake } = await unmapping(QEMU, 0x4000_0000n, 0x20_0000);
    expect(taken(fake)).toEqual(["1000000900012 40000601", "sync"]);
  });

  it("flush a whole table that goes, walk caches included, before what was gathered", async () => {
    const { fake, driver } = await ready();
    const master = await driver.addMaster("01:00.0", [0x100]);
    const domain = await driver.createDomain();
    await master.attach(domain);
    for (let page = 0; page < 512; page++) {
      await domain.map(0x20_0000n + BigInt(page) * 0x1000n, RAM_BASE + (511 - page) * 0x1000, 0x1000, { read: true });
    }
    fake.commands.length = 0;
    await domain.unmap(0x20_0000n, 0x20_0000);
    // 512 pages = 1 * 2^9, not leaf and without TTL.
    expect(taken(fake)).toEqual(["1000000900012 200400", "sync"]);
  });

  it("are the ASID's when the last stream leaves a domain, whose ASID is free when it is destroyed", async () => {
    const { fake, driver } = await ready();
    const domain = await driver.createDomain();
    const masters = [await driver.addMaster("01:00.0", [0x100]), await driver.addMaster("02:00.0", [0x200])];
    for (const master of masters) {
      await master.attach(domain);
    }
    const flush = ["1000000000011 0", "sync"];
    fake.commands.length = 0;
    await masters[0].attachIdentity();
    expect(taken(fake).join()).not.toContain(flush.join());
    await expect(domain.destroy()).rejects.toThrow("02:00.0 is attached to");
    await masters[1].attachIdentity();
    expect(taken(fake).join()).toContain(flush.join());
    await domain.destroy();
    expect(taken(fake)).toEqual([]);
    expect((await driver.createDomain()).id).toBe(1);
  });

  it("are for the VMID where the SMMU has stage 2 only", async () => {
    const { fake, driver } = await ready({ ...QEMU, idr0: 0x0d44_1019, idr3: 0x1414 });
    const master = await driver.addMaster("01:00.0", [0x100]);
    const domain = await driver.createDomain();
    await master.attach(domain);
    const ste = driver.steAddress(0x100);
    expect(fake.ram64(ste)).toBe(0xdn);
    // S2VMID 1, S2T0SZ 20 (44 bits), S2SL0 2, IR0/OR0 1, SH0 3, TG 4K, S2PS 4, AA64, PTW, R.
    expect(fake.ram64(ste + 16)).toBe(0x044c_3594_0000_0001n);
    await domain.map(0x1000n, RAM_BASE, 0x1000, { read: true });
    fake.commands.length = 0;
    await domain.unmap(0x1000n, 0x1000);
    expect(taken(fake)).toEqual(["10000002a 1701", "sync"]);
    await master.attachBlocked();
    expect(taken(fake).slice(-2)).toEqual(["100000028 0", "sync"]);
  });

  it("go to the ATC with the smallest aligned power of two that covers the range", async () => {
    const { fake, driver } = await ready({ ...QEMU, idr0: QEMU.idr0 | (1 << 10) });
    const master = await driver.addMaster("01:00.0", [0x100], { ats: { enable: async () => {}, disable: async () => {} } });
    const domain = await driver.createDomain();
    await master.attach(domain);
    await domain.map(0x7000n, RAM_BASE, 0x4000, { read: true });
    fake.commands.length = 0;
    await domain.unmap(0x7000n, 0x4000);
    // Pages 7 to 10 need 0 to 15: 2^4 pages at 0.
    expect(taken(fake).slice(2)).toEqual(["10000000040 4", "sync"]);
  });
});

describe("the queues in trouble", () => {
  it("turns an illegal command into a CMD_SYNC and goes on after the acknowledgement", async () => {
    const { fake, driver } = await ready();
    fake.illegal.add(0x11);
    await driver.commands.issueAndSync(0x11, { ASID: 7 });
    expect(taken(fake)).toEqual(["sync", "sync"]);
    expect(driver.commands.errors).toEqual([{ cons: (1 << 24) | 4, error: 1, command: "CMD_TLBI_NH_ASID" }]);
    expect(driver.globalErrors).toEqual([1]);
    expect(fake.get(0x64)).toBe(fake.get(0x60));
  });

  it("says where both indices are when a CMD_SYNC does not end", async () => {
    const { fake, driver } = await ready();
    fake.registers.set(0x24, 0);
    await expect(driver.commands.issueAndSync(0x30)).rejects.toThrow("CMD_SYNC timeout at 0x5 [hwprod 0x6, hwcons 0x4]");
  });

  it("wraps round its end", async () => {
    const { fake, driver } = await ready({ ...QEMU, idr1: (QEMU.idr1 & ~(31 << 21)) | (7 << 21) });
    for (let i = 0; i < 200; i++) {
      await driver.commands.issueAndSync(0x11, { ASID: i });
    }
    expect(taken(fake).filter((line) => line !== "sync")).toHaveLength(200);
  });

  it("polls the word that the SMMU clears where messages are offered", async () => {
    const { fake, driver } = setUp({ ...QEMU, idr0: QEMU.idr0 | (1 << 13) });
    const wrote = fake.write.bind(fake);
    fake.write = async (address, size, value) => {
      await wrote(address, size, value);
      const last = fake.commands.at(-1);
      if (address - SMMU_BASE === 0x98 && last !== undefined && (last[0] & 0xffn) === 0x46n) {
        await fake.writeMemory(Number(last[1]), new Uint8Array(4));
      }
    };
    await driver.probe();
    // CS = SIG_IRQ and the command's own address.
    expect(fake.commands[1][0]).toBe(0xfc01046n);
    expect(fake.commands[1][1]).toBeGreaterThan(BigInt(RAM_BASE));
  });

  it("reads events until the queue is empty and acknowledges an overflow", async () => {
    const { fake, driver, interrupts } = await ready();
    fake.event([0x0000_0100_0000_0010n, 0x0000_0208_0000_0000n, 0xdead_b000n, 0n]);
    fake.event([0x0000_0200_0000_7809n, 0n, 0n, 0x4000_1000n]);
    fake.registers.set(0x100a8, (fake.get(0x100a8) | 0x8000_0000) >>> 0);
    await interrupts.poll();
    expect(driver.events).toMatchObject([
      { name: "F_TRANSLATION", streamId: 0x100, substreamId: null, inputAddress: 0xdead_b000n, read: true, faultClass: 2, stage2: false },
      { name: "F_CD_FETCH", streamId: 0x200, substreamId: 7, fetchAddress: 0x4000_1000n },
    ]);
    expect(driver.eventOverflows).toBe(1);
    expect(fake.get(0x100ac)).toBe(0x8000_0002);
  });
});
