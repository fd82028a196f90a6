/** Types of device and object properties, and QEMU's words where a value does not fit (qapi visitors, qdev-properties). */
import { Refusal } from "../../support/index.js";
import type { JsonValue } from "./option-string.js";

/** QEMU's names of types, as `-device NAME,help` prints them, and four of its strings that have a form. */
export type PropertyType =
  | "bool"
  | "uint8"
  | "uint16"
  | "uint32"
  | "uint64"
  | "int32"
  | "int64"
  | "size"
  | "str"
  | "link"
  | "OnOffAuto"
  | "PCIELinkSpeed"
  | "PCIELinkWidth"
  | "OasMode"
  | "SsidSizeMode"
  | "ScalableMode"
  /** slot or slot.function, both hexadecimal; -1: any. */
  | "pci-address"
  /** [domain:]bus:slot.function, hexadecimal. */
  | "host-address"
  | "mac"
  /** Taken as it is: lists and structures of the JSON form. */
  | "any";

/** Types with a fixed list of words (qapi enums). */
const ENUMS: Partial<Record<PropertyType, readonly string[]>> = {
  OnOffAuto: ["on", "off", "auto"],
  OasMode: ["32", "36", "40", "42", "44", "48", "52", "56", "auto"],
  SsidSizeMode: [...Array.from({ length: 21 }, (_unused, bits) => String(bits)), "auto"],
  ScalableMode: ["on", "off", "modern", "legacy"],
  PCIELinkSpeed: ["2_5", "5", "8", "16", "32", "64"],
  PCIELinkWidth: ["1", "2", "4", "8", "12", "16", "32"],
};

const INTEGERS: Partial<Record<PropertyType, { signed: boolean; bits: 8 | 16 | 32 | 64 }>> = {
  uint8: { signed: false, bits: 8 },
  uint16: { signed: false, bits: 16 },
  uint32: { signed: false, bits: 32 },
  uint64: { signed: false, bits: 64 },
  int32: { signed: true, bits: 32 },
  int64: { signed: true, bits: 64 },
};

export type PropertyValue = string | number | bigint | boolean | readonly JsonValue[] | { readonly [key: string]: JsonValue } | null;

/** The type for `device NAME` listings. */
export function typeName(type: PropertyType): string {
  switch (type) {
    case "bool":
      return "on|off";
    case "SsidSizeMode":
      return "0..20|auto";
    case "pci-address":
      return "slot[.function]";
    case "host-address":
      return "host address";
    case "link":
      return "id";
    default:
      return ENUMS[type]?.join("|") ?? type;
  }
}

/**
 * Parses one property's value.
 * @param owner QEMU's type name, for messages that name it
 * @param strict the JSON form: a number or a switch has JSON's type, not a string's
 * @throws Refusal in QEMU's words
 */
export function parseProperty(owner: string, name: string, type: PropertyType, value: JsonValue, strict = false): PropertyValue {
  const shown = typeof value === "string" ? value : JSON.stringify(value);
  const wrongType = (expected: string): Refusal =>
    new Refusal(`Invalid parameter type for '${name}', expected: ${expected}`, { found: `${owner}.${name} = ${shown}` });
  const values = ENUMS[type];
  if (values !== undefined) {
    if (typeof value !== "string") {
      throw wrongType("string");
    }
    const match = values.find((one) => one === value);
    if (match === undefined) {
      throw new Refusal(`Parameter '${name}' does not accept value '${value}'`, {
        found: `${owner}.${name}=${value}`,
        wouldWork: type === "SsidSizeMode" ? "0 to 20, auto" : values.join(", "),
      });
    }
    return match;
  }
  const integer = INTEGERS[type];
  if (integer !== undefined) {
    if (strict && (typeof value !== "number" || !Number.isInteger(value))) {
      throw new Refusal(`Parameter '${name}' expects ${integer.signed ? "int64" : "uint64"}`, { found: `${owner}.${name} = ${shown}`, wouldWork: "a whole number without quotes" });
    }
    return parseInteger(owner, name, integer, value);
  }
  switch (type) {
    case "bool":
      if (typeof value === "boolean") {
        return value;
      }
      if (strict || typeof value !== "string") {
        throw wrongType("boolean");
      }
      return parseBool(name, value);
    case "size":
      if (strict && (typeof value !== "number" || !Number.isInteger(value) || value < 0)) {
        throw new Refusal(`Parameter '${name}' expects uint64`, { found: `${owner}.${name} = ${shown}`, wouldWork: "a number of bytes without quotes" });
      }
      return typeof value === "number" ? value : parseSize(name, shown, "", "a size value");
    case "pci-address":
      return parsePciAddress(owner, name, value);
    case "any":
      return value;
    default:
      if (typeof value !== "string") {
        throw wrongType("string");
      }
      return type === "host-address" ? parseHostAddress(owner, name, value) : type === "mac" ? parseMac(owner, name, value) : value;
  }
}

