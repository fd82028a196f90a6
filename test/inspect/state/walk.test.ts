import { afterEach, describe, expect, it } from "vitest";
import { TAKEN_OF_STE, walkReport } from "../../../src/inspect/state/index.js";
import type { WalkQuestion, WalkReport } from "../../../src/inspect/report/index.js";
import { forwardedFields } from "../../../src/smmuv3/accel/entry.js";
import { type DmaEngine, ENGINE_FILL } from "../../../src/guest/index.js";
import { highWord, lowWord } from "../../../src/support/index.js";
import { Random } from "../../fuzz/random.js";
import { IOVA } from "../../guest/landing.js";
import { running } from "../machine/rigs.js";

const question = (of: Partial<WalkQuestion> & { readonly function: string }): WalkQuestion => ({ pasid: null, iova: `0x${IOVA.toString(16)}`, access: "read", privileged: false, kind: "untranslated", ...of });
const places = ({ fetches }: WalkReport): string[] => fetches.map(({ name, row, column }) => `${row}.${column} ${name}`);
/** A row's fetches of stage 2, and its own. */
const behind = (row: number, columns: readonly string[], own: string | null): string[] => [...columns.map((name, column) => `${row}.${column} ${name}`), ...(own === null ? [] : [`${row}.${columns.length} ${own}`])];

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

