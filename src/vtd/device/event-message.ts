import { toBigInt } from "../../support/index.js";
import { traceIrqGenerate } from "./trace.js";
import type { RegisterFile } from "./register-file.js";
import { EVENT_CONTROL } from "../spec/index.js";

/** Sends an interrupt message of the remapping unit's own: not remapped (Intel VT-d, 5.1.7). `address` is guest-physical. */
export type MessageSender = (address: bigint, data: number) => void;

/** Offsets of an event's control, data, address and upper address registers follow each other. */
const DATA = 4;
const ADDRESS = 8;
const UPPER_ADDRESS = 12;

/**
 * One of the unit's own interrupts, with its mask and pending bits (11.4.7.2 fault, 11.4.8.5 invalidation
 * completion, 11.4.10.4 page request).
 */
export class EventMessage {
  /** Messages sent. */
  sent = 0;

  constructor(
    private readonly registers: RegisterFile,
    /** Offset of FECTL, IECTL or PECTL. */
    private readonly control: number,
    private readonly send: MessageSender,
  ) {}

  get masked(): boolean {
    return (this.registers.word(this.control) & EVENT_CONTROL.IM.inPlace) !== 0;
  }

  /** An interrupt condition has come about: IP is set, and cleared again with the message unless that is masked. */
  raise(): void {
    this.registers.set(this.control, this.registers.word(this.control) | EVENT_CONTROL.IP.inPlace);
    this.deliver();
  }

  /** The mask may have gone: a pending message is sent. */
  deliver(): void {
    const { registers, control } = this;
    const value = registers.word(control);
    if ((value & EVENT_CONTROL.IP.inPlace) === 0 || (value & EVENT_CONTROL.IM.inPlace) !== 0) {
      return;
    }
    registers.set(control, value & ~EVENT_CONTROL.IP.inPlace);
    this.sent++;
    const address = toBigInt(registers.word(control + UPPER_ADDRESS), registers.word(control + ADDRESS));
    const data = registers.word(control + DATA) >>> 0;
    if (traceIrqGenerate.on) {
      traceIrqGenerate.emit(address, data);
    }
    this.send(address, data);
  }

  /** Software has served all that the message was to tell of. True where one was pending. */
  settle(): boolean {
    const value = this.registers.word(this.control);
    this.registers.set(this.control, value & ~EVENT_CONTROL.IP.inPlace);
    return (value & EVENT_CONTROL.IP.inPlace) !== 0;
  }
}
