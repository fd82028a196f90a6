/** A machine as data, for the account and for the firmware's tables, and as a tree for people. */
import { InertFunction } from "../devices/index.js";
import { formatBdf, type PciBus, type PciFunction } from "../pci/index.js";
import { VfioPci } from "../vfio/index.js";
import type { Board } from "./board.js";
import type { IommuDescription } from "./iommu-account.js";

export interface FunctionDescription {
  /** Empty: none was given. */
  readonly id: string;
  readonly model: string;
  /** The bus that it sits on, as BusDescription.id has it. */
  readonly bus: string;
  /** The buses that it makes. */
  readonly secondaryBuses: readonly string[];
  /** bb:dd.f as configuration cycles address it now. */
  readonly bdf: string;
  /** Requester id as its IOMMU sees it (SMMU: StreamID, VT-d: source id); null: no IOMMU covers it, or the guest has not numbered its bus yet. */
  readonly streamId: number | null;
  /** Host PCI address of a passed-through function; null: emulated. */
  readonly host: string | null;
  /** Id of the IOMMU that covers it; null: none. */
  readonly iommu: string | null;
  /** Name of the address space that its DMA goes to. */
  readonly addressSpace: string;
  /** false: it is placed, and has nothing behind its configuration space. */
  readonly modelled: boolean;
}

/** A device of a bus that is not modelled. */
export interface OtherDeviceDescription {
  /** Empty: none was given. */
  readonly id: string;
  readonly model: string;
  /** The bus that it is on; null: none. */
  readonly bus: string | null;
}

export interface BusDescription {
  /** The bus's name; with `#2`, `#3` behind it where others before it have that name, so that each bus has its own. */
  readonly id: string;
  readonly number: number;
  /** Of a root bus: the IOMMU that covers it; null: none. */
  readonly iommu: string | null;
  readonly bypassIommu: boolean;
  readonly numaNode: number | null;
  readonly functions: readonly BusFunctionDescription[];
}

export interface BusFunctionDescription extends FunctionDescription {
  readonly buses: readonly BusDescription[];
}

export interface MachineDescription {
  readonly type: string;
  readonly name: string | null;
  readonly cpu: string | null;
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  /** Null: no machine of Arm's. */
  readonly gicVersion: number | null;
  readonly msiController: Board["msiController"];
  readonly iommus: readonly IommuDescription[];
  /** Without the host bridge. */
  readonly functions: readonly FunctionDescription[];
  /** pcie.0, with everything behind it. */
  readonly buses: readonly BusDescription[];
  readonly otherDevices: readonly OtherDeviceDescription[];
}

export function describeMachine(board: Board): MachineDescription {
  const { args } = board;
  const names = busNames(board);
  return {
    type: args.machine.type,
    name: args.name,
    cpu: args.cpu,
    cpus: args.smp.cpus,
    memory: board.ramSize,
    gicVersion: board.gicVersion,
    msiController: board.msiController,
    iommus: board.iommus.map((iommu) => named(board, iommu.describe())),
    functions: board.functions.map(({ fn }) => describeFunction(board, fn, names)),
    buses: [describeBus(board, board.pci.bus, names)],
    otherDevices: board.otherDevices.list.map(({ argument, bus }) => ({ id: argument.id, model: argument.model.name, bus })),
  };
}

/** Names by which the machine's buses are told apart: QEMU calls the bus of a first port without an id `pcie.0` too. */
function busNames(board: Board): ReadonlyMap<PciBus, string> {
  const names = new Map<PciBus, string>();
  const taken = new Set<string>();
  for (const bus of board.pci.buses()) {
    let name = bus.id;
    for (let n = 2; taken.has(name); n++) {
      name = `${bus.id}#${n}`;
    }
    taken.add(name);
    names.set(bus, name);
  }
  return names;
}

/** Bindings by the names that the user gave. */
function named(board: Board, iommu: IommuDescription): IommuDescription {
  const names = new Map(board.functions.map(({ fn }) => [fn instanceof VfioPci ? fn.name : fn.label, fn.id === "" ? (fn.passthrough?.hostAddress ?? fn.model) : fn.id]));
  return { ...iommu, bindings: iommu.bindings.map((one) => ({ ...one, function: names.get(one.function) ?? one.function })) };
}

function describeFunction(board: Board, fn: PciFunction, names: ReadonlyMap<PciBus, string>): FunctionDescription {
  const iommu = board.iommuOf(fn);
  return {
    id: fn.id,
    model: fn.model,
    bus: (fn.bus === null ? undefined : names.get(fn.bus)) ?? "",
    secondaryBuses: fn.secondaryBuses.map((bus) => names.get(bus) ?? ""),
    bdf: formatBdf(fn.bdf),
    streamId: iommu === null || !isNumbered(fn) ? null : fn.requesterId,
    host: fn.passthrough?.hostAddress ?? null,
    iommu: iommu?.id ?? null,
    addressSpace: fn.dma?.name ?? "",
    modelled: !(fn instanceof InertFunction),
  };
}

/** The bus that its requester id is made of has a number. */
function isNumbered(fn: PciFunction): boolean {
  const { bus } = fn.iommuPath;
  return bus.isRoot || bus.number !== 0;
}

function describeBus(board: Board, bus: PciBus, names: ReadonlyMap<PciBus, string>): BusDescription {
  const order = [...bus.functions.keys()].sort((a, b) => a - b);
  return {
    id: names.get(bus) ?? "",
    number: bus.number,
    iommu: bus.iommu === null || bus.bypassIommu ? null : (board.iommus.find((iommu) => iommu.ops === bus.iommu)?.id ?? null),
    bypassIommu: bus.bypassIommu,
    numaNode: bus.options.numaNode ?? null,
    functions: order
      .map((devfn) => bus.functions.get(devfn)!)
      .map((fn) => ({ ...describeFunction(board, fn, names), buses: fn.secondaryBuses.map((behind) => describeBus(board, behind, names)) })),
  };
}
