/** Flattened device tree, version 17 (Devicetree Specification 0.4, chapter 5): big-endian throughout. */
export type PropertyValue =
  | true
  /** 32-bit cells. */
  | readonly number[]
  /** One string, or a list of them. */
  | string
  | readonly string[];

export interface DeviceTreeNode {
  readonly properties: ReadonlyArray<readonly [name: string, value: PropertyValue]>;
  readonly children?: ReadonlyArray<readonly [name: string, node: DeviceTreeNode]>;
}

const MAGIC = 0xd00dfeed;
const VERSION = 17;
const LAST_COMPATIBLE = 16;
const HEADER_BYTES = 40;
const BEGIN_NODE = 1;
const END_NODE = 2;
const PROP = 3;
const END = 9;

/** A number as the two cells of a 64-bit value. */
export function cells64(value: number): [number, number] {
  return [Math.floor(value / 0x1_0000_0000), value % 0x1_0000_0000];
}

class BigEndianWriter {
  readonly bytes: number[] = [];

  cell(value: number): void {
    this.bytes.push((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
  }

  raw(bytes: Iterable<number>): void {
    this.bytes.push(...bytes);
  }

  align(): void {
    while (this.bytes.length % 4 !== 0) {
      this.bytes.push(0);
    }
  }
}

const encoder = new TextEncoder();
const terminated = (text: string): Uint8Array => encoder.encode(`${text}\0`);

function propertyBytes(value: PropertyValue): number[] {
  if (value === true) {
    return [];
  }
  if (typeof value === "string") {
    return [...terminated(value)];
  }
  const out = new BigEndianWriter();
  for (const item of value) {
    if (typeof item === "number") {
      out.cell(item);
    } else {
      out.raw(terminated(item));
    }
  }
  return out.bytes;
}

/** The blob of a tree; no memory is reserved in its reservation block. */
export function flatten(root: DeviceTreeNode): Uint8Array {
  const structure = new BigEndianWriter();
  const strings: number[] = [];
  const offsets = new Map<string, number>();

  const nameOffset = (name: string): number => {
    let offset = offsets.get(name);
    if (offset === undefined) {
      offset = strings.length;
      offsets.set(name, offset);
      strings.push(...terminated(name));
    }
    return offset;
  };
  const visit = (name: string, node: DeviceTreeNode): void => {
    structure.cell(BEGIN_NODE);
    structure.raw(terminated(name));
    structure.align();
    for (const [property, value] of node.properties) {
      const bytes = propertyBytes(value);
      structure.cell(PROP);
      structure.cell(bytes.length);
      structure.cell(nameOffset(property));
      structure.raw(bytes);
      structure.align();
    }
    for (const [childName, child] of node.children ?? []) {
      visit(childName, child);
    }
    structure.cell(END_NODE);
  };
  visit("", root);
  structure.cell(END);

  const reservationOffset = HEADER_BYTES;
  const structureOffset = reservationOffset + 16;
  const stringsOffset = structureOffset + structure.bytes.length;
  const total = stringsOffset + strings.length;
  const out = new BigEndianWriter();
  for (const value of [
    MAGIC,
    total,
    structureOffset,
    stringsOffset,
    reservationOffset,
    VERSION,
    LAST_COMPATIBLE,
    0,
    strings.length,
    structure.bytes.length,
  ]) {
    out.cell(value);
  }
  out.raw(new Uint8Array(16));
  out.raw(structure.bytes);
  out.raw(strings);
  return Uint8Array.from(out.bytes);
}
