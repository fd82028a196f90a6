/**
 * The part of a host file that tells what a host has beside what is simulated of it: for who plans a machine, checks
 * one, or asks what is in the way of one. All of it may be left out: null is unknown.
 */
import { z } from "zod";
import { byteCount, physicalAddress, refusal, u16, wholeNumber } from "./description-values.js";
import { PCI_ADDRESS } from "../names/index.js";

/** A PCI address of a host file. */
export const pciAddress = z.string().regex(PCI_ADDRESS, { error: 'expected a PCI address in lower case, such as "0009:01:00.0"' });

/** Bytes that may be none. */
const anyBytes = z.union([z.literal(0), byteCount]);
const anyCount = wholeNumber(Number.MAX_SAFE_INTEGER, "a count");

/** A range of IOVAs that the kernel keeps from who maps, by the words of /sys/kernel/iommu_groups/N/reserved_regions. */
export const reservedSchema = z.strictObject({
  base: wholeNumber(Number.MAX_SAFE_INTEGER, "an address").describe("its first byte"),
  size: byteCount.describe("bytes"),
  type: z
    .enum(["direct", "direct-relaxable", "reserved", "msi"])
    .describe("direct: the firmware wants it mapped one to one (RMRR), and nobody is given the function; direct-relaxable: the same until somebody is; reserved: nothing is mapped there; msi: messages go there"),
});

export const amdSchema = z.strictObject({
  name: z.string().min(1).describe("the kernel's name of the unit, as in /sys/class/iommu: ivhd0"),
  base: physicalAddress.nullable().default(null).describe("host-physical address of its registers"),
  segment: wholeNumber(0xffff, "a 16-bit value").default(0).describe("PCI segment of its functions"),
  numaNode: z.int().min(-1).default(-1).describe("NUMA node, -1: none"),
  cap: z.string().nullable().default(null).describe("its capability header, as in /sys/class/iommu/ivhd0/amd-iommu/cap"),
  features: z.string().nullable().default(null).describe("its extended features, as in /sys/class/iommu/ivhd0/amd-iommu/features"),
});

const portSchema = z.strictObject({
  address: pciAddress.describe("segment, bus, device, function"),
  name: z.string().default("").describe("what it is, for people"),
  vendor: u16.nullable().default(null).describe("vendor id"),
  device: u16.nullable().default(null).describe("device id"),
  parent: pciAddress.nullable().default(null).describe("the port above it; null: it is on a root bus"),
  acs: z.boolean().nullable().default(null).describe("it keeps the functions below it apart: source validation, request and completion redirect, upstream forwarding are on"),
  group: z.int().min(0).nullable().default(null).describe("number of its IOMMU group"),
  numaNode: z.int().min(-1).default(-1).describe("NUMA node, -1: none"),
});

const numaSchema = z.strictObject({
  nodes: z
    .array(
      z.strictObject({
        id: z.int().min(0).describe("the node's number"),
        cpus: z.string().nullable().default(null).describe("its processors, as in /sys/devices/system/node/node0/cpulist; empty: it has none"),
        memory: anyBytes.nullable().default(null).describe("bytes of memory"),
      }),
    )
    .describe("nodes, in the order of the rows and columns of distances"),
  distances: z.array(z.array(z.int().min(0).max(255))).nullable().default(null).describe("a row for each node, as in /sys/devices/system/node/node0/distance"),
});

const hugepagesSchema = z.strictObject({
  node: z.int().min(0).nullable().default(null).describe("NUMA node; null: of the whole host"),
  size: byteCount.describe("bytes of one"),
  total: anyCount.describe("how many there are"),
  free: anyCount.nullable().default(null).describe("how many nobody uses"),
});

/** Of the whole host. */
export const hostFacts = {
  architecture: z.enum(["aarch64", "x86_64"]).nullable().default(null).describe("of its processors; null: what its IOMMUs say"),
  addressBits: z.int().min(32).max(57).nullable().default(null).describe("bits of physical addresses of its processors"),
  kvm: z.boolean().nullable().default(null).describe("it has /dev/kvm"),
  kernelConfig: z
    .record(z.string().regex(/^CONFIG_[A-Z0-9_]+$/), z.string(), { error: 'expected options by name, such as {"CONFIG_IOMMUFD": "m"}' })
    .nullable()
    .default(null)
    .describe("what the kernel was built with: y, m, n (not set) or a value, by option"),
  numa: numaSchema.nullable().default(null).describe("NUMA nodes and the distances between them"),
  hugepages: z.array(hugepagesSchema).nullable().default(null).describe("huge pages that are set aside"),
  limits: z
    .strictObject({ memlock: z.union([z.literal("unlimited"), anyBytes]).nullable().default(null).describe("bytes that a process may lock (RLIMIT_MEMLOCK), or unlimited, which it is with CAP_IPC_LOCK") })
    .nullable()
    .default(null)
    .describe("what a process of the host's user may have"),
  ports: z.array(portSchema).nullable().default(null).describe("PCI Express ports and bridges"),
};

/** Of a function. */
export const functionFacts = {
  group: z.int().min(0).nullable().default(null).describe("number of its IOMMU group"),
  reserved: z.array(reservedSchema).nullable().default(null).describe("its reserved ranges of IOVAs"),
  rootPort: pciAddress.nullable().default(null).describe("the root port above it"),
  upstream: z.array(pciAddress).nullable().default(null).describe("the ports above it, from the root port on; empty: it is on a root bus"),
  reset: z.array(z.string().min(1)).nullable().default(null).describe("how the kernel resets it, as in its reset_method; empty: not at all"),
};

export type ReservedDescription = z.output<typeof reservedSchema>;
export type AmdDescription = z.output<typeof amdSchema>;
export type PortDescription = z.output<typeof portSchema>;
export type NumaDescription = z.output<typeof numaSchema>;
export type HugepagesDescription = z.output<typeof hugepagesSchema>;

/** What the rules look at. */
interface Host {
  readonly amds: readonly AmdDescription[];
  readonly vtds: readonly unknown[];
  readonly smmus: readonly unknown[];
  readonly numa: NumaDescription | null;
  readonly ports: readonly PortDescription[] | null;
}

export function checkFacts(host: Host, fileName: string): void {
  if (host.amds.length > 0 && (host.vtds.length > 0 || host.smmus.length > 0)) {
    throw refusal(fileName, "amds", `the host has ${host.vtds.length > 0 ? "VT-d units" : "SMMUs"} too`, "IOMMUs of one architecture");
  }
  checkUnique(host.amds, "name", "amds", fileName);
  checkUnique(host.ports ?? [], "address", "ports", fileName);
  const { numa } = host;
  if (numa !== null) {
    checkUnique(numa.nodes, "id", "numa.nodes", fileName);
    const { length } = numa.nodes;
    if (numa.distances !== null && (numa.distances.length !== length || numa.distances.some((row) => row.length !== length))) {
      throw refusal(fileName, "numa.distances", "not a row and a column for each of numa.nodes", `${length} rows of ${length}`);
    }
  }
}

function checkUnique<K extends string>(all: ReadonlyArray<Readonly<Record<K, unknown>>>, key: K, path: string, fileName: string): void {
  all.forEach((one, i) => {
    const j = all.findIndex((other) => other[key] === one[key]);
    if (j < i) {
      throw refusal(fileName, `${path}[${i}].${key}`, `the same as ${path}[${j}].${key}`);
    }
  });
}
