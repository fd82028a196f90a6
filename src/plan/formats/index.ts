/** A plan as those who start machines take it. */
import type { QemuVersion } from "../design.js";
import type { MachinePlan } from "../report/index.js";
import { qemuCommand, viommuArgs } from "./command-lines.js";
import { kubevirtYaml } from "./kubevirt.js";
import { libvirtXml, type LibvirtVersion } from "./libvirt.js";
import { planText } from "./text.js";

export { LIBVIRT_VERSIONS, type LibvirtVersion } from "./libvirt.js";

export const PLAN_FORMATS = ["text", "qemu", "libvirt", "kubevirt", "viommu", "json"] as const;
export type PlanFormat = (typeof PLAN_FORMATS)[number];

export interface WriteOptions {
  /** As the user named the host: `viommu run --host` takes it. */
  readonly hostName: string;
  readonly qemu: QemuVersion;
  readonly libvirt: LibvirtVersion;
}

/** The same plan gives the same bytes. */
export function writePlan(plan: MachinePlan, format: PlanFormat, options: WriteOptions): string {
  switch (format) {
    case "text":
      return planText(plan, options.qemu);
    case "qemu":
      return qemuCommand(plan, options.qemu);
    case "libvirt":
      return libvirtXml(plan, options.libvirt, options.qemu);
    case "kubevirt":
      return kubevirtYaml(plan);
    case "viommu":
      return viommuArgs(plan, options.hostName);
    case "json":
      return `${JSON.stringify(plan, null, 2)}\n`;
  }
}
