/** What a running Linux tells of itself, for a record. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { machine, release } from "node:os";
import { join } from "node:path";
import type { KernelFacts } from "./record.js";

/** Modules whose parameters change answers. */
const MODULES = ["iommufd", "vfio", "vfio_pci", "vfio_pci_core", "arm_smmu_v3", "intel_iommu", "iommu"];

/** @param modules where sysfs has modules */
export function runningKernel(modules = "/sys/module"): KernelFacts {
  return { release: release(), simulated: false, machine: machine(), parameters: Object.fromEntries(MODULES.flatMap((name) => parametersOf(modules, name))) };
}

function parametersOf(modules: string, name: string): Array<[string, string]> {
  const path = join(modules, name, "parameters");
  if (!existsSync(path)) {
    return [];
  }
  return readdirSync(path).sort().flatMap((parameter): Array<[string, string]> => {
    try {
      return [[`${name}.${parameter}`, readFileSync(join(path, parameter), "utf8").trim()]];
    } catch {
      // Some can only be written.
      return [];
    }
  });
}
