/** The simulated hardware for who looks into it. Reads alone: nothing of it is counted, and nothing changes. */
import type { HostCachedEntry, HostInspector, HostUnit } from "../../../iommufd/index.js";
import type { SimulatedHardware } from "../hardware/index.js";

export function inspectHardware(hardware: SimulatedHardware): HostInspector {
  const memory = hardware.memory.words;
  return {
    units: (): HostUnit[] => [
      ...[...hardware.smmus.values()].map((smmu) => ({ id: smmu.name, architecture: "smmuv3" as const, registers: smmu.registers(), memory })),
      ...[...hardware.vtds.values()].map((vtd) => ({ id: vtd.name, architecture: "vtd" as const, registers: vtd.registers(), memory })),
    ],
    placeOf: (address) => {
      const fn = hardware.functions.get(address);
      return fn === undefined || fn.iommu === null ? null : { unit: fn.iommu.name, sourceId: fn.sourceId };
    },
    *cached(): Generator<HostCachedEntry> {
      for (const unit of [...hardware.smmus.values(), ...hardware.vtds.values()]) {
        for (const entry of unit.held()) {
          yield { ...entry, unit: unit.name, function: null };
        }
      }
      for (const fn of hardware.functions.values()) {
        if (fn.iommu === null) {
          continue;
        }
        for (const { pasid, privileged, translation } of fn.heldTranslations()) {
          const kind = privileged ? "privileged translation" : "translation";
          yield { unit: fn.iommu.name, cache: "device", kind, sourceId: fn.sourceId, function: fn.description.address, pasid, tags: {}, translation, global: false, words: [] };
        }
      }
    },
    // RAM of the host's process is pinned one to one.
    addressOf: (block, offset) => (offset < block.size ? block.hostAddress + offset : null),
  };
}
