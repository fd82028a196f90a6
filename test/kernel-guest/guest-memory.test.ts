import { expect, it } from "vitest";
import { MemorySlots } from "../../src/kernel-guest/guest-memory.js";
import type { KvmVm } from "../../src/kvm/index.js";
import { SystemError } from "../../src/linux/index.js";
import type { AddressSpace, MemorySection } from "../../src/memory/index.js";
import { Log } from "../../src/support/index.js";

it("a slot that KVM refuses ends what needs it, and is a warning where the guest has only moved something", () => {
  const log = new Log();
  const vm = {
    addSlot: () => {
      throw new SystemError("ioctl(KVM_SET_USER_MEMORY_REGION)", 12);
    },
    removeSlot: () => expect.fail("no slot was made"),
  } as unknown as KvmVm;
  const slots = new MemorySlots(vm, { addListener: () => {} } as unknown as AddressSpace, log);
  const section = { region: { name: "ram", kind: "ram", ram: { backing: { address: 0x10000n } }, ramOffset: 0 }, address: 0x4000_0000, size: 0x1000, offset: 0 } as unknown as MemorySection;
  expect(() => slots.add(section, true)).toThrow("ENOMEM");
  slots.add(section, false);
  slots.remove(section);
  expect(log.lines.map(({ text }) => text)).toEqual([expect.stringMatching(/^kvm: ioctl\(KVM_SET_USER_MEMORY_REGION\): ENOMEM .*: ram at 0x40000000 is no memory slot/)]);
});
