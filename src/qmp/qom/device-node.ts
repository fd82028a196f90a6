/** Devices as objects: their properties as the user set them or by default, where they sit, the buses that they make. */
import type { DeviceArgument, PropertyDescription, PropertyType, PropertyValue } from "../../machine/arguments/index.js";
import { type Dimm, type MachineIommu, type MachineSmmu, type MachineVtd } from "../../machine/index.js";
import type { PciBus, PciFunction } from "../../pci/index.js";
import type { Json } from "../json.js";
import { leaf, type QomNode, type QomProperty } from "./node.js";

/** What device nodes need of the tree that they are part of. */
export interface TreePaths {
  bus(bus: PciBus): string;
  device(device: object): string;
}

/** QEMU's name for a property's type in qom-list. */
export function qomType(name: string, type: PropertyType): string {
  switch (type) {
    case "pci-address":
    case "host-address":
    case "mac":
      return "str";
    case "link":
      return LINKS[name] ?? "link<device>";
    case "any":
      return "list";
    default:
      return type;
  }
}

const LINKS: Readonly<Record<string, string>> = { "primary-bus": "link<PCI>", iommufd: "link<iommufd>", memdev: "link<memory-backend>", memory: "link<memory-region>", "secure-memory": "link<memory-region>", iothread: "link<iothread>" };

/** A default as qom-get gives it. */
export function defaultValue(property: PropertyDescription): Json | undefined {
  const { type, default: text } = property;
  switch (type) {
    case "bool":
      return text === "" ? undefined : text === "on";
    case "uint8":
    case "uint16":
    case "uint32":
    case "uint64":
    case "int32":
    case "int64":
    case "size":
    case "pci-address":
      return /^-?\d+$/.test(text) ? Number(text) : undefined;
    case "any":
      return undefined;
    default:
      return text;
  }
}

function json(value: PropertyValue): Json {
  return value as Json;
}

/** The properties of an argument's model: those that have an effect, and those that the user has set. */
function modelProperties(argument: DeviceArgument): Map<string, QomProperty> {
  const out = new Map<string, QomProperty>();
  for (const property of argument.model.properties.values()) {
    const set = argument.properties.get(property.name);
    const value = set !== undefined ? json(set) : defaultValue(property);
    if (value !== undefined && (set !== undefined || property.withoutEffect !== true)) {
      out.set(property.name, { type: qomType(property.name, property.type), value, setting: true });
    }
  }
  return out;
}

function deviceProperties(parentBus: string, hotplugged: boolean, hotpluggable: boolean): Array<[string, QomProperty]> {
  return [
    ["parent_bus", { type: "link<bus>", value: parentBus }],
    ["realized", { type: "bool", value: true }],
    ["hotplugged", { type: "bool", value: hotplugged }],
    ["hotpluggable", { type: "bool", value: hotpluggable }],
  ];
}

export function functionNode(fn: PciFunction, argument: DeviceArgument, paths: TreePaths): QomNode {
  const properties = new Map<string, QomProperty>([
    ...deviceProperties(fn.bus === null ? "" : paths.bus(fn.bus), fn.hotplugged, argument.model.hotpluggable),
    ...modelProperties(argument),
  ]);
  properties.set("addr", { type: "str", value: fn.devfn, setting: true });
  properties.set("busnr", { type: "busnr", value: fn.bus?.number ?? 0 });
  const iommufd = fn.passthrough?.iommufd ?? null;
  if (iommufd !== null) {
    properties.set("iommufd", { type: "link<iommufd>", value: `/objects/${iommufd}`, setting: true });
  }
  const children = new Map<string, QomNode>();
  for (const bar of fn.bars) {
    children.set(`${bar.region.name}[0]`, { type: "memory-region", properties: new Map([["size", { type: "uint64", value: bar.size }]]), children: new Map() });
  }
  // An expander's bus is below its own host, which is a device of the board.
  for (const bus of fn.secondaryBuses.filter((one) => !one.isRoot)) {
    children.set(bus.id, busNode(bus, paths));
  }
  return { type: fn.model, deviceId: fn.id, properties, children };
}

