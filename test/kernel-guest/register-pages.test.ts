import { describe, expect, it } from "vitest";
import { RegisterPages } from "../../src/kernel-guest/arm64/register-pages.js";
import { CAP, type KvmVm, type MemorySlot } from "../../src/kvm/index.js";
import { SystemError } from "../../src/linux/index.js";
import { DEFAULT_PROPERTIES } from "../../src/smmuv3/index.js";
import { Log } from "../../src/support/index.js";
import { R, Rig } from "../smmuv3/device/rig.js";

/** A KVM that has capabilities, and takes so many slots. */
class FakeVm implements Pick<KvmVm, "extension" | "addSlot" | "removeSlot"> {
  readonly slots = new Map<number, MemorySlot>();
  constructor(
    private readonly capabilities: readonly number[],
    private readonly room = 100,
  ) {}
  extension(capability: number): number {
    return this.capabilities.includes(capability) ? 1 : 0;
  }
  addSlot(slot: MemorySlot): number {
    if (this.slots.size === this.room) {
      throw new SystemError("KVM_SET_USER_MEMORY_REGION", 12);
    }
    this.slots.set(this.slots.size, slot);
    return this.slots.size - 1;
  }
  removeSlot(slot: number): void {
    this.slots.delete(slot);
  }
}


function smmus(registerPages: boolean | "auto", count = 1) {
  return Array.from({ length: count }, (_, n) => ({ id: `s${n}`, base: 0x0c00_0000 + n * 0x2_0000, registerPages, device: new Rig({}).smmu }));
}

function open(vm: FakeVm, of: ReturnType<typeof smmus>, writesBack = true) {
  const lines: string[] = [];
  const log = new Log(({ text }) => void lines.push(text));
  return { pages: new RegisterPages(vm, () => writesBack, of as never, log), lines };
}

describe("registers that processors read as memory", () => {
  it("are two slots that cannot be written, of the same page, where there is FEAT_S2FWB", () => {
    const vm = new FakeVm([CAP.READONLY_MEM]);
    const { pages } = open(vm, smmus("auto", 2));
    expect(pages.count).toBe(2);
    const slots = [...vm.slots.values()];
    expect(slots.map(({ guestAddress, bytes, readOnly }) => [guestAddress.toString(16), bytes, readOnly])).toEqual([
      ["c000000", 0x10000, true],
      ["c010000", 0x10000, true],
      ["c020000", 0x10000, true],
      ["c030000", 0x10000, true],
    ]);
    expect(slots[0].userAddress).toBe(slots[1].userAddress);
    expect(slots[0].userAddress).not.toBe(slots[2].userAddress);
    pages.close();
    expect([vm.slots.size, pages.count]).toEqual([0, 0]);
  });

  it.each([
    ["no FEAT_S2FWB", [CAP.READONLY_MEM], false, "the processors have no FEAT_S2FWB (ID_AA64MMFR2_EL1.FWB is 0)"],
    ["no read-only slots", [], true, "KVM has no slots that can only be read (KVM_CAP_READONLY_MEM)"],
  ])("are not with %s: auto does without, on is refused, off never asks", (_what, capabilities, writesBack, words) => {
    const vm = new FakeVm(capabilities);
    expect(open(vm, smmus("auto"), writesBack).pages.count).toBe(0);
    expect(open(vm, smmus(false), writesBack).pages.count).toBe(0);
    expect(() => open(vm, smmus(true), writesBack)).toThrow(words);
    expect(vm.slots.size).toBe(0);
    expect(open(new FakeVm([CAP.READONLY_MEM]), smmus(false)).pages.count).toBe(0);
  });

  it("leave nothing of an SMMU whose slot KVM refuses", () => {
    const vm = new FakeVm([CAP.READONLY_MEM], 3);
    const { pages, lines } = open(vm, smmus("auto", 2));
    expect([pages.count, [...vm.slots.keys()]]).toEqual([1, [0, 1]]);
    expect(lines.join()).toMatch(/s1: its registers cannot be read as memory, each read of them exits: .*KVM_SET_USER_MEMORY_REGION/);
    pages.close();
    expect(vm.slots.size).toBe(0);
    expect(() => open(new FakeVm([CAP.READONLY_MEM], 1), smmus(true))).toThrow("its registers cannot be read as memory");
  });
});

describe("a page that is shown", () => {
  it("reads as the registers do, whatever is written, and after a reset", () => {
    const rig = new Rig({ ...DEFAULT_PROPERTIES, ats: true });
    const page = new Int32Array(0x4000);
    rig.smmu.registers.show(page);
    const same = (): void => {
      for (let offset = 0; offset < 0x1000; offset += 4) {
        expect(page[offset / 4], `0x${offset.toString(16)}`).toBe(Number(BigInt.asIntN(32, rig.smmu.read(offset, 4))));
      }
    };
    same();
    let seed = 1;
    const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0);
    for (let n = 0; n < 400; n++) {
      rig.smmu.write((random() >>> 8) % 64 * 4, 4, BigInt(random()));
      if (n % 20 === 0) {
        same();
      }
    }
    // The bits of an index that count depend on the queue's size.
    rig.smmu.reset();
    rig.set(R.CMDQ_CONS, 0xfffff);
    rig.set(R.CMDQ_BASE, 4);
    same();
    rig.set(R.CMDQ_BASE, 8);
    same();
    rig.smmu.registers.show(null);
    rig.set(R.CMDQ_BASE, 5);
    expect(page[R.CMDQ_BASE / 4] & 0x1f).toBe(8);
  });

  it("has CMDQ_CONS of what was just done, and GERROR", () => {
    const rig = new Rig({});
    const page = new Int32Array(0x4000);
    rig.smmu.registers.show(page);
    rig.start(6, 4, 0xd);
    rig.submit([0x46n, 0n], [0x99n, 0n]);
    expect([page[R.CMDQ_CONS / 4], rig.cons]).toEqual([0x0100_0001, 1]);
    expect(page[R.GERROR / 4] & 1).toBe(1);
  });
});
