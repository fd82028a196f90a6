/** The suite: its groups, and a run of them on a host. */
import type { Host, HostFunction } from "../iommufd/index.js";
import { Refusal } from "../support/index.js";
import { type Answer, refusedAnswer } from "./answer.js";
import { Bench, type Subjects } from "./bench.js";
import { type Group, notRun, type SuiteOptions } from "./group.js";
import { bindGroups } from "./groups/bind.js";
import { commandGroups } from "./groups/commands.js";
import { hwptGroups } from "./groups/hwpt.js";
import { interruptGroups } from "./groups/interrupts.js";
import { ioasGroups } from "./groups/ioas.js";
import { nestGroups } from "./groups/nest.js";
import { structureGroups } from "./groups/structures.js";
import { vfioGroups } from "./groups/vfio.js";
import { vtdGroups } from "./groups/vtd.js";
import { type Facts, survey } from "./survey.js";

export const groups: readonly Group[] = [
  ...bindGroups,
  ...ioasGroups,
  ...hwptGroups,
  ...nestGroups,
  ...commandGroups,
  ...vtdGroups,
  ...vfioGroups,
  ...interruptGroups,
  ...structureGroups,
];

/** What a group's calls were answered, by their names in the order they were made; or why it was not run. */
export type GroupResult =
  | { readonly name: string; readonly answers: Readonly<Record<string, Answer>> }
  | { readonly name: string; readonly notRun: string };

export interface SuiteRun {
  readonly facts: Facts;
  readonly subjects: Subjects;
  readonly groups: readonly GroupResult[];
}

export interface SuiteRequest extends SuiteOptions {
  /** Host PCI addresses: the function under test, and others for the groups that need several. */
  readonly devices: readonly string[];
  /** Called before each group. */
  readonly onGroup?: (name: string) => void;
}

/**
 * Runs the suite. What a group opens it closes; functions stay bound to vfio-pci.
 * @throws Refusal where a function is not there, or cannot be taken
 */
export function runSuite(host: Host, request: SuiteRequest): SuiteRun {
  const subjects = chooseSubjects(host, request.devices);
  const facts = surveyed(host, subjects.device);
  const results = groups.map((group): GroupResult => {
    const why = notRun(group, facts, subjects, request);
    if (why !== null) {
      return { name: group.name, notRun: why };
    }
    request.onGroup?.(group.name);
    const bench = new Bench(host, subjects, facts, request);
    try {
      group.run(bench);
    } catch (error) {
      // Outside of its calls: opening the function, or memory.
      bench.answer("what the group needs", () => `refused: ${refusedAnswer(error)}`);
    } finally {
      bench.close();
    }
    return { name: group.name, answers: Object.fromEntries(bench.answers) };
  });
  return { facts, subjects, groups: results };
}

/** The first function is the one under test; of the others, which is a neighbour and which a stranger. @throws Refusal */
function chooseSubjects(host: Host, devices: readonly string[]): Subjects {
  const known = host.functions();
  const mine = known.filter(({ driver }) => driver === "vfio-pci");
  const chosen = devices.map((address): HostFunction => {
    const found = known.find((one) => one.address === address);
    if (found === undefined || found.driver !== "vfio-pci") {
      const state = found === undefined ? "there is no such function" : found.driver === "" ? "it has no driver" : `its driver is ${found.driver}`;
      throw new Refusal(`--device ${address}: not bound to vfio-pci`, {
        found: `${state} on ${host.description}`,
        wouldWork: mine.length > 0 ? mine.map((one) => one.address).join(", ") : "a function that is bound to vfio-pci (driver_override, then drivers_probe)",
      });
    }
    return found;
  });
  const [device, ...others] = chosen;
  if (device === undefined) {
    throw new Refusal("no function to test", { wouldWork: `--device and the address of one that is bound to vfio-pci${mine.length > 0 ? `: ${mine.map((one) => one.address).join(", ")}` : ""}` });
  }
  return {
    device: device.address,
    neighbour: others.find(({ iommu }) => iommu === device.iommu)?.address ?? null,
    stranger: others.find(({ iommu }) => iommu !== device.iommu)?.address ?? null,
  };
}

/** @throws Refusal */
function surveyed(host: Host, device: string): Facts {
  try {
    return survey(host, device);
  } catch (error) {
    if (error instanceof Refusal) {
      throw error;
    }
    throw new Refusal(`--device ${device}: cannot be taken`, {
      found: error instanceof Error ? error.message : String(error),
      wouldWork: "a function behind an IOMMU that nobody else has open",
    });
  }
}
