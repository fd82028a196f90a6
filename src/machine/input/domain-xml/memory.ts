/** Memory, processors and NUMA of a domain. */
import { Refusal } from "../../../support/index.js";
import type { DomainWords, JsonObject } from "./words.js";
import { all, attribute, bytes, find, number, type XmlElement } from "./xml.js";

const KIB = 1024;
const LOCAL_DISTANCE = 10;
const REMOTE_DISTANCE = 20;
const POLICIES: Readonly<Record<string, string>> = { none: "none", writeback: "write-back", writethrough: "write-through" };
const ASSOCIATIVITIES: Readonly<Record<string, string>> = { none: "none", direct: "direct", full: "complex" };

/** Whole MiB, as libvirt rounds. */
const rounded = (size: number): number => Math.ceil(size / 2 ** 20) * 2 ** 20;

export function cellsOf(domain: XmlElement): XmlElement[] {
  return all(find(domain, "cpu", "numa"), "cell");
}

/** The domain says how fast memory is: -machine hmat=on. */
export function hasHmat(domain: XmlElement): boolean {
  return find(domain, "cpu", "numa", "interconnects") !== null || cellsOf(domain).some((cell) => find(cell, "cache") !== null);
}

function sizeOf(element: XmlElement | null, otherwise: number): number {
  return element === null ? otherwise : rounded(bytes(element, element.text, attribute(element, "unit")));
}

/** Bytes of a cell's memory. */
function cellSize(cell: XmlElement): number {
  const text = attribute(cell, "memory");
  return text === null ? 0 : rounded(bytes(cell, text, attribute(cell, "unit")));
}

/** Bytes of memory devices that are part of <memory>. */
function deviceMemory(domain: XmlElement): number {
  return all(find(domain, "devices"), "memory").reduce((sum, device) => {
    const size = find(device, "target", "size");
    return attribute(device, "model") === "dimm" || attribute(device, "model") === "nvdimm" ? sum + sizeOf(size, 0) : sum;
  }, 0);
}

/** <numatune>'s modes as a backend's policies; restrictive is of control groups alone. */
const NODE_POLICIES: Readonly<Record<string, string | undefined>> = { strict: "bind", preferred: "preferred", interleave: "interleave" };

/** Where on the host the memory of a cell is. @param cell null: of the whole guest. @throws Refusal */
function hostNodes(domain: XmlElement, cell: number | null, mask: XmlElement | null): JsonObject {
  const tune = find(domain, "numatune");
  const said = (cell === null ? undefined : all(tune, "memnode").find((one) => Number(attribute(one, "cellid")) === cell)) ?? find(tune, "memory");
  const nodes = mask?.text ?? attribute(said, "nodeset");
  const policy = mask === null ? NODE_POLICIES[attribute(said, "mode") ?? "strict"] : "bind";
  if (nodes === null || policy === undefined) {
    return {};
  }
  return { "host-nodes": ranges(mask ?? said!, nodes).flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, n) => first + n)), policy };
}

/** A backend of the kind that <memoryBacking> asks for, where <numatune> has it. @param cell null: RAM of no node */
function backend(domain: XmlElement, id: string, size: number, cell: number | null = null, mask: XmlElement | null = null): JsonObject {
  return { ...ofKind(domain, id, size), ...hostNodes(domain, cell, mask) };
}

function ofKind(domain: XmlElement, id: string, size: number): JsonObject {
  const backing = find(domain, "memoryBacking");
  const source = attribute(find(backing, "source"), "type");
  const access = attribute(find(backing, "access"), "mode");
  const share = access === null ? {} : { share: access === "shared" };
  const prealloc = find(backing, "allocation")?.attributes.get("mode") === "immediate" ? { prealloc: true } : {};
  if (find(backing, "hugepages") !== null) {
    const page = find(backing, "hugepages", "page");
    const huge = page === null ? {} : { hugetlbsize: bytes(page, attribute(page, "size") ?? "2048", attribute(page, "unit")) };
    return { "qom-type": "memory-backend-memfd", id, hugetlb: true, ...huge, ...share, prealloc: true, size };
  }
  if (source === "memfd") {
    return { "qom-type": "memory-backend-memfd", id, ...share, ...prealloc, size };
  }
  if (source === "file") {
    return { "qom-type": "memory-backend-file", id, "mem-path": `/var/lib/libvirt/qemu/ram/${id}`, ...share, ...prealloc, size };
  }
  return { "qom-type": "memory-backend-ram", id, ...prealloc, size };
}

