import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { descriptor, type VtdDriver } from "../../../src/guest/index.js";
import type { CachedEntry, CachedEntryReport } from "../../../src/inspect/report/index.js";
import { cachesReport, type InspectionSource, SMMU_REGISTERS, vtdRegisters } from "../../../src/inspect/state/index.js";
import { RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import { OP } from "../../../src/smmuv3/spec/index.js";
import { IOVA } from "../../guest/landing.js";
import { cold, running, type Rig, SMMU_LINE, VTD_LINE } from "../machine/rigs.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

const SILENT = { page: async () => {}, walk: async () => {} };
const SID = 0x1100;

async function warm(which: "smmuv3" | "vtd", line?: string): Promise<Rig> {
  const rig = await running(which, line);
  end = rig.end;
  expect([await rig.lands(), await rig.lands({ ats: true })]).toEqual(["before", "before"]);
  return rig;
}

const brief = ({ cache, kind, functions, agrees, tables }: CachedEntryReport) => [cache, kind, functions, agrees, tables];
const entries = (rig: Rig) => cachesReport(rig.source).entries;
const stale = (rig: Rig) => entries(rig).filter(({ agrees }) => agrees === false);

describe("entries for a function of a guest behind an SMMU", () => {
  it("agree with the tables, serve it, and are dropped by the guest's commands", async () => {
    const rig = await warm("smmuv3");
    expect(entries(rig).map((entry) => [...brief(entry), entry.dropped])).toEqual([
      ["configuration", "STE", ["gpu0"], true, "", ["CMD_CFGI_STE StreamID 0x1100, leaf", "CMD_CFGI_ALL all StreamIDs"]],
      [
        "configuration",
        "CD",
        ["gpu0"],
        true,
        "",
        ["CMD_CFGI_CD StreamID 0x1100, SubstreamID 0x0, leaf", "CMD_CFGI_CD_ALL StreamID 0x1100", "CMD_CFGI_STE StreamID 0x1100, leaf", "CMD_CFGI_ALL all StreamIDs"],
      ],
      [
        "tlb",
        "stage 1 and 2",
        ["gpu0"],
        true,
        "",
        ["CMD_TLBI_NH_VA ASID 1, 0x12340000, leaf", "CMD_TLBI_NH_VAA 0x12340000, leaf", "CMD_TLBI_NH_ASID ASID 1", "CMD_TLBI_NH_ALL", "CMD_TLBI_NSNH_ALL"],
      ],
      ["device", "translation", ["gpu0"], true, "", ["CMD_ATC_INV StreamID 0x1100, 0x12340000, 1 page", "CMD_ATC_INV StreamID 0x1100, everything"]],
    ]);
    const [ste, cd] = entries(rig);
    expect(ste.fields.find(({ name }) => name === "Config")).toMatchObject({ value: "0x7", meaning: "stage 1 and stage 2" });
    expect(cd.fields.find(({ name }) => name === "ASID")!.value).toBe("0x1");
  });

  it("are stale where the guest unmaps and does not invalidate, until the commands that are told", async () => {
    const rig = await warm("smmuv3");
    const { commands } = rig.kernel.smmus[0];
    await rig.domain.table.unmap(IOVA, 0x1000, SILENT);
    expect(stale(rig).map(brief)).toEqual([
      ["tlb", "stage 1 and 2", ["gpu0"], false, "no valid descriptor leads to the address: F_TRANSLATION"],
      ["device", "translation", ["gpu0"], false, "a translation request is given nothing"],
    ]);
    await commands.issueAndSync(OP.TLBI_NH_VA, { ASID: rig.domain.id, ADDRESS: IOVA, LEAF: 1 });
    expect(stale(rig).map(({ cache }) => cache)).toEqual(["device"]);
    await commands.issueAndSync(OP.ATC_INV, { SID, ADDRESS: IOVA });
    expect(stale(rig)).toEqual([]);
  });

  it.each([
    ["TLBI_NH_VAA", OP.TLBI_NH_VAA, { ADDRESS: IOVA, LEAF: 1 }],
    ["TLBI_NH_ASID", OP.TLBI_NH_ASID, { ASID: 1 }],
    ["TLBI_NH_ALL", OP.TLBI_NH_ALL, {}],
    ["TLBI_NSNH_ALL", OP.TLBI_NSNH_ALL, {}],
  ] as const)("are told to go with %s, and go with it", async (name, opcode, fields) => {
    const rig = await warm("smmuv3");
    const isTlb = ({ cache }: CachedEntry): boolean => cache === "tlb";
    expect(entries(rig).find(isTlb)!.dropped.some((command) => command.startsWith(`CMD_${name}`))).toBe(true);
    await rig.kernel.smmus[0].commands.issueAndSync(opcode, fields);
    expect(entries(rig).some(isTlb)).toBe(false);
  });

  it("say what the tables have now: another page, other permissions, another context", async () => {
    const rig = await warm("smmuv3");
    await rig.remap();
    const after = `0x${rig.source.hostAddressOf(rig.after)!.toString(16)}`;
    expect(stale(rig).map(({ tables }) => tables)).toEqual([`the address leads to ${after}`, `the address leads to ${after}`]);
    await rig.domain.table.unmap(IOVA, 0x1000, SILENT);
    await rig.domain.table.map(IOVA, rig.before, 0x1000, { read: true, write: false });
    expect(stale(rig).map(({ cache, tables }) => [cache, tables])).toEqual([
      ["tlb", "the permissions are r-x"],
      ["device", "the permissions are r--"],
    ]);
    // Its ASID in the context descriptor, without CFGI_CD.
    const ste = await rig.kernel.memory.readWords(rig.kernel.smmus[0].steAddress(SID), 2);
    const table = (ste[0] & ~0x3f) >>> 0;
    const [first] = await rig.kernel.memory.readWords(table, 1);
    const cd = (first & ~0xfff) >>> 0;
    const word = await rig.kernel.port.read(cd, 8);
    await rig.kernel.port.write(cd, 8, (word & 0xffff_ffff_ffffn) | (9n << 48n));
    expect(entries(rig).map(({ kind, agrees, tables }) => [kind, agrees, tables])).toEqual([
      ["STE", true, ""],
      ["CD", false, "ASID is 0x9"],
      ["stage 1 and 2", false, "its translations are tagged VMID 1, ASID 9"],
      ["translation", false, "the permissions are r--"],
    ]);
  });

  it("are told by PASID", async () => {
    const rig = await warm("smmuv3");
    const other = await rig.kernel.createDomain(rig.device);
    await other.map(IOVA, rig.after, 0x1000, { read: true, write: true });
    await rig.device.master!.attachPasid(5, other);
    expect([await rig.lands({ pasid: 5 }), await rig.lands({ pasid: 5, ats: true })]).toEqual(["after", "after"]);
    const own = entries(rig).filter(({ pasid, tags }) => pasid === 5 || tags.ASID === other.id);
    expect(own.map((entry) => [...brief(entry), entry.dropped[0]])).toEqual([
      ["configuration", "CD", ["gpu0"], true, "", "CMD_CFGI_CD StreamID 0x1100, SubstreamID 0x5, leaf"],
      ["tlb", "stage 1 and 2", ["gpu0"], true, "", `CMD_TLBI_NH_VA ASID ${other.id}, 0x12340000, leaf`],
      ["device", "translation", ["gpu0"], true, "", "CMD_ATC_INV StreamID 0x1100, SubstreamID 0x5, 0x12340000, 1 page"],
    ]);
    await other.table.unmap(IOVA, 0x1000, SILENT);
    expect(stale(rig).map(({ cache, pasid, tags }) => [cache, pasid, tags.ASID ?? null])).toEqual([
      ["tlb", null, other.id],
      ["device", 5, null],
    ]);
  });

  it("are the host's where stage 1 bypasses: dropped by its commands", async () => {
    const rig = await warm("smmuv3");
    const at = rig.kernel.smmus[0].steAddress(SID);
    await rig.kernel.port.write(at, 8, 0x9n);
    await rig.kernel.smmus[0].commands.issueAndSync(OP.CFGI_STE, { SID, LEAF: 1 });
    const engine = rig.device.dma as unknown as { run: (request: object) => Promise<{ ok: boolean }> };
    expect(await engine.run({ operation: 2, source: 0n, destination: BigInt(rig.before), length: 16, pattern: 1 })).toMatchObject({ ok: true });
    const own = [...entries(rig)].sort((a, b) => (a.kind < b.kind ? -1 : 1));
    expect(own.map(({ kind, tags, functions, agrees }) => [kind, tags, functions, agrees])).toEqual([
      ["STE", { VMID: 1 }, ["gpu0"], true],
      // The guest has not invalidated its ASID: nobody's now.
      ["stage 1 and 2", { VMID: 1, ASID: 1 }, [], null],
      ["stage 2", { VMID: 1 }, ["gpu0"], true],
    ]);
    // The machine's memory is a block of 1 GiB there.
    expect(own[2].dropped).toEqual(["CMD_TLBI_S2_IPA VMID 1, 0x40000000, leaf", "CMD_TLBI_S12_VMALL VMID 1", "CMD_TLBI_NSNH_ALL"]);
  });

  it("of an emulated function are the model's", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const test = rig.kernel.devices.find(({ dma }) => dma !== null && dma.kind === "iommu-testdev")!;
    const domain = await rig.kernel.useOwnDomain(test);
    await domain.map(IOVA, rig.before, 0x1000, { read: true, write: true });
    await test.dma!.transfer({ source: IOVA, destination: IOVA, length: 4 } as never, rig.before);
    const own = () => cachesReport(rig.source, { function: "test0" }).entries;
    expect(own().map(({ iommu, side, kind, output, agrees }) => [iommu, side, kind, output, agrees])).toEqual([
      ["smmu0", "guest", "STE", null, true],
      ["smmu0", "guest", "CD", null, true],
      ["smmu0", "guest", "stage 1", `0x${rig.before.toString(16)}`, true],
    ]);
    await domain.table.unmap(IOVA, 0x1000, SILENT);
    const [entry] = own().filter(({ agrees }) => agrees === false);
    expect([entry.tables, entry.dropped[0]]).toEqual(["no valid descriptor leads to the address: F_TRANSLATION", `CMD_TLBI_NH_VA ASID ${domain.id}, 0x12340000, leaf`]);
  });

  it("stay where the hardware loses commands (erratum T264-SMMU-3), but for a kernel that knows of it", async () => {
    const rig = await warm("smmuv3");
    const hardware = rig.host.hardware.smmus.get("smmu3.0x0000000011600000")! as unknown as { losesFirst: object | null };
    const { LostCommands } = await import("../../../src/host/simulated/hardware/smmu/lost-commands.js");
    hardware.losesFirst = new LostCommands();
    await rig.domain.table.unmap(IOVA, 0x1000, SILENT);
    await rig.kernel.smmus[0].commands.issueAndSync(OP.TLBI_NH_VA, { ASID: rig.domain.id, ADDRESS: IOVA, LEAF: 1 });
    expect(stale(rig).map(({ cache }) => cache)).toEqual(["tlb", "device"]);
  });
});

