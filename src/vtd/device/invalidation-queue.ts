import { type AddressSpace, DMA_OK, MEMORY_OK, type WordMemory } from "../../memory/index.js";
import { get, getAddress, hex, type Log, toBigInt } from "../../support/index.js";
import type { InvalidationTarget } from "./backend.js";
import { DESCRIPTOR_PROBLEMS, DescriptorRules, descriptorTypeName } from "./descriptor-rules.js";
import * as trace from "./trace.js";
import { EventMessage, type MessageSender } from "./event-message.js";
import type { FaultLog } from "./fault-log.js";
import type { RegisterFile } from "./register-file.js";
import {
  CAP,
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_TYPE,
  DESCRIPTOR_WORDS,
  descriptorType,
  FSTS,
  ICS,
  INTERRUPT_ENTRY_DESC,
  IOTLB_DESC,
  IQA,
  IQEI,
  PASID_CACHE_DESC,
  PASID_IOTLB_DESC,
  PASID_IOTLB_PAGE,
  REG,
  WAIT_DESC,
  WIDE_DESCRIPTOR_WORDS,
} from "../spec/index.js";

/** What the queue is made of. */
export interface QueueParts {
  readonly id: string;
  readonly registers: RegisterFile;
  readonly words: WordMemory;
  /** Where status writes of wait descriptors go. */
  readonly memory: AddressSpace;
  readonly faults: FaultLog;
  readonly target: InvalidationTarget;
  readonly send: MessageSender;
  readonly log: Log;
  /** Width of guest-physical addresses in bits. */
  readonly addressBits: number;
}

/** QEMU's names of the types in `vtd_inv_desc`. */
const TRACED_NAMES: Readonly<Record<number, string>> = {
  [DESCRIPTOR_TYPE.CONTEXT_CACHE]: "context-cache",
  [DESCRIPTOR_TYPE.IOTLB]: "iotlb",
  [DESCRIPTOR_TYPE.DEVICE_TLB]: "device",
  [DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE]: "iec",
  [DESCRIPTOR_TYPE.WAIT]: "wait",
  [DESCRIPTOR_TYPE.PASID_IOTLB]: "p-iotlb",
  [DESCRIPTOR_TYPE.PASID_CACHE]: "pasid-cache",
  [DESCRIPTOR_TYPE.PASID_DEVICE_TLB]: "device-piotlb",
  [DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE]: "page group response",
};

/** A DMA of the unit's own has no requester on any bus. */
const OWN_ACCESS = { requesterId: 0, pasid: -1, execute: false, privileged: false };

/**
 * Queued invalidation (Intel VT-d, 6.5.2). Descriptors are done in their order; PASID-based IOTLB
 * invalidations for the host are collected and sent before anything that has to be behind them, which a wait
 * descriptor, an entry invalidation and an error are.
 */
export class InvalidationQueue {
  /** Descriptors done, by type. */
  readonly consumed = new Int32Array(16);
  /** Queue errors signalled; batches sent to the host and descriptors in them. */
  errors = 0;
  flushes = 0;
  forwarded = 0;
  /** The queue grew while it was drained. */
  unfinished = false;
  readonly completion: EventMessage;

  private base = 0;
  private entries = 0;
  private shift = 4;
  private draining = false;
  private readonly rules: DescriptorRules;
  private readonly descriptor = new Int32Array(DESCRIPTOR_WORDS);
  /** The last four words of a descriptor of 256 bits, or-ed. */
  private upper = 0;
  private readonly status = new Uint8Array(4);
  /** Queue positions of the descriptors in the backend's batch. */
  private positions = new Int32Array(64);
  private batched = 0;

  constructor(private readonly parts: QueueParts) {
    this.rules = new DescriptorRules(parts.registers.cap, parts.registers.ecap);
    this.completion = new EventMessage(parts.registers, REG.IECTL, parts.send);
  }

  reset(): void {
    this.batched = 0;
    this.unfinished = false;
    this.entries = 0;
  }

  /** GCMD.QIE was set: the queue is where IQA says from now on. */
  enable(): void {
    const { registers, addressBits } = this.parts;
    const iqa = [registers.word(REG.IQA), registers.word(REG.IQA + 4)];
    const wide = get(iqa, IQA.DW) !== 0;
    this.base = getAddress(iqa, IQA.ADDR) % 2 ** addressBits;
    this.shift = wide ? 5 : 4;
    this.entries = 1 << (get(iqa, IQA.QS) + 12 - this.shift);
    if (trace.traceInvQiSetup.on) {
      trace.traceInvQiSetup.emit(this.base, this.entries);
    }
  }

