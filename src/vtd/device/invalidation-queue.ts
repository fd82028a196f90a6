import { type AddressSpace, DMA_OK, type WordMemory } from "../../memory/index.js";
import { Budget, HOST_CALL_STEPS, NEXT, QueueDrain, type Scheduler, type StepResult, STOPPED, WAITING } from "../../nesting/index.js";
import { get, getAddress, hex, type Log, toBigInt } from "../../support/index.js";
import type { InvalidationTarget } from "./backend.js";
import { DESCRIPTOR_PROBLEMS, DescriptorRules, descriptorTypeName } from "../lookup/index.js";
import { traceDescriptor } from "./queue-trace.js";
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
  readonly scheduler: Scheduler;
  readonly stepsAtOnce: number;
}

/** A DMA of the unit's own has no requester on any bus. */
const OWN_ACCESS = { requesterId: 0, pasid: -1, execute: false, privileged: false };

/**
 * Queued invalidation (Intel VT-d, 6.5.2). Descriptors are done in their order; PASID-based IOTLB
 * invalidations for the host are collected and sent before anything that has to be behind them, which a wait
 * descriptor, an entry invalidation and an error are.
 */
export class InvalidationQueue extends QueueDrain {
  /** Queue errors signalled. */
  errors = 0;
  readonly completion: EventMessage;

  private readonly rules: DescriptorRules;
  /** The last four words of a descriptor of 256 bits, or-ed. */
  private upper = 0;
  private readonly status = new Uint8Array(4);
  /** Of the drain under way: RTADDR.TTM, and why the queue itself does not fit it (0: it does). */
  private mode = 0;
  private unfit = 0;
  /** Steps of the backend's that are charged to this drain. */
  private charged = 0;

  constructor(private readonly parts: QueueParts) {
    super(parts.words, parts.scheduler, new Budget(parts.stepsAtOnce));
    this.rules = new DescriptorRules(parts.registers.cap, parts.registers.ecap);
    this.completion = new EventMessage(parts.registers, REG.IECTL, parts.send);
  }

  reset(): void {
    this.forget();
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
    this.mask = this.entries - 1;
    if (trace.traceInvQiSetup.on) {
      trace.traceInvQiSetup.emit(this.base, this.entries);
    }
  }

