/** Random sequences of faults and of what software does about them, with the architecture's model (7.2, 7.3, 11.4.7). */
import { FSTS, REG } from "../../../src/vtd/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import type { Observation } from "../agreement.js";
import { POOL } from "./layout.js";
import { HIGH_EDU_DEVFN, LOW_EDU_DEVFN, UNIT } from "./machines.js";
import type { Player } from "./play.js";

export const FAULT_QUIRKS = ["V-49"] as const;
export type FaultQuirk = (typeof FAULT_QUIRKS)[number];

export type FaultStep = { readonly do: "fault"; readonly devfn: number; readonly page: number } | { readonly do: "record" | "overflow" | "mask" | "unmask" };

const RECORD = UNIT + 0x220;
const F = 0x8000_0000;
const IM = 0x8000_0000;
const IP = 0x4000_0000n;
/** Root entry not present. */
const REASON = 1n;

export function generateFaults(random: Random): FaultStep[] {
  return Array.from({ length: 12 }, () =>
    random.oneIn(2) ? { do: "fault", devfn: random.pick([LOW_EDU_DEVFN, HIGH_EDU_DEVFN]), page: 1 + random.below(1000) } : { do: random.pick(["record", "record", "overflow", "mask", "unmask"] as const) },
  );
}

const keyOf = (n: number, step: FaultStep): string => `${String(n).padStart(2)} ${Object.values(step).join(" ")}`;
const print = (status: bigint, pending: boolean, high: bigint, low: bigint): string => `FSTS ${status.toString(16)}${pending ? " IP" : ""}${high >> 63n === 0n ? "" : ` ${high.toString(16)} ${low.toString(16)}`}`;

export function expectFaults(steps: readonly FaultStep[], quirks: ReadonlySet<FaultQuirk>): Observation {
  const out: Observation = {};
  let [high, low] = [0n, 0n];
  let [overflow, masked, pending] = [false, true, false];
  const isPending = (): boolean => high !== 0n;
  const settle = (): void => {
    pending &&= isPending() || overflow;
  };
  for (const [n, step] of steps.entries()) {
    switch (step.do) {
      case "fault":
        if (overflow || (isPending() && (high & 0xffffn) === BigInt(step.devfn))) {
          break;
        }
        if (isPending()) {
          overflow = true;
          break;
        }
        high = (1n << 63n) | (1n << 62n) | (REASON << 32n) | BigInt(step.devfn);
        low = BigInt(step.page) << 12n;
        pending = masked;
        break;
      case "record":
        high = 0n;
        if (!quirks.has("V-49")) {
          settle();
        }
        break;
      case "overflow":
        overflow = false;
        settle();
        break;
      case "mask":
        masked = true;
        break;
      case "unmask":
        masked = false;
        pending = false;
    }
    const status = (overflow ? BigInt(FSTS.PFO.inPlace) : 0n) | (isPending() ? BigInt(FSTS.PPF.inPlace) : 0n);
    out[keyOf(n, step)] = print(status, pending, high, low);
  }
  return out;
}

export async function playFaults(player: Player, steps: readonly FaultStep[]): Promise<Observation> {
  const { driver } = player;
  driver.write(UNIT + REG.FECTL, 4, IM);
  // An empty root table: every request faults.
  player.enable(BigInt(POOL.base));
  const shown: Array<Promise<[string, string]>> = [];
  for (const [n, step] of steps.entries()) {
    switch (step.do) {
      case "fault":
        await player.edu(step.devfn).read(step.page << 12, 0, 4);
        break;
      case "record":
        driver.write(RECORD + 12, 4, F);
        break;
      case "overflow":
        driver.write(UNIT + REG.FSTS, 4, FSTS.PFO.inPlace);
        break;
      case "mask":
        driver.write(UNIT + REG.FECTL, 4, IM);
        break;
      case "unmask":
        driver.write(UNIT + REG.FECTL, 4, 0);
    }
    shown.push(
      Promise.all([driver.read(UNIT + REG.FSTS, 4), driver.read(UNIT + REG.FECTL, 4), driver.read(RECORD + 8, 8), driver.read(RECORD, 8)]).then(([status, control, high, low]) => [keyOf(n, step), print(status, (control & IP) !== 0n, high, low)]),
    );
  }
  const out = Object.fromEntries(await Promise.all(shown));
  driver.write(RECORD + 12, 4, F);
  driver.write(UNIT + REG.FSTS, 4, FSTS.PFO.inPlace);
  driver.write(UNIT + REG.GCMD, 4, 0);
  return out;
}