  /** GCMD.QIE was cleared: IQH is 0 while there is no queue (11.4.8.1). */
  disable(): void {
    this.parts.registers.set(REG.IQH, 0);
    this.entries = 0;
  }

  /** Descriptors that wait. */
  get waiting(): boolean {
    const { registers } = this.parts;
    return registers.word(REG.IQH) !== registers.word(REG.IQT);
  }

  /** ICS was written: a completion that software has seen is not pending any more (6.5.2.10). */
  statusWritten(): void {
    if ((this.parts.registers.word(REG.ICS) & ICS.IWC.inPlace) === 0 && this.completion.settle() && trace.traceRegIcsClearIp.on) {
      trace.traceRegIcsClearIp.emit();
    }
  }

  /** Does what is in the queue. A call from within (a status write may hit the unit's own registers) leaves it to the outer one. */
  drain(): void {
    if (this.draining || this.entries === 0) {
      return;
    }
    this.draining = true;
    try {
      this.run();
    } finally {
      this.batched = 0;
      this.draining = false;
    }
  }

  private run(): void {
    const { registers, target } = this.parts;
    let budget = this.entries;
    let at = registers.word(REG.IQH) >>> this.shift;
    this.unfinished = false;
    const mode = target.tableMode;
    const unfit = this.rules.queueProblem(this.shift === 5, mode);
    if (trace.traceInvQiFetch.on && this.waiting) {
      trace.traceInvQiFetch.emit();
    }
    while (this.entries !== 0) {
      const iqt = registers.word(REG.IQT);
      const tail = iqt >>> this.shift;
      if ((registers.word(REG.FSTS) & FSTS.IQE.inPlace) !== 0) {
        // 6.5.2.11: nothing is fetched until software has cleared the error.
        break;
      }
      const aligned = (iqt & ((1 << this.shift) - 1)) === 0;
      if (tail >= this.entries || !aligned) {
        if (trace.traceWarnInvalidQiTail.on) {
          trace.traceWarnInvalidQiTail.emit(tail);
        }
        if (this.flush(at)) {
          const text = aligned ? `beyond a queue of ${this.entries} descriptors` : "not aligned for descriptors of 256 bits";
          this.fail(aligned ? IQEI.INVALID_TAIL : IQEI.UNALIGNED_TAIL, () => `IQT ${hex(iqt)} is ${text}`);
        }
        return;
      }
      if (at === tail) {
        break;
      }
      if (budget-- === 0) {
        this.unfinished = true;
        break;
      }
      if (trace.traceInvQiHead.on) {
        trace.traceInvQiHead.emit(at);
      }
      const descriptor = this.descriptor;
      if (!this.fetch(at)) {
        if (this.flush(at)) {
          this.fail(IQEI.FETCH, () => `the descriptor at ${hex(this.addressOf(at))} cannot be fetched`);
        }
        return;
      }
      const type = descriptorType(descriptor[0]);
      const problem = unfit !== 0 ? unfit : this.rules.problem(descriptor[0], descriptor[1], descriptor[2], descriptor[3], this.upper, type, mode);
      if (trace.traceInvDesc.on && TRACED_NAMES[type] !== undefined) {
        trace.traceInvDesc.emit(TRACED_NAMES[type], toBigInt(descriptor[3], descriptor[2]), toBigInt(descriptor[1], descriptor[0]));
      }
      if (problem !== 0) {
        const { iqei, text } = DESCRIPTOR_PROBLEMS[problem];
        if (this.flush(at)) {
          this.fail(iqei, () => `${descriptorTypeName(type)} descriptor ${this.describe(at)}: ${text}`);
        }
        return;
      }
      const next = at + 1 === this.entries ? 0 : at + 1;
      if (!this.execute(type, at, next)) {
        return;
      }
      this.consumed[type]++;
      at = next;
      if (target.backend !== null && target.backend.pending >= target.backend.capacity && !this.flush(at)) {
        return;
      }
    }
    if (this.flush(at)) {
      target.backend?.descriptorsDone();
    }
  }

  private addressOf(at: number): number {
    return this.base + at * (1 << this.shift);
  }

