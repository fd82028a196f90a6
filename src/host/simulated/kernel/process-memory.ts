import type { RamBlock } from "../../../memory/index.js";
import type { HostMemory } from "./hardware-port.js";

/**
 * The process's memory as the kernel sees it. Pages that an IOAS has pinned outlive the process's own
 * hold on them: a block that is freed while it is mapped for DMA goes back when the last pin is gone.
 */
export class ProcessMemory {
  private readonly blocks: RamBlock[] = [];
  private readonly pins = new Map<RamBlock, number>();

  constructor(private readonly memory: HostMemory) {}

  allocate(name: string, bytes: number): RamBlock {
    const block = this.memory.allocate(name, bytes);
    this.blocks.push(block);
    return block;
  }

  free(block: RamBlock): void {
    const index = this.blocks.indexOf(block);
    if (index < 0) {
      throw new RangeError(`RAM block ${block.name} is not of this host`);
    }
    this.blocks.splice(index, 1);
    if (!this.pins.has(block)) {
      this.memory.free(block);
    }
  }

  freeAll(): void {
    for (const block of [...this.blocks]) {
      this.free(block);
    }
  }

  /**
   * Pins the pages of a range of the process's addresses (bytes; the kernel pins one to one, so these are
   * HPAs). Returns the blocks, for `unpin`, or null where the process has no memory there (EFAULT).
   */
  pin(address: number, length: number): RamBlock[] | null {
    const found: RamBlock[] = [];
    const end = address + length;
    for (let at = address; at < end; ) {
      const block = this.blocks.find((b) => at >= b.hostAddress && at < b.hostAddress + b.size);
      if (block === undefined) {
        return null;
      }
      found.push(block);
      at = block.hostAddress + block.size;
    }
    for (const block of found) {
      this.pins.set(block, (this.pins.get(block) ?? 0) + 1);
    }
    return found;
  }

  unpin(blocks: readonly RamBlock[]): void {
    for (const block of blocks) {
      const count = this.pins.get(block)! - 1;
      if (count > 0) {
        this.pins.set(block, count);
      } else {
        this.pins.delete(block);
        if (!this.blocks.includes(block)) {
          this.memory.free(block);
        }
      }
    }
  }
}
