/** The properties of q35's intel-iommu, which all functions share: what each unit behind them has. */
import { Refusal } from "../support/index.js";
import type { QemuVersion } from "./design.js";
import type { AmdFacts, FunctionFacts, HostFacts, VtdFacts } from "./host-facts.js";
import type { PlannedVtd } from "./report/index.js";

/** APIC ids of 8 bits reach this far (the last one is for all). */
const CPUS_WITHOUT_EIM = 255;

/**
 * @param all the functions, and those that no IOMMU of the guest covers: one IOAS is of all, and is as narrow as the narrowest of their tables
 * @throws Refusal where a unit translates not even addresses of 39 bits
 */
export function planVtd(facts: HostFacts, functions: readonly FunctionFacts[], all: readonly FunctionFacts[], cpus: number, qemu: QemuVersion): PlannedVtd {
  const unitsOf = (which: readonly FunctionFacts[]): Array<VtdFacts | AmdFacts> =>
    [...facts.iommus.values()].filter((iommu): iommu is VtdFacts | AmdFacts => iommu.kind !== "smmuv3" && which.some((fn) => fn.iommu === iommu));
  const units = unitsOf(functions);
  const sharing = unitsOf(all);
  const named = (which: ReadonlyArray<VtdFacts | AmdFacts>): string => which.map(({ name }) => name).join(", ");
  const flat = units.filter(({ offer }) => !offer.fsts.value);
  const fsts = flat.length === 0 && qemu !== "10.2";
  const because: string[] = [];
  if (fsts) {
    because.push(`${qemu === "11.0" ? "x-scalable-mode=on,x-flts=on" : "scalable-mode=on,fsts=on"}: ${named(units)} nest${units.length === 1 ? "s" : ""} (${units[0].offer.fsts.because}), the guest's first-stage tables are walked by the host's hardware`);
  } else {
    const why = flat.length > 0 ? flat.map(({ name, obstacle }) => `${name} ${obstacle!}`).join("; ") : "this QEMU nests no first stage of passed-through functions, 11.0 was the first";
    because.push(`no first stage: ${why}. The guest's second-stage tables are mirrored into the host's: each mapping and unmapping of the guest's is an exit and calls of the host`);
  }
  because.push(
    fsts
      ? "caching-mode=on: PASID entries, and functions that are plugged, are told when they become present (VT-d 6.1)"
      : "caching-mode=on: mappings are told when they become present, which mirrors live on (VT-d 6.1)",
  );
  const aw = fsts ? 48 : Math.min(...sharing.map(({ offer }) => offer.awBits.value ?? 0));
  if (aw !== 39 && aw !== 48) {
    const narrow = sharing.find(({ offer }) => offer.awBits.value === null)!;
    throw new Refusal(`aw-bits 39 > host aw-bits ${narrow.offer.awBits.because}`, { found: `${narrow.name}: ${narrow.offer.awBits.because}`, wouldWork: "functions behind an IOMMU with addresses of 39 bits or more" });
  }
  if (fsts) {
    because.push("aw-bits=48: a first stage has four levels");
  } else {
    const least = sharing.find(({ offer }) => offer.awBits.value === aw)!;
    because.push(`aw-bits=${aw}: ${least.name}, ${least.offer.awBits.because}`);
  }
  const withPasids = fsts && qemu !== "11.0" ? units.filter((unit) => functions.some((fn) => fn.iommu === unit && (fn.description.pasidBits ?? 0) > 0)) : [];
  const pasidBits = withPasids.length === 0 ? 0 : Math.min(...withPasids.map(({ offer }) => offer.pasidBits.value));
  if (fsts) {
    because.push(qemu === "11.0" ? "no PASIDs: QEMU 11.0 attaches none of passed-through functions (11.1 does, pasid-bits)" : withPasids.length === 0 ? "pasid-bits=0: no function here has PASIDs" : `pasid-bits=${pasidBits}: ${withPasids.map(({ name, offer }) => `${name} ${offer.pasidBits.because}`).join(", ")}`);
  }
  const deviceIotlb = fsts && functions.some(({ description }) => description.ats === true);
  if (deviceIotlb) {
    because.push(`device-iotlb=on: ${functions.filter(({ description }) => description.ats === true).map(({ description }) => description.address).join(", ")} and the unit have ATS`);
  }
  const with1g = units.every(({ offer }) => offer.fs1gp.value);
  const fs1gp = fsts && with1g;
  if (fsts && !with1g) {
    because.push(`fs1gp=off: ${named(units.filter(({ offer }) => !offer.fs1gp.value))} ${units.find(({ offer }) => !offer.fs1gp.value)!.offer.fs1gp.because}`);
  }
  const eim = cpus > CPUS_WITHOUT_EIM;
  because.push(`intremap=on with kernel-irqchip=split: messages of passed-through functions are remapped${eim ? `; eim=on for ${cpus} CPUs` : ""}`);
  return { id: "iommu0", fsts, fs1gp, pasidBits, awBits: aw, deviceIotlb, eim, because };
}
