/**
 * Capability lists of configuration space: the conventional one from byte 0x34 on (PCIe 7.5.3) and the
 * extended one from 0x100 on (PCIe 7.6.3), and the capabilities that are registers only.
 */
import type { ConfigSpace } from "./config-space.js";

/** Capability ids of the conventional list (PCI Code and ID Assignment, 2). */
export const CAP_POWER_MANAGEMENT = 0x01;
export const CAP_MSI = 0x05;
export const CAP_VENDOR = 0x09;
export const CAP_SUBSYSTEM = 0x0d;
export const CAP_EXPRESS = 0x10;
export const CAP_MSIX = 0x11;

/** Extended capability ids (PCI Code and ID Assignment, 3). */
export const EXT_CAP_AER = 0x0001;
export const EXT_CAP_SERIAL_NUMBER = 0x0003;
export const EXT_CAP_ACS = 0x000d;
export const EXT_CAP_ARI = 0x000e;
export const EXT_CAP_ATS = 0x000f;
export const EXT_CAP_PASID = 0x001b;

const STATUS = 0x06;
const STATUS_CAPABILITIES = 0x10;
const CAPABILITIES_POINTER = 0x34;
const EXTENDED_START = 0x100;

/** Device and port types of the PCI Express Capabilities register, bits 7:4 (PCIe 7.5.3.2). */
export enum ExpressType {
  Endpoint = 0,
  RootPort = 4,
  UpstreamPort = 5,
  DownstreamPort = 6,
  PciBridge = 7,
  IntegratedEndpoint = 9,
}

/**
 * Puts a capability of `size` bytes at `offset` (a multiple of 4, from 0x40 on) and makes it the head of
 * the list. Returns `offset`.
 */
export function addCapability(config: ConfigSpace, id: number, offset: number, size: number): number {
  if (offset < 0x40 || offset % 4 !== 0 || offset + size > 0x100) {
    throw new RangeError(`capability ${id}: offset ${offset}, size ${size} do not fit in bytes 0x40 to 0xff`);
  }
  config.bytes[offset] = id;
  config.bytes[offset + 1] = config.bytes[CAPABILITIES_POINTER];
  config.bytes[CAPABILITIES_POINTER] = offset;
  config.set16(STATUS, config.get16(STATUS) | STATUS_CAPABILITIES);
  return offset;
}

/** Takes the first capability with that id out of the list; its registers stay, unnamed. */
export function removeCapability(config: ConfigSpace, id: number): void {
  let link = CAPABILITIES_POINTER;
  for (let links = 0; config.bytes[link] !== 0 && links < 48; links++) {
    const at = config.bytes[link];
    if (config.bytes[at] === id) {
      config.bytes[link] = config.bytes[at + 1];
      return;
    }
    link = at + 1;
  }
}

/** Offset of the first capability with that id; 0: none. Follows at most 48 links. */
export function findCapability(config: ConfigSpace, id: number): number {
  let at = config.bytes[CAPABILITIES_POINTER] & 0xfc;
  for (let links = 0; at !== 0 && links < 48; links++) {
    if (config.bytes[at] === id) {
      return at;
    }
    at = config.bytes[at + 1] & 0xfc;
  }
  return 0;
}

/**
 * Puts an extended capability's header at `offset` (a multiple of 4; the first at 0x100) and at the end of
 * the list. Returns `offset`. Header: id 15:0, version 19:16, next 31:20 (PCIe 7.6.3).
 */
export function addExtendedCapability(config: ConfigSpace, id: number, version: number, offset: number, size: number): number {
  if (offset < EXTENDED_START || offset % 4 !== 0 || offset + size > config.size) {
    throw new RangeError(`extended capability ${id}: offset ${offset}, size ${size} do not fit in ${config.size} bytes`);
  }
  if (offset !== EXTENDED_START) {
    let last = EXTENDED_START;
    for (let next = config.get32(last) >>> 20; next !== 0; next = config.get32(last) >>> 20) {
      last = next;
    }
    config.set32(last, ((config.get32(last) & 0xfffff) | (offset << 20)) >>> 0);
  }
  config.set32(offset, (id | (version << 16)) >>> 0);
  return offset;
}

