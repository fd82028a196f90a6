/** A plan as those who start machines take it. */
import type { QemuVersion } from "../design.js";
import type { MachinePlan } from "../machine-plan.js";
import { qemuCommand, viommuArgs } from "./command-lines.js";
import { planText } from "./text.js";

export const PLAN_FORMATS = ["text", "qemu", "viommu"] as const;
export type PlanFormat = (typeof PLAN_FORMATS)[number];

export interface WriteOptions {
  /** As the user named the host: `viommu run --host` takes it. */
  readonly hostName: string;
  readonly qemu: QemuVersion;
}

/** The same plan gives the same bytes. @throws Refusal where the format's version cannot say it */
export function writePlan(plan: MachinePlan, format: PlanFormat, options: WriteOptions): string {
  switch (format) {
    case "text":
      return planText(plan);
    case "qemu":
      return qemuCommand(plan, options.qemu);
    case "viommu":
      return viommuArgs(plan, options.hostName);
  }
}
