/** All registers of a unit, field by field. */
import { extract, hex, highWord, lowWord, Refusal } from "../../support/index.js";
import type { RegisterReport, RegistersReport } from "../report/index.js";
import { decodeFields, type Meanings } from "./fields.js";
import type { RegisterLayout } from "./register-layout.js";
import { registerMeanings } from "./register-meanings.js";
import { SMMU_REGISTERS } from "./smmuv3-registers.js";
import type { InspectionSource, UnitState } from "./source.js";
import { vtdRegisters } from "./vtd-registers.js";

/** @throws Refusal where no IOMMU has the id */
export function registersReport(source: InspectionSource, iommu: string): RegistersReport {
  const units = source.units();
  const unit = units.find(({ id }) => id === iommu);
  if (unit !== undefined) {
    const { id, side, architecture } = unit;
    return { iommu: id, side, architecture, registers: registersOf(unit), unknown: side === "host" ? "registers of queues and interrupts: the simulated unit has none in memory" : null };
  }
  const host = source.map().host;
  const described = host.iommus.find(({ id }) => id === iommu);
  if (described === undefined) {
    throw unknownName("IOMMU", iommu, [...units.map(({ id }) => id), ...host.iommus.map(({ id }) => id)]);
  }
  return { iommu, side: "host", architecture: described.architecture === "vtd" ? "vtd" : "smmuv3", registers: [], unknown: `registers of ${iommu}: ${host.description} does not show them` };
}

/** What is asked by a name that nothing has: it names what there is. */
export function unknownName(what: string, name: string, known: Iterable<string>): Refusal {
  const names = [...new Set(known)].join(", ");
  return new Refusal(`there is no ${what} '${name}'${names === "" ? "" : `; there are: ${names}`}`, { found: name, wouldWork: names === "" ? undefined : names });
}

function registersOf({ architecture, registers }: UnitState): RegisterReport[] {
  const value = (name: string): bigint => registers.get(name) ?? 0n;
  const capability = lowWord(value(architecture === "smmuv3" ? "IDR0" : "ECAP"));
  const layouts = architecture === "smmuv3" ? SMMU_REGISTERS : vtdRegisters(value("CAP"), value("ECAP"));
  const meanings = registerMeanings(architecture, registers);
  return layouts
    .filter(({ name, needs }) => registers.has(name) && (needs === undefined || extract(capability, needs) !== 0))
    .flatMap((layout) => {
      const own = report(layout, layout.name, value(layout.name), meanings[layout.name]);
      const written = registers.get(`${layout.name}_WRITTEN`);
      return written === undefined ? [own] : [own, report(layout, `${layout.name} (written, not taken over)`, written, meanings[layout.name])];
    });
}

function report({ offset, bits, section, layout }: RegisterLayout, name: string, value: bigint, meanings: Meanings | undefined): RegisterReport {
  return { name, offset, bits, value: hex(value), section, fields: decodeFields(layout, [lowWord(value), highWord(value)], meanings) };
}
