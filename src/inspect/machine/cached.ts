/** Entries of all caches: of the models of the machine's IOMMUs, of the host's hardware where it can be seen into. */
import { isSmmu, isVtd, type Machine } from "../../machine/index.js";
import { heldEntries as heldBySmmu } from "../../smmuv3/lookup/index.js";
import { hex } from "../../support/index.js";
import type { HeldEntry } from "../../translation/index.js";
import { heldEntries as heldByVtd } from "../../vtd/lookup/index.js";
import type { CachedEntry } from "../report/index.js";

export function cachedOf({ board, host }: Machine): CachedEntry[] {
  const entries: CachedEntry[] = [];
  for (const iommu of board.iommus) {
    const held = isSmmu(iommu) ? heldBySmmu(iommu.device.translator) : isVtd(iommu) ? heldByVtd(iommu.device.translator) : [];
    for (const entry of held) {
      entries.push({ ...told(entry), cache: entry.cache, iommu: iommu.id, side: "guest", hostFunction: null });
    }
  }
  for (const entry of host.inspector?.cached() ?? []) {
    entries.push({ ...told(entry), cache: entry.cache, iommu: entry.unit, side: "host", hostFunction: entry.function });
  }
  return entries;
}

function told({ kind, sourceId, pasid, tags, translation, global, words }: Omit<HeldEntry, "cache">): Omit<CachedEntry, "iommu" | "side" | "cache" | "hostFunction"> {
  return {
    kind,
    streamId: sourceId,
    pasid,
    tags,
    iova: translation === null ? null : hex(translation.iova),
    pageBits: translation?.pageBits ?? null,
    output: translation === null ? null : hex(translation.output),
    permissions: translation?.permissions ?? null,
    global,
    words: words.map(hex),
  };
}
