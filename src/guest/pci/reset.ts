/** Function level reset (PCIe 6.0, 6.6.2) with what Linux saves and restores around it (pci_reset_function). */
import { check } from "../failure.js";
import { atsSwitch, pasidSwitch } from "./ats-pasid.js";
import { CAP_EXPRESS, COMMAND_MASTER, COMMAND_MEMORY, EXT_CAP_ATS, PCI, type PciFunction } from "./function.js";

const DEVICE_CAPABILITIES = 4;
const DEVICE_CONTROL = 8;
const FLR_CAPABLE = 0x1000_0000;
const INITIATE_FLR = 0x8000;

export async function hasFunctionLevelReset(fn: PciFunction): Promise<boolean> {
  const express = fn.capabilities.get(CAP_EXPRESS);
  return express !== undefined && ((await fn.read32(express + DEVICE_CAPABILITIES)) & FLR_CAPABLE) !== 0;
}

/** What is done about a function's translation while it is reset. */
export interface ResetTranslation {
  block(): Promise<void>;
  resume(): Promise<void>;
}

/**
 * Resets the function and restores PASID, ATS, its BARs and its Command register, in this order
 * (pci_restore_state); messages stay off. A function that has ATS is blocked by its IOMMU meanwhile, and has its
 * domain again before anything is restored (Linux from 7.0: pci_dev_reset_iommu_prepare and _done around the
 * reset in pcie_flr); others stay as they are. Returns false where the function has no FLR. Throws GuestFailure
 * where it still masters the bus or decodes after the reset.
 */
export async function functionLevelReset(fn: PciFunction, translation: ResetTranslation): Promise<boolean> {
  const express = fn.capabilities.get(CAP_EXPRESS);
  if (express === undefined || !(await hasFunctionLevelReset(fn))) {
    return false;
  }
  const command = await fn.read16(PCI.COMMAND);
  const bars: number[] = [];
  for (let i = 0; i < 6; i++) {
    bars.push(await fn.read32(PCI.BAR0 + i * 4));
  }
  const switches = [pasidSwitch(fn), atsSwitch(fn)].filter((at) => at !== null);
  const extended: number[] = [];
  for (const at of switches) {
    extended.push(await fn.read16(at));
  }
  const blocked = fn.extendedCapabilities.has(EXT_CAP_ATS);
  await fn.write16(PCI.COMMAND, 0);
  if (blocked) {
    await translation.block();
  }
  await fn.write16(express + DEVICE_CONTROL, (await fn.read16(express + DEVICE_CONTROL)) | INITIATE_FLR);
  const after = await fn.read16(PCI.COMMAND);
  check((after & (COMMAND_MASTER | COMMAND_MEMORY)) === 0, `${fn.name}: expected Command 0 after the reset, found 0x${after.toString(16)}`);
  if (blocked) {
    await translation.resume();
  }
  for (const [i, value] of extended.entries()) {
    await fn.write16(switches[i], value);
  }
  for (const [i, value] of bars.entries()) {
    await fn.write32(PCI.BAR0 + i * 4, value);
  }
  await fn.write16(PCI.COMMAND, command);
  return true;
}
