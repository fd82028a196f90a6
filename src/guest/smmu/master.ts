/**
 * A function that issues DMA through an SMMU, with its StreamIDs: Linux's arm_smmu_master and the sequences
 * in which it is attached to domains. Every change is a write of entries, CFGI, CMD_SYNC; PCI ATS is turned on
 * after the STE allows it and off before it stops to.
 */
import {
  CD_WORDS,
  OP,
  STE,
  STE_CONFIG_ABORT,
  STE_CONFIG_BYPASS,
  STE_CONFIG_S1,
  STE_CONFIG_S2,
  STE_EATS_FULL,
  STE_S1DSS_BYPASS,
  STE_S1DSS_SSID0,
  STE_S1DSS_TERMINATE,
  STE_SHCFG_INCOMING,
  OAS_BITS,
  buildCd,
  buildSte,
  encodeCommand,
  get,
} from "../../smmuv3/spec/index.js";
import { check } from "../failure.js";
import { toQwords } from "../iommu/words.js";
import type { AtsControl, IommuMaster } from "../iommu/driver.js";
import type { SmmuDomain, SmmuOfDomain } from "./domain.js";
import { cdKind, planUpdate } from "./entry-writer.js";
import { atcCommand } from "./invalidation-commands.js";
import { MAIR } from "./page-table-format.js";
import { ContextTable } from "./tables.js";

const WRITE_BACK = 1;
const INNER_SHAREABLE = 3;
/** The largest linear context table: 64 KiB of descriptors. */
const LINEAR_CDMAX = 10;

/** What a function asks of its SMMU. */
export interface SmmuOfMaster extends SmmuOfDomain {
  /** Brings a stream's entry to `target`. */
  writeSte(streamId: number, target: Int32Array): Promise<void>;
  forgetMaster(master: SmmuMaster): void;
}

export class SmmuMaster implements IommuMaster {
  /** Where the streams' traffic without SubstreamID goes; null: not attached yet. */
  domain: SmmuDomain | "identity" | "blocked" | null = null;
  /** Domains by SubstreamID. */
  readonly pasidDomains = new Map<number, SmmuDomain>();
  atsEnabled = false;
  readonly pasidBits: number;
  private contexts: ContextTable | null = null;
  private contextsInSte = false;
  private steAts = false;

  constructor(
    private readonly driver: SmmuOfMaster,
    readonly name: string,
    readonly sourceIds: readonly number[],
    /** log2 of the PASIDs that are enabled in the function; 0: none. */
    pasidBits: number,
    /** Where the function and its root complex do ATS. */
    private readonly ats: AtsControl | null,
    /** Firmware demands identity windows for it: without a domain it bypasses instead of aborting. */
    private readonly requireDirect: boolean,
  ) {
    const { features } = driver;
    const bits = Math.min(pasidBits, features.ssidBits);
    this.pasidBits = features.twoLevelContextTable ? bits : Math.min(bits, LINEAR_CDMAX);
  }

  get atsSupported(): boolean {
    return this.driver.features.ats && this.ats !== null;
  }

  /** Stage 1 or 2 by the domain's own tables. */
  async attach(domain: SmmuDomain): Promise<void> {
    if (domain.stage === 2) {
      check(this.pasidDomains.size === 0, `${this.name}: stage 2 alone has no substreams`);
      const ats = await this.prepare(domain, null, this.atsSupported);
      await this.installSte(this.stage2Ste(domain, ats));
      await this.commit(null, this.domain, ats);
      this.domain = domain;
      await this.clearCd(0);
      return;
    }
    const contexts = await this.contextsFor(0);
    const ats = await this.prepare(domain, null, this.atsSupported);
    await this.writeCd(contexts, 0, this.stage1Cd(domain));
    await this.installSte(this.contextSte(contexts, ats, STE_S1DSS_SSID0));
    await this.commit(null, this.domain, ats);
    this.domain = domain;
  }

  /** Bypass: addresses are used as they are. */
  async attachIdentity(): Promise<void> {
    await this.attachWithoutTables("identity");
  }

  /** Everything is aborted without an event. */
  async attachBlocked(): Promise<void> {
    await this.attachWithoutTables("blocked");
  }