  /** Reads the descriptor at a queue position into `descriptor` and `upper`. False: nothing answers there. */
  private fetch(at: number): boolean {
    const { words } = this.parts;
    const { descriptor } = this;
    const wide = this.shift === 5;
    const address = this.addressOf(at);
    const offset = address - words.flatBase;
    if (offset >= 0 && offset + (1 << this.shift) <= words.flatBytes) {
      const { flat } = words;
      const word = offset / 4;
      descriptor[0] = flat[word];
      descriptor[1] = flat[word + 1];
      descriptor[2] = flat[word + 2];
      descriptor[3] = flat[word + 3];
      this.upper = wide ? flat[word + 4] | flat[word + 5] | flat[word + 6] | flat[word + 7] : 0;
      return true;
    }
    const high = Math.floor(address / 0x1_0000_0000);
    const low = address | 0;
    this.upper = 0;
    for (let i = 0; i < (wide ? WIDE_DESCRIPTOR_WORDS : DESCRIPTOR_WORDS); i += 2) {
      if (words.load64(high, low + 4 * i) !== MEMORY_OK) {
        return false;
      }
      if (i < DESCRIPTOR_WORDS) {
        descriptor[i] = words.loadedLow;
        descriptor[i + 1] = words.loadedHigh;
      } else {
        this.upper |= words.loadedLow | words.loadedHigh;
      }
    }
    return true;
  }

  /** Does a descriptor without mistakes. False: the queue has stopped with an error. */
  private execute(type: number, at: number, next: number): boolean {
    const { descriptor: d } = this;
    const { target } = this.parts;
    switch (type) {
      case DESCRIPTOR_TYPE.CONTEXT_CACHE:
        return this.flush(at) && this.bound(at, target.contextCache(get(d, CONTEXT_CACHE_DESC.G), get(d, CONTEXT_CACHE_DESC.DID), get(d, CONTEXT_CACHE_DESC.SID), get(d, CONTEXT_CACHE_DESC.FM)));
      case DESCRIPTOR_TYPE.PASID_CACHE:
        return this.flush(at) && this.bound(at, target.pasidCache(get(d, PASID_CACHE_DESC.G), get(d, PASID_CACHE_DESC.DID), get(d, PASID_CACHE_DESC.PASID)));
      case DESCRIPTOR_TYPE.IOTLB:
        return this.flush(at) && this.bound(at, target.iotlb(get(d, IOTLB_DESC.G), get(d, IOTLB_DESC.DID), d[3], d[2] & IOTLB_DESC.ADDR.lowMask, get(d, IOTLB_DESC.AM)));
      case DESCRIPTOR_TYPE.PASID_IOTLB:
        return this.pasidIotlb(at);
      case DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE:
        if (trace.traceInvDescIec.on) {
          trace.traceInvDescIec.emit(get(d, INTERRUPT_ENTRY_DESC.G), get(d, INTERRUPT_ENTRY_DESC.IIDX), get(d, INTERRUPT_ENTRY_DESC.IM));
        }
        target.interruptEntries(get(d, INTERRUPT_ENTRY_DESC.G) === 0 ? -1 : get(d, INTERRUPT_ENTRY_DESC.IIDX), get(d, INTERRUPT_ENTRY_DESC.IM));
        return true;
      case DESCRIPTOR_TYPE.WAIT:
        return this.flush(at) && this.mayComplete(at) && this.wait(at, next);
      default:
        // Device-TLB invalidations: the host's kernel does them with the IOTLB's, and no emulated function caches
        // translations. Page group responses: no page request is outstanding, since nothing here makes any.
        return true;
    }
  }

  private bound(at: number, done: boolean): boolean {
    if (!done) {
      this.place(at);
      this.fail(IQEI.NONE, () => `${this.describe(at)}: the host did not take what the tables say`);
    }
    return done;
  }

  private pasidIotlb(at: number): boolean {
    const { descriptor: d } = this;
    const { target, registers } = this.parts;
    const domain = get(d, PASID_IOTLB_DESC.DID);
    const pasid = get(d, PASID_IOTLB_DESC.PASID);
    const leaf = get(d, PASID_IOTLB_DESC.IH) !== 0;
    const low = d[2] & PASID_IOTLB_DESC.ADDR.lowMask;
    let addressMask = get(d, PASID_IOTLB_DESC.G) === PASID_IOTLB_PAGE ? get(d, PASID_IOTLB_DESC.AM) : -1;
    if (addressMask > get(registers.cap, CAP.MAMV)) {
      // Larger than CAP.MAMV allows: more than was asked for is always right.
      addressMask = -1;
    }
    if (addressMask < 0) {
      if (trace.traceInvDescIotlbPasid.on) {
        trace.traceInvDescIotlbPasid.emit(domain, pasid);
      }
    } else if (trace.traceInvDescIotlbPasidPages.on) {
      trace.traceInvDescIotlbPasidPages.emit(domain, toBigInt(d[3], low), addressMask, pasid);
    }
    if (!target.pasidIotlb(domain, pasid, d[3], low, addressMask)) {
      return this.flush(at) && this.bound(at, false);
    }
    if (target.backend?.forwardPasidIotlb(domain, pasid, d[3], low, addressMask, leaf) === true) {
      this.remember(at);
    }
    return true;
  }

