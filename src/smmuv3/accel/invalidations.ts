/**
 * The guest's invalidations on their way to the host, in batches; and what follows where the host cannot do them:
 * an invalidation may be repeated, never lost.
 */
import { DELIVERED, REFUSED, UNDELIVERED } from "../../nesting/index.js";
import type { Log } from "../../support/index.js";
import { ATC_SIZE_ALL, CERROR_ILL, CERROR_NONE, CMD, commandName, encodeCommand, get, OP, STE } from "../spec/index.js";
import { CommandBatch } from "./batch.js";
import type { AcceleratedFunction } from "./function.js";
import type { ViommuObjects } from "./objects.js";

/** What the forwarder asks of the acceleration. */
export interface ForwarderParts {
  /** `arm-smmuv3 'smmu0'`. */
  readonly name: string;
  readonly functions: readonly AcceleratedFunction[];
  readonly objects: () => ViommuObjects | null;
  /** Blocks a function; false where the host refuses. */
  readonly block: (fn: AcceleratedFunction, reason: string) => boolean;
  /** Puts a function where it belongs. */
  readonly settle: (fn: AcceleratedFunction) => void;
  readonly log: Log;
}

export class CommandForwarder {
  readonly batch: CommandBatch;
  /** Of the last `flush`: how many commands are done, and whether an ATC_INV timed out. */
  handled = 0;
  timedOut = false;
  /** Batches sent. */
  flushes = 0;
  /** Why functions are blocked until all that may be stale is invalidated: the host's error; null: nothing is due. */
  owing: string | null = null;

  /** `id`: the user's id of the SMMU, for traces. */
  constructor(
    id: string,
    private readonly parts: ForwarderParts,
  ) {
    this.batch = new CommandBatch(id);
  }

  /** Takes a command; false where it needs no forwarding: no function has the stream. */
  forward(word0: number, word1: number, word2: number, word3: number): boolean {
    const { objects } = this.parts;
    if (objects() === null) {
      return false;
    }
    const opcode = word0 & CMD.OPCODE.mask;
    if ((opcode === OP.CFGI_CD || opcode === OP.CFGI_CD_ALL || opcode === OP.ATC_INV) && !this.isBound(word1)) {
      return false;
    }
    this.batch.add(word0, word1, word2, word3);
    return true;
  }

  private isBound(streamId: number): boolean {
    for (const fn of this.parts.functions) {
      if (fn.vdeviceId !== null && fn.vdeviceStreamId === streamId >>> 0) {
        return true;
      }
    }
    return false;
  }

  /** Puts an invalidation of a stream's context descriptors into the batch. */
  addDescriptors(streamId: number): void {
    this.add(OP.CFGI_CD_ALL, { SID: streamId });
  }

  /** Sends the batch. Returns a CERROR_ code; sets `handled` and `timedOut`. */
  flush(): number {
    const { batch } = this;
    const count = batch.pending;
    const objects = this.parts.objects();
    this.handled = count;
    this.timedOut = false;
    if (count === 0 || objects === null) {
      batch.clear();
      return CERROR_NONE;
    }
    this.flushes++;
    const delivery = batch.deliver(objects.iommufd, objects.viommuId);
    this.timedOut = batch.timedOut;
    switch (delivery) {
      case UNDELIVERED:
        this.handled = 0;
        return this.blockStale(count) ? CERROR_NONE : CERROR_ILL;
      case REFUSED:
        this.handled = batch.refused;
        this.parts.log.guestError(
          "smmuv3.invalidate",
          `${this.parts.name}: the host refused ${commandName(batch.opcodeAt(batch.refused))}, command ${batch.refused + 1} of ${count} in a batch: HWPT_INVALIDATE ${batch.errno}`,
        );
        return CERROR_ILL;
      default:
        if (batch.errno !== null) {
          const what = batch.timedOut ? "an ATC_INV did not complete, which the next CMD_SYNC tells" : "sent again, and done";
          this.parts.log.warnLimited("smmuv3.invalidate-again", `${this.parts.name}: HWPT_INVALIDATE ${batch.errno} for a batch of ${count} command(s): ${what}`);
        }
        this.settleDebt();
        return CERROR_NONE;
    }
  }

  /**
   * The host could not do a batch of good commands (ENOMEM, say). Linux's guest would replace a command in
   * error by a CMD_SYNC, and what it has unmapped would stay reachable: so the functions are blocked, and the
   * commands are done in that nothing is translated. False where the host refuses that, too.
   */
  private blockStale(count: number): boolean {
    const { name, functions, log } = this.parts;
    this.owing = this.batch.errno ?? "failed";
    let blocked = true;
    for (const fn of functions) {
      blocked = this.parts.block(fn, `invalidations of the guest could not be done (HWPT_INVALIDATE ${this.owing})`) && blocked;
    }
    log.warnLimited("smmuv3.undelivered", `${name}: the host could not do ${count} invalidation(s) of the guest: HWPT_INVALIDATE ${this.owing}; its functions are blocked until it can`);
    return blocked;
  }

  /** Where invalidations are due: all that may be stale goes, and once the host does that, the functions go where they belong. */
  settleDebt(): void {
    const objects = this.parts.objects();
    if (this.owing === null || objects === null) {
      return;
    }
    const { batch } = this;
    this.flushes++;
    this.add(OP.TLBI_NSNH_ALL, {});
    for (const fn of this.parts.functions) {
      if (fn.vdeviceId !== null) {
        this.addDescriptors(fn.vdeviceStreamId);
        // The kernel has emptied the ATC of one that is blocked when it attached it (Linux arm_smmu_attach_commit).
        if (fn.table === "nested" && get(fn.installed, STE.EATS) !== 0) {
          this.add(OP.ATC_INV, { SID: fn.vdeviceStreamId, ATC_SIZE: ATC_SIZE_ALL });
        }
      }
    }
    if (batch.deliver(objects.iommufd, objects.viommuId) === DELIVERED && !batch.timedOut) {
      this.owing = null;
      for (const fn of this.parts.functions) {
        this.parts.settle(fn);
      }
      // What the entries ask for of it is done already.
      batch.clear();
    }
  }

  private add(opcode: number, fields: Parameters<typeof encodeCommand>[1]): void {
    const command = encodeCommand(opcode, fields);
    this.batch.add(command[0], command[1], command[2], command[3]);
  }
}
