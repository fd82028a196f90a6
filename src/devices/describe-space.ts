/** What a recorded configuration space says, for people: ids, class, BARs, capabilities that placement is about. */
import { byteText } from "../support/index.js";
import { barsOf, type InertSpace } from "./inert-function.js";

const TYPES: Readonly<Record<number, string>> = { 0: "endpoint", 1: "legacy endpoint", 4: "root port", 5: "upstream port", 6: "downstream port", 7: "PCI Express to PCI bridge", 8: "PCI to PCI Express bridge", 9: "integrated endpoint" };

export interface SpaceSummary {
  /** `vvvv:dddd (sub vvvv:dddd)`. */
  readonly ids: string;
  /** Six hexadecimal digits. */
  readonly classCode: string;
  readonly revision: number;
  /** Of the header: 0 or 1. */
  readonly headerType: number;
  readonly bars: readonly string[];
  readonly capabilities: readonly string[];
}

export function describeSpace(space: InertSpace): SpaceSummary {
  const { image, size } = space;
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const four = (at: number): string => view.getUint16(at, true).toString(16).padStart(4, "0");
  const headerType = image[0x0e] & 0x7f;
  const capabilities: string[] = [];
  const word = (at: number): number => (at + 2 <= size ? view.getUint16(at, true) : 0);
  const seen = new Set<number>();
  for (let at = (image[0x06] & 0x10) === 0 ? 0 : image[0x34] & 0xfc; at >= 0x40 && !seen.has(at); at = image[at + 1] & 0xfc) {
    seen.add(at);
    if (image[at] === 0x05) {
      capabilities.push(`MSI x${1 << ((word(at + 2) >> 1) & 7)}`);
    } else if (image[at] === 0x11) {
      capabilities.push(`MSI-X x${(word(at + 2) & 0x7ff) + 1} in BAR ${image[at + 4] & 7}`);
    } else if (image[at] === 0x10) {
      capabilities.push(`PCI Express ${TYPES[(word(at + 2) >> 4) & 15] ?? "function"}`);
    }
  }
  for (let at = 0x100; at >= 0x100 && at + 4 <= size && !seen.has(at) && view.getUint32(at, true) !== 0; at = view.getUint32(at, true) >>> 20) {
    seen.add(at);
    const name = { 0x0f: "ATS", 0x1b: "PASID", 0x10: `SR-IOV x${word(at + 0x0e)}`, 0x0e: "ARI", 0x0d: "ACS", 0x13: "PRI" }[word(at)];
    if (name !== undefined) {
      capabilities.push(name);
    }
  }
  return {
    ids: `${four(0)}:${four(2)}${headerType === 0 ? ` (subsystem ${four(0x2c)}:${four(0x2e)})` : ""}`,
    classCode: [image[0x0b], image[0x0a], image[0x09]].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    revision: image[0x08],
    headerType,
    bars: headerType === 0 ? barsOf(space).map(({ index, size: bytes, kind, is64, prefetchable }) => `BAR ${index}: ${byteText(bytes)} of ${kind === "io" ? "I/O ports" : `${is64 ? "64" : "32"}-bit memory${prefetchable ? ", prefetchable" : ""}`}`) : [],
    capabilities,
  };
}
