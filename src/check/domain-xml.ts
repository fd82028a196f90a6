/** A domain XML's attributes where they stand: what the line that libvirt makes of it is mended by. */
import type { TextEdit } from "./edited-text.js";
import type { Change } from "./line.js";

/** libvirt 12.9's attributes of an <iommu>'s <driver>, by the property that each becomes. */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  accel: "accel",
  ats: "ats",
  ril: "ril",
  cmdqv: "cmdqv",
  ssidsize: "ssidsize",
  oas: "oas",
  intremap: "intremap",
  eim: "eim",
  "caching-mode": "caching_mode",
  "device-iotlb": "iotlb",
  "aw-bits": "aw_bits",
  "dma-translation": "dma_translation",
};
const OTHERS = ["xtsup", "passthrough", "pciBus"];

export function isXml(text: string): boolean {
  return /^\s*<(?:\?xml|!--|domain\b)/.test(text);
}

interface Attribute {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly valueStart: number;
}

/** Attributes of the tag that begins at `start`. */
function attributesOf(text: string, start: number): Attribute[] {
  const tag = /^<[\w:-]+(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'))*/.exec(text.slice(start))?.[0] ?? "";
  return [...tag.matchAll(/([\w:-]+)(\s*=\s*)(?:"[^"]*"|'[^']*')/g)].map((found) => ({
    name: found[1],
    start: start + found.index,
    end: start + found.index + found[0].length,
    valueStart: start + found.index + found[1].length + found[2].length + 1,
  }));
}

/** The <driver> of the element that begins at `start`; null: it has none. */
function driverOf(text: string, start: number): number | null {
  const name = /^<([\w:-]+)/.exec(text.slice(start))?.[1];
  const close = name === undefined ? -1 : text.indexOf(`</${name}>`, start);
  const at = text.indexOf("<driver", start);
  return at >= 0 && at < close ? at : null;
}

/** Where an IOMMU's property stands. @param start of its element */
export function attributeRange(text: string, start: number, property: string): { start: number; end: number } | null {
  const driver = driverOf(text, start);
  const found = driver === null ? undefined : attributesOf(text, driver).find(({ name }) => name === ATTRIBUTES[property]);
  return found ?? null;
}

/** A change of an option as one of the XML that it came from; null: it is none of its attributes. @param start of its element */
export function xmlEdit(text: string, start: number, change: Change): TextEdit | null {
  if (change.kind !== "set" && change.kind !== "unset") {
    return null;
  }
  const element = /^<([\w:-]+)/.exec(text.slice(start))?.[1];
  const isFunction = element === "hostdev" && change.property === "iommufd";
  const name = element === "iommu" ? ATTRIBUTES[change.property] : isFunction ? "iommufd" : undefined;
  if (name === undefined) {
    return null;
  }
  const value = isFunction ? "yes" : change.kind === "set" ? change.value : "auto";
  const driver = driverOf(text, start);
  if (driver === null) {
    const open = start + /^<[^>]*>/.exec(text.slice(start))![0].length;
    const isEmpty = text[open - 2] === "/";
    return isEmpty ? { start: open - 2, end: open, text: `><driver ${name}='${value}'/></${element!}>` } : { start: open, end: open, text: `<driver ${name}='${value}'/>` };
  }
  const found = attributesOf(text, driver).find((one) => one.name === name);
  if (value === "auto") {
    // libvirt has no auto: the attribute is left out.
    return found === undefined ? null : { start: found.start - (/\s$/.test(text.slice(0, found.start)) ? 1 : 0), end: found.end, text: "" };
  }
  return found === undefined ? { start: driver + "<driver".length, end: driver + "<driver".length, text: ` ${name}='${value}'` } : { start: found.valueStart, end: found.end - 1, text: value };
}

export interface Misspelt {
  readonly words: string;
  readonly found: string;
  readonly wouldWork: string;
  readonly start: number;
  readonly end: number;
  readonly edit: TextEdit;
}

/** Attributes of IOMMUs that libvirt does not know by their case: it leaves them out without a word. */
export function misspeltAttributes(text: string): Misspelt[] {
  if (!isXml(text)) {
    return [];
  }
  const plain = text.replace(/<!--[^]*?-->/g, (comment) => " ".repeat(comment.length));
  const known = new Map([...Object.values(ATTRIBUTES), ...OTHERS].map((name) => [name.toLowerCase(), name]));
  return [...plain.matchAll(/<iommu\b/g)].flatMap(({ index }) => {
    const driver = driverOf(plain, index);
    const all = driver === null ? [] : attributesOf(plain, driver);
    return all.flatMap(({ name, start, end }): Misspelt[] => {
      const right = known.get(name.toLowerCase().replaceAll("-", "_"));
      if (right === undefined || right === name) {
        return [];
      }
      const twice = all.some((one) => one.name === right);
      return [
        {
          words: `attribute '${name}' of an <iommu>'s <driver> is none of libvirt's`,
          found: `did you mean ${right}? libvirt leaves it out without a word, and the guest gets the default`,
          wouldWork: twice ? `${right} alone` : `${right}=${text.slice(start + name.length + 1, end)}`,
          start,
          end,
          edit: twice ? { start: start - 1, end, text: "" } : { start, end: start + name.length, text: right },
        },
      ];
    });
  });
}
