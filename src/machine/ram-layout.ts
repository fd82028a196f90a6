/** The machine's RAM: which blocks, from which backends, at which addresses. */
import { type Host, HostError } from "../iommufd/index.js";
import type { RamBlock } from "../memory/index.js";
import { Refusal } from "../support/index.js";
import { DEFAULT_RAM, type MachineArguments, type ObjectArgument } from "./arguments/index.js";

export interface Range {
  readonly base: number;
  /** Bytes. */
  readonly size: number;
}

export interface RamPiece {
  /** The backend's id, or QEMU's name for RAM without one. */
  readonly name: string;
  readonly size: number;
  /** NUMA node; null: the machine has none. */
  readonly node: number | null;
}

/** The pieces of RAM, one after the other. @param name of RAM without a backend. @throws Refusal in QEMU's words */
export function ramPieces(args: MachineArguments, name: string): RamPiece[] {
  const backends = new Map(args.objects.filter((object) => object.type === "memory-backend").map((object) => [object.id, object]));
  const { nodes } = args.numa;
  if (nodes.some((node) => node.memdev !== null)) {
    if (args.machine.memoryBackend !== null) {
      throw new Refusal("'-machine memory-backend' and '-numa memdev' properties are mutually exclusive");
    }
    const used = new Set<string>();
    const pieces: RamPiece[] = [];
    for (const node of nodes) {
      if (node.memdev === null) {
        continue;
      }
      const backend = find(backends, node.memdev, `memdev=${node.memdev} is ambiguous`, node.where);
      if (used.has(backend.id)) {
        throw new Refusal(`memory backend ${backend.id} can't be used multiple times.`, { found: `memdev=${backend.id} of two nodes, in ${node.where}`, wouldWork: "a memory backend for each node" });
      }
      used.add(backend.id);
      pieces.push({ name: backend.id, size: backend.size, node: node.nodeId });
    }
    checkTotal(pieces, args.memory.size ?? DEFAULT_RAM);
    return pieces;
  }
  if (nodes.some(({ automatic }) => !automatic)) {
    checkTotal([], args.memory.size ?? backends.get(args.machine.memoryBackend ?? "")?.size ?? DEFAULT_RAM);
  }
  if (args.machine.memoryBackend !== null) {
    const id = args.machine.memoryBackend;
    const backend = find(backends, id, `Memory backend '${id}' not found`, `-machine memory-backend=${id}`);
    if (args.memory.size !== null && args.memory.size !== backend.size) {
      throw new Refusal("Machine memory size does not match the size of the memory backend", {
        found: `-m of ${args.memory.size} bytes, ${backend.where} of ${backend.size}`,
        wouldWork: `-m ${backend.size / 2 ** 20}M`,
      });
    }
    return [{ name: backend.id, size: backend.size, node: nodes.length === 0 ? null : 0 }];
  }
  return [{ name, size: args.memory.size ?? DEFAULT_RAM, node: nodes.length === 0 ? null : 0 }];
}

function find(backends: ReadonlyMap<string, ObjectArgument>, id: string, words: string, where: string): ObjectArgument {
  const backend = backends.get(id);
  if (backend === undefined) {
    throw new Refusal(words, {
      found: `${where}; ${backends.size === 0 ? "no memory backend" : `memory backends ${[...backends.keys()].join(", ")}`}`,
      wouldWork: `-object memory-backend-ram,id=${id},size=...`,
    });
  }
  return backend;
}

function checkTotal(pieces: readonly RamPiece[], size: number): void {
  const total = totalSize(pieces);
  if (total !== size) {
    throw new Refusal(`total memory for NUMA nodes (0x${total.toString(16)}) should equal RAM size (0x${size.toString(16)})`, {
      wouldWork: pieces.length === 0 ? `-object memory-backend-ram,id=m0,size=${size / 2 ** 20}M, and memdev=m0 of a -numa node` : `-m ${total / 2 ** 20}M`,
    });
  }
}

export interface PlacedRam {
  readonly piece: RamPiece;
  readonly block: RamBlock;
  /** Guest-physical address. */
  readonly base: number;
  /** The part of the block that is there: bytes into it, and bytes. */
  readonly offset: number;
  readonly size: number;
}

/** Bytes of all pieces. */
export function totalSize(pieces: readonly RamPiece[]): number {
  return pieces.reduce((sum, piece) => sum + piece.size, 0);
}

/**
 * Takes the memory of a host, all of it or none, and places it: the pieces fill one span after the other, and one
 * that does not fit into what is left of a span goes on in the next.
 */
export function allocateRam(host: Host, pieces: readonly RamPiece[], spans: readonly Range[]): PlacedRam[] {
  const placed: PlacedRam[] = [];
  const blocks: RamBlock[] = [];
  let span = 0;
  let used = 0;
  try {
    for (const piece of pieces) {
      const block = allocateBlock(host, piece.name, piece.size, totalSize(pieces));
      blocks.push(block);
      for (let offset = 0; offset < piece.size; ) {
        if (used === spans[span].size) {
          span++;
          used = 0;
        }
        const size = Math.min(piece.size - offset, spans[span].size - used);
        placed.push({ piece, block, base: spans[span].base + used, offset, size });
        used += size;
        offset += size;
      }
    }
  } catch (error) {
    blocks.reverse().forEach((block) => host.freeMemory(block));
    throw error;
  }
  return placed;
}

/** A block of a host's memory. @param all bytes that are asked for with it. @throws Refusal in QEMU's words */
export function allocateBlock(host: Host, name: string, size: number, all = size): RamBlock {
  try {
    return host.allocateMemory(name, size);
  } catch (error) {
    if (error instanceof RangeError || error instanceof HostError) {
      throw new Refusal(`cannot set up guest memory '${name}': Cannot allocate memory`, {
        rule: "host-memory",
        found: `${all} bytes on ${host.description}: ${error.message}`,
        wouldWork: "a smaller -m",
      });
    }
    throw error;
  }
}
