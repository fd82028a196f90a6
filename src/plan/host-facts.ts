/**
 * What a machine's designer has to know of a host: behind which of its IOMMUs a function is, what a guest behind that one
 * may be shown, and what keeps a function from being passed through. What the description does not say is null: unknown.
 */
import type { AmdDescription, FunctionDescription, HostDescription, SmmuDescription, VtdDescription } from "../host/simulated/file/index.js";
import { capabilityRegisters } from "../host/simulated/hardware/index.js";
import { denylisted, nestingObstacle, plainAddressBits, smmuFeatures, unitFeatures } from "../host/simulated/kernel/index.js";
import { iommuOf } from "../host/simulated/names/index.js";
import { FIRMWARE_WANTS_DIRECT } from "../iommufd/index.js";
import { checkHostServes, featuresOfHost, idRegisters } from "../smmuv3/index.js";
import { extract, IDR0, IDR1, IDR3, IDR5, OAS_BITS } from "../smmuv3/spec/index.js";
import { get, Refusal } from "../support/index.js";
import { addressBitsOf, nestingGaps, pasidBitsOf } from "../vtd/index.js";
import { CAP, ECAP } from "../vtd/spec/index.js";

/** A feature that a guest may be shown, and the host's fact that it comes from. */
export interface Offered<Value> {
  readonly value: Value;
  /** `IDR1.SSIDSIZE=20`. */
  readonly because: string;
}

/** The most that an accelerated SMMU on this one may show its guest. */
export interface SmmuOffer {
  readonly ril: Offered<boolean>;
  readonly ats: Offered<boolean>;
  /** Bits of output addresses. */
  readonly oas: Offered<44 | 48>;
  /** Bits of SubstreamIDs, 0 to 20. */
  readonly ssidsize: Offered<number>;
}

/** The most that an intel-iommu on this unit may show its guest. */
export interface VtdOffer {
  /** First-stage tables of the guest's, which this unit walks. */
  readonly fsts: Offered<boolean>;
  /** Pages of 1 GiB in first-stage tables. */
  readonly fs1gp: Offered<boolean>;
  readonly pasidBits: Offered<number>;
  /** Width of addresses where the guest's second stages are mirrored (with a first stage it is 48); null: not even 39 bits. */
  readonly awBits: Offered<39 | 48 | null>;
  readonly deviceIotlb: Offered<boolean>;
}

interface CommonFacts {
  /** The kernel's name of the instance. */
  readonly name: string;
  /** Null: none, or unknown. */
  readonly numaNode: number | null;
  /** Why no guest's tables can be nested in this one's, a sentence without its name; null: they can. */
  readonly obstacle: string | null;
}

export interface SmmuFacts extends CommonFacts {
  readonly kind: "smmuv3";
  readonly description: SmmuDescription;
  readonly offer: SmmuOffer;
}

export interface VtdFacts extends CommonFacts {
  readonly kind: "vtd";
  readonly description: VtdDescription;
  readonly offer: VtdOffer;
}

/** An AMD IOMMU: described, and no guest's tables are nested in it. */
export interface AmdFacts extends CommonFacts {
  readonly kind: "amd";
  readonly description: AmdDescription;
  readonly offer: VtdOffer;
  readonly obstacle: string;
}

export type IommuFacts = SmmuFacts | VtdFacts | AmdFacts;

export interface FunctionFacts {
  readonly description: FunctionDescription;
  /** Null: there is none in front of it. */
  readonly iommu: IommuFacts | null;
  /** Its own, else its IOMMU's; null: unknown. */
  readonly numaNode: number | null;
  /** Number of its IOMMU group; null: unknown. */
  readonly group: number | null;
  /** The other functions of its group that are not bridges. */
  readonly companions: readonly FunctionDescription[];
  /** Why it cannot be passed through, whatever the machine; empty: it can. */
  readonly obstacles: readonly Refusal[];
  /** What is to be done on the host before the machine starts, a line each. */
  readonly preparations: readonly string[];
}

const BRIDGE_CLASS = 0x06;
const known = (node: number): number | null => (node < 0 ? null : node);
const baseClass = ({ class: code }: FunctionDescription): number => code >>> 16;

export class HostFacts {
  readonly iommus: ReadonlyMap<string, IommuFacts>;
  private readonly byAddress: ReadonlyMap<string, FunctionDescription>;
  private readonly groups = new Map<number, FunctionDescription[]>();

