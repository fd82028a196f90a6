import { describe, expect, it } from "vitest";
import type { SmmuProperties } from "../../../src/smmuv3/index.js";
import { R, RecordingBackend, Rig } from "./rig.js";

/** Read over qtest from QEMU 11.1's virt machine with the same properties. */
const QEMU_RESET: ReadonlyArray<readonly [number, number]> = [
  [0x04, 0x02730010],
  [0x08, 0],
  [0x10, 0],
  [0x14, 0x74],
  [0x18, 0],
  [0x1c, 1],
  [0x20, 0],
  [0x24, 0],
  [0x28, 0],
  [0x2c, 0],
  [0x40, 0],
  [0x44, 0x1000],
  [0x48, 0],
  [0x50, 0],
  [0x54, 0],
  [0x60, 0],
  [0x64, 0],
  [0x68, 0],
  [0x80, 0],
  [0x84, 0],
  [0x88, 0],
  [0x90, 0x13],
  [0x94, 0],
  [0x98, 0],
  [0x9c, 0],
  [0xa0, 0x13],
  [0xa4, 0],
  [0xa8, 0],
  [0xac, 0],
  [0xc0, 0],
  [0xfd0, 0x04],
  [0xfe0, 0x84],
  [0xfe4, 0xb4],
  [0xfe8, 0xf0],
  [0xfec, 0x10],
  [0xff0, 0x0d],
  [0xff4, 0xf0],
  [0xff8, 0x05],
  [0xffc, 0xb1],
  [0x10000, 0x0d44101a],
  [0x10090, 0x13],
  [0x100a8, 0],
  [0x100ac, 0],
];

describe("reset values", () => {
  it.each([
    ["1", 0x0d44101a, 0x1404],
    ["2", 0x0d441019, 0x1414],
    ["nested", 0x0d44101b, 0x1414],
  ] as const)("stage=%s has QEMU's IDR0 and IDR3", (stage, idr0, idr3) => {
    const rig = new Rig({ stage });
    expect(rig.get(0)).toBe(idr0);
    expect(rig.get(0xc)).toBe(idr3);
  });

  it("are QEMU's", () => {
    const rig = new Rig();
    expect(QEMU_RESET.map(([offset]) => [offset, rig.get(offset)])).toEqual(QEMU_RESET);
  });

  it("come back with a reset, whatever was written, and the backend is told", () => {
    const rig = new Rig({ msi: true });
    const before = Array.from({ length: 64 }, (_unused, n) => rig.get(n * 4));
    for (let offset = 0; offset < 0x100; offset += 4) {
      rig.set(offset, 0xffff_ffff);
    }
    rig.smmu.backend = new RecordingBackend();
    rig.smmu.reset();
    expect(Array.from({ length: 64 }, (_unused, n) => rig.get(n * 4))).toEqual(before);
    expect((rig.smmu.backend as RecordingBackend).calls).toEqual(["reset"]);
  });

  it.each<[string, Partial<SmmuProperties>, number, number]>([
    ["ril=off", { ril: false }, 0xc, 0x1004],
    ["ats=on", { ats: true }, 0x0, 0x0d44141a],
    ["oas=48", { oas: 48 }, 0x14, 0x75],
    ["ssidsize=20", { ssidsize: 20 }, 0x4, 0x02730510],
    ["two-level CD tables", { cd2l: true }, 0x0, 0x0d4c101a],
    ["MSIs of its own", { msi: true }, 0x0, 0x0d44301a],
  ])("%s overlays one field", (_name, properties, offset, value) => {
    expect(new Rig(properties).get(offset)).toBe(value);
  });

  it("takes features until it is frozen", () => {
    const { smmu } = new Rig();
    smmu.applyFeatures({ ril: false, ats: true, oasBits: 48, ssidBits: 16, cd2l: true });
    expect([...smmu.idr].map((word) => word >>> 0)).toEqual([0x0d4c141a, 0x02730410, 0, 0x1004, 0, 0x75]);
    expect(smmu.streamIdLimit).toBe(0x10000);
    smmu.freeze();
    expect(() => smmu.applyFeatures({ ril: true, ats: false, oasBits: 44, ssidBits: 0, cd2l: false })).toThrow(/frozen/);
  });
});