/** -m, -smp, RAM and -numa, in libvirt's order. @param ramId of RAM that is of no node */
export function writeMemory(domain: XmlElement, words: DomainWords, ramId: string): void {
  const cells = cellsOf(domain);
  const memory = find(domain, "memory");
  if (memory === null && cells.length === 0) {
    throw new Refusal("XML error: missing element or attribute './memory'", { rule: "no-memory", place: domain.place, wouldWork: "<memory unit='GiB'>4</memory>" });
  }
  const size = cells.length > 0 ? cells.reduce((sum, cell) => sum + cellSize(cell), 0) : sizeOf(memory, 0) - deviceMemory(domain);
  const most = find(domain, "maxMemory");
  const slots = attribute(most, "slots");
  words.option(memory ?? domain, "m", `size=${size / KIB}k${slots === null ? "" : `,slots=${slots}`}${most === null ? "" : `,maxmem=${sizeOf(most, 0) / KIB}k`}`);
  if (cells.length === 0) {
    words.option(memory!, "object", backend(domain, ramId, size));
  }
  writeProcessors(domain, words);
  if (cells.length > 0) {
    words.at(cells[0], () => writeNuma(domain, words, cells));
  }
}

function writeProcessors(domain: XmlElement, words: DomainWords): void {
  const vcpu = find(domain, "vcpu");
  const most = vcpu === null ? 1 : number(vcpu, "vcpu", vcpu.text);
  const now = attribute(vcpu, "current");
  const topology = find(domain, "cpu", "topology");
  const level = (name: string): string => attribute(topology, name) ?? "1";
  if (topology !== null) {
    const product = ["sockets", "dies", "clusters", "cores", "threads"].reduce((count, name) => count * Number(level(name)), 1);
    if (product !== most) {
      words.refuse(topology, "unsupported configuration: CPU topology doesn't match maximum vcpu count", { rule: "cpu-topology", found: `${product} processors by the topology, <vcpu>${most}</vcpu>`, wouldWork: `<vcpu>${product}</vcpu>` });
    }
  }
  const shape = topology === null ? `sockets=${most},cores=1,threads=1` : ["sockets", "dies", "clusters", "cores", "threads"].map((name) => `${name}=${level(name)}`).join(",");
  words.option(vcpu ?? domain, "smp", `${now ?? most}${now === null || Number(now) === most ? "" : `,maxcpus=${most}`},${shape}`);
}