  private async attachWithoutTables(kind: "identity" | "blocked"): Promise<void> {
    if (this.pasidDomains.size > 0 && this.contexts !== null) {
      // Substreams stay: the STE keeps the context table, and S1DSS says what the rest does.
      const ats = await this.prepare(null, null, this.atsSupported);
      await this.installSte(this.contextSte(this.contexts, ats, kind === "identity" ? STE_S1DSS_BYPASS : STE_S1DSS_TERMINATE));
      await this.commit(null, this.domain, ats);
    } else {
      const ats = await this.prepare(null, null, false);
      const ste = kind === "identity" ? this.bypassSte() : buildSte({ V: 1, CONFIG: STE_CONFIG_ABORT });
      await this.installSte(ste);
      await this.commit(null, this.domain, ats);
    }
    this.domain = kind;
    await this.clearCd(0);
  }

  /** Gives a SubstreamID (PASID, 1 and up) its own domain. */
  async attachPasid(substreamId: number, domain: SmmuDomain): Promise<void> {
    check(domain.stage === 1, `${this.name}: a substream needs stage 1`);
    check(
      substreamId > 0 && substreamId < 2 ** this.pasidBits,
      `${this.name}: SubstreamID ${substreamId} is not within the ${this.pasidBits} bits that function and SMMU have`,
    );
    const contexts = await this.contextsFor(substreamId);
    const old = this.pasidDomains.get(substreamId) ?? null;
    const ats = await this.prepare(domain, substreamId, this.atsSupported);
    await this.writeCd(contexts, substreamId, this.stage1Cd(domain));
    if (!this.contextsInSte || this.steAts !== ats) {
      const dss = this.domain === "identity" ? STE_S1DSS_BYPASS : this.domain === "blocked" ? STE_S1DSS_TERMINATE : STE_S1DSS_SSID0;
      await this.installSte(this.contextSte(contexts, ats, dss));
    }
    await this.commit(substreamId, old, ats);
    this.pasidDomains.set(substreamId, domain);
  }

  async detachPasid(substreamId: number): Promise<void> {
    const domain = this.pasidDomains.get(substreamId);
    check(domain !== undefined, `${this.name}: SubstreamID ${substreamId} has no domain`);
    await this.clearCd(substreamId);
    if (this.atsEnabled) {
      await this.invalidateAtc(substreamId);
    }
    await domain.removeUser(this, substreamId);
    this.pasidDomains.delete(substreamId);
    if (this.pasidDomains.size === 0 && (this.domain === "identity" || this.domain === "blocked")) {
      await this.attachWithoutTables(this.domain);
    }
  }

  /** What a stream without an owner does: bypass where the firmware demands identity windows, else abort. Returns which. */
  async detach(): Promise<"identity" | "blocked"> {
    const kind = this.requireDirect ? "identity" : "blocked";
    await this.attachWithoutTables(kind);
    return kind;
  }

  /** The function goes: its streams are as without an owner, and the context table is freed. */
  async release(): Promise<void> {
    for (const substreamId of [...this.pasidDomains.keys()]) {
      await this.detachPasid(substreamId);
    }
    await this.detach();
    this.contexts?.release();
    this.contexts = null;
    this.driver.forgetMaster(this);
  }

  private async contextsFor(substreamId: number): Promise<ContextTable> {
    this.contexts ??= await ContextTable.create(this.driver.memory, this.driver.features, this.pasidBits);
    if (await this.contexts.prepare(substreamId)) {
      // The Level 1 descriptor may be cached as invalid.
      await this.invalidateCd(substreamId, false);
    }
    return this.contexts;
  }

  private async invalidateCd(substreamId: number, leaf: boolean): Promise<void> {
    await this.driver.commands.issueBatch(this.sourceIds.map((sid) => encodeCommand(OP.CFGI_CD, { SID: sid, SSID: substreamId, LEAF: leaf })));
  }

  private async invalidateAtc(substreamId: number | null): Promise<void> {
    await this.driver.commands.issueBatch(this.sourceIds.map((sid) => atcCommand(sid, substreamId, 0n, 0)));
  }

  private async writeCd(contexts: ContextTable, substreamId: number, target: Int32Array): Promise<void> {
    const { memory } = this.driver;
    const address = contexts.entryAddress(substreamId);
    const from = toQwords(await memory.readWords(address, CD_WORDS));
    for (const step of planUpdate(cdKind, from, toQwords(target))) {
      for (const { index, value } of step) {
        await memory.write64(address + index * 8, value);
      }
      await this.invalidateCd(substreamId, true);
    }
  }

  private async clearCd(substreamId: number): Promise<void> {
    if (this.contexts !== null) {
      await this.writeCd(this.contexts, substreamId, new Int32Array(CD_WORDS));
    }
  }