/** Offset, name, what all ones leave while everything is disabled, and what a guard then leaves of zero over that. */
const MASKS: ReadonlyArray<readonly [number, string, number, "free" | "SMMUEN" | "CMDQEN" | "EVENTQEN" | "GERROR_IRQEN" | "EVENTQ_IRQEN"]> = [
  [0x00, "IDR0", 0x0d44301a, "free"],
  [0x04, "IDR1", 0x02730010, "free"],
  [0x08, "IDR2", 0, "free"],
  [0x0c, "IDR3", 0x1404, "free"],
  [0x10, "IDR4", 0, "free"],
  [0x14, "IDR5", 0x74, "free"],
  [0x18, "IIDR", 0, "free"],
  [0x1c, "AIDR", 1, "free"],
  [0x24, "CR0ACK", 0, "free"],
  [0x28, "CR1", 0xfff, "free"],
  [0x2c, "CR2", 0x2, "SMMUEN"],
  [0x40, "STATUSR", 0, "free"],
  [0x44, "GBPA", 0x001f3f1f, "free"],
  [0x48, "AGBPA", 0, "free"],
  [0x54, "IRQ_CTRLACK", 0, "free"],
  [0x60, "GERROR", 0, "free"],
  [0x64, "GERRORN", 0, "free"],
  [0x68, "GERROR_IRQ_CFG0", 0xfffffffc, "GERROR_IRQEN"],
  [0x6c, "GERROR_IRQ_CFG0 high", 0xfff, "GERROR_IRQEN"],
  [0x70, "GERROR_IRQ_CFG1", 0xffffffff, "GERROR_IRQEN"],
  [0x74, "GERROR_IRQ_CFG2", 0x3f, "GERROR_IRQEN"],
  [0x80, "STRTAB_BASE", 0xffffffc0, "SMMUEN"],
  [0x84, "STRTAB_BASE high", 0x40000fff, "SMMUEN"],
  [0x88, "STRTAB_BASE_CFG", 0x307ff, "SMMUEN"],
  [0x90, "CMDQ_BASE", 0xffffffff, "CMDQEN"],
  [0x94, "CMDQ_BASE high", 0x40000fff, "CMDQEN"],
  [0x98, "CMDQ_PROD", 0xfffff, "free"],
  [0x9c, "CMDQ_CONS", 0x7f0fffff, "CMDQEN"],
  [0xa0, "EVENTQ_BASE", 0xffffffff, "EVENTQEN"],
  [0xa4, "EVENTQ_BASE high", 0x40000fff, "EVENTQEN"],
  [0x100a8, "EVENTQ_PROD", 0x800fffff, "EVENTQEN"],
  [0x100ac, "EVENTQ_CONS", 0x800fffff, "free"],
  [0xb0, "EVENTQ_IRQ_CFG0", 0xfffffffc, "EVENTQ_IRQEN"],
  [0xb4, "EVENTQ_IRQ_CFG0 high", 0xfff, "EVENTQ_IRQEN"],
  [0xb8, "EVENTQ_IRQ_CFG1", 0xffffffff, "EVENTQ_IRQEN"],
  [0xbc, "EVENTQ_IRQ_CFG2", 0x3f, "EVENTQ_IRQEN"],
  [0xc0, "PRIQ_BASE", 0, "free"],
  [0x100c8, "PRIQ_PROD", 0, "free"],
  [0x100cc, "PRIQ_CONS", 0, "free"],
  [0xd0, "PRIQ_IRQ_CFG0", 0, "free"],
  [0x100, "GATOS_CTRL", 0, "free"],
  [0x180, "VATOS_SEL", 0, "free"],
  [0x200, "DPT_BASE", 0, "free"],
  [0xe00, "implementation defined", 0, "free"],
  [0xfd0, "PIDR4", 0x04, "free"],
  [0x8020, "S_CR0", 0, "free"],
];

const ENABLE = {
  SMMUEN: [R.CR0, 1],
  CMDQEN: [R.CR0, 8],
  EVENTQEN: [R.CR0, 4],
  GERROR_IRQEN: [R.IRQ_CTRL, 1],
  EVENTQ_IRQEN: [R.IRQ_CTRL, 4],
} as const;

