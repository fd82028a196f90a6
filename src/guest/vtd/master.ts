/**
 * A function that issues DMA through a VT-d unit: Linux's device_domain_info and the sequences in which it is
 * attached to domains. In scalable mode its context entry stays and its PASID entries change, PASID 0 for
 * requests without one; in legacy mode the context entry has the domain's tables.
 */
import { get, pack, type FieldValues } from "../../support/index.js";
import {
  CONTEXT,
  CONTEXT_ENTRY_WORDS,
  GRANULARITY_DOMAIN,
  GRANULARITY_SELECTIVE,
  PASID_CACHE_PASID,
  PASID_ENTRY,
  PASID_ENTRY_WORDS,
  PASID_IOTLB_PASID,
  PGTT_FIRST_STAGE,
  PGTT_PASS_THROUGH,
  PGTT_SECOND_STAGE,
  SM_CONTEXT,
  SM_CONTEXT_ENTRY_WORDS,
  TT_DEVICE_TLB,
  TT_PASS_THROUGH,
  TT_UNTRANSLATED_ONLY,
} from "../../vtd/spec/index.js";
import { check } from "../failure.js";
import type { AtsControl, IommuMaster, MasterOptions } from "../iommu/driver.js";
import type { Tolerance } from "../choices/index.js";
import { EVERYTHING, type UnitOfDomain, type VtdDomain } from "./domain.js";
import { descriptor, deviceTlbRange } from "./invalidation-queue.js";
import { PasidTable, isPresent, type RootTable } from "./tables.js";

/** The domain id of pass-through entries (Linux: FLPT_DEFAULT_DID); 0 is kept for entries that are not present. */
export const PASS_THROUGH_DID = 1;
const NO_PASID = 0;
/** Smallest translation unit of ATS: a page. */
const STU = 12;

/** What a function asks of its unit. */
export interface UnitOfMaster extends UnitOfDomain {
  readonly root: RootTable;
  /** A present PASID entry is replaced in one step. */
  readonly replacesPasids: boolean;
  tolerates(what: Tolerance): boolean;
  /** RAM mapped to itself, for units without pass-through. */
  createIdentityDomain(): Promise<VtdDomain>;
  /** The caches of a context entry that has gone, with what they led to. */
  flushContext(sourceId: number, did: number): Promise<void>;
  /** A context entry has become present. */
  afterNewContext(sourceId: number): Promise<void>;
  forgetMaster(master: VtdMaster): void;
}

export class VtdMaster implements IommuMaster {
  domain: VtdDomain | "identity" | "blocked" | null = null;
  readonly pasidDomains = new Map<number, VtdDomain>();
  atsEnabled = false;
  readonly pasidBits: number;
  private table: PasidTable | null = null;
  private readonly ats: AtsControl | null;
  private readonly queueDepth: number;
  private readonly requireDirect: boolean;
  /** The domain of the identity where the unit has no pass-through. */
  private direct: VtdDomain | null = null;

  constructor(
    private readonly driver: UnitOfMaster,
    readonly name: string,
    readonly sourceIds: readonly number[],
    options: MasterOptions,
  ) {
    this.pasidBits = Math.min(options.pasidBits ?? 0, driver.features.pasidBits);
    this.ats = driver.features.deviceTlb ? (options.ats ?? null) : null;
    this.queueDepth = options.atsQueueDepth ?? 0;
    this.requireDirect = options.requireDirect ?? false;
  }

  get atsSupported(): boolean {
    return this.ats !== null;
  }

  async attach(domain: VtdDomain): Promise<void> {
    const old = this.domain;
    domain.users.push({ master: this, pasid: null });
    if (this.driver.features.scalable) {
      await this.prepareContext();
      await this.setPasid(NO_PASID, this.entryOf(domain));
    } else {
      await this.setContext(this.contextOf(domain));
    }
    this.domain = domain;
    await this.enableAts();
    await this.leave(old, null);
  }

  async attachIdentity(): Promise<void> {
    if (!this.driver.features.passThrough) {
      this.direct ??= await this.driver.createIdentityDomain();
      await this.attach(this.direct);
      return;
    }
    const old = this.domain;
    if (this.driver.features.scalable) {
      await this.prepareContext();
      await this.setPasid(NO_PASID, pack(PASID_ENTRY, new Int32Array(PASID_ENTRY_WORDS), this.passThrough()));
    } else {
      // In legacy mode a pass-through entry allows no translation request (9.3).
      await this.disableAts();
      await this.setContext(
        pack(CONTEXT, new Int32Array(CONTEXT_ENTRY_WORDS), { P: 1, TT: TT_PASS_THROUGH, AW: this.driver.features.secondStageLevels - 2, DID: PASS_THROUGH_DID }),
      );
    }
    this.domain = "identity";
    await this.leave(old, null);
  }

