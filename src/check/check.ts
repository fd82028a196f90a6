/**
 * All that would fail or be slow of a line, at once: what is wrong is told, mended in a copy where it can be, left out
 * of it where not, and what stays is looked at again, until nothing more is found.
 */
import type { HostDescription } from "../host/simulated/file/index.js";
import { DEFAULT_RAM, describeArgument, type LocatedWord, type MachineArguments, readArguments } from "../machine/arguments/index.js";
import { hostFunctionAddress, type Machine } from "../machine/index.js";
import { recognise } from "../machine/input/index.js";
import { type Finding, type Place, Refusal } from "../support/index.js";
import { isXml, misspeltAttributes } from "./domain-xml.js";
import { dryRun, SharedMemory } from "./dry-run.js";
import { EditedText, lineAndColumn, offsetOf } from "./edited-text.js";
import { Line, type Spot } from "./line.js";
import { functionsWithoutIommu, ofLine, ofMachine } from "./find/index.js";
import { cureOf, cureOfWords } from "./mends.js";
import { isRule, type RuleId, rules } from "./rules.js";
import { type Raised, Subject } from "./subject.js";
import { arguable, standInHost, withDescriptors, withKnownRegisters, withUnknown } from "./stand-in-host.js";
import { Topology } from "./topology.js";

export interface CheckRequest {
  readonly text: string;
  /** Name of the text, for places. */
  readonly source: string;
  /** Null: what the line alone shows. */
  readonly host: HostDescription | null;
  /** Functions of the host by descriptors, as the line says them. */
  readonly descriptors?: ReadonlyMap<string, string>;
}

/** A finding, and what of the text it is about. */
export interface CheckedFinding extends Finding {
  /** Offsets of the text; null: it is about no place of it. */
  readonly range: { readonly start: number; readonly end: number } | null;
  /** The fixed text is without it. */
  readonly mended: boolean;
}

export interface CheckReport {
  readonly source: string;
  readonly text: string;
  /** In the order of their places. */
  readonly findings: readonly CheckedFinding[];
  /** The text with all that can be mended; the text itself where nothing can. */
  readonly fixed: string;
}

/** More rounds than there are mistakes in a line that people have. */
const ROUNDS = 400;

/** What only the host's function is to blame for. */
const ABOUT_FUNCTION: ReadonlySet<RuleId> = new Set(["no-such-function", "function-not-bound", "group-not-viable", "firmware-mapping"]);

/** @throws Refusal where the text is no line */
export function check(request: CheckRequest): CheckReport {
  const run = new CheckRun(request);
  return run.run();
}

class CheckRun {
  private text: EditedText;
  private readonly findings = new Map<string, CheckedFinding>();
  /** Where options that are left out begin, in the first text. */
  private readonly left = new Set<number>();
  /** Findings whose mends were done: none is done twice. */
  private readonly tried = new Set<string>();
  private readonly memory = new SharedMemory();
  /** Functions of the host that are taken for ones that can be passed through: it was told that they cannot. */
  private readonly assumed = new Set<string>();

  constructor(private readonly request: CheckRequest) {
    this.text = EditedText.of(request.text);
  }

  run(): CheckReport {
    for (let round = 0; round < ROUNDS && this.round(); round++) {
      // Each round mends or leaves out what the one before has found.
    }
    const at = ({ range }: CheckedFinding): number => range?.start ?? Number.POSITIVE_INFINITY;
    return {
      source: this.request.source,
      text: this.request.text,
      findings: [...this.findings.values()].sort((a, b) => (at(a) === at(b) ? 0 : at(a) - at(b))),
      fixed: this.text.text,
    };
  }

  /** @returns whether the line has changed */
  private round(): boolean {
    if (this.misspelt()) {
      return true;
    }
    const words = this.read();
    if (words === null) {
      return false;
    }
    const line = new Line(this.text, words);
    const left = new Set([...line.options.keys()].filter((option) => this.left.has(this.beginning(line, option))));
    const read = readArguments(line.wordsBut(left));
    if (read.arguments === null) {
      return this.wrongWords(line, read.findings);
    }
    const subject = new Subject(line, withDescriptors(read.arguments, this.request.descriptors ?? new Map()), this.request.host, left);
    if (this.takeAll(line, ofLine(subject))) {
      return true;
    }
    const args = arguable(subject.args, subject.topology, left.size > 0);
    const host = this.hostFor(args);
    const tried = dryRun(args, host, this.memory, (machine: Machine) => ofMachine(subject, machine));
    return tried.refusal === null ? this.takeAll(line, tried.seen) : this.refused(subject, tried.refusal.parts[0]);
  }

