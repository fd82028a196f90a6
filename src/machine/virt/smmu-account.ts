/** An SMMU in the account: what it is, and what it did. */
import type { IommuDescription, InvalidationAccount } from "../iommu-account.js";
import type { PciBus } from "../../pci/index.js";
import type { SmmuAcceleration, SmmuV3 } from "../../smmuv3/index.js";
import { FIRST_SPI } from "./map.js";

/** An SMMU as the account knows it. */
export interface SmmuMember {
  readonly device: SmmuV3;
  readonly bus: PciBus;
  readonly acceleration: SmmuAcceleration | null;
  /** The SMMU of -machine iommu=smmuv3. */
  readonly legacy: boolean;
  /** Guest-physical address of its registers. */
  readonly base: number;
  /** The first of four SPIs: eventq, priq, cmdq-sync, gerror. */
  readonly spi: number;
}

export function describeSmmu({ device, bus, acceleration, legacy, base, spi }: SmmuMember): IommuDescription {
  const { stage, ril, ats, oas, ssidsize, msi } = device.properties;
  return {
    id: device.id,
    bus: bus.id,
    accel: acceleration !== null,
    hostIommu: acceleration?.hostIommu ?? null,
    legacy,
    base,
    interrupts: [0, 1, 2, 3].map((index) => FIRST_SPI + spi + index),
    features: { stage, ril, ats, oas, ssidsize, msi },
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

export function smmuInvalidation({ device, acceleration }: SmmuMember): InvalidationAccount {
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
