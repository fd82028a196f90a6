/**
 * The invalidation queue's producer (Intel VT-d 5.x, 6.5.2): descriptors of 128 bits, of 256 in scalable mode,
 * each batch ended by a wait descriptor that writes its status, and what Linux's qi_check_fault does with errors.
 */
import { extract, get, pack, put, type FieldValues, type Layout } from "../../support/index.js";
import {
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_TYPE,
  DESCRIPTOR_TYPE_HIGH,
  DESCRIPTOR_TYPE_LOW,
  DESCRIPTOR_WORDS,
  DEVICE_TLB_DESC,
  FSTS,
  GCMD,
  INTERRUPT_ENTRY_DESC,
  IOTLB_DESC,
  IQA,
  IQERCD,
  IQ_POINTER_MASK,
  PASID_CACHE_DESC,
  PASID_DEVICE_TLB_DESC,
  PASID_IOTLB_DESC,
  REG,
  WAIT_DESC,
  WIDE_DESCRIPTOR_WORDS,
  descriptorType,
} from "../../vtd/spec/index.js";
import { GuestFailure } from "../failure.js";
import type { InterruptController } from "../interrupts.js";
import type { GuestMemory } from "../memory.js";
import { fromQword } from "../iommu/words.js";
import type { VtdRegisters } from "./registers.js";

const ENTRIES = 256;
/** What a wait descriptor writes when it is done (Linux: QI_DONE). */
const DONE = 2;
/** Descriptors that Linux puts into one batch at most. */
const BATCH = 16;
const ERRORS = FSTS.IQE.inPlace | FSTS.ITE.inPlace | FSTS.ICE.inPlace;

const LAYOUTS = {
  CONTEXT_CACHE: CONTEXT_CACHE_DESC,
  IOTLB: IOTLB_DESC,
  DEVICE_TLB: DEVICE_TLB_DESC,
  INTERRUPT_ENTRY_CACHE: INTERRUPT_ENTRY_DESC,
  WAIT: WAIT_DESC,
  PASID_IOTLB: PASID_IOTLB_DESC,
  PASID_CACHE: PASID_CACHE_DESC,
  PASID_DEVICE_TLB: PASID_DEVICE_TLB_DESC,
} as const;

export type DescriptorKind = keyof typeof LAYOUTS;

/** The four words of a descriptor. */
export function descriptor<K extends DescriptorKind>(kind: K, values: FieldValues<(typeof LAYOUTS)[K]> = {}): Int32Array {
  const out = pack(LAYOUTS[kind] as Layout, new Int32Array(DESCRIPTOR_WORDS), values as FieldValues<Layout>);
  const type = DESCRIPTOR_TYPE[kind];
  put(out, DESCRIPTOR_TYPE_LOW, type & 0xf);
  put(out, DESCRIPTOR_TYPE_HIGH, type >> 4);
  return out;
}

const kindOf = (type: number): string => Object.entries(DESCRIPTOR_TYPE).find(([, value]) => value === type)?.[0] ?? `type ${type}`;

export class InvalidationQueue {
  private tail = 0;
  private readonly wide: boolean;
  private readonly entryBytes: number;
  /** Descriptors issued so far by type. */
  readonly issued = new Map<number, number>();
  /** Called for each descriptor that is put into the queue, in order. */
  onDescriptor: ((words: Int32Array) => void) | null = null;
  /** Errors that the queue stopped with and was taken over. */
  readonly errors: Array<{ readonly fsts: number; readonly reason: number; readonly descriptor: string }> = [];

  private constructor(
    private readonly registers: VtdRegisters,
    private readonly memory: GuestMemory,
    private readonly interrupts: InterruptController,
    readonly base: number,
    private readonly statusPage: number,
    wide: boolean,
  ) {
    this.wide = wide;
    this.entryBytes = (wide ? WIDE_DESCRIPTOR_WORDS : DESCRIPTOR_WORDS) * 4;
  }

  /** Makes the queue's memory; `wide`: of descriptors of 256 bits. */
  static async create(registers: VtdRegisters, memory: GuestMemory, interrupts: InterruptController, wide: boolean): Promise<InvalidationQueue> {
    const base = await memory.allocateZeroed(ENTRIES * (wide ? WIDE_DESCRIPTOR_WORDS : DESCRIPTOR_WORDS) * 4);
    return new InvalidationQueue(registers, memory, interrupts, base, await memory.allocateZeroed(ENTRIES * 4), wide);
  }