  async attachBlocked(): Promise<void> {
    const old = this.domain;
    if (this.driver.features.scalable) {
      await this.clearPasid(NO_PASID);
    } else {
      await this.disableAts();
      await this.setContext(null);
    }
    this.domain = "blocked";
    await this.leave(old, null);
  }

  async attachPasid(pasid: number, domain: VtdDomain): Promise<void> {
    check(domain.stage === 1 || this.driver.features.scalable, `${this.name}: PASIDs need scalable mode`);
    check(pasid > 0 && pasid < 2 ** this.pasidBits, `${this.name}: PASID ${pasid} is not within the ${this.pasidBits} bits that function and unit have`);
    const old = this.pasidDomains.get(pasid) ?? null;
    domain.users.push({ master: this, pasid });
    await this.prepareContext();
    await this.setPasid(pasid, this.entryOf(domain));
    this.pasidDomains.set(pasid, domain);
    await this.enableAts();
    await this.leave(old, pasid);
  }

  async detachPasid(pasid: number): Promise<void> {
    const domain = this.pasidDomains.get(pasid);
    check(domain !== undefined, `${this.name}: PASID ${pasid} has no domain`);
    await this.clearPasid(pasid);
    this.pasidDomains.delete(pasid);
    await this.leave(domain, pasid);
  }

  async detach(): Promise<"identity" | "blocked"> {
    if (this.requireDirect) {
      await this.attachIdentity();
      return "identity";
    }
    await this.attachBlocked();
    return "blocked";
  }

  async release(): Promise<void> {
    for (const pasid of [...this.pasidDomains.keys()]) {
      await this.detachPasid(pasid);
    }
    await this.attachBlocked();
    await this.disableAts();
    if (this.driver.features.scalable) {
      await this.setContext(null);
      this.table?.release();
      this.table = null;
    }
    await this.direct?.destroy();
    this.direct = null;
    this.driver.forgetMaster(this);
  }

  deviceTlb(pasid: number | null, start: bigint, order: number): Int32Array[] {
    const range = deviceTlbRange(start, order);
    return this.sourceIds.map((sid) => {
      const physical = { PFSID_LOW: sid & 0xf, PFSID_HIGH: sid >> 4 };
      // A depth of 32 is told as 0 (6.5.2.5: MIP).
      const depth = this.queueDepth & 0x1f;
      return pasid === null
        ? descriptor("DEVICE_TLB", { SID: sid, MIP: depth, ...physical, ...range })
        : descriptor("PASID_DEVICE_TLB", { SID: sid, PASID: pasid, MIP: depth, ...physical, ...range });
    });
  }

  private async leave(old: VtdDomain | "identity" | "blocked" | null, pasid: number | null): Promise<void> {
    if (old !== null && typeof old === "object") {
      await old.removeUser(this, pasid);
    }
  }

  private passThrough(): FieldValues<typeof PASID_ENTRY> {
    const { features } = this.driver;
    return { P: 1, PGTT: PGTT_PASS_THROUGH, DID: PASS_THROUGH_DID, AW: features.secondStageLevels - 2, PWSNP: features.pageWalkSnoop };
  }

  private entryOf(domain: VtdDomain): Int32Array {
    const { features } = this.driver;
    const common = { P: 1, DID: domain.id, AW: features.secondStageLevels - 2, PWSNP: features.pageWalkSnoop } as const;
    return pack(
      PASID_ENTRY,
      new Int32Array(PASID_ENTRY_WORDS),
      domain.stage === 1
        ? { ...common, PGTT: PGTT_FIRST_STAGE, FSPTPTR: domain.table.rootAddress }
        : { ...common, PGTT: PGTT_SECOND_STAGE, SSPTPTR: domain.table.rootAddress },
    );
  }

  private contextOf(domain: VtdDomain): Int32Array {
    return pack(CONTEXT, new Int32Array(CONTEXT_ENTRY_WORDS), {
      P: 1,
      TT: this.atsSupported ? TT_DEVICE_TLB : TT_UNTRANSLATED_ONLY,
      SSPTPTR: domain.table.rootAddress,
      AW: this.driver.features.secondStageLevels - 2,
      DID: domain.id,
    });
  }