describe("a walk of a machine's function", () => {
  it("behind an SMMUv3: by the host's, through both stages, with the guest's STE beside the kernel's", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const report = walkReport(rig.source, question({ function: "gpu0" }));
    // Two-level stream table; two-level CD table and stage 1 of four levels behind a stage 2 of a level-0 table and a 1-GiB block.
    const stage2 = ["stage 2 level 0", "stage 2 level 1"];
    expect(places(report)).toEqual([
      "0.2 L1 stream table descriptor",
      "1.2 STE",
      ...behind(2, stage2, "L1 CD descriptor"),
      ...behind(3, stage2, "CD"),
      ...[0, 1, 2, 3].flatMap((level) => behind(4 + level, stage2, `stage 1 level ${level}`)),
      ...behind(8, stage2, null),
    ]);
    expect([report.iommu, report.side, report.streamId, report.cut, report.unknown]).toEqual(["smmu3.0x0000000011600000", "host", 0x100, false, []]);
    const output = rig.source.hostAddressOf(rig.before)!;
    expect(report.end).toEqual({ outcome: "translated", output: `0x${output.toString(16)}`, outputSpace: "host-physical", ipa: `0x${rig.before.toString(16)}`, pageBits: 12, permissions: "rwx", event: null, reason: "The tables translate the address" });
    const cd = report.fetches.find(({ name }) => name === "CD")!;
    expect([cd.words.length, cd.fields.find(({ name }) => name === "ASID")?.value, cd.section]).toEqual([8, "0x1", "Arm IHI 0070, 5.4"]);
    // A structure behind stage 2 has the address that the guest gave it.
    const guest = walkReport(rig.source, question({ function: "gpu0" })).compared[0];
    expect(guest.name).toBe("STE of StreamID 0x1100");
    const fates = Object.fromEntries(guest.fields.map(({ name, fate }) => [name, fate]));
    expect(fates).toMatchObject({ V: "taken", Config: "made", S1ContextPtr: "taken", S1Fmt: "taken", EATS: "taken", S2TTB: "made", S2VMID: "made", SHCFG: "same" });
    expect(guest.fields.find(({ name }) => name === "S1ContextPtr")).toMatchObject({ guest: "0x44212000", host: "0x44212000" });
    expect(guest.fields.find(({ name }) => name === "S2TTB")).toMatchObject({ guest: "0x0", why: "stage 2 is the host's" });
  });

  it("behind a VT-d unit: root, context, PASID entries, and the first stage through the second", async () => {
    const rig = await running("vtd");
    end = rig.end;
    const report = walkReport(rig.source, question({ function: "nic0" }));
    const second = ["PML5E", "PML4E", "PDPE", "PDE", "PTE"].map((name) => `second-stage SS-${name}`);
    expect(places(report)).toEqual([
      "0.5 scalable-mode root entry",
      "1.5 scalable-mode context entry",
      "2.5 PASID directory entry",
      "3.5 PASID table entry",
      ...["PML4E", "PDPE", "PDE", "PTE"].flatMap((name, index) => behind(4 + index, second, `first-stage ${name}`)),
      ...behind(8, second, null),
    ]);
    expect(report.end).toMatchObject({ outcome: "translated", output: `0x${rig.source.hostAddressOf(rig.before)!.toString(16)}`, ipa: `0x${rig.before.toString(16)}`, permissions: "rwx" });
    expect(report.fetches.filter(({ stage }) => stage === 1).map(({ level }) => level)).toEqual([4, 3, 2, 1]);
    expect(report.compared.map(({ name }) => name)).toEqual(["context entry of 0x100", "PASID table entry of requests without PASID"]);
    const fates = Object.fromEntries(report.compared[1].fields.map(({ name, fate }) => [name, fate]));
    expect(fates).toMatchObject({ P: "same", FSPTPTR: "taken", PGTT: "dropped", SSPTPTR: "made", DID: "dropped" });
  });

  it("that nothing maps ends with the event", async () => {
    for (const which of ["smmuv3", "vtd"] as const) {
      const rig = await running(which);
      end = rig.end;
      const name = which === "smmuv3" ? "gpu0" : "nic0";
      const report = walkReport(rig.source, question({ function: name, iova: "0x7654321000", access: "write" }));
      expect(report.end).toMatchObject({ outcome: "aborted", output: null, event: { name: which === "smmuv3" ? "F_TRANSLATION" : "SM_FS_NOT_PRESENT" } });
      expect(report.fetches.at(-1)!.decides).toContain(report.end.reason);
      expect(end()).toBe(0);
      end = () => 0;
    }
  });

  it("says of random pages what a DMA of the function then does, and where it comes to", async () => {
    for (const which of ["smmuv3", "vtd"] as const) {
      const rig = await running(which);
      end = rig.end;
      const name = which === "smmuv3" ? "gpu0" : "nic0";
      const engine = rig.device.dma as DmaEngine;
      const random = new Random(which === "smmuv3" ? 1 : 2);
      const pages = Array.from({ length: 6 }, () => rig.kernel.memory.allocate(0x1000));
      const iovas = pages.map((_page, index) => BigInt(1 + random.below(2 ** 16)) * 0x10_0000n + BigInt(index) * 0x1000n);
      for (const [index, page] of pages.entries()) {
        await rig.domain.map(iovas[index], page, 0x1000, { read: true, write: index === 0 || random.below(3) > 0 });
      }
      const outcomes = new Set<string>();
      for (let step = 0; step < 12; step++) {
        const iova = random.below(4) === 0 ? BigInt(random.below(2 ** 20)) << 12n : random.pick(iovas) + BigInt(random.below(16)) * 64n;
        const { end: told } = walkReport(rig.source, question({ function: name, iova: `0x${iova.toString(16)}`, access: "write" }));
        const pattern = 0x2000_0000 + step;
        const { ok } = await engine.run({ operation: ENGINE_FILL, source: 0n, destination: iova, length: 16, pattern });
        expect([which, step, told.outcome]).toEqual([which, step, ok ? "translated" : "aborted"]);
        if (told.output !== null) {
          const { memory } = rig.source.units().find(({ side }) => side === "host")!;
          expect(memory.load64(highWord(BigInt(told.output)), lowWord(BigInt(told.output)))).toBe(0);
          expect(memory.loadedLow).toBe(pattern);
        }
        outcomes.add(told.outcome);
      }
      expect([...outcomes].sort()).toEqual(["aborted", "translated"]);
      expect(end()).toBe(0);
      end = () => 0;
    }
  });

  it("changes nothing: no counter, no cache, no memory", async () => {
    for (const which of ["smmuv3", "vtd"] as const) {
      const rig = await running(which);
      end = rig.end;
      expect(await rig.lands()).toBe("before");
      const state = () => JSON.stringify([rig.source.cached(), rig.source.map(), rig.machine.describe()]);
      const before = state();
      const name = which === "smmuv3" ? "gpu0" : "nic0";
      for (const access of ["read", "write", "execute"] as const) {
        for (const kind of ["untranslated", "ats-request", "ats-translated"] as const) {
          walkReport(rig.source, question({ function: name, access, kind, pasid: access === "read" ? null : 3 }));
        }
      }
      expect(state()).toBe(before);
      expect(end()).toBe(0);
      end = () => 0;
    }
  });

  it("is refused for what is not there", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    expect(() => walkReport(rig.source, question({ function: "gpu1" }))).toThrow("there is no function 'gpu1'; there are: ");
    expect(() => walkReport(rig.source, question({ function: "gpu0", iova: "12" }))).toThrow("iova '12' is no address");
    expect(() => walkReport(rig.source, question({ function: "gpu0", pasid: 2 ** 20 }))).toThrow("pasid 1048576 is none");
  });

  it("knows the fields that the acceleration passes on", () => {
    expect(TAKEN_OF_STE.map((name) => name.toUpperCase()).sort()).toEqual([...Object.keys(forwardedFields), "S1STALLD"].sort());
  });
});
