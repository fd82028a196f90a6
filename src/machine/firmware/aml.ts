/**
 * AML, the byte code of ACPI's definition blocks (ACPI 6.5, chapter 20): as much as host bridges, the devices of boards
 * and a sleep state need. A term is its bytes; terms are put together from the inside out.
 */
import { guidBytes } from "./guid.js";

export type Term = readonly number[];

const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const QWORD_PREFIX = 0x0e;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const METHOD_OP = 0x14;
const EXT_OP = 0x5b;
const DEVICE_OP = 0x82;
const ROOT = 0x5c;

/** 20.2.4: the length counts its own bytes. */
function packageLength(bytes: number): number[] {
  for (let width = 1; width <= 4; width++) {
    const length = bytes + width;
    if (width === 1 && length < 0x40) {
      return [length];
    }
    if (width > 1 && length < 2 ** (4 + 8 * (width - 1))) {
      const out = [((width - 1) << 6) | (length & 0xf)];
      for (let n = 1; n < width; n++) {
        out.push((length >>> (4 + 8 * (n - 1))) & 0xff);
      }
      return out;
    }
  }
  throw new RangeError(`an AML package of ${bytes} bytes`);
}

/** Of numbers, integers below 2^53. */
function little(value: number | bigint, bytes: number): number[] {
  let rest = Number(typeof value === "bigint" ? value & 0xffff_ffffn : value);
  let above = typeof value === "bigint" ? Number(value >> 32n) : Math.floor(value / 2 ** 32);
  const out: number[] = [];
  for (let n = 0; n < bytes; n++) {
    out.push(rest & 0xff);
    rest = n === 3 ? above : rest >>> 8;
    above = n === 3 ? 0 : above;
  }
  return out;
}

/** Pieces one after the other: a firmware's tables are built at every start and reset, and flat() is slow. */
function joined(...pieces: ReadonlyArray<readonly number[]>): number[] {
  const out: number[] = [];
  for (const piece of pieces) {
    for (const byte of piece) {
      out.push(byte);
    }
  }
  return out;
}

/** 20.2.2: a name of one segment, `\` before it for the root. */
export function nameString(name: string): number[] {
  const root = name.startsWith("\\");
  const segment = (root ? name.slice(1) : name).padEnd(4, "_");
  const out = root ? [ROOT] : [];
  for (let n = 0; n < segment.length; n++) {
    out.push(segment.charCodeAt(n));
  }
  return out;
}

/** 20.2.3: the shortest form. */
export function integer(value: number | bigint): Term {
  const size = Number(value);
  if (size === 0 || size === 1) {
    return [size === 0 ? ZERO_OP : ONE_OP];
  }
  const [prefix, bytes] = size < 0x100 ? [BYTE_PREFIX, 1] : size < 0x1_0000 ? [WORD_PREFIX, 2] : size < 0x1_0000_0000 ? [DWORD_PREFIX, 4] : [QWORD_PREFIX, 8];
  return [prefix, ...little(value, bytes)];
}

export const string = (text: string): Term => [STRING_PREFIX, ...new TextEncoder().encode(text), 0];
export const name = (of: string, value: Term): Term => [NAME_OP, ...nameString(of), ...value];
export const scope = (of: string, ...terms: Term[]): Term => sized([SCOPE_OP], nameString(of), ...terms);
export const device = (of: string, ...terms: Term[]): Term => sized([EXT_OP, DEVICE_OP], nameString(of), ...terms);
export const packageOf = (...elements: Term[]): Term => sized([PACKAGE_OP], [elements.length], ...elements);
export const buffer = (bytes: ArrayLike<number>): Term => sized([BUFFER_OP], integer(bytes.length), Array.from(bytes));

/** @param args 0 to 7 */
export const method = (of: string, args: number, ...terms: Term[]): Term => sized([METHOD_OP], nameString(of), [args], ...terms);
const SERIALIZED = 1 << 3;
/** One that runs alone (20.2.5.2). */
export const serialized = (of: string, args: number, ...terms: Term[]): Term => method(of, args | SERIALIZED, ...terms);

function sized(operation: readonly number[], ...content: Term[]): Term {
  let length = 0;
  for (const piece of content) {
    length += piece.length;
  }
  return joined(operation, packageLength(length), ...content);
}

