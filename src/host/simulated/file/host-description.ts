import { dirname, resolve } from "node:path";
import { z } from "zod";
import { extract, IDR0, IDR0_TTF_AARCH32, IDR1, IDR5, OAS_BITS } from "../../../smmuv3/spec/index.js";
import { Refusal } from "../../../support/index.js";
import { INTERRUPT_RANGE_FIRST } from "../../../vtd/spec/index.js";
import { byteCount, physicalAddress, refusal, u16, u32, wholeNumber } from "./description-values.js";
import { amdSchema, checkFacts, functionFacts, hostFacts, pciAddress } from "./host-facts.js";
import { ENGINE_BAR_BYTES, NVME_ENGINE_OFFSET, sourceIdOf } from "../names/index.js";
import { checkVtdFunction, checkVtds, vtdSchema } from "./vtd-description.js";
import { withRegisters } from "./vtd-registers.js";

/**
 * Errata of SMMUs that change what the hardware does or what the kernel offers, by the silicon's name for them
 * (Linux Documentation/arch/arm64/silicon-errata.rst and drivers/iommu/arm/arm-smmu-v3).
 */
export const SMMU_ERRATA = {
  "arm-1076982": "MMU-600: WFE wake-up events are unreliable; the kernel does not use SEV",
  "arm-1209401": "MMU-600 before r2: stage 2 with stage 1 misbehaves; the kernel offers no nesting",
  "arm-2268618": "MMU-700 before r1p1: nested translation can use stale walks; the kernel offers no nesting",
  "arm-2812531": "MMU-700: invalidations need a CMD_SYNC of their own; no BTM, and before r1p1 no nesting",
  "nvidia-t264-smmu-3": "Tegra264: a TLBI or CFGI counts when it comes again after its CMD_SYNC; the kernel says so to user space",
  "hisilicon-161010101": "Hi161x: CMD_PREFETCH_CONFIG and CMD_PREFETCH_ADDR are illegal commands",
} as const;

export type SmmuErratum = keyof typeof SMMU_ERRATA;
const errata = Object.keys(SMMU_ERRATA) as [SmmuErratum, ...SmmuErratum[]];

/** Where the ITS of Arm's example platforms has GITS_TRANSLATER. */
export const DEFAULT_DOORBELL = 0x0809_0040;

/** Where memory is whose place a file does not tell. */
const FIRST_UNPLACED = 2 ** 32;

/** MSI-X vectors that a simulated function has at most. */
const MOST_VECTORS = 512;

/** Class code of an NVMe controller (NVM Express 1.4, 2.1.5). */
const NVME_CLASS = 0x010802;

const memorySchema = z.strictObject({
  numaNode: z.int().min(0).describe("NUMA node of the memory"),
  base: physicalAddress.optional().describe("host-physical address of its first byte, a multiple of 16 MiB; by default behind the range before it, from 4 GiB on"),
  size: byteCount.describe("bytes, a multiple of 16 MiB, at least 64 MiB"),
});

const smmuSchema = z.strictObject({
  name: z.string().min(1).describe("the kernel's name of the instance, smmu3.0x and 16 digits of its base"),
  base: physicalAddress.describe("host-physical address of its registers"),
  numaNode: z.int().min(-1).default(-1).describe("NUMA node, -1: none"),
  idr0: u32.nullable().describe("SMMU_IDR0; null: unknown, and the SMMU is not simulated"),
  idr1: u32.nullable().describe("SMMU_IDR1; null: unknown"),
  idr2: u32.default(0).describe("SMMU_IDR2"),
  idr3: u32.default(0).describe("SMMU_IDR3"),
  idr4: u32.default(0).describe("SMMU_IDR4"),
  idr5: u32.nullable().describe("SMMU_IDR5; null: unknown"),
  iidr: u32.default(0).describe("SMMU_IIDR"),
  aidr: u32.default(0).describe("SMMU_AIDR"),
  coherent: z.boolean().default(true).describe("DMA is coherent whatever the device asks for: IORT's CANWBS flag"),
  errata: z.array(z.enum(errata)).default([]).describe("errata that the silicon has"),
});

