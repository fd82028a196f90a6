/** YAML and JSON as values that know where they stand, and elements of a domain made of them. */
import { createRequire } from "node:module";
import type { Document, LineCounter, Node } from "yaml";
import type * as Yaml from "yaml";
import { type Place, Refusal } from "../../../support/index.js";
import type { XmlElement } from "../domain-xml/xml.js";

let loaded: typeof Yaml | null = null;

/** Loaded for the first text of that kind: most machines are lines. */
function yaml(): typeof Yaml {
  return (loaded ??= createRequire(import.meta.url)("yaml") as typeof Yaml);
}

export class YamlValue {
  constructor(
    private readonly node: Node | null,
    private readonly path: string,
    private readonly source: string,
    private readonly lines: LineCounter,
  ) {}

  get exists(): boolean {
    return this.node !== null && !(yaml().isScalar(this.node) && this.node.value === null);
  }

  get place(): Place {
    const at = this.node?.range === undefined || this.node.range === null ? null : this.lines.linePos(this.node.range[0]);
    return { source: this.source, line: at?.line ?? null, column: at?.col ?? null, word: null, text: this.path };
  }

  /** As far down as the names say. */
  at(...names: string[]): YamlValue {
    return names.reduce<YamlValue>((value, name) => value.child(name), this);
  }

  private child(name: string): YamlValue {
    const node = yaml().isMap(this.node) ? (this.node.get(name, true) as Node | undefined) : undefined;
    return new YamlValue(node ?? null, this.path === "" ? name : `${this.path}.${name}`, this.source, this.lines);
  }

  /** Empty where it is no list. */
  get list(): YamlValue[] {
    return yaml().isSeq(this.node) ? this.node.items.map((item, index) => new YamlValue(item as Node, `${this.path}[${index}]`, this.source, this.lines)) : [];
  }

  get names(): string[] {
    return yaml().isMap(this.node) ? this.node.items.map(({ key }) => String(yaml().isScalar(key) ? key.value : key)) : [];
  }

  /** Null where it is none. */
  get text(): string | null {
    return yaml().isScalar(this.node) && this.node.value !== null ? String(this.node.value) : null;
  }

  get isFalse(): boolean {
    return this.text === "false";
  }

  get isTrue(): boolean {
    return this.text === "true";
  }

  /** An element of a domain that stands where this does. */
  element(name: string, attributes: Readonly<Record<string, string>> = {}, children: readonly XmlElement[] = [], text = ""): XmlElement {
    return { name, attributes: new Map(Object.entries(attributes)), children, text, place: this.place };
  }

  toString(): string {
    return this.path;
  }
}

/** The documents of a text. @throws Refusal where it is none */
export function parseYaml(text: string, source: string): YamlValue[] {
  const lines = new (yaml().LineCounter)();
  const documents = yaml().parseAllDocuments(text, { lineCounter: lines }) as Document[];
  const error = documents.flatMap(({ errors }) => errors)[0];
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw new Refusal(error.message.split("\n")[0], { rule: "invalid-yaml", found: `${source}:${line}`, place: { source, line, column: col, word: null, text: "" } });
  }
  return documents.map(({ contents }) => new YamlValue(contents as Node | null, "", source, lines));
}

const SUFFIXES: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };

/** A quantity of Kubernetes: bytes, or processors. @throws Refusal */
export function quantity(value: YamlValue): number {
  const [, number, suffix] = /^(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/.exec(value.text ?? "") ?? [];
  if (number === undefined) {
    throw new Refusal("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'", { rule: "quantity", found: `${value.toString()}: ${value.text}`, wouldWork: "4Gi", place: value.place });
  }
  return suffix === "m" ? Number(number) / 1000 : Number(number) * SUFFIXES[suffix ?? ""];
}
