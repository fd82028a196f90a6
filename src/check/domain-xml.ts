/** A domain XML's attributes where they stand: places of what a line says that came from one, and spellings that libvirt does not know. */
import type { TextEdit } from "./edited-text.js";
import { attributesAt, childOf, elementsOf, pathTo, withoutComments, type XmlTag } from "./xml-elements.js";

/** libvirt 12.9's attributes of an <iommu>'s <driver>, by the property that each becomes. */
export const IOMMU_ATTRIBUTES: Readonly<Record<string, string>> = {
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

/** Where what a property is of stands. @param start of the option's element */
export function attributeRange(text: string, start: number, property: string): { start: number; end: number } | null {
  const element = pathTo(elementsOf(text), start).at(-1);
  const named = (child: XmlTag | undefined, name: string): { start: number; end: number } | null => (child === undefined ? null : (attributesAt(text, child.start).find((one) => one.name === name) ?? null));
  switch (element?.name) {
    case "iommu":
      return named(childOf(element, "driver"), property === "primary-bus" ? "pciBus" : IOMMU_ATTRIBUTES[property]);
    case "controller":
      return property === "numa_node" ? (childOf(element, "target", "node") ?? null) : property === "bus_nr" ? named(childOf(element, "target"), "busNr") : property === "chassis" ? named(childOf(element, "target"), "chassis") : ofAddress(element, property);
    case "hostdev":
    case "interface":
      return property === "iommufd" ? named(childOf(element, "driver"), "iommufd") : property === "host" ? (childOf(element, "source", "address") ?? null) : ofAddress(element, property);
    default:
      return ofAddress(element, property);
  }
}

function ofAddress(element: XmlTag | undefined, property: string): { start: number; end: number } | null {
  return property === "bus" || property === "addr" ? (childOf(element, "address") ?? null) : null;
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
  const root = elementsOf(text);
  const known = new Map([...Object.values(IOMMU_ATTRIBUTES), ...OTHERS].map((name) => [name.toLowerCase(), name]));
  return [...withoutComments(text).matchAll(/<iommu\b/g)].flatMap(({ index }) => {
    const driver = childOf(pathTo(root, index).at(-1), "driver");
    const all = driver === undefined ? [] : attributesAt(text, driver.start);
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
