import type { WordMemory } from "../../memory/index.js";
import type { CachedEntry, MapReport } from "../report/index.js";

/** An IOMMU at one moment: what its registers say is all that decides, besides memory. */
export interface UnitState {
  /** As the map has it. */
  readonly id: string;
  readonly side: "guest" | "host";
  readonly architecture: "smmuv3" | "vtd";
  /**
   * Values by the specification's names without a prefix (IDR0, CR0, STRTAB_BASE, CMDQ_PROD; CAP, ECAP, GSTS,
   * RTADDR): what the unit goes by, which of a register that is taken over by a command (SRTP) is what was taken.
   */
  readonly registers: ReadonlyMap<string, bigint>;
  /** The memory that its addresses are of: the machine's (guest-physical) or the host's. */
  readonly memory: WordMemory;
  /** The last batch that its queue sent to the host; null: none, or a host's unit. */
  readonly batch: { readonly first: number | null; readonly entries: number; readonly handled: number; readonly error: string | null } | null;
}

/** What reports are made of: a running machine, a recording at one row, a page's own data. Nothing of it changes what it looks at. */
export interface InspectionSource {
  map(): MapReport;
  /** The machine's units, and the host's where it can be seen into. */
  units(): readonly UnitState[];
  /** The host's unit and StreamID (source id) of a function of the host; null: not to be seen into. */
  hostPlace(address: string): { readonly unit: string; readonly streamId: number } | null;
  /** Entries of all caches, unchecked. */
  cached(): readonly CachedEntry[];
  /** Address of the machine's RAM in the host's memory, by guest-physical address; null: not RAM, or not to be seen. */
  hostAddressOf(guestPhysical: number): number | null;
}
