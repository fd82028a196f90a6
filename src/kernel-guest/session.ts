/**
 * A kernel as the guest of a machine: vCPUs by KVM in the place of a guest program. Made, run, paused, reset and ended
 * with the machine; nothing of it is left after `run`.
 */
import { CoalescedWrites, type KvmVm, makeVcpus, type Vcpu, type VcpuGroup } from "../kvm/index.js";
import type { Machine } from "../machine/index.js";
import { Refusal } from "../support/index.js";
import type { ByteStream } from "../chardev/index.js";
import { Console } from "./console.js";
import { Exits, type VcpuEnd } from "./exits.js";
import type { KernelFiles } from "./files.js";
import { FunctionFiles } from "./function-files.js";
import { MemorySlots } from "./guest-memory.js";
import type { KernelPlatform } from "./platform.js";
import { platformOf } from "./platforms.js";

/** How a guest has ended. */
export type KernelEnd =
  | { readonly kind: "power-off" | "reset" | "quit" }
  | { readonly kind: "panic"; readonly reason: string }
  | { readonly kind: "failed"; readonly reason: string };

/** For the account. Times in milliseconds. */
export interface KernelReport {
  readonly end: KernelEnd;
  readonly vcpus: number;
  /** Reasons of panics, as its kernels have told them. */
  readonly panics: readonly string[];
  /** Exits by KVM's name, and by what answered those to registers and ports. */
  readonly exits: Readonly<Record<string, number>>;
  readonly exitsByDevice: Readonly<Record<string, number>>;
  /** Writes that KVM has kept until another exit, and that were none. */
  readonly keptWrites: number;
  /** IOMMUs whose registers the vCPUs read as memory: reads of them are no exits. */
  readonly registerPages: number;
  /** KVM_RUN calls. */
  readonly runs: number;
  /** From the first instruction to the kernel's start of its first program, as the console told; null: it did not. */
  readonly bootMs: number | null;
  readonly runMs: number;
  /** Processor time of the vCPUs' threads. */
  readonly vcpuMs: number;
  readonly resets: number;
  readonly consoleBytes: number;
}

export interface KernelOptions {
  /** Takes the first console's output besides its own device. */
  readonly onConsole?: (text: string) => void;
  /** Begins a monitor on a stream: Ctrl-a c on a console that is one's too (`mon:`); null: there is none. */
  readonly monitor?: ((stream: ByteStream) => void) | null;
}

/** What Linux prints when it starts its first program, and when it can go on no more. */
const FIRST_PROGRAM = /Run \S+ as init process/;
const PANIC = /Kernel panic - not syncing: ([^\r\n]*)[\r\n]/;
/** How long a write that waits for an exit waits where the guest makes none. */
const KEPT_MS = 50;
/** Characters of output in which words are looked for. */
const TAIL = 512;

interface Running {
  readonly vm: KvmVm;
  readonly vcpus: VcpuGroup;
  readonly slots: MemorySlots;
  /** Writes that wait for an exit, and what does them where there is none. */
  readonly kept: CoalescedWrites | null;
  readonly timer: NodeJS.Timeout | undefined;
  readonly disconnect: () => void;
  readonly functions: FunctionFiles | null;
}

export class KernelGuest {
  private readonly platform: KernelPlatform;
  private running: Running | null = null;
  private readonly consoles: Console[] = [];
  private readonly exits: Exits;
  private finish: (end: KernelEnd) => void = () => {};
  private readonly ended = new Promise<KernelEnd>((resolve) => (this.finish = resolve));
  private readonly started = performance.now();
  private bootMs: number | null = null;
  private runs = 0;
  private vcpuMs = 0;
  private resets = 0;
  private restarting: Promise<void> | null = null;
  /** It has ended: nothing is started any more. */
  private over = false;
  private tail = "";
  private readonly panics: string[] = [];
  /** The guest has told of a panic by its device. */
  private toldPanic = false;
  /** The machine was reset after a panic: no crash kernel has gone on. */
  private panicReset = false;

