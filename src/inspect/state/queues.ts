/** Queues of a machine's IOMMUs: where they are, what waits in them, what is done, and where an error stopped them. */
import { CMDQ_CONS, CMDQ_ENTRY_BYTES, CR0, EVENTQ_ENTRY_BYTES, extract, GERROR, IDR0, IDR1, PRIQ_ENTRY_BYTES, Q_BASE, Q_OVERFLOW } from "../../smmuv3/spec/index.js";
import { ECAP, FSTS, GCMD, IQA } from "../../vtd/spec/index.js";
import { loadWords, PHYSICAL_BITS } from "../../memory/index.js";
import { type Field, get, getAddress, hex, highWord, lowWord, toBigInt } from "../../support/index.js";
import type { QueueEntryReport, QueueReport, QueuesReport } from "../report/index.js";
import { cerrorText, iqeiText } from "./register-meanings.js";
import { unknownName } from "./registers.js";
import { describeCommand, describeEvent, describePageRequest, type EntryText } from "./smmuv3-entries.js";
import type { InspectionSource, UnitState } from "./source.js";
import { describeDescriptor, describeFault, describeVtdPageRequest } from "./vtd-entries.js";

/** Entries told of a queue, at most: those that wait first. */
const MOST_TOLD = 256;

/**
 * @param iommu of this one alone; left out: of all
 * @throws Refusal where no IOMMU of the machine has that id
 */
export function queuesReport(source: InspectionSource, iommu?: string): QueuesReport {
  const units = source.units();
  const meant = iommu === undefined ? units : units.filter(({ id }) => id === iommu);
  if (iommu !== undefined && meant.length === 0) {
    throw unknownName("IOMMU", iommu, units.map(({ id }) => id));
  }
  return { queues: meant.flatMap((unit) => (unit.architecture === "smmuv3" ? smmuQueues(unit) : vtdQueues(unit))) };
}

/** A queue in memory, as registers say it is. */
interface Ring {
  readonly name: string;
  readonly enabled: boolean;
  /** Bytes. */
  readonly base: number;
  readonly entryBytes: number;
  readonly size: number;
  readonly producer: number;
  readonly consumer: number;
  /** Entries between the two; null: the positions contradict each other. */
  readonly waiting: number | null;
  readonly describe: (words: Int32Array) => EntryText;
  /** Of the entry at the consumer's position, or of all; null: none. */
  readonly stopped: string | null;
  readonly error: string | null;
}

function ringReport(unit: UnitState, ring: Ring, batch: QueueReport["batch"]): QueueReport {
  const { name, enabled, base, size, producer, consumer, waiting, error } = ring;
  const entries: QueueEntryReport[] = [];
  const ahead = Math.min(waiting ?? (ring.stopped === null ? 0 : 1), size, MOST_TOLD);
  for (let n = 1; entries.length < Math.min(size - ahead, MOST_TOLD - ahead); n++) {
    const entry = entryAt(unit, ring, (consumer - n + size) % size, "done", null);
    // Nothing was ever there: entries of all zeros have no meaning in any of the queues.
    if (entry === null || entry.words.every((word) => word === "0x0")) {
      break;
    }
    entries.unshift(entry);
  }
  for (let n = 0; n < ahead; n++) {
    const current = n === 0 && ring.stopped !== null;
    const index = (consumer + n) % size;
    entries.push(entryAt(unit, ring, index, current ? "current" : "waiting", current ? ring.stopped : null) ?? unreadable(index, current ? "current" : "waiting", current ? ring.stopped : null));
  }
  return { iommu: unit.id, name, enabled, base: hex(base), size, producer, consumer, full: waiting === size, entries, batch, ...(error === null ? {} : { error }) };
}

function entryAt({ memory }: UnitState, { base, entryBytes, describe }: Ring, index: number, state: QueueEntryReport["state"], error: string | null): QueueEntryReport | null {
  const words = new Int32Array(entryBytes / 4);
  return loadWords(memory, base + index * entryBytes, PHYSICAL_BITS, words, words.length) ? entryReport(index, state, words, describe(words), error) : null;
}

