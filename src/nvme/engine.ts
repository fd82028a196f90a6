/**
 * What makes commands of queue entries and entries of completions: queues by their numbers, fetching in turn, bounded
 * work at a time, interrupts. One engine is one life of the controller, from CC.EN to a reset.
 */
import type { Done } from "../block/index.js";
import { Budget, Continuation, type Scheduler } from "../support/index.js";
import { AsyncEvents } from "./async-events.js";
import { Command, type Outcome } from "./command.js";
import type { ErrorLog } from "./error-log.js";
import type { NvmeHost } from "./host.js";
import { PrpCursor } from "./prp.js";
import { type Address, CompletionQueue, SubmissionQueue } from "./queues.js";
import { ERROR_INVALID_DOORBELL, ERROR_INVALID_DOORBELL_VALUE, EVENT_ERROR, LOG, STATUS, STATUS_MORE } from "./spec.js";
import { adminName, ioName, traceAdmin, traceCompletion, traceHead, traceIo, traceTail } from "./trace.js";

/** Commands under way at a time, each with at most a buffer of CHUNK_BYTES. */
const MOST_UNDER_WAY = 64;
/** Bytes that a command moves at a time. */
export const CHUNK_BYTES = 0x8_0000;
/** Steps of the budget: of a command, and of each 4 KiB that are moved. */
const COMMAND_STEPS = 4;
const STEP_BYTES = 4096;

/** Acts on commands. */
export interface Executor {
  execute(command: Command): Outcome;
}

export interface EngineParts {
  readonly host: NvmeHost;
  readonly pageBytes: number;
  readonly adminSq: { readonly base: Address; readonly size: number };
  readonly adminCq: { readonly base: Address; readonly size: number };
  readonly aerl: number;
  readonly errors: ErrorLog;
  readonly scheduler: Scheduler;
  /** Operations of disks that have not ended, those of earlier lives too. */
  readonly operations: { begin(): void; end(): void };
  /** INTMS. */
  masked(vector: number): boolean;
  /** A queue in memory cannot be reached (CSTS.CFS). */
  onFatal(): void;
}

export class Engine {
  readonly events: AsyncEvents;
  readonly pageBytes: number;
  readonly adminSq: SubmissionQueue;
  private readonly host: NvmeHost;
  private readonly sqs = new Map<number, SubmissionQueue>();
  private readonly cqs = new Map<number, CompletionQueue>();
  /** Queues with entries to fetch, whose turn comes in this order. */
  private turns: SubmissionQueue[] = [];
  /** Queues that wait for room in their completion queue. */
  private readonly blocked = new Map<CompletionQueue, Set<SubmissionQueue>>();
  /** What goes on now that a disk has answered. */
  private ready: Array<() => void> = [];
  private posted = new Set<CompletionQueue>();
  private underWay = 0;
  private pumping = false;
  private ended = false;
  private readonly budget = new Budget();
  private readonly later: Continuation;

  constructor(
    private readonly parts: EngineParts,
    private readonly executors: { readonly admin: Executor; readonly io: Executor },
  ) {
    this.host = parts.host;
    this.pageBytes = parts.pageBytes;
    this.later = new Continuation(parts.scheduler, () => this.pump());
    const cq = new CompletionQueue(0, parts.adminCq.base, parts.adminCq.size, 0, true);
    this.cqs.set(0, cq);
    this.adminSq = new SubmissionQueue(0, parts.adminSq.base, parts.adminSq.size, cq);
    this.sqs.set(0, this.adminSq);
    this.events = new AsyncEvents(parts.aerl + 1, () => cq.free > 0, (command, result) => {
      command.result = result;
      this.post(command, STATUS.SUCCESS);
    });
  }

  /** Nothing is fetched, posted or raised from now on; what disks are doing ends without being told of. */
  end(): void {
    this.ended = true;
    this.later.cancel();
    this.ready = [];
    this.turns = [];
    this.posted.clear();
  }

  // ---- doorbells ----

