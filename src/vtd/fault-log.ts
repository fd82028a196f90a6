import { deposit, extract, get, hex, type Log, put, toBigInt } from "../support/index.js";
import { traceDmarFault, traceFrrNew, traceFstsClearIp, traceFstsPpf } from "./device-trace.js";
import { EventMessage, type MessageSender } from "./event-message.js";
import type { RegisterFile } from "./register-file.js";
import { FAULT_RECORD_BYTES, FAULT_RECORD_WORDS, faultName, FRCD, FSTS, IQERCD, REG } from "./spec/index.js";

/** A request that could not be served, as a fault record tells of it (Intel VT-d, 11.4.7.6). */
export interface FaultRecord {
  /** FAULT of the spec. */
  readonly reason: number;
  readonly sourceId: number;
  /** The request's address as two words; for an interrupt its index in bits 63:48. */
  readonly addressHigh: number;
  readonly addressLow: number;
  readonly isWrite: boolean;
  /** -1: the request had none. */
  readonly pasid: number;
  readonly execute?: boolean;
  readonly privileged?: boolean;
  /** 0 untranslated, 1 translation request, 2 translated. */
  readonly addressType?: number;
}

/** Fault status, recording registers and the fault event (7.2, 7.3, 11.4.7). */
export class FaultLog {
  /** Records made, by reason too, and faults that found no room or were one of a source that has one pending. */
  recorded = 0;
  lost = 0;
  collapsed = 0;
  readonly byReason = new Int32Array(256);
  readonly event: EventMessage;
  private next = 0;
  private readonly record4 = new Int32Array(FAULT_RECORD_WORDS);

  constructor(
    private readonly id: string,
    private readonly registers: RegisterFile,
    send: MessageSender,
    private readonly log: Log,
  ) {
    this.event = new EventMessage(registers, REG.FECTL, send);
  }

  reset(): void {
    this.next = 0;
  }

  /** Records a fault, or loses it: 7.2.1 says when. */
  record(fault: FaultRecord): void {
    const { registers } = this;
    const address = toBigInt(fault.addressHigh, fault.addressLow);
    if (traceDmarFault.on) {
      traceDmarFault.emit(fault.sourceId, fault.reason, address, fault.isWrite ? 1 : 0);
    }
    this.byReason[fault.reason]++;
    this.log.guestError(
      "vtd.fault",
      () =>
        `${this.id}: ${faultName(fault.reason)} (${hex(fault.reason)}): ${fault.isWrite ? "write" : "read"} of ${hex(address)} by source id ${hex(fault.sourceId)}` +
        (fault.pasid < 0 ? "" : `, PASID ${hex(fault.pasid)}`),
    );
    const status = registers.word(REG.FSTS);
    if ((status & FSTS.PFO.inPlace) !== 0) {
      this.lost++;
      return;
    }
    // A source that has a fault pending may have the others collapsed into it.
    for (let n = 0; n < registers.faultRecords; n++) {
      if (this.isPending(n) && extract(registers.word(this.place(n) + 8), FRCD.SID) === fault.sourceId) {
        this.collapsed++;
        return;
      }
    }
    const at = this.next;
    if (this.isPending(at)) {
      this.lost++;
      this.raise(FSTS.PFO.inPlace);
      return;
    }
    this.write(at, fault);
    this.next = (at + 1) % registers.faultRecords;
    this.recorded++;
    if ((status & FSTS.PPF.inPlace) === 0) {
      // FRI: the record that set PPF (11.4.7.1).
      registers.set(REG.FSTS, deposit(registers.word(REG.FSTS), FSTS.FRI, at));
    }
    this.raise(FSTS.PPF.inPlace);
    if (traceFstsPpf.on) {
      traceFstsPpf.emit(1);
    }
  }

