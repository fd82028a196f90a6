/** The entries of a unit's tables that a function's requests are looked up in, as they are in memory. */
import { ACCESS_READ } from "../../translation/index.js";
import { STE_LAYOUT } from "./smmuv3-fields.js";
import type { InspectionSource, UnitState } from "./source.js";
import type { StructureLayout } from "./structure-layout.js";
import { CONTEXT_LAYOUT, PASID_ENTRY_LAYOUT, SM_CONTEXT_LAYOUT } from "./vtd-fields.js";
import { walkUnit } from "./walk-unit.js";

export interface ConfigurationEntry {
  readonly kind: "STE" | "context entry" | "PASID entry";
  readonly layout: StructureLayout;
  /** 64-bit words. */
  readonly words: readonly bigint[];
}

const KINDS = [
  ["STE", STE_LAYOUT],
  ["context entry", CONTEXT_LAYOUT],
  ["context entry", SM_CONTEXT_LAYOUT],
  ["PASID entry", PASID_ENTRY_LAYOUT],
] as const;

/** What a request reads of them: those that it does not get to, or that could not be read, are left out. */
export function configurationOf(unit: UnitState, source: InspectionSource, streamId: number, pasid: number): ConfigurationEntry[] {
  const { fetches } = walkUnit(unit, source, { streamId, pasid, iova: 0n, access: ACCESS_READ, kind: "untranslated" });
  return KINDS.flatMap(([kind, layout]): ConfigurationEntry[] => {
    const fetch = fetches.find(({ name, fields }) => name === layout.name && fields.length > 0);
    return fetch === undefined ? [] : [{ kind, layout, words: fetch.words.map(BigInt) }];
  });
}
