/** What a run asks of a guest program: the shapes of src/guest that the account needs. */
import type { MachineOperator, MachinePort } from "../port/index.js";

export interface GuestEvent {
  readonly iommu: string;
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

/** Checks of the guest that can be left out. */
export const GUEST_TOLERANCES = ["event-class", "pass-through", "second-stage-reason", "cached-permission", "rid-pasid", "unreported-fault"] as const;
export type GuestTolerance = (typeof GUEST_TOLERANCES)[number];

/** What a guest's VT-d driver leaves unused (where false), or does in another way (where true). */
export interface VtdWords {
  readonly scalable?: boolean;
  readonly interruptRemapping?: boolean;
  readonly queued?: boolean;
  readonly secondStage?: boolean;
  readonly copyTables?: boolean;
  readonly tearDownPasids?: boolean;
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
    /** VT-d: what the guest's kernels leave unused. */
    readonly vtd?: VtdWords;
    /** The same for each kernel that takes over without a reset. */
    readonly kexecs?: readonly VtdWords[];
    /** Checks of the guest that are left out. */
    readonly tolerate?: readonly GuestTolerance[];
  };
}

/** A guest by its name, ready to run. */
export interface GuestToRun {
  readonly name: string;
  run(start: GuestStart): Promise<GuestSummary>;
}
