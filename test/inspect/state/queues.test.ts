import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { descriptor, type VtdDriver } from "../../../src/guest/index.js";
import { describeCommand, describeDescriptor, describeEvent, type InspectionSource, queuesReport, SMMU_REGISTERS, type UnitState, vtdRegisters } from "../../../src/inspect/state/index.js";
import { RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import { buildEvent, encodeCommand, EVENT, OP } from "../../../src/smmuv3/spec/index.js";
import { putCommands, running } from "../machine/rigs.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

describe("the queues of an SMMU", () => {
  it("tell positions, what is done and the last batch that went to the host", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    await rig.kernel.smmus[0].commands.issueAndSync(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x1000n, LEAF: 1 });
    const { queues } = queuesReport(rig.source, "smmu1");
    expect(queues.map(({ iommu, name, enabled, size, full }) => [iommu, name, enabled, size, full])).toEqual([
      ["smmu1", "command", true, 65536, false],
      ["smmu1", "event", true, 32768, false],
    ]);
    const [command, event] = queues;
    expect([command.producer, command.consumer]).toEqual([0x13, 0x13]);
    expect(command.batch).toEqual({ first: 0x11, entries: 1, handled: 1, error: null });
    expect(command.entries).toHaveLength(0x13);
    expect(command.entries.slice(-2).map(({ index, state, name, summary, section, error }) => [index, state, name, summary, section, error])).toEqual([
      [0x11, "done", "CMD_TLBI_NH_VA", "ASID 1, 0x1000, leaf", "Arm IHI 0070, 4.4.2", null],
      [0x12, "done", "CMD_SYNC", expect.stringMatching(/^(no signal|interrupt|event)/), "Arm IHI 0070, 4.7.3", null],
    ]);
    expect(command.entries.at(-2)!.words).toEqual(["0x1000000000012", "0x1001"]);
    expect([event.entries, event.batch, "error" in event]).toEqual([[], null, false]);
    expect(queuesReport(rig.source).queues.map(({ iommu, name }) => `${iommu} ${name}`)).toEqual(["smmu1 command", "smmu1 event", "smmu0 command", "smmu0 event"]);
  });

  it("tell the error at the very command, and those that wait behind it", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    await putCommands(rig, [
      [0x30n, 0n],
      [0xffn, 0n],
      [0x46n, 0n],
    ]);
    const [command] = queuesReport(rig.source, "smmu1").queues;
    expect(command.entries.slice(-3).map(({ index, state, name, summary, error }) => [index, state, name, summary, error])).toEqual([
      [0x11, "done", "CMD_TLBI_NSNH_ALL", "", null],
      [0x12, "current", "CMD_0xff", "no such command", "CERROR_ILL: the command is illegal"],
      [0x13, "waiting", "CMD_SYNC", "no signal", null],
    ]);
    expect([command.producer, command.consumer]).toEqual([0x14, 0x12]);
  });

  it("tell a batch that the host refused, by its error", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    rig.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled: 1 });
    await putCommands(rig, [
      [0x11n | (1n << 48n), 0n],
      [0x10n, 0n],
      [0x46n, 0n],
    ]);
    const [command] = queuesReport(rig.source, "smmu1").queues;
    expect(command.batch).toEqual({ first: 0x11, entries: 2, handled: 1, error: "EIO" });
    expect(command.entries.slice(-2)).toMatchObject([
      { index: 0x12, state: "current", name: "CMD_TLBI_NH_ALL", error: "CERROR_ILL: the command is illegal" },
      { index: 0x13, state: "waiting", name: "CMD_SYNC", error: null },
    ]);
  });

  it("tell events, those that the guest has read too", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const engine = rig.device.dma as never as { run: (request: object) => Promise<unknown> };
    const { registers } = rig.source.units()[0];
    const before = registers.get("EVENTQ_PROD");
    await engine.run({ operation: 2, source: 0n, destination: 0x9999_0000n, length: 16, pattern: 1 });
    const [, event] = queuesReport(rig.source, "smmu1").queues;
    expect(before).toBe(0n);
    expect(event.entries.map(({ index, name, summary, section }) => [index, name, summary, section])).toEqual([[0, "F_TRANSLATION", "StreamID 0x1100, write, at 0x99990000", "Arm IHI 0070, 7.3.13"]]);
    expect(event.entries[0].fields.find(({ name }) => name === "CLASS")).toEqual({ name: "CLASS", high: 105, low: 104, value: "0x2", meaning: "the input address" });
  });

  it("are refused of an IOMMU that is not there", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    expect(() => queuesReport(rig.source, "smmu9")).toThrow("there is no IOMMU 'smmu9'; there are: smmu1, smmu0, smmu3.0x0000000005600000");
  });
});

