/** A request through a VT-d unit, fetch by fetch (Intel VT-d 5.x, 3.4 to 3.9). */
import { get, hex, highWord, lowWord, toBigInt } from "../../support/index.js";
import { wideWords } from "../../translation/index.js";
import {
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BYPASSED,
  classifyPasidEntry,
  ContextView,
  decodeContext,
  decodeDirectory,
  decodeRoot,
  decodeScalableContext,
  DirectoryView,
  INTERRUPT,
  KIND_TRANSLATED,
  KIND_TRANSLATION_REQUEST,
  KIND_UNTRANSLATED,
  PASID_NESTED,
  PASID_PASS_THROUGH,
  PasidView,
  RootView,
  TRANSLATED,
  type VtdTranslator,
} from "../../vtd/lookup/index.js";
import { FRCD, faultName, TTM_SCALABLE } from "../../vtd/spec/index.js";
import type { FetchReport, WalkEnd } from "../report/index.js";
import { type StructureStep, type StructureSteps, tellFetches } from "./fetches.js";
import type { InspectionSource, UnitState } from "./source.js";
import { decodeStructure, halves, hexWords } from "./structure-layout.js";
import { type Load, NotedMemory, TellingWalker } from "./told-walk.js";
import { vtdTranslator } from "./unit-models.js";
import { markEnd, permissionLetters, stage1Output, type UnitRequest, type UnitWalk } from "./unit-walk.js";
import { faultWords } from "./vtd-fault-words.js";
import { CONTEXT_LAYOUT, FAULT_RECORD_LAYOUT, PASID_DIRECTORY_LAYOUT, PASID_ENTRY_LAYOUT, ROOT_LAYOUT, SM_CONTEXT_LAYOUT, SM_ROOT_LAYOUT } from "./vtd-fields.js";

const KINDS = { untranslated: KIND_UNTRANSLATED, "ats-request": KIND_TRANSLATION_REQUEST, "ats-translated": KIND_TRANSLATED };

export function walkVtd(unit: UnitState, source: InspectionSource, request: UnitRequest, space: FetchReport["space"]): UnitWalk {
  const memory = new NotedMemory(unit.memory);
  const walker = new TellingWalker(memory);
  const translator = vtdTranslator(unit, source, memory, walker);
  const { streamId, pasid, iova, access, kind } = request;
  const answer = translator.translate(streamId, pasid, highWord(iova), lowWord(iova), access, KINDS[kind]);
  const loads = oneWalk(memory.loads, walker.accesses, kind);
  const { fetches, cut } = tellFetches(loads, structures(translator, streamId), space);
  const stage1 = loads.some(({ descriptor }) => descriptor?.stage === 1);
  const alone = answer === TRANSLATED && !stage1 && loads.some(({ descriptor }) => descriptor?.stage === 2) ? iova : null;
  const end = endOf(answer, translator, request, space, stage1Output(loads, iova) ?? alone);
  return { fetches: markEnd(fetches, end), cut, end };
}

/**
 * A unit's model may walk the same tables again: a Translation Request with fewer permissions, of which the last
 * counts, and after a fault to tell one reason from another, which asks for no access.
 */
function oneWalk(loads: readonly Load[], accesses: readonly number[], kind: UnitRequest["kind"]): Load[] {
  const told = kind === "ats-request" ? accesses.findLastIndex((access) => access !== 0) + 1 : 1;
  return loads.filter(({ walk }) => walk === 0 || walk === told);
}

/** Root entry, context entry and, in scalable mode, PASID directory entry and PASID table entry. */
function* structures({ features, mode }: VtdTranslator, sourceId: number): StructureSteps {
  const scalable = mode === TTM_SCALABLE;
  const root = new RootView();
  yield {
    layout: scalable ? SM_ROOT_LAYOUT : ROOT_LAYOUT,
    count: 2,
    decides: (words) => {
      const reason = decodeRoot(halves(words), features, scalable, sourceId & 0xff, root);
      return reason === 0 ? `Context table at ${hex(root.contextTable)}: the entry of device ${(sourceId >>> 3) & 31}, function ${sourceId & 7} follows` : faultWords(reason);
    },
  };
  if (!scalable) {
    yield { layout: CONTEXT_LAYOUT, count: 2, decides: (words) => contextDecides(words, features) };
    return;
  }
  const context: StructureStep = {
    layout: SM_CONTEXT_LAYOUT,
    count: 4,
    decides: (words) => {
      const view = new ContextView();
      const reason = decodeScalableContext(halves(words), features, view);
      return reason === 0 ? `PASID directory at ${hex(view.directory)}; requests without PASID use PASID ${view.ridPasid}` : faultWords(reason);
    },
  };
  yield context;
  yield {
    layout: PASID_DIRECTORY_LAYOUT,
    count: 1,
    decides: (words) => {
      const view = new DirectoryView();
      const reason = decodeDirectory(halves(words), features, view);
      return reason === 0 ? `PASID table at ${hex(view.table)}: its entry follows` : faultWords(reason);
    },
  };
  yield { layout: PASID_ENTRY_LAYOUT, count: 8, decides: (words) => pasidDecides(words, features) };
}

