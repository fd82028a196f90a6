/**
 * The command queue's producer (Arm IHI 0070, 3.5 and 4): batches, CMD_SYNC with its ways of signalling, and
 * Linux's recovery from a command error.
 */
import {
  CERROR_ABT,
  CERROR_ATC_INV_SYNC,
  CERROR_ILL,
  CERROR_NONE,
  CMDQ_CONS,
  CMDQ_ENTRY_BYTES,
  CMD_WORDS,
  OP,
  REG,
  SYNC_CS_IRQ,
  SYNC_CS_NONE,
  SYNC_CS_SEV,
  commandName,
  encodeCommand,
  extract,
} from "../../smmuv3/spec/index.js";
import { GuestFailure } from "../failure.js";
import type { InterruptController } from "../interrupts.js";
import type { GuestMemory } from "../memory.js";

/** Commands that Linux publishes at most with one write of CMDQ_PROD. */
export const BATCH_ENTRIES = 64;
const SHAREABILITY_INNER = 3;
const MEMATTR_WRITE_BACK = 0xf;

/**
 * How the end of a CMD_SYNC is awaited: `poll` asks for SIG_SEV and reads CMDQ_CONS, as Linux does; `none`
 * polls without any signal; `irq` waits for the wired interrupt; `msi` has the SMMU write over the command
 * itself and polls that word, as Linux does where IDR0.MSI is set and walks are coherent.
 */
export type SyncMode = "poll" | "none" | "irq" | "msi";

export interface RegisterAccess {
  read32(register: number): Promise<number>;
  write32(register: number, value: number): Promise<void>;
  write64(register: number, value: bigint): Promise<void>;
}

export class CommandQueue {
  /** Index and wrap bit, as in CMDQ_PROD. */
  private prod = 0;
  private cons = 0;
  private syncInterrupts = 0;
  /** Commands issued so far by opcode. */
  readonly issued = new Map<number, number>();
  /** Called for each command that is put into the queue, in order. */
  onCommand: ((words: Int32Array) => void) | null = null;
  /** Errors that the queue stopped with and was taken over: CMDQ_CONS and the name of the command at it. */
  readonly errors: Array<{ cons: number; error: number; command: string }> = [];

  constructor(
    private readonly name: string,
    private readonly registers: RegisterAccess,
    private readonly memory: GuestMemory,
    private readonly interrupts: InterruptController,
    /** Guest-physical address of the first entry. */
    readonly base: number,
    readonly log2Entries: number,
    private readonly mode: SyncMode,
  ) {}

  get producer(): number {
    return this.prod;
  }

  /** The cmdq-sync interrupt came. */
  syncSignalled(): void {
    this.syncInterrupts++;
  }

  /** One command without waiting for it. */
  async issue(opcode: number, values: Parameters<typeof encodeCommand>[1] = {}): Promise<void> {
    await this.publish([encodeCommand(opcode, values)], false);
  }

  /** One command and a CMD_SYNC, awaited. Throws GuestFailure where the CMD_SYNC does not end. */
  async issueAndSync(opcode: number, values: Parameters<typeof encodeCommand>[1] = {}): Promise<void> {
    await this.publish([encodeCommand(opcode, values)], true);
  }

  /** Several commands in batches of 64, a CMD_SYNC after the last; nothing at all where there are none but for the CMD_SYNC. */
  async issueBatch(commands: readonly Int32Array[]): Promise<void> {
    let from = 0;
    for (; commands.length - from > BATCH_ENTRIES; from += BATCH_ENTRIES) {
      await this.publish(commands.slice(from, from + BATCH_ENTRIES), false);
    }
    await this.publish(commands.slice(from), true);
  }

  /** Commands as they are, four words each, valid or not. */
  async publish(commands: readonly Int32Array[], sync: boolean): Promise<void> {
    const entries = 1 << this.log2Entries;
    const count = commands.length + (sync ? 1 : 0);
    await this.waitForSpace(count);
    const slots = [...commands];
    const signalsBefore = this.syncInterrupts;
    const syncAt = this.advance(this.prod, commands.length);
    if (sync) {
      slots.push(this.syncCommand(this.base + (syncAt & (entries - 1)) * CMDQ_ENTRY_BYTES));
    }
    for (let done = 0; done < slots.length; ) {
      const index = (this.prod + done) & (entries - 1);
      const run = Math.min(slots.length - done, entries - index);
      const words = new Int32Array(run * CMD_WORDS);
      for (let i = 0; i < run; i++) {
        words.set(slots[done + i], i * CMD_WORDS);
      }
      await this.memory.writeWords(this.base + index * CMDQ_ENTRY_BYTES, words);
      done += run;
    }
    for (const command of slots) {
      const opcode = command[0] & 0xff;
      this.issued.set(opcode, (this.issued.get(opcode) ?? 0) + 1);
      this.onCommand?.(command);
    }
    this.prod = this.advance(this.prod, count);
    await this.registers.write32(REG.CMDQ_PROD, this.prod);
    if (sync) {
      await this.awaitSync(syncAt, signalsBefore);
    }
  }