describe("the queues of a VT-d", () => {
  it("tell descriptors, what they do, and the batch", async () => {
    const rig = await running("vtd");
    end = rig.end;
    await (rig.device.iommu as VtdDriver).invalidate([descriptor("PASID_IOTLB", { G: 3, DID: rig.domain.id, PASID: 0, AM: 2, IH: 1, ADDR: 0x1234_0000n })]);
    const { queues } = queuesReport(rig.source, "iommu0");
    expect(queues.map(({ name, enabled, size, base }) => [name, enabled, size, base])).toEqual([
      ["invalidation", true, 256, "0x28000"],
      ["fault", true, 1, "0x220"],
    ]);
    const [queue] = queues;
    const sent = queue.entries.filter(({ name }) => name === "p_iotlb_inv_dsc").at(-1)!;
    expect([sent.state, sent.summary, sent.section]).toEqual(["done", `domain ${rig.domain.id}, PASID 0, 0x12340000, 2^2 pages, leaf`, "Intel VT-d 6.5.2.4"]);
    expect(queue.batch).toEqual({ first: sent.index, entries: 1, handled: 1, error: null });
    expect(queue.entries.at(-1)).toMatchObject({ name: "inv_wait_dsc", state: "done", section: "Intel VT-d 6.5.2.8" });
  });

  it("tell the error at the very descriptor, and a fault record", async () => {
    const rig = await running("vtd");
    end = rig.end;
    const { registers } = rig.source.units()[0];
    const at = Number(registers.get("IQT")!);
    const base = 0x28000;
    await rig.kernel.port.write(base + at, 8, 0xfn);
    await rig.kernel.port.write(0xfed9_0088, 8, BigInt(at + 32));
    const [queue] = queuesReport(rig.source, "iommu0").queues;
    expect(queue.entries.at(-1)).toMatchObject({ index: at / 32, state: "current", name: "type 0xf", summary: "no such descriptor", error: "IQE: no such type of descriptor here" });
    const engine = rig.device.dma as never as { run: (request: object) => Promise<unknown> };
    await engine.run({ operation: 2, source: 0n, destination: 0x9999_0000n, length: 16, pattern: 1 });
    const [, fault] = queuesReport(rig.source, "iommu0").queues;
    expect(fault).toMatchObject({ full: true, producer: 0, consumer: 0, size: 1 });
    expect(fault.entries.map(({ state, name, summary, section }) => [state, name, summary, section])).toEqual([["waiting", "SM_FS_NOT_PRESENT", "source id 0x100, write at 0x99990000", "Intel VT-d 11.4.7.6"]]);
  });
});

