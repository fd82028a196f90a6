/** A machine that was planned for functions of a host, before it is written for someone who starts machines. */

/** Each element says why it is there and as it is: sentences with the host's facts. */
interface Reasoned {
  readonly because: readonly string[];
}

export interface PlannedCell extends Reasoned {
  /** Number of the guest's NUMA node. */
  readonly id: number;
  /** Node of the host that it stands for; null: memory of a device. */
  readonly hostNode: number | null;
  /** Bytes; 0: none. */
  readonly memory: number;
  /** First and last CPU; null: none. */
  readonly cpus: readonly [first: number, last: number] | null;
}

export interface PlannedFunction extends Reasoned {
  readonly id: string;
  /** Its address on the host. */
  readonly host: string;
  /** What it is, in the host's description. */
  readonly name: string;
  /** Number of the function in its slot of the guest. */
  readonly number: number;
  /** The guest's NUMA nodes that it is a generic initiator of. */
  readonly initiatorOf: readonly number[];
}

export interface PlannedPort extends Reasoned {
  readonly id: string;
  readonly chassis: number;
  /** Its place on the expander's bus. */
  readonly slot: number;
  readonly number: number;
  /** Bytes of prefetchable memory that firmware keeps free below it; null: for what is there alone. */
  readonly reserve: number | null;
  /** Empty: the port is for hot-plug. Several: one slot of several functions. */
  readonly functions: readonly PlannedFunction[];
}

export interface PlannedSmmu extends Reasoned {
  readonly id: string;
  readonly ril: boolean;
  readonly ats: boolean;
  /** Bits. */
  readonly oas: 44 | 48;
  readonly ssidsize: number;
}

export interface PlannedExpander extends Reasoned {
  readonly id: string;
  readonly busNumber: number;
  /** The last bus number that is its own. */
  readonly lastBus: number;
  /** The host's IOMMU that all below it is behind. */
  readonly hostIommu: string;
  readonly hostNode: number | null;
  /** The guest's NUMA node. */
  readonly cell: number | null;
  /** On virt; null: its functions have no virtual IOMMU. */
  readonly smmu: PlannedSmmu | null;
  readonly ports: readonly PlannedPort[];
}

/** q35's IOMMU. */
export interface PlannedVtd extends Reasoned {
  readonly id: string;
  /** The guest's first stages are nested in the host's; else they are mirrored. */
  readonly fsts: boolean;
  readonly fs1gp: boolean;
  readonly pasidBits: number;
  readonly awBits: 39 | 48;
  readonly deviceIotlb: boolean;
  readonly eim: boolean;
}

/** Memory for BARs above 4 GiB. */
export interface PlannedWindow extends Reasoned {
  /** Bytes; null: as much as QEMU gives. */
  readonly size: number | null;
}

export interface MachinePlan {
  /** Name of the host. */
  readonly host: string;
  readonly board: "virt" | "q35";
  /** Bytes. */
  readonly memory: number;
  readonly cpus: number;
  /** Empty: the guest has no NUMA nodes. */
  readonly cells: readonly PlannedCell[];
  /** Between nodes that are all some of the host's: a row for each; null: QEMU's. */
  readonly distances: ReadonlyArray<readonly number[]> | null;
  readonly window: PlannedWindow;
  readonly vtd: PlannedVtd | null;
  readonly expanders: readonly PlannedExpander[];
  /** What is to be done on the host before the machine starts. */
  readonly preparations: readonly string[];
  /** What is to be known besides. */
  readonly notes: readonly string[];
}

/** The machine's one iommufd, which all its functions share: memory is pinned once. */
export const IOMMUFD = "iommufd0";

export function portsOf(plan: MachinePlan): PlannedPort[] {
  return plan.expanders.flatMap(({ ports }) => ports);
}

export function functionsOf(plan: MachinePlan): PlannedFunction[] {
  return portsOf(plan).flatMap(({ functions }) => functions);
}
