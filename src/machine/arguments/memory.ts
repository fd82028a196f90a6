/** `-m` and `-numa`. */
import { Refusal } from "../../support/index.js";
import { describeArgument, type JsonValue, located, parseOptionString } from "./option-string.js";
import { parseSize } from "./property.js";

export interface MemoryArguments {
  /** Bytes of RAM; null: not said (128 MiB, or what the machine's memory backend has). */
  readonly size: number | null;
  readonly slots: number;
  /** Bytes; 0: not said. */
  readonly maxSize: number;
}

export const DEFAULT_RAM = 128 * 2 ** 20;
/** QEMU rounds RAM up to this many bytes. */
const RAM_ALIGNMENT = 8192;

export function parseMemory(text: string | null): MemoryArguments {
  if (text === null) {
    return { size: null, slots: 0, maxSize: 0 };
  }
  const where = describeArgument("-m", text);
  return located(where, () => {
    const { values } = parseOptionString("-m", text, "size");
    for (const key of values.keys()) {
      if (!["size", "slots", "maxmem"].includes(key)) {
        throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "-m [size=]N[,slots=N,maxmem=N]" });
      }
    }
    const sizeText = values.get("size");
    const asked = sizeText === undefined ? 0 : parseSize("size", String(sizeText), "M");
    const size = Math.ceil(asked / RAM_ALIGNMENT) * RAM_ALIGNMENT;
    const maxSize = values.has("maxmem") ? parseSize("maxmem", String(values.get("maxmem")), "") : 0;
    const slots = Number(values.get("slots") ?? 0);
    if (!Number.isInteger(slots) || slots < 0 || slots > 256) {
      throw new Refusal(`Parameter 'slots' expects a number up to 256`, { found: `slots=${String(values.get("slots"))}` });
    }
    if (slots > 0 && maxSize === 0) {
      throw new Refusal("slots specified but no max-size", { wouldWork: `${text},maxmem=${text.split(",")[0]}` });
    }
    if (maxSize > 0 && maxSize < size) {
      throw new Refusal(`invalid value of maxmem: maximum memory size (0x${maxSize.toString(16)}) must be at least the initial memory size (0x${size.toString(16)})`);
    }
    if (slots > 0 && maxSize === size) {
      throw new Refusal(`invalid value of maxmem: memory slots were specified but maximum memory size (0x${maxSize.toString(16)}) is equal to the initial memory size (0x${size.toString(16)})`);
    }
    return { size: size === 0 ? null : size, slots, maxSize };
  });
}

export interface NumaNode {
  readonly nodeId: number;
  /** Id of a memory backend; null: the node has no memory of its own. */
  readonly memdev: string | null;
  /** Processors that `cpus` gives it. */
  readonly cpus: readonly number[];
  readonly where: string;
}

export interface NumaArguments {
  readonly nodes: readonly NumaNode[];
  /** Of -numa dist. */
  readonly distances: ReadonlyArray<{ readonly source: number; readonly destination: number; readonly distance: number }>;
}

/** The node of a processor; null: the machine has none. Where nobody says, processors go round the nodes, as QEMU's virt has them. */
export function nodeOfCpu({ nodes }: NumaArguments, cpu: number): number | null {
  if (nodes.length === 0) {
    return null;
  }
  return nodes.some(({ cpus }) => cpus.length > 0) ? (nodes.find(({ cpus }) => cpus.includes(cpu))?.nodeId ?? 0) : cpu % nodes.length;
}

/** Distances from each node to each, by rows; null: none was told. What is not told is the way back, or 20 (hw/core/numa.c, complete_init_numa_distance). */
export function distanceMatrix({ nodes, distances }: NumaArguments): number[][] | null {
  if (distances.length === 0) {
    return null;
  }
  const told = (from: number, to: number): number | undefined => distances.findLast(({ source, destination }) => source === from && destination === to)?.distance;
  return nodes.map(({ nodeId: from }) => nodes.map(({ nodeId: to }) => (from === to ? LOCAL_DISTANCE : (told(from, to) ?? told(to, from) ?? REMOTE_DISTANCE))));
}

const LOCAL_DISTANCE = 10;
const REMOTE_DISTANCE = 20;

