/**
 * The configuration space that a guest sees of a passed-through function: the host's, with the base addresses, the
 * interrupts and the control bits that the kernel keeps for itself emulated here.
 */
import { HwCapabilities, type HwInfo } from "../iommufd/index.js";
import {
  addExtendedCapability,
  addPasid,
  CAP_EXPRESS,
  CAP_POWER_MANAGEMENT,
  type ConfigSpace,
  EXT_CAP_ATS,
  EXT_CAP_PASID,
  findCapability,
  findExtendedCapability,
} from "../pci/index.js";
import { Refusal } from "../support/index.js";

export const CONFIG_BYTES = 4096;
/** First byte of extended configuration space. */
const EXTENDED = 0x100;
/** The page request capability (PCIe 10.5.2). */
const EXT_CAP_PRI = 0x13;
/** Bytes of a PASID capability. */
const PASID_BYTES = 8;
export const COMMAND = 0x04;
const BASE_ADDRESSES = 0x10;
const EXPANSION_ROM = 0x30;
/** Device Control in the PCI Express capability: all bits are kept but the one that starts a reset. */
const DEVICE_CONTROL = 8;
const DEVICE_CONTROL_KEPT = 0x7fff;
/** In the upper byte of Device Control. */
const FUNCTION_LEVEL_RESET = 0x80;
/** PMCSR in the power management capability, and its power state (PCIe 7.5.2.2). */
const POWER_CONTROL = 4;
const POWER_STATE = 3;

/** Where the registers are whose writes reach the device; 0: not there. */
export interface PassedRegisters {
  /** Device Control. */
  readonly deviceControl: number;
  /** PMCSR. */
  readonly power: number;
}

/**
 * Everything as the host has it, but what this side owns: command, BARs, and the expansion ROM, which is hidden: it
 * holds the host's boot code, and no guest here runs it.
 */
export function takeOver(config: ConfigSpace, host: Uint8Array): void {
  config.bytes.set(host);
  config.bytes.fill(0, COMMAND, COMMAND + 2);
  config.bytes.fill(0, BASE_ADDRESSES, BASE_ADDRESSES + 24);
  config.bytes.fill(0, EXPANSION_ROM, EXPANSION_ROM + 4);
}

/** Control registers that the guest may write: Device Control and the power state, which go to the device too, and ATS. */
export function allowControls(config: ConfigSpace): PassedRegisters {
  const express = findCapability(config, CAP_EXPRESS);
  if (express !== 0) {
    config.allow(express + DEVICE_CONTROL, 2, DEVICE_CONTROL_KEPT);
  }
  const power = findCapability(config, CAP_POWER_MANAGEMENT);
  if (power !== 0) {
    config.allow(power + POWER_CONTROL, 1, POWER_STATE);
  }
  const ats = findExtendedCapability(config, EXT_CAP_ATS);
  if (ats !== 0) {
    // The kernel enables ATS by itself where the entry has EATS; the guest's enable bit is kept, not passed on.
    config.set16(ats + 6, 0);
    config.allow(ats + 6, 2, 0x801f);
  }
  return { deviceControl: express === 0 ? 0 : express + DEVICE_CONTROL, power: power === 0 ? 0 : power + POWER_CONTROL };
}

/** What a write of Device Control sends to the device: the bit that starts a function level reset reads as zero; the kernel does the reset (PCIe 7.5.3.4). */
export function deviceControlBytes(config: ConfigSpace, control: number, offset: number, size: number, value: number): Uint8Array {
  const data = config.bytes.slice(control, control + 2);
  const byte = control + 1 - offset;
  if (byte < size && ((value >>> (8 * byte)) & FUNCTION_LEVEL_RESET) !== 0) {
    data[1] |= FUNCTION_LEVEL_RESET;
  }
  return data;
}

