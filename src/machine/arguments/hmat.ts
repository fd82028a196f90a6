/** `-numa hmat-lb` and `-numa hmat-cache`: what ACPI's HMAT says of memory (QEMU hw/core/numa.c, parse_numa_hmat_lb and parse_numa_hmat_cache). */
import { Refusal } from "../../support/index.js";
import type { JsonValue } from "./option-string.js";
import { parseSize } from "./property.js";

/** By their numbers in HMAT (ACPI 6.5, 5.2.28.4). */
const HIERARCHIES = ["memory", "first-level", "second-level", "third-level"];
const DATA_TYPES = ["access-latency", "read-latency", "write-latency", "access-bandwidth", "read-bandwidth", "write-bandwidth"];
const FIRST_BANDWIDTH = 3;
const ASSOCIATIVITIES = ["none", "direct", "complex"];
const POLICIES = ["none", "write-back", "write-through"];
const LEVELS = 3;
/** Entries are of 16 bits; all ones are kept free. */
const MOST = 0xffffn;
const NO_BASE = 2n ** 64n - 1n;

/** A latency or bandwidth structure: values of pairs of an initiator and a target. */
export interface HmatLocality {
  readonly hierarchy: number;
  readonly dataType: number;
  /** What entries count: nanoseconds, or bytes a second. */
  readonly base: bigint;
  readonly entries: ReadonlyArray<{ readonly initiator: number; readonly target: number; readonly value: bigint }>;
}

/** A cache on the side of memory. */
export interface HmatCache {
  readonly node: number;
  readonly size: number;
  readonly level: number;
  readonly associativity: number;
  readonly policy: number;
  /** Bytes of a line. */
  readonly line: number;
}

export interface HmatArguments {
  /** Nodes with memory, each with the node that is nearest to it; null: not told. */
  readonly memory: ReadonlyArray<{ readonly node: number; readonly initiator: number | null }>;
  /** Nodes with processors or generic initiators. */
  readonly initiators: readonly number[];
  readonly localities: readonly HmatLocality[];
  readonly caches: readonly HmatCache[];
}

interface Locality {
  base: bigint;
  /** Of latencies the largest entry; of bandwidths all bits of all values. */
  range: bigint;
  readonly entries: Array<{ readonly initiator: number; readonly target: number; readonly value: bigint }>;
}

/** What of the nodes so far has to be known. */
export interface HmatNodes {
  count(): number;
  has(node: number): boolean;
  /** It has processors or a generic initiator. */
  initiates(node: number): boolean;
}

export class HmatOptions {
  private readonly localities = new Map<string, Locality>();
  private readonly caches: HmatCache[] = [];
  /** Nodes of which a latency, a bandwidth that is not zero was told. */
  private readonly latencies = new Set<number>();
  private readonly bandwidths = new Set<number>();

  constructor(private readonly nodes: HmatNodes) {}

  /** @throws Refusal in QEMU's words */
  take(type: "hmat-lb" | "hmat-cache", values: ReadonlyMap<string, JsonValue>): void {
    if (type === "hmat-lb") {
      this.takeLocality(values);
    } else {
      this.takeCache(values);
    }
  }

  finish(): Pick<HmatArguments, "localities" | "caches"> {
    const localities = [...this.localities].map(([key, { base, entries }]) => {
      const [hierarchy, dataType] = key.split(":").map(Number);
      return { hierarchy, dataType, base, entries };
    });
    localities.sort((a, b) => a.hierarchy - b.hierarchy || a.dataType - b.dataType);
    return { localities, caches: [...this.caches].sort((a, b) => a.node - b.node || a.level - b.level) };
  }

  private takeLocality(values: ReadonlyMap<string, JsonValue>): void {
    checkKeys(values, ["initiator", "target", "hierarchy", "data-type", "latency", "bandwidth"]);
    const [initiator, target] = [wholeNumber(values, "initiator"), wholeNumber(values, "target")];
    const [hierarchy, dataType] = [oneOf(values, "hierarchy", HIERARCHIES), oneOf(values, "data-type", DATA_TYPES)];
    const { nodes } = this;
    for (const [name, node] of [["initiator", initiator], ["target", target]] as const) {
      if (node > nodes.count()) {
        throw new Refusal(`Invalid ${name}=${node}, it should be less than ${nodes.count()}`, { wouldWork: "a node that a -numa node before it makes" });
      }
    }
    if (!nodes.initiates(initiator)) {
      throw new Refusal(`Invalid initiator=${initiator}, it isn't an initiator proximity domain`, { found: `node ${initiator} has neither processors that -numa gives it nor a generic initiator`, wouldWork: "cpus= of its -numa node" });
    }
    if (!nodes.has(target)) {
      throw new Refusal(`The target=${target} should point to an existing node`, { wouldWork: "a node that a -numa node before it makes" });
    }
    const isLatency = dataType < FIRST_BANDWIDTH;
    const [own, other] = isLatency ? ["latency", "bandwidth"] : ["bandwidth", "latency"];
    if (!values.has(own)) {
      throw new Refusal(`Missing '${own}' option`, { wouldWork: isLatency ? "latency=NANOSECONDS" : "bandwidth=BYTES a second" });
    }
    if (values.has(other)) {
      throw new Refusal(`Invalid option '${other}' since the data type is ${own}`, { wouldWork: `leaving ${other} out` });
    }
    const key = `${hierarchy}:${dataType}`;
    const locality = this.localities.get(key) ?? { base: isLatency ? NO_BASE : 1n, range: 0n, entries: [] };
    const value = isLatency ? BigInt(wholeNumber(values, own)) : BigInt(parseSize(own, String(values.get(own)), ""));
    if (!isLatency && value % 2n ** 20n !== 0n) {
      throw new Refusal(`Bandwidth ${value} between initiator=${initiator} and target=${target} should be 1MB aligned`, { wouldWork: "whole mebibytes" });
    }
    if (locality.entries.some((one) => one.initiator === initiator && one.target === target)) {
      throw new Refusal(`Duplicate configuration of the ${own} for initiator=${initiator} and target=${target}`, { wouldWork: "one for each pair of nodes" });
    }
    if (value > 0n) {
      (isLatency ? widenLatency : widenBandwidth)(locality, value, `between initiator=${initiator} and target=${target}`);
      (isLatency ? this.latencies : this.bandwidths).add(target);
    }
    locality.entries.push({ initiator, target, value });
    this.localities.set(key, locality);
  }

