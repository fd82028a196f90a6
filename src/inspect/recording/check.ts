/** What a file says is what it should be, as far as reports go by it. Loads in a browser. */
import type { RecordedLine } from "./changes.js";
import { type RecordingEnd, RecordingError, type RecordingHeader } from "./format.js";

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const flag: Check = (value) => typeof value === "boolean";
const number: Check = (value) => Number.isSafeInteger(value);
const count: Check = (value) => number(value) && (value as number) >= 0;
const time: Check = (value) => typeof value === "number" && Number.isFinite(value);
const hex: Check = (value) => typeof value === "string" && /^0x[0-9a-f]{1,64}$/.test(value);
const or = (...checks: readonly Check[]): Check => (value) => checks.some((check) => check(value));
const nothing: Check = (value) => value === null;
const absent: Check = (value) => value === undefined;
const one = (...values: readonly unknown[]): Check => (value) => values.includes(value);
const list = (check: Check): Check => (value) => Array.isArray(value) && value.every(check);
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
const members = (checks: Readonly<Record<string, Check>>): Check => (value) => isObject(value) && Object.entries(checks).every(([name, check]) => check(value[name]));
const table = (check: Check): Check => (value) => isObject(value) && Object.values(value).every(check);

const side = one("guest", "host");
const architecture = one("smmuv3", "vtd");

const ROW = members({
  number: count,
  time,
  kind: one("store", "command", "host", "event", "interrupt", "dma", "machine"),
  name: text,
  words: text,
  iommu: or(nothing, text),
  function: or(nothing, text),
  streamId: or(nothing, count),
  cause: or(nothing, count),
});

const MAP = members({
  machine: or(nothing, isObject),
  functions: list(members({ function: text, bdf: text, host: or(nothing, text), iommu: or(nothing, text), streamId: or(nothing, count), label: text, ats: flag, pasid: flag })),
  attachments: list(members({ function: text, pasid: or(nothing, count), table: text, hwpt: or(nothing, count), reason: text })),
  tables: list(members({ iommufd: text, id: count, kind: text })),
  host: members({ description: text, kernel: or(nothing, text), iommus: list(members({ id: text, architecture: text, features: table(text), errata: list(text) })), functions: list(members({ address: text, label: text, upstream: list(text), reserved: list(members({ base: hex, size: hex, kind: text })) })), unknown: list(text) }),
});

const BATCH = or(nothing, members({ first: or(nothing, count), entries: count, handled: count, error: or(nothing, text) }));
const UNIT = members({ id: text, side, architecture, registers: table(hex), whole: flag, batch: BATCH });
const CACHED = members({
  iommu: text,
  side,
  cache: one("configuration", "tlb", "device"),
  kind: text,
  streamId: or(nothing, count),
  hostFunction: or(nothing, text),
  pasid: or(nothing, count),
  tags: table(number),
  iova: or(nothing, hex),
  pageBits: or(nothing, count),
  output: or(nothing, hex),
  permissions: or(nothing, text),
  global: flag,
  words: list(hex),
});
const word: Check = (value) => number(value) && (value as number) === ((value as number) | 0);
const PAGE = members({
  side,
  page: (value) => count(value) && (value as number) < 2 ** 40,
  bytes: or(absent, (value) => typeof value === "string" && value.length <= 5464 && /^[A-Za-z0-9+/]*={0,2}$/.test(value) && value.length % 4 === 0),
  words: or(absent, (value) => Array.isArray(value) && value.length % 2 === 0 && value.every((each, at) => word(each) && (at % 2 === 1 || (each >= 0 && each < 1024)))),
  gone: or(absent, one(true)),
});
const NUMBERS = members({ of: or(nothing, text), invalidations: count, hostCalls: count, exits: count, faults: count, dma: count, dmaBytes: count });

const CHANGES = members({
  map: or(absent, MAP),
  units: or(absent, list(or(nothing, UNIT))),
  cached: or(absent, members({ first: count, removed: count, entries: list(CACHED) })),
  places: or(absent, table(or(nothing, members({ unit: text, streamId: count })))),
  ram: or(absent, list(count)),
  pages: or(absent, list(PAGE)),
  numbers: or(absent, list(NUMBERS)),
});

const HEADER = members({ version: text, machine: list(text), host: text, about: text });
const END = members({ reason: text, limited: flag });

/** @throws RecordingError */
export function checkedHeader(text: string): RecordingHeader {
  return checked(text, HEADER, "the recording's header") as RecordingHeader;
}

/** @throws RecordingError */
export function checkedEnd(text: string): RecordingEnd {
  return checked(text, END, "the recording's end") as RecordingEnd;
}

/** @param number of the row that it has to be; `whole`: it has all of the state @throws RecordingError */
export function checkedLine(text: string, number: number, whole: boolean): RecordedLine {
  const line = checked(text, (value) => Array.isArray(value) && value.length === 2 && ROW(value[0]) && CHANGES(value[1]), `row ${number}`) as RecordedLine;
  if (line[0].number !== number || (whole && line[1].map === undefined)) {
    throw new RecordingError(`the recording is damaged: row ${number} is not where it should be`);
  }
  return line;
}

function checked(text: string, check: Check, what: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new RecordingError(`the recording is damaged: ${what} is no JSON`);
  }
  if (!check(value)) {
    throw new RecordingError(`the recording is damaged: ${what} has not the members that it should have`);
  }
  return value;
}
