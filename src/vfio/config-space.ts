/**
 * The configuration space that a guest sees of a passed-through function, as QEMU's vfio-pci makes it: the host's, but
 * for base addresses, ROM, interrupts, the lists of capabilities, and what a machine does not serve, which are this side's.
 */
import { HwCapabilities, type HwInfo } from "../iommufd/index.js";
import {
  addExtendedCapability,
  addPasid,
  CAP_EXPRESS,
  CAP_MSI,
  CAP_MSIX,
  CAP_POWER_MANAGEMENT,
  type ConfigSpace,
  EXT_CAP_ATS,
  EXT_CAP_PASID,
  findCapability,
  findExtendedCapability,
  removeCapability,
} from "../pci/index.js";
import { Refusal } from "../support/index.js";
import type { ConfigPassage } from "./config-passage.js";

export const CONFIG_BYTES = 4096;
/** First byte of extended configuration space. */
const EXTENDED = 0x100;
/** Links of a list that are followed at most: a list that a device has wrong does not end else. */
const MOST_LINKS = 960;
/** Bytes of a PASID capability. */
const PASID_BYTES = 8;
export const COMMAND = 0x04;
/** I/O, memory, bus master, parity error response, SERR, INTx disable (PCIe 7.5.1.1.3). */
const COMMAND_BITS = 0x0547;
const HEADER_TYPE = 0x0e;
const MULTIFUNCTION = 0x80;
const BASE_ADDRESSES = 0x10;
const EXPANSION_ROM = 0x30;
const CAPABILITIES = 0x34;
const INTERRUPT_LINE = 0x3c;
const INTERRUPT_PIN = 0x3d;
/** Advanced features (PCI 3.0 AF ECN): its control register starts a reset by bit 0. */
const CAP_ADVANCED_FEATURES = 0x13;
const ADVANCED_FEATURES_CONTROL = 4;
/** Device Control in the PCI Express capability, and the bit of its upper byte that starts a reset (PCIe 7.5.3.4). */
const DEVICE_CONTROL = 8;
const FUNCTION_LEVEL_RESET = 0x80;
/** PMCSR in the power management capability, and its power state (PCIe 7.5.2.2). */
const POWER_CONTROL = 4;
const POWER_STATE = 3;

/** Extended capabilities that no machine here serves, and their bytes (PCIe 10.5.2, 9.3.3, 9.3.7.5, 7.8.8). */
const EXT_CAP_PRI = 0x13;
const EXT_CAP_REBAR = 0x15;
const UNSERVED = [
  // Next functions are the machine's, and single root I/O virtualization the host's.
  { id: 0x0e, bytes: 8 },
  { id: 0x10, bytes: 64 },
  { id: 0x24, bytes: 4 + 6 * 8 },
] as const;

/** Where the registers are that this side takes part in; 0: not there. */
export interface WatchedRegisters {
  /** The byte, and the bit of it, of each register that starts a reset of the function. */
  readonly resets: ReadonlyArray<{ readonly offset: number; readonly bit: number }>;
  /** PMCSR. */
  readonly power: number;
}

/** Everything as the host has it, but what is this side's. The expansion ROM is hidden here: `offerRom` shows it. */
export function takeOver(config: ConfigSpace, passage: ConfigPassage, host: Uint8Array): void {
  config.bytes.set(host);
  config.bytes.fill(0, COMMAND, COMMAND + 2);
  config.allow(COMMAND, 2, COMMAND_BITS);
  config.bytes.fill(0, BASE_ADDRESSES, BASE_ADDRESSES + 24);
  config.bytes.fill(0, EXPANSION_ROM, EXPANSION_ROM + 4);
  passage.emulate(COMMAND, 2);
  passage.emulateBits(HEADER_TYPE, MULTIFUNCTION);
  passage.emulate(BASE_ADDRESSES, 24);
  passage.emulate(EXPANSION_ROM, 4);
  passage.emulate(CAPABILITIES, 1);
  passage.emulate(INTERRUPT_LINE, 1);
  passage.emulate(INTERRUPT_PIN, 1);
  for (let at = config.bytes[CAPABILITIES] & 0xfc, links = 0; at !== 0 && links < MOST_LINKS; at = config.bytes[at + 1] & 0xfc, links++) {
    passage.emulate(at + 1, 1);
    const bytes = interruptCapabilityBytes(config, at);
    if (bytes > 0) {
      passage.emulate(at, bytes);
    }
  }
  for (let at = EXTENDED, links = 0; at !== 0 && links < MOST_LINKS; at = config.get32(at) >>> 20, links++) {
    passage.emulate(at, 4);
  }
}

