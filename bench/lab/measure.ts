/** Boots a row's guest in the lab and makes figures of what lab/measure.mjs saw. */
import type { RunReport } from "../../src/run/index.js";
import type { LabMachine } from "./machine.js";
import { BOARDS, type LabRow } from "./rows.js";

/** Pages of a map; one figure for each. */
export const SIZES = [1, 16, 512] as const;
/** How long the guest maps and unmaps before it looks at the clock. */
const WARM_SECONDS = 15;
const SECONDS = 560;

/** Of a map or an unmap of each of SIZES, in their order. */
export interface LabFigures {
  readonly exitsPerMap: readonly number[];
  readonly exitsPerUnmap: readonly number[];
  /** Of the fastest round. */
  readonly mapsPerSecond: readonly number[];
  readonly unmapsPerSecond: readonly number[];
  /** By "write 0xADDRESS", "read port 0xPORT" or KVM's name for the exit: all phases together. */
  readonly exitsBy: Readonly<Record<string, number>>;
  /** The account's exits to IOMMUs and host calls for each 1,000 of the guest's invalidations; null: not viommu. */
  readonly perThousandInvalidations: { readonly exits: number; readonly hostCalls: number } | null;
}

interface Measured {
  readonly status: number | null;
  readonly times: ReadonlyArray<{ readonly pages: number; readonly times: number; readonly mapUs: number; readonly unmapUs: number }>;
  readonly phases: ReadonlyArray<{ readonly what: "map" | "unmap"; readonly pages: number; readonly times: number; readonly exits: number; readonly by: Readonly<Record<string, number>> }>;
  readonly traceLost: number;
  readonly account: RunReport | null;
  readonly console: string;
  readonly stderr: string;
}

/** The monitor's command of a row. */
export function commandOf(lab: LabMachine, row: LabRow, warmSeconds: number): string[] {
  const board = BOARDS[lab.arch];
  const program = row.monitor === "qemu" ? ["qemu-peer"] : ["node", `${lab.project}/dist/lib/cli/main.js`, "run", "--json", "--host", row.host!, "--"];
  const words = `${board.words} -cpu host -m 512M -nodefaults -display none -no-reboot ${row.words}`.trim().split(/\s+/);
  const append = `${board.append} loglevel=4 panic=-1 quiet ${row.append ?? ""} lab=groups,rates warm=${warmSeconds} function=${row.function}`;
  return [...program, ...words, "-kernel", `${lab.boot}/vmlinuz`, "-initrd", `${lab.boot}/initrd.gz`, "-append", append];
}

/** @throws Error with what the guest and the monitor said, where figures are missing */
export function measureRow(lab: LabMachine, row: LabRow, warmSeconds = WARM_SECONDS): LabFigures {
  const { consoleAddress, consoleBytes, ports } = BOARDS[lab.arch];
  const measured = lab.request("measure.mjs", { command: commandOf(lab, row, warmSeconds), consoleAddress, consoleBytes, ports, seconds: SECONDS }, SECONDS + 60) as Measured;
  return figuresOf(row.name, measured);
}

function figuresOf(name: string, measured: Measured): LabFigures {
  const { phases, times, account } = measured;
  const exits = (what: "map" | "unmap"): number[] =>
    SIZES.map((size) => {
      const phase = phases.find((one) => one.what === what && one.pages === size);
      if (phase === undefined || measured.traceLost > 0) {
        const why = measured.traceLost > 0 ? `${measured.traceLost} events of the trace are lost` : `no ${what} of ${size} pages was counted`;
        throw new Error(`${name}: ${why}; status ${measured.status}\n${measured.stderr}\n${measured.console.slice(-2000)}`);
      }
      return Math.round((phase.exits * 100) / phase.times) / 100;
    });
  const rate = (which: "mapUs" | "unmapUs"): number[] => SIZES.map((size) => Math.round(Math.max(...times.filter((one) => one.pages === size).map((one) => (one.times * 1e6) / one[which]))));
  const exitsBy: Record<string, number> = {};
  phases.forEach(({ by }) => Object.entries(by).forEach(([place, count]) => (exitsBy[place] = (exitsBy[place] ?? 0) + count)));
  return {
    exitsPerMap: exits("map"),
    exitsPerUnmap: exits("unmap"),
    mapsPerSecond: rate("mapUs"),
    unmapsPerSecond: rate("unmapUs"),
    exitsBy,
    perThousandInvalidations: account?.kernel?.perThousandInvalidations ?? null,
  };
}
