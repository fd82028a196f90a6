/** What a guest program is given and what it gives back. */
import type { MachineOperator, MachinePort } from "../port/index.js";
import type { Tolerance } from "./choices/index.js";
import type { DecodedEvent } from "./iommu/events.js";
import type { VtdChoice } from "./vtd/features.js";
import type { SyncMode } from "./smmu/command-queue.js";

/** A device that the program may ask the operator to unplug and to plug again. */
export interface HotplugCandidate {
  readonly id: string;
  /** QEMU's spelling without `-device`. */
  readonly argument: string;
}

export interface GuestOptions {
  /** Seed of all patterns and sizes. */
  readonly seed: number;
  /** Page size in bytes of the guest's page tables. */
  readonly granule: 4096 | 16384 | 65536;
  /** Which tables are taken where there are both; a machine with one kind only is described by that. */
  readonly firmware: "dt" | "acpi";
  /** How CMD_SYNC is awaited; default as Linux does. */
  readonly sync?: SyncMode;
  /** VT-d: what the kernels that boot leave unused. */
  readonly vtd?: VtdChoice;
  /** VT-d: what the kernels that take over without a reset leave unused, one after the other; default one that is as the first. */
  readonly kexecs?: readonly VtdChoice[];
  readonly hotplug?: readonly HotplugCandidate[];
  /** Why the operator cannot reset the machine; left out: it can. */
  readonly noReset?: string;
  /** Checks that are left out; default none. */
  readonly tolerate?: readonly Tolerance[];
}

export interface GuestStep {
  readonly name: string;
  readonly ok: boolean;
  /** Why there was nothing to do. */
  readonly skipped?: string;
  /** What happened; for a failure what was expected and what was found. */
  readonly detail: string;
}

/** A fault that a step meant to happen, with the bytes of the transfer that it belongs to. */
export interface Provoked {
  readonly event: DecodedEvent;
  readonly length: number;
}

/** A function that is no bridge, as a boot found it. */
export interface GuestFunction {
  /** Number of its root bus, and devfn of each bridge on the way to it and its own, between slashes: what no boot changes. */
  readonly path: string;
  /** It was plugged while the guest ran. */
  readonly plugged: boolean;
  /** A driver was found for it. */
  readonly used: boolean;
  /** BARs without a place; `size` in bytes. */
  readonly unplaced: ReadonlyArray<{ readonly bar: number; readonly size: number; readonly prefetchable64: boolean }>;
}

export interface GuestReport {
  readonly steps: readonly GuestStep[];
  /** Bytes that devices moved and that were compared in memory. */
  readonly dmaChecked: number;
  /** Events read from the event queues, oldest first in each SMMU. */
  readonly events: readonly DecodedEvent[];
  /** Which of them, and of what the machine tells of them, were meant to happen; default none. */
  readonly provoked?: readonly Provoked[];
  /** Functions as each boot found them; left out by a program that looks for none. */
  readonly functions?: readonly GuestFunction[];
  readonly ok: boolean;
}

export interface GuestContext {
  readonly port: MachinePort;
  readonly operator: MachineOperator;
  /** A line for the run's account. */
  say(text: string): void;
  readonly options: GuestOptions;
}

export type GuestProgram = (context: GuestContext) => Promise<GuestReport>;
