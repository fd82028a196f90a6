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
  readonly where: string;
}

export interface NumaArguments {
  readonly nodes: readonly NumaNode[];
}

export function parseNuma(texts: readonly string[], maxCpus: number): NumaArguments {
  const nodes: NumaNode[] = [];
  for (const text of texts) {
    const where = describeArgument("-numa", text);
    located(where, () => {
      const { values } = parseOptionString("-numa", text, "type");
      const type = values.get("type");
      if (type === "dist") {
        checkDistance(values, nodes);
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
            checkCpus(given, maxCpus);
            break;
          default:
            throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "nodeid, memdev, cpus, initiator" });
        }
      }
      if (nodes.some((node) => node.nodeId === nodeId)) {
        throw new Refusal(`Duplicate NUMA nodeid: ${nodeId}`, { wouldWork: "another nodeid" });
      }
      nodes.push({ nodeId, memdev, where });
    });
  }
  nodes.sort((a, b) => a.nodeId - b.nodeId);
  nodes.forEach((node, index) => {
    if (node.nodeId !== index) {
      throw new Refusal(`numa: Node ID missing: ${index}`, { found: `nodes ${nodes.map((one) => one.nodeId).join(", ")}`, wouldWork: "node ids from 0 on, without a gap" });
    }
  });
  return { nodes };
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

/** `-numa dist`: recorded by nobody, but of nodes that are there (hw/core/numa.c, parse_numa_distance). */
function checkDistance(values: ReadonlyMap<string, JsonValue>, nodes: readonly NumaNode[]): void {
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
}

function checkCpus(text: string, maxCpus: number): void {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  if (match === null) {
    throw new Refusal("Parameter 'cpus' expects a uint64 value or range", { found: `cpus=${text}`, wouldWork: "cpus=0-3" });
  }
  const last = Number(match[2] ?? match[1]);
  if (last >= maxCpus) {
    throw new Refusal(`CPU index (${last}) should be smaller than maxcpus (${maxCpus})`, { wouldWork: `-smp ${last + 1}` });
  }
}