/** `0-3,8,^2` as ranges. */
function ranges(cell: XmlElement, text: string): Array<readonly [number, number]> {
  const set = new Set<number>();
  for (const part of text.split(",").map((one) => one.trim()).filter((one) => one !== "")) {
    const [, not, first, last] = /^(\^?)(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    if (first === undefined || Number(last ?? first) > 0xffff) {
      throw new Refusal(`invalid argument: Failed to parse bitmap '${text}'`, { rule: "numa-cpus", place: cell.place, where: cell.place.text, wouldWork: "cpus='0-3,8'" });
    }
    for (let cpu = Number(first); cpu <= Number(last ?? first); cpu++) {
      if (not === "^") {
        set.delete(cpu);
      } else {
        set.add(cpu);
      }
    }
  }
  const found: Array<[number, number]> = [];
  for (const cpu of [...set].sort((a, b) => a - b)) {
    const before = found.at(-1);
    if (before !== undefined && before[1] === cpu - 1) {
      before[1] = cpu;
    } else {
      found.push([cpu, cpu]);
    }
  }
  return found;
}

function writeNuma(domain: XmlElement, words: DomainWords, cells: readonly XmlElement[]): void {
  const hmat = hasHmat(domain);
  const interconnects = find(domain, "cpu", "numa", "interconnects");
  const nodes = cells.map((cell, index) => ({ cell, id: Number(attribute(cell, "id") ?? index), cpus: ranges(cell, attribute(cell, "cpus") ?? ""), size: cellSize(cell) })).sort((a, b) => a.id - b.id);
  const withCpus = new Set(nodes.filter(({ cpus }) => cpus.length > 0).map(({ id }) => id));
  for (const { cell, id, cpus, size } of nodes) {
    if (size > 0) {
      words.option(cell, "object", backend(domain, `ram-node${id}`, size, id));
    }
    const initiator = !hmat ? null : withCpus.has(id) ? id : nearest(interconnects, id, withCpus);
    words.option(cell, "numa", [`node,nodeid=${id}`, ...cpus.map(([first, last]) => `cpus=${first}${last === first ? "" : `-${last}`}`), ...(initiator === null ? [] : [`initiator=${initiator}`]), ...(size > 0 ? [`memdev=ram-node${id}`] : [])].join(","));
  }
  writeDistances(words, nodes.map(({ cell, id }) => ({ cell, id })));
  for (const one of interconnects?.children ?? []) {
    const [initiator, target, type] = ["initiator", "target", "type"].map((name) => attribute(one, name) ?? "");
    const cache = attribute(one, "cache");
    const hierarchy = ["memory", "first-level", "second-level", "third-level"][Number(cache ?? 0)] ?? "memory";
    const value = one.name === "latency" ? `latency=${attribute(one, "value")}` : `bandwidth=${bytes(one, attribute(one, "value") ?? "0", attribute(one, "unit")) / KIB}K`;
    words.option(one, "numa", `hmat-lb,initiator=${initiator},target=${target},hierarchy=${hierarchy},data-type=${type}-${one.name},${value}`);
  }
  for (const { cell, id } of nodes) {
    for (const cache of all(cell, "cache")) {
      const line = find(cache, "line");
      const policy = POLICIES[attribute(cache, "policy") ?? ""] ?? "none";
      const associativity = ASSOCIATIVITIES[attribute(cache, "associativity") ?? ""] ?? "none";
      // libvirt takes the number of <size> for KiB, whatever its unit says.
      words.option(cache, "numa", `hmat-cache,node-id=${id},size=${attribute(find(cache, "size"), "value") ?? "0"}K,level=${attribute(cache, "level") ?? "1"},associativity=${associativity},policy=${policy},line=${attribute(line, "value") ?? "0"}`);
    }
  }
}

/** The node with processors that reaches memory soonest. */
function nearest(interconnects: XmlElement | null, target: number, withCpus: ReadonlySet<number>): number | null {
  const to = (interconnects?.children ?? []).filter((one) => Number(attribute(one, "target")) === target && withCpus.has(Number(attribute(one, "initiator"))));
  const cost = (one: XmlElement): number => (one.name === "latency" ? Number(attribute(one, "value")) : -Number(attribute(one, "value")));
  const [best] = to.sort((a, b) => (a.name === b.name ? cost(a) - cost(b) : a.name === "latency" ? -1 : 1));
  return best === undefined ? ([...withCpus][0] ?? null) : Number(attribute(best, "initiator"));
}

function writeDistances(words: DomainWords, nodes: ReadonlyArray<{ readonly cell: XmlElement; readonly id: number }>): void {
  const told = new Map<string, number>();
  for (const { cell, id } of nodes) {
    for (const sibling of all(find(cell, "distances"), "sibling")) {
      const other = number(sibling, "id", attribute(sibling, "id") ?? "");
      const value = number(sibling, "value", attribute(sibling, "value") ?? "");
      told.set(`${id}:${other}`, value);
      if (!told.has(`${other}:${id}`)) {
        told.set(`${other}:${id}`, value);
      }
    }
  }
  if (told.size === 0) {
    return;
  }
  for (const { cell, id: from } of nodes) {
    for (const { id: to } of nodes) {
      words.option(cell, "numa", `dist,src=${from},dst=${to},val=${told.get(`${from}:${to}`) ?? (from === to ? LOCAL_DISTANCE : REMOTE_DISTANCE)}`);
    }
  }
}

/** <memory> devices: -object and -device. @param place of a virtio-mem, as QEMU's properties */
export function memoryDevice(device: XmlElement, domain: XmlElement, index: number, place: JsonObject): { object: JsonObject; device: JsonObject } {
  const model = attribute(device, "model") ?? "";
  const target = find(device, "target");
  const size = sizeOf(find(target, "size"), 0);
  const node = find(target, "node");
  const onNode = node === null ? {} : { node: number(node, "node", node.text) };
  const where = [node === null ? null : Number(node.text), find(device, "source", "nodemask")] as const;
  if (model === "dimm") {
    const slot = attribute(find(device, "address"), "slot");
    return { object: backend(domain, `memdimm${index}`, size, ...where), device: { driver: "pc-dimm", ...onNode, memdev: `memdimm${index}`, id: `dimm${index}`, slot: slot === null ? index : Number(slot) } };
  }
  if (model === "virtio-mem") {
    const block = find(target, "block");
    const requested = find(target, "requested");
    const asked = sizeOf(requested, 0);
    return {
      object: { ...ofKind(domain, `memvirtiomem${index}`, size), reserve: false, ...hostNodes(domain, ...where) },
      device: { driver: "virtio-mem-pci", ...onNode, ...(block === null ? {} : { "block-size": sizeOf(block, 0) }), ...(asked === 0 ? {} : { "requested-size": asked }), memdev: `memvirtiomem${index}`, id: `virtiomem${index}`, ...place },
    };
  }
  throw new Refusal(`unsupported configuration: memory device model '${model}'`, { rule: "memory-device", found: "viommu takes pc-dimm and virtio-mem", wouldWork: "model='dimm'" });
}