/** Power state of PMCSR: 0 is D0, 3 is D3hot. */
export function powerState(config: ConfigSpace, power: number): number {
  return power === 0 ? 0 : config.bytes[power] & POWER_STATE;
}

export interface TranslationServices {
  readonly info: HwInfo;
  /** `ats=` of the user. */
  readonly ats: boolean | "auto";
  /** The vIOMMU serves PASIDs. */
  readonly pasids: boolean;
  /** Offset for the PASID capability; 0: at the end. */
  readonly pasidOffset: number;
  /** For messages: with and without the host's address. */
  readonly name: string;
  readonly label: string;
}

/** ATS and PASID capabilities as the guest may see them. @throws Refusal */
export function offerTranslationServices(config: ConfigSpace, { info, ats: wanted, pasids, pasidOffset, name, label }: TranslationServices): void {
  const ats = findExtendedCapability(config, EXT_CAP_ATS);
  const unusable = (info.capabilities & HwCapabilities.PCI_ATS_NOT_SUPPORTED) !== 0;
  if (wanted === true && (ats === 0 || unusable)) {
    throw new Refusal("vfio-pci: ATS requested but not supported by kernel", {
      found: `${name} ${ats === 0 ? "has no ATS capability" : "is reported as not usable for ATS"}`,
      wouldWork: "ats=auto or ats=off",
    });
  }
  if (ats !== 0 && (wanted === false || (wanted === "auto" && unusable))) {
    hideExtendedCapability(config, EXT_CAP_ATS);
  }
  // The kernel keeps the PASID capability to itself; the guest gets one of its own (PCIe 7.8.9). Page requests
  // have nobody to answer them: the vSMMU shows IDR0.PRI as 0.
  hideExtendedCapability(config, EXT_CAP_PASID);
  hideExtendedCapability(config, EXT_CAP_PRI);
  if (pasids && info.maxPasidLog2 > 0) {
    const at = pasidOffset === 0 ? CONFIG_BYTES - PASID_BYTES : pasidOffset;
    if (!isFree(config, at)) {
      throw new Refusal(`vfio: Placing PASID capability at offset 0x${at.toString(16)} failed`, {
        found: `${label}: the offset is not a multiple of 4 from 0x100 to 0xff8, or another capability is there`,
        wouldWork: "x-vpasid-cap-offset=0, the end of configuration space",
      });
    }
    if (at !== EXTENDED && config.get32(EXTENDED) === 0) {
      // The list begins at 0x100 (PCIe 7.6.3): an empty one gets a null head that leads to the capability.
      addExtendedCapability(config, 0, 0, EXTENDED, 4);
    }
    addPasid(
      config,
      at,
      Math.min(info.maxPasidLog2, 20),
      (info.capabilities & HwCapabilities.PCI_PASID_EXEC) !== 0,
      (info.capabilities & HwCapabilities.PCI_PASID_PRIV) !== 0,
    );
  }
}

/** Whether the 8 bytes of a PASID capability fit at `at`: within extended space, and nothing is there. */
function isFree({ bytes }: ConfigSpace, at: number): boolean {
  return at >= EXTENDED && at % 4 === 0 && at + PASID_BYTES <= CONFIG_BYTES && bytes.subarray(at, at + PASID_BYTES).every((byte) => byte === 0);
}

/** Takes an extended capability out of the list; the first one, at 0x100, becomes a null capability. */
function hideExtendedCapability(config: ConfigSpace, id: number): void {
  const at = findExtendedCapability(config, id);
  if (at === 0) {
    return;
  }
  const next = config.get32(at) >>> 20;
  if (at === 0x100) {
    config.set32(at, (next << 20) >>> 0);
    return;
  }
  for (let previous = 0x100; previous !== 0; previous = config.get32(previous) >>> 20) {
    const header = config.get32(previous);
    if (header >>> 20 === at) {
      config.set32(previous, ((header & 0xfffff) | (next << 20)) >>> 0);
      return;
    }
  }
}
