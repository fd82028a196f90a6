import type { IommufdDevice } from "../../iommufd/index.js";
import { requesterId } from "../../nesting/index.js";
import type { PciBus } from "../../pci/index.js";
import type { GuestDomains } from "./domains.js";
import type { HostFaults } from "./events.js";
import type { PasidIotlbBatch } from "./batch.js";
import type { Mirror } from "./mirror.js";

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
  /** The walk over the guest's tables that has met it last. */
  generation: number;
}

/** One passed-through function behind a unit. */
export class PassthroughFunction {
  table: VtdFunctionTable = "parent";
  /** By PASID; `ridPasid` is the key of requests without PASID. */
  readonly bindings = new Map<number, PasidBinding>();
  /** RID_PASID of the context entry in use: 0, as ECAP.RPS is clear. */
  readonly ridPasid = 0;
  /** The source id whose entries it was put where they say. */
  settledSourceId: number | null = null;
  /** Blocked because no context or PASID entry is present: one may become so. */
  absent = false;
  /** The host refused something: it is tried again at the next occasion. */
  unsettled = false;
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
  /** It was to be taken off its table, and the host refused that: the table may be stale. */
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
