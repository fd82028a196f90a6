/** What is asked of plans. */
import type { MachinePlan, PlannedFunction, PlannedPort } from "./report/index.js";

/** The machine's one iommufd, which all its functions share: memory is pinned once. */
export const IOMMUFD = "iommufd0";

/** Sockets by which CPUs of one NUMA node share none with another's, where they divide evenly; null: QEMU's. */
export function socketsOf({ cells, cpus }: MachinePlan): number | null {
  const withCpus = cells.filter((cell) => cell.cpus !== null).length;
  return withCpus > 1 && cpus % withCpus === 0 ? withCpus : null;
}

export function portsOf(plan: MachinePlan): PlannedPort[] {
  return plan.expanders.flatMap(({ ports }) => ports);
}

/** What it is for, in a line. */
export function titleOf(plan: MachinePlan): string {
  return `A machine for ${functionsOf(plan).map(({ host, name }) => `${host} (${name})`).join(", ")} of ${plan.host}`;
}

export function functionsOf(plan: MachinePlan): PlannedFunction[] {
  return portsOf(plan).flatMap(({ functions }) => functions);
}
