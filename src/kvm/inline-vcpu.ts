/**
 * The one vCPU of a machine, in the models' thread: KVM_RUN is called where the event loop would block, so that an exit
 * is answered without a word to another thread. A thread beside it gets it out when the loop has something to do. For
 * machines with one vCPU; docs/speed.md has what it saves.
 */
import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { closeFd, installKick, interruptibleIoctl, loopDescriptor, LoopTurns, makeEventFd, type Mapping, signalEventFd, threadId, TimerDescriptor } from "../linux/index.js";
import { KVM, RUN } from "./uapi.js";
import { type LoopWatchData, WATCH, WATCH_WORDS } from "./vcpu-state.js";
import { type ExitHandler, makeVcpu, processorMs, releaseVcpu, type Vcpu, type VcpuGroup } from "./vcpu.js";
import type { KvmVm } from "./vm.js";

const EINTR = 4;
const EAGAIN = 11;

/** A loop that always has something to do has it for so long, and then the guest for so long. */
const LOOP_MS = 4;
const GUEST_MS = 1;
const END_TRIES = 50;
const END_AGAIN_MS = 20;

export class InlineVcpu implements VcpuGroup {
  private static inLoop: InlineVcpu | null = null;

  /** The loop has one already: two would wait for each other's turns. */
  static get running(): boolean {
    return InlineVcpu.inLoop !== null;
  }

  onFailure: ((error: Error) => void) | null = null;
  private readonly vcpu: Vcpu & { readonly mapping: Mapping };
  private readonly row = new Int32Array(new SharedArrayBuffer(WATCH_WORDS * 4));
  private readonly turns: LoopTurns;
  private readonly timer: TimerDescriptor;
  private readonly ending: number;
  private readonly atExit = (): void => this.endWatch();
  private watch: Worker | null = null;
  private watchEnded: Promise<void> = Promise.resolve();
  private runCalls = 0;
  private startedMs = 0;
  /** The thread beside is there: until then the guest could not be left. */
  private ready = false;
  private paused = false;
  /** Its exit has been handled and is not answered: the machine ends or resets. */
  private waits = false;
  private closed = false;
  /** When the timer rings. */
  private rings = Infinity;
  private busySince = 0;

  /** Makes the vCPU, which does not run yet. In the main thread only. @throws SystemError, nothing left */
  constructor(
    vm: KvmVm,
    private readonly onExit: ExitHandler,
  ) {
    installKick();
    const undo: Array<() => void> = [];
    try {
      this.vcpu = makeVcpu(vm, 0, vm.runBytes);
      undo.push(() => releaseVcpu(this.vcpu));
      this.ending = makeEventFd();
      undo.push(() => closeFd(this.ending));
      this.timer = new TimerDescriptor();
      undo.push(() => closeFd(this.timer.fd));
      this.turns = new LoopTurns(() => this.turn());
      InlineVcpu.inLoop = this;
    } catch (error) {
      undo.reverse().forEach((step) => step());
      throw error;
    }
  }

  get all(): readonly Vcpu[] {
    return [this.vcpu];
  }

  get runs(): number {
    return this.runCalls;
  }

  /** Of the thread that the models have, too. */
  get processorMs(): number {
    return this.startedMs === 0 ? 0 : processorMs(threadId()) - this.startedMs;
  }

  start(): void {
    process.on("exit", this.atExit);
    this.startedMs = processorMs(threadId());
    const data: LoopWatchData = {
      shared: this.row.buffer as SharedArrayBuffer,
      vcpu: this.vcpu.fd,
      runBytes: this.vcpu.mapping.bytes,
      descriptors: [loopDescriptor(), this.timer.fd, this.ending],
      thread: threadId(),
    };
    const watch = (this.watch = new Worker(threadFile(), { workerData: data, name: "loop" }));
    this.watchEnded = new Promise((resolve) => {
      watch.once("exit", () => {
        Atomics.store(this.row, WATCH.ENDED, 1);
        this.watch = null;
        resolve();
      });
    });
    watch.once("message", () => {
      this.ready = true;
      this.goOn();
    });
    watch.on("error", (error) => this.onFailure?.(error instanceof Error ? error : new Error(String(error))));
  }

  private goOn(): void {
    if (!this.paused && !this.waits && !this.closed && this.ready) {
      this.turns.start();
    }
  }

  /** A turn of the loop: the guest has it where nothing else has. */
  private turn(): void {
    let ms = this.turns.untilWork();
    if (ms === 0) {
      const now = performance.now();
      if (this.busySince === 0) {
        this.busySince = now;
      }
      if (now - this.busySince < LOOP_MS) {
        return;
      }
      ms = GUEST_MS;
    }
    this.busySince = 0;
    this.enter(ms);
  }

  /** Runs the guest to its next exit, `ms` at the most (-1: as long as it likes), and answers it. */
  private enter(ms: number): void {
    const { row, vcpu } = this;
    const rang = Atomics.load(row, WATCH.KICKED) === 1;
    if (rang || ms >= 0) {
      const until = ms < 0 ? Infinity : performance.now() + ms;
      if (rang || until < this.rings) {
        this.timer.set(Math.max(ms, 0));
        this.rings = until;
      }
    }
    if (rang) {
      // The loop has had its turn since: what it has not taken has the thread beside kick again.
      vcpu.run.setUint8(RUN.IMMEDIATE_EXIT, 0);
      Atomics.store(row, WATCH.KICKED, 0);
      Atomics.notify(row, WATCH.KICKED);
    }
    this.runCalls++;
    const result = interruptibleIoctl(vcpu.fd, KVM.RUN, 0);
    if (result === -EINTR || result === -EAGAIN) {
      vcpu.run.setUint8(RUN.IMMEDIATE_EXIT, 0);
      return;
    }
    if (!this.onExit(vcpu, result < 0 ? result : vcpu.run.getUint32(RUN.EXIT_REASON, true))) {
      this.waits = true;
    }
    if (this.waits || this.paused || this.closed) {
      this.turns.stop();
    }
  }

  pause(): Promise<void> {
    this.hold();
    return Promise.resolve();
  }

  /** Whoever calls is not the guest. */
  hold(): boolean {
    this.paused = true;
    this.turns.stop();
    return true;
  }

  resume(): void {
    this.paused = false;
    this.goOn();
  }

  /** At the process's end: Node.js would wait for a thread that is in a system call. */
  private endWatch(): void {
    this.askToEnd();
    for (let tries = 0; tries < END_TRIES && this.watch !== null && Atomics.load(this.row, WATCH.ENDED) === 0; tries++) {
      Atomics.wait(this.row, WATCH.ENDED, 0, END_AGAIN_MS);
      this.askToEnd();
    }
  }

  private askToEnd(): void {
    Atomics.store(this.row, WATCH.END, 1);
    Atomics.notify(this.row, WATCH.KICKED);
    signalEventFd(this.ending);
  }

  async close(): Promise<void> {
    if (this.closed) {
      return;
    }
    this.closed = true;
    if (InlineVcpu.inLoop === this) {
      InlineVcpu.inLoop = null;
    }
    this.turns.close();
    this.askToEnd();
    await this.watchEnded;
    process.off("exit", this.atExit);
    releaseVcpu(this.vcpu);
    closeFd(this.timer.fd);
    closeFd(this.ending);
  }
}

/** The program of the thread beside: beside this module, or above it where the package's chunks are. */
function threadFile(): URL {
  const beside = new URL("./loop-watch-thread.js", import.meta.url);
  return existsSync(beside) ? beside : new URL("../loop-watch-thread.js", import.meta.url);
}