function contextDecides(words: readonly bigint[], features: VtdTranslator["features"]): string {
  const view = new ContextView();
  const reason = decodeContext(halves(words), features, view);
  if (reason !== 0) {
    return faultWords(reason);
  }
  const tables = view.stage2;
  return tables === undefined ? `Domain ${view.domain}: pass-through` : `Domain ${view.domain}: second stage of ${tables.levels} levels at ${hex(toBigInt(tables.baseHigh, tables.baseLow))}`;
}

function pasidDecides(words: readonly bigint[], features: VtdTranslator["features"]): string {
  const view = new PasidView();
  const entry = halves(words);
  if (classifyPasidEntry(entry, features, view) <= 0) {
    return faultWords(view.reason);
  }
  const domain = `Domain ${view.domain}`;
  if (view.kind === PASID_PASS_THROUGH) {
    return `${domain}: pass-through`;
  }
  const first = view.stage1 === undefined ? "" : `first stage of ${view.firstStageLevels} levels at ${hex(view.firstStagePointer)}`;
  const second = view.stage2 === undefined ? "" : `second stage of ${view.secondStageLevels} levels at ${hex(view.secondStagePointer)}`;
  return `${domain}: ${view.kind === PASID_NESTED ? `${first}, its addresses through the ${second}` : `${first}${second}`}`;
}

function endOf(answer: number, translator: VtdTranslator, { iova, kind }: UnitRequest, outputSpace: WalkEnd["outputSpace"], ipa: bigint | null): WalkEnd {
  const denied = kind === "ats-request" && answer === TRANSLATED && translator.outPermissions === 0;
  const went = answer >= 0 && !denied;
  return {
    outcome: !went ? "aborted" : answer === TRANSLATED ? "translated" : "bypassed",
    output: went ? hex(answer === INTERRUPT ? iova : toBigInt(translator.outHigh, translator.outLow)) : null,
    outputSpace,
    ipa: ipa === null ? null : hex(ipa),
    pageBits: went && answer === TRANSLATED ? translator.outPageBits : null,
    permissions: answer === TRANSLATED ? permissionLetters(translator.outPermissions) : null,
    event: translator.hasFault ? eventOf(translator.record) : null,
    reason: reasonOf(answer, translator, denied),
  };
}

function eventOf(record: Int32Array): NonNullable<WalkEnd["event"]> {
  const number = get(record, FRCD.FR);
  return { name: faultName(number), number, words: hexWords(wideWords(record)), fields: decodeStructure(FAULT_RECORD_LAYOUT, record.slice()), section: FAULT_RECORD_LAYOUT.section };
}

function reasonOf(answer: number, translator: VtdTranslator, denied: boolean): string {
  const { reason, enabled } = translator;
  if (answer === INTERRUPT) {
    return "An interrupt request: it is not subject to DMA remapping (3.15)";
  }
  if (answer === TRANSLATED && !denied) {
    return translator.outUntranslatedOnly ? "The interrupt range: writes go untranslated" : "The tables translate the address";
  }
  if (answer === BYPASSED) {
    return enabled ? "Pass-through: the address goes on as it came" : "TES is 0: the address goes on as it came";
  }
  if (!enabled) {
    return "TES is 0: requests with an address type are not supported";
  }
  const how = denied ? "the translation request is answered without permissions" : answer === ATS_UNSUPPORTED ? "the translation request is answered Unsupported Request" : answer === ATS_ABORTED ? "the translation request is answered Completer Abort" : "the request is blocked";
  const stage = translator.faultStage === 0 ? "" : `${translator.faultStage === 1 ? "first" : "second"} stage: `;
  return `${stage}${reason === 0 ? "no access is permitted" : faultWords(reason)}: ${how}${translator.hasFault ? "" : ", without a fault record"}`;
}

