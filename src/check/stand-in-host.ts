/**
 * The host that a line is tried on: the one that was told, or, where none was, one that has whatever the line asks
 * for, so that nothing is refused but what no host could give.
 */
import { describeHost, type HostDescription, type HostDescriptionInput } from "../host/simulated/file/index.js";
import { iommuOf } from "../host/simulated/names/index.js";
import { booleanProperty, type DeviceArgument, type DriveArgument, type Drives, type MachineArguments, textProperty } from "../machine/arguments/index.js";
import { hostFunctionAddress } from "../machine/index.js";
import type { Topology } from "./topology.js";

/** IDR0 to IDR5 of an SMMU with all that an accelerated vSMMU can offer: both stages, two-level tables, ATS, 16-bit ASIDs and VMIDs, 20 bits of SubstreamIDs, ranges, 48 bits and all granules. */
const BEST_SMMU = { idr0: 0x0d4c_749b, idr1: 0x0273_0518, idr3: 0x1514, idr5: 0x75, coherent: true } as const;
const BEST_VTD = {
  sagaw: [48, 57] as Array<39 | 48 | 57>,
  deviceTlb: true,
  scalableMode: true,
  scalableCoherentWalks: true,
  secondStage: true,
  firstStage: true,
  firstStage1g: true,
  firstStage5Level: true,
  nesting: true,
  dirtyTracking: true,
  supervisor: true,
  pasidBits: 20,
};

/**
 * The host with the best registers where it does not tell its own, for what is unknown is in nobody's way; and with a
 * kernel that has everything built in, for what it lacks is told by rules of their own.
 */
export function withKnownRegisters(host: HostDescription, addresses: ReadonlySet<string>): HostDescription {
  const smmus = host.smmus.map((smmu) => ({ ...smmu, idr0: smmu.idr0 ?? BEST_SMMU.idr0, idr1: smmu.idr1 ?? BEST_SMMU.idr1, idr3: smmu.idr0 === null ? BEST_SMMU.idr3 : smmu.idr3, idr5: smmu.idr5 ?? BEST_SMMU.idr5 }));
  return { ...only(host, addresses), smmus: only({ ...host, smmus }, addresses).smmus, kernelConfig: null, kvm: null };
}

/** The host with no more IOMMUs and functions than the line has to do with, where it has all that the line names. */
function only(host: HostDescription, addresses: ReadonlySet<string>): HostDescription {
  const named = host.functions.filter(({ address }) => addresses.has(address));
  if (named.length < addresses.size || named.length === 0) {
    return host;
  }
  const iommus = new Set(named.map((fn) => iommuOf(fn)));
  const groups = new Set(named.map(({ group }) => group).filter((group) => group !== null));
  return {
    ...host,
    smmus: host.smmus.filter(({ name }) => iommus.has(name)),
    vtds: host.vtds.filter(({ name }) => iommus.has(name)),
    functions: host.functions.filter((fn) => named.includes(fn) || (fn.group !== null && groups.has(fn.group) && (iommuOf(fn) === null || iommus.has(iommuOf(fn))))),
  };
}

/** Address of a function of which the line does not say which of the host's it is. */
const INVENTED_SEGMENT = "7f";

function isInvented(address: string | null): boolean {
  return address?.startsWith(INVENTED_SEGMENT) === true;
}

function inventedAddress(index: number): string {
  return `${INVENTED_SEGMENT}${(index >> 8).toString(16).padStart(2, "0")}:${(index & 0xff).toString(16).padStart(2, "0")}:00.0`;
}

/**
 * The arguments that are tried: functions that the line names by a descriptor have addresses of their own; command queues
 * that are not modelled, and `auto` of an SMMU whose functions were left out, are in nobody's way.
 */
export function arguable(args: MachineArguments, topology: Topology, someLeft: boolean): MachineArguments {
  let count = 0;
  const devices = args.devices.map((device) => {
    if (isUnknown(device)) {
      const properties = new Map([...device.properties].filter(([name]) => name !== "fd"));
      return { ...device, properties: properties.set("host", inventedAddress(count++)) };
    }
    if (device.model.name !== "arm-smmuv3" || !booleanProperty(device, "accel")) {
      return device;
    }
    const bare = someLeft && !topology.passedThrough.some((fn) => topology.iommuOf(fn) === device);
    const fixed = bare ? Object.entries({ ril: "on", ats: "off", oas: "44", ssidsize: "0" }).filter(([name]) => textProperty(device, name) === "auto") : [];
    return { ...device, properties: new Map([...device.properties, ["cmdqv", "auto"], ...fixed]) };
  });
  return { ...args, devices, drives: withoutFiles(args.drives) };
}

/** Disks of memory in the place of files, which are of the host that the line is for, and may be in use here. */
function withoutFiles(drives: Drives): Drives {
  const resolve = (id: string): DriveArgument => ({ ...drives.resolve(id), kind: "memory", size: 2 ** 20, standIn: null });
  return Object.create(drives, { resolve: { value: resolve } }) as Drives;
}

