import { afterEach, describe, expect, it } from "vitest";
import { freshTranslation } from "../../../src/inspect/state/index.js";
import { IOVA } from "../../guest/landing.js";
import { type Rig, running } from "../machine/rigs.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

const told = (rig: Rig) =>
  rig.source.cached().map((entry) => {
    const { agrees, tables } = freshTranslation(rig.source, entry);
    return { what: `${entry.side} ${entry.cache} ${entry.kind}`, iova: entry.iova, agrees, tables };
  });
const stale = (rig: Rig) => told(rig).filter(({ agrees }) => agrees !== true);

describe("cached entries beside the tables", () => {
  for (const which of ["smmuv3", "vtd"] as const) {
    it(`agree after DMA, and no more after a change without a command (${which})`, async () => {
      const rig = await running(which);
      end = rig.end;
      expect(await rig.lands()).toBe("before");
      expect(told(rig).map(({ what }) => what)).toEqual(expect.arrayContaining(which === "smmuv3" ? ["host configuration STE", "host configuration CD", "host tlb stage 1 and 2"] : ["host configuration context entry", "host configuration PASID entry", "host tlb first and second stage"]));
      expect(stale(rig)).toEqual([]);
      await rig.remap();
      const after = rig.source.hostAddressOf(rig.after)!;
      const iova = `0x${IOVA.toString(16)}`;
      expect(stale(rig)).toEqual([{ what: which === "smmuv3" ? "host tlb stage 1 and 2" : "host tlb first and second stage", iova, agrees: false, tables: `${iova} leads to 0x${after.toString(16)}` }]);
      // It is what the device then does.
      expect(await rig.lands()).toBe("before");
    });

    it(`agree no more where the page is gone (${which})`, async () => {
      const rig = await running(which);
      end = rig.end;
      expect(await rig.lands()).toBe("before");
      await rig.domain.table.unmap(IOVA, 0x1000, { page: async () => {}, walk: async () => {} });
      expect(stale(rig).map(({ agrees, tables }) => [agrees, tables])).toEqual([[false, `0x${IOVA.toString(16)} is not mapped: stage 1, level 3`]]);
    });
  }

  it("of a function's own cache, too", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    expect(await rig.lands({ ats: true })).toBe("before");
    expect(told(rig).map(({ what }) => what)).toContain("host device translation");
    expect(stale(rig)).toEqual([]);
    await rig.remap();
    expect(stale(rig).map(({ what }) => what)).toEqual(expect.arrayContaining(["host device translation"]));
  });

  it("are of a configuration that is another in memory", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    expect(await rig.lands()).toBe("before");
    const cd = rig.source.cached().find(({ kind }) => kind === "CD")!;
    const words = [...cd.words];
    words[0] = `0x${(BigInt(words[0]) ^ (1n << 48n)).toString(16)}`;
    expect(freshTranslation(rig.source, { ...cd, words })).toMatchObject({ agrees: false });
    expect(freshTranslation(rig.source, { ...cd, pasid: 40000 })).toMatchObject({ agrees: false, tables: expect.stringMatching(/CD/) as string });
    expect(freshTranslation(rig.source, { ...cd, iommu: "none" })).toEqual({ agrees: null, tables: "" });
  });
});