  constructor(
    private readonly machine: Machine,
    files: KernelFiles,
    private readonly options: KernelOptions = {},
  ) {
    const { accesses } = machine.board;
    this.platform = platformOf(machine, files);
    this.exits = new Exits(
      accesses,
      { nameOf: (address, isPort) => accesses.nameOf(address, isPort), onEnd: (end) => this.vcpuEnded(end), abort: (vcpu) => this.running !== null && this.platform.abort(this.running.vm, vcpu) },
      machine.log,
    );
  }

  /** Runs the guest to its end. @throws Refusal where KVM is not to be had, or a console cannot be opened */
  async run(): Promise<KernelReport> {
    const { machine } = this;
    const unsubscribe = machine.events.subscribe((event) => {
      switch (event.name) {
        case "STOP":
          void this.running?.vcpus.pause();
          break;
        case "RESUME":
          this.running?.vcpus.resume();
          break;
        case "GUEST_PANICKED":
          this.toldPanic = true;
          break;
        case "SHUTDOWN":
          this.finish({ kind: event.data.guest ? "power-off" : "quit" });
          break;
      }
    });
    machine.processors = { hold: () => this.hold(), reset: () => this.restart() };
    try {
      this.build();
      await this.openConsoles();
      await this.begin();
      const end = await this.ended;
      return this.report(this.judge(end));
    } finally {
      unsubscribe();
      machine.processors = null;
      await this.end();
      this.consoles.forEach((one) => one.close());
    }
  }

  /** Ends the guest from outside. */
  quit(): void {
    this.finish({ kind: "quit" });
  }

  /** A VM with the kernel at its entry. @throws Refusal, SystemError; nothing is left then */
  private build(): void {
    const { platform } = this;
    const vm = platform.open();
    let slots: MemorySlots | null = null;
    let functions: FunctionFiles | null = null;
    try {
      platform.prepare(vm);
      const { host, board, log } = this.machine;
      functions = host.hasDescriptors === true ? FunctionFiles.of(vm, board.hostFiles, log) : null;
      slots = new MemorySlots(vm, this.machine.board.memory, this.machine.log);
      const count = this.machine.args.smp.cpus;
      if (count > vm.mostVcpus) {
        throw new Refusal(`Number of SMP cpus requested (${count}) exceeds the maximum cpus supported by KVM (${vm.mostVcpus})`, { found: `-smp ${count}`, wouldWork: `-smp ${vm.mostVcpus}` });
      }
      const vcpus = makeVcpus(vm, count, (vcpu, reason) => this.answer(vcpu, reason));
      vcpus.onFailure = (error) => this.finish({ kind: "failed", reason: `a vCPU's thread: ${error.message}` });
      try {
        const kept = CoalescedWrites.open(vm, vcpus.all, platform.coalesced);
        const disconnect = platform.boot(vm, vcpus.all);
        const timer = kept === null ? undefined : setInterval(() => this.doKept(), KEPT_MS).unref();
        this.running = { vm, vcpus, slots, functions, kept, timer, disconnect };
      } catch (error) {
        void vcpus.close();
        throw error;
      }
    } catch (error) {
      slots?.close();
      functions?.close();
      vm.close();
      throw error;
    }
  }

  /** Starts the vCPUs; those of a machine that is stopped stand before their first instruction. */
  private async begin(): Promise<void> {
    const { vcpus } = this.running!;
    if (!this.machine.runState.running) {
      await vcpus.pause();
    }
    vcpus.start();
  }

  /** Before something changes the machine: what its processors have done so far is done. */
  private hold(): void {
    this.running?.vcpus.hold();
    this.doKept();
  }

  /** Does writes that waited, outside of a vCPU's exits. */
  private doKept(running = this.running): void {
    try {
      running?.kept?.drain(this.exits.coalesced);
    } catch (error) {
      this.finish({ kind: "failed", reason: `a write of a vCPU: ${wordsOf(error)}` });
    }
  }

  /** What a model or the host throws ends the run with its reason, not the process. */
  private answer(vcpu: Vcpu, reason: number): boolean {
    try {
      this.running?.kept?.drain(this.exits.coalesced);
      return this.exits.answer(vcpu, reason);
    } catch (error) {
      this.finish({ kind: "failed", reason: `an exit of vCPU ${vcpu.index}: ${wordsOf(error)}` });
      return false;
    }
  }