  private async installSte(target: Int32Array): Promise<void> {
    this.contextsInSte = get(target, STE.CONFIG) === STE_CONFIG_S1;
    this.steAts = get(target, STE.EATS) === STE_EATS_FULL;
    for (const sid of this.sourceIds) {
      await this.driver.writeSte(sid, target);
    }
  }

  /** Both domains get the invalidations until commit; ATS that is to end is turned off in the function first. */
  private async prepare(domain: SmmuDomain | null, substreamId: number | null, ats: boolean): Promise<boolean> {
    domain?.users.push({ master: this, pasid: substreamId });
    if (!ats && this.atsEnabled) {
      await this.ats?.disable();
    }
    return ats;
  }

  private async commit(substreamId: number | null, old: SmmuDomain | "identity" | "blocked" | null, ats: boolean): Promise<void> {
    if (ats && !this.atsEnabled) {
      await this.invalidateAtc(null);
      await this.ats?.enable(this.driver.features.granules[0]);
    } else if (ats) {
      await this.invalidateAtc(substreamId);
    } else if (this.atsEnabled) {
      await this.invalidateAtc(null);
    }
    if (old !== null && typeof old === "object") {
      await old.removeUser(this, substreamId);
    }
    this.atsEnabled = ats;
  }

  private stage1Cd(domain: SmmuDomain): Int32Array {
    const { table } = domain;
    return buildCd({
      T0SZ: 64 - table.inputBits,
      TG0: domain.granuleField,
      IR0: WRITE_BACK,
      OR0: WRITE_BACK,
      SH0: INNER_SHAREABLE,
      EPD1: 1,
      V: 1,
      IPS: encodeSize(table.outputBits),
      AA64: 1,
      S: this.driver.features.stallForced,
      R: 1,
      A: 1,
      ASET: 1,
      ASID: domain.id,
      TTB0: table.rootAddress,
      MAIR0: MAIR,
    });
  }

  private contextSte(contexts: ContextTable, ats: boolean, dss: number): Int32Array {
    const { features } = this.driver;
    return buildSte({
      V: 1,
      CONFIG: STE_CONFIG_S1,
      S1FMT: contexts.format,
      S1CONTEXTPTR: contexts.base,
      S1CDMAX: contexts.cdMax,
      S1DSS: dss,
      S1CIR: WRITE_BACK,
      S1COR: WRITE_BACK,
      S1CSH: INNER_SHAREABLE,
      S1STALLD: features.stalls && !features.stallForced,
      EATS: ats ? STE_EATS_FULL : 0,
      SHCFG: features.attributeTypesOverride && dss === STE_S1DSS_BYPASS ? STE_SHCFG_INCOMING : 0,
    });
  }

  private bypassSte(): Int32Array {
    return bypassSte(this.driver.features.attributeTypesOverride);
  }

  private stage2Ste(domain: SmmuDomain, ats: boolean): Int32Array {
    const { table } = domain;
    const { features } = this.driver;
    // SL0 counts from another level for 4 KiB than for the larger granules (DDI 0487, VTCR_EL2.SL0).
    const startLevel = table.granule === 12 ? table.startLevel + 1 : table.startLevel;
    return buildSte({
      V: 1,
      CONFIG: STE_CONFIG_S2,
      EATS: ats ? STE_EATS_FULL : 0,
      SHCFG: features.attributeTypesOverride ? STE_SHCFG_INCOMING : 0,
      S2VMID: domain.id,
      S2T0SZ: 64 - table.inputBits,
      S2SL0: ~startLevel & 3,
      S2IR0: WRITE_BACK,
      S2OR0: WRITE_BACK,
      S2SH0: INNER_SHAREABLE,
      S2TG: domain.granuleField,
      S2PS: encodeSize(table.outputBits),
      S2AA64: 1,
      S2PTW: 1,
      S2S: features.stallForced,
      S2R: 1,
      S2TTB: table.rootAddress,
    });
  }
}

/** The bypass entry; SHCFG is only looked at where attributes can be overridden. */
export function bypassSte(attributesOverride: boolean): Int32Array {
  return buildSte({ V: 1, CONFIG: STE_CONFIG_BYPASS, SHCFG: attributesOverride ? STE_SHCFG_INCOMING : 0 });
}

/** CD.IPS, STE.S2PS. */
function encodeSize(bits: number): number {
  return OAS_BITS.findIndex((size) => size === bits);
}