function unreadable(index: number, state: QueueEntryReport["state"], error: string | null): QueueEntryReport {
  return { index, state, words: [], name: "not readable", summary: "no memory is there", fields: [], section: "", error };
}

function entryReport(index: number, state: QueueEntryReport["state"], words: Int32Array, { name, summary, fields, section }: EntryText, error: string | null): QueueEntryReport {
  const wide = Array.from({ length: words.length / 2 }, (_unused, n) => hex(toBigInt(words[2 * n + 1], words[2 * n])));
  return { index, state, words: wide, name, summary, fields, section, error };
}

// ---- SMMUv3 ----

function smmuQueues(unit: UnitState): QueueReport[] {
  const { registers, batch } = unit;
  if (!registers.has("CMDQ_BASE")) {
    return [];
  }
  const word = (name: string): number => lowWord(registers.get(name) ?? 0n);
  const active = word("GERROR") ^ word("GERRORN");
  const on = (enable: Field): boolean => extract(word("CR0"), enable) !== 0;
  /** Positions have a wrap flag above the index (Arm IHI 0070, 3.5.1). */
  const ring = (queue: string, most: Field, entryBytes: number): Pick<Ring, "base" | "entryBytes" | "size" | "producer" | "consumer" | "waiting"> => {
    const value = registers.get(`${queue}_BASE`) ?? 0n;
    const log2Size = Math.min(extract(lowWord(value), Q_BASE.LOG2SIZE), extract(word("IDR1"), most));
    const size = 2 ** log2Size;
    const address = getAddress([lowWord(value), highWord(value)], Q_BASE.ADDR);
    const [producer, consumer] = [word(`${queue}_PROD`) >>> 0, word(`${queue}_CONS`) >>> 0];
    const waiting = (((producer % (2 * size)) - (consumer % (2 * size))) + 2 * size) % (2 * size);
    return { base: address - (address % Math.max(32, size * entryBytes)), entryBytes, size, producer: producer % size, consumer: consumer % size, waiting: waiting > size ? null : waiting };
  };
  const overflow = (queue: string): string | null => (extract(word(`${queue}_PROD`), Q_OVERFLOW) !== extract(word(`${queue}_CONS`), Q_OVERFLOW) ? "overflow: entries were lost" : null);
  const aborted = (error: Field): string | null => (extract(active, error) === 0 ? null : "the queue could not be written (GERROR)");
  const inconsistent = ({ waiting }: Pick<Ring, "waiting">): string | null => (waiting === null ? "the producer is further ahead than the queue has room for (3.5.1)" : null);
  const commands = ring("CMDQ", IDR1.CMDQS, CMDQ_ENTRY_BYTES);
  const events = ring("EVENTQ", IDR1.EVENTQS, EVENTQ_ENTRY_BYTES);
  const stopped = extract(active, GERROR.CMDQ_ERR) === 0 ? null : cerrorText(extract(word("CMDQ_CONS"), CMDQ_CONS.ERR));
  const none = { stopped: null };
  const told = [
    ringReport(unit, { ...commands, name: "command", enabled: on(CR0.CMDQEN), describe: describeCommand, stopped, error: inconsistent(commands) }, batch),
    ringReport(unit, { ...events, ...none, name: "event", enabled: on(CR0.EVENTQEN), describe: describeEvent, error: overflow("EVENTQ") ?? aborted(GERROR.EVENTQ_ABT_ERR) ?? inconsistent(events) }, null),
  ];
  if (extract(word("IDR0"), IDR0.PRI) !== 0) {
    const requests = ring("PRIQ", IDR1.PRIQS, PRIQ_ENTRY_BYTES);
    told.push(ringReport(unit, { ...requests, ...none, name: "pri", enabled: on(CR0.PRIQEN), describe: describePageRequest, error: overflow("PRIQ") ?? aborted(GERROR.PRIQ_ABT_ERR) ?? inconsistent(requests) }, null));
  }
  return told;
}

// ---- VT-d ----

/** Bytes of a page request. */
const PAGE_REQUEST_BYTES = 32;