/** Terms of methods (20.2.5.3, 20.2.5.4). */
export const arg = (n: number): Term => [0x68 + n];
/** Local variables (20.2.6.2). */
export const local = (n: number): Term => [0x60 + n];
export const reference = (to: string): Term => nameString(to);
export const returns = (value: Term): Term => [0xa4, ...value];
export const store = (value: Term, to: Term): Term => [0x70, ...value, ...to];
export const and = (a: Term, b: Term, to: Term): Term => [0x7b, ...a, ...b, ...to];
export const or = (a: Term, b: Term, to: Term): Term => [0x7d, ...a, ...b, ...to];
export const equal = (a: Term, b: Term): Term => [0x93, ...a, ...b];
export const not = (value: Term): Term => [0x92, ...value];
export const when = (condition: Term, ...terms: Term[]): Term => sized([0xa0], condition, ...terms);
export const otherwise = (...terms: Term[]): Term => sized([0xa1], ...terms);
/** Notify of a device. */
export const notify = (of: Term, value: Term): Term => [0x86, ...of, ...value];
/** OperationRegion in system memory. */
export const memoryRegion = (called: string, base: number, size: number): Term => [0x5b, 0x80, ...nameString(called), 0, ...integer(base), ...integer(size)];
/** OperationRegion in I/O ports. */
export const portRegion = (called: string, base: number, size: number): Term => [0x5b, 0x80, ...nameString(called), 1, ...integer(base), ...integer(size)];
/** Field of a region with one name for its first byte: ByteAcc, NoLock, Preserve. */
export const byteOf = (region: string, called: string): Term => sized([0x5b, 0x81], nameString(region), [0x01], nameString(called), [0x08]);
/** Field of a region with one name for its first 32 bits: DWordAcc, NoLock, WriteAsZeros. */
export const dwordOf = (region: string, called: string): Term => sized([0x5b, 0x81], nameString(region), [0x43], nameString(called), [0x20]);
/** CreateDWordField: a name for four bytes of a buffer. */
export const dwordField = (of: Term, at: number, called: string): Term => [0x8a, ...of, ...integer(at), ...nameString(called)];

/** A compressed EISA id (19.3.4), such as PNP0A08. */
export function eisaId(id: string): Term {
  const letters = [...id.slice(0, 3)].map((letter) => letter.charCodeAt(0) - 0x40);
  const high = (letters[0] << 10) | (letters[1] << 5) | letters[2];
  const product = parseInt(id.slice(3), 16);
  // Big-endian in a little-endian integer, whatever its value: iasl prints it as an EISA id then.
  return [DWORD_PREFIX, high >> 8, high & 0xff, product >> 8, product & 0xff];
}

/** A UUID as a buffer, as ToUUID makes it. */
export const uuid = (text: string): Term => buffer(guidBytes(text));

// ---- resource descriptors (6.4) ----

export type Resource = readonly number[];

/** ResourceTemplate: descriptors and an end tag, whose checksum of zero means that there is none. */
export const resources = (...descriptors: Resource[]): Term => buffer(joined(...descriptors, [0x79, 0]));

/** 6.4.3.5: flags of an address space descriptor: producer, positive decode, minimum and maximum fixed. */
const FIXED = 0x0c;

/** The resource is the device's own: bit 0 of the flags (6.4.3.5.1). */
const CONSUMER = 0x01;

function space(tag: number, width: number, type: number, typeFlags: number, base: number, size: number, { flags = FIXED, translation = 0 } = {}): Resource {
  const content = [type, flags, typeFlags, ...little(0, width), ...little(base, width), ...little(base + size - 1, width), ...little(translation, width), ...little(size, width)];
  return [tag, ...little(content.length, 2), ...content];
}

/** WordBusNumber of a host bridge. */
export const busNumbers = (first: number, last: number): Resource => space(0x88, 2, 2, 0, first, last - first + 1);
/** WordIO, entire range. */
export const portWindow = (base: number, size: number): Resource => space(0x88, 2, 1, 3, base, size);
/** I/O ports that a bridge hands down, which are memory at `memory` for processors: QWordIO, entire range, of static translation. */
export const translatedPortWindow = (base: number, size: number, memory: number): Resource => space(0x8a, 8, 1, 3, base, size, { translation: memory - base });
/** Memory that a device decodes, anywhere. */
export const memoryRange = (base: number, size: number): Resource => space(0x8a, 8, 0, 1, base, size, { flags: FIXED | CONSUMER });
/** Memory that a bridge hands down: read and write, not cacheable; DWord where it lies below 4 GiB. */
export const memoryWindow = (base: number, size: number): Resource => (base + size <= 2 ** 32 ? space(0x87, 4, 0, 1, base, size) : space(0x8a, 8, 0, 1, base, size));
/** 6.4.2.5: ports that a device decodes, 16 bits of address. */
export const ports = (base: number, size: number): Resource => [0x47, 1, ...little(base, 2), ...little(base, 2), 1, size];
/** 6.4.2.1: an interrupt by its ISA number, edge triggered, active high. */
export const isaInterrupt = (irq: number): Resource => [0x22, ...little(1 << irq, 2)];
/** 6.4.3.6: interrupt of a device by its global system interrupt, active high and not shared. */
export const interrupt = (gsi: number, mode: "level" | "edge"): Resource => [0x89, ...little(6, 2), mode === "level" ? 0x01 : 0x03, 1, ...little(gsi, 4)];
/** 6.4.3.4: memory that a device decodes, below 4 GiB. */
export const memoryFixed = (base: number, size: number): Resource => [0x86, ...little(9, 2), 1, ...little(base, 4), ...little(size, 4)];