const barSchema = z.strictObject({
  index: z.int().min(0).max(5).describe("number of the base address register"),
  size: byteCount.describe("bytes, a power of two of at least 4 KiB, and BAR 0 at least 64 KiB; of an inert function at least 16"),
  is64: z.boolean().default(true).describe("takes the next register too, for the address's upper half"),
  prefetchable: z.boolean().default(false).describe("reads have no side effects"),
});

const backingSchema = z.union(
  [
    z.strictObject({
      file: z.string().min(1).describe("path of a file with the disk's bytes, relative to the host file's folder"),
      readonly: z.boolean().default(false).describe("the disk is write protected"),
    }),
    z.strictObject({ memory: byteCount.describe("bytes of a disk of memory, which ends with the host") }),
  ],
  { error: 'expected {"file": "disk.raw"} or {"memory": "64M"}' },
);

const functionSchema = z.strictObject({
  address: pciAddress.describe("segment, bus, device, function"),
  name: z.string().min(1).describe("what it is, for people"),
  vendor: u16.describe("vendor id"),
  device: u16.describe("device id"),
  class: wholeNumber(0xff_ffff, "a 24-bit class code").describe("base class, subclass, programming interface"),
  revision: wholeNumber(0xff, "an 8-bit value").default(0).describe("revision id"),
  smmu: z.string().nullable().optional().describe("name of the SMMU in front of it; null: none, its DMA is not translated"),
  vtd: z.string().nullable().optional().describe("the same where the host has VT-d units"),
  amd: z.string().nullable().optional().describe("the same where the host has AMD units"),
  streamId: u32.optional().describe("its StreamID; by default its requester id, bus << 8 | device << 3 | function"),
  numaNode: z.int().min(-1).default(-1).describe("NUMA node, -1: none"),
  ats: z.boolean().nullable().default(false).describe("has the ATS capability; null: unknown, and none where it is simulated"),
  pri: z.boolean().nullable().default(false).describe("has the page request capability; null: unknown"),
  pasidBits: z.int().min(0).max(20).nullable().default(0).describe("width of its PASIDs; 0: no PASID capability, null: unknown"),
  bars: z.array(barSchema).describe("base address registers of memory; BAR 0 has the DMA engine"),
  noSoftReset: z.boolean().default(true).describe("coming back from D3hot leaves its state; false: it is as a reset (PMCSR.No_Soft_Reset)"),
  msiVectors: z
    .union([1, 2, 4, 8, 16, 32].map((count) => z.literal(count)))
    .or(z.literal(0))
    .nullable()
    .default(0)
    .describe("MSI vectors: 1, 2, 4, 8, 16 or 32; 0: no MSI capability, null: unknown"),
  msixVectors: z.int().min(0).max(2048).nullable().default(0).describe("MSI-X vectors; 0: no MSI-X capability, null: unknown; at most 512 are simulated"),
  model: z
    .enum(["engine", "nvme", "inert"])
    .default("engine")
    .describe("engine: a DMA engine in BAR 0; nvme: an NVMe controller there, and the engine behind its registers; inert: registers that read as zero, and no DMA"),
  backing: backingSchema.optional().describe("what the disk of an NVMe controller is made of"),
  serial: z.string().min(1).max(20).optional().describe("serial number of an NVMe controller; by default its address"),
  blockSize: z.union([z.literal(512), z.literal(4096)]).default(512).describe("bytes of a logical block of an NVMe controller's disk"),
  driver: z.string().default("vfio-pci").describe("driver that the host has bound to it; only vfio-pci and its variants let it be passed through; empty: none"),
  ...functionFacts,
});

