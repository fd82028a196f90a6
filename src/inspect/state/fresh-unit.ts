/** What a unit would answer if it had nothing cached: its model over its registers and memory, asked once for each entry that is held. */
import { ATS_ABORTED, heldEntries as heldBySmmu, KIND_ATS_REQUEST, KIND_TRANSACTION, type StreamTranslator } from "../../smmuv3/lookup/index.js";
import { EVENT, eventName, EVT } from "../../smmuv3/spec/index.js";
import { highWord, lowWord, toBigInt } from "../../support/index.js";
import { type HeldEntry, permissionText, PERM_PRIVILEGED_SHIFT } from "../../translation/index.js";
import { heldEntries as heldByVtd, KIND_TRANSLATION_REQUEST, KIND_UNTRANSLATED, PASID_FIRST_STAGE, PASID_NESTED, type VtdTranslator } from "../../vtd/lookup/index.js";
import { NotedMemory } from "./told-walk.js";
import type { InspectionSource, UnitState } from "./source.js";
import { smmuTranslator, vtdTranslator } from "./unit-models.js";
import { faultWords } from "./vtd-fault-words.js";

/** Where a request would go. */
export interface FreshAnswer {
  readonly output: bigint;
  readonly pageBits: number;
  /** As entries have them: `rw-`. */
  readonly permissions: string;
}

export interface FreshUnit {
  /** Configuration that a request without translation reads: as a cache would hold it. */
  configuration(streamId: number, pasid: number | null): HeldEntry[];
  /** How the translations of a stream and PASID are tagged, and of which kind they are; null: it has none. */
  tags(streamId: number, pasid: number | null): Readonly<Record<string, number>> | null;
  /** What a TLB would hold of an address; or why nothing, in words. */
  translation(streamId: number, pasid: number | null, iova: bigint): FreshAnswer | string;
  /** What a device's cache would hold of an address that it asks to `access` (ACCESS_*); or why nothing. */
  completion(streamId: number, pasid: number | null, iova: bigint, access: number): FreshAnswer | string;
}

export function freshUnit(unit: UnitState, source: InspectionSource): FreshUnit {
  const memory = new NotedMemory(unit.memory, false);
  return unit.architecture === "smmuv3" ? new FreshSmmu(smmuTranslator(unit, memory)) : new FreshVtd(vtdTranslator(unit, source, memory));
}

/** Of a TLB that had nothing before: what it holds of the address now. */
function heldNow(entries: Iterable<HeldEntry>): FreshAnswer | null {
  for (const { translation } of entries) {
    if (translation !== null) {
      return { output: translation.output, pageBits: translation.pageBits, permissions: translation.permissions };
    }
  }
  return null;
}

/** Of a completion. */
function completed(outHigh: number, outLow: number, pageBits: number, granted: number): FreshAnswer {
  return { output: toBigInt(outHigh, outLow), pageBits, permissions: permissionText(granted | (granted << PERM_PRIVILEGED_SHIFT)) };
}

const EVENT_WORDS: ReadonlyMap<number, string> = new Map<number, string>([
  [EVENT.F_TRANSLATION, "no valid descriptor leads to the address"],
  [EVENT.F_ADDR_SIZE, "a descriptor has an address that is too large"],
  [EVENT.F_ACCESS, "the access flag is clear"],
  [EVENT.F_PERMISSION, "the access is not permitted"],
  [EVENT.F_WALK_EABT, "a descriptor cannot be fetched"],
]);

class FreshSmmu implements FreshUnit {
  constructor(private readonly translator: StreamTranslator) {}

  configuration(streamId: number, pasid: number | null): HeldEntry[] {
    this.ask(streamId, pasid, 0n, 0, KIND_TRANSACTION);
    return [...heldBySmmu(this.translator)].filter(({ cache }) => cache === "configuration");
  }

