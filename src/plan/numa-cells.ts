/** The guest's NUMA nodes: those of the host that its functions are on, and memory that functions bring. */
import type { HostDescription } from "../host/simulated/file/index.js";
import { plural, Refusal } from "../support/index.js";
import type { FunctionFacts, HostFacts } from "./host-facts.js";
import type { PlannedCell } from "./report/index.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** What arm64's and x86's kernels plug and unplug memory by at the most: cells end at multiples of it. */
const BLOCK = 128 * MIB;
/** Nodes of a GPU with coherent memory: its driver makes one of each partition (MIG), up to this many. */
const INITIATORS_OF_GPU = 8;
/** QEMU's MAX_NODES. */
const MOST_CELLS = 128;
const NVIDIA = 0x10de;
const ACCELERATOR_CLASS = 0x0302;
/** Coherent memory of a GPU is its BAR of tens of GiB. */
const LEAST_COHERENT = 32 * GIB;

export interface Cells {
  readonly cells: readonly PlannedCell[];
  /** Guest's node of a host's node. */
  readonly ofHostNode: ReadonlyMap<number, number>;
  /** Guest's nodes that a function, by its address, is the initiator of. */
  readonly initiators: ReadonlyMap<string, readonly number[]>;
}

/** The BAR by which a GPU of a Grace gives its memory to the processors, coherently; undefined: it has none. */
export function coherentBar({ description, iommu }: FunctionFacts): { readonly index: number; readonly size: number } | undefined {
  return iommu?.kind === "smmuv3" && description.vendor === NVIDIA && description.class >>> 8 === ACCELERATOR_CLASS
    ? description.bars.find(({ is64, prefetchable, size }) => is64 && prefetchable && size >= LEAST_COHERENT)
    : undefined;
}

/**
 * CPUs and memory are divided evenly between the host's nodes that functions are on, as long as there are CPUs; other
 * nodes of functions get a cell without either, whose initiator the function is.
 * @throws Refusal where a host's node has less memory than its part, or there are more than 128 nodes
 */
export function planCells(facts: HostFacts, functions: readonly FunctionFacts[], memory: number, cpus: number): Cells {
  const onHost = new Map<number, number>();
  for (const { numaNode, size } of facts.host.memory) {
    onHost.set(numaNode, (onHost.get(numaNode) ?? 0) + size);
  }
  const hostNodes = [...new Set(functions.flatMap(({ numaNode }) => numaNode ?? []))].sort((a, b) => a - b);
  const withMemory = hostNodes.filter((node) => onHost.has(node));
  const parts = Math.max(1, Math.min(withMemory.length, cpus, Math.floor(memory / BLOCK)));
  const homes = withMemory.slice(0, parts);
  const bare = hostNodes.filter((node) => !homes.includes(node));
  const gpus = functions.filter((fn) => coherentBar(fn) !== undefined);
  // One node of one: nothing to tell a guest.
  if (homes.length <= 1 && bare.length === 0 && gpus.length === 0 && onHost.size <= 1) {
    checkMemory(facts, [...onHost.values()].reduce((sum, one) => sum + one, 0), memory, "the host");
    return { cells: [], ofHostNode: new Map(), initiators: new Map() };
  }
  const cells: PlannedCell[] = [];
  const ofHostNode = new Map<number, number>();
  const initiators = new Map<string, number[]>();
  const even = Math.floor(memory / parts / BLOCK) * BLOCK;
  const onNode = (node: number): string => functions.filter(({ numaNode }) => numaNode === node).map(({ description }) => description.address).join(", ");
  for (let n = 0; n < parts; n++) {
    const node = homes.at(n) ?? null;
    const bytes = n === 0 ? memory - even * (parts - 1) : even;
    const first = Math.floor((n * cpus) / parts);
    const last = Math.floor(((n + 1) * cpus) / parts) - 1;
    if (node !== null) {
      checkMemory(facts, onHost.get(node)!, bytes, `its node ${node}`);
      ofHostNode.set(node, n);
    }
    const share = parts === 1 ? "all CPUs and memory" : `a share of 1/${parts} of CPUs and memory`;
    cells.push({
      id: n,
      hostNode: node,
      memory: bytes,
      cpus: [first, last],
      because: [node === null ? "the host says no node of the functions that has memory: CPUs and memory are in one" : `host node ${node} is that of ${onNode(node)}: ${share}, bound there`],
    });
  }
  const add = (fn: FunctionFacts, hostNode: number | null, because: string): void => {
    cells.push({ id: cells.length, hostNode, memory: 0, cpus: null, because: [because] });
    initiators.set(fn.description.address, [...(initiators.get(fn.description.address) ?? []), cells.length - 1]);
  };
  for (const node of bare) {
    const there = functions.filter(({ numaNode }) => numaNode === node);
    ofHostNode.set(node, cells.length);
    add(there[0], node, `host node ${node} is that of ${onNode(node)} and none of the guest's CPUs are there${onHost.has(node) ? `: ${plural(cpus, "CPU")} for ${withMemory.length} nodes` : ", nor has it memory"}`);
    there.slice(1).forEach(({ description }) => initiators.set(description.address, [ofHostNode.get(node)!]));
  }
  for (const fn of gpus) {
    const { index, size } = coherentBar(fn)!;
    for (let n = 0; n < INITIATORS_OF_GPU; n++) {
      add(fn, null, `memory of ${fn.description.address} (BAR ${index}, ${size / GIB} GiB, coherent): its driver adds it to nodes of its own, up to ${INITIATORS_OF_GPU} (MIG)`);
    }
  }
  if (cells.length > MOST_CELLS) {
    throw new Refusal(`Max number of NUMA nodes reached: ${MOST_CELLS}`, { found: `${cells.length} nodes, ${INITIATORS_OF_GPU} for each of ${plural(gpus.length, "GPU")} with coherent memory`, wouldWork: "fewer GPUs" });
  }
  return { cells, ofHostNode, initiators };
}

/** The host's distances, where each node of the guest is one of the host's; null: unknown, or nothing to tell. */
export function planDistances({ numa }: HostDescription, cells: readonly PlannedCell[]): number[][] | null {
  const { distances } = numa ?? { distances: null };
  const rows = cells.map(({ hostNode }) => numa?.nodes.findIndex(({ id }) => id === hostNode) ?? -1);
  return distances === null || cells.length < 2 || rows.includes(-1) ? null : rows.map((row) => rows.map((column) => distances[row][column]));
}

function checkMemory(facts: HostFacts, there: number, wanted: number, where: string): void {
  if (wanted > there) {
    throw new Refusal("cannot set up guest memory: Cannot allocate memory", {
      found: `${wanted / MIB} MiB for the guest, and ${where === "the host" ? facts.host.name : `${facts.host.name} has on ${where}`} ${where === "the host" ? "has " : ""}${Math.floor(there / MIB)} MiB`,
      wouldWork: "a smaller --memory",
    });
  }
}
