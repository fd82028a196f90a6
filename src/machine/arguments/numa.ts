/** `-numa`: nodes, the processors in them, distances (QEMU hw/core/numa.c, and machine_set_cpu_numa_node of hw/core/machine.c). */
import { type Place, Refusal, RefusalCollector } from "../../support/index.js";
import { HmatOptions, type HmatArguments } from "./hmat.js";
import { describeArgument, type JsonValue, located, parseOptionString, splitCommas } from "./option-string.js";
import { CPU_LEVELS, type CpuLevel, placeOfCpu, type SmpArguments } from "./smp.js";

/** Nodes that QEMU can have. */
export const MAX_NUMA_NODES = 128;

export interface NumaNode {
  readonly nodeId: number;
  /** Id of a memory backend; null: the node has no memory of its own. */
  readonly memdev: string | null;
  /** Made without being asked for, of all RAM: a machine that may get more memory has a node. */
  readonly automatic: boolean;
  readonly where: string;
}

export interface NumaArguments {
  readonly nodes: readonly NumaNode[];
  /** Node of each processor that may come; empty: the machine has none. */
  readonly cpus: readonly number[];
  /** From each node to each, by rows; null: none was told. */
  readonly distances: ReadonlyArray<readonly number[]> | null;
  /** Null: not told. */
  readonly hmat: HmatArguments | null;
}

export interface NumaContext {
  readonly smp: SmpArguments;
  /** The levels of the topology that -numa cpu may name. */
  readonly levels: readonly CpuLevel[];
  /** -machine hmat=on. */
  readonly hmat: boolean;
  /** Nodes with a generic initiator. */
  readonly initiators: ReadonlySet<number>;
  /** More memory may come: slots, or a maxmem above the machine's RAM. */
  readonly growing: boolean;
}

const HMAT_DISABLED = "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on before using any of hmat specific options";
const LOCAL_DISTANCE = 10;

interface Node {
  readonly nodeId: number;
  readonly memdev: string | null;
  /** Null: not told. */
  readonly initiator: number | null;
  readonly where: string;
}

export interface NumaText {
  readonly text: string;
  readonly place?: Place;
}

/** @throws Refusal in QEMU's words: of each option that is wrong */
export function parseNuma(texts: readonly NumaText[], context: NumaContext): NumaArguments {
  if (texts.length === 0 && !context.growing) {
    return { nodes: [], cpus: [], distances: null, hmat: null };
  }
  const options = new NumaOptions(context);
  const refusals = new RefusalCollector();
  let allNodes = true;
  for (const { text, place } of texts) {
    // What is said of nodes is not to be told without those that have been refused.
    const isNode = /^(?:type=)?node\b/.test(text);
    if (!isNode && !allNodes) {
      continue;
    }
    const taken = refusals.attempt(() => located(describeArgument("-numa", text), () => (options.take(text), true)), place === undefined ? {} : { place });
    allNodes &&= !isNode || taken === true;
  }
  refusals.throwAll();
  return options.finish();
}

class NumaOptions {
  private readonly nodes = new Map<number, Node>();
  private readonly cpus: Array<number | null>;
  private readonly told = new Map<string, number>();
  private readonly hmat: HmatOptions;

  constructor(private readonly context: NumaContext) {
    this.cpus = Array.from({ length: context.smp.maxCpus }, () => null);
    this.hmat = new HmatOptions({
      count: () => this.nodes.size,
      has: (node) => this.nodes.has(node),
      initiates: (node) => this.cpus.includes(node) || context.initiators.has(node),
    });
  }

  take(text: string): void {
    const { values } = parseOptionString("-numa", text, "type");
    const type = values.get("type");
    switch (type) {
      case undefined:
        throw new Refusal("Parameter 'type' is missing", { wouldWork: "-numa node,nodeid=0,memdev=ID" });
      case "node":
        this.takeNode(text, values);
        return;
      case "dist":
        this.takeDistance(values);
        return;
      case "cpu":
        this.takeProcessor(values);
        return;
      case "hmat-lb":
      case "hmat-cache":
        if (!this.context.hmat) {
          throw new Refusal(HMAT_DISABLED, { found: `-numa ${type}`, wouldWork: "-machine hmat=on" });
        }
        this.hmat.take(type, values);
        return;
      default:
        throw new Refusal(`Parameter 'type' does not accept value '${String(type)}'`, { wouldWork: "node, dist, cpu, hmat-lb, hmat-cache" });
    }
  }

