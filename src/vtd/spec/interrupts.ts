/** Interrupt requests and interrupt remapping table entries (Intel VT-d 5.x, 5.1 and 9.10). */
import { bits, field } from "../../support/index.js";

export const IRTE_BYTES = 16;
export const IRTE_WORDS = 4;

/** Entry for remapped interrupts (9.10). */
export const IRTE = {
  P: field(0, 0),
  FPD: field(0, 1),
  /** Destination mode: 1 logical. */
  DM: field(0, 2),
  RH: field(0, 3),
  /** Trigger mode: 1 level. */
  TM: field(0, 4),
  DLM: field(0, 5, 3),
  AVAIL: field(0, 8, 4),
  /** 0 remapped, 1 posted. */
  IM: field(0, 15),
  V: field(0, 16, 8),
  /** Bits 15:8 of it without EIME. */
  DST: field(1, 0, 32),
  SID: field(2, 0, 16),
  SQ: field(2, 16, 2),
  SVT: field(2, 18, 2),
} as const;

/** Values of SVT. 3 is reserved. */
export const SVT_NONE = 0;
export const SVT_REQUESTER_ID = 1;
export const SVT_BUS_RANGE = 2;

/** Address of an interrupt request in the remappable format (5.1.2.2). */
export const REMAPPABLE_ADDRESS = {
  HANDLE_15: bits(2),
  SHV: bits(3),
  /** 1: remappable format. */
  FORMAT: bits(4),
  HANDLE_14_0: bits(5, 15),
} as const;

/** Its data: the subhandle, where SHV is set; the rest is reserved. */
export const REMAPPABLE_DATA = { SUBHANDLE: bits(0, 16) } as const;

/** Address of a message to a local APIC: the compatibility format, and what a remapped one becomes. */
export const MESSAGE_ADDRESS = {
  /** Destination mode: 1 logical. */
  DM: bits(2),
  RH: bits(3),
  FORMAT: bits(4),
  /** Bits 14:8 of an extended destination, where the platform has them. */
  DESTINATION_HIGH: bits(5, 7),
  DESTINATION: bits(12, 8),
} as const;

export const MESSAGE_DATA = {
  VECTOR: bits(0, 8),
  DLM: bits(8, 3),
  LEVEL: bits(14),
  TM: bits(15),
} as const;
