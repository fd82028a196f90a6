/** Numbers, sizes and refusals of host files. */
import { z } from "zod";
import { Refusal } from "../../../support/index.js";

const HEX_OR_DECIMAL = /^(?:0[xX][0-9a-fA-F]+|[0-9]+)$/;
const BYTES = /^(0[xX][0-9a-fA-F]+|[0-9]+)([KMGT]?)$/;
const SUFFIX: Record<string, number> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** A whole number from 0 to `most`, as a JSON number or a string in decimal or with 0x. */
export function wholeNumber(most: number, what: string) {
  return z
    .union([z.number(), z.string().regex(HEX_OR_DECIMAL, { error: 'expected a number, or a string such as "0x74"' })], {
      error: 'expected a number, or a string such as "0x74"',
    })
    .transform((value, context) => {
      const number = Number(value);
      if (!Number.isInteger(number) || number < 0 || number > most) {
        context.addIssue({ code: "custom", message: `expected ${what}, 0 to 0x${most.toString(16)}` });
        return z.NEVER;
      }
      return number;
    });
}

export const u32 = wholeNumber(0xffff_ffff, "a 32-bit value");
export const u16 = wholeNumber(0xffff, "a 16-bit value");
export const physicalAddress = wholeNumber(2 ** 52 - 1, "a physical address");

/** A size in bytes: a number, or a string in decimal or with 0x and with K, M, G or T (powers of 1024). */
export const byteCount = z
  .union([z.number(), z.string().regex(BYTES, { error: 'expected bytes, or a string such as "64K"' })], {
    error: 'expected bytes, or a string such as "64K"',
  })
  .transform((value, context) => {
    const match = BYTES.exec(String(value));
    const number = match === null ? NaN : Number(match[1]) * SUFFIX[match[2]];
    if (!Number.isSafeInteger(number) || number <= 0) {
      context.addIssue({ code: "custom", message: "expected a size of at least 1 byte, below 2^53" });
      return z.NEVER;
    }
    return number;
  });

/** What is wrong in a host file, at which path of it, and what would work. */
export function refusal(fileName: string, path: string, message: string, wouldWork?: string): Refusal {
  return new Refusal(`${fileName}: ${path === "" ? "" : `${path}: `}${message}`, { wouldWork });
}