const hostSchema = z.strictObject({
  $schema: z.string().optional().describe("this schema's address, for editors"),
  name: z.string().min(1).describe("name of the host, for the account"),
  memory: z.array(memorySchema).min(1, { error: "expected at least one run of memory" }).describe("RAM by NUMA node"),
  kernel: z
    .string()
    .regex(/^[0-9]+\.[0-9]+(?![0-9])/, { error: "expected a version of Linux, such as 7.3 or 6.12.48-generic" })
    .default("7.3")
    .describe("its Linux. The answers are those of 7.3, of an older one those of 7.2"),
  msiDoorbell: physicalAddress
    .optional()
    .describe("host-physical address of the ITS's GITS_TRANSLATER register; 0x08090040 by default, and none with VT-d units"),
  smmus: z.array(smmuSchema).default([]).describe("SMMUv3 instances"),
  vtds: z.array(vtdSchema).default([]).describe("Intel VT-d remapping units; a host has these or SMMUs"),
  amds: z.array(amdSchema).default([]).describe("AMD IOMMUs: they are described, and not simulated"),
  functions: z.array(functionSchema).describe("PCI functions"),
  ...hostFacts,
});

export type MemoryDescription = z.output<typeof memorySchema> & { base: number };
export type SmmuDescription = z.output<typeof smmuSchema>;
export type BackingDescription = z.output<typeof backingSchema>;
export type BarDescription = z.output<typeof barSchema>;
export type FunctionDescription = z.output<typeof functionSchema>;
/** A host as its file describes it, every number parsed, every default filled in. docs/host-file.md explains the fields. */
export type HostDescription = Omit<z.output<typeof hostSchema>, "$schema" | "memory"> & {
  readonly memory: MemoryDescription[];
  /** Where messages are interrupts: GITS_TRANSLATER, or the first byte of the interrupt range (VT-d 3.14). */
  readonly msiDoorbell: number;
};
/** A host description as it is written: numbers may be strings, defaults may be left out. */
export type HostDescriptionInput = z.input<typeof hostSchema> & { smmus: Array<z.input<typeof smmuSchema>> };

/**
 * Reads a host file.
 *
 * @param text the file's contents, JSON
 * @param fileName for messages
 * @throws Refusal that names the file and the path of what is wrong in it, such as `functions[3].smmu`
 */
export function loadHostDescription(text: string, fileName: string): HostDescription {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new Refusal(`${fileName}: not JSON: ${(error as Error).message}`, {
      wouldWork: "a host file as docs/host-file.md describes it",
    });
  }
  return describeHost(json as HostDescriptionInput, fileName);
}

/** The same for a description that is an object already. */
export function describeHost(input: HostDescriptionInput, fileName = "host description"): HostDescription {
  const { vtds } = input as { vtds?: unknown } | { vtds?: undefined };
  const decoded: unknown = Array.isArray(vtds) ? { ...input, vtds: vtds.map((unit, i) => withRegisters(unit, `vtds[${i}]`, fileName)) } : input;
  const parsed = hostSchema.safeParse(decoded);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refusal(fileName, pathText(issue.path), issue.message, "a host file as docs/host-file.md describes it");
  }
  const isX86 = parsed.data.vtds.length > 0 || parsed.data.amds.length > 0 || parsed.data.architecture === "x86_64";
  if (parsed.data.vtds.length > 0 && parsed.data.smmus.length > 0) {
    throw refusal(fileName, "vtds", "the host has SMMUs too", "smmus or vtds");
  }
  if (isX86 && parsed.data.msiDoorbell !== undefined) {
    throw refusal(fileName, "msiDoorbell", `a host ${parsed.data.vtds.length > 0 ? "with VT-d units" : "of this architecture"} takes interrupts at 0xfee00000 to 0xfeefffff`, "no msiDoorbell");
  }
  const { $schema, ...data } = parsed.data;
  void $schema;
  const host: HostDescription = {
    ...data,
    memory: placeMemory(data.memory),
    functions: data.functions.map((fn) => placeBacking(fn, fileName)),
    msiDoorbell: isX86 ? INTERRUPT_RANGE_FIRST : (data.msiDoorbell ?? DEFAULT_DOORBELL),
  };
  checkFacts(host, fileName);
  checkMemory(host, fileName);
  checkSmmus(host, fileName);
  checkVtds(host, fileName);
  checkFunctions(host, fileName);
  return host;
}

