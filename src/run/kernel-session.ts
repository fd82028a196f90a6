/** A kernel in the place of the guest program: -kernel with -accel kvm. koffi is loaded with it, and only then. */
import type { ByteStream } from "../chardev/index.js";
import type { KernelGuest, KernelReport } from "../kernel-guest/index.js";
import type { MakeMemory } from "../memory/index.js";
import type { BootArguments } from "../machine/arguments/index.js";
import type { Machine } from "../machine/index.js";
import type { RunReport } from "./report/index.js";

export interface KernelSession {
  /** How the host makes the machine's memory. */
  readonly makeMemory: MakeMemory;
  /** Exits of the vCPUs so far; null: they have not run yet. */
  exits(): { readonly all: number; readonly byDevice: ReadonlyMap<string, number> } | null;
  /** Runs the kernel on a machine that has been started. @throws Refusal */
  run(machine: Machine, options: { readonly onConsole?: (text: string) => void; readonly ended: Promise<void> | null; readonly stop?: AbortSignal; readonly monitor?: (stream: ByteStream) => void }): Promise<KernelReport>;
}

/** @throws Refusal where the files cannot be read, or system calls not be made */
export async function openKernelSession(boot: BootArguments & { readonly kernel: string }): Promise<KernelSession> {
  const { KernelGuest, readKernelFiles, sharedMemory } = await import("../kernel-guest/index.js");
  const files = readKernelFiles(boot);
  let running: KernelGuest | null = null;
  return {
    makeMemory: sharedMemory,
    exits: () => running?.counts() ?? null,
    run: async (machine, { onConsole, ended, stop, monitor }) => {
      const guest: KernelGuest = new KernelGuest(machine, files, { onConsole, monitor });
      running = guest;
      // A monitor's quit, or a signal.
      void ended?.then(() => guest.quit());
      stop?.addEventListener("abort", () => guest.quit());
      return guest.run();
    },
  };
}

/** What of the account's `kernel` tells. @param iommus names of the IOMMUs' registers among the exits */
export function kernelReport(report: KernelReport | null, iommus: ReadonlySet<string>, invalidation: RunReport["invalidation"]): RunReport["kernel"] {
  if (report === null) {
    return null;
  }
  const { end, panics, exits, exitsByDevice, keptWrites, registerPages, resets, vcpus, consoleBytes, runs } = report;
  const round = (ms: number): number => Math.round(ms);
  const { guestCommands } = invalidation;
  const perThousand = (number: number): number => Math.round((number * 1000) / guestCommands);
  const toIommus = Object.entries(exitsByDevice).reduce((sum, [name, exits]) => sum + (iommus.has(name) ? exits : 0), 0);
  return {
    end: end.kind,
    reason: "reason" in end ? end.reason : null,
    panics: [...panics],
    vcpus,
    exits: { ...exits },
    exitsByDevice: { ...exitsByDevice },
    perThousandInvalidations: guestCommands === 0 ? null : { exits: perThousand(toIommus), hostCalls: perThousand(invalidation.hostCalls) },
    keptWrites,
    registerPages,
    runs,
    bootMs: report.bootMs === null ? null : round(report.bootMs),
    runMs: round(report.runMs),
    vcpuMs: round(report.vcpuMs),
    resets,
    consoleBytes,
  };
}

/** Why the run has failed by its kernel; null: it has not. */
export function kernelFailure(report: KernelReport | null): string | null {
  switch (report?.end.kind) {
    case "panic":
      return `the guest's kernel has panicked: ${report.end.reason}`;
    case "failed":
      return report.end.reason;
    default:
      return null;
  }
}