  private remember(at: number): void {
    if (this.batched === this.positions.length) {
      const larger = new Int32Array(this.batched * 2);
      larger.set(this.positions);
      this.positions = larger;
    }
    this.positions[this.batched++] = at;
  }

  /** Sends the batch; then all before `next` is done. False: the host refused one, and IQH is at it. */
  private flush(next: number): boolean {
    const { backend } = this.parts.target;
    if (this.batched > 0 && backend !== null) {
      const count = this.batched;
      this.batched = 0;
      const failed = backend.flush();
      this.flushes++;
      this.forwarded += failed < 0 ? count : failed;
      if (failed >= 0) {
        const at = this.positions[Math.min(failed, count - 1)];
        // The ones from there on are done again.
        for (let again = at; again !== next; again = again + 1 === this.entries ? 0 : again + 1) {
          if (this.fetch(again)) {
            this.consumed[descriptorType(this.descriptor[0]) & 15]--;
          }
        }
        this.place(at);
        this.fail(IQEI.NONE, () => `the host refused the PASID-based IOTLB descriptor ${this.describe(at)}`);
        return false;
      }
    }
    this.place(next);
    return true;
  }

  private place(at: number): void {
    this.parts.registers.set(REG.IQH, at << this.shift);
  }

  /** Whether everything before a wait descriptor is done. False: the queue stops at it, for a while or with an error. */
  private mayComplete(at: number): boolean {
    switch (this.parts.target.backend?.progress) {
      case "working":
        this.unfinished = true;
        return false;
      case "refused":
        this.fail(IQEI.NONE, () => `${this.describe(at)}: the host does not take a function off tables that may be stale`);
        return false;
      default:
        return true;
    }
  }

  /** 6.5.2.9: everything before it is done; then the status write, and the completion event. */
  private wait(at: number, next: number): boolean {
    const { descriptor: d, status } = this;
    const { memory } = this.parts;
    const interrupt = get(d, WAIT_DESC.IF) !== 0;
    if (get(d, WAIT_DESC.SW) !== 0) {
      const address = getAddress(d, WAIT_DESC.ADDR) % 2 ** this.parts.addressBits;
      const data = d[1];
      if (trace.traceInvDescWaitSw.on) {
        trace.traceInvDescWaitSw.emit(address, data);
      }
      new DataView(status.buffer).setInt32(0, data, true);
      if (memory.writeBytes(address, status, OWN_ACCESS) !== DMA_OK) {
        if (trace.traceInvDescWaitWriteFail.on) {
          trace.traceInvDescWaitWriteFail.emit(toBigInt(d[3], d[2]), toBigInt(d[1], d[0]));
        }
        this.fail(IQEI.NONE, () => `wait descriptor ${this.describe(at)}: its status cannot be written to ${hex(address)}`);
        return false;
      }
    }
    // What software then reads of IQH has the wait descriptor behind it.
    this.place(next);
    if (interrupt) {
      this.complete();
    }
    return true;
  }

  private complete(): void {
    const { registers } = this.parts;
    if ((registers.word(REG.ICS) & ICS.IWC.inPlace) !== 0) {
      // Software has not seen the one before: not a new condition (6.5.2.10).
      if (trace.traceInvDescWaitIrq.on) {
        trace.traceInvDescWaitIrq.emit("One pending, skip current");
      }
      return;
    }
    registers.set(REG.ICS, registers.word(REG.ICS) | ICS.IWC.inPlace);
    if (trace.traceInvDescWaitIrq.on) {
      trace.traceInvDescWaitIrq.emit(this.completion.masked ? "IM in IECTL_REG is set, new event not generated" : "Generating complete event");
    }
    this.completion.raise();
  }

  private fail(reason: number, text: () => string): void {
    this.errors++;
    this.parts.log.guestError("vtd.invalidation-queue", () => `${this.parts.id}: invalidation queue error: ${text()}`);
    this.parts.faults.queueError(reason);
  }

  /** `5 at 0x12050 (00000015 00000000 ...)`, of the upper half its or-ed words: for the log. */
  private describe(at: number): string {
    const known = this.fetch(at);
    const words = [...this.descriptor, ...(this.upper === 0 ? [] : [this.upper])];
    return `${at} at ${hex(this.addressOf(at))}${known ? ` (${words.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join(" ")})` : ""}`;
  }
}
