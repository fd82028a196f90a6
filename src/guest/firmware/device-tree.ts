/**
 * Flattened device tree (Devicetree Specification 0.4, chapter 5): header, structure block, strings block.
 */
import { GuestFailure } from "../failure.js";

const MAGIC = 0xd00dfeed;
const BEGIN_NODE = 1;
const END_NODE = 2;
const PROP = 3;
const NOP = 4;
const END = 9;
/** Headers are 40 bytes from version 16 on. */
export const DEVICE_TREE_HEADER_BYTES = 40;

export class DeviceTreeNode {
  readonly children: DeviceTreeNode[] = [];
  readonly properties = new Map<string, Uint8Array>();

  constructor(
    /** Name with its unit address: `pcie@10000000`; empty for the root. */
    readonly name: string,
    readonly parent: DeviceTreeNode | null,
  ) {}

  get path(): string {
    return this.parent === null ? "/" : `${this.parent.parent === null ? "" : this.parent.path}/${this.name}`;
  }

  has(property: string): boolean {
    return this.properties.has(property);
  }

  /** A property of big-endian 32-bit cells; empty where it is missing. */
  cells(property: string): number[] {
    const data = this.properties.get(property);
    if (data === undefined) {
      return [];
    }
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    return Array.from({ length: data.byteLength >> 2 }, (_, i) => view.getUint32(i * 4));
  }

  /** The first cell of a property, or `fallback`. */
  cell(property: string, fallback: number): number {
    const cells = this.cells(property);
    return cells.length === 0 ? fallback : cells[0];
  }

  /** A property of NUL-terminated strings. */
  strings(property: string): string[] {
    const data = this.properties.get(property);
    if (data === undefined || data.length === 0) {
      return [];
    }
    return new TextDecoder().decode(data).replace(/\0$/, "").split("\0");
  }

  /** `reg` as pairs, by the parent's #address-cells and #size-cells (2.3.6). */
  reg(): Array<{ base: number; size: number }> {
    const addressCells = this.parent?.cell("#address-cells", 2) ?? 2;
    const sizeCells = this.parent?.cell("#size-cells", 1) ?? 1;
    const cells = this.cells("reg");
    const out = [];
    const step = addressCells + sizeCells;
    for (let i = 0; step > 0 && i + step <= cells.length; i += step) {
      out.push({ base: joinCells(cells, i, addressCells), size: joinCells(cells, i + addressCells, sizeCells) });
    }
    return out;
  }

  isCompatible(name: string): boolean {
    return this.strings("compatible").includes(name);
  }

  /** This node and all below it, in the tree's order. */
  *walk(): Generator<DeviceTreeNode> {
    yield this;
    for (const child of this.children) {
      yield* child.walk();
    }
  }
}

/** The number that `count` cells from `index` on make; exact below 2^53. */
export function joinCells(cells: readonly number[], index: number, count: number): number {
  let value = 0;
  for (let i = 0; i < count; i++) {
    value = value * 0x1_0000_0000 + (cells[index + i] ?? 0);
  }
  return value;
}

/** Total bytes of the tree whose header begins in `header`; null where there is no tree. */
export function deviceTreeBytes(header: Uint8Array): number | null {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  return header.byteLength >= DEVICE_TREE_HEADER_BYTES && view.getUint32(0) === MAGIC ? view.getUint32(4) : null;
}

/** Reads a whole tree. Throws GuestFailure where the blob is not a device tree that this version can read. */
export function parseDeviceTree(blob: Uint8Array): DeviceTreeNode {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  if (blob.byteLength < DEVICE_TREE_HEADER_BYTES || view.getUint32(0) !== MAGIC) {
    throw new GuestFailure("no device tree: the magic number 0xd00dfeed is missing");
  }
  if (view.getUint32(24) > 17) {
    throw new GuestFailure(`device tree is only compatible with version ${view.getUint32(24)} and newer, 17 is understood`);
  }
  const structure = view.getUint32(8);
  const strings = view.getUint32(12);
  const decoder = new TextDecoder();
  const text = (at: number): string => {
    let end = at;
    while (end < blob.byteLength && blob[end] !== 0) {
      end++;
    }
    return decoder.decode(blob.subarray(at, end));
  };
  let root = null as DeviceTreeNode | null;
  let current = null as DeviceTreeNode | null;
  let at = structure;
  for (;;) {
    if (at + 4 > blob.byteLength) {
      throw new GuestFailure("device tree ends within its structure block");
    }
    const token = view.getUint32(at);
    at += 4;
    if (token === BEGIN_NODE) {
      const name = text(at);
      at = (at + name.length + 4) & ~3;
      const node: DeviceTreeNode = new DeviceTreeNode(name, current);
      current?.children.push(node);
      root ??= node;
      current = node;
    } else if (token === END_NODE) {
      current = current?.parent ?? null;
    } else if (token === PROP) {
      const length = view.getUint32(at);
      const name = text(strings + view.getUint32(at + 4));
      current?.properties.set(name, blob.slice(at + 8, at + 8 + length));
      at = (at + 8 + length + 3) & ~3;
    } else if (token === END) {
      break;
    } else if (token !== NOP) {
      throw new GuestFailure(`device tree has the unknown token ${token} at offset ${at - 4}`);
    }
  }
  if (root === null) {
    throw new GuestFailure("device tree has no root node");
  }
  return root;
}
