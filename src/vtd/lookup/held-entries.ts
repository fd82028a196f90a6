/** What a unit's caches hold. Reads alone. */
import { type HeldEntry, heldTranslations, NO_ASID, wideWords } from "../../translation/index.js";
import { MOST_PASID_BITS } from "../spec/index.js";
import { keptContext, keptPasid } from "./kept-words.js";
import { PASID_NESTED } from "./pasid-entry.js";
import type { UnitCaches } from "./unit-caches.js";

export function* heldEntries(caches: UnitCaches): Generator<HeldEntry> {
  const none = { cache: "configuration" as const, translation: null, global: false };
  for (const [sourceId, { view }] of caches.heldContexts()) {
    yield { ...none, kind: "context entry", sourceId, pasid: null, tags: view.scalable || view.reason !== 0 ? {} : { DID: view.domain }, words: wideWords(keptContext(view)) };
  }
  const nested = new Set<number>();
  for (const { requesterId, pasid, view } of caches.heldPasids()) {
    if (view.kind === PASID_NESTED) {
      nested.add(view.domain);
    }
    yield { ...none, kind: "PASID entry", sourceId: requesterId, pasid, tags: view.kind > 0 ? { DID: view.domain } : {}, words: wideWords(keptPasid(view)) };
  }
  for (const { vmid, asid, global, translation } of heldTranslations(caches.tlb)) {
    const second = asid === NO_ASID;
    yield {
      cache: "tlb",
      kind: second ? "second stage" : nested.has(vmid) ? "first and second stage" : "first stage",
      sourceId: null,
      // Above the PASID are controls of its entry.
      pasid: second || global ? null : asid & (2 ** MOST_PASID_BITS - 1),
      tags: { DID: vmid },
      translation,
      global,
      words: [],
    };
  }
}
