/** The interrupt remapping table (Intel VT-d 5.x, 5.1 and 9.10) as Linux's intel_irq_remapping.c uses it. */
import { deposit, pack } from "../../support/index.js";
import {
  GCMD,
  IRTA,
  IRTE,
  IRTE_BYTES,
  IRTE_WORDS,
  REG,
  REMAPPABLE_ADDRESS,
  REMAPPABLE_DATA,
  SVT_REQUESTER_ID,
} from "../../vtd/spec/index.js";
import { toQwords } from "../iommu/words.js";
import type { GuestMemory } from "../memory.js";
import type { InterruptRemapper } from "../messages.js";
import type { MsiMessage } from "../pci/msi.js";
import { type InvalidationQueue, descriptor } from "./invalidation-queue.js";
import type { VtdRegisters } from "./registers.js";

const ENTRIES = 0x1_0000;
/** IRTA.S: 2^(S + 1) entries. */
const SIZE = 15;
/** Where local APICs take messages. */
const MESSAGES = 0xfee0_0000;

export class InterruptTable implements InterruptRemapper {
  private readonly used = new Set<number>();

  private constructor(
    private readonly registers: VtdRegisters,
    private readonly memory: GuestMemory,
    private readonly queue: InvalidationQueue,
    readonly base: number,
    private readonly extended: boolean,
  ) {}

  static async create(registers: VtdRegisters, memory: GuestMemory, queue: InvalidationQueue, extended: boolean): Promise<InterruptTable> {
    return new InterruptTable(registers, memory, queue, await memory.allocateZeroed(ENTRIES * IRTE_BYTES), extended);
  }

  /** iommu_set_irq_remapping and iommu_enable_irq_remapping: the table, a global invalidation, IRE; messages in compatibility format are blocked. */
  async enable(invalidate: boolean): Promise<void> {
    const address = toQwords(pack(IRTA, new Int32Array(2), { ADDR: this.base, EIME: this.extended, S: SIZE }))[0];
    await this.registers.write64(REG.IRTA, address);
    await this.registers.command(GCMD.SIRTP, 1);
    if (invalidate) {
      await this.queue.submit([descriptor("INTERRUPT_ENTRY_CACHE")]);
    }
    await this.registers.command(GCMD.IRE, 1);
  }

  async takeMessage(requesterId: number, vector: number): Promise<{ readonly handle: number; readonly message: MsiMessage } | null> {
    const handle = this.free();
    if (handle === null) {
      return null;
    }
    this.used.add(handle);
    // Fixed delivery to the APIC with id 0, edge, from this requester alone.
    await this.write(handle, pack(IRTE, new Int32Array(IRTE_WORDS), { P: 1, V: vector, SVT: SVT_REQUESTER_ID, SID: requesterId }));
    let address = deposit(deposit(MESSAGES, REMAPPABLE_ADDRESS.FORMAT, 1), REMAPPABLE_ADDRESS.SHV, 1);
    address = deposit(deposit(address, REMAPPABLE_ADDRESS.HANDLE_14_0, handle & 0x7fff), REMAPPABLE_ADDRESS.HANDLE_15, handle >> 15);
    return { handle, message: { address: BigInt(address >>> 0), data: deposit(0, REMAPPABLE_DATA.SUBHANDLE, 0) } };
  }

  async releaseMessage(handle: number): Promise<void> {
    await this.write(handle, new Int32Array(IRTE_WORDS));
    this.used.delete(handle);
  }

  private free(): number | null {
    for (let handle = 0; handle < ENTRIES; handle++) {
      if (!this.used.has(handle)) {
        return handle;
      }
    }
    return null;
  }

  /** The half with P last, or first where it goes; then the entry is invalidated, which may be cached as not present too. */
  private async write(handle: number, entry: Int32Array): Promise<void> {
    const at = this.base + handle * IRTE_BYTES;
    const [low, high] = toQwords(entry);
    const halves = [
      [at + 8, high],
      [at, low],
    ] as const;
    for (const [address, value] of (low & 1n) === 1n ? halves : [...halves].reverse()) {
      await this.memory.write64(address, value);
    }
    await this.queue.submit([descriptor("INTERRUPT_ENTRY_CACHE", { G: 1, IIDX: handle })]);
  }
}