  /** Legacy mode: takes a present entry away with its caches, then writes the new one; null leaves none. */
  private async setContext(entry: Int32Array | null): Promise<void> {
    const { driver } = this;
    for (const sid of this.sourceIds) {
      const old = await driver.root.read(sid);
      if (isPresent(old)) {
        await driver.root.clearPresent(sid);
        const did = driver.features.scalable ? 0 : get(old, CONTEXT.DID);
        await driver.flushContext(sid, did);
        await driver.invalidate(this.atsEnabled ? this.deviceTlb(null, 0n, EVERYTHING) : []);
        await driver.root.write(sid, new Int32Array(old.length));
      }
      if (entry !== null) {
        await driver.root.write(sid, entry);
        await driver.afterNewContext(sid);
      }
    }
  }

  /** Scalable mode: the context entry with the PASID directory, once. */
  private async prepareContext(): Promise<void> {
    if (this.table !== null) {
      return;
    }
    this.table = await PasidTable.create(this.driver.memory, this.pasidBits);
    await this.setContext(
      pack(SM_CONTEXT, new Int32Array(SM_CONTEXT_ENTRY_WORDS), {
        P: 1,
        DTE: this.atsSupported,
        PASIDE: this.pasidBits > 0,
        PDTS: this.table.sizeField,
        PASIDDIRPTR: this.table.directory,
        RID_PASID: NO_PASID,
      }),
    );
  }

  /**
   * Sets a PASID entry up, over a present one in one step (intel_pasid_replace_*), or after that has gone with its
   * caches (`tearDownPasids`).
   */
  private async setPasid(pasid: number, entry: Int32Array): Promise<void> {
    const { driver, table } = this;
    check(table !== null && pasid < table.pasids, `${this.name}: no PASID table for PASID ${pasid}`);
    const old = await table.read(pasid);
    if (isPresent(old) && driver.replacesPasids) {
      await table.replace(pasid, entry);
      await this.forgetPasid(pasid, old);
      await this.nudge();
      return;
    }
    await this.clearPasid(pasid);
    await table.write(pasid, entry);
    await this.nudge();
    // What is not present is cached with caching mode only.
    if (driver.features.cachingMode) {
      await this.forgetPasid(pasid, entry);
    } else {
      await driver.flushWriteBuffer();
    }
  }

  private async clearPasid(pasid: number): Promise<void> {
    const { table } = this;
    if (table === null) {
      return;
    }
    const old = await table.read(pasid);
    if (isPresent(old)) {
      await table.clearPresent(pasid);
      await this.forgetPasid(pasid, old);
      await table.write(pasid, new Int32Array(PASID_ENTRY_WORDS));
      await this.nudge();
    }
  }

  /** For units that look at a function's mode again only when its context entry is invalidated. */
  private async nudge(): Promise<void> {
    if (this.driver.tolerates("pass-through")) {
      await this.driver.invalidate(this.sourceIds.map((sid) => descriptor("CONTEXT_CACHE", { G: GRANULARITY_SELECTIVE, SID: sid })));
    }
  }

  /** The caches of what an entry led to: the PASID cache, the IOTLB by what the tables were, the device's TLB. */
  private async forgetPasid(pasid: number, entry: Int32Array): Promise<void> {
    const did = get(entry, PASID_ENTRY.DID);
    const type = get(entry, PASID_ENTRY.PGTT);
    await this.driver.invalidate([
      descriptor("PASID_CACHE", { G: PASID_CACHE_PASID, DID: did, PASID: pasid }),
      type === PGTT_FIRST_STAGE || type === PGTT_PASS_THROUGH
        ? descriptor("PASID_IOTLB", { G: PASID_IOTLB_PASID, DID: did, PASID: pasid })
        : descriptor("IOTLB", { G: GRANULARITY_DOMAIN, DW: 1, DR: 1, DID: did }),
      ...(this.atsEnabled ? this.deviceTlb(pasid === NO_PASID ? null : pasid, 0n, EVERYTHING) : []),
    ]);
  }

  private async enableAts(): Promise<void> {
    if (this.ats !== null && !this.atsEnabled) {
      await this.ats.enable(STU);
      this.atsEnabled = true;
    }
  }

  private async disableAts(): Promise<void> {
    if (this.ats !== null && this.atsEnabled) {
      await this.ats.disable();
      await this.driver.invalidate(this.deviceTlb(null, 0n, EVERYTHING));
      this.atsEnabled = false;
    }
  }
}
