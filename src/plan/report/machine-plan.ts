/** A machine that was planned for functions of a host, as data; docs/json.md says what each field means. */
import { z } from "zod";

const count = z.int().min(0);
const list = <T extends z.ZodType>(of: T): z.ZodReadonly<z.ZodArray<T>> => z.array(of).readonly();
/** Sentences with the host's facts: why it is there, and as it is. */
const because = list(z.string());

export const cellSchema = z.strictObject({
  /** Number of the guest's NUMA node. */
  id: count,
  /** Node of the host that it stands for; null: memory of a device. */
  hostNode: count.nullable(),
  /** Bytes; 0: none. */
  memory: count,
  /** First and last CPU; null: none. */
  cpus: z.tuple([count, count]).readonly().nullable(),
  because,
});

export const functionSchema = z.strictObject({
  id: z.string(),
  /** Its address on the host. */
  host: z.string(),
  /** What it is, in the host's description. */
  name: z.string(),
  vendor: count,
  device: count,
  class: count,
  /** Number of the function in its slot of the guest. */
  number: count,
  /** The guest's NUMA nodes that it is a generic initiator of. */
  initiatorOf: list(count),
  because,
});

export const portSchema = z.strictObject({
  id: z.string(),
  chassis: count,
  /** Its place on the expander's bus. */
  slot: count,
  number: count,
  /** Bytes of prefetchable memory that firmware keeps free below it; null: for what is there alone. */
  reserve: count.nullable(),
  /** Empty: the port is for hot-plug. Several: one slot of several functions. */
  functions: list(functionSchema),
  because,
});

export const smmuSchema = z.strictObject({
  id: z.string(),
  ril: z.boolean(),
  ats: z.boolean(),
  /** Bits. */
  oas: z.union([z.literal(44), z.literal(48)]),
  ssidsize: count,
  because,
});

export const expanderSchema = z.strictObject({
  id: z.string(),
  busNumber: count,
  /** The last bus number that is its own. */
  lastBus: count,
  /** The host's IOMMU that all below it is behind. */
  hostIommu: z.string(),
  hostNode: count.nullable(),
  /** The guest's NUMA node. */
  cell: count.nullable(),
  /** On q35: what is below bypasses the intel-iommu. */
  bypass: z.boolean(),
  /** On virt; null: its functions have no virtual IOMMU of their own. */
  smmu: smmuSchema.nullable(),
  ports: list(portSchema),
  because,
});

/** q35's IOMMU. */
export const vtdSchema = z.strictObject({
  id: z.string(),
  /** The guest's first stages are nested in the host's; else its second stages are mirrored. */
  fsts: z.boolean(),
  fs1gp: z.boolean(),
  pasidBits: count,
  awBits: z.union([z.literal(39), z.literal(48)]),
  deviceIotlb: z.boolean(),
  eim: z.boolean(),
  because,
});

/** Memory for BARs above 4 GiB. */
export const windowSchema = z.strictObject({
  /** Bytes; null: as much as QEMU gives. */
  size: count.nullable(),
  because,
});

export const planSchema = z.strictObject({
  /** Name of the host. */
  host: z.string(),
  board: z.enum(["virt", "q35"]),
  /** Bytes. */
  memory: count,
  cpus: count,
  /** Empty: the guest has no NUMA nodes. */
  cells: list(cellSchema),
  /** Between nodes that are all some of the host's: a row for each; null: QEMU's. */
  distances: list(list(count)).nullable(),
  window: windowSchema,
  vtd: vtdSchema.nullable(),
  expanders: list(expanderSchema),
  /** What is to be done on the host before the machine starts. */
  preparations: list(z.string()),
  /** What is to be known besides. */
  notes: list(z.string()),
});

export type MachinePlan = z.infer<typeof planSchema>;
export type PlannedCell = z.infer<typeof cellSchema>;
export type PlannedExpander = z.infer<typeof expanderSchema>;
export type PlannedFunction = z.infer<typeof functionSchema>;
export type PlannedPort = z.infer<typeof portSchema>;
export type PlannedSmmu = z.infer<typeof smmuSchema>;
export type PlannedVtd = z.infer<typeof vtdSchema>;
export type PlannedWindow = z.infer<typeof windowSchema>;

/** The JSON Schema of a plan (draft 7, which editors know). */
export function planJsonSchema(): object {
  return z.toJSONSchema(planSchema, { target: "draft-7" });
}