/** Bytes of an MSI or MSI-X capability (PCIe 7.7.1, 7.7.2); 0: it is another one. */
function interruptCapabilityBytes(config: ConfigSpace, at: number): number {
  switch (config.bytes[at]) {
    case CAP_MSIX:
      return 12;
    case CAP_MSI: {
      const control = config.bytes[at + 2] | (config.bytes[at + 3] << 8);
      return 10 + ((control & 0x80) === 0 ? 0 : 4) + ((control & 0x100) === 0 ? 0 : 10);
    }
    default:
      return 0;
  }
}

/** Registers whose writes this side has to know of; the power state can be written. */
export function watchRegisters(config: ConfigSpace): WatchedRegisters {
  const express = findCapability(config, CAP_EXPRESS);
  const features = findCapability(config, CAP_ADVANCED_FEATURES);
  const power = findCapability(config, CAP_POWER_MANAGEMENT);
  if (power !== 0) {
    config.allow(power + POWER_CONTROL, 1, POWER_STATE);
  }
  return {
    resets: [
      ...(express === 0 ? [] : [{ offset: express + DEVICE_CONTROL + 1, bit: FUNCTION_LEVEL_RESET }]),
      ...(features === 0 ? [] : [{ offset: features + ADVANCED_FEATURES_CONTROL, bit: 1 }]),
    ],
    power: power === 0 ? 0 : power + POWER_CONTROL,
  };
}

/** A write starts a reset of the function, which the host does. */
export function startsReset({ resets }: WatchedRegisters, offset: number, size: number, value: number): boolean {
  return resets.some((one) => one.offset >= offset && one.offset < offset + size && ((value >>> (8 * (one.offset - offset))) & one.bit) !== 0);
}

/** Power state of PMCSR: 0 is D0, 3 is D3hot. */
export function powerState(config: ConfigSpace, power: number): number {
  return power === 0 ? 0 : config.bytes[power] & POWER_STATE;
}

/** PCI Express capability: flags, link registers, link registers 2 (PCIe 7.5.3). */
const FLAGS = 2;
const TYPE = 0x00f0;
const VERSION = 0x000f;
const ENDPOINT = 0x0;
const LEGACY_ENDPOINT = 0x1;
const ROOT_COMPLEX_ENDPOINT = 0x9;
const LINK_CAPABILITIES = 0x0c;
const LINK_CONTROL = 0x10;
const LINK_STATUS = 0x12;
const LINK_CAPABILITIES_2 = 0x2c;
const LINK_CONTROL_2 = 0x30;
const LINK_STATUS_2 = 0x32;
/** 2.5 GT/s by one lane. */
const SLOWEST_LINK = 0x11;

/**
 * The PCI Express capability as what the function is in this machine (QEMU's vfio_setup_pcie_cap): on a root bus an
 * endpoint is integrated and has no link; behind a port an integrated one has one; on a conventional bus there is none.
 */
export function placeExpress(config: ConfigSpace, passage: ConfigPassage, bus: { readonly isRoot: boolean; readonly isExpress: boolean }): void {
  const at = findCapability(config, CAP_EXPRESS);
  if (at === 0) {
    return;
  }
  const flags = config.get16(at + FLAGS);
  const type = (flags & TYPE) >> 4;
  const become = (kind: number): void => {
    passage.emulateBits(at + FLAGS, TYPE);
    config.bytes[at + FLAGS] = (config.bytes[at + FLAGS] & ~TYPE) | (kind << 4);
  };
  if (!bus.isExpress || (bus.isRoot && type === LEGACY_ENDPOINT)) {
    removeCapability(config, CAP_EXPRESS);
  } else if (bus.isRoot && type === ENDPOINT) {
    become(ROOT_COMPLEX_ENDPOINT);
    passage.fix(at + LINK_CAPABILITIES, 4, 0);
    passage.fix(at + LINK_CONTROL, 2, 0);
    passage.fix(at + LINK_STATUS, 2, 0);
    if ((flags & VERSION) > 1) {
      passage.fix(at + LINK_CAPABILITIES_2, 4, 0);
      passage.fix(at + LINK_CONTROL_2, 2, 0);
      passage.fix(at + LINK_STATUS_2, 2, 0);
    }
  } else if (!bus.isRoot && type === ROOT_COMPLEX_ENDPOINT) {
    become(ENDPOINT);
    passage.fix(at + LINK_CAPABILITIES, 4, SLOWEST_LINK);
    passage.fix(at + LINK_CONTROL, 2, 0);
    passage.fix(at + LINK_STATUS, 2, SLOWEST_LINK);
  }
  if ((flags & VERSION) === 0) {
    // Virtual functions of Intel's 82599 tell a version that there is not.
    passage.emulateBits(at + FLAGS, VERSION);
    config.bytes[at + FLAGS] |= 1;
  }
}

