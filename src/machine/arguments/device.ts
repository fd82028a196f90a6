/** One `-device` (or device_add): a model, an id, a bus, and the properties that were said, typed. */
import { type Place, Refusal, RefusalCollector } from "../../support/index.js";
import type { DeviceModel, PropertyDescription } from "./device-table.js";
import { type BoardKind, boardTraits } from "./boards.js";
import { findDeviceModel, type FoundModel } from "./catalogue/find-model.js";
import { listed, nearest } from "./nearest.js";
import { checkId, type JsonValue, located, parseOptionString } from "./option-string.js";
import { parseProperty, type PropertyValue } from "./property.js";

export interface GlobalProperty {
  readonly driver: string;
  readonly name: string;
  readonly value: string;
}

export interface DeviceArgument {
  readonly model: DeviceModel;
  /** Empty: none was given. */
  readonly id: string;
  /** The bus that was asked for; null: any that takes it. */
  readonly bus: string | null;
  /** devfn, or -1: any free slot. */
  readonly devfn: number;
  /** What was said, or is said by -global or the machine's version; not the model's own defaults. */
  readonly properties: ReadonlyMap<string, PropertyValue>;
  /** Of `properties`, the names that the user said. */
  readonly said: ReadonlySet<string>;
  /** For messages: `-device edu,addr=1`, shortened where it is long. */
  readonly where: string;
  /** The argument as the user wrote it. */
  readonly text: string;
  /** Where it stands; left out: it came while the machine was running. */
  readonly place?: Place;
}

export interface DeviceContext {
  readonly globals: readonly GlobalProperty[];
  /** Of the machine type: older ones have other defaults. */
  readonly version: readonly [number, number];
  readonly board: BoardKind;
  /** The machine has an intel-iommu, or is to get one. */
  readonly intelIommu: boolean;
  readonly notes: string[];
}

/** Defaults that older machine types have (QEMU 11.1, hw_compat_11_0). */
const COMPAT_11_0: readonly GlobalProperty[] = [
  { driver: "arm-smmuv3", name: "ril", value: "on" },
  { driver: "arm-smmuv3", name: "ats", value: "off" },
  { driver: "arm-smmuv3", name: "oas", value: "44" },
  { driver: "arm-smmuv3", name: "ssidsize", value: "0" },
];

/** The same of machines up to 9.1 (pc_compat_9_1; read off `info qtree` of pc-q35-9.1 and 9.2). */
const COMPAT_9_1: readonly GlobalProperty[] = [
  { driver: "intel-iommu", name: "aw-bits", value: "39" },
  { driver: "intel-iommu", name: "stale-tm", value: "on" },
];

/** QEMU's words for a second IOMMU of any kind on an x86 machine. */
export const MULTIPLE_IOMMUS = "QEMU does not support multiple vIOMMUs for x86 yet.";
/** Other IOMMUs of QEMU's x86 machines. */
const OTHER_IOMMUS = new Set(["virtio-iommu-pci", "virtio-iommu", "amd-iommu"]);

/** The model of that name, where the board can have it. @throws Refusal in QEMU's words */
function findModel(driver: string, context: DeviceContext): FoundModel {
  const { board } = context;
  if (board === "q35" && context.intelIommu && OTHER_IOMMUS.has(driver)) {
    throw new Refusal(MULTIPLE_IOMMUS, { found: `${driver} beside an intel-iommu`, wouldWork: "one of them; viommu has intel-iommu" });
  }
  const found = findDeviceModel(driver);
  const { model } = found;
  if (model.board !== null && model.board !== board) {
    throw new Refusal(`'${driver}' is not a valid device model name`, {
      found: `${driver} is of ${model.board} machines, and this one is ${board}`,
      wouldWork: `${model.category === "iommu" ? `${boardTraits[board].iommu}, or ` : ""}-machine ${model.board}`,
    });
  }
  const refused = model.recorded?.refused(board) ?? null;
  if (refused !== null) {
    throw new Refusal(refused, { found: `${driver} on ${board}, as QEMU ${boardTraits[board].architecture} has it`, wouldWork: `leaving ${driver} out` });
  }
  return found;
}