/** Offset of the first extended capability with that id; 0: none. */
export function findExtendedCapability(config: ConfigSpace, id: number): number {
  if (config.size <= EXTENDED_START) {
    return 0;
  }
  let at = EXTENDED_START;
  for (let links = 0; at !== 0 && links < 960; links++) {
    const header = config.get32(at);
    if (header !== 0 && (header & 0xffff) === id) {
      return at;
    }
    at = header >>> 20;
  }
  return 0;
}

export interface ExpressOptions {
  readonly offset: number;
  readonly type: ExpressType;
  /** Port number, link capabilities 31:24. */
  readonly port?: number;
  /** Capability structure version (2; 1 has no Device Capabilities 2). */
  readonly version?: 1 | 2;
  /** Function level reset (device capabilities bit 28). */
  readonly functionLevelReset?: boolean;
  /** Extended tags (device capabilities bit 5). */
  readonly extendedTags?: boolean;
  /** ARI forwarding (device capabilities 2 bit 5), of root and downstream ports. */
  readonly ariForwarding?: boolean;
  /** Maximum link speed code (1: 2.5 GT/s, 4: 16 GT/s) and width in lanes. Default 1, 1. */
  readonly speed?: number;
  readonly width?: number;
  /** Active state power management: L0s entry supported (link capabilities bit 10); default true. */
  readonly aspmL0s?: boolean;
  readonly reportsErrors?: boolean;
  readonly linkControl?: boolean;
}

/** PCI Express capability (PCIe 7.5.3), the slot registers apart. Returns its offset. */
export function addExpressCapability(config: ConfigSpace, options: ExpressOptions): number {
  const version = options.version ?? 2;
  const at = addCapability(config, CAP_EXPRESS, options.offset, version === 2 ? 0x3c : 0x14);
  const speed = options.speed ?? 1;
  const width = options.width ?? 1;
  config.set16(at + 0x02, (options.type << 4) | version);
  const role = 0x8000;
  const deviceCapabilities = role | (options.extendedTags === false ? 0 : 0x20) | (options.functionLevelReset === true ? 0x1000_0000 : 0);
  config.set32(at + 0x04, deviceCapabilities >>> 0);
  // Device control: error reporting enables; status: the matching bits, cleared by writing one.
  if (options.reportsErrors !== false) {
    config.allow(at + 0x08, 2, 0x0f);
    config.allowClear(at + 0x0a, 2, 0x0f);
  }
  const isPort = options.type === ExpressType.RootPort || options.type === ExpressType.DownstreamPort;
  const fast = isPort && speed > 1;
  const linkCapabilities =
    speed |
    (width << 4) |
    (options.aspmL0s === false ? 0 : 0x400) |
    (fast ? 0x10_0000 : 0) |
    (isPort && (speed > 1 || width > 1) ? 0x20_0000 : 0) |
    ((options.port ?? 0) << 24);
  config.set32(at + 0x0c, linkCapabilities >>> 0);
  if (options.linkControl === true) {
    config.allow(at + 0x10, 2, 0xc0);
  }
  config.set16(at + 0x12, fast ? speed | (width << 4) : 0x0011);
  if (version === 2) {
    // Extended Fmt and end-to-end TLP prefixes, with their enable.
    config.set32(at + 0x24, 0x0030_0000 | (options.ariForwarding === true ? 0x20 : 0));
    config.allow(at + 0x28, 2, 0x8000 | (options.ariForwarding === true ? 0x20 : 0));
    if (fast) {
      config.set16(at + 0x30, speed);
      config.set32(at + 0x2c, ((1 << (speed + 1)) - 2) >>> 0);
    }
  }
  return at;
}

