/** Models of recorded types: a function that is placed, a device of another bus that is taken. */
import type { BoardKind } from "../boards.js";
import type { DeviceModel, PropertyDescription } from "../device-table.js";
import type { PropertyType } from "../property.js";
import type { RecordedDevice, RecordedProperty } from "./record.js";

/** Types of QEMU's properties whose values are checked; what else there is, is taken as it stands. */
const TYPES: Readonly<Record<string, PropertyType>> = {
  bool: "bool", uint8: "uint8", uint16: "uint16", uint32: "uint32", uint64: "uint64", int32: "int32", int64: "int64",
  size: "size", size32: "size", str: "str", string: "str", OnOffAuto: "OnOffAuto", PCIELinkSpeed: "PCIELinkSpeed", PCIELinkWidth: "PCIELinkWidth",
};

const models = new Map<RecordedDevice, DeviceModel>();

export function recordedModel(recorded: RecordedDevice): DeviceModel {
  const known = models.get(recorded);
  if (known !== undefined) {
    return known;
  }
  const isPci = recorded.bus === "PCI";
  const board: BoardKind | null = recorded.boards.length === 1 ? recorded.boards[0] : null;
  const model: DeviceModel = {
    name: recorded.name,
    category: isPci ? "placed" : "other",
    description: describe(recorded),
    isPci,
    board,
    older: new Map(),
    hotpluggable: recorded.hotpluggable,
    properties: new Map(recorded.properties().map((one) => [one.name, propertyOf(one, isPci)])),
    recorded,
  };
  models.set(recorded, model);
  return model;
}

function describe({ description, bus, category, like }: RecordedDevice): string {
  const what = description === "" ? `${category} device of QEMU` : description;
  const where = bus === "PCI" ? "placed, not modelled" : `${bus === null ? "on no bus" : `on a ${bus}`}, taken and not modelled`;
  return `${what}: ${where}${like === null ? "" : `; its configuration space is ${like}'s`}`;
}

function propertyOf({ name, type, default: value }: RecordedProperty, isPci: boolean): PropertyDescription {
  if (isPci && name === "addr") {
    return { name, type: "pci-address", default: "-1", description: "slot[.function] in hexadecimal; -1: the first free slot" };
  }
  if (isPci && name === "multifunction") {
    return { name, type: "bool", default: "off", description: "other functions may be in function 0's slot" };
  }
  const known: PropertyType = TYPES[type] ?? (type.startsWith("link<") ? "link" : "any");
  return { name, type: known, default: value, description: "not modelled", withoutEffect: true };
}