/** @throws Refusal in QEMU's words */
export function parseDevice(option: string, argument: string, context: DeviceContext): DeviceArgument {
  const { values, where, form } = parseOptionString(option, argument, "driver");
  return located(where, () => {
    const driver = values.get("driver");
    if (driver === undefined || driver === "") {
      throw new Refusal("Parameter 'driver' is missing", { wouldWork: `${option} driver[,property=value...]` });
    }
    if (typeof driver !== "string") {
      throw new Refusal("Invalid parameter type for 'driver', expected: string", { found: JSON.stringify(driver) });
    }
    if (values.has("help") || values.has("?")) {
      throw new Refusal(`${option} ${driver},help asks for a list`, { wouldWork: `viommu device ${driver}` });
    }
    const { model, properties: implied, note } = findModel(driver, context);
    const id = checkId(values.get("id"), form === "json" ? `Invalid qdev ID '${String(values.get("id"))}'` : undefined);
    const bus = parseBus(model, values.get("bus"));
    const properties = new Map<string, PropertyValue>();
    const said = new Set<string>();
    const compat = [...(compare(context.version, [11, 0]) <= 0 ? COMPAT_11_0 : []), ...(compare(context.version, [9, 1]) <= 0 ? COMPAT_9_1 : [])];
    for (const global of [...compat, ...context.globals]) {
      if (global.driver === model.name) {
        for (const [name, value] of currentProperties(model, global.name, global.value, context.notes)) {
          properties.set(name, setProperty(model, name, value));
        }
      }
    }
    const refusals = new RefusalCollector();
    if (note !== null) {
      context.notes.push(note);
    }
    for (const [name, value] of Object.entries(implied)) {
      properties.set(name, setProperty(model, name, value));
    }
    for (const [given, givenValue] of values) {
      if (given !== "driver" && given !== "id" && given !== "bus") {
        refusals.attempt(() => {
          for (const [name, value] of currentProperties(model, given, givenValue, context.notes)) {
            properties.set(name, setProperty(model, name, value, form === "json"));
            said.add(name);
          }
        }, { property: given });
      }
    }
    refusals.attempt(() => checkNeeds(model, said));
    refusals.throwAll();
    noteProperties(model, said, id, context.notes);
    const devfn = properties.get("addr");
    return { model, id, bus, devfn: typeof devfn === "number" ? devfn : -1, properties, said, where, text: argument };
  });
}

/** A property by the name that QEMU 11.1 has for it, where an older one was said: one, several or none. @throws Refusal where the older one cannot be had */
export function currentProperties(model: DeviceModel, name: string, value: JsonValue, notes: string[]): ReadonlyArray<readonly [name: string, value: JsonValue]> {
  const older = model.older.get(name);
  if (older === undefined) {
    return [[name, value]];
  }
  const strict = typeof value === "boolean";
  const said = parseProperty(model.name, name, older.type, strict && older.type !== "bool" ? (value ? "on" : "off") : value, strict && older.type === "bool");
  if (older.only !== undefined && said !== older.only) {
    throw new Refusal(`Property '${model.name}.${name}' not found`, { found: `${name}=${onOff(value)}, of an older version: ${older.gone ?? ""}`, wouldWork: `leaving ${name} out` });
  }
  const now = older.now(said);
  const taken = now.map(([today, its]) => `${today}=${onOff(its)}`).join(",");
  notes.push(`${model.name}: ${name}=${onOff(value)} is of an older version; ${now.length === 0 ? `it has no effect, ${older.gone ?? ""}` : `taken as ${taken}`}`);
  return now;
}

function onOff(value: JsonValue): string {
  return typeof value === "boolean" ? (value ? "on" : "off") : typeof value === "string" ? value : JSON.stringify(value);
}

