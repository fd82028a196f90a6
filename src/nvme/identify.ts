/** Data structures of Identify (5.15 of 1.3, 5.15.2 of 1.4). */
import { ERROR_ENTRIES } from "./error-log.js";
import { TEMPERATURE } from "./features.js";
import type { NvmeOptions } from "./host.js";
import { type Namespace, nameUuid, uuidText } from "./namespace.js";
import { CQ_ENTRY_BITS, SQ_ENTRY_BITS, VERSION_1_4 } from "./spec.js";

const IDENTIFY_BYTES = 4096;

/** Optional NVM commands (ONCS): compare, dataset management, write zeroes, the save and select fields of features. */
const ONCS = (1 << 0) | (1 << 2) | (1 << 3) | (1 << 4);
/** Log pages (LPA): SMART of a namespace, commands supported and effects, offsets and long lengths. */
const LPA = (1 << 0) | (1 << 1) | (1 << 2);
/** Volatile write cache: present, and a flush of all namespaces is supported. */
const VWC = 0x07;

function ascii(bytes: Uint8Array, at: number, length: number, text: string, pad: number): void {
  bytes.fill(pad, at, at + length);
  bytes.set(Buffer.from(text, "latin1").subarray(0, length), at);
}

/** CNS 01h: the controller. */
export function identifyController(options: NvmeOptions, namespaces: number): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, options.vendorId, true);
  view.setUint16(2, options.subsystemVendorId, true);
  ascii(bytes, 4, 20, options.serial, 0x20);
  ascii(bytes, 24, 40, options.modelNumber, 0x20);
  ascii(bytes, 64, 8, options.firmware, 0x20);
  bytes[72] = 6; // RAB: a burst of 64 commands
  bytes[77] = options.mdts;
  view.setUint32(80, VERSION_1_4, true);
  bytes[111] = 1; // CNTRLTYPE: I/O controller
  bytes[258] = 3; // ACL: aborts at a time, less one
  bytes[259] = options.aerl;
  bytes[260] = (1 << 1) | 1; // FRMW: one firmware slot, which is read-only
  bytes[261] = LPA;
  bytes[262] = ERROR_ENTRIES - 1; // ELPE
  view.setUint16(266, TEMPERATURE.warning, true);
  view.setUint16(268, TEMPERATURE.critical, true);
  bytes[512] = (SQ_ENTRY_BITS << 4) | SQ_ENTRY_BITS;
  bytes[513] = (CQ_ENTRY_BITS << 4) | CQ_ENTRY_BITS;
  view.setUint32(516, namespaces, true);
  view.setUint16(520, ONCS, true);
  bytes[525] = VWC;
  // The NQN of a UUID (7.9), and no controller without one.
  ascii(bytes, 768, 256, `nqn.2014-08.org.nvmexpress:uuid:${uuidText(nameUuid(`subsystem ${options.serial}`))}`, 0);
  // Power state 0 (5.15.2.2): 25 W at most, latencies of 16 us and 4 us.
  view.setUint16(2048, 2500, true);
  view.setUint32(2052, 16, true);
  view.setUint32(2056, 4, true);
  return bytes;
}

/** CNS 00h: a namespace; null: one that is not active, which is all zeros. */
export function identifyNamespace(namespace: Namespace | null): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  if (namespace === null) {
    return bytes;
  }
  const view = new DataView(bytes.buffer);
  for (const at of [0, 8, 16]) {
    // NSZE, NCAP, NUSE: it is not thin.
    view.setBigUint64(at, BigInt(namespace.blocks), true);
  }
  bytes[24] = 0x10; // NSFEAT: NPWG and what follows it are told
  // NLBAF and FLBAS stay zero: one format. DLFEAT: blocks read as zeros after deallocation, and Write Zeroes may deallocate.
  bytes[33] = namespace.disk.deallocates ? 0x09 : 0x00;
  // NPWG, NPWA, NPDG, NPDA, NOWS (less one): pages of 4 KiB.
  const page = Math.max(1, 4096 / namespace.blockBytes) - 1;
  for (const at of [64, 66, 68, 70, 72]) {
    view.setUint16(at, page, true);
  }
  bytes[99] = namespace.disk.readOnly ? 1 : 0; // NSATTR: write protected
  bytes.set(namespace.nguid, 104);
  bytes.set(namespace.eui64, 120);
  bytes[128 + 2] = namespace.blockBits; // LBAF0: LBADS
  return bytes;
}

/** CNS 02h: ids of active namespaces above `after`, ascending. */
export function activeList(ids: readonly number[], after: number): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  const view = new DataView(bytes.buffer);
  ids
    .filter((id) => id > after)
    .slice(0, IDENTIFY_BYTES / 4)
    .forEach((id, at) => view.setUint32(4 * at, id, true));
  return bytes;
}

/** CNS 03h: descriptors of a namespace: type, length, two reserved bytes, the name. */
export function namespaceDescriptors(namespace: Namespace): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  let at = 0;
  for (const [type, name] of [[1, namespace.eui64], [2, namespace.nguid], [3, namespace.uuid]] as const) {
    bytes.set([type, name.length], at);
    bytes.set(name, at + 4);
    at += 4 + name.length;
  }
  return bytes;
}
