/** A transaction through an SMMUv3, fetch by fetch (Arm IHI 0070, 3.3.3 and chapter 15). */
import { ABORTED, ATS_ABORTED, ATS_UNSUPPORTED, BYPASSED, CD_ILLEGAL, CdView, decodeCd, decodeSte, KIND_ATS_REQUEST, KIND_ATS_TRANSLATED, KIND_TRANSACTION, type LookupFeatures, READ_AS_ZERO, STE_ILLEGAL, type StreamTranslator, SteView, TRANSLATED } from "../../smmuv3/lookup/index.js";
import { EVENT, eventName, EVT, get, L1CD, L1STD, STE_CONFIG_ABORT, STE_CONFIG_BYPASS, STRTAB_FMT_2LEVEL } from "../../smmuv3/spec/index.js";
import { getAddress, hex, highWord, lowWord, toBigInt } from "../../support/index.js";
import { wideWords } from "../../translation/index.js";
import type { FetchReport, WalkEnd } from "../report/index.js";
import { type StructureSteps, tellFetches } from "./fetches.js";
import { CD_LAYOUT, eventLayout, L1CD_LAYOUT, L1STD_LAYOUT, STE_LAYOUT } from "./smmuv3-fields.js";
import type { UnitState } from "./source.js";
import { decodeStructure, halves, hexWords } from "./structure-layout.js";
import { NotedMemory, TellingWalker } from "./told-walk.js";
import { smmuTranslator } from "./unit-models.js";
import { markEnd, permissionLetters, stage1Output, type UnitRequest, type UnitWalk } from "./unit-walk.js";

const KINDS = { untranslated: KIND_TRANSACTION, "ats-request": KIND_ATS_REQUEST, "ats-translated": KIND_ATS_TRANSLATED };

export function walkSmmu(unit: UnitState, request: UnitRequest, space: FetchReport["space"]): UnitWalk {
  const memory = new NotedMemory(unit.memory);
  const walker = new TellingWalker(memory);
  const translator = smmuTranslator(unit, memory, walker);
  const { streamId, pasid, iova, access, kind } = request;
  const answer = translator.translate(streamId, pasid, highWord(iova), lowWord(iova), access, KINDS[kind]);
  const { fetches, cut } = tellFetches(memory.loads, structures(translator), space);
  const stage1 = memory.loads.some(({ descriptor }) => descriptor?.stage === 1);
  // Stage 2 alone: the input is the IPA.
  const alone = answer === TRANSLATED && !stage1 ? iova : null;
  const end = endOf(answer, translator, walker, request, space, stage1Output(memory.loads, iova) ?? alone, stage1);
  return { fetches: markEnd(fetches, end), cut, end };
}

/** The stream table, then the table of CDs: which there are is what each before says. */
function* structures({ table, features }: StreamTranslator): StructureSteps {
  if (table.format === STRTAB_FMT_2LEVEL && features.twoLevelStreamTable) {
    yield {
      layout: L1STD_LAYOUT,
      count: 1,
      decides: (words) => {
        const descriptor = halves(words);
        const span = get(descriptor, L1STD.SPAN);
        return span === 0 ? "Span is 0: no stream of this range is valid" : `${2 ** Math.min(span - 1, 31)} STEs at ${hex(getAddress(descriptor, L1STD.L2PTR))}: the STE follows`;
      },
    };
  }
  const ste = new SteView();
  const words = yield { layout: STE_LAYOUT, count: 8, decides: (read) => steDecides(read, features) };
  decodeSte(halves(words), features, ste);
  if (ste.cdSplit !== 0) {
    yield {
      layout: L1CD_LAYOUT,
      count: 1,
      decides: (read) => {
        const descriptor = halves(read);
        return get(descriptor, L1CD.V) === 0 ? "Not valid: there is no such substream" : `${2 ** ste.cdSplit} CDs at ${hex(getAddress(descriptor, L1CD.L2PTR))}: the CD follows`;
      },
    };
  }
  yield { layout: CD_LAYOUT, count: 8, decides: (read) => cdDecides(read, features) };
}

function steDecides(words: readonly bigint[], features: LookupFeatures): string {
  const ste = new SteView();
  const kind = decodeSte(halves(words), features, ste);
  if (kind === STE_ILLEGAL) {
    return `Illegal: ${ste.reason}`;
  }
  if (kind <= STE_CONFIG_ABORT) {
    return "Config aborts all transactions without an event";
  }
  if (kind === STE_CONFIG_BYPASS) {
    return "Both stages bypass: the address goes on as it came";
  }
  const second = ste.stage2 === undefined ? "" : `stage 2 with tables at ${hex(toBigInt(ste.stage2.baseHigh, ste.stage2.baseLow))}, VMID ${ste.vmid}`;
  if ((kind & 1) === 0) {
    return `Stage 1 bypasses; ${second}`;
  }
  const table = `${ste.cdBits === 0 ? "one CD" : `${2 ** ste.cdBits} CDs${ste.cdSplit === 0 ? "" : " in two levels"}`} at ${hex(ste.contextPointer)}`;
  return `Stage 1 with ${table}${second === "" ? "" : `; ${second}`}`;
}

