/** `-object`: iommufd, memory backends, generic initiators. What only a real guest or host needs is noted and has no effect. */
import { Refusal } from "../../support/index.js";
import { listed, nearest } from "./nearest.js";
import { MAX_NUMA_NODES } from "./numa.js";
import { checkId, type JsonValue, located, parseOptionString } from "./option-string.js";
import { parseProperty, type PropertyType, type PropertyValue } from "./property.js";

export interface ObjectArgument {
  readonly type: ObjectKind | "none";
  /** QEMU's type name. */
  readonly typeName: string;
  readonly id: string;
  /** Bytes, of a memory backend; 0 else. */
  readonly size: number;
  /** Descriptor of an iommufd that the process was given, as it was said; left out: none. */
  readonly fd?: string;
  /** Of an acpi-generic-initiator: the PCI function, by its id or QOM path, and its NUMA node. */
  readonly initiator?: { readonly device: string; readonly node: number };
  /** Of an acpi-generic-port: the bus of the host bridge, and its NUMA node. */
  readonly port?: { readonly bus: string; readonly node: number };
  readonly where: string;
}

type ObjectKind = "iommufd" | "memory-backend" | "generic-initiator" | "generic-port";

type Properties = Readonly<Record<string, PropertyType>>;

const MEMORY: Properties = {
  dump: "bool",
  "host-nodes": "any",
  merge: "bool",
  policy: "str",
  "prealloc-context": "link",
  "prealloc-threads": "uint32",
  prealloc: "bool",
  reserve: "bool",
  share: "bool",
  size: "size",
  "x-use-canonical-path-for-ramblock-id": "bool",
};

/** The types of objects that are something here, by QEMU's names. */
export const objectTypes: Readonly<Record<string, { readonly type: ObjectKind; readonly properties: Properties }>> = {
  iommufd: { type: "iommufd", properties: { fd: "str" } },
  "memory-backend-ram": { type: "memory-backend", properties: MEMORY },
  "memory-backend-memfd": { type: "memory-backend", properties: { ...MEMORY, hugetlb: "bool", hugetlbsize: "size", seal: "bool" } },
  "memory-backend-file": {
    type: "memory-backend",
    properties: { ...MEMORY, align: "size", "discard-data": "bool", "mem-path": "str", offset: "size", pmem: "bool", readonly: "bool", rom: "OnOffAuto" },
  },
  "memory-backend-shm": { type: "memory-backend", properties: MEMORY },
  "acpi-generic-initiator": { type: "generic-initiator", properties: { "pci-dev": "str", node: "uint32" } },
  "acpi-generic-port": { type: "generic-port", properties: { "pci-bus": "str", node: "uint32" } },
};

/** Objects of QEMU that nothing here asks for. */
const HARMLESS = /^(?:secret|secret_keyring|iothread|thread-context|throttle-group|rng-.*|tls-.*|authz-.*|monitor-.*|can-.*|dbus-vmstate|filter-.*|colo-compare|cryptodev-.*|input-.*|main-loop|pr-manager-helper|qtest)$/;

export function parseObject(argument: string, notes: string[], option = "-object"): ObjectArgument {
  const { values, where, form } = parseOptionString(option, argument, "qom-type");
  return located(where, () => {
    const typeName = values.get("qom-type");
    if (typeof typeName !== "string" || typeName === "") {
      throw new Refusal("Parameter 'qom-type' is missing", { wouldWork: "-object iommufd,id=iommufd0" });
    }
    if (!values.has("id")) {
      throw new Refusal("Parameter 'id' is missing", { wouldWork: `-object ${typeName},id=NAME` });
    }
    const id = checkId(values.get("id"));
    if (HARMLESS.test(typeName)) {
      notes.push(`-object ${typeName},id=${id}: nothing here uses it`);
      return { type: "none", typeName, id, size: 0, where };
    }
    const known = Object.hasOwn(objectTypes, typeName) ? objectTypes[typeName] : undefined;
    if (known === undefined) {
      const near = nearest(typeName, Object.keys(objectTypes));
      throw new Refusal(`Parameter 'qom-type' does not accept value '${typeName}'`, {
        found: near === null ? undefined : `did you mean ${near}?`,
        wouldWork: listed(Object.keys(objectTypes)),
      });
    }
    const properties = new Map<string, PropertyValue>();
    for (const [name, value] of values) {
      if (name !== "qom-type" && name !== "id") {
        properties.set(name, objectProperty(typeName, known.properties, name, value, form === "json"));
      }
    }
    if (known.type === "memory-backend" && (properties.get("mem-path") !== undefined || properties.get("hugetlb") === true)) {
      notes.push(`-object ${typeName},id=${id}: its memory is ordinary memory of this process`);
    }
    return { type: known.type, typeName, id, size: known.type === "memory-backend" ? backendSize(typeName, properties) : 0, ...(properties.has("fd") ? { fd: String(properties.get("fd")) } : {}), ...affinity(known.type, typeName, properties), where };
  });
}

/** What has to be said of a generic initiator or port. @throws Refusal in QEMU's words */
function affinity(kind: ObjectKind, typeName: string, properties: ReadonlyMap<string, PropertyValue>): Pick<ObjectArgument, "initiator" | "port"> {
  if (kind !== "generic-initiator" && kind !== "generic-port") {
    return {};
  }
  const name = kind === "generic-initiator" ? "pci-dev" : "pci-bus";
  for (const one of [name, "node"]) {
    if (!properties.has(one)) {
      throw new Refusal(`Parameter '${one}' is missing`, { wouldWork: `-object ${typeName},id=NAME,${name}=ID,node=N` });
    }
  }
  const node = Number(properties.get("node"));
  if (node >= MAX_NUMA_NODES) {
    throw new Refusal("acpi-generic-initiator: Invalid NUMA node specified", { found: `node=${node}`, wouldWork: `0 to ${MAX_NUMA_NODES - 1}, as many as there are -numa node` });
  }
  const of = String(properties.get(name));
  return kind === "generic-initiator" ? { initiator: { device: of, node } } : { port: { bus: of, node } };
}

function objectProperty(typeName: string, types: Properties, name: string, value: JsonValue, strict: boolean): PropertyValue {
  const type = Object.hasOwn(types, name) ? types[name] : /^host-nodes\.\d+$/.test(name) && "host-nodes" in types ? "any" : undefined;
  if (type === undefined) {
    const near = nearest(name, Object.keys(types));
    // QEMU has one message for its keyval form and one for JSON.
    throw new Refusal(strict ? `Parameter '${name}' is unexpected` : `Invalid parameter '${name}'`, {
      found: near === null ? undefined : `did you mean ${near}?`,
      wouldWork: `${typeName} has: id, ${listed(Object.keys(types))}`,
    });
  }
  return parseProperty(typeName, name, type, value, strict);
}

function backendSize(typeName: string, properties: ReadonlyMap<string, PropertyValue>): number {
  const size = properties.get("size");
  if (typeof size !== "number") {
    throw new Refusal("Parameter 'size' is missing", { wouldWork: `-object ${typeName},id=NAME,size=4G` });
  }
  if (size === 0) {
    throw new Refusal(`property 'size' of ${typeName} doesn't take value '0'`, { wouldWork: "a size such as 4G" });
  }
  if (size % 4096 !== 0) {
    throw new Refusal("memory backend size must be a multiple of the page size", { found: `size=${size}`, wouldWork: "a multiple of 4096 bytes" });
  }
  return size;
}
