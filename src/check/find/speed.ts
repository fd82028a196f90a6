/** What is slow, and what cannot be done any more once functions of the host are behind an accelerated SMMU. */
import { booleanProperty, type DeviceArgument, deviceLabel, textProperty } from "../../machine/arguments/index.js";
import { HostFacts, type SmmuFacts } from "../../plan/index.js";
import type { Raised, Subject } from "../subject.js";

interface Accelerated {
  readonly smmu: DeviceArgument;
  readonly functions: readonly DeviceArgument[];
}

/** Accelerated SMMUs with the functions of the host behind each. */
function accelerated(subject: Subject): Accelerated[] {
  const { args, topology } = subject;
  return args.devices
    .filter((one) => one.model.name === "arm-smmuv3" && booleanProperty(one, "accel"))
    .map((smmu) => ({ smmu, functions: topology.passedThrough.filter((fn) => topology.iommuOf(fn) === smmu) }))
    .filter(({ functions }) => functions.length > 0);
}

/** The physical SMMU that serves it; null: unknown. */
function served(subject: Subject, { functions }: Accelerated): SmmuFacts | null {
  const first = subject.hostFunction(functions[0]);
  const iommu = first === null || subject.host === null ? null : new HostFacts(subject.host).factsOf(first).iommu;
  return iommu?.kind === "smmuv3" ? iommu : null;
}

export function invalidationCalls(subject: Subject): Raised[] {
  const all = accelerated(subject).map((one) => ({ ...one, facts: served(subject, one), off: textProperty(one.smmu, "ril") === "off" }));
  const unused = all.filter(({ facts, off }) => off && facts?.offer.ril.value === true);
  const rest = all.filter((one) => !unused.includes(one));
  const pageByPage = rest.filter(({ facts, off }) => off || facts?.offer.ril.value === false);
  return [
    ...unused.map(({ smmu, facts }): Raised => ({
      rule: "ril-unused",
      words: `${deviceLabel(smmu)} has ril=off, and ${facts!.name} has range invalidation`,
      found: "a guest invalidates each page by a command of its own, and QEMU does each by a system call",
      wouldWork: "ril=on",
      spot: subject.spotOf(smmu, "ril"),
      mend: [{ kind: "set", option: subject.optionOf(smmu), property: "ril", value: "on" }],
    })),
    ...(rest.length === 0
      ? []
      : [
          {
            rule: "invalidation-calls",
            words: `invalidations behind ${rest.map(({ smmu }) => deviceLabel(smmu)).join(", ")} are a system call each`,
            found: `QEMU 11.1 does not batch a guest's commands${pageByPage.length === 0 ? "" : `; without range invalidation each page is one behind ${pageByPage.map(({ smmu }) => deviceLabel(smmu)).join(", ")}`}`,
            spot: subject.spotOf((pageByPage[0] ?? rest[0]).smmu, pageByPage[0]?.off === true ? "ril" : "accel"),
          } as const,
        ]),
  ];
}

export function migrationBlocked(subject: Subject): Raised[] {
  const { line, left } = subject;
  const all = accelerated(subject);
  if (all.length === 0) {
    return [];
  }
  const only = line.options.findIndex(({ name }, at) => name === "only-migratable" && !left.has(at));
  return [
    {
      rule: "migration-blocked",
      level: only < 0 ? "note" : "error",
      words: "Migration not supported with SMMUv3 accelerator mode enabled",
      found: `${all.map(({ smmu, functions }) => `${deviceLabel(smmu)} with ${functions.map(deviceLabel).join(", ")}`).join("; ")}${only < 0 ? "" : "; and -only-migratable"}`,
      spot: only < 0 ? subject.spotOf(all[0].smmu, "accel") : { option: only },
      mend: only < 0 ? undefined : [{ kind: "remove", option: only }],
    },
  ];
}

/** The kernel passes a guest's commands once, where the silicon wants them twice (IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI). */
export function lostInvalidations(subject: Subject): Raised[] {
  return accelerated(subject).flatMap((one): Raised[] => {
    const facts = served(subject, one);
    if (facts?.description.errata.includes("nvidia-t264-smmu-3") !== true) {
      return [];
    }
    return [
      {
        rule: "lost-invalidations",
        words: `${facts.name} has erratum T264-SMMU-3, and QEMU 11.1 issues a guest's TLBI and CFGI once`,
        found: `${deviceLabel(one.smmu)} is served by it: an invalidation that is not repeated after its CMD_SYNC may be lost, and the function keeps what the guest has taken away`,
        wouldWork: "a monitor that repeats them, as viommu does",
        spot: subject.spotOf(one.smmu, "accel"),
      },
    ];
  });
}
