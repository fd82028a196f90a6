/** `-object`: iommufd and memory backends. What only a real guest or host needs is noted and has no effect. */
import { Refusal } from "../../support/index.js";
import { listed, nearest } from "./nearest.js";
import { checkId, type JsonValue, located, parseOptionString } from "./option-string.js";
import { parseProperty, type PropertyType, type PropertyValue } from "./property.js";

export interface ObjectArgument {
  readonly type: "iommufd" | "memory-backend" | "none";
  /** QEMU's type name. */
  readonly typeName: string;
  readonly id: string;
  /** Bytes, of a memory backend; 0 else. */
  readonly size: number;
  /** Descriptor of an iommufd that the process was given, as it was said; left out: none. */
  readonly fd?: string;
  readonly where: string;
}

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
export const objectTypes: Readonly<Record<string, { readonly type: "iommufd" | "memory-backend"; readonly properties: Properties }>> = {
  iommufd: { type: "iommufd", properties: { fd: "str" } },
  "memory-backend-ram": { type: "memory-backend", properties: MEMORY },
  "memory-backend-memfd": { type: "memory-backend", properties: { ...MEMORY, hugetlb: "bool", hugetlbsize: "size", seal: "bool" } },
  "memory-backend-file": {
    type: "memory-backend",
    properties: { ...MEMORY, align: "size", "discard-data": "bool", "mem-path": "str", offset: "size", pmem: "bool", readonly: "bool", rom: "OnOffAuto" },
  },
  "memory-backend-shm": { type: "memory-backend", properties: MEMORY },
};

/** Objects of QEMU that nothing here asks for. */
const HARMLESS = /^(?:secret|secret_keyring|iothread|thread-context|throttle-group|rng-.*|tls-.*|authz-.*|monitor-.*|can-.*|dbus-vmstate|filter-.*|colo-compare|cryptodev-.*|input-.*|main-loop|pr-manager-helper|qtest|acpi-generic-initiator|acpi-generic-port)$/;

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
    return { type: known.type, typeName, id, size: known.type === "memory-backend" ? backendSize(typeName, properties) : 0, ...(properties.has("fd") ? { fd: String(properties.get("fd")) } : {}), where };
  });
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