  /** __dmar_enable_qi: the tail to 0, the queue's address, QIE. */
  async enable(): Promise<void> {
    await this.registers.write32(REG.IQT, 0);
    const address = pack(IQA, new Int32Array(2), { ADDR: this.base, DW: this.wide, QS: this.wide ? 1 : 0 });
    await this.registers.write64(REG.IQA, (BigInt(address[1] >>> 0) << 32n) | BigInt(address[0] >>> 0));
    await this.registers.command(GCMD.QIE, 1);
  }

  /** dmar_disable_qi, for a queue that was found enabled: waits until it is empty, then takes it away. */
  static async disable(registers: VtdRegisters): Promise<void> {
    for (let i = 0; i < 1000 && (await registers.read32(REG.IQT)) !== (await registers.read32(REG.IQH)); i++) {
      // The other kernel's descriptors come to their end.
    }
    await registers.command(GCMD.QIE, 0);
  }

  /** Descriptors in batches, each followed by a wait descriptor that is awaited. Throws GuestFailure where it does not end. */
  async submit(descriptors: readonly Int32Array[]): Promise<void> {
    for (let from = 0; from < descriptors.length; from += BATCH) {
      await this.run(descriptors.slice(from, from + BATCH));
    }
  }

  /** Descriptors as they are, valid or not, in one batch with a wait descriptor. */
  async run(descriptors: readonly Int32Array[]): Promise<void> {
    const waitAt = (this.tail + descriptors.length) % ENTRIES;
    const status = this.statusPage + waitAt * 4;
    await this.memory.writeWords(status, Int32Array.of(1));
    const wait = descriptor("WAIT", { SW: 1, DATA: DONE, ADDR: status });
    for (const one of [...descriptors, wait]) {
      const slot = new Int32Array(this.entryBytes / 4);
      slot.set(one);
      await this.memory.writeWords(this.base + this.tail * this.entryBytes, slot);
      this.tail = (this.tail + 1) % ENTRIES;
      const type = descriptorType(one[0]);
      this.issued.set(type, (this.issued.get(type) ?? 0) + 1);
      this.onDescriptor?.(one);
    }
    await this.registers.write32(REG.IQT, this.tail * this.entryBytes);
    const errorsBefore = this.errors.length;
    const ended = async (): Promise<boolean> => (await this.memory.readWords(status, 1))[0] === DONE;
    const done = async (): Promise<boolean> => {
      // A queue that stops at each descriptor, the wait descriptors in their places among them, does not go on.
      if ((await ended()) || this.errors.length - errorsBefore > descriptors.length) {
        return true;
      }
      await this.takeError(wait);
      return false;
    };
    if (!(await done())) {
      await this.interrupts.waitFor(done, 200);
    }
    if (!(await ended())) {
      const [head, tail] = [await this.registers.read32(REG.IQH), await this.registers.read32(REG.IQT)];
      throw new GuestFailure(`${this.registers.name}: the wait descriptor does not end [IQH 0x${head.toString(16)}, IQT 0x${tail.toString(16)}${this.errors.length > errorsBefore ? `, error ${this.errors[errorsBefore].reason} at ${this.errors[errorsBefore].descriptor}` : ""}]`);
    }
  }

  /** Errors of the queue (6.5.2.10): an invalid descriptor becomes a wait descriptor, and the queue goes on. Returns whether there was one. */
  private async takeError(wait: Int32Array): Promise<boolean> {
    const fsts = (await this.registers.read32(REG.FSTS)) & ERRORS;
    if (fsts === 0) {
      return false;
    }
    const at = (await this.registers.read32(REG.IQH)) & IQ_POINTER_MASK;
    const stopped = await this.memory.readWords(this.base + at, DESCRIPTOR_WORDS);
    const reason = get(fromQword(await this.registers.read64(REG.IQERCD)), IQERCD.IQEI);
    this.errors.push({ fsts, reason, descriptor: kindOf(descriptorType(stopped[0])) });
    if (extract(fsts, FSTS.IQE) === 1) {
      await this.memory.writeWords(this.base + at, wait);
    }
    await this.registers.write32(REG.FSTS, fsts);
    return true;
  }
}

/** Address and S of a device-TLB invalidation: the range's size is in the low bits of the address (PCIe 6.0, 10.2.3.2). */
export function deviceTlbRange(start: bigint, order: number): { readonly ADDR: bigint; readonly S: number } {
  return order === 0 ? { ADDR: start, S: 0 } : { ADDR: BigInt.asUintN(64, start | ((1n << BigInt(11 + order)) - 1n)) & ~0xfffn, S: 1 };
}