describe("write masks", () => {
  it.each(MASKS)("0x%s %s", (offset, _name, mask, guard) => {
    const rig = new Rig({ msi: true });
    rig.set(offset, 0xffff_ffff);
    expect(rig.get(offset)).toBe(mask);
    for (const [enabledBy, [register, bit]] of Object.entries(ENABLE)) {
      const guarded = new Rig({ msi: true });
      guarded.set(offset, 0xffff_ffff);
      guarded.set(register, bit);
      const before = guarded.get(offset);
      guarded.set(offset, 0x8000_0000);
      expect([enabledBy, guarded.get(offset)]).toEqual([
        enabledBy,
        guard === enabledBy ? before : expectedAfter(rig, offset, mask, enabledBy),
      ]);
    }
  });

  /** What a write of bit 31 alone leaves where nothing guards the register. */
  function expectedAfter(rig: Rig, offset: number, mask: number, enabledBy: string): number {
    const fixed = new Rig({ msi: true }).get(offset);
    rig.set(offset, 0);
    const writable = rig.get(offset) !== mask;
    if (offset === R.CR1) {
      return enabledBy === "SMMUEN" ? 0xfc0 : enabledBy === "CMDQEN" || enabledBy === "EVENTQEN" ? 0x3f : 0;
    }
    if (offset === R.GBPA) {
      return 0;
    }
    if (offset === R.CR0ACK) {
      return { SMMUEN: 1, CMDQEN: 8, EVENTQEN: 4 }[enabledBy] ?? 0;
    }
    if (offset === R.IRQ_CTRLACK) {
      return { GERROR_IRQEN: 1, EVENTQ_IRQEN: 4 }[enabledBy] ?? 0;
    }
    return writable ? (mask & 0x8000_0000) >>> 0 : fixed;
  }

  it("CR0 keeps the enables and is acknowledged at once", () => {
    const rig = new Rig();
    rig.set(R.CR0, 0xffff_ffff);
    expect([rig.get(R.CR0), rig.get(R.CR0ACK)]).toEqual([0xd, 0xd]);
    const ats = new Rig({ ats: true });
    ats.set(R.CR0, 0xffff_ffff);
    expect([ats.get(R.CR0), ats.get(R.CR0ACK)]).toEqual([0x1d, 0x1d]);
    ats.set(R.CR0, 0);
    expect(ats.get(R.CR0ACK)).toBe(0);
  });

  it("IRQ_CTRL keeps what has an interrupt", () => {
    const rig = new Rig();
    rig.set(R.IRQ_CTRL, 0xffff_ffff);
    expect([rig.get(R.IRQ_CTRL), rig.get(R.IRQ_CTRLACK)]).toEqual([5, 5]);
  });

  it("interrupt configuration is RES0 without IDR0.MSI", () => {
    const rig = new Rig();
    for (const offset of [0x68, 0x6c, 0x70, 0x74, 0xb0, 0xb4, 0xb8, 0xbc]) {
      rig.set(offset, 0xffff_ffff);
      expect(rig.get(offset)).toBe(0);
    }
  });

  it("addresses reach to the OAS", () => {
    const rig = new Rig({ oas: 48 });
    rig.set64(R.STRTAB_BASE, 0xffff_ffff_ffff_ffffn);
    expect(rig.get64(R.STRTAB_BASE)).toBe(0x4000_ffff_ffff_ffc0n);
  });

  it("CMDQ_CONS and EVENTQ_PROD read as zero above the wrap flag", () => {
    const rig = new Rig();
    rig.set(R.CMDQ_CONS, 0xf_ffff);
    rig.set(R.EVENTQ_PROD, 0x800f_ffff);
    rig.set64(R.CMDQ_BASE, 3);
    rig.set64(R.EVENTQ_BASE, 0);
    expect(rig.get(R.CMDQ_CONS)).toBe(0xf);
    expect(rig.get(R.EVENTQ_PROD)).toBe(0x8000_0001);
  });
});

