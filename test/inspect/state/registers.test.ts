import { afterEach, describe, expect, it } from "vitest";
import fc from "fast-check";
import { type InspectionSource, registersReport, SMMU_REGISTERS, type UnitState, vtdRegisters } from "../../../src/inspect/state/index.js";
import { RamWordMemory } from "../../../src/memory/index.js";
import { Refusal } from "../../../src/support/index.js";
import { putCommands, running } from "../machine/rigs.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

describe("registers of a running machine", () => {
  it("are told of an SMMU, each with its place, section and fields", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const { registers, ...rest } = registersReport(rig.source, "smmu1");
    expect(rest).toEqual({ iommu: "smmu1", side: "guest", architecture: "smmuv3", unknown: null });
    const of = (name: string) => registers.find((one) => one.name === name)!;
    // Those of page requests are not there.
    expect(registers).toHaveLength(SMMU_REGISTERS.length - 6);
    expect(of("CR0")).toEqual({
      name: "CR0",
      offset: 0x20,
      bits: 32,
      value: "0x1d",
      section: "Arm IHI 0070, 6.3.9",
      fields: [
        { name: "SMMUEN", high: 0, low: 0, value: "0x1", meaning: "streams are translated" },
        { name: "PRIQEN", high: 1, low: 1, value: "0x0", meaning: "off" },
        { name: "EVENTQEN", high: 2, low: 2, value: "0x1", meaning: "on" },
        { name: "CMDQEN", high: 3, low: 3, value: "0x1", meaning: "on" },
        { name: "ATSCHK", high: 4, low: 4, value: "0x1", meaning: "Translated transactions are checked" },
        { name: "VMW", high: 8, low: 6, value: "0x0", meaning: null },
        { name: "DPT_WALK_EN", high: 10, low: 10, value: "0x0", meaning: null },
      ],
    });
    expect(of("STRTAB_BASE").fields.map(({ name, high, low }) => [name, high, low])).toEqual([["ADDR", 51, 6], ["RA", 62, 62]]);
    expect(of("STRTAB_BASE_CFG").fields).toEqual([
      { name: "LOG2SIZE", high: 5, low: 0, value: "0x10", meaning: "65536 StreamIDs" },
      { name: "SPLIT", high: 10, low: 6, value: "0x8", meaning: "second level of 256" },
      { name: "FMT", high: 17, low: 16, value: "0x1", meaning: "two levels" },
    ]);
    expect([of("EVENTQ_PROD").offset, of("CMDQ_CONS").section]).toEqual([0x100a8, "Arm IHI 0070, 6.3.28"]);
  });

  it("say which global error is active", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    await putCommands(rig, [[0xffn, 0n]]);
    const { registers } = registersReport(rig.source, "smmu1");
    const meaning = (register: string, field: string) => registers.find(({ name }) => name === register)!.fields.find(({ name }) => name === field)!.meaning;
    expect(meaning("CMDQ_CONS", "ERR")).toBe("CERROR_ILL: the command is illegal");
    expect([meaning("GERROR", "CMDQ_ERR"), meaning("GERRORN", "CMDQ_ERR"), meaning("GERROR", "EVENTQ_ABT_ERR")]).toEqual(["active", "active", null]);
  });

  it("are told of a VT-d, with what is written and not taken over", async () => {
    const rig = await running("vtd");
    end = rig.end;
    await rig.kernel.port.write(0xfed9_0020, 8, 0x1234_5000n);
    const { registers, architecture } = registersReport(rig.source, "iommu0");
    expect(architecture).toBe("vtd");
    const of = (name: string) => registers.find((one) => one.name === name)!;
    expect(of("RTADDR").fields[0]).toEqual({ name: "TTM", high: 11, low: 10, value: "0x1", meaning: "scalable mode" });
    expect(of("RTADDR (written, not taken over)")).toMatchObject({ offset: 0x20, value: "0x12345000" });
    expect(of("GSTS").fields.filter(({ value }) => value === "0x1").map(({ name }) => name)).toEqual(["IRTPS", "IRES", "QIES", "RTPS", "TES"]);
    expect([of("IVA").offset, of("IOTLB").offset, of("FRCD0").offset, of("FRCD0_HIGH").section]).toEqual([0xf0, 0xf8, 0x220, "Intel VT-d 11.4.7.6"]);
    expect(registers.some(({ name }) => name === "PQA")).toBe(false);
  });

  it("are told of the host's units as far as they have some", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const report = registersReport(rig.source, "smmu3.0x0000000011600000");
    expect(report).toMatchObject({ side: "host", unknown: "registers of queues and interrupts: the simulated unit has none in memory" });
    expect(report.registers.map(({ name }) => name)).toEqual(["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR", "CR0", "CR0ACK", "CR2", "STRTAB_BASE", "STRTAB_BASE_CFG"]);
  });

  it("are refused of an IOMMU that is not there, with those that are", async () => {
    const rig = await running("vtd");
    end = rig.end;
    expect(() => registersReport(rig.source, "<script>")).toThrow(Refusal);
    expect(() => registersReport(rig.source, "<script>")).toThrow("there is no IOMMU '<script>'; there are: iommu0, dmar0, dmar1, dmar2, dmar3");
  });
});

describe("registers with rubbish", () => {
  it("are told all the same", () => {
    fc.assert(
      fc.property(fc.constantFrom("smmuv3" as const, "vtd" as const), fc.infiniteStream(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })), (architecture, values) => {
        const names = architecture === "smmuv3" ? SMMU_REGISTERS.map(({ name }) => name) : ["CAP", "ECAP", ...vtdRegisters(0n, 0n).map(({ name }) => name)];
        const registers = new Map(names.map((name) => [name, values.next().value]));
        const unit: UnitState = { id: "u", side: "guest", architecture, registers, memory: new RamWordMemory(), batch: null };
        const report = registersReport({ units: () => [unit] } as unknown as InspectionSource, "u");
        expect(report.registers.length).toBeGreaterThan(10);
        expect(report.registers.every(({ fields }) => fields.every(({ value, high, low }) => /^0x[0-9a-f]+$/.test(value) && high >= low))).toBe(true);
      }),
      { seed: 20261201, numRuns: 50 },
    );
  });
});
