import { deposit, extract, get, hex, type Log, toBigInt } from "../../support/index.js";
import { traceDmarFault, traceFrrNew, traceFstsClearIp, traceFstsPpf } from "./trace.js";
import { EventMessage, type MessageSender } from "./event-message.js";
import type { RegisterFile } from "./register-file.js";
import { FAULT_RECORD_BYTES, FAULT_RECORD_WORDS, faultName, FRCD, FSTS, IQERCD, REG } from "../spec/index.js";

/** Fault status, recording registers and the fault event (7.2, 7.3, 11.4.7). */
export class FaultLog {
  /** Records made, by reason too, and faults that found no room or were one of a source that has one pending. */
  recorded = 0;
  lost = 0;
  collapsed = 0;
  readonly byReason = new Int32Array(256);
  readonly event: EventMessage;
  private next = 0;

  constructor(
    private readonly id: string,
    private readonly registers: RegisterFile,
    send: MessageSender,
    private readonly log: Log,
  ) {
    this.event = new EventMessage(registers, REG.FECTL, send);
  }

  /** Reset, and TES and IRES both clear (7.2.1): the next record is the first one again. */
  reset(): void {
    this.next = 0;
  }

  /** Records a fault (a recording register's four words), or loses it: 7.2.1 says when. */
  record(fault: ArrayLike<number>): void {
    const { registers } = this;
    const reason = get(fault, FRCD.FR);
    const sourceId = get(fault, FRCD.SID);
    const isWrite = get(fault, FRCD.T1) === 0;
    if (traceDmarFault.on) {
      traceDmarFault.emit(sourceId, reason, toBigInt(fault[1], fault[0]), isWrite ? 1 : 0);
    }
    this.byReason[reason]++;
    const inputAddress = toBigInt(fault[1], fault[0]);
    const substreamId = get(fault, FRCD.PP) === 0 ? null : get(fault, FRCD.PV);
    this.log.fault(
      "vtd.fault",
      () =>
        `${this.id}: ${faultName(reason)} (${hex(reason)}): ${isWrite ? "write" : "read"} at ${hex(inputAddress)} by source id ${hex(sourceId)}` +
        (substreamId === null ? "" : `, PASID ${hex(substreamId)}`),
      () => ({ iommu: this.id, number: reason, streamId: sourceId, substreamId, inputAddress }),
    );
    const status = registers.word(REG.FSTS);
    if ((status & FSTS.PFO.inPlace) !== 0) {
      this.lost++;
      return;
    }
    // A source that has a fault pending may have the others collapsed into it.
    for (let n = 0; n < registers.faultRecords; n++) {
      if (this.isPending(n) && extract(registers.word(this.place(n) + 4 * FRCD.SID.word), FRCD.SID) === sourceId) {
        this.collapsed++;
        return;
      }
    }
    const at = this.next;
    if (this.isPending(at)) {
      this.overflow();
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

  /** Faults were lost before they could be recorded: as for a full record, PFO tells. */
  overflow(): void {
    this.lost++;
    this.raise(FSTS.PFO.inPlace);
  }

  /** An error of the invalidation queue, with its reason for IQERCD (11.4.8.9). */
  queueError(reason: number): void {
    this.registers.set(REG.IQERCD, deposit(this.registers.word(REG.IQERCD), IQERCD.IQEI, reason));
    this.raise(FSTS.IQE.inPlace);
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
    if (this.conditions === 0 && this.event.settle() && traceFstsClearIp.on) {
      traceFstsClearIp.emit();
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

  private write(n: number, fault: ArrayLike<number>): void {
    if (traceFrrNew.on) {
      traceFrrNew.emit(n, toBigInt(fault[3] & ~FRCD.F.inPlace, fault[2]), toBigInt(fault[1], fault[0]));
    }
    const at = this.place(n);
    for (let word = 0; word < FAULT_RECORD_WORDS; word++) {
      this.registers.set(at + 4 * word, fault[word]);
    }
    this.registers.set(at + 4 * FRCD.F.word, fault[FRCD.F.word] | FRCD.F.inPlace);
  }
}

const ALL_CONDITIONS =
  FSTS.PFO.inPlace | FSTS.PPF.inPlace | FSTS.IQE.inPlace | FSTS.ICE.inPlace | FSTS.ITE.inPlace | FSTS.PRO.inPlace;