  tags(streamId: number, pasid: number | null): Readonly<Record<string, number>> | null {
    this.ask(streamId, pasid, 0n, 0, KIND_TRANSACTION);
    const { translator } = this;
    for (const [, stream] of translator.heldStreams()) {
      const { ste } = stream;
      const vmid: Record<string, number> = translator.features.stage2 ? { VMID: ste.vmid } : {};
      const cd = pasid === null || pasid === 0 ? stream.cd0 : stream.cd(pasid);
      if (cd !== undefined && cd.code === 0) {
        return { ...vmid, ASID: cd.asid };
      }
      return ste.stage2 === undefined ? null : vmid;
    }
    return null;
  }

  translation(streamId: number, pasid: number | null, iova: bigint): FreshAnswer | string {
    const answer = this.ask(streamId, pasid, iova, 0, KIND_TRANSACTION);
    return (answer < 0 ? null : heldNow(heldBySmmu(this.translator))) ?? this.why(answer);
  }

  completion(streamId: number, pasid: number | null, iova: bigint, access: number): FreshAnswer | string {
    const { translator } = this;
    const answer = this.ask(streamId, pasid, iova, access, KIND_ATS_REQUEST);
    if (answer >= 0 && translator.outPermissions !== 0) {
      return completed(translator.outHigh, translator.outLow, translator.outPageBits, translator.outPermissions);
    }
    return answer <= ATS_ABORTED && translator.reason !== "" ? translator.reason : "a translation request is given nothing";
  }

  private ask(streamId: number, pasid: number | null, iova: bigint, access: number, kind: number): number {
    const { translator } = this;
    translator.reset();
    translator.event.fill(0);
    return translator.translate(streamId, pasid ?? -1, highWord(iova), lowWord(iova), access, kind);
  }

  private why(answer: number): string {
    const { event, reason } = this.translator;
    if (reason !== "") {
      return reason;
    }
    const number = event[0] & EVT.NUMBER.mask;
    const words = EVENT_WORDS.get(number);
    return words !== undefined ? `${words}: ${eventName(number)}` : answer >= 0 ? "nothing translates the address" : "the stream aborts";
  }
}

class FreshVtd implements FreshUnit {
  constructor(private readonly translator: VtdTranslator) {}

  configuration(streamId: number, pasid: number | null): HeldEntry[] {
    this.ask(streamId, pasid, 0n, 0, KIND_UNTRANSLATED);
    return [...heldByVtd(this.translator)].filter(({ cache }) => cache === "configuration");
  }

  tags(streamId: number, pasid: number | null): Readonly<Record<string, number>> | null {
    this.ask(streamId, pasid, 0n, 0, KIND_UNTRANSLATED);
    const { domain, entryKind, entryPasid } = this.translator;
    const first = entryKind === PASID_FIRST_STAGE || entryKind === PASID_NESTED;
    return domain < 0 ? null : { DID: domain, ...(first ? { PASID: entryPasid } : {}) };
  }

  translation(streamId: number, pasid: number | null, iova: bigint): FreshAnswer | string {
    const answer = this.ask(streamId, pasid, iova, 0, KIND_UNTRANSLATED);
    return (answer < 0 ? null : heldNow(heldByVtd(this.translator))) ?? this.why();
  }

  completion(streamId: number, pasid: number | null, iova: bigint, access: number): FreshAnswer | string {
    const { translator } = this;
    const answer = this.ask(streamId, pasid, iova, access, KIND_TRANSLATION_REQUEST);
    if (answer >= 0 && translator.outPermissions !== 0 && !translator.outUntranslatedOnly) {
      return completed(translator.outHigh, translator.outLow, translator.outPageBits, translator.outPermissions);
    }
    return this.why();
  }

  private ask(streamId: number, pasid: number | null, iova: bigint, access: number, kind: number): number {
    this.translator.reset();
    return this.translator.translate(streamId, pasid ?? -1, highWord(iova), lowWord(iova), access, kind);
  }

  private why(): string {
    const { reason } = this.translator;
    return reason === 0 ? "nothing translates the address" : faultWords(reason);
  }
}