describe("entries for a function of a guest behind a VT-d", () => {
  it("agree with the tables, serve it, and are dropped by the guest's descriptors", async () => {
    const rig = await warm("vtd");
    const domain = rig.domain.id;
    const first = [`p_iotlb_inv_dsc domain ${domain}, PASID 0, 0x12340000, leaf`, `p_iotlb_inv_dsc domain ${domain}, PASID 0`, `iotlb_inv_dsc domain ${domain}`, "iotlb_inv_dsc global"];
    expect(entries(rig).map((entry) => [...brief(entry), entry.dropped])).toEqual([
      ["configuration", "context entry", ["nic0"], true, "", [`cc_inv_dsc source id 0x100, domain ${domain}`, `cc_inv_dsc domain ${domain}`, "cc_inv_dsc global"]],
      ["configuration", "PASID entry", ["nic0"], true, "", [`pc_inv_dsc domain ${domain}, PASID 0`, `pc_inv_dsc domain ${domain}`, "pc_inv_dsc global"]],
      ["tlb", "first and second stage", ["nic0"], true, "", first],
      // The host's kernel invalidates the function's own cache with the IOTLB.
      ["device", "translation", ["nic0"], true, "", first],
    ]);
  });

  it("are stale where the guest unmaps and does not invalidate, until the descriptor that is told", async () => {
    const rig = await warm("vtd");
    await rig.domain.table.unmap(IOVA, 0x1000, SILENT);
    expect(stale(rig).map(brief)).toEqual([
      ["tlb", "first and second stage", ["nic0"], false, "a first-stage entry is not present"],
      ["device", "translation", ["nic0"], false, "a first-stage entry is not present"],
    ]);
    await (rig.device.iommu as VtdDriver).invalidate([descriptor("PASID_IOTLB", { G: 3, DID: rig.domain.id, PASID: 0, AM: 0, IH: 1, ADDR: IOVA })]);
    expect(stale(rig)).toEqual([]);
    expect(entries(rig).map(({ cache }) => cache)).toEqual(["configuration", "configuration"]);
  });

  it("are told by PASID", async () => {
    const rig = await warm("vtd");
    const other = await rig.kernel.createDomain(rig.device);
    await other.map(IOVA, rig.after, 0x1000, { read: true, write: true });
    await rig.device.master!.attachPasid(5, other);
    expect([await rig.lands({ pasid: 5 }), await rig.lands({ pasid: 5, ats: true })]).toEqual(["after", "after"]);
    const own = entries(rig).filter(({ pasid }) => pasid === 5);
    expect(own.map((entry) => [...brief(entry), entry.dropped[0]])).toEqual([
      ["configuration", "PASID entry", ["nic0"], true, "", `pc_inv_dsc domain ${other.id}, PASID 5`],
      ["tlb", "first and second stage", ["nic0"], true, "", `p_iotlb_inv_dsc domain ${other.id}, PASID 5, 0x12340000, leaf`],
      ["device", "translation", ["nic0"], true, "", `p_iotlb_inv_dsc domain ${other.id}, PASID 5, 0x12340000, leaf`],
    ]);
  });
});

