/** Places in a machine for a function that cannot stay where it is: a port of its own, an expander bus with an SMMU, bus numbers. */
import { type DeviceArgument, numberProperty, textProperty } from "../machine/arguments/index.js";
import { iommuOf as hostIommuOf } from "../host/simulated/names/index.js";
import type { Change, Mend } from "./line.js";
import type { Subject } from "./subject.js";
import { FIRST_ROOT } from "./topology.js";

/** Buses below a new expander: its port's, and some that a guest may want. */
const ROOM = 4;

/** A new root port for the device on the root bus that it is below. */
export function moveToPort(subject: Subject, device: DeviceArgument, bus = subject.topology.rootBusOf(device)): Mend {
  const option = subject.optionOf(device);
  const id = subject.topology.freeId("rp-new");
  return [
    { kind: "insert", before: option, options: [["device", `pcie-root-port,id=${id},bus=${bus},chassis=${freeChassis(subject)}`]] },
    ...onto(subject, option, id),
  ];
}

/**
 * A place behind an SMMU that serves the device: one that is there and serves the same physical SMMU, else a new
 * expander bus with an SMMU like the one that it is behind, or with none for an emulated function.
 */
export function moveToExpander(subject: Subject, device: DeviceArgument): Mend | undefined {
  const { topology } = subject;
  const option = subject.optionOf(device);
  const here = topology.iommuOf(device);
  const own = hostIommu(subject, device);
  const other = own === null ? undefined : topology.passedThrough.find((fn) => fn !== device && hostIommu(subject, fn) === own && topology.isAccelerated(topology.iommuOf(fn)) && firstBehind(subject, topology.rootBusOf(fn)) === own);
  if (other !== undefined) {
    return moveToPort(subject, device, topology.rootBusOf(other));
  }
  const bus = topology.freeId("pcie-new");
  const number = freeNumber(subject);
  if (number === null) {
    return undefined;
  }
  const port = topology.freeId("rp-new");
  const smmu = here === null || device.model.category !== "passthrough" ? [] : [["device", likeSmmu(subject, here, bus)] as const];
  return [
    { kind: "insert", before: option, options: [["device", `pxb-pcie,id=${bus},bus_nr=${number},bus=${FIRST_ROOT}`], ...smmu, ["device", `pcie-root-port,id=${port},bus=${bus},chassis=${freeChassis(subject)}`]] },
    ...onto(subject, option, port),
  ];
}

/** An SMMU with the properties that are said of another, on a bus of its own. */
function likeSmmu(subject: Subject, smmu: DeviceArgument, bus: string): string {
  const option = subject.optionOf(smmu);
  const said = subject.line.properties(option).filter((name) => !["driver", "id", "primary-bus"].includes(name));
  const words = [...new Set(said)].map((name) => `${name}=${textOf(smmu, name)}`);
  return [`arm-smmuv3,id=${subject.topology.freeId("smmu-new")},primary-bus=${bus}`, ...words].join(",");
}

function textOf(device: DeviceArgument, name: string): string {
  const value = device.properties.get(name);
  return typeof value === "boolean" ? (value ? "on" : "off") : String(value ?? textProperty(device, name));
}

function onto(subject: Subject, option: number, bus: string): Change[] {
  const addr = subject.line.said(option, "addr");
  return [{ kind: "set", option, property: "bus", value: bus }, ...(addr === undefined ? [] : [{ kind: "unset", option, property: "addr" } as const])];
}

/** The host's IOMMU in front of a passed-through function; null: unknown, or none. */
function hostIommu(subject: Subject, device: DeviceArgument): string | null {
  const fn = subject.hostFunction(device);
  return fn === null ? null : (hostIommuOf(fn) ?? null);
}

/** The physical SMMU that the SMMU of a root bus comes to serve: that of the first function below. */
function firstBehind(subject: Subject, bus: string): string | null {
  const first = subject.topology.passedThrough.find((fn) => subject.topology.rootBusOf(fn) === bus);
  return first === undefined ? null : hostIommu(subject, first);
}

export function freeChassis(subject: Subject): number {
  const taken = new Set(subject.args.devices.filter(({ model }) => model.properties.has("chassis")).map((device) => numberProperty(device, "chassis")));
  for (let n = 1; ; n++) {
    if (!taken.has(n)) {
      return n;
    }
  }
}

/** Numbers of the machine's buses: how many configuration space has room for. */
export function busCount(subject: Subject): number {
  const { machine } = subject.args;
  return machine.board === "q35" || (machine.highmem && machine.highmemEcam) ? 256 : 16;
}

/** Bridges below a root bus: as many buses want numbers behind its own. */
function bridgesBelow(subject: Subject, bus: string): number {
  return subject.topology.below(bus).filter(({ model }) => model.category === "bridge" && model.name !== "pxb-pcie").length;
}

interface Taken {
  readonly first: number;
  readonly last: number;
}

/** Ranges of numbers that root buses use, but those of one. */
function takenRanges(subject: Subject, but: DeviceArgument | null): Taken[] {
  const expanders = subject.args.devices.filter((device) => device.model.name === "pxb-pcie" && device !== but);
  return [{ bus: FIRST_ROOT, number: 0 }, ...expanders.map((device) => ({ bus: device.id, number: numberProperty(device, "bus_nr") }))].map(({ bus, number }) => ({ first: number, last: number + bridgesBelow(subject, bus) }));
}

/** A number for a root bus with room for what is below; null: none is free. */
function freeNumber(subject: Subject, room = ROOM, but: DeviceArgument | null = null): number | null {
  const taken = takenRanges(subject, but);
  const count = busCount(subject);
  const fits = (number: number): boolean => number + room < count && taken.every(({ first, last }) => number > last + (first === 0 ? ROOM : 0) || number + room < first);
  // Round numbers first, as people choose them.
  const candidates = [...Array.from({ length: count / 8 - 1 }, (_unused, n) => 8 * (n + 1)), ...Array.from({ length: count - 1 }, (_unused, n) => n + 1)];
  return candidates.find(fits) ?? null;
}

/** A number for an expander that has one that does not do. */
export function numberFor(subject: Subject, expander: DeviceArgument): number | null {
  return freeNumber(subject, Math.max(bridgesBelow(subject, expander.id), 1), expander);
}
