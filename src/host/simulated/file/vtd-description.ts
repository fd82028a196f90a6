/** The part of a host file that describes VT-d remapping units, and its rules. */
import { z } from "zod";
import { INTERRUPT_RANGE_FIRST, INTERRUPT_RANGE_LAST } from "../../../vtd/spec/index.js";
import { physicalAddress, refusal, wholeNumber } from "./description-values.js";
import { keysOfRegisters, REGISTER, registerText } from "./vtd-registers.js";

/** Errata of VT-d units that change what the kernel offers, by the number of Intel's document. */
export const VTD_ERRATA = {
  "772415": "Sapphire Rapids SPR17: nested translation sets accessed and dirty bits in first-stage tables that the second stage makes read-only; the kernel maps nothing read-only in a nesting parent",
} as const;

export type VtdErratum = keyof typeof VTD_ERRATA;
const errata = Object.keys(VTD_ERRATA) as [VtdErratum, ...VtdErratum[]];

const register = z
  .string()
  .regex(REGISTER, { error: 'expected the digits of a 64-bit register, such as "0x1c0000c40660462"' })
  .transform(registerText)
  .nullable()
  .default(null);

export const vtdSchema = z.strictObject({
  name: z.string().min(1).describe("the kernel's name of the unit, as in /sys/class/iommu: dmar0"),
  base: physicalAddress.describe("host-physical address of its registers"),
  segment: wholeNumber(0xffff, "a 16-bit value").default(0).describe("PCI segment of its functions"),
  numaNode: z.int().min(-1).default(-1).describe("NUMA node, -1: none"),
  cap: register.describe("CAP_REG, as the kernel's log and /sys/class/iommu/dmar0/intel-iommu/cap show it: the keys that name a bit of it need not be there"),
  ecap: register.describe("ECAP_REG, the same"),
  sagaw: z
    .array(z.union([z.literal(39), z.literal(48), z.literal(57)], { error: "expected 39, 48 or 57" }))
    .min(1, { error: "expected at least one width" })
    .default([48])
    .describe("CAP.SAGAW: widths of second-stage tables, by bits of address"),
  mgaw: z.int().min(30).max(57).optional().describe("CAP.MGAW: bits of addresses that it translates; by default the largest of sagaw"),
  secondStagePages: z.array(z.enum(["2M", "1G"])).default(["2M", "1G"]).describe("CAP.SSLPS: large pages of the second stage"),
  coherentWalks: z.boolean().default(true).describe("ECAP.C: root, context, PASID and legacy second-stage tables are read coherently"),
  snoopControl: z.boolean().default(true).describe("ECAP.SC: the kernel can make its functions' accesses coherent whatever they ask for"),
  deviceTlb: z.boolean().default(false).describe("ECAP.DT: answers ATS"),
  scalableMode: z.boolean().default(false).describe("ECAP.SMTS; the keys below need it"),
  scalableCoherentWalks: z.boolean().default(false).describe("ECAP.SMPWCS: walks of scalable mode are coherent"),
  secondStage: z.boolean().default(false).describe("ECAP.SSTS: second stage in scalable mode"),
  firstStage: z.boolean().default(false).describe("ECAP.FSTS: first stage"),
  firstStage1g: z.boolean().default(false).describe("CAP.FS1GP: 1-GiB pages of the first stage"),
  firstStage5Level: z.boolean().default(false).describe("CAP.FS5LP: first stage of 5 levels"),
  nesting: z.boolean().default(false).describe("ECAP.NEST: a first stage on top of a second"),
  dirtyTracking: z.boolean().default(false).describe("ECAP.SSADS: accessed and dirty bits in the second stage"),
  supervisor: z.boolean().default(false).describe("ECAP.SRS: privileged requests"),
  extendedAccess: z.boolean().default(false).describe("ECAP.EAFS: extended accessed bit in the first stage"),
  pasidBits: z.int().min(0).max(20).default(0).describe("ECAP.PASID and PSS: width of PASIDs, 0: none"),
  errata: z.array(z.enum(errata)).default([]).describe("errata that the silicon has"),
});

export type VtdDescription = z.output<typeof vtdSchema>;

/** A unit of which its registers are known, or one of them, or none, as where they describe no unit: name and place aside. */
export function unitOfRegisters(cap: string | null, ecap: string | null): Omit<VtdDescription, "name" | "base" | "segment" | "numaNode"> {
  const named = { name: "unit", base: 0 };
  const read = vtdSchema.safeParse({ ...named, ...keysOfRegisters(cap, ecap), cap, ecap });
  const { name, base, segment, numaNode, ...unit } = read.success ? read.data : vtdSchema.parse(named);
  void [name, base, segment, numaNode];
  return unit;
}

