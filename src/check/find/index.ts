/** All that is looked for: of a line that can be read, and of a machine that can be built. */
import type { Machine } from "../../machine/index.js";
import type { Raised, Subject } from "../subject.js";
import { busNumbers } from "./bus-numbers.js";
import { functionsWithoutIommu, groups, kernel, withoutHostIommu, withoutKvm } from "./host.js";
import { commandQueues, iommuAfterFunctions, mixedContainers, nestingWithoutCachingMode, outsideIommu, unknownFunctions, withoutAcpi, withoutFirmware } from "./iommu.js";
import { addressWidth, memoryLock } from "./memory.js";
import { nodesOfFunctions } from "./numa.js";
import { peerToPeer } from "./peers.js";
import { invalidationCalls, lostInvalidations, migrationBlocked } from "./speed.js";
import { olderSpellings, romFiles } from "./spelling.js";
import { olderQemu } from "./version.js";
import { windows } from "./windows.js";

export { functionsWithoutIommu };

const OF_LINE: ReadonlyArray<(subject: Subject) => Raised[]> = [
  olderSpellings,
  olderQemu,
  kernel,
  withoutKvm,
  withoutHostIommu,
  iommuAfterFunctions,
  withoutAcpi,
  withoutFirmware,
  outsideIommu,
  nestingWithoutCachingMode,
  mixedContainers,
  nodesOfFunctions,
  romFiles,
  commandQueues,
  unknownFunctions,
  groups,
  peerToPeer,
  memoryLock,
  lostInvalidations,
  invalidationCalls,
  migrationBlocked,
];

const OF_MACHINE: ReadonlyArray<(subject: Subject, machine: Machine) => Raised[]> = [busNumbers, windows, addressWidth];

export function ofLine(subject: Subject): Raised[] {
  return OF_LINE.flatMap((find) => find(subject));
}

/** @param machine built and started, without a guest */
export function ofMachine(subject: Subject, machine: Machine): Raised[] {
  return OF_MACHINE.flatMap((find) => find(subject, machine));
}