describe("accesses", () => {
  it("merge the halves of 64-bit registers", () => {
    const rig = new Rig({ msi: true });
    for (const offset of [R.GERROR_IRQ_CFG0, R.STRTAB_BASE, R.CMDQ_BASE, R.EVENTQ_BASE, R.EVENTQ_IRQ_CFG0]) {
      rig.set64(offset, 0x123_4567_8000n);
      expect([rig.get(offset), rig.get(offset + 4)]).toEqual([0x4567_8000, 0x123]);
      rig.set(offset + 4, 0x456);
      expect(rig.get64(offset)).toBe(0x456_4567_8000n);
      rig.set(offset, 0x1000_0040);
      expect(rig.get64(offset)).toBe(0x456_1000_0040n);
    }
  });

  it("have the same effect on both pages", () => {
    const rig = new Rig();
    rig.set(0x10000 + R.CR1, 0xd75);
    expect(rig.get(R.CR1)).toBe(0xd75);
    rig.set(0xac, 5);
    expect(rig.get(R.EVENTQ_CONS)).toBe(5);
  });

  it.each([
    [R.CR1, 1],
    [R.CR1, 2],
    [R.CR1, 8],
    [R.CR1 + 1, 4],
    [R.CR1 + 2, 4],
    [R.CR0, 8],
    [R.STRTAB_BASE + 4, 8],
    [R.STRTAB_BASE, 3],
    [R.STRTAB_BASE, 16],
    [0x20000, 4],
    [0x20028, 4],
    [-4, 4],
  ])("at 0x%s of %s bytes read as zero and write nothing", (offset, size) => {
    const rig = new Rig();
    rig.set(R.CR1, 0xfff);
    rig.set64(R.STRTAB_BASE, 0x1000n);
    rig.smmu.write(offset, size, 0xffff_ffff_ffff_ffffn);
    expect(rig.smmu.read(offset, size)).toBe(0n);
    expect([rig.get(R.CR1), rig.get64(R.STRTAB_BASE), rig.get(R.CR0)]).toEqual([0xfff, 0x1000n, 0]);
  });
});

describe("GBPA", () => {
  it("changes with UPDATE only, which reads back 0", () => {
    const rig = new Rig();
    rig.set(R.GBPA, 0x0010_0000);
    expect(rig.get(R.GBPA)).toBe(0x1000);
    rig.set(R.GBPA, 0x8010_0000);
    expect(rig.get(R.GBPA)).toBe(0x0010_0000);
    expect(rig.smmu.globalBypassAborts).toBe(true);
  });

  it("tells the backend while it acts: SMMUEN is 0", () => {
    const rig = new Rig();
    const backend = new RecordingBackend();
    rig.smmu.backend = backend;
    rig.set(R.GBPA, 0x8010_0000);
    rig.set(R.GBPA, 0x8010_0000);
    expect(backend.calls).toEqual(["translation"]);
    rig.set(R.CR0, 1);
    rig.set(R.GBPA, 0x8000_1000);
    expect(backend.calls).toEqual(["translation", "translation"]);
    rig.set(R.CR0, 0);
    expect(backend.calls.length).toBe(3);
    expect(rig.smmu.globalBypassAborts).toBe(false);
  });
});

describe("CR0 and the backend", () => {
  it("is told of what changed, and of a moved event queue", () => {
    const rig = new Rig();
    const backend = new RecordingBackend();
    rig.smmu.backend = backend;
    rig.set64(R.EVENTQ_BASE, 0x4020_0005n);
    expect(backend.calls).toEqual(["eventq"]);
    rig.set(R.CR0, 4);
    rig.set(R.CR0, 4);
    expect(backend.calls).toEqual(["eventq", "eventq"]);
    expect([rig.smmu.eventQueueEnabled, rig.smmu.eventQueueLog2Size]).toEqual([true, 5]);
    rig.set64(R.EVENTQ_BASE, 0x4030_0006n);
    expect(backend.calls.length).toBe(2);
    rig.set(R.CR0, 5);
    expect(backend.calls).toEqual(["eventq", "eventq", "translation"]);
    rig.set(R.CR0, 0);
    expect(backend.calls.slice(3)).toEqual(["translation", "eventq"]);
  });

  it("caps LOG2SIZE of the queues at what IDR1 says, but reads it back", () => {
    const rig = new Rig();
    rig.set64(R.EVENTQ_BASE, 0x4020_001fn);
    expect(rig.get64(R.EVENTQ_BASE)).toBe(0x4020_001fn);
    expect(rig.smmu.eventQueueLog2Size).toBe(19);
  });
});

describe("GERROR", () => {
  it("is acknowledged bit by bit, active errors only", () => {
    const rig = new Rig();
    rig.set(R.GERRORN, 0xffff_ffff);
    expect(rig.get(R.GERRORN)).toBe(0);
    rig.start();
    rig.submit([0x99n, 0n]);
    expect(rig.get(R.GERROR)).toBe(1);
    rig.set(R.GERRORN, 0xffff_fffe);
    expect(rig.get(R.GERRORN)).toBe(0);
    rig.set(R.CR0, 0);
    rig.set(R.GERRORN, 0xffff_ffff);
    expect([rig.get(R.GERROR), rig.get(R.GERRORN)]).toEqual([1, 1]);
    // Another error toggles the bit back.
    rig.set(R.CR0, 8);
    expect([rig.get(R.GERROR), rig.get(R.GERRORN)]).toEqual([0, 1]);
  });
});