  constructor(readonly host: HostDescription) {
    this.iommus = new Map([...host.smmus.map(smmuFacts), ...host.vtds.map(vtdFacts), ...host.amds.map(amdFacts)].map((one) => [one.name, one]));
    this.byAddress = new Map(host.functions.map((fn) => [fn.address, fn]));
    for (const fn of host.functions) {
      const group = groupOf(fn);
      if (group !== null) {
        this.groups.set(group, [...(this.groups.get(group) ?? []), fn]);
      }
    }
  }

  /** The machine that the host's processors run; null: unknown. */
  get board(): "virt" | "q35" | null {
    const { smmus, vtds, amds, architecture } = this.host;
    return smmus.length > 0 || architecture === "aarch64" ? "virt" : vtds.length + amds.length > 0 || architecture === "x86_64" ? "q35" : null;
  }

  /** @param address as a user writes it: with or without its segment. @throws Refusal where the host has no such function */
  function(address: string): FunctionFacts {
    const lower = address.toLowerCase();
    const full = /^[0-9a-f]{1,2}:[0-9a-f]{1,2}\.[0-7]$/.test(lower) ? `0000:${lower}` : lower;
    const description = this.byAddress.get(full.replace(/^([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\./, (_all, ...parts: string[]) => `${parts[0].padStart(4, "0")}:${parts[1].padStart(2, "0")}:${parts[2].padStart(2, "0")}.`));
    if (description === undefined) {
      const all = [...this.byAddress.keys()].sort();
      throw new Refusal(`vfio ${address}: no such host device`, {
        found: `${address}, which ${this.host.name} does not have`,
        wouldWork: all.length === 0 ? "a host with PCI functions" : `one of ${all.slice(0, 12).join(", ")}${all.length > 12 ? ` and ${all.length - 12} more` : ""}`,
      });
    }
    return this.factsOf(description);
  }

  factsOf(description: FunctionDescription): FunctionFacts {
    const iommu = this.iommus.get(iommuOf(description) ?? "") ?? null;
    const group = groupOf(description);
    const companions = (group === null ? [] : this.groups.get(group)!).filter((other) => other !== description && baseClass(other) !== BRIDGE_CLASS);
    return {
      description,
      iommu,
      numaNode: known(description.numaNode) ?? iommu?.numaNode ?? null,
      group,
      companions,
      obstacles: this.obstacles(description, iommu),
      preparations: description.driver.includes("vfio") ? [] : [`${description.address} (${description.name}) is bound to ${description.driver || "no driver"}: give it to vfio-pci`],
    };
  }

  private obstacles(fn: FunctionDescription, iommu: IommuFacts | null): Refusal[] {
    const refusals: Refusal[] = [];
    if (iommu === null) {
      refusals.push(new Refusal(`vfio ${fn.address}: no iommu_group found: No such file or directory`, { found: `${fn.address} (${fn.name}), which no IOMMU of ${this.host.name} is in front of`, wouldWork: "a function behind an IOMMU" }));
    }
    if (baseClass(fn) === BRIDGE_CLASS) {
      refusals.push(new Refusal(`vfio ${fn.address}: a bridge is not passed through`, { found: `${fn.address} (${fn.name}), class ${fn.class.toString(16).padStart(6, "0")}`, wouldWork: "the functions behind it" }));
    }
    const direct = fn.reserved?.find(({ type }) => type === "direct");
    if (direct !== undefined) {
      const range = `0x${direct.base.toString(16)} to 0x${(direct.base + direct.size - 1).toString(16)}`;
      refusals.push(new Refusal(FIRMWARE_WANTS_DIRECT, { found: `${fn.address} (${fn.name}), whose range ${range} firmware wants mapped one to one (RMRR)`, wouldWork: "a firmware setting that takes the range away, or another function" }));
    }
    const denied = denylisted(fn);
    if (denied !== null) {
      refusals.push(new Refusal(`vfio ${fn.address}: ${denied}`, { found: `${fn.address} (${fn.name}), which vfio-pci does not take for its errata`, wouldWork: "another function" }));
    }
    return refusals;
  }
}

/** Host descriptions say it where it is known. */
function groupOf(fn: FunctionDescription): number | null {
  return fn.group;
}

/** Of an SMMU whose ID registers nobody could read: the least that an accelerated SMMU has, and an obstacle until they are. */
function unknownSmmu(description: SmmuDescription): SmmuFacts {
  const because = "its ID registers are not known";
  const offer: SmmuOffer = { ril: { value: false, because }, ats: { value: false, because }, oas: { value: 44, because }, ssidsize: { value: 0, because } };
  return { kind: "smmuv3", name: description.name, numaNode: known(description.numaNode), obstacle: "has ID registers that are not known", description, offer };
}

function smmuFacts(description: SmmuDescription): SmmuFacts {
  const { idr0, idr1, idr2, idr3, idr4, idr5, errata } = description;
  if (idr0 === null || idr1 === null || idr5 === null) {
    return unknownSmmu(description);
  }
  const idr = Int32Array.of(idr0, idr1, idr2, idr3, idr4, idr5);
  const features = featuresOfHost(idr);
  const { ril, ats, ssidBits } = features;
  const oas = features.oasBits >= 48 ? 48 : 44;
  const hasErratum = (name: (typeof errata)[number]): boolean => errata.includes(name);
  let obstacle = nestingObstacle(smmuFeatures({ idr, iidr: description.iidr, hasErratum }), description.coherent);
  try {
    checkHostServes(idr, idRegisters({ stage: "1", ril, ats, oas, ssidsize: ssidBits, cd2l: features.cd2l, msi: false }), { smmu: "an accelerated SMMU", device: "its functions", hostIommu: description.name });
  } catch (error) {
    if (!(error instanceof Refusal)) {
      throw error;
    }
    obstacle ??= `cannot serve an accelerated SMMU: ${error.words}`;
  }
  return {
    kind: "smmuv3",
    name: description.name,
    numaNode: known(description.numaNode),
    obstacle,
    description,
    offer: {
      ril: { value: ril, because: `IDR3.RIL=${extract(idr3, IDR3.RIL)}` },
      ats: { value: ats, because: `IDR0.ATS=${extract(idr0, IDR0.ATS)}` },
      oas: { value: oas, because: `IDR5.OAS=${OAS_BITS[extract(idr5, IDR5.OAS)]} bits` },
      ssidsize: { value: ssidBits, because: `IDR1.SSIDSIZE=${extract(idr1, IDR1.SSIDSIZE)}` },
    },
  };
}

function amdFacts(description: AmdDescription): AmdFacts {
  const obstacle = "is an AMD unit, in which no guest's tables are nested";
  const none = { value: false, because: obstacle };
  return {
    kind: "amd",
    name: description.name,
    numaNode: known(description.numaNode),
    obstacle,
    description,
    offer: { fsts: none, fs1gp: none, pasidBits: { value: 0, because: obstacle }, awBits: { value: 48, because: "tables of AMD's take IOVAs of 48 bits and more" }, deviceIotlb: none },
  };
}

function vtdFacts(description: VtdDescription): VtdFacts {
  const { cap, ecap } = capabilityRegisters(description);
  const words = (register: bigint): Int32Array => new Int32Array(BigUint64Array.of(register).buffer);
  const host = { cap: words(cap), ecap: words(ecap) };
  const gaps = nestingGaps(host);
  const bits = addressBitsOf(host);
  const plain = plainAddressBits(unitFeatures({ cap, ecap, hasErratum: () => false }));
  const narrow = gaps.length === 0 && bits < 48;
  const obstacle = gaps.length > 0 ? `does not nest: it lacks ${gaps.join(", ")}` : narrow ? `does not nest for a guest with addresses of 48 bits: CAP.MGAW has ${bits}` : null;
  const usable = Math.min(bits, plain);
  const flag = (name: string, value: number): Offered<boolean> => ({ value: value !== 0, because: `${name}=${value}` });
  return {
    kind: "vtd",
    name: description.name,
    numaNode: known(description.numaNode),
    obstacle,
    description,
    offer: {
      fsts: { value: obstacle === null, because: gaps.length === 0 && !narrow ? "ECAP.SMTS, FSTS and NEST are 1" : obstacle! },
      fs1gp: flag("CAP.FS1GP", get(host.cap, CAP.FS1GP)),
      pasidBits: { value: Math.min(pasidBitsOf(host), 20), because: pasidBitsOf(host) === 0 ? "ECAP.PASID=0" : `ECAP.PSS of ${pasidBitsOf(host)} bits` },
      awBits: { value: usable >= 48 ? 48 : usable >= 39 ? 39 : null, because: usable < bits ? `its tables take IOVAs of ${usable} bits` : `CAP.MGAW of ${bits} bits` },
      deviceIotlb: flag("ECAP.DT", get(host.ecap, ECAP.DT)),
    },
  };
}