/** A device on no bus of PCI. @param regions its registers by name, with their bytes */
export function deviceNode(argument: DeviceArgument, regions: ReadonlyArray<readonly [string, number]>): QomNode {
  const properties = new Map([...deviceProperties("", false, argument.model.hotpluggable), ...modelProperties(argument)]);
  const children = regions.map(([name, size]) => [`${name}[0]`, leaf("memory-region", [["size", { type: "uint64", value: size }]])] as const);
  return { type: argument.model.name, deviceId: argument.id, properties, children: new Map(children) };
}

export function dimmNode(dimm: Dimm): QomNode {
  const { argument, address, slot, node, size, memdev, hotplugged } = dimm;
  const properties = new Map<string, QomProperty>([
    ...deviceProperties("", hotplugged, true),
    ["addr", { type: "uint64", value: address, setting: true }],
    ["slot", { type: "int32", value: slot, setting: true }],
    ["node", { type: "uint32", value: node, setting: true }],
    ["size", { type: "uint64", value: size }],
    ["memdev", { type: LINKS.memdev, value: `/objects/${memdev}`, setting: true }],
  ]);
  return { type: argument.model.name, deviceId: dimm.id, properties, children: new Map() };
}

export function iommuNode(iommu: MachineIommu, paths: TreePaths): QomNode {
  const { argument } = iommu;
  const { id, base, model, size, settings } = describeIommu(iommu, paths);
  const properties = new Map<string, QomProperty>(deviceProperties("", false, false));
  for (const [name, property] of argument === null ? [] : modelProperties(argument)) {
    properties.set(name, property);
  }
  settings.forEach(([name, property]) => properties.set(name, { ...property, setting: true }));
  const region = leaf("memory-region", [
    ["addr", { type: "uint64", value: base }],
    ["size", { type: "uint64", value: size }],
  ]);
  return { type: model, deviceId: id, properties, children: new Map([[`${model.replace("intel-", "intel_")}[0]`, region]]) };
}

/** What is decided when an IOMMU is made, beyond what was said. */
function describeIommu(iommu: MachineIommu, paths: TreePaths): { id: string; base: number; size: number; model: string; settings: Array<[string, QomProperty]> } {
  const id = iommu.argument?.id ?? "";
  if (isSmmu(iommu)) {
    const settings: Array<[string, QomProperty]> = [
      ["primary-bus", { type: "link<PCI>", value: paths.bus(iommu.bus) }],
      ["stage", { type: "str", value: iommu.device.properties.stage }],
    ];
    return { id, base: iommu.base, size: iommu.size, model: "arm-smmuv3", settings };
  }
  const { base, size, request } = iommu as MachineVtd;
  const onOff = (value: boolean): QomProperty => ({ type: "OnOffAuto", value: value ? "on" : "off" });
  return { id, base, size, model: "intel-iommu", settings: [["intremap", onOff(request.properties.intremap)], ["eim", onOff(request.properties.eim)]] };
}

function isSmmu(iommu: MachineIommu): iommu is MachineSmmu {
  return "legacy" in iommu;
}

export function busNode(bus: PciBus, paths: TreePaths): QomNode {
  const properties = new Map<string, QomProperty>([
    ["hotplug-handler", { type: "link<hotplug-handler>", value: bus.options.hotplug === true && bus.bridge !== null ? paths.device(bus.bridge) : "" }],
    ["realized", { type: "bool", value: true }],
  ]);
  let index = 0;
  for (const fn of bus.functions.values()) {
    const path = paths.device(fn);
    if (path !== "") {
      properties.set(`child[${index++}]`, { type: `link<${fn.model}>`, value: path });
    }
  }
  return { type: bus.isRoot && bus.bridge !== null ? "pxb-pcie-bus" : bus.isExpress ? "PCIE" : "PCI", properties, children: new Map() };
}