  /** A write of a doorbell, by its number: even ones are tails of submission queues, odd ones heads of completion queues. */
  ring(doorbell: number, value: number): void {
    if (this.ended) {
      return;
    }
    const id = doorbell >>> 1;
    const queue = doorbell % 2 === 0 ? this.sqs.get(id) : this.cqs.get(id);
    const accepted = queue === undefined ? false : queue instanceof SubmissionQueue ? this.submitted(queue, value) : this.taken(queue, value);
    if (!accepted) {
      this.parts.errors.record({ queue: 0xffff, command: 0xffff, status: 0, location: 0xffff, block: 0, namespaceId: 0 });
      // An event is for a host that asks for one at that moment (4.1).
      if (this.events.outstanding) {
        this.events.report(EVENT_ERROR, queue === undefined ? ERROR_INVALID_DOORBELL : ERROR_INVALID_DOORBELL_VALUE, LOG.ERROR);
      }
    }
    this.pump();
  }

  private submitted(queue: SubmissionQueue, tail: number): boolean {
    if (traceTail.on) {
      traceTail.emit(queue.id, tail);
    }
    if (queue.onIdle !== null) {
      return true;
    }
    const wasEmpty = queue.isEmpty;
    if (!queue.submit(tail)) {
      return false;
    }
    if (wasEmpty && !queue.isEmpty) {
      this.turns.push(queue);
    }
    return true;
  }

  private taken(queue: CompletionQueue, head: number): boolean {
    if (traceHead.on) {
      traceHead.emit(queue.id, head);
    }
    if (!queue.take(head)) {
      return false;
    }
    const waiting = this.blocked.get(queue);
    if (waiting !== undefined) {
      this.blocked.delete(queue);
      this.turns.push(...waiting);
    }
    if (queue.id === 0) {
      this.events.send();
    }
    this.updatePin();
    return true;
  }

  // ---- queues, by commands ----

  submissionQueue(id: number): SubmissionQueue | undefined {
    return this.sqs.get(id);
  }

  completionQueue(id: number): CompletionQueue | undefined {
    return this.cqs.get(id);
  }

  get hasIoQueues(): boolean {
    return this.sqs.size > 1 || this.cqs.size > 1;
  }

  addSubmissionQueue(queue: SubmissionQueue): void {
    this.sqs.set(queue.id, queue);
  }

  addCompletionQueue(queue: CompletionQueue): void {
    this.cqs.set(queue.id, queue);
  }

  /** Removes the queue when its commands have completed; calls `done` then. */
  removeSubmissionQueue(queue: SubmissionQueue, done: () => void): void {
    queue.onIdle = () => {
      this.sqs.delete(queue.id);
      queue.cq.users--;
      done();
    };
    this.turns = this.turns.filter((other) => other !== queue);
    this.blocked.get(queue.cq)?.delete(queue);
    if (queue.outstanding === 0) {
      queue.onIdle();
    }
  }

  removeCompletionQueue(queue: CompletionQueue): void {
    this.cqs.delete(queue.id);
    this.blocked.delete(queue);
    this.posted.delete(queue);
    this.updatePin();
  }

  // ---- work ----

  /** Does bounded work; the rest follows soon. */
  pump(): void {
    if (this.pumping || this.ended) {
      return;
    }
    this.pumping = true;
    this.budget.refill();
    while (!this.budget.spent && !this.isEnded()) {
      const next = this.ready.shift();
      if (next !== undefined) {
        this.budget.left--;
        next();
      } else if (!this.fetch()) {
        break;
      }
    }
    this.signal();
    this.pumping = false;
    if (!this.isEnded() && this.budget.spent) {
      this.later.request();
    }
  }

  /** What a command does may have ended this life. */
  private isEnded(): boolean {
    return this.ended;
  }

  /** Fetches and starts one command; false: there is none, or no room for it. */
  private fetch(): boolean {
    const queue = this.underWay < MOST_UNDER_WAY ? this.turns.shift() : undefined;
    if (queue === undefined) {
      return false;
    }
    const { cq } = queue;
    if (cq.free <= 0) {
      const waiting = this.blocked.get(cq) ?? new Set();
      this.blocked.set(cq, waiting.add(queue));
      return true;
    }
    const words = queue.fetch(this.host);
    if (words === null) {
      this.fail();
      return false;
    }
    if (!queue.isEmpty) {
      this.turns.push(queue);
    }
    const command = new Command(queue, words);
    queue.outstanding++;
    cq.reserved++;
    this.underWay++;
    this.budget.left -= COMMAND_STEPS;
    traceCommand(command);
    const status = command.usesUnoffered ? STATUS.INVALID_FIELD : (queue.id === 0 ? this.executors.admin : this.executors.io).execute(command);
    if (status !== null) {
      this.complete(command, status);
    }
    return true;
  }

