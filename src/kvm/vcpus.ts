/**
 * The vCPUs of a machine: a thread for each, all exits answered in the models' thread (the main one). Which of the
 * ways to hand an exit over is the cheapest was measured (docs/speed.md): an eventfd in libuv's loop there, a wait on a
 * word of shared memory here.
 */
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { isMainThread, Worker } from "node:worker_threads";
import { closeFd, installKick, kick, makeEventFd, type Mapping, takeEventFd, type Watch, watchReadable } from "../linux/index.js";
import { InlineVcpu } from "./inline-vcpu.js";
import { RUN } from "./uapi.js";
import { type ExitHandler, makeVcpu, processorMs, releaseVcpu, type Vcpu, type VcpuGroup } from "./vcpu.js";
import { DOOR, DOOR_WORDS, REQUEST, STATE, VCPU_WORDS, type VcpuThreadData, WORD } from "./vcpu-state.js";
import type { KvmVm } from "./vm.js";

interface Slot extends Vcpu {
  readonly mapping: Mapping;
  readonly row: Int32Array;
  thread: Worker | null;
  /** Its exit has been handled and is not answered: the machine ends or resets. */
  waits: boolean;
}

/** How exits are handed over. What each costs is in docs/speed.md. */
export interface HandOver {
  /** How long the models' thread waits at the door for the next exit before it goes back to its event loop; 0: it does not. */
  readonly attendMs: number;
  /** How long it stays there in all before the loop has its turn. */
  readonly stayMs: number;
  /** Looks at the other side's word before a thread blocks on it; 0: it blocks at once. */
  readonly spins: number;
}

/**
 * Exits come in bursts, so the models' thread stays a little; where processors are left over, both sides look for some
 * microseconds before they block.
 */
export function usualHandOver(vcpus: number): HandOver {
  return { attendMs: 0.5, stayMs: 4, spins: availableParallelism() > vcpus + 1 ? 2000 : 0 };
}

/** How long a thread may take to leave KVM_RUN before it is kicked again. */
const KICK_AGAIN_MS = 20;
const HOLD_TRIES = 250;
const END_TRIES = 50;

/**
 * The vCPUs of a machine in the way that costs least: one alone runs in the models' thread, where that is the main one
 * (the loop that is waited for is its), and no other machine's vCPU has it already. @throws SystemError, nothing left
 */
export function makeVcpus(vm: KvmVm, count: number, onExit: ExitHandler): VcpuGroup {
  return count === 1 && isMainThread && !InlineVcpu.running ? new InlineVcpu(vm, onExit) : new Vcpus(vm, count, onExit);
}

export class Vcpus implements VcpuGroup {
  private readonly slots: Slot[] = [];
  private readonly shared: SharedArrayBuffer;
  private readonly door: Int32Array;
  private readonly doorbell: number;
  private readonly watch: Watch;
  private readonly endings: Array<Promise<void>> = [];
  private readonly atExit = (): void => this.endNow();
  private waiters: Array<() => void> = [];
  private closed = false;
  onFailure: ((error: Error) => void) | null = null;

  /** Makes `count` vCPUs, which do not run yet. @throws SystemError, nothing left */
  constructor(
    vm: KvmVm,
    count: number,
    private readonly onExit: ExitHandler,
    private readonly handOver: HandOver = usualHandOver(count),
  ) {
    installKick();
    const runBytes = vm.runBytes;
    this.shared = new SharedArrayBuffer((DOOR_WORDS + count * VCPU_WORDS) * 4);
    this.door = new Int32Array(this.shared, 0, DOOR_WORDS);
    this.doorbell = makeEventFd();
    try {
      for (let index = 0; index < count; index++) {
        this.slots.push(this.make(vm, index, runBytes));
      }
      this.watch = watchReadable(this.doorbell, () => this.serve());
    } catch (error) {
      this.slots.forEach((slot) => releaseVcpu(slot));
      closeFd(this.doorbell);
      throw error;
    }
  }

  private make(vm: KvmVm, index: number, runBytes: number): Slot {
    return { ...makeVcpu(vm, index, runBytes), row: new Int32Array(this.shared, (DOOR_WORDS + index * VCPU_WORDS) * 4, VCPU_WORDS), thread: null, waits: false };
  }

  get all(): readonly Vcpu[] {
    return this.slots;
  }

  /** The kernel's ids of the threads that run. */
  get threads(): number[] {
    return this.slots.filter(({ thread }) => thread !== null).map(({ row }) => Atomics.load(row, WORD.THREAD));
  }

  get processorMs(): number {
    return this.threads.reduce((sum, thread) => sum + processorMs(thread), 0);
  }

  get runs(): number {
    return this.slots.reduce((sum, { row }) => sum + Atomics.load(row, WORD.RUNS), 0);
  }

  start(): void {
    process.on("exit", this.atExit);
    for (const slot of this.slots) {
      const data: VcpuThreadData = { shared: this.shared, spins: this.handOver.spins, index: slot.index, fd: slot.fd, runBytes: slot.mapping.bytes, doorbell: this.doorbell };
      const thread = new Worker(threadFile(), { workerData: data, name: `vcpu${slot.index}` });
      slot.thread = thread;
      this.endings.push(
        new Promise((resolve) => {
          thread.once("exit", () => {
            Atomics.store(slot.row, WORD.STATE, STATE.ENDED);
            slot.thread = null;
            this.wakeWaiters();
            resolve();
          });
        }),
      );
      thread.on("error", (error) => this.onFailure?.(error instanceof Error ? error : new Error(String(error))));
    }
  }

