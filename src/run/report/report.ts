/** The account of a run as data; docs/json.md says what each field means. */
import { z } from "zod";

const count = z.int().min(0);
const hexAddress = z.string().regex(/^0x[0-9a-f]+$/);

export const iommuSchema = z.strictObject({
  id: z.string(),
  bus: z.string(),
  accel: z.boolean(),
  hostIommu: z.string().nullable(),
  legacy: z.boolean(),
  base: hexAddress,
  interrupts: z.array(count),
  features: z.union([
    z.strictObject({ stage: z.string(), ril: z.boolean(), ats: z.boolean(), oas: count, ssidsize: count, msi: z.boolean() }),
    z.strictObject({
      scalableMode: z.boolean(),
      fsts: z.boolean(),
      fs1gp: z.boolean(),
      pasidBits: count,
      awBits: count,
      cachingMode: z.boolean(),
      deviceIotlb: z.boolean(),
      dmaTranslation: z.boolean(),
      intremap: z.boolean(),
      eim: z.boolean(),
    }),
  ]),
  bindings: z.array(
    z.strictObject({
      function: z.string(),
      pasid: count.nullable(),
      table: z.string(),
      reason: z.string().nullable(),
      hwpt: count.nullable(),
      domain: count.nullable(),
      hostIommu: z.string().nullable(),
    }),
  ),
});

export const functionSchema = z.strictObject({
  id: z.string(),
  model: z.string(),
  bus: z.string(),
  secondaryBuses: z.array(z.string()),
  bdf: z.string().regex(/^[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/),
  streamId: count.nullable(),
  host: z.string().nullable(),
  iommu: z.string().nullable(),
  addressSpace: z.string(),
  /** false: it is placed, with its configuration space, and has nothing behind it. */
  modelled: z.boolean(),
});

/** A device of a bus that is not modelled. */
export const otherDeviceSchema = z.strictObject({ id: z.string(), model: z.string(), bus: z.string().nullable() });

export const busSchema = z.strictObject({
  id: z.string(),
  number: count,
  iommu: z.string().nullable(),
  bypassIommu: z.boolean(),
  numaNode: count.nullable(),
  /** bdf of the bridge or expander that makes it; null: pcie.0. */
  bridge: z.string().nullable(),
});

export const reportSchema = z.strictObject({
  ok: z.boolean(),
  failure: z.string().nullable(),
  host: z.string(),
  machine: z.strictObject({
    type: z.string(),
    name: z.string().nullable(),
    cpu: z.string().nullable(),
    cpus: count,
    memory: count,
    gicVersion: count.nullable(),
    msiController: z.enum(["its", "gicv2m", "apic", "none"]),
    iommus: z.array(iommuSchema),
    functions: z.array(functionSchema),
    buses: z.array(busSchema),
    otherDevices: z.array(otherDeviceSchema),
  }),
  guest: z
    .strictObject({
      name: z.string(),
      ok: z.boolean(),
      dmaChecked: count,
      /** What it said besides its steps. */
      said: z.array(z.string()),
      steps: z.array(z.strictObject({ name: z.string(), ok: z.boolean(), skipped: z.string().nullable(), detail: z.string() })),
    })
    .nullable(),
  /** A kernel on vCPUs; null: the guest was a program. Times in milliseconds. */
  kernel: z
    .strictObject({
      /** power-off, reset (with -no-reboot), quit (from outside), panic, failed. */
      end: z.enum(["power-off", "reset", "quit", "panic", "failed"]),
      reason: z.string().nullable(),
      /** What kernels said of their panics. */
      panics: z.array(z.string()),
      vcpus: count,
      exits: z.record(z.string(), count),
      exitsByDevice: z.record(z.string(), count),
      /** For each 1,000 of the guest's invalidations: exits to registers of its IOMMUs, and HWPT_INVALIDATE calls. */
      perThousandInvalidations: z.strictObject({ exits: count, hostCalls: count }).nullable(),
      /** Writes that waited for another exit, and were none. */
      keptWrites: count,
      registerPages: count,
      runs: count,
      bootMs: count.nullable(),
      runMs: count,
      vcpuMs: count,
      resets: count,
      consoleBytes: count,
    })
    .nullable(),
  dma: z.strictObject({
    /** The host's functions are among those counted; false: their hardware cannot be asked. */
    ofHost: z.boolean(),
    transactions: count,
    bytes: count,
    faults: count,
    functions: z.array(z.strictObject({ function: z.string(), transactions: count, bytes: count, faults: count })),
  }),
  events: z.array(
    z.strictObject({
      iommu: z.string(),
      name: z.string(),
      number: count,
      streamId: count,
      substreamId: count.nullable(),
      inputAddress: hexAddress,
      ipa: hexAddress,
      read: z.boolean(),
      stage2: z.boolean(),
    }),
  ),
  msi: z.strictObject({
    delivered: count,
    routes: z.array(
      z.strictObject({
        function: z.string(),
        vector: count,
        iova: hexAddress,
        doorbell: hexAddress.nullable(),
        data: count,
        direct: z.boolean(),
        delivered: count,
      }),
    ),
  }),
  invalidation: z.strictObject({
    guestCommands: count,
    forwarded: count,
    hostCalls: count,
    iommus: z.array(
      z.strictObject({
        iommu: z.string(),
        guestCommands: count,
        forwarded: count,
        hostCalls: count,
        commands: z.record(z.string(), count),
      }),
    ),
  }),
  hostCalls: z.record(z.string(), count),
  hostObjects: z.strictObject({ created: count, freed: count, alive: count }),
  /** What was recorded; null: nothing was asked to be. */
  recording: z
    .strictObject({
      rows: count,
      bytes: count,
      /** It has all until the machine ended; false: `reason` says why not. */
      complete: z.boolean(),
      reason: z.string(),
    })
    .nullable(),
  warnings: z.array(z.string()),
  notes: z.array(z.string()),
});

/** The account of one run. Addresses are strings of hexadecimal digits with 0x, counts are numbers. */
export type RunReport = z.infer<typeof reportSchema>;
export type IommuReport = z.infer<typeof iommuSchema>;
export type FunctionReport = z.infer<typeof functionSchema>;
export type BusReport = z.infer<typeof busSchema>;

/** The JSON Schema of the account (draft 7, which editors know). */
export function accountJsonSchema(): object {
  return z.toJSONSchema(reportSchema, { target: "draft-7" });
}