describe("entries of second stages", () => {
  it("of a mirrored function serve it, and are dropped by the host's descriptors", async () => {
    const rig = await running("vtd", VTD_LINE.replace("scalable-mode=on,fsts=on,pasid-bits=16,", ""));
    end = rig.end;
    expect(await rig.lands()).toBe("before");
    const own = entries(rig);
    const domain = own.find(({ kind }) => kind === "PASID entry")!.tags.DID;
    expect(own.map(({ kind, functions, agrees }) => [kind, functions, agrees])).toEqual([
      ["context entry", ["nic0"], true],
      ["PASID entry", ["nic0"], true],
      [expect.stringMatching(/^(first|second) stage$/), ["nic0"], true],
    ]);
    expect(own[2].dropped.at(-2)).toBe(`iotlb_inv_dsc domain ${domain}`);
    // The guest's own tables are mirrored: without an invalidation the mirror is as it was, and so are the host's tables.
    await rig.domain.table.unmap(IOVA, 0x1000, SILENT);
    expect(stale(rig)).toEqual([]);
  });
});

describe("asking for entries", () => {
  it("is by IOMMU and by function, and refused of those that are not there", async () => {
    const rig = await warm("smmuv3");
    const of = (question: Parameters<typeof cachesReport>[1]) => cachesReport(rig.source, question).entries.length;
    expect([of({}), of({ function: "gpu0" }), of({ function: "test0" }), of({ iommu: "smmu3.0x0000000011600000" }), of({ iommu: "smmu1" })]).toEqual([4, 4, 0, 4, 0]);
    expect(() => of({ function: "<img src=x>" })).toThrow("there is no function '<img src=x>'; there are: pcie.1, rp1, gpu0, test0");
    expect(() => of({ iommu: "dmar0" })).toThrow("there is no IOMMU 'dmar0'; there are: smmu1, smmu0, smmu3.0x0000000005600000");
  });

  it("counts nothing, and leaves the caches as they are", async () => {
    const rig = await warm("smmuv3");
    const state = (): string =>
      JSON.stringify([
        rig.source.cached(),
        [...rig.observer.calls],
        [...rig.host.hardware.smmus.values()].map(({ counters }) => ({ ...counters, commands: [...counters.commands] })),
        [...rig.host.hardware.functions.values()].map(({ counters }) => counters),
      ]);
    const before = state();
    cachesReport(rig.source);
    expect(state()).toBe(before);
  });

  it("tells 512 entries, and counts the others", async () => {
    const made = cold("smmuv3", SMMU_LINE);
    end = made.end;
    const entry: CachedEntry = { iommu: "smmu1", side: "guest", cache: "tlb", kind: "stage 1", streamId: null, hostFunction: null, pasid: null, tags: { ASID: 3 }, iova: "0x1000", pageBits: 12, output: "0x2000", permissions: "rw-", global: false, words: [] };
    const report = cachesReport({ ...made.source, cached: () => Array.from({ length: 600 }, () => entry) });
    expect([report.entries.length, report.more, report.unknown]).toEqual([512, 88, []]);
    expect(report.entries[0]).toMatchObject({ functions: [], agrees: null, tables: "no entry, cached or in the tables, has these tags" });
    const { inspector, ...blind } = { inspector: null, ...made.source };
    void inspector;
    const linux = cachesReport({ ...blind, units: () => made.source.units().filter(({ side }) => side === "guest"), cached: () => [] });
    expect(linux.unknown).toEqual(["caches of the host's IOMMUs, and of its functions: simulated: grace does not show them"]);
  });
});