  /** GCMD.QIE was cleared: IQH is 0 while there is no queue (11.4.8.1). */
  disable(): void {
    this.parts.registers.set(REG.IQH, 0);
    this.reset();
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

  protected get pending(): number {
    return this.parts.target.backend?.pending ?? 0;
  }

  protected get capacity(): number {
    return this.parts.target.backend?.capacity ?? 1;
  }

  protected get ready(): boolean {
    return this.entries !== 0;
  }

  protected begin(): number {
    const { registers, target } = this.parts;
    this.charged = target.backend?.stepsTaken ?? 0;
    this.mode = target.tableMode;
    this.unfit = this.rules.queueProblem(this.shift === 5, this.mode);
    if (trace.traceInvQiFetch.on && this.waiting) {
      trace.traceInvQiFetch.emit();
    }
    return registers.word(REG.IQH) >>> this.shift;
  }

  protected waits(at: number): boolean {
    const { registers } = this.parts;
    // 6.5.2.11: nothing is fetched until software has cleared the error.
    return this.entries !== 0 && (registers.word(REG.FSTS) & FSTS.IQE.inPlace) === 0 && registers.word(REG.IQT) !== at << this.shift;
  }

  protected step(at: number, next: number): StepResult {
    const iqt = this.parts.registers.word(REG.IQT);
    const tail = iqt >>> this.shift;
    const aligned = (iqt & ((1 << this.shift) - 1)) === 0;
    if (tail >= this.entries || !aligned) {
      if (trace.traceWarnInvalidQiTail.on) {
        trace.traceWarnInvalidQiTail.emit(tail);
      }
      const text = aligned ? `beyond a queue of ${this.entries} descriptors` : "not aligned for descriptors of 256 bits";
      return this.failBehindBatch(at, aligned ? IQEI.INVALID_TAIL : IQEI.UNALIGNED_TAIL, () => `IQT ${hex(iqt)} is ${text}`);
    }
    if (trace.traceInvQiHead.on) {
      trace.traceInvQiHead.emit(at);
    }
    const d = this.entry;
    if (!this.fetch(at)) {
      return this.failBehindBatch(at, IQEI.FETCH, () => `the descriptor at ${hex(this.addressOf(at))} cannot be fetched`);
    }
    this.upper = this.shift === 5 ? d[4] | d[5] | d[6] | d[7] : 0;
    const type = (this.kind = descriptorType(d[0]));
    const problem = this.unfit !== 0 ? this.unfit : this.rules.problem(d[0], d[1], d[2], d[3], this.upper, type, this.mode);
    if (trace.traceInvDesc.on) {
      traceDescriptor(type, d);
    }
    if (problem !== 0) {
      const { iqei, text } = DESCRIPTOR_PROBLEMS[problem];
      return this.failBehindBatch(at, iqei, () => `${descriptorTypeName(type)} descriptor ${this.describe(at)}: ${text}`);
    }
    return this.execute(type, at, next);
  }

  /** Does a descriptor without mistakes. */
  private execute(type: number, at: number, next: number): StepResult {
    const { entry: d } = this;
    const { target } = this.parts;
    switch (type) {
      case DESCRIPTOR_TYPE.CONTEXT_CACHE:
        return this.flush(at)
          ? this.bound(at, target.contextCache(get(d, CONTEXT_CACHE_DESC.G), get(d, CONTEXT_CACHE_DESC.DID), get(d, CONTEXT_CACHE_DESC.SID), get(d, CONTEXT_CACHE_DESC.FM)))
          : STOPPED;
      case DESCRIPTOR_TYPE.PASID_CACHE:
        return this.flush(at) ? this.bound(at, target.pasidCache(get(d, PASID_CACHE_DESC.G), get(d, PASID_CACHE_DESC.DID), get(d, PASID_CACHE_DESC.PASID))) : STOPPED;
      case DESCRIPTOR_TYPE.IOTLB:
        return this.flush(at)
          ? this.bound(at, target.iotlb(get(d, IOTLB_DESC.G), get(d, IOTLB_DESC.DID), d[3], d[2] & IOTLB_DESC.ADDR.lowMask, get(d, IOTLB_DESC.AM)))
          : STOPPED;
      case DESCRIPTOR_TYPE.PASID_IOTLB:
        return this.pasidIotlb(at);
      case DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE:
        if (trace.traceInvDescIec.on) {
          trace.traceInvDescIec.emit(get(d, INTERRUPT_ENTRY_DESC.G), get(d, INTERRUPT_ENTRY_DESC.IIDX), get(d, INTERRUPT_ENTRY_DESC.IM));
        }
        target.interruptEntries(get(d, INTERRUPT_ENTRY_DESC.G) === 0 ? -1 : get(d, INTERRUPT_ENTRY_DESC.IIDX), get(d, INTERRUPT_ENTRY_DESC.IM));
        return NEXT;
      case DESCRIPTOR_TYPE.WAIT:
        return this.flush(at) ? this.wait(at, next) : STOPPED;
      default:
        // Device-TLB invalidations: the host's kernel does them with the IOTLB's, and no emulated function caches
        // translations. Page group responses: no page request is outstanding, since nothing here makes any.
        return NEXT;
    }
  }

  private bound(at: number, done: boolean): StepResult {
    this.charge();
    if (done) {
      return NEXT;
    }
    this.place(at);
    return this.fail(IQEI.NONE, () => `${this.describe(at)}: the host did not take what the tables say`);
  }

  /** What the backend has done counts: calls to the host, and tables of the guest that were read for them. */
  private charge(): void {
    const { backend } = this.parts.target;
    if (backend !== null) {
      this.budget.left -= HOST_CALL_STEPS + backend.stepsTaken - this.charged;
      this.charged = backend.stepsTaken;
    }
  }

  private pasidIotlb(at: number): StepResult {
    const { entry: d } = this;
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
      return this.flush(at) ? this.bound(at, false) : STOPPED;
    }
    target.backend?.forwardPasidIotlb(domain, pasid, d[3], low, addressMask, leaf);
    return NEXT;
  }

  protected send(): number {
    const failed = this.parts.target.backend!.flush();
    this.charge();
    return failed;
  }

  protected refused(at: number): void {
    this.fail(IQEI.NONE, () => `the host refused the PASID-based IOTLB descriptor ${this.describe(at)}`);
  }

  protected ended(): void {
    this.parts.target.backend?.descriptorsDone();
  }

  /** What is batched is older than the descriptor that failed: its failure comes first. */
  private failBehindBatch(at: number, reason: number, text: () => string): StepResult {
    return this.flush(at) ? this.fail(reason, text) : STOPPED;
  }

  protected place(at: number): void {
    this.parts.registers.set(REG.IQH, at << this.shift);
  }

  /** 6.5.2.9: everything before it is done; then the status write, and the completion event. */
  private wait(at: number, next: number): StepResult {
    const { entry: d, status } = this;
    const { memory } = this.parts;
    switch (this.parts.target.backend?.progress) {
      case "working":
        return WAITING;
      case "refused":
        return this.fail(IQEI.NONE, () => `${this.describe(at)}: the host does not take a function off tables that may be stale`);
    }
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
        return this.fail(IQEI.NONE, () => `wait descriptor ${this.describe(at)}: its status cannot be written to ${hex(address)}`);
      }
    }
    // What software then reads of IQH has the wait descriptor behind it.
    this.place(next);
    if (interrupt) {
      this.complete();
    }
    return NEXT;
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

  private fail(reason: number, text: () => string): StepResult {
    this.errors++;
    this.parts.log.guestError("vtd.invalidation-queue", () => `${this.parts.id}: invalidation queue error: ${text()}`);
    this.parts.faults.queueError(reason);
    return STOPPED;
  }

  /** `5 at 0x12050 (00000015 00000000 ...)`, of the upper half its or-ed words: for the log. */
  private describe(at: number): string {
    const known = this.fetch(at);
    const words = [...this.entry.subarray(0, DESCRIPTOR_WORDS), ...(this.upper === 0 ? [] : [this.upper])];
    return `${at} at ${hex(this.addressOf(at))}${known ? ` (${words.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join(" ")})` : ""}`;
  }
}