  private advance(position: number, by: number): number {
    return (position + by) & ((2 << this.log2Entries) - 1);
  }

  private syncCommand(slot: number): Int32Array {
    const cs = this.mode === "none" ? SYNC_CS_NONE : this.mode === "poll" ? SYNC_CS_SEV : SYNC_CS_IRQ;
    return encodeCommand(OP.SYNC, {
      SYNC_CS: cs,
      SYNC_MSH: SHAREABILITY_INNER,
      SYNC_MSIATTR: MEMATTR_WRITE_BACK,
      ...(this.mode === "msi" ? { SYNC_MSIADDRESS: slot } : {}),
    });
  }

  private async waitForSpace(count: number): Promise<void> {
    const entries = 1 << this.log2Entries;
    const used = (): number => (this.prod - this.cons) & ((2 << this.log2Entries) - 1);
    for (let tries = 0; entries - used() < count; tries++) {
      this.cons = await this.readCons();
      if (entries - used() >= count) {
        return;
      }
      if (tries >= 1000) {
        throw new GuestFailure(`${this.name}: the command queue stays full (CMDQ_PROD 0x${this.prod.toString(16)}, CMDQ_CONS 0x${this.cons.toString(16)})`);
      }
      await this.interrupts.poll();
    }
  }

  private async readCons(): Promise<number> {
    return (await this.registers.read32(REG.CMDQ_CONS)) & ((2 << this.log2Entries) - 1);
  }

  private async awaitSync(at: number, signalsBefore: number): Promise<void> {
    const slot = this.base + (at & ((1 << this.log2Entries) - 1)) * CMDQ_ENTRY_BYTES;
    const done = async (): Promise<boolean> => {
      if (this.mode === "msi") {
        return (await this.memory.readWords(slot, 1))[0] === 0;
      }
      if (this.mode === "irq") {
        return this.syncInterrupts > signalsBefore;
      }
      this.cons = await this.readCons();
      // Consumed: CONS has passed the CMD_SYNC's place, the wrap bit taken into account.
      return ((this.cons - at - 1) & ((2 << this.log2Entries) - 1)) <= 1 << this.log2Entries;
    };
    if (await done()) {
      this.cons = this.advance(at, 1);
      return;
    }
    // The global error interrupt, which gets a stopped queue going again, is handled meanwhile.
    if (!(await this.interrupts.waitFor(done, 200))) {
      const prod = await this.registers.read32(REG.CMDQ_PROD);
      const cons = await this.registers.read32(REG.CMDQ_CONS);
      throw new GuestFailure(
        `${this.name}: CMD_SYNC timeout at 0x${at.toString(16)} [hwprod 0x${(prod >>> 0).toString(16)}, hwcons 0x${(cons >>> 0).toString(16)}]`,
      );
    }
    this.cons = this.advance(at, 1);
  }

  /**
   * GERROR.CMDQ_ERR is active: what Linux's arm_smmu_cmdq_skip_err does. An illegal command becomes a CMD_SYNC;
   * after a failed fetch or an ATC invalidation that timed out the queue is just resumed. The caller
   * acknowledges GERROR, which resumes it.
   */
  async skipError(): Promise<void> {
    const cons = await this.registers.read32(REG.CMDQ_CONS);
    const error = extract(cons, CMDQ_CONS.ERR);
    const at = this.base + (cons & ((1 << this.log2Entries) - 1)) * CMDQ_ENTRY_BYTES;
    const command = commandName((await this.memory.readWords(at, CMD_WORDS))[0] & 0xff);
    this.errors.push({ cons, error, command });
    if (error === CERROR_ABT || error === CERROR_NONE || error === CERROR_ATC_INV_SYNC) {
      return;
    }
    if (error !== CERROR_ILL) {
      this.errors[this.errors.length - 1].command += " (reserved error code)";
    }
    await this.memory.writeWords(
      at,
      encodeCommand(OP.SYNC, {
        SYNC_CS: this.mode === "none" ? SYNC_CS_NONE : SYNC_CS_SEV,
        SYNC_MSH: SHAREABILITY_INNER,
        SYNC_MSIATTR: MEMATTR_WRITE_BACK,
      }),
    );
  }
}
