/** The building blocks that a user's script gets as `context.helpers`: the guest's own, by name. */
import { checkFault, checkTransfer, fillBuffers, freeBuffers, makeBuffers, transferLength } from "./dma-check.js";
import { findDmaDevice } from "./devices/find.js";
import { GuestFailure, check } from "./failure.js";
import { readFirmware } from "./firmware/read.js";
import { InterruptController } from "./interrupts.js";
import { Kernel } from "./kernel.js";
import { linux } from "./linux.js";
import { GuestMemory } from "./memory.js";
import { allocateFor, nvmeDevices, startNvme } from "./nvme-disk.js";
import { configAccess } from "./pci/config-access.js";
import { enumerateBuses } from "./pci/enumerate.js";
import { serviceUntil, watchSlots } from "./pci/hotplug.js";
import { Random } from "./random.js";
import { Reporter, skip } from "./report.js";
import { Domain } from "./iommu/domain.js";
import { SmmuDriver } from "./smmu/driver.js";
import { VtdDriver } from "./vtd/driver.js";
import type { DecodedEvent } from "./iommu/events.js";

export const helpers = {
  Kernel,
  Reporter,
  Random,
  GuestFailure,
  GuestMemory,
  InterruptController,
  SmmuDriver,
  VtdDriver,
  Domain,
  check,
  skip,
  readFirmware,
  configAccess,
  enumerateBuses,
  findDmaDevice,
  nvmeDevices,
  startNvme,
  allocateFor,
  makeBuffers,
  fillBuffers,
  freeBuffers,
  transferLength,
  checkTransfer,
  checkFault,
  watchSlots,
  serviceUntil,
  formatEvent: (event: DecodedEvent): string => event.text,
  linux,
} as const;

export type GuestHelpers = typeof helpers;
