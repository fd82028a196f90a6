/** A machine's memory as KVM wants it: memory slots (linux's sharedMemory) that follow what the machine's address space shows. */
import type { KvmVm } from "../kvm/index.js";
import { SystemError } from "../linux/index.js";
import type { AddressSpace, MemoryListener, MemorySection } from "../memory/index.js";
import { hex, type Log } from "../support/index.js";

const PAGE = 4096;

/** Keeps a machine's memory slots what its address space shows. */
export class MemorySlots implements MemoryListener {
  private readonly slots = new Map<string, number>();

  /** @throws SystemError where the kernel takes one of them not */
  constructor(
    private readonly vm: KvmVm,
    private readonly space: AddressSpace,
    private readonly log: Log,
  ) {
    space.addListener(this);
  }

  add({ region, address, size, offset }: MemorySection, required: boolean): void {
    const base = region.device?.address ?? region.ram?.backing.address ?? null;
    const from = region.ramOffset + offset;
    // Less than a page cannot be a slot: each access exits and is answered by the address space.
    if (base !== null && [address, size, from].every((value) => value % PAGE === 0)) {
      try {
        const slot = this.vm.addSlot({ guestAddress: address, bytes: size, userAddress: base + BigInt(from), readOnly: region.kind === "rom" });
        this.slots.set(`${address} ${size}`, slot);
      } catch (error) {
        if (required || !(error instanceof SystemError)) {
          throw error;
        }
        this.log.warn(`kvm: ${error.message}: ${region.name} at ${hex(address)} is no memory slot, each access to it exits`);
      }
    }
  }

  remove({ address, size }: MemorySection): void {
    const slot = this.slots.get(`${address} ${size}`);
    if (slot !== undefined) {
      this.slots.delete(`${address} ${size}`);
      this.vm.removeSlot(slot);
    }
  }

  /** Before the machine of KVM is closed: what changes later is another's. */
  close(): void {
    this.slots.clear();
    this.space.removeListener(this);
  }
}
