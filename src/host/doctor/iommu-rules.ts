/** What IOMMUs lack for a guest's virtual one. */
import type { HostFacts, IommuFacts } from "../../plan/index.js";
import { type HostProblem, listed, type Patient, problem } from "./wanted.js";

/** ECAP.IR (Intel VT-d 11.4.3). */
const ECAP_IR = 1n << 3n;

/** There is none at all, by what the firmware or the kernel's words say. */
export function iommuProblems({ host }: Patient): HostProblem[] {
  const { smmus, vtds, amds, functions } = host.description;
  if (smmus.length + vtds.length + amds.length > 0 || functions.some(({ group }) => group !== null)) {
    return [];
  }
  return [problem("error", "no-iommu", "the host has no IOMMU", "/sys/class/iommu is empty, and no function is in an IOMMU group", iommuCure({ host }))];
}

/** How an IOMMU is had where there is none. */
export function iommuCure({ host }: Pick<Patient, "host">): string {
  const { architecture, kernelConfig } = host.description;
  const words = (host.commandLine ?? "").split(/\s+/);
  const off = words.find((word) => /^(?:intel_iommu|amd_iommu|iommu)=(?:.*,)?off(?:,|$)/.test(word));
  if (off !== undefined) {
    return `a kernel that is not told ${off}`;
  }
  if (architecture === "x86_64") {
    const tells = kernelConfig?.CONFIG_INTEL_IOMMU_DEFAULT_ON === "y" ? "" : ", and in the kernel: intel_iommu=on (CONFIG_INTEL_IOMMU_DEFAULT_ON has it by itself)";
    return `VT-d or AMD-Vi on in the firmware${tells}`;
  }
  return "an SMMUv3 in the firmware's tables (IORT, or the device tree; often a setting \"SMMU\" or \"IOMMU\") and CONFIG_ARM_SMMU_V3 in the kernel";
}

/** IOMMUs that nest no guest's tables, and those that need something of who does. */
export function nestingProblems(facts: HostFacts, asked: ReadonlySet<string> | null): HostProblem[] {
  const problems: HostProblem[] = [];
  const iommus = [...facts.iommus.values()].filter(({ name, kind }) => kind !== "amd" && (asked === null || asked.has(name)));
  const unknown = iommus.filter((one) => one.kind === "smmuv3" && one.description.idr0 === null);
  const others = iommus.filter((one) => !unknown.includes(one));
  const someNest = others.some(({ obstacle }) => obstacle === null) || unknown.length > 0;
  for (const [obstacle, all] of byObstacle(others)) {
    problems.push(problem(someNest && asked === null ? "warning" : "error", "no-nesting", `${listed(all.map(({ name }) => name))}: ${obstacle}`, "no guest's first stage is translated there", nestingCure(all[0])));
  }
  if (unknown.length > 0) {
    problems.push(problem("note", "unknown-smmu", `what ${listed(unknown.map(({ name }) => name))} can do is not known`, "ID registers are told to who opens a function behind the SMMU", "vfio-pci for a function behind each, then again as a user who may open it"));
  }
  const repeats = iommus.filter((one) => one.kind === "smmuv3" && one.description.errata.includes("nvidia-t264-smmu-3"));
  if (repeats.length > 0) {
    problems.push(problem("warning", "t264-smmu-3", `${listed(repeats.map(({ name }) => name))}: erratum T264-SMMU-3, invalidations may be lost`, "commands of a guest are given to the SMMU once by the kernel", "viommu, which gives them twice (QEMU 11.1 does not)"));
  }
  const noIr = iommus.filter((one) => one.kind === "vtd" && one.description.ecap !== null && (BigInt(one.description.ecap) & ECAP_IR) === 0n);
  if (noIr.length > 0) {
    problems.push(problem("error", "no-interrupt-remapping", `${listed(noIr.map(({ name }) => name))}: interrupts are not remapped (ECAP.IR=0)`, "binding a function to an iommufd is EPERM", "a host with interrupt remapping, or, where its guests are trusted, the module parameter iommufd.allow_unsafe_interrupts=1"));
  }
  return [...problems, ...amdProblems(facts, asked)];
}

function amdProblems({ host: { amds } }: HostFacts, asked: ReadonlySet<string> | null): HostProblem[] {
  const all = amds.filter(({ name }) => asked === null || asked.has(name));
  return all.length === 0 ? [] : [problem("error", "amd", `${listed(all.map(({ name }) => name))}: AMD-Vi nests no tables of a guest's here`, "viommu and QEMU 11.1 have no accelerated AMD IOMMU", "passing through without a virtual IOMMU, or one that translates emulated functions alone")];
}

function byObstacle(iommus: readonly IommuFacts[]): Map<string, IommuFacts[]> {
  const all = new Map<string, IommuFacts[]>();
  for (const iommu of iommus) {
    if (iommu.obstacle !== null) {
      all.set(iommu.obstacle, [...(all.get(iommu.obstacle) ?? []), iommu]);
    }
  }
  return all;
}

function nestingCure(iommu: IommuFacts): string {
  if (iommu.kind === "vtd") {
    return iommu.description.cap === null && iommu.description.ecap === null
      ? "the unit's cap and ecap: /sys/class/iommu/*/intel-iommu"
      : "a server's VT-d of Sapphire Rapids or newer, with intel_iommu=on,sm_on where the kernel has no scalable mode by itself; aw-bits as wide as the unit for a guest without nesting";
  }
  return (iommu.obstacle ?? "").includes("CANWBS") ? "firmware whose IORT says CANWBS for the root complex, or an SMMU with S2FWB (IDR3.FWB)" : "an SMMUv3 with both stages that the kernel nests: MMU-700 r1p1 or newer";
}
