/** Memory, NUMA nodes, huge pages and limits out of a snapshot. */
import type { HostDescription, HugepagesDescription, MemoryDescription, NumaDescription } from "../simulated/file/index.js";
import type { Snapshot } from "../sysfs/index.js";

const NODES = "sys/devices/system/node";
const MIB_16 = 0x100_0000;
/** Ranges of memory that a host file takes begin below. */
const MOST_ADDRESS = 2 ** 48;
const FIRST_UNPLACED = 2 ** 32;

function nodesOf(snapshot: Snapshot): number[] {
  return snapshot
    .names(NODES)
    .flatMap((name) => (/^node\d{1,4}$/.test(name) ? [Number(name.slice(4))] : []))
    .sort((a, b) => a - b);
}

/** Bytes of a line `... MemTotal: 123 kB`; null: there is none. */
function totalOf(text: string | null): number | null {
  const match = /MemTotal:\s+(\d{1,12}) kB/.exec(text ?? "");
  return match === null ? null : Number(match[1]) * 1024;
}

export function readNuma(snapshot: Snapshot): NumaDescription | null {
  const ids = nodesOf(snapshot);
  if (ids.length === 0) {
    return null;
  }
  const rows = ids.map((id) => (snapshot.text(`${NODES}/node${id}/distance`) ?? "").split(/\s+/).map(Number));
  const isTable = rows.every((row) => row.length === ids.length && row.every((one) => Number.isInteger(one) && one > 0 && one <= 255));
  return {
    nodes: ids.map((id) => ({ id, cpus: snapshot.text(`${NODES}/node${id}/cpulist`), memory: totalOf(snapshot.text(`${NODES}/node${id}/meminfo`)) })),
    distances: isTable ? rows : null,
  };
}

/** Runs of memory blocks by node; where those are not shown, what the nodes or the host have in all. */
export function readMemory(snapshot: Snapshot): MemoryDescription[] {
  const blockText = snapshot.text("sys/devices/system/memory/block_size_bytes") ?? "";
  const block = /^[0-9a-f]{1,12}$/i.test(blockText) ? parseInt(blockText, 16) : 0;
  const runs: MemoryDescription[] = [];
  for (const numaNode of block >= MIB_16 && block % MIB_16 === 0 ? nodesOf(snapshot) : []) {
    const blocks = snapshot
      .names(`${NODES}/node${numaNode}`)
      .flatMap((name) => (/^memory\d{1,9}$/.test(name) ? [Number(name.slice(6))] : []))
      .sort((a, b) => a - b);
    for (const number of blocks) {
      const last = runs.at(-1);
      if (last !== undefined && last.numaNode === numaNode && last.base + last.size === number * block) {
        last.size += block;
      } else if (number * block < MOST_ADDRESS) {
        runs.push({ numaNode, base: number * block, size: block });
      }
    }
  }
  const fits = runs.filter(({ size }) => size >= 4 * MIB_16);
  return fits.length > 0 ? fits : unplaced(snapshot);
}

/** Memory whose place nobody tells: from 4 GiB on, as a host file without it. */
function unplaced(snapshot: Snapshot): MemoryDescription[] {
  const ids = nodesOf(snapshot);
  const totals = ids.length > 0 ? ids.map((id) => [id, totalOf(snapshot.text(`${NODES}/node${id}/meminfo`))] as const) : [[0, null] as const];
  const known = totals.some(([, bytes]) => bytes !== null) ? totals : [[0, totalOf(snapshot.text("proc/meminfo"))] as const];
  let base = FIRST_UNPLACED;
  return known.flatMap(([numaNode, bytes]) => {
    const size = Math.floor((bytes ?? 0) / MIB_16) * MIB_16;
    const range = { numaNode, base, size };
    base += size;
    return size >= 4 * MIB_16 ? [range] : [];
  });
}

export function readHugepages(snapshot: Snapshot): HugepagesDescription[] | null {
  const found = [
    ...nodesOf(snapshot).flatMap((node) => hugepagesIn(snapshot, `${NODES}/node${node}/hugepages`, node)),
    ...(nodesOf(snapshot).length > 0 ? [] : hugepagesIn(snapshot, "sys/kernel/mm/hugepages", null)),
  ];
  return found.length === 0 && !snapshot.has("sys/kernel/mm/hugepages") ? null : found;
}

function hugepagesIn(snapshot: Snapshot, folder: string, node: number | null): HugepagesDescription[] {
  return snapshot.names(folder).flatMap((name) => {
    const size = /^hugepages-(\d{1,9})kB$/.exec(name);
    const count = (file: string): number | null => {
      const text = snapshot.text(`${folder}/${name}/${file}`);
      return text !== null && /^\d{1,12}$/.test(text) ? Number(text) : null;
    };
    const total = count("nr_hugepages");
    return size === null || total === null ? [] : [{ node, size: Number(size[1]) * 1024, total, free: count("free_hugepages") }];
  });
}

export function readLimits(snapshot: Snapshot): HostDescription["limits"] {
  const soft = /^Max locked memory\s+(\S+)/m.exec(snapshot.text("proc/self/limits") ?? "")?.[1];
  if (soft === undefined) {
    return null;
  }
  return { memlock: soft === "unlimited" ? "unlimited" : /^\d{1,15}$/.test(soft) ? Number(soft) : null };
}

/** `address sizes : 46 bits physical, 57 bits virtual`, which x86 has. */
export function readAddressBits(snapshot: Snapshot): number | null {
  const bits = Number(/^address sizes\s*:\s*(\d{2}) bits physical/m.exec(snapshot.text("proc/cpuinfo") ?? "")?.[1] ?? 0);
  return bits >= 32 && bits <= 57 ? bits : null;
}

export function readKernelConfig(snapshot: Snapshot): Record<string, string> | null {
  const text = snapshot.text("proc/config");
  if (text === null) {
    return null;
  }
  return Object.fromEntries([...text.matchAll(/^(?:# )?(CONFIG_[A-Z0-9_]+)(?:=(\S+)| is not set)$/gm)].map(([, name, value]) => [name, (value as string | undefined) ?? "n"]));
}