/** Memory whose place is not told lies behind the range before it. */
function placeMemory(ranges: ReadonlyArray<z.output<typeof memorySchema>>): MemoryDescription[] {
  let next = FIRST_UNPLACED;
  return ranges.map((range) => {
    const base = range.base ?? next;
    next = Math.max(FIRST_UNPLACED, base + range.size);
    return { ...range, base };
  });
}

/** The function with the path of its disk as this process opens it. */
function placeBacking(fn: FunctionDescription, fileName: string): FunctionDescription {
  const { backing } = fn;
  return backing !== undefined && "file" in backing ? { ...fn, backing: { ...backing, file: resolve(dirname(fileName), backing.file) } } : fn;
}

/** The JSON Schema of host files as they are written (draft 7, which editors know). */
export function hostFileJsonSchema(): object {
  return z.toJSONSchema(hostSchema, { io: "input", target: "draft-7" });
}

function pathText(path: ReadonlyArray<PropertyKey>): string {
  return path.map((part, i) => (typeof part === "number" ? `[${part}]` : `${i === 0 ? "" : "."}${String(part)}`)).join("");
}

function checkMemory(host: HostDescription, fileName: string): void {
  host.memory.forEach((range, i) => {
    const path = `memory[${i}]`;
    if (range.base % 0x100_0000 !== 0) {
      throw refusal(fileName, `${path}.base`, "not a multiple of 16 MiB");
    }
    if (range.size % 0x100_0000 !== 0 || range.size < 0x400_0000) {
      throw refusal(fileName, `${path}.size`, "not a multiple of 16 MiB of at least 64 MiB");
    }
    if (range.base + range.size > 2 ** 48) {
      throw refusal(fileName, `${path}.size`, "reaches beyond 2^48, where translation tables with 48-bit addresses end");
    }
    if (host.vtds.length === 0 && host.msiDoorbell >= range.base && host.msiDoorbell < range.base + range.size) {
      throw refusal(fileName, "msiDoorbell", `lies in the RAM of ${path}`);
    }
    host.memory.slice(0, i).forEach((other, j) => {
      if (range.base < other.base + other.size && other.base < range.base + range.size) {
        throw refusal(fileName, path, `overlaps memory[${j}]`);
      }
    });
  });
}

