import { afterEach, describe, expect, it } from "vitest";
import { IOVA } from "../../guest/landing.js";
import { running } from "./rigs.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

describe("a running machine's units", () => {
  it("are the machine's with their registers, and the host's", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const units = rig.source.units();
    expect(units.map(({ id, side, architecture }) => [id, side, architecture]).slice(0, 3)).toEqual([
      ["smmu1", "guest", "smmuv3"],
      ["smmu0", "guest", "smmuv3"],
      ["smmu3.0x0000000005600000", "host", "smmuv3"],
    ]);
    const [guest] = units;
    expect(guest.registers.get("CR0")).toBe(0x1dn);
    // 64 bits, with the hint RA.
    expect(guest.registers.get("STRTAB_BASE")! >> 62n).toBe(1n);
    expect(guest.registers.get("CMDQ_PROD")).toBe(guest.registers.get("CMDQ_CONS"));
    // CFGI_CD after the context descriptor of the function's domain was written.
    expect(guest.batch).toMatchObject({ entries: 1, handled: 1, error: null });
    const host = units.find(({ id }) => id === "smmu3.0x0000000011600000")!;
    expect([host.side, host.registers.get("CR0"), host.batch]).toEqual(["host", 0x1dn, null]);
    expect(rig.source.hostPlace("0008:01:00.0")).toEqual({ unit: "smmu3.0x0000000011600000", streamId: 0x100 });
    expect(rig.source.hostPlace("0008:09:00.0")).toBeNull();
  });

  it("have RTADDR as SRTP took it, and what was written since beside it", async () => {
    const rig = await running("vtd");
    end = rig.end;
    const taken = rig.source.units()[0].registers.get("RTADDR")!;
    expect([taken & 0xc00n, rig.source.units()[0].registers.has("RTADDR_WRITTEN")]).toEqual([0x400n, false]);
    await rig.kernel.port.write(0xfed9_0020, 8, 0x1234_5000n);
    const { registers } = rig.source.units()[0];
    expect([registers.get("RTADDR"), registers.get("RTADDR_WRITTEN"), registers.get("GSTS")]).toEqual([taken, 0x1234_5000n, 0xc700_0000n]);
  });

  it("have memory that is read and not written", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const [{ memory }] = rig.source.units();
    await rig.kernel.port.write(rig.before, 8, 0x1122_3344_5566_7788n);
    expect(memory.load64(0, rig.before)).toBe(0);
    expect([memory.loadedHigh, memory.loadedLow]).toEqual([0x1122_3344, 0x5566_7788]);
    expect([memory.store64(0, rig.before, 1, 1), memory.compareExchange64(0, rig.before, 0x1122_3344, 0x5566_7788, 1, 1)]).toEqual([-1, -1]);
    expect(await rig.kernel.port.read(rig.before, 8)).toBe(0x1122_3344_5566_7788n);
    // Registers of the SMMU are no memory.
    expect(memory.load64(0, 0x0b00_0000)).toBe(-1);
    expect(rig.source.hostAddressOf(0x0b00_0000)).toBeNull();
    const host = rig.source.units().find(({ side }) => side === "host")!;
    const hpa = rig.source.hostAddressOf(rig.before)!;
    expect(host.memory.load64(Math.floor(hpa / 2 ** 32), hpa | 0)).toBe(0);
    expect([host.memory.loadedHigh, host.memory.loadedLow]).toEqual([0x1122_3344, 0x5566_7788]);
  });
});

describe("what caches hold", () => {
  it("is told of an SMMU: STE, CD, translation, and the function's own", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    expect(rig.source.cached()).toEqual([]);
    expect([await rig.lands(), await rig.lands({ ats: true })]).toEqual(["before", "before"]);
    const output = `0x${rig.source.hostAddressOf(rig.before)!.toString(16)}`;
    const iova = `0x${IOVA.toString(16)}`;
    const entry = { iommu: "smmu3.0x0000000011600000", side: "host", hostFunction: null, streamId: null, pasid: null, tags: {}, iova: null, pageBits: null, output: null, permissions: null, global: false, words: [] };
    const cached = rig.source.cached();
    expect(cached.map(({ words, ...rest }) => ({ ...rest, words: words.length }))).toEqual([
      { ...entry, cache: "configuration", kind: "STE", streamId: 0x100, tags: { VMID: 1 }, words: 8 },
      { ...entry, cache: "configuration", kind: "CD", streamId: 0x100, pasid: 0, tags: { ASID: 1 }, words: 8 },
      { ...entry, cache: "tlb", kind: "stage 1 and 2", tags: { VMID: 1, ASID: 1 }, iova, pageBits: 12, output, permissions: "rwx, privileged rw-", words: 0 },
      { ...entry, cache: "device", kind: "translation", hostFunction: "0008:01:00.0", streamId: 0x100, iova, pageBits: 12, output, permissions: "rw-", words: 0 },
    ]);
    // V, nested, and where the guest's context descriptors are; what the SMMU does not go by is left out.
    const [ste] = cached;
    expect(BigInt(ste.words[0]) & 0xfn).toBe(0xfn);
  });

  it("is told of a VT-d: context and PASID entries, translation, and the function's own", async () => {
    const rig = await running("vtd");
    end = rig.end;
    expect([await rig.lands(), await rig.lands({ ats: true })]).toEqual(["before", "before"]);
    expect(rig.source.cached().map(({ cache, kind, streamId, pasid, tags, iova }) => [cache, kind, streamId, pasid, tags, iova])).toEqual([
      ["configuration", "context entry", 0x9700, null, {}, null],
      ["configuration", "PASID entry", 0x9700, 0, { DID: 2 }, null],
      ["tlb", "first and second stage", null, 0, { DID: 2 }, "0x12340000"],
      ["device", "translation", 0x9700, null, {}, "0x12340000"],
    ]);
  });

  it("is what it was before asking", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    await rig.lands({ ats: true });
    const before = JSON.stringify(rig.source.cached());
    rig.source.map();
    rig.source.units();
    expect(JSON.stringify(rig.source.cached())).toBe(before);
    await rig.remap();
    expect(await rig.lands({ ats: true })).toBe("before");
  });
});
