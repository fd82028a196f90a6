/** Which functions the machine gets: those asked for, and the companions of their IOMMU groups. */
import { Refusal } from "../support/index.js";
import type { FunctionFacts, HostFacts } from "./host-facts.js";

/** By address. @throws Refusal that tells of each function that cannot be had */
export function chooseFunctions(facts: HostFacts, devices: readonly string[], withGroup: boolean): { functions: FunctionFacts[]; notes: string[] } {
  if (devices.length === 0) {
    throw new Refusal("no function of the host", { wouldWork: "--device ADDRESS, as often as there are functions" });
  }
  const notes: string[] = [];
  const chosen = new Map<string, FunctionFacts>();
  const refusals: Refusal[] = [];
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
  for (const fn of [...chosen.values()]) {
    const missing = fn.companions.filter(({ address }) => !chosen.has(address));
    if (missing.length === 0) {
      continue;
    }
    const names = missing.map(({ address, name }) => `${address} (${name})`).join(", ");
    if (withGroup) {
      missing.forEach((other) => chosen.set(other.address, facts.factsOf(other)));
      notes.push(`${names}: with ${fn.description.address}, whose IOMMU group ${fn.group} it is in`);
    } else {
      refusals.push(
        new Refusal(`vfio ${fn.description.address}: group ${fn.group} is not viable`, {
          found: `${names} in the same IOMMU group: functions of one group go to one machine`,
          wouldWork: `${missing.map(({ address }) => `--device ${address}`).join(" ")}, or --with-group`,
        }),
      );
    }
  }
  const functions = [...chosen.values()].sort((a, b) => (a.description.address < b.description.address ? -1 : 1));
  refusals.push(...functions.flatMap(({ obstacles }) => obstacles));
  if (refusals.length === 1) {
    throw refusals[0];
  }
  if (refusals.length > 1) {
    throw new Refusal(refusals.map(({ message }) => message).join("\n"));
  }
  const unknown = functions.filter(({ group }) => group === null);
  if (unknown.length > 0) {
    notes.push(`${facts.host.name} does not say the IOMMU groups of ${unknown.length === functions.length ? "its functions" : unknown.map(({ description }) => description.address).join(", ")}: other functions of theirs have to go with them (ls /sys/bus/pci/devices/ADDRESS/iommu_group/devices)`);
  }
  return { functions, notes };
}