  /** Attributes of a domain XML that libvirt leaves out. @returns whether the text has changed */
  private misspelt(): boolean {
    const all = misspeltAttributes(this.text.text);
    for (const { start, end, ...finding } of all) {
      this.noteAt("unknown-property", finding, { start, end }, true);
    }
    this.text = this.text.with(all.map(({ edit }) => edit));
    return all.length > 0;
  }

  /** The words of the text; null: what libvirt refuses of it has been told. @throws Refusal where it is nothing that is read */
  private read(): readonly LocatedWord[] | null {
    try {
      return recognise(this.text.text, this.request.source).words;
    } catch (error) {
      if (!(error instanceof Refusal) || !isXml(this.text.text) || error.rule === "invalid-xml" || error.rule === "no-domain") {
        throw error;
      }
      for (const { words, found, wouldWork, place, where } of error.parts) {
        const start = offsetOf(this.text.text, place?.line ?? 1, place?.column ?? 1);
        this.noteAt("domain-xml", { words, found: withoutPlace({ found, where }), wouldWork }, { start, end: start + /^\S*?(?=[\s>/]|$)/.exec(this.text.text.slice(start))![0].length }, false);
      }
      return null;
    }
  }

  /** What is told of a place of the text itself. */
  private noteAt(rule: RuleId, { words, found, wouldWork }: { readonly words: string; readonly found?: string; readonly wouldWork?: string }, { start, end }: { start: number; end: number }, mended: boolean): void {
    const begin = this.text.originOf(start) ?? this.nearest(start);
    const range = { start: begin, end: begin + end - start };
    const place = { source: this.request.source, ...lineAndColumn(this.request.text, begin), word: null, text: this.request.text.slice(range.start, range.end) };
    const key = `${rule} ${begin} ${words}`;
    if (!this.findings.has(key)) {
      this.findings.set(key, { level: rules.get(rule)!.level, rule, words, ...(found === undefined ? {} : { found }), ...(wouldWork === undefined ? {} : { wouldWork }), place, range, mended });
    }
  }

  /** What the machine is tried on. */
  private hostFor(args: MachineArguments): HostDescription {
    const topology = new Topology(args);
    if (this.request.host === null) {
      return standInHost(args, topology, memoryOf(args));
    }
    const bare = new Set(functionsWithoutIommu(this.request.host, topology).map(({ fn }) => fn.address));
    bare.forEach((address) => this.assumed.add(address));
    const functions = this.request.host.functions.filter(({ address }) => !bare.has(address)).map((fn) => (this.assumed.has(fn.address) ? { ...fn, driver: "vfio-pci", group: null, reserved: null } : fn));
    const host = withUnknown({ ...this.request.host, functions }, args, topology, this.assumed);
    return withKnownRegisters(host, new Set(args.devices.flatMap((device) => hostFunctionAddress(device) ?? [])));
  }

  /** Notes all that was found, and does the first mend. @returns whether the line has changed */
  private takeAll(line: Line, all: readonly Raised[]): boolean {
    const first = all.find((raised) => raised.mend !== undefined && !this.tried.has(this.keyOf(line, raised)) && this.changes(line.with(raised.mend)));
    for (const raised of all) {
      if (raised !== first) {
        // Its turn comes in a later round, for the line as it is then.
        this.note(line, raised, false);
      }
    }
    return first !== undefined && this.take(line, first, null);
  }

  /** The machine was refused. */
  private refused(subject: Subject, refusal: Refusal): boolean {
    const rule: RuleId = isRule(refusal.rule) ? refusal.rule : "machine-refused";
    const { line } = subject;
    const word = refusal.place?.word ?? null;
    const option = word === null ? null : line.optionOfWord(word);
    const device = option === null ? null : subject.deviceOf(option);
    const cure = device === null ? { spot: option === null ? null : { option } } : cureOf(rule, subject, device, refusal);
    const address = device === null ? null : hostFunctionAddress(device);
    if (ABOUT_FUNCTION.has(rule) && address !== null && !this.assumed.has(address)) {
      // The rest of what is said of it is looked at as if the host's function were as it should be.
      this.assumed.add(address);
      this.note(line, { rule, words: refusal.words, found: withoutPlace(refusal), wouldWork: refusal.wouldWork, ...cure }, false);
      return true;
    }
    return this.take(line, { rule, words: refusal.words, found: withoutPlace(refusal), wouldWork: refusal.wouldWork, ...cure }, option);
  }

