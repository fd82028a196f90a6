/** Which functions the machine gets: those asked for. IOMMU groups decide which of them may, and what becomes of their companions. */
import { leavesDmaToVfio, notViable } from "../iommufd/index.js";
import { Refusal } from "../support/index.js";
import type { FunctionFacts, HostFacts } from "./host-facts.js";

export interface Selection {
  /** By address. */
  readonly functions: readonly FunctionFacts[];
  /** Those that share their group in the machine: they have no virtual IOMMU. */
  readonly sharing: ReadonlySet<FunctionFacts>;
  readonly preparations: readonly string[];
  readonly notes: readonly string[];
}

/**
 * The kernel keeps one table for an IOMMU group (Linux iommufd_device_attach, of a group whose table is another: EINVAL),
 * and a virtual IOMMU one for each function: of a group one function can be behind one.
 * @param withGroup companions that were not asked for are kept from everybody
 * @param withoutIommu functions of one group may come together, without a virtual IOMMU
 * @throws Refusal that tells of each function that cannot be had
 */
export function chooseFunctions(facts: HostFacts, devices: readonly string[], withGroup: boolean, withoutIommu: boolean): Selection {
  if (devices.length === 0) {
    throw new Refusal("no function of the host", { wouldWork: "--device ADDRESS, as often as there are functions" });
  }
  const refusals: Refusal[] = [];
  const chosen = namedFunctions(facts, devices, refusals);
  const functions = [...chosen.values()].sort((a, b) => (a.description.address < b.description.address ? -1 : 1));
  const sharing = new Set<FunctionFacts>();
  const preparations = new Set<string>();
  for (const fn of functions) {
    const { address } = fn.description;
    const missing = fn.companions.filter((other) => !chosen.has(other.address));
    const together = fn.companions.filter((other) => chosen.has(other.address));
    if (missing.length > 0 && !withGroup) {
      refusals.push(
        new Refusal(`vfio ${address}: ${notViable(fn.group!)}`, {
          found: `${missing.map((other) => `${other.address} (${other.name}, ${other.driver === "" ? "no driver" : `bound to ${other.driver}`})`).join(", ")} in the same IOMMU group`,
          wouldWork: `--with-group: they are kept for the machine, and nobody uses them, for the kernel keeps one table for a group, which the function behind the virtual IOMMU has${together.length > 0 || withoutIommu ? `; or ${missing.map((other) => `--device ${other.address}`).join(" ")}` : ""}`,
        }),
      );
    }
    for (const other of withGroup ? missing : []) {
      preparations.add(`${other.address} (${other.name}) is in IOMMU group ${fn.group} with ${address}: ${leavesDmaToVfio(other.driver) ? "" : `it is bound to ${other.driver}, give it to vfio-pci; `}nobody may use it while the machine runs, the machine itself neither: the kernel keeps one table for a group, and each function behind a virtual IOMMU has its own`);
    }
    if (together.length > 0) {
      sharing.add(fn);
      if (!withoutIommu && together.every((other) => address < other.address)) {
        refusals.push(
          new Refusal(`vfio ${together[0].address}: VFIO_ATTACH_IOMMUFD_PT: EINVAL`, {
            found: `${[fn.description, ...together].map((one) => `${one.address} (${one.name})`).join(", ")} in IOMMU group ${fn.group}: the kernel keeps one table for a group, and a virtual IOMMU has one for each function`,
            wouldWork: "one of them and --with-group; or --without-iommu: passed through without a virtual IOMMU",
          }),
        );
      }
    }
  }
  refusals.push(...functions.flatMap(({ obstacles }) => obstacles));
  if (refusals.length === 1) {
    throw refusals[0];
  }
  if (refusals.length > 1) {
    throw new Refusal(refusals.map(({ message }) => message).join("\n"));
  }
  const unknown = functions.filter(({ group }) => group === null);
  const whose = unknown.length === functions.length ? "its functions" : unknown.map(({ description }) => description.address).join(", ");
  return {
    functions,
    sharing,
    preparations: [...functions.flatMap((fn) => fn.preparations), ...preparations],
    notes: unknown.length === 0 ? [] : [`${facts.host.name} does not say the IOMMU groups of ${whose}: nobody may use others in them (ls /sys/bus/pci/devices/ADDRESS/iommu_group/devices)`],
  };
}

function namedFunctions(facts: HostFacts, devices: readonly string[], refusals: Refusal[]): Map<string, FunctionFacts> {
  const chosen = new Map<string, FunctionFacts>();
  for (const device of devices) {
    try {
      const fn = facts.function(device);
      if (chosen.has(fn.description.address)) {
        refusals.push(new Refusal(`vfio ${fn.description.address}: device is already attached`, { found: `--device ${device} a second time`, wouldWork: "each function once" }));
      }
      chosen.set(fn.description.address, fn);
    } catch (error) {
      if (!(error instanceof Refusal)) {
        throw error;
      }
      refusals.push(error);
    }
  }
  return chosen;
}
