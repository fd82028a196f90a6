import type { IommufdDevice } from "../../iommufd/index.js";
import { requesterId } from "../../nesting/index.js";
import type { PciBus } from "../../pci/index.js";
import type { GuestDomains } from "./domains.js";
import type { HostFaults } from "./events.js";
import type { PasidIotlbBatch } from "./batch.js";
import { PasidCircle } from "./circle.js";
import type { Mirror } from "./mirror.js";
import { PasidMap } from "./pasid-map.js";
import { MOST_TOLD } from "./limits.js";

/**
 * Where a function's requests without PASID go: the stage-2 table of all memory, a nested table on it, a
 * mirror of the guest's second-stage tables, or nowhere.
 */
export type VtdFunctionTable = "parent" | "nested" | "shadow" | "blocked";

/** A PASID of a function and the host's table behind it. The PASID of requests without one is among them. */
export interface PasidBinding {
  readonly fn: PassthroughFunction;
  readonly pasid: number;
  /** The nested HWPT; null: the parent itself, of a pass-through entry. */
  hwptId: number | null;
  /** The domain ids that it is invalidated by. */
  domains: GuestDomains;
  /** Fault reporting is off (FPD). */
  faultsDisabled: boolean;
  /** What the nested HWPT was made of: HwptVtdS1Flags, address width in bits, first table (bytes). */
  flags: number;
  width: number;
  base: number;
  /** An invalidation of its table was refused: only another table is right. */
  stale: boolean;
  /** Invalidations that wait to be sent; null: none. */
  batch: PasidIotlbBatch | null;
  /** The next one of its PASID, of another function. */
  sibling: PasidBinding | null;
}

/** One passed-through function behind a unit. */
export class PassthroughFunction {
  table: VtdFunctionTable = "parent";
  /** By PASID; `ridPasid` is the key of requests without PASID. */
  readonly bindings = new PasidMap<PasidBinding>();
  /** RID_PASID of the context entry in use: 0, as ECAP.RPS is clear. */
  readonly ridPasid = 0;
  /** The source id whose entries it was put where they say. */
  settledSourceId: number | null = null;
  /** Blocked because no root or context entry, or no PASID entry is present: one may become so. */
  absent: "context" | "entry" | null = null;
  /** The host refused a table of requests without PASID: it is tried again at the next occasion. */
  unsettled = false;
  /** PASIDs for which the host refused something, and whether there are more of them. They are tried again, too. */
  readonly refused = new Set<number>();
  manyRefused = false;
  /** PASIDs that were to be taken off their tables, which the host refused: those may be stale. */
  readonly kept = new Set<number>();
  /** All PASIDs are put where the guest's tables say. */
  readonly sweep = new PasidCircle();
  /** Tables of all PASIDs are invalidated as a whole, of one domain id alone where it is not negative. */
  readonly flush = new PasidCircle();
  flushDomain = -1;
  /** Its context entry has fault reporting off (FPD). */
  faultsDisabled = false;
  /** Why PASIDs whose entries are present have no table; the first of them. */
  readonly blockedPasids = new Map<number, string>();
  /** Why it is blocked. */
  reason: string | null = null;
  /** What the guest's fault record says of its requests while it is blocked; 0: it is so for no entry of the guest's. */
  faultReason = 0;
  /** The mirror that it is on, and the one that is being made in its place. */
  shadow: Mirror | null = null;
  growing: Mirror | null = null;
  /** Requests without PASID were to be taken off their table, and the host refused that: the table may be stale. */
  stale = false;
  faults: HostFaults | null = null;

  constructor(
    readonly bus: PciBus,
    readonly devfn: number,
    readonly host: IommufdDevice,
  ) {}

  /** The mirror of the tables that its entries name, made or being made. */
  get mirror(): Mirror | null {
    return this.growing ?? this.shadow;
  }

  /** Something of it goes on in steps. */
  get working(): boolean {
    return this.sweep.working || this.flush.working || this.mirror?.working === true;
  }

  /** It has a table that may be stale, and cannot be taken off it. */
  get endangered(): boolean {
    return this.stale || this.kept.size > 0;
  }

  /** The host refused something for a PASID. */
  noteRefused(pasid: number): void {
    if (this.refused.size < MOST_TOLD) {
      this.refused.add(pasid);
    } else if (!this.refused.has(pasid)) {
      this.manyRefused = true;
    }
  }

  /** The source id that the unit sees; null while the guest has given the function's bus no number. */
  get sourceId(): number | null {
    return requesterId(this.bus, this.devfn);
  }

  /** PASIDs that the function can use. */
  get pasidLimit(): number {
    const bits = this.host.hwInfo.maxPasidLog2;
    return bits === 0 ? 1 : 2 ** bits;
  }
}

/** For the account: one function's tables. */
export interface VtdFunctionAccount {
  readonly name: string;
  readonly sourceId: number | null;
  readonly hostIommu: string | null;
  readonly table: VtdFunctionTable;
  readonly hwptId: number | null;
  /** Why it is blocked; null: it is not. */
  readonly reason: string | null;
  /** Bindings of PASIDs, the one of requests without PASID (0) among them. */
  readonly pasids: ReadonlyArray<{ readonly pasid: number; readonly domain: number; readonly table: "nested" | "parent"; readonly hwptId: number }>;
  /** PASIDs that have no table though their entries are present, and why; the first of them. */
  readonly blockedPasids: ReadonlyArray<{ readonly pasid: number; readonly reason: string }>;
  /** Mappings of a mirrored second stage. */
  readonly shadowMappings: number;
}

export function accountOf(fn: PassthroughFunction): VtdFunctionAccount {
  return {
    name: fn.host.name,
    sourceId: fn.sourceId,
    hostIommu: fn.host.hostIommu,
    table: fn.table,
    hwptId: fn.host.attachedTo,
    reason: fn.reason,
    pasids: [...fn.bindings.values()].map((binding) => ({
      pasid: binding.pasid,
      domain: binding.domains.current,
      table: binding.hwptId === null ? ("parent" as const) : ("nested" as const),
      hwptId: binding.hwptId ?? fn.host.parentHwptId,
    })),
    blockedPasids: [...fn.blockedPasids].map(([pasid, reason]) => ({ pasid, reason })),
    shadowMappings: fn.shadow?.mappings ?? 0,
  };
}
