/** Whether the machine runs, and what happens to it as a whole: what a monitor tells and commands (QEMU's qapi/run-state.json). */

export type RunStatus = "prelaunch" | "running" | "paused" | "guest-panicked" | "internal-error" | "shutdown";

export type MachineEvent =
  | { readonly name: "STOP" | "RESUME" | "POWERDOWN" }
  | { readonly name: "GUEST_PANICKED" | "GUEST_CRASHLOADED"; readonly data: { readonly action: "pause" | "poweroff" | "run" } }
  | { readonly name: "GUEST_PVSHUTDOWN" }
  | { readonly name: "RESET" | "SHUTDOWN"; readonly data: { readonly guest: boolean; readonly reason: string } }
  | { readonly name: "DEVICE_DELETED"; readonly data: { readonly device?: string; readonly path: string } };

/** Those who listen to what happens. */
export class MachineEvents {
  private readonly listeners = new Set<(event: MachineEvent) => void>();

  /** @returns ends it */
  subscribe(listener: (event: MachineEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  emit(event: MachineEvent): void {
    this.listeners.forEach((listener) => listener(event));
  }
}

/** The guest runs or stands still: its accesses wait while the machine is stopped, and for ever once it is gone. */
export class RunState {
  private current: RunStatus = "prelaunch";
  private gone = false;
  private waiting: Array<() => void> = [];

  constructor(private readonly events: MachineEvents) {}

  get status(): RunStatus {
    return this.current;
  }

  get running(): boolean {
    return this.current === "running";
  }

  /** The machine has been built; -S leaves it as it is. */
  launch(): void {
    this.set("running");
  }

  stop(why: "paused" | "guest-panicked" | "internal-error" = "paused"): void {
    if (this.running) {
      this.set(why);
      this.events.emit({ name: "STOP" });
    }
  }

  /** `cont`, of a stopped machine or one that has not been launched. */
  resume(): void {
    if (!this.running && this.current !== "shutdown") {
      this.set("running");
      this.events.emit({ name: "RESUME" });
    }
  }

  /** The guest has ended: it does not run again before a reset. */
  shutDown(): void {
    this.set("shutdown");
  }

  /** A reset of a machine that is shut down, whose guest has panicked or whose device has failed leaves it stopped. */
  reset(): void {
    if (this.current === "shutdown" || this.current === "guest-panicked" || this.current === "internal-error") {
      this.set("paused");
    }
  }

  /** The machine is taken apart: whoever waits does so for ever. */
  end(): void {
    this.gone = true;
    this.waiting = [];
  }

  /** Null: the guest runs; else it resolves when it does. */
  whenRunning(): Promise<void> | null {
    if (this.running && !this.gone) {
      return null;
    }
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private set(status: RunStatus): void {
    this.current = status;
    if (status === "running") {
      this.waiting.splice(0).forEach((resolve) => resolve());
    }
  }
}