  /** Words that are no arguments of a machine: they are told and left out. */
  private wrongWords(line: Line, findings: readonly Finding[]): boolean {
    for (const finding of findings.filter(({ level }) => level === "error")) {
      const word = finding.place?.word ?? null;
      const option = word === null ? null : line.optionOfWord(word);
      const rule: RuleId = /^Property '[^']*' not found$/.test(finding.words) ? "unknown-property" : isRule(finding.rule) ? finding.rule : "invalid-option";
      const cure = option === null ? { spot: null } : cureOfWords(rule, line, { option, property: finding.place?.property }, finding);
      // Without a machine nothing is left to look at.
      const leave = option !== null && ["machine", "M"].includes(line.options[option].name) ? null : option;
      if (this.take(line, { rule, words: finding.words, found: withoutPlace({ found: finding.found, where: finding.place?.text }), wouldWork: finding.wouldWork, ...cure }, leave)) {
        // The others are told of the line as it is then.
        return true;
      }
    }
    return false;
  }

  /**
   * Notes what was found; mends the line, or leaves out the option.
   * @param option to leave out where it cannot be mended
   * @returns whether the line has changed
   */
  private take(line: Line, raised: Raised, option: number | null): boolean {
    const key = this.keyOf(line, raised);
    const mended = raised.mend === undefined || this.tried.has(key) ? null : line.with(raised.mend);
    const changes = this.changes(mended);
    this.note(line, raised, changes);
    if (changes) {
      this.tried.add(key);
      this.text = mended;
      return true;
    }
    if (option === null) {
      return false;
    }
    const beginning = this.beginning(line, option);
    const before = this.left.size;
    this.left.add(beginning);
    return this.left.size > before;
  }

  private changes(mended: EditedText | null): mended is EditedText {
    return mended !== null && mended.text !== this.text.text;
  }

  /** What a finding is told apart by, however the line changes. */
  private keyOf(line: Line, { rule, level, words, spot }: Raised): string {
    // A note is told of the line as it was.
    const what = (level ?? rules.get(rule)!.level) === "note" ? "" : words;
    return `${rule} ${spot === null ? "" : this.originalRange(line, spot).start} ${what}`;
  }

  private note(line: Line, raised: Raised, mended: boolean): void {
    const { rule, level, words, found, wouldWork, spot } = raised;
    const range = spot === null ? null : this.originalRange(line, spot);
    const place = range === null ? null : this.place(line, spot!, range);
    const key = this.keyOf(line, raised);
    const before = this.findings.get(key);
    if (before === undefined || before.mended !== mended) {
      this.findings.set(key, { level: level ?? rules.get(rule)!.level, rule, words, ...(found === undefined ? {} : { found }), ...(wouldWork === undefined ? {} : { wouldWork }), place, range, mended: mended || (before?.mended ?? false) });
    }
  }

  /** Where in the first text something stands; what was put in stands where it was put. */
  private originalRange(line: Line, spot: Spot): { start: number; end: number } {
    const { start, end } = line.range(spot);
    const begin = this.text.originOf(start) ?? this.nearest(start);
    let last = begin;
    for (let at = start; at < end; at++) {
      last = this.text.originOf(at) ?? last;
    }
    return { start: begin, end: Math.max(last + 1, begin) };
  }

  private nearest(offset: number): number {
    for (let at = offset; at <= this.text.text.length; at++) {
      const origin = this.text.originOf(at);
      if (origin !== null) {
        return origin;
      }
    }
    return this.request.text.length;
  }

  private place(line: Line, { option, property }: Spot, { start }: { start: number }): Place {
    const { name, value, argument } = line.options[option];
    return {
      source: this.request.source,
      ...lineAndColumn(this.request.text, start),
      word: line.options[option].word,
      text: argument === null ? `-${name}` : describeArgument(`-${name}`, value),
      ...(property === undefined ? {} : { property }),
    };
  }

  /** A name for an option that stays while the text changes. */
  private beginning(line: Line, option: number): number {
    const { start } = line.range({ option });
    return this.text.originOf(start) ?? -1 - start;
  }
}

/** What was found, without the argument that it is about, for the place tells that; a host that is tried is the one that was told. */
function withoutPlace({ found: said, where = "" }: Pick<Refusal, "found" | "where">): string | undefined {
  const found = said?.replace(/^simulated: /, "");
  return found === where ? undefined : found?.endsWith(`, in ${where}`) === true ? found.slice(0, -`, in ${where}`.length) : found;
}

function memoryOf(args: MachineArguments): number {
  const backends = args.objects.reduce((sum, { size }) => sum + size, 0);
  return Math.max(args.memory.size ?? DEFAULT_RAM, args.memory.maxSize, 0) + backends;
}

