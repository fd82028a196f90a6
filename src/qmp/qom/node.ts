/** The object tree that qom-list and qom-get show (QEMU's qom/object.c): nodes with typed properties and children. */
import { generic, QmpError } from "../errors.js";
import type { Json } from "../json.js";

export interface QomProperty {
  /** QEMU's name of the type, such as uint32, str, link<PCI>. */
  readonly type: string;
  readonly value: Json;
  /** Set when the device is made, and fixed from then on. */
  readonly setting?: boolean;
}

export interface QomNode {
  /** QEMU's type name. */
  readonly type: string;
  /** Of a device: its id, empty where it has none. Its properties are fixed once it is made. */
  readonly deviceId?: string;
  readonly properties: ReadonlyMap<string, QomProperty>;
  readonly children: ReadonlyMap<string, QomNode>;
}

export function container(children: Iterable<readonly [string, QomNode]> = []): QomNode {
  return { type: "container", properties: new Map(), children: new Map(children) };
}

export function leaf(type: string, properties: Iterable<readonly [string, QomProperty]> = []): QomNode {
  return { type, properties: new Map(properties), children: new Map() };
}

export interface Found {
  readonly node: QomNode;
  readonly path: string;
}

/** Longest path that is looked for. */
const PARTS_LIMIT = 64;

/**
 * The node at an absolute path, or the one whose path ends with a partial one.
 * @returns "ambiguous" where several do, null where none does
 */
export function resolvePath(root: QomNode, path: string): Found | "ambiguous" | null {
  const parts = path.split("/").filter((part) => part !== "");
  if (parts.length > PARTS_LIMIT) {
    return null;
  }
  if (path.startsWith("/")) {
    return descend(root, { node: root, path: "" }, parts);
  }
  const found = [...walk({ node: root, path: "" })].map((at) => descend(root, at, parts)).filter((one) => one !== null);
  const distinct = new Map(found.map((one) => [one.path, one]));
  return distinct.size > 1 ? "ambiguous" : ([...distinct.values()][0] ?? null);
}

function* walk(at: Found): Iterable<Found> {
  yield at;
  for (const [name, node] of at.node.children) {
    yield* walk({ node, path: `${at.path}/${name}` });
  }
}

/** Children by name, and links to where they lead. */
function descend(root: QomNode, from: Found, parts: readonly string[]): Found | null {
  let at = from;
  for (const part of parts) {
    const child = at.node.children.get(part);
    if (child !== undefined) {
      at = { node: child, path: `${at.path}/${part}` };
      continue;
    }
    const link = at.node.properties.get(part);
    const target = link?.type.startsWith("link<") === true && typeof link.value === "string" && link.value.startsWith("/") ? link.value : null;
    const next = target === null ? null : descend(root, { node: root, path: "" }, target.split("/").filter((one) => one !== ""));
    if (next === null) {
      return null;
    }
    at = next;
  }
  return at.path === "" ? { node: at.node, path: "/" } : at;
}

/** @throws QmpError of class DeviceNotFound */
export function findNode(root: QomNode, path: string): Found {
  const found = resolvePath(root, path);
  if (found === null || found === "ambiguous") {
    throw new QmpError("DeviceNotFound", `Device '${path}' not found`);
  }
  return found;
}

/** A property's value; of a child its path. @throws QmpError in QEMU's words */
export function readProperty({ node, path }: Found, name: string): Json {
  const child = node.children.get(name);
  if (name === "type") {
    return node.type;
  }
  if (child !== undefined) {
    return `${path === "/" ? "" : path}/${name}`;
  }
  const property = node.properties.get(name);
  if (property === undefined) {
    throw generic(`Property '${node.type}.${name}' not found`);
  }
  return property.value;
}

/** What qom-list tells of a node. */
export function listNode(node: QomNode): Array<{ name: string; type: string }> {
  return [
    { name: "type", type: "string" },
    ...[...node.properties].map(([name, { type }]) => ({ name, type })),
    ...[...node.children].map(([name, { type }]) => ({ name, type: `child<${type}>` })),
  ];
}