  private takeNode(text: string, values: ReadonlyMap<string, JsonValue>): void {
    let nodeId = this.nodes.size;
    let memdev: string | null = null;
    let initiator: number | null = null;
    for (const [key, value] of values) {
      const given = String(value);
      switch (key) {
        case "type":
        case "cpus":
          break;
        case "nodeid":
          nodeId = wholeNumber(key, given);
          break;
        case "memdev":
          memdev = given;
          break;
        case "initiator":
          initiator = wholeNumber(key, given);
          break;
        case "mem":
          throw new Refusal("Parameter -numa node,mem is not supported by this machine type\nUse -numa node,memdev instead", {
            found: `mem=${given}`,
            wouldWork: `-object memory-backend-ram,id=m${nodeId},size=${given} -numa node,nodeid=${nodeId},memdev=m${nodeId}`,
          });
        default:
          throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "nodeid, memdev, cpus, initiator" });
      }
    }
    if (nodeId >= MAX_NUMA_NODES) {
      throw new Refusal(`Max number of NUMA nodes reached: ${nodeId}`, { wouldWork: `0 to ${MAX_NUMA_NODES - 1}` });
    }
    if (this.nodes.has(nodeId)) {
      throw new Refusal(`Duplicate NUMA nodeid: ${nodeId}`, { wouldWork: "another nodeid" });
    }
    if (initiator !== null && !this.context.hmat) {
      throw new Refusal(HMAT_DISABLED, { found: `initiator=${initiator}`, wouldWork: "-machine hmat=on" });
    }
    if (initiator !== null && initiator >= MAX_NUMA_NODES) {
      throw new Refusal(`The initiator id ${initiator} expects an integer between 0 and ${MAX_NUMA_NODES - 1}`, { wouldWork: "the nodeid of a node with processors" });
    }
    // Several `cpus` add up.
    for (const part of splitCommas(text)) {
      if (part.startsWith("cpus=")) {
        parseCpus(part.slice("cpus=".length), this.cpus.length).forEach((cpu) => this.put(cpu, nodeId, initiator));
      }
    }
    this.nodes.set(nodeId, { nodeId, memdev, initiator, where: describeArgument("-numa", text) });
  }

  /** @param initiator of the node */
  private put(cpu: number, nodeId: number, initiator: number | null): void {
    const other = this.cpus[cpu];
    if (other !== null && other !== nodeId) {
      throw new Refusal(`CPU is already assigned to node-id: ${other}`, { found: `processor ${cpu} to node ${nodeId}`, wouldWork: "each processor in one node" });
    }
    if (this.context.hmat && initiator !== null && initiator !== nodeId) {
      throw new Refusal(`The initiator of CPU NUMA node ${nodeId} should be itself (got ${initiator})`, { wouldWork: `initiator=${nodeId}, or leaving it out` });
    }
    this.cpus[cpu] = nodeId;
  }

  /** All processors at a place of the topology. */
  private takeProcessor(values: ReadonlyMap<string, JsonValue>): void {
    const { smp, levels } = this.context;
    const nodeText = values.get("node-id");
    const wanted = new Map<CpuLevel, number>();
    for (const [key, value] of values) {
      const level = CPU_LEVELS.find((one) => key === `${one.slice(0, -1)}-id`);
      if (level !== undefined) {
        wanted.set(level, wholeNumber(key, String(value)));
      } else if (key !== "type" && key !== "node-id") {
        throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: ["node-id", ...levels.map(idOf)].join(", ") });
      }
    }
    if (nodeText === undefined) {
      throw new Refusal("Missing mandatory node-id property", { wouldWork: "-numa cpu,node-id=0,socket-id=0" });
    }
    const nodeId = wholeNumber("node-id", String(nodeText));
    const node = this.nodes.get(nodeId);
    if (node === undefined) {
      throw new Refusal(`Invalid node-id=${nodeId}, NUMA node must be defined with -numa node,nodeid=ID before it's used with -numa cpu,node-id=ID`, { wouldWork: `-numa node,nodeid=${nodeId} before it` });
    }
    const missing = [...CPU_LEVELS].reverse().find((level) => wanted.has(level) && (!levels.includes(level) || ((level === "dies" || level === "modules") && smp[level] === 1)));
    if (missing !== undefined) {
      throw new Refusal(`${idOf(missing)} is not supported`, { wouldWork: levels.map(idOf).join(", ") });
    }
    const found = this.cpus.map((_, cpu) => cpu).filter((cpu) => {
      const place = placeOfCpu(smp, cpu);
      return [...wanted].every(([level, id]) => place[level] === id);
    });
    if (found.length === 0) {
      throw new Refusal("no match found", { found: [...wanted].map(([level, id]) => `${idOf(level)}=${id}`).join(","), wouldWork: `-smp with ${levels.map((level) => `${level}=${smp[level]}`).join(",")} has others` });
    }
    found.forEach((cpu) => this.put(cpu, nodeId, node.initiator));
  }

  private takeDistance(values: ReadonlyMap<string, JsonValue>): void {
    const number = (key: string): number => {
      const given = values.get(key);
      if (given === undefined) {
        throw new Refusal(`Parameter '${key}' is missing`, { wouldWork: "-numa dist,src=0,dst=1,val=20" });
      }
      return wholeNumber(key, String(given));
    };
    const [source, destination, distance] = [number("src"), number("dst"), number("val")];
    for (const [key, id] of [["src", source], ["dst", destination]] as const) {
      if (id >= MAX_NUMA_NODES) {
        throw new Refusal(`Parameter '${key}' expects an integer between 0 and ${MAX_NUMA_NODES - 1}`, { found: `${key}=${id}`, wouldWork: "the nodeid of a -numa node" });
      }
    }
    if (!this.nodes.has(source) || !this.nodes.has(destination)) {
      throw new Refusal("Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.", {
        found: `src=${source}, dst=${destination}; nodes so far: ${[...this.nodes.keys()].join(", ") || "none"}`,
        wouldWork: "-numa node,nodeid=N for both, before -numa dist",
      });
    }
    if (distance < LOCAL_DISTANCE) {
      throw new Refusal(`NUMA distance (${distance}) is invalid, it shouldn't be less than 10.`, { wouldWork: "val=10 for a node itself, more for others, 255 for unreachable" });
    }
    if (distance > 255) {
      throw new Refusal(`Parameter 'val' expects a uint8 value`, { found: `val=${distance}`, wouldWork: "10 to 255" });
    }
    if (source === destination && distance !== LOCAL_DISTANCE) {
      throw new Refusal(`Local distance of node ${source} should be ${LOCAL_DISTANCE}.`, { found: `val=${distance}`, wouldWork: `val=${LOCAL_DISTANCE}` });
    }
    this.told.set(`${source}:${destination}`, distance);
  }

  finish(): NumaArguments {
    const automatic = this.nodes.size === 0;
    if (automatic) {
      this.nodes.set(0, { nodeId: 0, memdev: null, initiator: null, where: "" });
    }
    const nodes = [...this.nodes.values()].sort((a, b) => a.nodeId - b.nodeId);
    // The highest is told first, as mistakes are easier to see then.
    for (let id = nodes.at(-1)!.nodeId; id >= 0; id--) {
      if (!this.nodes.has(id)) {
        throw new Refusal(`numa: Node ID missing: ${id}`, { found: `nodes ${nodes.map((one) => one.nodeId).join(", ")}`, wouldWork: "node ids from 0 on, without a gap" });
      }
    }
    const distances = this.matrix(nodes.length);
    const cpus = this.allCpus(nodes.length);
    const { hmat, initiators } = this.context;
    if (hmat) {
      this.checkInitiators(nodes, cpus);
    }
    return {
      nodes: nodes.map(({ nodeId, memdev, where }) => ({ nodeId, memdev, automatic, where })),
      cpus,
      distances,
      hmat: hmat
        ? {
            ...this.hmat.finish(),
            memory: nodes.filter(({ memdev }) => automatic || memdev !== null).map(({ nodeId, initiator }) => ({ node: nodeId, initiator: cpus.includes(nodeId) ? nodeId : initiator })),
            initiators: nodes.map(({ nodeId }) => nodeId).filter((id) => cpus.includes(id) || initiators.has(id)),
          }
        : null,
    };
  }

  /** A processor that nobody put anywhere is in node 0; where nobody put any, they go round the nodes by sockets. */
  private allCpus(count: number): number[] {
    const none = this.cpus.every((node) => node === null);
    const own = this.cpus.map((node, cpu) => node ?? (none ? placeOfCpu(this.context.smp, cpu).sockets % count : 0));
    for (const [cpu, node] of own.entries()) {
      this.put(cpu, node, this.nodes.get(node)!.initiator);
    }
    return own;
  }

  /** machine_numa_validate_initiator's rules. */
  private checkInitiators(nodes: readonly Node[], cpus: readonly number[]): void {
    for (const { nodeId, initiator, where } of nodes) {
      if (initiator === null || cpus.includes(nodeId)) {
        continue;
      }
      if (!this.nodes.has(initiator)) {
        throw new Refusal(`NUMA node ${initiator} is missing, use '-numa node' option to declare it first`, { found: where, wouldWork: `-numa node,nodeid=${initiator}` });
      }
      if (!cpus.includes(initiator)) {
        throw new Refusal(`The initiator of NUMA node ${nodeId} is invalid`, { found: `${where}: node ${initiator} has no processors`, wouldWork: "a node with processors" });
      }
    }
  }

  /** One way may be told for both; as soon as two ways differ, all have to be told. */
  private matrix(count: number): number[][] | null {
    if (this.told.size === 0) {
      return null;
    }
    const told = (from: number, to: number): number | undefined => this.told.get(`${from}:${to}`);
    let asymmetric = false;
    for (let from = 0; from < count; from++) {
      for (let to = from + 1; to < count; to++) {
        const [there, back] = [told(from, to), told(to, from)];
        if (there === undefined && back === undefined) {
          throw new Refusal(`The distance between node ${from} and ${to} is missing, at least one distance value between each nodes should be provided.`, { wouldWork: `-numa dist,src=${from},dst=${to},val=20` });
        }
        asymmetric ||= there !== undefined && back !== undefined && there !== back;
      }
    }
    const ids = Array.from({ length: count }, (_, id) => id);
    const oneWay = asymmetric && ids.some((from) => ids.some((to) => from !== to && told(from, to) === undefined));
    if (oneWay) {
      throw new Refusal("At least one asymmetrical pair of distances is given, please provide distances for both directions of all node pairs.", { wouldWork: "-numa dist for each pair of nodes in both directions" });
    }
    return ids.map((from) => ids.map((to) => (from === to ? LOCAL_DISTANCE : (told(from, to) ?? told(to, from)!))));
  }
}

const idOf = (level: CpuLevel): string => `${level.slice(0, -1)}-id`;

function wholeNumber(key: string, text: string): number {
  if (!/^(?:0x[0-9a-f]+|\d+)$/i.test(text)) {
    throw new Refusal(`Parameter '${key}' expects a uint64 value`, { found: `${key}=${text}` });
  }
  return Number(text);
}

function parseCpus(text: string, maxCpus: number): number[] {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  if (match === null) {
    throw new Refusal("Parameter 'cpus' expects a uint64 value or range", { found: `cpus=${text}`, wouldWork: "cpus=0-3" });
  }
  const last = Number(match[2] ?? match[1]);
  const first = Number(match[1]);
  if (last >= maxCpus) {
    throw new Refusal(`CPU index (${Math.max(first, maxCpus)}) should be smaller than maxcpus (${maxCpus})`, { wouldWork: `-smp ${last + 1}` });
  }
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, n) => first + n);
}
