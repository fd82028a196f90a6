/** The models' translators with a unit's registers, and nothing in their caches. */
import type { WordMemory } from "../../memory/index.js";
import { featuresOf as smmuFeaturesOf, type LookupFeatures, StreamTranslator } from "../../smmuv3/lookup/index.js";
import { CR0, CR2, extract, GBPA, STRTAB_BASE, STRTAB_BASE_CFG } from "../../smmuv3/spec/index.js";
import { get, getAddress, highWord, lowWord } from "../../support/index.js";
import type { PageWalker } from "../../translation/index.js";
import { featuresOf as vtdFeaturesOf, type VtdFeatures, VtdTranslator } from "../../vtd/lookup/index.js";
import { CAP, GCMD, RTADDR } from "../../vtd/spec/index.js";
import { halves } from "./structure-layout.js";
import type { InspectionSource, UnitState } from "./source.js";

/** A TLB of one translation that is asked once. */
const SMALLEST = { tlbEntries: 64 };

export function word32(unit: UnitState, name: string): number {
  return lowWord(unit.registers.get(name) ?? 0n);
}

export function smmuFeatures(unit: UnitState): LookupFeatures {
  return smmuFeaturesOf(["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5"].map((name) => word32(unit, name)));
}

export function smmuTranslator(unit: UnitState, memory: WordMemory, walker?: PageWalker): StreamTranslator {
  const translator = new StreamTranslator(memory, smmuFeatures(unit), { ...SMALLEST, walker });
  const config = word32(unit, "STRTAB_BASE_CFG");
  translator.enabled = extract(word32(unit, "CR0"), CR0.SMMUEN) !== 0;
  translator.atsCheck = extract(word32(unit, "CR0"), CR0.ATSCHK) !== 0;
  translator.recordInvalidSid = extract(word32(unit, "CR2"), CR2.RECINVSID) !== 0;
  translator.recordAtsErrors = extract(word32(unit, "CR2"), CR2.REC_CFG_ATS) !== 0;
  translator.globalAbort = extract(word32(unit, "GBPA"), GBPA.ABORT) !== 0;
  translator.table.base = getAddress(wide(unit, "STRTAB_BASE"), STRTAB_BASE.ADDR);
  translator.table.log2Size = extract(config, STRTAB_BASE_CFG.LOG2SIZE);
  translator.table.split = extract(config, STRTAB_BASE_CFG.SPLIT);
  translator.table.format = extract(config, STRTAB_BASE_CFG.FMT);
  return translator;
}

/**
 * What no register tells: a machine's unit has addresses as wide as its second stage (QEMU's aw-bits), a host's 52 bits;
 * erratum 772415 is the host's.
 */
export function vtdFeatures(unit: UnitState, source: InspectionSource): VtdFeatures {
  const [cap, ecap] = [unit.registers.get("CAP") ?? 0n, unit.registers.get("ECAP") ?? 0n];
  const guest = unit.side === "guest";
  const hostAddressBits = guest ? get(halves([cap]), CAP.MGAW) + 1 : 52;
  const erratum = !guest && source.map().host.iommus.some(({ id, errata }) => id === unit.id && errata.includes("772415"));
  return { ...vtdFeaturesOf(cap, ecap, hostAddressBits), updatesReadOnly: erratum };
}

export function vtdTranslator(unit: UnitState, source: InspectionSource, memory: WordMemory, walker?: PageWalker): VtdTranslator {
  const features = vtdFeatures(unit, source);
  const translator = new VtdTranslator(memory, features, { ...SMALLEST, coherentWalks: unit.side === "guest", walker });
  const root = wide(unit, "RTADDR");
  // TES is where GCMD has TE (11.4.4.2).
  translator.enabled = extract(word32(unit, "GSTS"), GCMD.TE) !== 0;
  translator.rootTable = getAddress(root, RTADDR.RTA) % 2 ** features.hostAddressBits;
  translator.mode = get(root, RTADDR.TTM);
  return translator;
}

function wide(unit: UnitState, name: string): Int32Array {
  const value = unit.registers.get(name) ?? 0n;
  return Int32Array.of(lowWord(value), highWord(value));
}