function vtdQueues(unit: UnitState): QueueReport[] {
  const { registers, batch } = unit;
  if (!registers.has("IQA")) {
    return [];
  }
  const value = (name: string): bigint => registers.get(name) ?? 0n;
  const word = (name: string): number => lowWord(value(name));
  const pair = (name: string): [number, number] => [word(name), highWord(value(name))];
  const status = word("FSTS");
  const wide = get(pair("IQA"), IQA.DW) !== 0;
  const shift = wide ? 5 : 4;
  const size = 2 ** (get(pair("IQA"), IQA.QS) + 12 - shift);
  const [head, tail] = [word("IQH") >>> shift, word("IQT") >>> shift];
  const tailFits = tail < size && head < size;
  const stopped = extract(status, FSTS.IQE) !== 0 ? `IQE: ${iqeiText(Number(value("IQERCD") & 0xfn))}` : extract(status, FSTS.ITE) !== 0 ? "ITE: a device did not answer an invalidation in time" : extract(status, FSTS.ICE) !== 0 ? "ICE: a device gave an invalid completion" : null;
  const queue = ringReport(
    unit,
    {
      name: "invalidation",
      enabled: extract(word("GSTS"), GCMD.QIE) !== 0,
      base: getAddress(pair("IQA"), IQA.ADDR),
      entryBytes: 2 ** shift,
      size,
      producer: tail % size,
      consumer: head % size,
      waiting: tailFits ? (tail - head + size) % size : null,
      describe: describeDescriptor,
      stopped,
      error: tailFits ? null : "IQT is beyond the queue (6.5.2.11)",
    },
    batch,
  );
  const told = [queue, faultRecords(unit)];
  if (extract(word("ECAP"), ECAP.PRS) !== 0) {
    const room = 2 ** ((word("PQA") & 7) + 12) / PAGE_REQUEST_BYTES;
    const [first, next] = [word("PQH") >>> 5, word("PQT") >>> 5];
    const fits = first < room && next < room;
    told.push(
      ringReport(
        unit,
        {
          name: "page-request",
          enabled: true,
          base: getAddress(pair("PQA"), IQA.ADDR),
          entryBytes: PAGE_REQUEST_BYTES,
          size: room,
          producer: next % room,
          consumer: first % room,
          waiting: fits ? (next - first + room) % room : null,
          describe: describeVtdPageRequest,
          stopped: null,
          error: (word("PRS") & 2) !== 0 ? "PRO: page requests were lost" : fits ? null : "the positions are beyond the queue",
        },
        null,
      ),
    );
  }
  return told;
}

/** Fault recording registers, from the one that FSTS.FRI names on. */
function faultRecords(unit: UnitState): QueueReport {
  const { registers } = unit;
  const value = (name: string): bigint => registers.get(name) ?? 0n;
  const cap = value("CAP");
  const size = Number((cap >> 40n) & 0xffn) + 1;
  const status = lowWord(value("FSTS"));
  const first = extract(status, FSTS.FRI) % size;
  const entries = Array.from({ length: size }, (_unused, n) => (first + n) % size).flatMap((index): QueueEntryReport[] => {
    const [low, high] = [value(`FRCD${index}`), value(`FRCD${index}_HIGH`)];
    const words = Int32Array.of(lowWord(low), highWord(low), lowWord(high), highWord(high));
    return low === 0n && high === 0n ? [] : [entryReport(index, high >> 63n === 1n ? "waiting" : "done", words, describeFault(words), null)];
  });
  const pending = entries.filter(({ state }) => state === "waiting").length;
  const lost = extract(status, FSTS.PFO) !== 0;
  return {
    iommu: unit.id,
    name: "fault",
    enabled: true,
    base: hex(Number((cap >> 24n) & 0x3ffn) * 16),
    size,
    producer: (first + pending) % size,
    consumer: first,
    full: pending === size,
    entries: entries.slice(0, MOST_TOLD),
    batch: null,
    ...(lost ? { error: "PFO: faults were lost" } : {}),
  };
}
