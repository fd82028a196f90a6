import { type DeviceModel, deviceCatalogue, deviceModels, findDeviceModel, objectTypes, refusedFamily } from "../../machine/arguments/index.js";
import { generic, QmpError } from "../errors.js";
import type { Json } from "../json.js";
import { defaultValue, qomType } from "./device-node.js";

/** Parent of each type; what has none here stands below `object`. A name in ABSTRACT has no objects of its own. */
const PARENTS: Readonly<Record<string, string>> = {
  device: "object",
  "pci-device": "device",
  "sys-bus-device": "device",
  "arm-smmu": "sys-bus-device",
  "arm-smmuv3": "arm-smmu",
  "dynamic-sysbus-device": "sys-bus-device",
  "x86-iommu": "dynamic-sysbus-device",
  "intel-iommu": "x86-iommu",
  pxb: "pci-device",
  "pxb-pcie": "pxb",
  "base-pci-bridge": "pci-device",
  "pcie-port": "base-pci-bridge",
  "pcie-slot": "pcie-port",
  "pcie-root-port-base": "pcie-slot",
  "pcie-root-port": "pcie-root-port-base",
  "x3130-upstream": "pcie-port",
  "xio3130-downstream": "pcie-slot",
  "pcie-pci-bridge": "base-pci-bridge",
  "pci-bridge": "base-pci-bridge",
  "pci-bridge-seat": "pci-bridge",
  "i82801b11-bridge": "base-pci-bridge",
  ioh3420: "pcie-root-port-base",
  "vfio-pci-device": "pci-device",
  "vfio-pci": "vfio-pci-device",
  "virtio-pci": "pci-device",
  "virtio-net-pci-base": "virtio-pci",
  "virtio-net-pci": "virtio-net-pci-base",
  "virtio-blk-pci-base": "virtio-pci",
  "virtio-blk-pci": "virtio-blk-pci-base",
  nvme: "pci-device",
  e1000e: "pci-device",
  edu: "pci-device",
  "pvpanic-pci": "pci-device",
  "isa-device": "device",
  pvpanic: "isa-device",
  "pc-dimm": "device",
  "iommu-testdev": "pci-device",
  "memory-backend": "object",
  ...Object.fromEntries(Object.entries(objectTypes).map(([name, { type }]) => [name, type === "iommufd" ? "object" : type])),
};

/** Ancestors that QEMU has devices of and that cannot be made here. */
const UNLISTED = new Set(["pxb"]);

const ABSTRACT = new Set([
  "device",
  "pci-device",
  "isa-device",
  "sys-bus-device",
  "arm-smmu",
  "dynamic-sysbus-device",
  "x86-iommu",
  "base-pci-bridge",
  "pcie-port",
  "pcie-slot",
  "pcie-root-port-base",
  "vfio-pci-device",
  "virtio-pci",
  "virtio-net-pci-base",
  "virtio-blk-pci-base",
  "memory-backend",
]);

/** Abstract types that recorded devices are of, by the bus that they go on; others are devices and no more. */
const KINDS: Readonly<Record<string, string>> = { PCI: "pci-device", ISA: "isa-device", System: "dynamic-sysbus-device" };

/** Types that are placed or taken, each with its parent, as far as there is one here. */
function recordedParents(): Array<[name: string, parent: string]> {
  const catalogue = deviceCatalogue();
  return catalogue
    .names()
    .filter((name) => !Object.hasOwn(PARENTS, name) && refusedFamily(name) === null)
    .map((name) => [name, KINDS[catalogue.find(name)!.bus ?? ""] ?? "device"]);
}

/** The model of a type that -device takes; null: it is none. */
function modelOf(type: string): DeviceModel | null {
  const modelled = deviceModels.get(type);
  return modelled ?? (deviceCatalogue().find(type) === null || refusedFamily(type) !== null ? null : findDeviceModel(type).model);
}

function lineage(type: string): string[] {
  const line = [type];
  for (let at = PARENTS[type]; at !== undefined; at = PARENTS[at]) {
    line.push(at);
  }
  return line;
}

/** Types of objects' properties, as QOM has them. */
const OBJECT_TYPES: Readonly<Record<string, string>> = { str: "string", size: "int", uint32: "int", any: "int", link: "link<thread-context>" };

/** qom-list-types. */
export function typesThatAre(ancestor: string | null, abstract: boolean): Json {
  const own = Object.keys(PARENTS)
    .filter((name) => !UNLISTED.has(name) && (abstract || !ABSTRACT.has(name)) && (ancestor === null || lineage(name).includes(ancestor)))
    .map((name) => ({ name, ...(ABSTRACT.has(name) ? { abstract: true } : {}), parent: PARENTS[name] }));
  const recorded = recordedParents()
    .filter(([name, parent]) => ancestor === null || name === ancestor || lineage(parent).includes(ancestor))
    .map(([name, parent]) => ({ name, parent }));
  return [...own, ...recorded];
}

/** device-list-properties: those that have an effect here. @throws QmpError in QEMU's words */
export function deviceProperties(type: string): Json {
  const model = modelOf(type);
  if (model === null) {
    if (!Object.hasOwn(PARENTS, type)) {
      throw new QmpError("DeviceNotFound", `Device '${type}' not found`);
    }
    throw generic("Parameter 'typename' expects a non-abstract device type");
  }
  return [...model.properties.values()]
    .filter((property) => property.withoutEffect !== true || model.recorded !== undefined)
    .map((property) => {
      const value = defaultValue(property);
      return {
        name: property.name,
        type: qomType(property.name, property.type),
        description: property.description,
        ...(value === undefined || value === "" ? {} : { "default-value": value }),
      };
    });
}

/** qom-list-properties. @throws QmpError in QEMU's words */
export function typeProperties(type: string): Json {
  const model = modelOf(type);
  if (model === null && !Object.hasOwn(PARENTS, type)) {
    throw new QmpError("DeviceNotFound", `Class '${type}' not found`);
  }
  const own = Object.hasOwn(objectTypes, type) ? Object.entries(objectTypes[type].properties).map(([name, its]) => ({ name, type: OBJECT_TYPES[its] ?? its })) : [];
  const properties = [...(model?.properties.values() ?? [])].filter((property) => property.withoutEffect !== true || model?.recorded !== undefined);
  return [{ name: "type", type: "string" }, ...own, ...properties.map((property) => ({ name: property.name, type: qomType(property.name, property.type) }))];
}