/** What the rules look at of a host. */
interface Host {
  readonly vtds: readonly VtdDescription[];
  readonly memory: ReadonlyArray<{ readonly base: number; readonly size: number }>;
}

/** What they look at of a function. */
interface Fn {
  readonly vtd?: string | null;
  readonly address: string;
  readonly streamId?: number;
  readonly pasidBits: number | null;
  readonly ats: boolean | null;
  readonly pri: boolean | null;
}

/** Keys that mean something in scalable mode alone. */
const SCALABLE = [
  "scalableCoherentWalks",
  "secondStage",
  "firstStage",
  "firstStage1g",
  "firstStage5Level",
  "nesting",
  "dirtyTracking",
  "supervisor",
  "extendedAccess",
] as const;

/** What a key needs beside scalable mode. */
const NEEDS = [
  ["firstStage1g", "firstStage"],
  ["firstStage5Level", "firstStage"],
  ["supervisor", "firstStage"],
  ["extendedAccess", "firstStage"],
  ["nesting", "firstStage"],
  ["nesting", "secondStage"],
  ["dirtyTracking", "secondStage"],
] as const;

export function checkVtds(host: Host, fileName: string): void {
  host.vtds.forEach((vtd, i) => {
    const path = `vtds[${i}]`;
    host.vtds.slice(0, i).forEach((other, j) => {
      for (const key of ["name", "base"] as const) {
        if (vtd[key] === other[key]) {
          throw refusal(fileName, `${path}.${key}`, `the same as vtds[${j}].${key}`);
        }
      }
    });
    for (const key of SCALABLE) {
      if (vtd[key] && !vtd.scalableMode) {
        throw refusal(fileName, `${path}.${key}`, "needs scalableMode");
      }
    }
    for (const [key, needed] of NEEDS) {
      if (vtd[key] && !vtd[needed]) {
        throw refusal(fileName, `${path}.${key}`, `needs ${needed}`);
      }
    }
    if (vtd.scalableMode && !vtd.firstStage && !vtd.secondStage) {
      throw refusal(fileName, `${path}.scalableMode`, "has neither stage", "secondStage, firstStage, or both");
    }
    // The kernel uses one width for both stages (Linux __iommu_calculate_sagaw).
    const common = vtd.sagaw.some((width) => width === 48 || (width === 57 && vtd.firstStage5Level));
    if (vtd.firstStage && vtd.secondStage && !common) {
      throw refusal(fileName, `${path}.sagaw`, "no width that the first stage has too", vtd.firstStage5Level ? "48 or 57 among them" : "48 among them");
    }
    if (vtd.pasidBits > 0 && !vtd.scalableMode) {
      throw refusal(fileName, `${path}.pasidBits`, "needs scalableMode");
    }
    if (vtd.mgaw !== undefined && vtd.mgaw > Math.max(...vtd.sagaw)) {
      throw refusal(fileName, `${path}.mgaw`, `more than the tables of sagaw translate, ${Math.max(...vtd.sagaw)} bits`);
    }
  });
  if (host.vtds.length > 0) {
    host.memory.forEach((range, i) => {
      if (range.base <= INTERRUPT_RANGE_LAST && range.base + range.size > INTERRUPT_RANGE_FIRST) {
        throw refusal(fileName, `memory[${i}]`, "overlaps the interrupt range 0xfee00000 to 0xfeefffff");
      }
    });
  }
}

export function checkVtdFunction(host: Host, fn: Fn, path: string, fileName: string): void {
  if (typeof fn.vtd !== "string") {
    return;
  }
  const vtd = host.vtds.find((candidate) => candidate.name === fn.vtd);
  if (vtd === undefined) {
    const known = host.vtds.map((candidate) => candidate.name).join(", ");
    throw refusal(fileName, `${path}.vtd`, `unknown VT-d unit '${fn.vtd}'`, known === "" ? "null: the host has none" : `one of ${known}, or null`);
  }
  if (fn.streamId !== undefined) {
    throw refusal(fileName, `${path}.streamId`, "a VT-d unit tells functions apart by their requester ids", "no streamId");
  }
  if (parseInt(fn.address.slice(0, 4), 16) !== vtd.segment) {
    throw refusal(fileName, `${path}.vtd`, `${vtd.name} serves segment ${vtd.segment.toString(16).padStart(4, "0")}`);
  }
  if ((fn.pasidBits ?? 0) > vtd.pasidBits) {
    throw refusal(fileName, `${path}.pasidBits`, `${fn.pasidBits} bits, and ${vtd.name} has ${vtd.pasidBits}`);
  }
  if (fn.ats === true && !vtd.deviceTlb) {
    throw refusal(fileName, `${path}.ats`, `${vtd.name} has no deviceTlb`);
  }
  if (fn.pri === true) {
    throw refusal(fileName, `${path}.pri`, "simulated VT-d units take no page requests");
  }
}
