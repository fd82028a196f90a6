/** An SMMU in the account: what it is, and what it did. */
import type { IommuDescription, InvalidationAccount } from "../iommu-account.js";
import type { MachineSmmu } from "./smmu-set.js";
import { FIRST_SPI } from "./map.js";

type Member = Pick<MachineSmmu, "device" | "bus" | "acceleration" | "legacy" | "base" | "spi">;

export function describeSmmu({ device, bus, acceleration, legacy, base, spi }: Member): IommuDescription {
  const { stage, ril, ats, oas, ssidsize } = device.properties;
  return {
    id: device.id,
    bus: bus.id,
    accel: acceleration !== null,
    hostIommu: acceleration?.hostIommu ?? null,
    legacy,
    base,
    interrupts: [0, 1, 2, 3].map((index) => FIRST_SPI + spi + index),
    features: { stage, ril, ats, oas, ssidsize },
    // Substreams are in the guest's own tables, which the host's SMMU walks.
    bindings: (acceleration?.describeFunctions() ?? []).map(({ name, table, reason, hwptId }) => ({
      function: name,
      pasid: null,
      table,
      reason,
      hwpt: hwptId,
      domain: null,
      hostIommu: acceleration?.hostIommu ?? null,
    })),
  };
}

export function smmuInvalidation({ device, acceleration }: Member): InvalidationAccount {
  const counters = device.counters();
  const guestCommands = Object.entries(counters.commandsByName)
    .filter(([name]) => /TLBI|ATC_INV|CFGI_CD/.test(name))
    .reduce((sum, [, count]) => sum + count, 0);
  return {
    iommu: device.id,
    commands: counters.commandsByName,
    guestCommands,
    forwarded: acceleration?.forwarded ?? 0,
    hostCalls: acceleration?.invalidateCalls ?? 0,
  };
}
