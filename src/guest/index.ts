/** The guest: what plays the operating system. It sees the machine's port, nothing else. */
export { type GuestContext, type GuestFunction, type GuestOptions, type GuestProgram, type GuestReport, type GuestStep, type HotplugCandidate, type Provoked } from "./context.js";
export { GuestFailure, check } from "./failure.js";
export { guestPrograms, loadGuest, type ScriptContext } from "./load.js";
export { DEFAULT_GUEST, GUEST_NAMES, GUEST_TOLERANCES, type GuestName, REMOTE_BOARDS, type RemoteBoard, type Tolerance } from "./choices/index.js";
export { helpers, type GuestHelpers } from "./helpers.js";
export { linux } from "./linux.js";
export { IommuSet, type Source } from "./iommus.js";
export type { Device, HostBridge } from "./device.js";
export { Kernel, type KernelOptions } from "./kernel.js";
export { type Fault, Reporter, isProvoked, skip, stepLine } from "./report.js";
export { Random } from "./random.js";
export { InterruptController, type InterruptHandler } from "./interrupts.js";
export { GuestMemory } from "./memory.js";
export {
  msiDeviceOf,
  streamOf,
  type FirmwareDescription,
  type HostBridgeDescription,
  type IdMap,
  type PciWindow,
  type ReservedWindow,
  type SmmuDescription,
  type SmmuInterrupts,
} from "./firmware/description.js";
export { readFirmware } from "./firmware/read.js";
export { DeviceTreeNode, parseDeviceTree } from "./firmware/device-tree.js";
export { describeFromDeviceTree } from "./firmware/from-device-tree.js";
export { describeFromAcpi, readAcpiTables, type AcpiTable } from "./firmware/acpi.js";
export { parseDmar, type AddressRange, type DeviceScope, type Dmar, type RemappingUnit } from "./firmware/dmar.js";
export { parseIort, type Iort } from "./firmware/iort.js";
export { configAccess, type ConfigAccess } from "./pci/config-access.js";
export { enumerateBuses, rescanBelow, type EnumerationOptions } from "./pci/enumerate.js";
export type { RootBus } from "./pci/resources.js";
export { PciFunction, formatBdf, PCI } from "./pci/function.js";
export { functionLevelReset, hasFunctionLevelReset } from "./pci/reset.js";
export { ResourceMap } from "./pci/resources.js";
export { disableMessages, enableMsi, enableMsix, messageCount, type MsiMessage } from "./pci/msi.js";
export { atsControl, disablePasid, enablePasid } from "./pci/ats-pasid.js";
export { HotplugSlot, serviceUntil, watchSlots } from "./pci/hotplug.js";
export { SmmuDriver, type SmmuDriverOptions } from "./smmu/driver.js";
export { DomainIds } from "./iommu/domain-ids.js";
export { Domain, type DomainUser } from "./iommu/domain.js";
export type { AtsControl, DomainOptions, IommuDriver, IommuMaster, MasterDomain, MasterOptions } from "./iommu/driver.js";
export type { DecodedEvent, ExpectedFault, FaultCause } from "./iommu/events.js";
export { PageTable, type PageTableFormat, type Protection } from "./iommu/page-table.js";
export { toQwords } from "./iommu/words.js";
export { messageController, type InterruptRemapper, type MessageController, type MessageSource, type TakenMessages } from "./messages.js";
export { CommandQueue, type SyncMode } from "./smmu/command-queue.js";
export { decodeEvent } from "./smmu/event-queue.js";
export { SmmuDomain } from "./smmu/domain.js";
export { atcCommand, rangeCommands } from "./smmu/invalidation-commands.js";
export { SmmuMaster } from "./smmu/master.js";
export { vmsaFormat } from "./smmu/page-table-format.js";
export { cdKind, planUpdate, steKind } from "./smmu/entry-writer.js";
export { probeFeatures, type SmmuFeatures } from "./smmu/features.js";
export { ContextTable, StreamTable } from "./smmu/tables.js";
export type { DmaDevice, DmaOutcome, DmaRequest } from "./devices/dma-device.js";
export { DmaEngine, ENGINE_COPY, ENGINE_FILL, ENGINE_READ, ENGINE_WRITE, type EngineRequest } from "./devices/engine.js";
export { findDmaDevice } from "./devices/find.js";
export { NVME, type NvmeBuffer, type NvmeCommand, type NvmeCompletion, NvmeDriver, type NvmeParts, NvmeQueue, statusCode } from "./devices/nvme.js";
export { allocateFor, nvmeDevices, startNvme } from "./nvme-disk.js";
export { checkFault, checkTransfer, fillBuffers, freeBuffers, makeBuffers, transferLength, type Buffers } from "./dma-check.js";
export { VtdDriver, type VtdDriverOptions } from "./vtd/driver.js";
export { VtdDomain } from "./vtd/domain.js";
export { VtdMaster } from "./vtd/master.js";
export { InvalidationQueue, descriptor, deviceTlbRange, type DescriptorKind } from "./vtd/invalidation-queue.js";
export { InterruptTable } from "./vtd/interrupt-table.js";
export { decodeFault } from "./vtd/fault-log.js";
export { firstStageFormat, secondStageFormat } from "./vtd/page-table-format.js";
export { vtdFeatures, type VtdChoice, type VtdFeatures } from "./vtd/features.js";