function checkSmmus(host: HostDescription, fileName: string): void {
  host.smmus.forEach((smmu, i) => {
    const path = `smmus[${i}]`;
    host.smmus.slice(0, i).forEach((other, j) => {
      for (const key of ["name", "base"] as const) {
        if (smmu[key] === other[key]) {
          throw refusal(fileName, `${path}.${key}`, `the same as smmus[${j}].${key}`);
        }
      }
    });
    const { idr0, idr1, idr5 } = smmu;
    if (idr0 === null || idr1 === null || idr5 === null) {
      return;
    }
    const ttf = extract(idr0, IDR0.TTF);
    if (ttf === 0 || ttf === IDR0_TTF_AARCH32) {
      throw refusal(fileName, `${path}.idr0`, "TTF (bits 3:2) has no AArch64 translation tables", "TTF = 2");
    }
    if (extract(idr0, IDR0.S1P) === 0 && extract(idr0, IDR0.S2P) === 0) {
      throw refusal(fileName, `${path}.idr0`, "neither S1P (bit 1) nor S2P (bit 0): no translation at all");
    }
    if (extract(idr0, IDR0.ST_LEVEL) > 1) {
      throw refusal(fileName, `${path}.idr0`, "ST_LEVEL (bits 28:27) is reserved", "0 (linear) or 1 (two levels)");
    }
    if (extract(idr1, IDR1.SIDSIZE) > 32) {
      throw refusal(fileName, `${path}.idr1`, "SIDSIZE (bits 5:0) is more than 32");
    }
    if (extract(idr1, IDR1.SSIDSIZE) > 20) {
      throw refusal(fileName, `${path}.idr1`, "SSIDSIZE (bits 10:6) is more than 20");
    }
    if ((idr5 & (IDR5.GRAN4K.inPlace | IDR5.GRAN16K.inPlace | IDR5.GRAN64K.inPlace)) === 0) {
      throw refusal(fileName, `${path}.idr5`, "no granule (bits 6:4)");
    }
    const reach = 2 ** OAS_BITS[extract(idr5, IDR5.OAS)];
    host.memory.forEach((range, j) => {
      if (range.base + range.size > reach) {
        throw refusal(
          fileName,
          `${path}.idr5`,
          `OAS (bits 2:0) is ${Math.log2(reach)} bits, which do not reach the end of memory[${j}]`,
        );
      }
    });
  });
}

function checkFunctions(host: HostDescription, fileName: string): void {
  const smmus = new Map(host.smmus.map((smmu) => [smmu.name, smmu]));
  const known = host.smmus.map((smmu) => smmu.name).join(", ");
  host.functions.forEach((fn, i) => {
    const path = `functions[${i}]`;
    const said = (["smmu", "vtd", "amd"] as const).filter((kind) => fn[kind] !== undefined);
    if (said.length !== 1) {
      throw refusal(fileName, `${path}.${said[1] ?? "smmu"}`, said.length > 1 ? `it has an ${said[0]} too` : "missing", "smmu, vtd or amd: the name of its IOMMU, or null");
    }
    const smmu = smmus.get(fn.smmu ?? "");
    if (typeof fn.smmu === "string" && smmu === undefined) {
      throw refusal(fileName, `${path}.smmu`, `unknown SMMU '${fn.smmu}'`, known === "" ? "null: the host has none" : `one of ${known}, or null`);
    }
    checkVtdFunction(host, fn, path, fileName);
    if (typeof fn.amd === "string" && !host.amds.some(({ name }) => name === fn.amd)) {
      throw refusal(fileName, `${path}.amd`, `unknown AMD unit '${fn.amd}'`, host.amds.length === 0 ? "null: the host has none" : `one of ${host.amds.map(({ name }) => name).join(", ")}, or null`);
    }
    host.functions.slice(0, i).forEach((other, j) => {
      if (fn.address === other.address) {
        throw refusal(fileName, `${path}.address`, `the same as functions[${j}].address`);
      }
      if (smmu !== undefined && fn.smmu === other.smmu && sourceIdOf(fn) === sourceIdOf(other)) {
        throw refusal(fileName, `${path}.streamId`, `StreamID 0x${sourceIdOf(fn).toString(16)} of ${fn.smmu} is functions[${j}]'s`);
      }
    });
    if (smmu !== undefined && smmu.idr0 !== null && smmu.idr1 !== null) {
      if (sourceIdOf(fn) >= 2 ** extract(smmu.idr1, IDR1.SIDSIZE)) {
        throw refusal(fileName, `${path}.streamId`, `StreamID 0x${sourceIdOf(fn).toString(16)} needs more than ${fn.smmu}'s SIDSIZE`);
      }
      if ((fn.pasidBits ?? 0) > extract(smmu.idr1, IDR1.SSIDSIZE)) {
        throw refusal(fileName, `${path}.pasidBits`, `${fn.pasidBits} bits, and ${fn.smmu} has SSIDSIZE ${extract(smmu.idr1, IDR1.SSIDSIZE)}`);
      }
      if (fn.ats === true && extract(smmu.idr0, IDR0.ATS) === 0) {
        throw refusal(fileName, `${path}.ats`, `${fn.smmu} has no ATS (IDR0 bit 10)`);
      }
      if (fn.pri === true && extract(smmu.idr0, IDR0.PRI) === 0) {
        throw refusal(fileName, `${path}.pri`, `${fn.smmu} has no PRI (IDR0 bit 16)`);
      }
    }
    if (fn.pri === true && fn.ats === false) {
      throw refusal(fileName, `${path}.pri`, "page requests need ats (PCIe 10.4)");
    }
    checkModel(fn, path, fileName);
    checkBars(fn, `${path}.bars`, fileName);
  });
}