  /** Asks a disk; what it answers is acted on in the engine's own turn. */
  disk(ask: (done: Done) => void, then: (error: Error | null) => void): void {
    const { operations } = this.parts;
    operations.begin();
    ask((error) => {
      if (!this.ended) {
        this.ready.push(() => then(error));
      }
      operations.end();
      this.pump();
    });
  }

  /** Counts bytes as work done. */
  moved(bytes: number): void {
    this.budget.left -= Math.ceil(bytes / STEP_BYTES);
  }

  cursor(command: Command, length: number): PrpCursor {
    return new PrpCursor(this.host, this.pageBytes, command.prp1, command.prp2, length);
  }

  /** Moves all data of a command that lies in its PRPs. A status. */
  transfer(command: Command, data: Uint8Array, toHost: boolean): number {
    this.moved(data.length);
    return this.cursor(command, data.length).transfer(data, toHost);
  }

  complete(command: Command, status: number): void {
    if (this.ended) {
      return;
    }
    this.release(command);
    this.post(command, status);
    const { sq } = command;
    if (sq.outstanding === 0) {
      sq.onIdle?.();
    }
  }

  /** An asynchronous event request waits without a promised slot. @returns whether it may wait */
  park(command: Command): boolean {
    if (!this.events.take(command)) {
      return false;
    }
    this.release(command);
    this.events.send();
    return true;
  }

  /** Ends a waiting asynchronous event request; false: there is none of that id. */
  abortEventRequest(commandId: number): boolean {
    const command = this.events.abort(commandId);
    if (command === null) {
      return false;
    }
    this.post(command, STATUS.ABORT_REQUESTED);
    return true;
  }

  private release(command: Command): void {
    command.sq.outstanding--;
    command.sq.cq.reserved--;
    this.underWay--;
  }

  private post(command: Command, status: number): void {
    if (this.ended) {
      return;
    }
    const { sq } = command;
    let told = status;
    if (status !== STATUS.SUCCESS) {
      this.parts.errors.record({
        queue: sq.id,
        command: command.id,
        status,
        location: 0xffff,
        block: sq.id === 0 ? 0 : command.firstBlock,
        namespaceId: command.namespaceId,
      });
      told |= STATUS_MORE;
    }
    if (traceCompletion.on) {
      traceCompletion.emit(command.id, sq.cq.id, command.result >>> 0, 0, status);
    }
    if (!sq.cq.post(this.host, command.result, sq.head, sq.id, command.id, told)) {
      this.fail();
      return;
    }
    this.posted.add(sq.cq);
  }

  private fail(): void {
    this.end();
    this.parts.onFatal();
  }

  // ---- interrupts (7.5) ----

  private signal(): void {
    const queues = this.posted;
    this.posted = new Set();
    for (const queue of queues) {
      this.raise(queue);
    }
    if (queues.size > 0) {
      this.updatePin();
    }
  }

  private raise(queue: CompletionQueue): void {
    if (queue.interrupts && (this.host.unmasked() || !this.parts.masked(queue.vector))) {
      this.host.raise(queue.vector);
    }
  }

  /** Vectors have been unmasked by INTMC: those with entries that wait are told of. */
  unmasked(vectors: number): void {
    if (!this.ended && !this.host.unmasked()) {
      for (const queue of this.cqs.values()) {
        if (queue.vector < 32 && ((vectors >>> queue.vector) & 1) !== 0 && !queue.isEmpty) {
          this.raise(queue);
        }
      }
    }
    this.updatePin();
  }

  /** The pin is asserted while a queue that interrupts has entries, and its vector is not masked. */
  updatePin(): void {
    if (this.ended || this.host.unmasked()) {
      return;
    }
    let level = false;
    for (const queue of this.cqs.values()) {
      level ||= queue.interrupts && !queue.isEmpty && !this.parts.masked(queue.vector);
    }
    this.host.setPin(level);
  }
}

function traceCommand(command: Command): void {
  const { sq, opcode } = command;
  if (sq.id === 0 && traceAdmin.on) {
    traceAdmin.emit(command.id, sq.id, opcode, adminName(opcode));
  } else if (sq.id !== 0 && traceIo.on) {
    traceIo.emit(command.id, command.namespaceId, sq.id, opcode, ioName(opcode));
  }
}