export function parseNuma(texts: readonly string[], maxCpus: number): NumaArguments {
  const nodes: NumaNode[] = [];
  const distances: Array<NumaArguments["distances"][number]> = [];
  for (const text of texts) {
    const where = describeArgument("-numa", text);
    located(where, () => {
      const { values } = parseOptionString("-numa", text, "type");
      const type = values.get("type");
      if (type === "dist") {
        distances.push(parseDistance(values, nodes));
        return;
      }
      if (type === "cpu" || type === "hmat-lb" || type === "hmat-cache") {
        return;
      }
      if (type === undefined) {
        throw new Refusal("Parameter 'type' is missing", { wouldWork: "-numa node,nodeid=0,memdev=ID" });
      }
      if (type !== "node") {
        throw new Refusal(`Parameter 'type' does not accept value '${String(type)}'`, { wouldWork: "node, dist, cpu" });
      }
      let nodeId = nodes.length;
      let memdev: string | null = null;
      const cpus: number[] = [];
      for (const [key, value] of values) {
        const given = String(value);
        switch (key) {
          case "type":
          case "initiator":
            break;
          case "nodeid":
            nodeId = smallNumber(key, given, 128);
            break;
          case "memdev":
            memdev = given;
            break;
          case "mem":
            throw new Refusal("Parameter -numa node,mem is not supported by this machine type\nUse -numa node,memdev instead", {
              found: `mem=${given}`,
              wouldWork: `-object memory-backend-ram,id=m${nodeId},size=${given} -numa node,nodeid=${nodeId},memdev=m${nodeId}`,
            });
          case "cpus":
            cpus.push(...parseCpus(given, maxCpus));
            break;
          default:
            throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "nodeid, memdev, cpus, initiator" });
        }
      }
      if (nodes.some((node) => node.nodeId === nodeId)) {
        throw new Refusal(`Duplicate NUMA nodeid: ${nodeId}`, { wouldWork: "another nodeid" });
      }
      nodes.push({ nodeId, memdev, cpus, where });
    });
  }
  nodes.sort((a, b) => a.nodeId - b.nodeId);
  nodes.forEach((node, index) => {
    if (node.nodeId !== index) {
      throw new Refusal(`numa: Node ID missing: ${index}`, { found: `nodes ${nodes.map((one) => one.nodeId).join(", ")}`, wouldWork: "node ids from 0 on, without a gap" });
    }
  });
  return { nodes, distances };
}

function wholeNumber(key: string, text: string): number {
  if (!/^(?:0x[0-9a-f]+|\d+)$/i.test(text)) {
    throw new Refusal(`Parameter '${key}' expects a uint64 value`, { found: `${key}=${text}` });
  }
  return Number(text);
}

function smallNumber(key: string, text: string, limit: number): number {
  const number = wholeNumber(key, text);
  if (number >= limit) {
    throw new Refusal(`Max number of NUMA nodes reached: ${number}`, { wouldWork: `0 to ${limit - 1}` });
  }
  return number;
}

/** `-numa dist`, of nodes that are there (hw/core/numa.c, parse_numa_distance). */
function parseDistance(values: ReadonlyMap<string, JsonValue>, nodes: readonly NumaNode[]): NumaArguments["distances"][number] {
  const number = (key: string): number => {
    const given = values.get(key);
    if (given === undefined) {
      throw new Refusal(`Parameter '${key}' is missing`, { wouldWork: "-numa dist,src=0,dst=1,val=20" });
    }
    return wholeNumber(key, String(given));
  };
  const [source, destination, distance] = [number("src"), number("dst"), number("val")];
  if ([source, destination].some((id) => !nodes.some((node) => node.nodeId === id))) {
    throw new Refusal("Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.", {
      found: `src=${source}, dst=${destination}; nodes so far: ${nodes.map((node) => node.nodeId).join(", ") || "none"}`,
      wouldWork: "-numa node,nodeid=N for both, before -numa dist",
    });
  }
  if (distance < 10) {
    throw new Refusal(`NUMA distance (${distance}) is invalid, it shouldn't be less than 10.`, { wouldWork: "val=10 for a node itself, more for others, 255 for unreachable" });
  }
  if (distance > 255) {
    throw new Refusal(`Parameter 'val' expects a uint8 value`, { found: `val=${distance}`, wouldWork: "10 to 255" });
  }
  if (source === destination && distance !== LOCAL_DISTANCE) {
    throw new Refusal(`Local distance of node ${source} should be ${LOCAL_DISTANCE}.`, { found: `val=${distance}`, wouldWork: `val=${LOCAL_DISTANCE}` });
  }
  return { source, destination, distance };
}

function parseCpus(text: string, maxCpus: number): number[] {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  if (match === null) {
    throw new Refusal("Parameter 'cpus' expects a uint64 value or range", { found: `cpus=${text}`, wouldWork: "cpus=0-3" });
  }
  const last = Number(match[2] ?? match[1]);
  if (last >= maxCpus) {
    throw new Refusal(`CPU index (${last}) should be smaller than maxcpus (${maxCpus})`, { wouldWork: `-smp ${last + 1}` });
  }
  const first = Number(match[1]);
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, n) => first + n);
}