  /** An error of the invalidation queue, with its reason for IQERCD (11.4.8.9). */
  queueError(reason: number): void {
    this.registers.set(REG.IQERCD, deposit(this.registers.word(REG.IQERCD), IQERCD.IQEI, reason));
    this.raise(FSTS.IQE.inPlace);
  }

  get queueErrorActive(): boolean {
    return (this.registers.word(REG.FSTS) & FSTS.IQE.inPlace) !== 0;
  }

  /** Software wrote FSTS: with nothing left pending, the event that waits for its mask goes too (11.4.7.2). */
  statusWritten(): void {
    const { registers } = this;
    if ((registers.word(REG.FSTS) & FSTS.IQE.inPlace) === 0) {
      registers.set(REG.IQERCD, 0);
      registers.set(REG.IQERCD + 4, 0);
    }
    this.settle();
  }

  /** Software wrote a fault recording register: PPF is the or of their F bits. */
  recordsWritten(): void {
    const { registers } = this;
    let pending = false;
    for (let n = 0; n < registers.faultRecords; n++) {
      pending ||= this.isPending(n);
    }
    registers.set(REG.FSTS, deposit(registers.word(REG.FSTS), FSTS.PPF, pending ? 1 : 0));
    if (traceFstsPpf.on) {
      traceFstsPpf.emit(pending ? 1 : 0);
    }
    this.settle();
  }

  private settle(): void {
    if (this.conditions === 0) {
      this.event.settle();
      if (traceFstsClearIp.on) {
        traceFstsClearIp.emit();
      }
    }
  }

  /** Status bits that a message tells of. */
  private get conditions(): number {
    return this.registers.word(REG.FSTS) & ALL_CONDITIONS;
  }

  /** Sets a status bit. While another one is set this is not a new interrupt condition (11.4.7.2). */
  private raise(status: number): void {
    const quiet = this.conditions === 0;
    this.registers.set(REG.FSTS, this.registers.word(REG.FSTS) | status);
    if (quiet) {
      this.event.raise();
    }
  }

  private place(n: number): number {
    return this.registers.faultOffset + n * FAULT_RECORD_BYTES;
  }

  private isPending(n: number): boolean {
    return extract(this.registers.word(this.place(n) + 4 * FRCD.F.word), FRCD.F) !== 0;
  }

  private write(n: number, fault: FaultRecord): void {
    const words = this.record4.fill(0);
    words[0] = fault.addressLow & FRCD.FI.lowMask;
    words[1] = fault.addressHigh;
    put(words, FRCD.SID, fault.sourceId);
    put(words, FRCD.FR, fault.reason);
    // The type is two bits apart: 0 write, 1 page request, 2 read, 3 atomic; T1 is bit 1 of it.
    put(words, FRCD.T1, fault.isWrite ? 0 : 1);
    put(words, FRCD.AT, fault.addressType ?? 0);
    if (fault.pasid >= 0) {
      put(words, FRCD.PP, 1);
      put(words, FRCD.PV, fault.pasid);
      put(words, FRCD.EXE, fault.execute === true ? 1 : 0);
      put(words, FRCD.PRIV, fault.privileged === true ? 1 : 0);
    }
    if (traceFrrNew.on) {
      traceFrrNew.emit(n, toBigInt(words[3], words[2]), toBigInt(words[1], words[0]));
    }
    put(words, FRCD.F, 1);
    const at = this.place(n);
    words.forEach((word, i) => this.registers.set(at + 4 * i, word));
  }

  /** The record at `n`, for tests and the monitor: its reason, or 0 where none is pending. */
  pendingReason(n: number): number {
    return this.isPending(n) ? get(this.registers.words, FRCD.FR, this.place(n) / 4) : 0;
  }
}

const ALL_CONDITIONS =
  FSTS.PFO.inPlace | FSTS.PPF.inPlace | FSTS.IQE.inPlace | FSTS.ICE.inPlace | FSTS.ITE.inPlace | FSTS.PRO.inPlace;
