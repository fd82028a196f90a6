/** This process's memory that devices may reach: files in memory, so that KVM and iommufd take the same pages. */
import { HostError } from "../../iommufd/index.js";
import { sharedMemory, SystemError } from "../../linux/index.js";
import { type MakeMemory, RamBlock } from "../../memory/index.js";
import type { FileOf } from "./iommufd.js";

export class LinuxMemory {
  private readonly blocks = new Set<RamBlock>();

  constructor(private readonly make: MakeMemory = sharedMemory) {}

  /** @throws HostError ENOMEM */
  allocate(name: string, bytes: number): RamBlock {
    try {
      const backing = this.make(name, bytes);
      const block = new RamBlock(name, bytes, Number(backing.address), backing);
      this.blocks.add(block);
      return block;
    } catch (error) {
      throw error instanceof SystemError ? new HostError("mmap", "ENOMEM", `${bytes} bytes for ${name}: ${error.message}`) : error;
    }
  }

  free(block: RamBlock): void {
    if (this.blocks.delete(block)) {
      block.backing.release();
    }
  }

  freeAll(): void {
    [...this.blocks].forEach((block) => this.free(block));
  }

  /** The file that a range of this process's addresses is of. */
  readonly fileOf: FileOf = (address, length) => {
    for (const { hostAddress, size, backing } of this.blocks) {
      if (backing.fd !== null && address >= hostAddress && BigInt(address - hostAddress) + length <= BigInt(size)) {
        return { fd: backing.fd, offset: address - hostAddress };
      }
    }
    return null;
  };
}
