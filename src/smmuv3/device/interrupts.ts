import { traceTriggerIrq, traceWriteGerror } from "./trace.js";
import type { RegisterFile } from "./register-file.js";
import { extract, GERROR, IDR0, IRQ_CTRL, REG } from "../spec/index.js";

/** An edge-triggered interrupt wire. */
export interface InterruptLine {
  pulse(): void;
}

/** The wires of an SMMU, in the order of QEMU's interrupt outputs 0 to 3. */
export interface SmmuInterruptLines {
  readonly eventq: InterruptLine;
  readonly priq: InterruptLine;
  readonly cmdqSync: InterruptLine;
  readonly gerror: InterruptLine;
}

/** Writes a 32-bit message to a guest-physical address (bytes); false where the write aborts. */
export type MsiWriter = (address: number, data: number) => boolean;

const IRQ_EVENTQ = 0;
const IRQ_CMDQ_SYNC = 2;
const IRQ_GERROR = 3;

/** Global errors and the SMMU's own interrupts: wires, and messages where IDR0.MSI is set (Arm IHI 0070, 3.18). */
export class SmmuInterrupts {
  /** Interrupts raised, by cause, for the account. */
  readonly counts = { eventq: 0, cmdqSync: 0, gerror: 0 };

  constructor(
    private readonly registers: RegisterFile,
    private readonly lines: SmmuInterruptLines,
    private readonly writeMsi: MsiWriter,
  ) {}

  private get messages(): boolean {
    return extract(this.registers.idr[0], IDR0.MSI) !== 0;
  }

  /**
   * Activates global errors (bits of GERROR). Those that are active already stay as they are; the interrupt
   * comes only where one has become active (7.5).
   */
  activate(errors: number): void {
    const registers = this.registers;
    const toggled = errors & ~registers.activeErrors;
    if (toggled === 0) {
      return;
    }
    registers.set(REG.GERROR, registers.word(REG.GERROR) ^ toggled);
    if (traceWriteGerror.on) {
      traceWriteGerror.emit(toggled, registers.word(REG.GERROR));
    }
    if ((registers.irqControl & IRQ_CTRL.GERROR_IRQEN.inPlace) === 0) {
      return;
    }
    this.counts.gerror++;
    this.pulse(this.lines.gerror, IRQ_GERROR);
    if (!this.message(REG.GERROR_IRQ_CFG0)) {
      // No interrupt tells of this one: its own write is what has failed.
      registers.set(REG.GERROR, registers.word(REG.GERROR) ^ (GERROR.MSI_GERROR_ABT_ERR.inPlace & ~registers.activeErrors));
    }
  }

  /** The event queue was empty and is not any more. */
  eventQueueNotEmpty(): void {
    if ((this.registers.irqControl & IRQ_CTRL.EVENTQ_IRQEN.inPlace) === 0) {
      return;
    }
    this.counts.eventq++;
    this.pulse(this.lines.eventq, IRQ_EVENTQ);
    if (!this.message(REG.EVENTQ_IRQ_CFG0)) {
      this.activate(GERROR.MSI_EVENTQ_ABT_ERR.inPlace);
    }
  }

  /**
   * CMD_SYNC with SIG_IRQ: the wire in any case, and with IDR0.MSI the message where its address is not 0;
   * IRQ_CTRL has no say (4.7.3).
   */
  syncComplete(addressHigh: number, addressLow: number, data: number): void {
    this.counts.cmdqSync++;
    this.pulse(this.lines.cmdqSync, IRQ_CMDQ_SYNC);
    if (!this.messages) {
      return;
    }
    const address = (addressHigh & 0xf_ffff) * 0x1_0000_0000 + ((addressLow & ~3) >>> 0);
    if (address !== 0 && !this.writeMsi(address, data >>> 0)) {
      this.activate(GERROR.MSI_CMDQ_ABT_ERR.inPlace);
    }
  }

  private pulse(line: InterruptLine, number: number): void {
    if (traceTriggerIrq.on) {
      traceTriggerIrq.emit(number);
    }
    line.pulse();
  }

  /** Sends the message that the *_IRQ_CFG registers at `offset` say; none where the address is 0. False where it aborts. */
  private message(offset: number): boolean {
    if (!this.messages) {
      return true;
    }
    const registers = this.registers;
    const address = (registers.word(offset + 4) & 0xf_ffff) * 0x1_0000_0000 + ((registers.word(offset) & ~3) >>> 0);
    return address === 0 || this.writeMsi(address, registers.word(offset + 8) >>> 0);
  }
}
