/** Function level reset (PCIe 6.0, 6.6.2) with what a driver saves and restores around it. */
import { check } from "../failure.js";
import { CAP_EXPRESS, COMMAND_MASTER, COMMAND_MEMORY, PCI, type PciFunction } from "./function.js";

const DEVICE_CAPABILITIES = 4;
const DEVICE_CONTROL = 8;
const FLR_CAPABLE = 0x1000_0000;
const INITIATE_FLR = 0x8000;

export async function hasFunctionLevelReset(fn: PciFunction): Promise<boolean> {
  const express = fn.capabilities.get(CAP_EXPRESS);
  return express !== undefined && ((await fn.read32(express + DEVICE_CAPABILITIES)) & FLR_CAPABLE) !== 0;
}

/**
 * Resets the function and restores its BARs and Command register; MSI-X, PASID and ATS stay off. Returns false
 * where the function has no FLR. Throws GuestFailure where it still masters the bus or decodes after the reset.
 */
export async function functionLevelReset(fn: PciFunction): Promise<boolean> {
  const express = fn.capabilities.get(CAP_EXPRESS);
  if (express === undefined || !(await hasFunctionLevelReset(fn))) {
    return false;
  }
  const command = await fn.read16(PCI.COMMAND);
  const bars: number[] = [];
  for (let i = 0; i < 6; i++) {
    bars.push(await fn.read32(PCI.BAR0 + i * 4));
  }
  await fn.write16(PCI.COMMAND, 0);
  await fn.write16(express + DEVICE_CONTROL, (await fn.read16(express + DEVICE_CONTROL)) | INITIATE_FLR);
  const after = await fn.read16(PCI.COMMAND);
  check((after & (COMMAND_MASTER | COMMAND_MEMORY)) === 0, `${fn.name}: expected Command 0 after the reset, found 0x${after.toString(16)}`);
  for (const [i, value] of bars.entries()) {
    await fn.write32(PCI.BAR0 + i * 4, value);
  }
  await fn.write16(PCI.COMMAND, command);
  return true;
}
