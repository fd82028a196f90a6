/** Collects the steps of a guest program into its report. */
import { Refusal } from "../support/index.js";
import type { GuestFunction, GuestReport, GuestStep, Provoked } from "./context.js";
import { GuestFailure } from "./failure.js";
import type { DecodedEvent } from "./iommu/events.js";

/** Thrown by a step that has nothing to do on this machine. */
export class Skipped extends Error {}

/** Ends the step as skipped for a reason. */
export function skip(reason: string): never {
  throw new Skipped(reason);
}

export class Reporter {
  readonly steps: GuestStep[] = [];
  readonly events: DecodedEvent[] = [];
  readonly provoked: Provoked[] = [];
  /** Null until somebody has looked. */
  functions: GuestFunction[] | null = null;
  dmaChecked = 0;

  constructor(private readonly say: (text: string) => void) {}

  get ok(): boolean {
    return this.steps.every((step) => step.ok);
  }

  /**
   * Runs a step; its result is the account of it. A failed check or a refusal becomes a failed step, anything
   * else that is thrown is a fault of the program and goes on. Returns whether the step is well.
   */
  async step(name: string, body: () => Promise<string>): Promise<boolean> {
    const step = await run(name, body);
    this.steps.push(step);
    this.say(stepLine(step));
    return step.ok;
  }

  report(): GuestReport {
    const { steps, dmaChecked, events, provoked, ok, functions } = this;
    return { steps, dmaChecked, events, provoked, ok, ...(functions === null ? {} : { functions }) };
  }
}

/** A step as it is said. */
export function stepLine({ name, ok, skipped, detail }: GuestStep): string {
  return `${skipped !== undefined ? "skip" : ok ? "ok  " : "FAIL"} ${name}: ${skipped ?? detail}`;
}

/** What a record and a log's line both have of a fault. */
export type Fault = Pick<DecodedEvent, "iommu" | "number" | "streamId" | "substreamId" | "inputAddress">;

/** It was meant to happen. A device may go on after the first access that fails: then each access of the transfer has a record. */
export function isProvoked(fault: Fault, provoked: readonly Provoked[]): boolean {
  return provoked.some(
    ({ event, length }) =>
      fault.iommu === event.iommu &&
      fault.number === event.number &&
      fault.streamId === event.streamId &&
      fault.substreamId === event.substreamId &&
      fault.inputAddress >= event.inputAddress &&
      fault.inputAddress < event.inputAddress + BigInt(length),
  );
}

async function run(name: string, body: () => Promise<string>): Promise<GuestStep> {
  try {
    return { name, ok: true, detail: await body() };
  } catch (error) {
    if (error instanceof Skipped) {
      return { name, ok: true, skipped: error.message, detail: "" };
    }
    if (error instanceof GuestFailure || error instanceof Refusal) {
      return { name, ok: false, detail: error.message };
    }
    throw error;
  }
}