/** Takes extended capabilities away that no machine here serves, and has those of resizable BARs offer the size that each has. */
export function hideUnserved(config: ConfigSpace, passage: ConfigPassage): void {
  UNSERVED.forEach(({ id, bytes }) => hideExtendedCapability(config, passage, id, bytes));
  const at = findExtendedCapability(config, EXT_CAP_REBAR);
  if (at === 0) {
    return;
  }
  // PCIe 7.8.6: the number of BARs is in the first control register; each size is 2^n MiB.
  const count = Math.min(6, (config.get32(at + 8) >>> 5) & 7);
  for (let i = 0; i < count; i++) {
    const control = config.get32(at + 8 + 8 * i);
    const size = (control >>> 8) & 0x3f;
    passage.fix(at + 4 + 8 * i, 4, size <= 27 ? 1 << (size + 4) : 0);
    passage.fix(at + 8 + 8 * i, 4, size <= 27 ? control & 0xffff : (control & 0xffff) | (1 << (size - 28 + 16)));
  }
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
export function offerTranslationServices(config: ConfigSpace, passage: ConfigPassage, { info, ats: wanted, pasids, pasidOffset, name, label }: TranslationServices): void {
  const ats = findExtendedCapability(config, EXT_CAP_ATS);
  const unusable = (info.capabilities & HwCapabilities.PCI_ATS_NOT_SUPPORTED) !== 0;
  if (wanted === true && (ats === 0 || unusable)) {
    throw new Refusal("vfio-pci: ATS requested but not supported by kernel", {
      rule: "function-ats",
      found: `${name} ${ats === 0 ? "has no ATS capability" : "is reported as not usable for ATS"}`,
      wouldWork: "ats=auto or ats=off",
    });
  }
  if (ats !== 0 && (wanted === false || (wanted === "auto" && unusable))) {
    hideExtendedCapability(config, passage, EXT_CAP_ATS, 8);
  } else if (ats !== 0) {
    // The kernel enables ATS by itself where the entry has EATS; the guest's enable bit is kept, not passed on.
    passage.fix(ats + 6, 2, 0);
    config.allow(ats + 6, 2, 0x801f);
  }
  // The kernel keeps the PASID capability to itself; the guest gets one of its own (PCIe 7.8.9). Page requests
  // have nobody to answer them: the vSMMU shows IDR0.PRI as 0.
  hideExtendedCapability(config, passage, EXT_CAP_PASID, PASID_BYTES);
  hideExtendedCapability(config, passage, EXT_CAP_PRI, 16);
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
    passage.emulate(at, PASID_BYTES);
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

/** Takes an extended capability of `bytes` bytes out of the list, and its registers away; the first one, at 0x100, becomes a null capability. */
function hideExtendedCapability(config: ConfigSpace, passage: ConfigPassage, id: number, bytes: number): void {
  const at = findExtendedCapability(config, id);
  if (at === 0) {
    return;
  }
  const next = config.get32(at) >>> 20;
  passage.emulate(at, bytes);
  config.bytes.fill(0, at, at + bytes);
  if (at === EXTENDED) {
    config.set32(at, (next << 20) >>> 0);
    return;
  }
  for (let previous = EXTENDED, links = 0; previous !== 0 && links < MOST_LINKS; previous = config.get32(previous) >>> 20, links++) {
    const header = config.get32(previous);
    if (header >>> 20 === at) {
      config.set32(previous, ((header & 0xfffff) | (next << 20)) >>> 0);
      return;
    }
  }
}
