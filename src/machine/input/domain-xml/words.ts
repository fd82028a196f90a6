/** What a domain comes to: QEMU's words with the elements that they come from, notes, refusals. */
import { type Finding, Refusal, RefusalCollector, type RefusalDetails } from "../../../support/index.js";
import type { LocatedWord } from "../../arguments/index.js";
import type { XmlElement } from "./xml.js";

export type JsonObject = Record<string, unknown>;

export class DomainWords {
  readonly refusals = new RefusalCollector();
  readonly findings: Finding[] = [];
  /** Generic initiators so far, which are counted over the domain. */
  initiators = 0;
  private readonly words: LocatedWord[] = [];
  /** Properties of devices by their ids, which stand above libvirt's own: null takes one out. */
  private overrides: ReadonlyMap<string, ReadonlyMap<string, unknown>> = new Map();

  override(overrides: ReadonlyMap<string, ReadonlyMap<string, unknown>>): void {
    this.overrides = overrides;
  }

  /** An option with its argument; `""` for none. */
  option(element: XmlElement, name: string, value: string | JsonObject = ""): void {
    this.word(element, `-${name}`);
    if (value !== "") {
      this.word(element, typeof value === "string" ? value : JSON.stringify(name === "device" ? this.overridden(value) : value));
    }
  }

  private overridden(device: JsonObject): JsonObject {
    const own = this.overrides.get(String(device.id));
    return own === undefined ? device : Object.fromEntries([...Object.entries(device).filter(([name]) => !own.has(name)), ...[...own].filter(([, value]) => value !== null)]);
  }

  word({ place: { source, line, column } }: XmlElement, text: string): void {
    this.words.push({ text, source, line, column, index: this.words.length });
  }

  note(element: XmlElement, rule: string, words: string): void {
    const { source, line } = element.place;
    this.findings.push({ level: "note", rule, words: `${source}:${line ?? "?"}: ${words}`, place: element.place });
  }

  /** Runs what reads an element: what it refuses does not hide what is wrong with others. */
  at<T>(element: XmlElement, body: () => T): T | undefined {
    return this.refusals.attempt(body, { place: element.place, where: element.place.text });
  }

  refuse(element: XmlElement, words: string, details: RefusalDetails): void {
    this.at(element, () => {
      throw new Refusal(words, { ...details, place: element.place, where: element.place.text });
    });
  }

  /** @throws Refusal all that was refused */
  finish(): { words: readonly LocatedWord[]; findings: readonly Finding[] } {
    this.refusals.throwAll();
    return { words: this.words, findings: this.findings };
  }
}
