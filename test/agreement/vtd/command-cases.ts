/** Random global commands and register-based invalidations, with the architecture's model of them (11.4.4, 11.4.6). */
import { GCMD, REG } from "../../../src/vtd/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import type { Observation } from "../agreement.js";
import type { Driver } from "../driver.js";
import { POOL } from "./layout.js";
import { type Offer, UNIT } from "./machines.js";

export const COMMAND_QUIRKS = ["V-45", "V-46", "V-47", "V-48"] as const;
export type CommandQuirk = (typeof COMMAND_QUIRKS)[number];

export type Command = { readonly do: "global"; readonly value: bigint } | { readonly do: "mode"; readonly mode: number } | { readonly do: "context"; readonly value: bigint } | { readonly do: "iotlb"; readonly iva: bigint; readonly value: bigint };

const bitsOf = (...fields: ReadonlyArray<{ readonly inPlace: number }>): bigint => fields.reduce((sum, { inPlace }) => sum | BigInt(inPlace >>> 0), 0n);
const [TE, QIE, IRE, CFI] = [GCMD.TE, GCMD.QIE, GCMD.IRE, GCMD.CFI].map((one) => bitsOf(one));
const [SRTP, SIRTP, WBF] = [GCMD.SRTP, GCMD.SIRTP, GCMD.WBF].map((one) => bitsOf(one));
const [IVA, IOTLB] = [0xf0, 0xf8];
const START = 1n << 63n;
const LARGEST_MASK = 18n;

export function generateCommands(random: Random, offer: Offer): Command[] {
  const out: Command[] = [];
  let enables = 0n;
  for (let n = 0; n < 24; n++) {
    switch (random.below(4)) {
      case 0: {
        // Software gives one command at a time, beside what is enabled (11.4.4.1).
        const toggled = random.pick([TE, QIE, IRE, CFI]);
        enables ^= toggled;
        out.push({ do: "global", value: enables });
        break;
      }
      case 1:
        if (random.oneIn(2)) {
          out.push({ do: "global", value: enables | random.pick([SIRTP, WBF, 0n]) });
        } else {
          out.push({ do: "mode", mode: offer.scalableMode ? random.below(4) : 0 }, { do: "global", value: enables | SRTP });
        }
        break;
      case 2:
        out.push({ do: "context", value: (random.oneIn(6) ? 0n : START) | (random.wide() & ~START) });
        break;
      default:
        out.push({ do: "iotlb", iva: (random.wide() & ~0xfffn) | BigInt(random.below(random.oneIn(3) ? 64 : 19)), value: (random.oneIn(6) ? 0n : START) | (random.wide() & ~START) });
    }
  }
  return out;
}

const part = (value: bigint, top: number, bottom: number): bigint => (value >> BigInt(bottom)) & ((1n << BigInt(top - bottom + 1)) - 1n);
const hex = (value: bigint): string => value.toString(16);

function keyOf(n: number, command: Command): string {
  return `${String(n).padStart(2)} ${Object.values(command).map((value) => (typeof value === "bigint" ? hex(value) : String(value))).join(" ")}`;
}

/** GSTS, CCMD and IOTLB after each command. */
export function expectCommands(commands: readonly Command[], offer: Offer, quirks: ReadonlySet<CommandQuirk>): Observation {
  const out: Observation = {};
  let [status, context, iotlb] = [0n, 0n, 0n];
  let [written, mode] = [0, 0];
  const performs = (): boolean => (status & QIE) === 0n && (mode === 0 || quirks.has("V-48"));
  for (const [n, command] of commands.entries()) {
    switch (command.do) {
      case "mode":
        written = command.mode;
        break;
      case "global": {
        const { value } = command;
        const enables = TE | QIE | IRE | (quirks.has("V-45") ? 0n : CFI);
        status = (status & ~enables) | (value & enables) | ((value & (SRTP | SIRTP)) === 0n ? 0n : value & (SRTP | SIRTP));
        mode = (value & SRTP) !== 0n && offer.scalableMode ? written : mode;
        break;
      }
      case "context": {
        // SID and FM read as zero; CAIG is the unit's.
        context = (context & (3n << 59n)) | (command.value & (START | (3n << 61n) | 0xffffn));
        if ((context & START) === 0n || ((status & QIE) !== 0n && quirks.has("V-47"))) {
          break;
        }
        const asked = part(context, 62, 61);
        const done = !performs() ? 0n : quirks.has("V-46") && asked === 2n ? 1n : asked;
        context = (context & ~(START | (3n << 59n))) | (done << 59n);
        break;
      }
      case "iotlb": {
        iotlb = (iotlb & (3n << 57n)) | (command.value & 0xb003_ffff_0000_0000n);
        if ((iotlb & START) === 0n || ((status & QIE) !== 0n && quirks.has("V-47"))) {
          break;
        }
        const asked = part(iotlb, 61, 60);
        const done = !performs() || (asked === 3n && part(command.iva, 5, 0) > LARGEST_MASK) ? 0n : asked;
        iotlb = (iotlb & ~(START | (3n << 57n))) | (done << 57n);
      }
    }
    out[keyOf(n, command)] = `GSTS ${hex(status)} CCMD ${hex(context)} IOTLB ${hex(iotlb)}`;
  }
  return out;
}

/** Everything off before, which a queue leaves where a wait was its last descriptor (V-33). */
export async function playCommands(driver: Driver, commands: readonly Command[]): Promise<Observation> {
  const write = (offset: number, size: 4 | 8, value: bigint | number): void => driver.write(UNIT + offset, size, value);
  write(REG.GCMD, 4, 0);
  write(REG.CCMD, 8, 0);
  write(IOTLB, 8, 0);
  // Granularities that were performed stay, and so do the set pointers: only what follows counts.
  write(REG.CCMD, 8, START);
  write(IOTLB, 8, START);
  write(REG.IQT, 8, 0);
  write(REG.RTADDR, 8, POOL.base);
  write(REG.GCMD, 4, SRTP);
  const kept = await driver.read(UNIT + REG.GSTS, 4);
  const shown: Array<Promise<[string, string]>> = [];
  let pointers = 0n;
  for (const [n, command] of commands.entries()) {
    switch (command.do) {
      case "mode":
        write(REG.RTADDR, 8, POOL.base | (command.mode << 10));
        break;
      case "global":
        pointers |= command.value & (SRTP | SIRTP);
        write(REG.GCMD, 4, command.value);
        break;
      case "context":
        write(REG.CCMD, 8, command.value);
        break;
      case "iotlb":
        write(IVA, 8, command.iva);
        write(IOTLB, 8, command.value);
    }
    // Pointers that an earlier case has set.
    const earlier = kept & (SRTP | SIRTP) & ~pointers;
    shown.push(
      Promise.all([driver.read(UNIT + REG.GSTS, 4), driver.read(UNIT + REG.CCMD, 8), driver.read(UNIT + IOTLB, 8)]).then(([status, context, iotlb]) => [
        keyOf(n, command),
        `GSTS ${hex(status & ~earlier)} CCMD ${hex(context)} IOTLB ${hex(iotlb)}`,
      ]),
    );
  }
  const out = Object.fromEntries(await Promise.all(shown));
  write(REG.GCMD, 4, 0);
  return out;
}
