/** Collects the steps of a guest program into its report. */
import { Refusal } from "../support/index.js";
import type { GuestReport, GuestStep } from "./context.js";
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
    this.say(`${step.skipped !== undefined ? "skip" : step.ok ? "ok  " : "FAIL"} ${name}: ${step.skipped ?? step.detail}`);
    return step.ok;
  }

  report(): GuestReport {
    return { steps: this.steps, dmaChecked: this.dmaChecked, events: this.events, ok: this.ok };
  }
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