/** What QEMU says of a device without its back end. */
function checkNeeds({ name, recorded }: DeviceModel, said: ReadonlySet<string>): void {
  const needs = recorded?.needs ?? null;
  if (needs !== null && !needs.properties.some((one) => said.has(one))) {
    throw new Refusal(needs.words, { found: `${name} without ${needs.properties.join(", ")}`, wouldWork: needs.properties.map((one) => `${one}=`).join(", "), rule: "device-needs-property" });
  }
}

function parseBus(model: DeviceModel, bus: JsonValue | undefined): string | null {
  if (bus === undefined) {
    return null;
  }
  if (typeof bus !== "string") {
    throw new Refusal("Invalid parameter type for 'bus', expected: string", { found: JSON.stringify(bus) });
  }
  if (!model.isPci && model.category !== "other") {
    if (model.category === "endpoint" && bus === "isa.0") {
      return null;
    }
    const wouldWork = model.category === "memory" || model.category === "endpoint" ? "leaving bus out" : model.properties.has("primary-bus") ? `primary-bus=${bus}: the root bus that it covers` : "leaving bus out: it covers every root bus";
    throw new Refusal(`Device '${model.name}' can't go on PCIE bus`, { found: `bus=${bus}`, wouldWork });
  }
  return bus;
}

/** The property of that name. @throws Refusal, listing the model's properties */
function describeProperty(model: DeviceModel, name: string): PropertyDescription {
  const property = model.properties.get(name);
  if (property !== undefined) {
    return property;
  }
  const near = nearest(name, model.properties.keys());
  const useful = [...model.properties.values()].filter((one) => (one.withoutEffect !== true || model.recorded !== undefined) && one.refused === undefined).map((one) => one.name);
  throw new Refusal(`Property '${model.name}.${name}' not found`, {
    rule: "unknown-property",
    found: near === null ? undefined : `did you mean ${near}?`,
    wouldWork: listed(["id", ...(model.isPci || model.category === "other" ? ["bus"] : []), ...useful]),
  });
}

/** Checks and parses one property of a model. @throws Refusal in QEMU's words */
export function setProperty(model: DeviceModel, name: string, value: JsonValue, strict = false): PropertyValue {
  const property = describeProperty(model, name);
  if (property.refused !== undefined && String(value) !== property.default) {
    throw new Refusal(`Property '${model.name}.${name}' cannot be set here`, { found: property.refused, wouldWork: `leaving ${name} out` });
  }
  return parseProperty(model.name, name, property.type, value, strict);
}

function noteProperties(model: DeviceModel, said: ReadonlySet<string>, id: string, notes: string[]): void {
  if (model.recorded !== undefined) {
    return;
  }
  const idle = [...said].filter((name) => model.properties.get(name)!.withoutEffect === true);
  if (idle.length > 0) {
    notes.push(`${id === "" ? model.name : `${model.name} '${id}'`}: without effect here: ${idle.join(", ")}`);
  }
}

function compare(a: readonly [number, number], b: readonly [number, number]): number {
  return a[0] - b[0] || a[1] - b[1];
}

// ---- typed access ----

export function booleanProperty(device: DeviceArgument, name: string): boolean {
  const value = device.properties.get(name);
  return typeof value === "boolean" ? value : device.model.properties.get(name)?.default === "on";
}

export function textProperty(device: DeviceArgument, name: string): string {
  const value = device.properties.get(name);
  return typeof value === "string" ? value : (device.model.properties.get(name)?.default ?? "");
}

export function numberProperty(device: DeviceArgument, name: string): number {
  const value = device.properties.get(name);
  return value === undefined ? Number(device.model.properties.get(name)?.default ?? 0) : Number(value as number | bigint);
}

/** A name for messages: `e1000e 'net0'`. */
export function deviceLabel(device: DeviceArgument): string {
  return device.id === "" ? device.model.name : `${device.model.name} '${device.id}'`;
}