describe("registers, tables and entries with rubbish", () => {
  it("are told with bounded work", () => {
    const made = cold("smmuv3");
    const map = made.source.map();
    made.end();
    const ram = new RamBlock("ram", 1 << 16, 0);
    const memory = new RamWordMemory();
    memory.place(0, ram);
    const words = ram.wordWindow(0);
    const hex = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => `0x${value.toString(16)}`);
    const entry = fc.record({
      cache: fc.constantFrom("configuration" as const, "tlb" as const, "device" as const),
      kind: fc.constantFrom("STE", "CD", "context entry", "PASID entry", "stage 1 and 2", "stage 2", "first stage", "translation"),
      streamId: fc.option(fc.integer({ min: 0, max: 0xffff })),
      pasid: fc.option(fc.integer({ min: 0, max: 0xf_ffff })),
      tags: fc.constantFrom<Record<string, number>>({}, { VMID: 0, ASID: 1 }, { DID: 2 }),
      iova: hex,
      pageBits: fc.integer({ min: 12, max: 30 }),
      output: hex,
      permissions: fc.constantFrom("rw-", "r--", "rwx, privileged rw-"),
      global: fc.boolean(),
      words: fc.array(hex, { maxLength: 8 }),
    });
    fc.assert(
      fc.property(fc.constantFrom("smmuv3" as const, "vtd" as const), fc.infiniteStream(fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 0xffffn }))), fc.array(entry, { maxLength: 4 }), fc.integer(), (architecture, values, held, seed) => {
        for (let at = 0, value = seed; at < words.length; at++) {
          words[at] = value = Math.imul(value, 1664525) + 1013904223;
        }
        const names = architecture === "smmuv3" ? SMMU_REGISTERS.map(({ name }) => name) : ["CAP", "ECAP", ...vtdRegisters(0n, 0n).map(({ name }) => name)];
        const unit = { id: "smmu1", side: "guest" as const, architecture, registers: new Map(names.map((name) => [name, values.next().value])), memory, batch: null };
        const cached = held.map((one): CachedEntry => ({ ...one, iommu: "smmu1", side: "guest", hostFunction: null, iova: one.cache === "configuration" ? null : one.iova }));
        const source: InspectionSource = { map: () => map, units: () => [unit], hostPlace: () => null, cached: () => cached, hostAddressOf: () => null };
        expect(cachesReport(source).entries).toHaveLength(cached.length);
      }),
      { numRuns: 200 },
    );
  });
});