  private takeCache(values: ReadonlyMap<string, JsonValue>): void {
    checkKeys(values, ["node-id", "size", "level", "associativity", "policy", "line"]);
    const node = wholeNumber(values, "node-id");
    const size = parseSize("size", String(present(values, "size")), "");
    const level = wholeNumber(values, "level");
    const [associativity, policy] = [oneOf(values, "associativity", ASSOCIATIVITIES), oneOf(values, "policy", POLICIES)];
    const line = wholeNumber(values, "line");
    if (node >= this.nodes.count()) {
      throw new Refusal(`Invalid node-id=${node}, it should be less than ${this.nodes.count()}`, { wouldWork: "a node that a -numa node before it makes" });
    }
    if (!this.latencies.has(node) || !this.bandwidths.has(node)) {
      throw new Refusal(`The latency and bandwidth information of node-id=${node} should be provided before memory side cache attributes`, { wouldWork: `-numa hmat-lb with target=${node} for both, before it` });
    }
    if (level < 1 || level > LEVELS) {
      throw new Refusal(`Invalid level=${level}, it should be larger than 0 and less than or equal to ${LEVELS}`, { wouldWork: `1 to ${LEVELS}` });
    }
    const at = (one: number): HmatCache | undefined => this.caches.find((cache) => cache.node === node && cache.level === one);
    const [below, above] = [at(level - 1), at(level + 1)];
    if (at(level) !== undefined) {
      throw new Refusal(`Duplicate configuration of the side cache for node-id=${node} and level=${level}`, { wouldWork: "one for each level" });
    }
    if (level > 1 && below === undefined) {
      throw new Refusal(`Cache level=${level - 1} shall be defined first`, { wouldWork: `-numa hmat-cache with level=${level - 1} before it` });
    }
    if (below !== undefined && size <= below.size) {
      throw new Refusal(`Invalid size=${size}, the size of level=${level} should be larger than the size(${below.size}) of level=${level - 1}`, { wouldWork: "a larger size" });
    }
    if (above !== undefined && size >= above.size) {
      throw new Refusal(`Invalid size=${size}, the size of level=${level} should be less than the size(${above.size}) of level=${level + 1}`, { wouldWork: "a smaller size" });
    }
    this.caches.push({ node, size, level, associativity, policy, line });
  }
}

/** Latencies count the largest power of ten that is in all of them. */
function widenLatency(locality: Locality, value: bigint, between: string): void {
  let unit = 1n;
  for (let rest = value; rest % 10n === 0n; rest /= 10n) {
    unit *= 10n;
  }
  const entry = value / locality.base;
  const largest = entry > locality.range ? entry : locality.range;
  if (largest >= MOST) {
    throw new Refusal(`Latency ${value} ${between} should not differ from previously entered min or max values on more than ${MOST - 1n}`, { wouldWork: "values nearer to one another" });
  }
  locality.base = unit < locality.base ? unit : locality.base;
  locality.range = largest;
}

/** Bandwidths count the largest power of two that is in all of them. */
function widenBandwidth(locality: Locality, value: bigint, between: string): void {
  const all = locality.range | value;
  const unit = all & -all;
  const width = (all / unit).toString(2).length;
  if (width > 16 || value / unit >= MOST) {
    throw new Refusal(`Bandwidth ${value} ${between} should not differ from previously entered values on more than ${MOST - 1n}`, { wouldWork: "values nearer to one another" });
  }
  locality.base = unit;
  locality.range = all;
}

function present(values: ReadonlyMap<string, JsonValue>, key: string): JsonValue {
  const value = values.get(key);
  if (value === undefined) {
    throw new Refusal(`Parameter '${key}' is missing`);
  }
  return value;
}

function wholeNumber(values: ReadonlyMap<string, JsonValue>, key: string): number {
  const text = String(present(values, key));
  if (!/^(?:0x[0-9a-f]+|\d+)$/i.test(text)) {
    throw new Refusal(`Parameter '${key}' expects a uint64 value`, { found: `${key}=${text}` });
  }
  return Number(text);
}

function oneOf(values: ReadonlyMap<string, JsonValue>, key: string, names: readonly string[]): number {
  const name = String(present(values, key));
  const index = names.indexOf(name);
  if (index < 0) {
    throw new Refusal(`Parameter '${key}' does not accept value '${name}'`, { wouldWork: names.join(", ") });
  }
  return index;
}

function checkKeys(values: ReadonlyMap<string, JsonValue>, names: readonly string[]): void {
  for (const key of values.keys()) {
    if (key !== "type" && !names.includes(key)) {
      throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: names.join(", ") });
    }
  }
}
