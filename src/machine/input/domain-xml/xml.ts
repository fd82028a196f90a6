/** XML as elements that know where they stand. */
import { createRequire } from "node:module";
import type { Element as XmlNode } from "@xmldom/xmldom";
import type * as XmlDom from "@xmldom/xmldom";
import { type Place, Refusal } from "../../../support/index.js";

export interface XmlElement {
  /** With its prefix: `qemu:arg`. */
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** Of itself and of what is in it, without blanks around. */
  readonly text: string;
  readonly place: Place;
}

const ELEMENT = 1;
/** Characters of an element that messages show. */
const SHOWN = 100;
/** Elements within elements, as libxml2 has it. */
const DEEPEST = 256;

/** The root element. @throws Refusal where it is no XML */
export function parseXml(text: string, source: string): XmlElement {
  // Loaded for the first XML: most machines are lines.
  const { DOMParser, ParseError } = createRequire(import.meta.url)("@xmldom/xmldom") as typeof XmlDom;
  // What is no end of the parsing is told by the function, and as bad.
  const errors: string[] = [];
  try {
    const document = new DOMParser({ locator: true, onError: (level, message) => void (level === "warning" || errors.push(message)) }).parseFromString(text, "text/xml");
    if (errors.length > 0) {
      throw new ParseError(errors[0]);
    }
    return convert(document.documentElement!, source, 0);
  } catch (error) {
    if (!(error instanceof ParseError)) {
      throw error;
    }
    const { lineNumber, columnNumber } = (error.locator ?? {}) as { lineNumber?: number; columnNumber?: number };
    throw new Refusal(`XML error: ${error.message}`, {
      rule: "invalid-xml",
      found: lineNumber === undefined ? source : `${source}:${lineNumber}`,
      wouldWork: "what virsh dumpxml prints",
      place: { source, line: lineNumber ?? null, column: columnNumber ?? null, word: null, text: "" },
    });
  }
}

function convert(node: XmlNode, source: string, depth: number): XmlElement {
  if (depth > DEEPEST) {
    throw new Refusal("XML error: Excessive depth in document", { rule: "invalid-xml", found: source, wouldWork: "what virsh dumpxml prints" });
  }
  const attributes = new Map<string, string>();
  for (let index = 0; index < node.attributes.length; index++) {
    const attribute = node.attributes.item(index)!;
    attributes.set(attribute.name, attribute.value);
  }
  const children: XmlElement[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling) {
    if (child.nodeType === ELEMENT) {
      children.push(convert(child as XmlNode, source, depth + 1));
    }
  }
  const tag = `<${node.tagName}${[...attributes].map(([name, value]) => ` ${name}='${value}'`).join("")}>`;
  const { lineNumber, columnNumber } = node as { lineNumber?: number; columnNumber?: number };
  const place = { source, line: lineNumber ?? null, column: columnNumber ?? null, word: null, text: tag.length > SHOWN ? `${tag.slice(0, SHOWN)}...` : tag };
  return { name: node.tagName, attributes, children, text: (node.textContent ?? "").trim(), place };
}

/** The first element of that name, as far down as `path` says: `"cpu", "numa"`. */
export function find(element: XmlElement | null, ...path: string[]): XmlElement | null {
  return path.reduce<XmlElement | null>((at, name) => at?.children.find((child) => child.name === name) ?? null, element);
}

export function all(element: XmlElement | null, name: string): XmlElement[] {
  return element?.children.filter((child) => child.name === name) ?? [];
}

export function attribute(element: XmlElement | null, name: string): string | null {
  return element?.attributes.get(name) ?? null;
}

/** A device's id that its user gives it; libvirt drops others without a word (USER_ALIAS_PREFIX, USER_ALIAS_CHARS). Null: libvirt's own. */
export function userAlias(element: XmlElement | null): string | null {
  const name = attribute(find(element, "alias"), "name");
  return name !== null && /^ua-[\w-]+$/.test(name) ? name : null;
}

export function isOn(value: string | null): boolean {
  return value === "on" || value === "yes";
}

/** A number in C's notation. @throws Refusal */
export function number(element: XmlElement, name: string, text: string): number {
  if (!/^(?:0x[0-9a-f]+|\d+)$/i.test(text)) {
    throw new Refusal(`XML error: Invalid value for attribute '${name}' in element '${element.name}': '${text}'. Expected integer value`, { rule: "invalid-number", place: element.place, where: element.place.text });
  }
  return Number(text);
}

const UNITS: Readonly<Record<string, number>> = { b: 1, bytes: 1, kb: 1e3, k: 2 ** 10, kib: 2 ** 10, mb: 1e6, m: 2 ** 20, mib: 2 ** 20, gb: 1e9, g: 2 ** 30, gib: 2 ** 30, tb: 1e12, t: 2 ** 40, tib: 2 ** 40 };

/** Bytes of a size with its unit. @throws Refusal */
export function bytes(element: XmlElement, text: string, unit: string | null, defaultUnit = "KiB"): number {
  const factor = UNITS[(unit ?? defaultUnit).toLowerCase()];
  if (factor === undefined) {
    throw new Refusal(`invalid argument: unknown suffix '${unit}'`, { rule: "invalid-size", place: element.place, where: element.place.text, wouldWork: "unit='KiB', 'MiB', 'GiB'" });
  }
  return number(element, "size", text) * factor;
}
