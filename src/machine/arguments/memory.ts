/** `-m`. */
import { Refusal } from "../../support/index.js";
import { describeArgument, located, parseOptionString } from "./option-string.js";
import { parseSize } from "./property.js";

export interface MemoryArguments {
  /** Bytes of RAM; null: not said (128 MiB, or what the machine's memory backend has). */
  readonly size: number | null;
  readonly slots: number;
  /** Bytes; 0: not said. */
  readonly maxSize: number;
}

export const DEFAULT_RAM = 128 * 2 ** 20;
/** QEMU rounds RAM up to this many bytes. */
const RAM_ALIGNMENT = 8192;

export function parseMemory(text: string | null): MemoryArguments {
  if (text === null) {
    return { size: null, slots: 0, maxSize: 0 };
  }
  const where = describeArgument("-m", text);
  return located(where, () => {
    const { values } = parseOptionString("-m", text, "size");
    for (const key of values.keys()) {
      if (!["size", "slots", "maxmem"].includes(key)) {
        throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "-m [size=]N[,slots=N,maxmem=N]" });
      }
    }
    const sizeText = values.get("size");
    const asked = sizeText === undefined ? 0 : parseSize("size", String(sizeText), "M");
    const size = Math.ceil(asked / RAM_ALIGNMENT) * RAM_ALIGNMENT;
    const maxSize = values.has("maxmem") ? parseSize("maxmem", String(values.get("maxmem")), "") : 0;
    const slots = Number(values.get("slots") ?? 0);
    if (!Number.isInteger(slots) || slots < 0 || slots > 256) {
      throw new Refusal(`Parameter 'slots' expects a number up to 256`, { found: `slots=${String(values.get("slots"))}` });
    }
    if (slots > 0 && maxSize === 0) {
      throw new Refusal("slots specified but no max-size", { wouldWork: `${text},maxmem=${text.split(",")[0]}` });
    }
    if (maxSize > 0 && maxSize < size) {
      throw new Refusal(`invalid value of maxmem: maximum memory size (0x${maxSize.toString(16)}) must be at least the initial memory size (0x${size.toString(16)})`);
    }
    if (slots > 0 && maxSize === size) {
      throw new Refusal(`invalid value of maxmem: memory slots were specified but maximum memory size (0x${maxSize.toString(16)}) is equal to the initial memory size (0x${size.toString(16)})`);
    }
    return { size: size === 0 ? null : size, slots, maxSize };
  });
}