function checkModel(fn: FunctionDescription, path: string, fileName: string): void {
  if (fn.model !== "inert" && (fn.msixVectors ?? 0) > MOST_VECTORS) {
    throw refusal(fileName, `${path}.msixVectors`, `${fn.msixVectors} vectors`, `at most ${MOST_VECTORS}, or "model": "inert"`);
  }
  if (fn.model !== "nvme") {
    const given = fn.backing !== undefined ? "backing" : fn.serial !== undefined ? "serial" : null;
    if (given !== null) {
      throw refusal(fileName, `${path}.${given}`, "the function is no NVMe controller", '"model": "nvme"');
    }
    return;
  }
  if (fn.class !== NVME_CLASS) {
    throw refusal(fileName, `${path}.class`, "the function is an NVMe controller", "0x010802");
  }
  if (fn.backing === undefined) {
    throw refusal(fileName, `${path}.backing`, "missing", '{"file": "disk.raw"} or {"memory": "64M"}');
  }
  if ((fn.msixVectors ?? 0) === 0 && (fn.msiVectors ?? 0) === 0) {
    throw refusal(fileName, `${path}.msixVectors`, "an NVMe controller here has no interrupt pin", "1 to 512, one for each queue and one for the admin queue");
  }
}

function checkBars(fn: FunctionDescription, path: string, fileName: string): void {
  const used = new Map<number, number>();
  fn.bars.forEach((bar, i) => {
    const least = fn.model === "inert" ? 16 : 4096;
    if (bar.size < least || 2 ** Math.floor(Math.log2(bar.size)) !== bar.size) {
      throw refusal(fileName, `${path}[${i}].size`, `${bar.size} bytes are not a power of two of at least ${least}`);
    }
    if (!bar.is64 && bar.size > 0x8000_0000) {
      throw refusal(fileName, `${path}[${i}].size`, "a 32-bit BAR has at most 2 GiB");
    }
    for (const index of bar.is64 ? [bar.index, bar.index + 1] : [bar.index]) {
      if (index > 5) {
        throw refusal(fileName, `${path}[${i}].index`, "BAR 5 has no next register for the upper half of a 64-bit address");
      }
      if (used.has(index)) {
        throw refusal(fileName, `${path}[${i}].index`, `register ${index} is ${path}[${used.get(index)!}]'s`);
      }
      used.set(index, i);
    }
  });
  if (fn.model === "inert") {
    return;
  }
  const engine = fn.bars.find((bar) => bar.index === 0);
  if (engine === undefined) {
    throw refusal(fileName, path, "no BAR 0, which has the DMA engine");
  }
  if (engine.size < ENGINE_BAR_BYTES) {
    throw refusal(fileName, `${path}[${fn.bars.indexOf(engine)}].size`, "BAR 0 has the DMA engine and needs 64 KiB at least");
  }
  if (fn.model === "nvme" && engine.size < NVME_ENGINE_OFFSET + ENGINE_BAR_BYTES) {
    throw refusal(fileName, `${path}[${fn.bars.indexOf(engine)}].size`, "BAR 0 has the controller's registers and the DMA engine and needs 128 KiB at least");
  }
}