function cdDecides(words: readonly bigint[], features: LookupFeatures): string {
  const cd = new CdView();
  if (decodeCd(halves(words), features, cd) === CD_ILLEGAL) {
    return `Illegal: ${cd.reason}`;
  }
  const range = (name: string, tables: CdView["lower"]): string => (tables === undefined ? `${name} is off` : `${name} at ${hex(toBigInt(tables.baseHigh, tables.baseLow))}, level ${tables.startLevel} first`);
  return `ASID ${cd.asid}; ${range("TTB0", cd.lower)}; ${range("TTB1", cd.upper)}`;
}

function endOf(answer: number, translator: StreamTranslator, walker: TellingWalker, request: UnitRequest, outputSpace: WalkEnd["outputSpace"], ipa: bigint | null, stage1: boolean): WalkEnd {
  const went = answer === TRANSLATED || answer === BYPASSED;
  const denied = answer === TRANSLATED && request.kind === "ats-request" && translator.outPermissions === 0;
  return {
    outcome: denied ? "aborted" : answer === TRANSLATED ? "translated" : answer === BYPASSED ? "bypassed" : answer === READ_AS_ZERO ? "read-as-zero" : "aborted",
    output: went && !denied ? hex(toBigInt(translator.outHigh, translator.outLow)) : null,
    outputSpace,
    ipa: ipa === null ? null : hex(ipa),
    pageBits: answer === TRANSLATED && !denied ? translator.outPageBits : null,
    permissions: answer === TRANSLATED ? permissionLetters(translator.outPermissions) : null,
    event: translator.hasEvent ? eventOf(translator.event) : null,
    reason: denied ? "The translation request is answered: no access is permitted" : reasonOf(answer, translator, walker, stage1),
  };
}

function eventOf(event: Int32Array): NonNullable<WalkEnd["event"]> {
  const number = get(event, EVT.NUMBER);
  const layout = eventLayout(number);
  return { name: eventName(number), number, words: hexWords(wideWords(event)), fields: decodeStructure(layout, event.slice()), section: layout.section };
}

function reasonOf(answer: number, translator: StreamTranslator, walker: TellingWalker, stage1: boolean): string {
  if (answer === TRANSLATED) {
    return "The tables translate the address";
  }
  if (answer === BYPASSED) {
    return translator.enabled ? "No stage translates: the address goes on as it came" : "SMMUEN is 0 and GBPA.ABORT is 0: the address goes on as it came";
  }
  const how = answer === READ_AS_ZERO ? "a read gives zero, a write is ignored" : answer === ATS_UNSUPPORTED ? "the translation request is answered Unsupported Request" : answer === ATS_ABORTED ? "the translation request is answered Completer Abort" : "the transaction aborts";
  if (!translator.enabled) {
    return translator.globalAbort && answer === ABORTED ? "SMMUEN is 0 and GBPA.ABORT is 1: the transaction aborts" : `SMMUEN is 0: ${how}`;
  }
  const recorded = translator.hasEvent ? "" : ", without an event";
  if (translator.reason !== "") {
    return `${translator.reason}: ${how}${recorded}`;
  }
  const number = get(translator.event, EVT.NUMBER);
  const filled = number !== 0;
  // E0PD, EPD and addresses outside both ranges fault before anything is read.
  const outside = number === EVENT.F_TRANSLATION && walker.faultStage === 1 && !stage1;
  const why = outside ? "stage 1: no table covers the address" : filled ? faultWords(number, walker) : "the STE lets no transaction through";
  return `${why}: ${how}${recorded}`;
}

function faultWords(number: number, walker: TellingWalker): string {
  const where = `stage ${walker.faultStage}, level ${walker.faultLevel}`;
  const onTables = walker.faultStage === 2 && walker.faultOnTableWalk !== 0 ? " on the way to a stage-1 table" : "";
  switch (number) {
    case EVENT.F_TRANSLATION:
      return `${where}: nothing is mapped${onTables}`;
    case EVENT.F_ACCESS:
      return `${where}: the access flag is clear${onTables}`;
    case EVENT.F_PERMISSION:
      return `${where}: the access is not permitted${onTables}`;
    case EVENT.F_ADDR_SIZE:
      return walker.accesses.length === 0 ? "the input address is wider than the IAS" : `${where}: an address is wider than the stage's output${onTables}`;
    case EVENT.F_WALK_EABT:
      return `${where}: the descriptor could not be fetched`;
    case EVENT.F_BAD_ATS_TREQ:
      return "ATS is off for the stream";
    case EVENT.F_TRANSL_FORBIDDEN:
      return "translated transactions are refused for the stream";
    default:
      return `event 0x${number.toString(16)}`;
  }
}