/**
 * PCI power management (PCI PM 1.2, 3.2): D0 and D3hot; the power state bits may be written and no state
 * is acted on. `capabilities` is the register at +2.
 */
export function addPowerManagement(config: ConfigSpace, offset: number, capabilities: number): number {
  const at = addCapability(config, CAP_POWER_MANAGEMENT, offset, 8);
  config.set16(at + 2, capabilities);
  config.allow(at + 4, 2, 0x0003);
  return at;
}

/** Subsystem ids of a bridge (PCI-to-PCI Bridge 1.2, 3.2.5.13 note): ids at +4 and +6. */
export function addSubsystemIds(config: ConfigSpace, offset: number, vendorId: number, subsystemId: number): number {
  const at = addCapability(config, CAP_SUBSYSTEM, offset, 8);
  config.set16(at + 4, vendorId);
  config.set16(at + 6, subsystemId);
  return at;
}

/** Advanced error reporting (PCIe 7.8.4): masks, severities and controls; no error is ever raised here. */
export function addErrorReporting(config: ConfigSpace, offset: number, kind: "endpoint" | "bridge" | "root-port"): number {
  const at = addExtendedCapability(config, EXT_CAP_AER, 2, offset, 0x48);
  config.set32(at + 0x08, 0x0240_0000);
  config.allow(at + 0x08, 4, 0x03ff_f030);
  config.set32(at + 0x0c, 0x0046_2030);
  config.allow(at + 0x0c, 4, 0x03ff_f030);
  config.set32(at + 0x14, 0xe000);
  config.allow(at + 0x14, 4, 0xf1c1);
  const multiple = kind === "endpoint" ? 0 : 0x200;
  config.set32(at + 0x18, 0xa0 | multiple);
  config.allow(at + 0x18, 4, 0x140 | (multiple << 1));
  if (kind === "root-port") {
    config.allow(at + 0x2c, 4, 0x07);
  }
  return at;
}

/** Access control services of a root or downstream port (PCIe 7.7.11): SV, TB, RR, CR, UF, DT; the controls are stored. */
export function addAccessControl(config: ConfigSpace, offset: number): number {
  const at = addExtendedCapability(config, EXT_CAP_ACS, 1, offset, 8);
  config.set16(at + 4, 0x005f);
  config.allow(at + 6, 2, 0x005f);
  return at;
}

/** Alternative routing-ID interpretation of an endpoint (PCIe 7.8.8). */
export function addAri(config: ConfigSpace, offset: number, nextFunction: number): number {
  const at = addExtendedCapability(config, EXT_CAP_ARI, 1, offset, 8);
  config.set16(at + 4, (nextFunction & 0xff) << 8);
  return at;
}

/** Address translation services (PCIe 10.5.1): page-aligned requests; queue depth 0 is 32. Control: enable and STU. */
export function addAts(config: ConfigSpace, offset: number, queueDepth = 0): number {
  const at = addExtendedCapability(config, EXT_CAP_ATS, 1, offset, 8);
  config.set16(at + 4, (queueDepth & 0x1f) | 0x20);
  config.allow(at + 6, 2, 0x801f);
  return at;
}

/** PASID (PCIe 7.8.9): `width` bits (1 to 20), execute and privileged mode offered as said. Control: the three enables. */
export function addPasid(config: ConfigSpace, offset: number, width: number, execute: boolean, privileged: boolean): number {
  const at = addExtendedCapability(config, EXT_CAP_PASID, 1, offset, 8);
  const modes = (execute ? 2 : 0) | (privileged ? 4 : 0);
  config.set16(at + 4, modes | (width << 8));
  config.allow(at + 6, 2, 1 | modes);
  return at;
}

/** Device serial number (PCIe 7.9.3). */
export function addSerialNumber(config: ConfigSpace, offset: number, low: number, high: number): number {
  const at = addExtendedCapability(config, EXT_CAP_SERIAL_NUMBER, 1, offset, 12);
  config.set32(at + 4, low >>> 0);
  config.set32(at + 8, high >>> 0);
  return at;
}
