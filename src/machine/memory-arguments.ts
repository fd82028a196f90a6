/** `-m` and `-numa`. */
import { Refusal } from "../support/index.js";
import { describeArgument, located, parseOptionString } from "./option-string.js";
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
    return { size: size === 0 ? null : size, slots, maxSize };
  });
}

export interface NumaNode {
  readonly nodeId: number;
  /** Id of a memory backend; null: `mem` says how much. */
  readonly memdev: string | null;
  readonly mem: number;
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
      if (type === "dist" || type === "cpu" || type === "hmat-lb" || type === "hmat-cache") {
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
      let mem = 0;
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
            mem = parseSize("mem", given, "M");
            break;
          case "cpus":
            checkCpus(given, maxCpus);
            break;
          default:
            throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "nodeid, memdev, mem, cpus, initiator" });
        }
      }
      if (memdev !== null && mem !== 0) {
        throw new Refusal("numa configuration should use either mem= or memdev=,mixing both is not allowed");
      }
      if (nodes.some((node) => node.nodeId === nodeId)) {
        throw new Refusal(`Duplicate NUMA nodeid: ${nodeId}`, { wouldWork: "another nodeid" });
      }
      nodes.push({ nodeId, memdev, mem, where });
    });
  }
  if (nodes.some((node) => node.memdev !== null) && nodes.some((node) => node.mem !== 0)) {
    throw new Refusal("numa configuration should use either mem= or memdev=,mixing both is not allowed");
  }
  nodes.sort((a, b) => a.nodeId - b.nodeId);
  nodes.forEach((node, index) => {
    if (node.nodeId !== index) {
      throw new Refusal(`numa: Node ID missing: ${index}`, { found: `nodes ${nodes.map((one) => one.nodeId).join(", ")}`, wouldWork: "node ids from 0 on, without a gap" });
    }
  });
  return { nodes };
}

function smallNumber(key: string, text: string, limit: number): number {
  if (!/^(?:0x[0-9a-f]+|\d+)$/i.test(text)) {
    throw new Refusal(`Parameter '${key}' expects integer`, { found: `${key}=${text}` });
  }
  if (Number(text) >= limit) {
    throw new Refusal(`Max number of NUMA nodes reached: ${Number(text)}`, { wouldWork: `0 to ${limit - 1}` });
  }
  return Number(text);
}

function checkCpus(text: string, maxCpus: number): void {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  if (match === null) {
    throw new Refusal("Parameter 'cpus' expects a number or a range", { found: `cpus=${text}`, wouldWork: "cpus=0-3" });
  }
  const last = Number(match[2] ?? match[1]);
  if (last >= maxCpus) {
    throw new Refusal(`CPU index (${last}) should be smaller than maxcpus (${maxCpus})`, { wouldWork: `-smp ${last + 1}` });
  }
}
