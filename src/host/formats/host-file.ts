/** A described host as the text of a host file: what is unknown or as the defaults have it is left out. */
import type { HostDescription } from "../simulated/file/index.js";

/** Keys that are written in hexadecimal. */
const HEX = new Set(["base", "vendor", "device", "class", "idr0", "idr1", "idr2", "idr3", "idr4", "idr5", "iidr", "aidr", "msiDoorbell", "streamId", "revision"]);
/** Keys whose default is not null: the value that need not be written. */
const DEFAULTS: Readonly<Record<string, unknown>> = { noSoftReset: true, blockSize: 512, revision: 0, streamId: undefined };

export function hostFileText(host: HostDescription): string {
  const { msiDoorbell, ...told } = host;
  // Hosts of x86 have none to tell; of others the address is nowhere in sysfs.
  void msiDoorbell;
  const kept = new Set(["ats", "pri", "pasidBits", "msiVectors", "msixVectors", "smmu", "vtd", "amd", "idr0", "idr1", "idr5"]);
  const fromCap = host.vtds.some(({ cap, ecap }) => cap !== null && ecap !== null);
  const ofRegisters = new Set(["name", "base", "segment", "numaNode", "cap", "ecap", "errata"]);
  const vtds = fromCap ? host.vtds.map((unit) => (unit.cap === null || unit.ecap === null ? unit : Object.fromEntries(Object.entries(unit).filter(([key]) => ofRegisters.has(key))))) : host.vtds;
  const text = JSON.stringify(
    { ...told, vtds },
    (key, value: unknown) => {
      if ((value === null && !kept.has(key)) || (key in DEFAULTS && value === DEFAULTS[key])) {
        return undefined;
      }
      return typeof value === "number" && HEX.has(key) ? `0x${value.toString(16)}` : value;
    },
    2,
  );
  return `${inLines(text)}\n`;
}

/** Lists and objects without others in them on one line. */
function inLines(text: string): string {
  return text.replace(/\[\s+([^[\]{}]*?)\s+\]|\{\s+([^[\]{}]*?)\s+\}/g, (all, list: string | undefined, object: string | undefined) => {
    const body = (list ?? object ?? "").replace(/\s*\n\s*/g, " ");
    return body.length > 160 ? all : list === undefined ? `{ ${body} }` : `[${body}]`;
  });
}