/** The arguments with addresses for those descriptors of which it is told whose they are. */
export function withDescriptors(args: MachineArguments, told: ReadonlyMap<string, string>): MachineArguments {
  const devices = args.devices.map((device) => {
    const address = isUnknown(device) ? told.get(textProperty(device, "fd")) : undefined;
    return address === undefined ? device : { ...device, properties: new Map([...device.properties].filter(([name]) => name !== "fd")).set("host", address) };
  });
  return { ...args, devices };
}

/** A function of which the line does not say which of the host's it is. */
export function isUnknown(device: DeviceArgument): boolean {
  return device.model.category === "passthrough" && hostFunctionAddress(device) === null && device.properties.has("fd");
}

/**
 * The host with functions for those that the line does not name: behind the IOMMU of others beside them, else behind the
 * best that there is.
 * @param assumed addresses that it is to have
 */
export function withUnknown(host: HostDescription, args: MachineArguments, topology: Topology, assumed: ReadonlySet<string>): HostDescription {
  const unknown = topology.passedThrough.filter((device) => {
    const address = hostFunctionAddress(device);
    return isInvented(address) || (address !== null && assumed.has(address) && !host.functions.some((fn) => fn.address === address));
  });
  if (unknown.length === 0) {
    return host;
  }
  const best = standInHost(args, topology, 2 ** 30);
  const known = new Map(host.functions.map((fn) => [fn.address, fn]));
  const functions = unknown.map((device) => {
    const address = hostFunctionAddress(device);
    const beside = topology.passedThrough.map((fn) => known.get(hostFunctionAddress(fn) ?? "")).find((fn, at) => fn !== undefined && topology.rootBusOf(topology.passedThrough[at]) === topology.rootBusOf(device));
    const invented = best.functions.find((fn) => fn.address === address)!;
    return beside === undefined || beside.smmu === undefined ? invented : { ...invented, smmu: beside.smmu, streamId: 0xffff - unknown.indexOf(device) };
  });
  const missing = new Set(functions.map((fn) => iommuOf(fn)));
  return {
    ...host,
    smmus: [...host.smmus, ...best.smmus.filter(({ name }) => missing.has(name))],
    vtds: [...host.vtds, ...best.vtds.filter(({ name }) => missing.has(name) && !host.vtds.some((one) => one.name === name))],
    functions: [...host.functions, ...functions],
  };
}

/** A host for these arguments, which `arguable` has made. Each root bus has a physical IOMMU of its own. */
export function standInHost(args: MachineArguments, topology: Topology, memoryBytes: number): HostDescription {
  const isX86 = args.machine.board === "q35";
  const segments = new Map<string, string>();
  const functions = topology.passedThrough.flatMap((device) => {
    const address = hostFunctionAddress(device);
    if (address === null || segments.has(address)) {
      return [];
    }
    const bus = isX86 ? address.slice(0, 4) : topology.rootBusOf(device);
    segments.set(address, bus);
    return [functionOf(address, device, isX86 ? { vtd: `dmar${Number.parseInt(bus, 16)}` } : { smmu: `the host's SMMU of ${bus}` })];
  });
  const names = [...new Set(segments.values())];
  const input: HostDescriptionInput = {
    name: "a host with all that is asked for",
    memory: [{ numaNode: 0, base: 0x1_0000_0000, size: Math.ceil(memoryBytes / 0x1000_0000 + 16) * 0x1000_0000 }],
    smmus: isX86 ? [] : names.map((bus, index) => ({ name: `the host's SMMU of ${bus}`, base: 0x1000_0000 + index * 0x10_0000, ...BEST_SMMU })),
    vtds: isX86 ? (names.length === 0 ? ["0000"] : names).map((segment, index) => ({ name: `dmar${Number.parseInt(segment, 16)}`, base: 0xc000_0000 + index * 0x1_0000, segment: Number.parseInt(segment, 16), ...BEST_VTD })) : [],
    functions,
  };
  return describeHost(input);
}

function functionOf(address: string, device: DeviceArgument, iommu: { smmu?: string; vtd?: string }): HostDescriptionInput["functions"][number] {
  const streamId = iommu.smmu === undefined ? {} : { streamId: streamIdOf(address) };
  return { address, name: device.id === "" ? address : device.id, vendor: 0x1b36, device: 1, class: 0x020000, ...iommu, ...streamId, ats: true, pasidBits: 20, bars: [{ index: 0, size: 0x1_0000 }], msixVectors: 4 };
}

/** Functions of several segments may be behind one SMMU of such a host: their StreamIDs differ by the segment. */
function streamIdOf(address: string): number {
  const [segment, bus, slot, fn] = address.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  return (((segment & 0xff) << 16) | (bus << 8) | (slot << 3) | fn) >>> 0;
}
