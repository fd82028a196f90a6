/** What an SMMU's caches hold. Reads alone. */
import { type HeldEntry, heldTranslations, NO_ASID, wideWords } from "../../translation/index.js";
import { STE_CONFIG_NESTED } from "../spec/index.js";
import { keptCd, keptSte } from "./kept-words.js";
import type { UnitCaches } from "./unit-caches.js";

export function* heldEntries(caches: UnitCaches): Generator<HeldEntry> {
  const nested = new Set<number>();
  for (const [sourceId, stream] of caches.heldStreams()) {
    const none = { cache: "configuration" as const, sourceId, tags: {}, translation: null, global: false };
    if (stream.ste.kind === STE_CONFIG_NESTED) {
      nested.add(stream.ste.vmid);
    }
    yield { ...none, kind: "STE", pasid: null, tags: caches.features.stage2 && stream.ste.kind > 0 ? { VMID: stream.ste.vmid } : {}, words: wideWords(keptSte(stream.ste)) };
    const cds = [...(stream.cd0 === undefined ? [] : [[0, stream.cd0] as const]), ...(stream.others ?? [])];
    for (const [index, cd] of cds) {
      yield { ...none, kind: "CD", pasid: index, tags: cd.code === 0 ? { ASID: cd.asid } : {}, words: wideWords(keptCd(cd)) };
    }
  }
  for (const { vmid, asid, global, translation } of heldTranslations(caches.tlb)) {
    const stage2Only = asid === NO_ASID;
    yield {
      cache: "tlb",
      // An entry does not tell. Of a VMID that no nested STE names any more: Linux gives streams of stage 1 alone VMID 0.
      kind: stage2Only ? "stage 2" : nested.has(vmid) || (caches.features.stage2 && vmid !== 0) ? "stage 1 and 2" : "stage 1",
      sourceId: null,
      pasid: null,
      tags: { ...(caches.features.stage2 ? { VMID: vmid } : {}), ...(stage2Only || global ? {} : { ASID: asid }) },
      translation,
      global,
      words: [],
    };
  }
}