describe("entries", () => {
  it("of every command have a name, a section and a line", () => {
    const texts = Object.values(OP).map((opcode) => describeCommand(encodeCommand(opcode)));
    expect(texts.every(({ name, section, fields }) => name.startsWith("CMD_") && /^Arm IHI 0070, 4\.[2-7]/.test(section) && fields[0].name === "Opcode")).toBe(true);
    const line = (opcode: number, fields: Parameters<typeof encodeCommand>[1]) => describeCommand(encodeCommand(opcode, fields)).summary;
    expect([
      line(OP.CFGI_STE, { SID: 0x1100, LEAF: 1 }),
      line(OP.CFGI_STE_RANGE, { SID: 0x1105, RANGE: 3 }),
      line(OP.CFGI_CD, { SID: 1, SSID: 5, LEAF: 1 }),
      line(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x4000n, TG: 1, NUM: 3, SCALE: 1, TTL: 3 }),
      line(OP.TLBI_S2_IPA, { VMID: 2, ADDRESS: 0x4000n }),
      line(OP.ATC_INV, { SID: 1, SSV: 1, SSID: 7, ATC_SIZE: 3, ADDRESS: 0x8000n }),
      line(OP.ATC_INV, { SID: 1, SSV: 1, GLOBAL: 1, ATC_SIZE: 52 }),
      line(OP.SYNC, { SYNC_CS: 1, SYNC_MSIDATA: 5, SYNC_MSIADDRESS: 0x1000n }),
    ]).toEqual([
      "StreamID 0x1100, leaf",
      "StreamIDs 0x1100 to 0x110f",
      "StreamID 0x1, SubstreamID 0x5, leaf",
      "ASID 1, 0x4000, 8 granules of 4 KiB",
      "VMID 2, 0x4000",
      "StreamID 0x1, SubstreamID 0x7, 0x8000, 2^3 pages",
      "StreamID 0x1, all SubstreamIDs, everything",
      "interrupt by message 0x5 to 0x1000",
    ]);
    expect(describeCommand(encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }))).toMatchObject({ name: "CMD_CFGI_ALL", summary: "all StreamIDs" });
  });

  it("of every event have a name, a section and a line", () => {
    for (const number of Object.values(EVENT)) {
      const { name, section, summary } = describeEvent(buildEvent(number, { SID: 0x100 }));
      expect([/^[FCE]_/.test(name), /^Arm IHI 0070, 7\.3\.\d+$/.test(section), summary.startsWith("StreamID 0x100")]).toEqual([true, true, true]);
    }
    expect(describeEvent(buildEvent(EVENT.F_PERMISSION, { SID: 1, SSV: 1, SSID: 9, RNW: 1, S2: 1, CLASS: 2, INPUT_ADDR: 0x5000n, IPA: 0x7000n })).summary).toBe("StreamID 0x1, SubstreamID 0x9, read, at 0x5000, stage 2 at 0x7000");
  });

  it("of every descriptor have a name, a section and a line", () => {
    const text = (...args: Parameters<typeof descriptor>) => describeDescriptor(descriptor(...args));
    expect([text("CONTEXT_CACHE", { G: 3, SID: 0x100, DID: 2 }), text("IOTLB", { G: 2, DID: 7 }), text("PASID_CACHE", { G: 1, DID: 2, PASID: 5 }), text("DEVICE_TLB", { SID: 0x100, ADDR: 0x1000n }), text("INTERRUPT_ENTRY_CACHE"), text("WAIT", { SW: 1, DATA: 3, ADDR: 0x2000n })].map(({ name, summary, section }) => [name, summary, section])).toEqual([
      ["cc_inv_dsc", "source id 0x100, domain 2", "Intel VT-d 6.5.2.1"],
      ["iotlb_inv_dsc", "domain 7", "Intel VT-d 6.5.2.3"],
      ["pc_inv_dsc", "domain 2, PASID 5", "Intel VT-d 6.5.2.2"],
      ["dev_tlb_inv_dsc", "source id 0x100, 0x1000", "Intel VT-d 6.5.2.5"],
      ["iec_inv_dsc", "global", "Intel VT-d 6.5.2.7"],
      ["inv_wait_dsc", "0x3 to 0x2000", "Intel VT-d 6.5.2.8"],
    ]);
  });
});

describe("registers and queues with rubbish", () => {
  it("are told with bounded work", () => {
    const ram = new RamBlock("ram", 1 << 20, 0);
    const memory = new RamWordMemory();
    memory.place(0, ram);
    const words = ram.wordWindow(0);
    for (let at = 0, value = 12345; at < words.length; at++) {
      words[at] = value = Math.imul(value, 1664525) + 1013904223;
    }
    fc.assert(
      fc.property(fc.constantFrom("smmuv3" as const, "vtd" as const), fc.infiniteStream(fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 0xf_ffffn }))), (architecture, values) => {
        const names = architecture === "smmuv3" ? SMMU_REGISTERS.map(({ name }) => name) : vtdRegisters(0xffn << 40n, 0n).map(({ name }) => name);
        const unit: UnitState = { id: "u", side: "guest", architecture, registers: new Map(names.map((name) => [name, values.next().value])), memory, batch: null };
        const { queues } = queuesReport({ units: () => [unit] } as unknown as InspectionSource);
        expect(queues.length).toBeGreaterThanOrEqual(2);
        for (const { entries, size, producer, consumer } of queues) {
          expect(entries.length).toBeLessThanOrEqual(Math.min(256, size));
          expect([producer < size, consumer < size, entries.every(({ index }) => index >= 0 && index < size)]).toEqual([true, true, true]);
          expect(entries.filter(({ state }) => state === "current").length).toBeLessThanOrEqual(1);
        }
      }),
      { seed: 20261201, numRuns: 100 },
    );
  });
});