  /** Answers what has come, and what comes while it stays. In the loop's callback. */
  private serve(): void {
    takeEventFd(this.doorbell);
    const { door } = this;
    const { attendMs, stayMs, spins } = this.handOver;
    if (attendMs > 0) {
      Atomics.store(door, DOOR.ATTENDED, 1);
      try {
        const until = performance.now() + stayMs;
        for (;;) {
          const told = Atomics.load(door, DOOR.TOLD);
          if (!this.answerAll() || performance.now() > until) {
            break;
          }
          for (let left = spins; left > 0 && Atomics.load(door, DOOR.TOLD) === told; left--);
          if (Atomics.wait(door, DOOR.TOLD, told, attendMs) === "timed-out") {
            break;
          }
        }
      } finally {
        // Whatever an answer throws, the others ring again.
        Atomics.store(door, DOOR.ATTENDED, 0);
      }
    }
    this.answerAll();
    this.wakeWaiters();
  }

  /** @returns whether there was an exit */
  private answerAll(): boolean {
    let some = false;
    for (const slot of this.slots) {
      if (Atomics.load(slot.row, WORD.STATE) === STATE.EXITED && !slot.waits) {
        some = true;
        if (this.onExit(slot, Atomics.load(slot.row, WORD.REASON))) {
          this.answer(slot);
        } else {
          slot.waits = true;
        }
      }
    }
    return some;
  }

  private answer(slot: Slot): void {
    Atomics.store(slot.row, WORD.STATE, STATE.RUNNING);
    Atomics.notify(slot.row, WORD.STATE);
  }

  private wakeWaiters(): void {
    this.waiters.splice(0).forEach((wake) => wake());
  }

  async pause(): Promise<void> {
    await this.request(REQUEST.PAUSE, STATE.PAUSED);
  }

  hold(): boolean {
    this.kickAll(REQUEST.PAUSE);
    return this.slots.every((slot) => {
      for (let tries = 0; tries < HOLD_TRIES; tries++) {
        const state = Atomics.load(slot.row, WORD.STATE);
        if (state !== STATE.RUNNING || slot.thread === null) {
          return true;
        }
        Atomics.wait(slot.row, WORD.STATE, state, KICK_AGAIN_MS);
        this.kickOne(slot, REQUEST.PAUSE);
      }
      return false;
    });
  }

  resume(): void {
    for (const { row } of this.slots) {
      Atomics.compareExchange(row, WORD.REQUEST, REQUEST.PAUSE, REQUEST.NONE);
      Atomics.notify(row, WORD.REQUEST);
    }
  }

  private async request(request: number, reached: number): Promise<void> {
    this.kickAll(request);
    const done = (slot: Slot): boolean => {
      const state = Atomics.load(slot.row, WORD.STATE);
      // Another has been made since: to repeat this one would undo it.
      return Atomics.load(slot.row, WORD.REQUEST) !== request || state === reached || state === STATE.ENDED || slot.thread === null;
    };
    while (!this.slots.every(done)) {
      await new Promise<void>((resolve) => {
        const again = setTimeout(resolve, KICK_AGAIN_MS);
        this.waiters.push(() => {
          clearTimeout(again);
          resolve();
        });
      });
      // A signal between the thread's look and its system call is caught by immediate_exit; a thread that was only starting is met here.
      this.slots.filter((slot) => !done(slot)).forEach((slot) => this.kickOne(slot, request));
    }
  }

  /** At the process's end: the threads leave the kernel and their programs before Node.js takes them apart, which aborts in the middle of a call. */
  private endNow(): void {
    this.kickAll(REQUEST.END);
    for (const slot of this.slots) {
      for (let tries = 0; tries < END_TRIES && slot.thread !== null; tries++) {
        const state = Atomics.load(slot.row, WORD.STATE);
        if (state === STATE.ENDED) {
          break;
        }
        Atomics.wait(slot.row, WORD.STATE, state, KICK_AGAIN_MS);
        this.kickOne(slot, REQUEST.END);
      }
    }
  }

  private kickAll(request: number): void {
    this.slots.forEach((slot) => this.kickOne(slot, request));
  }

  private kickOne(slot: Slot, request: number): void {
    const { row, run } = slot;
    Atomics.store(row, WORD.REQUEST, request);
    Atomics.notify(row, WORD.REQUEST);
    run.setUint8(RUN.IMMEDIATE_EXIT, 1);
    const thread = Atomics.load(row, WORD.THREAD);
    if (thread !== 0 && slot.thread !== null) {
      kick(thread);
    }
    if (request === REQUEST.END && Atomics.load(row, WORD.STATE) === STATE.EXITED) {
      this.answer(slot);
    }
  }

  async close(): Promise<void> {
    if (this.closed) {
      return;
    }
    this.closed = true;
    await this.request(REQUEST.END, STATE.ENDED);
    await Promise.all(this.endings);
    process.off("exit", this.atExit);
    this.watch.close();
    this.slots.forEach((slot) => releaseVcpu(slot));
    closeFd(this.doorbell);
  }
}

/** The program of a vCPU's thread: beside this module, or above it where the package's chunks are. */
function threadFile(): URL {
  const beside = new URL("./vcpu-thread.js", import.meta.url);
  return existsSync(beside) ? beside : new URL("../vcpu-thread.js", import.meta.url);
}