export function parseBool(name: string, text: string): boolean {
  if (["on", "yes", "true", "y"].includes(text)) {
    return true;
  }
  if (["off", "no", "false", "n"].includes(text)) {
    return false;
  }
  throw new Refusal(`Parameter '${name}' expects 'on' or 'off'`, { found: `${name}=${text}`, wouldWork: `${name}=on or ${name}=off` });
}

function parseInteger(owner: string, name: string, type: { signed: boolean; bits: number }, value: JsonValue): number | bigint {
  const shown = typeof value === "string" ? value : JSON.stringify(value);
  if (typeof value === "number" ? !Number.isInteger(value) : typeof value !== "string") {
    throw new Refusal(`Invalid parameter type for '${name}', expected: integer`, { found: `${owner}.${name} = ${shown}` });
  }
  if (!/^[+-]?(?:0[xX][0-9a-fA-F]+|\d+)$/.test(shown)) {
    throw new Refusal(`Parameter '${name}' expects integer`, { found: `${owner}.${name}=${shown}`, wouldWork: "a decimal number, or a hexadecimal one with 0x" });
  }
  const negative = shown.startsWith("-");
  const digits = shown.replace(/^[+-]/, "");
  // A leading zero means octal to strtoull, which QEMU uses.
  const magnitude = BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  const number = negative ? -magnitude : magnitude;
  const low = type.signed ? -(1n << BigInt(type.bits - 1)) : 0n;
  const high = type.signed ? (1n << BigInt(type.bits - 1)) - 1n : (1n << BigInt(type.bits)) - 1n;
  if (number < low || number > high) {
    throw new Refusal(`Parameter '${name}' expects ${type.signed ? "" : "u"}int${type.bits}_t`, {
      found: `${owner}.${name}=${shown}`,
      wouldWork: `${low} to ${high}`,
    });
  }
  return type.bits > 32 ? number : Number(number);
}

const SUFFIXES: Record<string, number> = { "": 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50, e: 2 ** 60 };

/**
 * Parses a size in bytes.
 * @param unit the suffix that a bare number has ("M" for -m)
 * @param expected QEMU's words for what it expects: those of its visitors differ from those of -m
 * @throws Refusal in QEMU's words
 */
export function parseSize(name: string, text: string, unit: string, expected = "a non-negative number below 2^64"): number {
  const match = /^\s*(0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?)\s*([bkmgtpe]?)(?:i?b)?\s*$/i.exec(text);
  const suffix = match === null ? undefined : SUFFIXES[(match[2] === "" ? unit : match[2]).toLowerCase()];
  const bytes = match === null || suffix === undefined ? Number.NaN : Number(match[1]) * suffix;
  if (!Number.isFinite(bytes) || bytes >= 2 ** 64) {
    throw new Refusal(`Parameter '${name}' expects ${expected}`, {
      found: `${name}=${text}`,
      wouldWork: "an optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta- and exabytes",
    });
  }
  return Math.floor(bytes);
}

/** A devfn (slot << 3 | function), or -1: any free slot. A JSON number is the devfn itself, as in QEMU. */
function parsePciAddress(owner: string, name: string, value: JsonValue): number {
  const shown = typeof value === "string" ? value : JSON.stringify(value);
  if (typeof value === "number" && Number.isInteger(value) && value >= -1 && value < 256) {
    return value;
  }
  if (value === "-1") {
    return -1;
  }
  // QEMU reads both numbers with scanf's %x; libvirt writes 0x before each.
  const match = /^(?:0x)?0*([0-9a-f]{1,2})(?:\.(?:0x)?0*([0-7]))?$/i.exec(shown);
  const slot = match === null ? 32 : Number.parseInt(match[1], 16);
  if (match === null || slot > 31) {
    throw new Refusal(`Property '${owner}.${name}' doesn't take value '${shown}'`, {
      wouldWork: "slot or slot.function, both hexadecimal: slots 0 to 1f, functions 0 to 7",
    });
  }
  return slot * 8 + Number(match[2] ?? 0);
}

/** Normal form: dddd:bb:ss.f in lower case. */
function parseHostAddress(owner: string, name: string, value: string): string {
  const match = /^(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(value);
  if (match === null || Number.parseInt(match[3], 16) > 31) {
    throw new Refusal(`Property '${owner}.${name}' doesn't take value '${value}'`, {
      wouldWork: "[domain:]bus:slot.function in hexadecimal, such as 0009:01:00.0",
    });
  }
  return `${(match[1] ?? "0").padStart(4, "0")}:${match[2].padStart(2, "0")}:${match[3].padStart(2, "0")}.${match[4]}`.toLowerCase();
}

function parseMac(owner: string, name: string, value: string): string {
  if (!/^[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}$/i.test(value)) {
    throw new Refusal(`Property '${owner}.${name}' doesn't take value '${value}'`, { wouldWork: "six bytes in hexadecimal, such as 52:54:00:12:34:56" });
  }
  return value.toLowerCase().replaceAll("-", ":");
}