  private async openConsoles(): Promise<void> {
    const { serial: ports } = this.platform;
    for (const [index, serial] of this.machine.args.boot.serials.entries()) {
      const one = new Console(() => ports.uarts[index], { quit: () => this.quit(), monitor: serial?.monitor === true ? (this.options.monitor ?? null) : null });
      if (index === 0) {
        one.onOutput = (text) => this.heard(text);
      }
      ports.connect(index, { send: (byte) => one.send(byte), hasRoom: () => one.deliver() });
      this.consoles.push(one);
      if (serial !== null) {
        await one.open(serial.spec);
      }
    }
  }

  private heard(text: string): void {
    this.options.onConsole?.(text);
    this.tail = (this.tail + text).slice(-TAIL - text.length);
    if (this.bootMs === null && FIRST_PROGRAM.test(this.tail)) {
      this.bootMs = performance.now() - this.started;
    }
    for (let panic = PANIC.exec(this.tail); panic !== null; panic = PANIC.exec(this.tail)) {
      this.panics.push(panic[1]);
      this.tail = this.tail.slice(panic.index + panic[0].length);
    }
    this.tail = this.tail.slice(-TAIL);
  }

  /** A kernel that has panicked does not power the machine off: one that it had loaded for that (kdump) does. */
  private judge(end: KernelEnd): KernelEnd {
    const panicked = this.toldPanic || this.panicReset || (this.panics.length > 0 && end.kind !== "power-off");
    return panicked && end.kind !== "failed" ? { kind: "panic", reason: this.panics.at(-1) ?? "told by a pvpanic" } : end;
  }

  private vcpuEnded(end: VcpuEnd): void {
    switch (end.kind) {
      case "reset":
        this.machine.guestReset();
        break;
      case "power-off":
        this.machine.guestPowerOff();
        break;
      case "failed":
        this.finish(end);
        break;
    }
  }

  /** The machine has been reset: the kernel starts anew in a VM of its own. */
  private restart(): void {
    if (this.restarting !== null || this.over) {
      return;
    }
    this.resets++;
    this.panicReset ||= this.panics.length > 0;
    this.restarting = (async () => {
      try {
        await this.takeDown();
        if (!this.over) {
          this.build();
          await this.begin();
        }
      } catch (error) {
        this.finish({ kind: "failed", reason: wordsOf(error) });
      } finally {
        this.restarting = null;
      }
    })();
  }

  /** Takes down what runs, and what a reset that is under way may still start. Safe to call twice. */
  private async end(): Promise<void> {
    this.over = true;
    await this.restarting;
    await this.takeDown();
  }

  private async takeDown(): Promise<void> {
    const { running } = this;
    this.running = null;
    if (running === null) {
      return;
    }
    // What the guest has said last is heard.
    this.doKept(running);
    clearInterval(running.timer);
    running.disconnect();
    this.vcpuMs += running.vcpus.processorMs;
    this.runs += running.vcpus.runs;
    await running.vcpus.close();
    running.slots.close();
    running.functions?.close();
    running.vm.close();
  }

  /** Exits so far, and by what answered them. */
  counts(): { readonly all: number; readonly byDevice: ReadonlyMap<string, number> } {
    return { all: [...this.exits.byKind.values()].reduce((sum, count) => sum + count, 0), byDevice: new Map(this.exits.byDevice) };
  }

  private async report(end: KernelEnd): Promise<KernelReport> {
    const runMs = performance.now() - this.started;
    await this.end();
    return {
      end,
      vcpus: this.machine.args.smp.cpus,
      panics: [...this.panics],
      exits: Object.fromEntries(this.exits.byKind),
      exitsByDevice: Object.fromEntries(this.exits.byDevice),
      keptWrites: this.exits.keptWrites,
      registerPages: this.platform.registerPages,
      runs: this.runs,
      bootMs: this.bootMs,
      runMs,
      vcpuMs: this.vcpuMs,
      resets: this.resets,
      consoleBytes: this.platform.serial.uarts.reduce((sum, uart) => sum + uart.sent, 0),
    };
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
