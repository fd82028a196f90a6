/** What a run asks of a guest program: the shapes of src/guest that the account needs. */
import type { MachineOperator, MachinePort } from "../port/index.js";

export interface GuestEvent {
  readonly smmu: string;
  readonly name: string;
  readonly number: number;
  readonly streamId: number;
  readonly substreamId: number | null;
  readonly inputAddress: bigint;
  readonly ipa: bigint;
  readonly read: boolean;
  readonly stage2: boolean;
}

export interface GuestSummary {
  readonly steps: ReadonlyArray<{ readonly name: string; readonly ok: boolean; readonly skipped?: string; readonly detail: string }>;
  readonly dmaChecked: number;
  readonly events: readonly GuestEvent[];
  readonly ok: boolean;
}

export interface GuestStart {
  readonly port: MachinePort;
  readonly operator: MachineOperator;
  /** A line for whoever watches. */
  say(text: string): void;
  readonly options: {
    readonly seed: number;
    readonly granule: 4096 | 16384 | 65536;
    readonly firmware: "dt" | "acpi";
    readonly hotplug: ReadonlyArray<{ readonly id: string; readonly argument: string }>;
    /** Why the operator cannot reset the machine. */
    readonly noReset?: string;
    /** Checks of the guest that are left out. */
    readonly tolerate?: ReadonlyArray<"event-class">;
  };
}

/** A guest by its name, ready to run. */
export interface GuestToRun {
  readonly name: string;
  run(start: GuestStart): Promise<GuestSummary>;
}
