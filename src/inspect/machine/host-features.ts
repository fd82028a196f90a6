/** What a physical IOMMU offers, in words of host files and of the machine's properties, out of its registers. */
import { type Field, get, highWord, lowWord } from "../../support/index.js";
import { extract, IDR0, IDR1, IDR3, IDR5, OAS_BITS } from "../../smmuv3/spec/index.js";
import { CAP, ECAP } from "../../vtd/spec/index.js";
import type { HostIommuReport } from "../report/index.js";

export function featuresOf(architecture: HostIommuReport["architecture"], registers: ReadonlyMap<string, bigint>): Record<string, string> {
  return architecture === "smmuv3" ? smmuFeatures(registers) : architecture === "vtd" ? vtdFeatures(registers) : {};
}

function smmuFeatures(registers: ReadonlyMap<string, bigint>): Record<string, string> {
  const word = (name: string): number => lowWord(registers.get(name) ?? 0n);
  const [idr0, idr1, idr3, idr5] = ["IDR0", "IDR1", "IDR3", "IDR5"].map(word);
  const on = (value: number, field: Field): string => (extract(value, field) === 0 ? "off" : "on");
  const granules = ([["4K", IDR5.GRAN4K], ["16K", IDR5.GRAN16K], ["64K", IDR5.GRAN64K]] as const).filter(([, field]) => extract(idr5, field) !== 0);
  const stages = ([["1", IDR0.S1P], ["2", IDR0.S2P]] as const).filter(([, field]) => extract(idr0, field) !== 0).map(([name]) => name);
  return {
    stages: stages.join(", "),
    oas: String(OAS_BITS[extract(idr5, IDR5.OAS)]),
    granules: granules.map(([name]) => name).join(", "),
    sidsize: String(extract(idr1, IDR1.SIDSIZE)),
    ssidsize: String(extract(idr1, IDR1.SSIDSIZE)),
    ats: on(idr0, IDR0.ATS),
    pri: on(idr0, IDR0.PRI),
    ril: on(idr3, IDR3.RIL),
    httu: ["off", "access flag", "access flag and dirty state", "reserved"][extract(idr0, IDR0.HTTU)],
    streamTable: extract(idr0, IDR0.ST_LEVEL) === 0 ? "linear" : "two levels",
    stalls: ["stall and terminate", "terminate", "stall", "reserved"][extract(idr0, IDR0.STALL_MODEL)],
  };
}

function vtdFeatures(registers: ReadonlyMap<string, bigint>): Record<string, string> {
  const words = (name: string): Int32Array => {
    const value = registers.get(name) ?? 0n;
    return Int32Array.of(lowWord(value), highWord(value));
  };
  const [cap, ecap] = [words("CAP"), words("ECAP")];
  const on = (register: Int32Array, field: Field): string => (get(register, field) === 0 ? "off" : "on");
  const sagaw = get(cap, CAP.SAGAW);
  const pages = get(cap, CAP.SSLPS);
  return {
    scalableMode: on(ecap, ECAP.SMTS),
    firstStage: on(ecap, ECAP.FSTS),
    secondStage: on(ecap, ECAP.SSTS),
    nesting: on(ecap, ECAP.NEST),
    pasidBits: get(ecap, ECAP.PASID) === 0 ? "0" : String(get(ecap, ECAP.PSS) + 1),
    sagaw: [39, 48, 57].filter((_width, index) => (sagaw & (2 << index)) !== 0).join(", "),
    mgaw: String(get(cap, CAP.MGAW) + 1),
    firstStage1g: on(cap, CAP.FS1GP),
    firstStage5Level: on(cap, CAP.FS5LP),
    secondStagePages: ["4K", ...((pages & 1) !== 0 ? ["2M"] : []), ...((pages & 2) !== 0 ? ["1G"] : [])].join(", "),
    deviceTlb: on(ecap, ECAP.DT),
    dirtyTracking: on(ecap, ECAP.SSADS),
    snoopControl: on(ecap, ECAP.SC),
    supervisor: on(ecap, ECAP.SRS),
    interruptRemapping: on(ecap, ECAP.IR),
    cachingMode: on(cap, CAP.CM),
  };
}
