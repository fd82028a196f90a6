/**
 * A machine's memory as KVM wants it: each block of RAM is a file in memory, mapped once by this process, whose pages
 * the models see by views and the kernel by memory slots. Slots follow what the machine's address space shows.
 */
import type { KvmVm } from "../kvm/index.js";
import { closeFd, map, memoryFile, SystemError, vacate, viewOf } from "../linux/index.js";
import type { AddressSpace, MemoryListener, MemorySection, RamBacking } from "../memory/index.js";
import { hex, type Log } from "../support/index.js";

/** MakeMemory of a host whose machine has vCPUs. @throws SystemError where there is no memory */
export function sharedMemory(name: string, bytes: number): RamBacking {
  const fd = memoryFile(name, bytes);
  try {
    const mapping = map(fd, bytes);
    return {
      fd,
      address: mapping.address,
      window: (offset, length) => viewOf(mapping, offset, length),
      release: () => {
        vacate(mapping);
        closeFd(fd);
      },
    };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

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
    const base = region.ram?.backing.address ?? null;
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
