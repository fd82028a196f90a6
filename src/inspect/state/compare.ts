/** The guest's entries beside those that the kernel's hardware has, field by field, and why they differ. */
import type { ComparedEntry, ComparedField, FieldReport, MachineFunctionReport } from "../report/index.js";
import { configurationOf, type ConfigurationEntry } from "./configuration.js";
import type { InspectionSource, UnitState } from "./source.js";
import { decodeStructure } from "./structure-layout.js";

/** Of an STE what the kernel takes of the guest's (linux/iommufd.h, struct iommu_hwpt_arm_smmuv3). */
export const TAKEN_OF_STE: readonly string[] = ["V", "Config", "S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "S1CIR", "S1COR", "S1CSH", "S1STALLD", "EATS"];

/** Of a PASID table entry what becomes struct iommu_hwpt_vtd_s1: addr_width, pgtbl_addr, and flags. */
export const TAKEN_OF_PASID_ENTRY: Readonly<Record<string, string>> = { FSPTPTR: "pgtbl_addr", FSPM: "addr_width", SRE: "flags: SRE", EAFE: "flags: EAFE", WPE: "flags: WPE" };

export function comparedEntries(source: InspectionSource, fn: MachineFunctionReport, guest: UnitState, host: UnitState, hostStreamId: number, pasid: number): ComparedEntry[] {
  if (guest.architecture !== host.architecture || fn.streamId === null) {
    return [];
  }
  const reason = source.map().attachments.find((one) => one.function === fn.function && one.pasid === (pasid < 0 ? null : pasid))?.reason ?? "";
  const own = configurationOf(guest, source, fn.streamId, pasid);
  const others = configurationOf(host, source, hostStreamId, pasid);
  const kinds = guest.architecture === "smmuv3" ? ["STE"] : ["context entry", "PASID entry"];
  return kinds.flatMap((kind): ComparedEntry[] => {
    const [ours, theirs] = [own.find((one) => one.kind === kind), others.find((one) => one.kind === kind)];
    const named = ours ?? theirs;
    if (named === undefined) {
      return [];
    }
    const [guestFields, hostFields] = [fieldsOf(ours), fieldsOf(theirs)];
    const names = [...new Set([...guestFields.keys(), ...hostFields.keys()])];
    const sameLayout = ours === undefined || theirs === undefined || ours.layout.name === theirs.layout.name;
    return [
      {
        name: kind === "STE" ? `STE of StreamID 0x${fn.streamId!.toString(16)}` : kind === "context entry" ? `context entry of 0x${fn.streamId!.toString(16)}` : `PASID table entry ${pasid < 0 ? "of requests without PASID" : pasid}`,
        section: named.layout.section,
        fields: names.map((name) => compareField(kind, guestFields.get(name) ?? null, hostFields.get(name) ?? null, sameLayout, reason)),
      },
    ];
  });
}

function fieldsOf(entry: ConfigurationEntry | undefined): Map<string, FieldReport> {
  return new Map(entry === undefined ? [] : decodeStructure(entry.layout, entry.words).map((field) => [field.name, field]));
}

function compareField(kind: string, guest: FieldReport | null, host: FieldReport | null, sameLayout: boolean, reason: string): ComparedField {
  const { name, high, low } = (host ?? guest)!;
  const taken = kind === "STE" ? TAKEN_OF_STE.includes(name) : kind === "PASID entry" && name in TAKEN_OF_PASID_ENTRY;
  const same = guest !== null && host !== null && BigInt(guest.value) === BigInt(host.value);
  const empty = guest === null || BigInt(guest.value) === 0n;
  const fate = same && sameLayout ? (taken && !empty ? "taken" : "same") : empty ? "made" : host === null || BigInt(host.value) === 0n ? "dropped" : taken ? "made" : "dropped";
  const why = fate === "same" || fate === "taken" ? null : whyOf(kind, name, fate, taken, reason);
  return { name, high, low, guest: guest?.value ?? null, host: host?.value ?? null, meaning: (host ?? guest)!.meaning, fate, why };
}

function whyOf(kind: string, name: string, fate: "dropped" | "made", taken: boolean, reason: string): string {
  const because = reason === "" ? "" : `: ${reason}`;
  if (kind === "STE") {
    if (name === "Config" || name === "V") {
      return `the host has stage 2 and decides what stage 1 is${because}`;
    }
    if (name === "S1STALLD") {
      return "the machine's SMMU has no stalls (IDR0.STALL_MODEL): a host that can stall is told not to";
    }
    if (name.startsWith("S2")) {
      return fate === "made" ? "stage 2 is the host's" : "stage 2 is the host's: the guest has none";
    }
    return taken ? `the kernel takes it where the guest was offered it, and stage 1 of the guest is in use${because}` : fate === "dropped" ? "not a field that the kernel takes (linux/iommufd.h, struct iommu_hwpt_arm_smmuv3)" : "the kernel's own";
  }
  if (kind === "context entry") {
    return name === "PASIDDIRPTR" || name === "PDTS" ? "the host has a PASID directory of its own" : "context entries are the host's: of the guest's entries the kernel takes first-stage tables alone";
  }
  if (name in TAKEN_OF_PASID_ENTRY) {
    return `the kernel takes it as ${TAKEN_OF_PASID_ENTRY[name]} (struct iommu_hwpt_vtd_s1) where the entry is a first stage's${because}`;
  }
  if (name === "PGTT") {
    return `the guest's first stage is nested on the host's second stage${because}`;
  }
  return name === "SSPTPTR" || name === "AW" || name === "SSADE" ? "the second stage is the host's" : name === "DID" ? "domain ids are the host's" : fate === "dropped" ? "not a field that the kernel takes (struct iommu_hwpt_vtd_s1)" : "the kernel's own";
}
