/** Boots a row's guest in the lab and makes figures of what lab/measure.mjs saw. */
import type { RunReport } from "../../src/run/index.js";
import type { LabMachine } from "./machine.js";
import { BOARDS, type LabRow } from "./rows.js";

/** Pages of a map; one figure for each. */
export const SIZES = [1, 16, 512] as const;
/** Pages of a read. */
export const READ_SIZES = [1, 16, 128] as const;
/** How long the guest maps and unmaps before it looks at the clock. */
const WARM_SECONDS = 15;
const SECONDS = 560;
const MEMORY_MIB = 512;

/** Exits to user space, and HWPT_INVALIDATE calls counted by the kernel; null: the host is not a Linux. */
export interface LabCosts {
  readonly exits: readonly number[];
  readonly hostCalls: readonly number[] | null;
  readonly perSecond: readonly number[];
}

export interface LabFigures {
  /** Of each of SIZES, in their order; a rate is the fastest round's. Null: the row does not measure them. */
  readonly map: LabCosts | null;
  readonly unmap: LabCosts | null;
  /** Random reads of each of READ_SIZES by one process on each CPU, for each of which the driver maps and unmaps. */
  readonly read: LabCosts | null;
  /** From the monitor's start to the guest's first program, firmware included; what of it the guest's kernel counts. */
  readonly boot: { readonly ms: number; readonly kernelMs: number };
  /** What the monitor has in memory, the guest's left out. */
  readonly rssMiB: number;
  /** By "write 0xADDRESS", "read port 0xPORT" or KVM's name for the exit: all phases together. */
  readonly exitsBy: Readonly<Record<string, number>>;
  /** The account's exits to IOMMUs and host calls for each 1,000 of the guest's invalidations; null: not viommu. */
  readonly perThousandInvalidations: { readonly exits: number; readonly hostCalls: number } | null;
}

type Phase = "map" | "unmap" | "read";

interface Measured {
  readonly status: number | null;
  readonly times: ReadonlyArray<{ readonly pages: number; readonly times: number; readonly mapUs: number; readonly unmapUs: number }>;
  readonly phases: ReadonlyArray<{ readonly what: Phase; readonly pages: number; readonly times: number; readonly exits: number; readonly hostCalls: number; readonly by: Readonly<Record<string, number>> }>;
  readonly reads: ReadonlyArray<{ readonly pages: number; readonly times: number; readonly us: number }>;
  readonly bootMs: number;
  readonly kernelMs: number;
  readonly rssKiB: number;
  readonly hostCalls: boolean;
  readonly traceLost: number;
  readonly account: RunReport | null;
  readonly console: string;
  readonly stderr: string;
}

const measuresOf = (row: LabRow): ReadonlyArray<"rates" | "reads"> => row.measures ?? ["rates"];

/** The monitor's command of a row. */
export function commandOf(lab: LabMachine, row: LabRow, warmSeconds: number): string[] {
  const board = BOARDS[lab.arch];
  const program = row.monitor === "qemu" ? ["qemu-peer"] : ["node", `${lab.project}/dist/lib/cli/main.js`, "run", "--json", "--host", row.host!, "--"];
  const words = `${board.words} -cpu host -m ${MEMORY_MIB}M -nodefaults -display none -no-reboot ${row.words}`.trim().split(/\s+/);
  const tests = measuresOf(row).map((what) => (what === "reads" ? "reads,reads:counted" : what));
  const append = `${board.append} loglevel=4 panic=-1 quiet ${row.append ?? ""} lab=groups,${tests.join(",")} warm=${warmSeconds} function=${row.function}`;
  return [...program, ...words, "-kernel", `${lab.boot}/vmlinuz`, "-initrd", `${lab.boot}/initrd.gz`, "-append", append];
}

/** @throws Error with what the guest and the monitor said, where figures are missing */
export function measureRow(lab: LabMachine, row: LabRow, warmSeconds = WARM_SECONDS): LabFigures {
  const { consoleAddress, consoleBytes, ports, bound } = BOARDS[lab.arch];
  const measured = lab.request("measure.mjs", { command: commandOf(lab, row, warmSeconds), consoleAddress, consoleBytes, ports, memoryMiB: MEMORY_MIB, seconds: SECONDS }, SECONDS + 60) as Measured;
  return figuresOf(row, bound, measured);
}

function figuresOf(row: LabRow, bound: readonly string[], measured: Measured): LabFigures {
  const { phases, times, account, reads } = measured;
  const each = (count: "exits" | "hostCalls", what: Phase, pages: number): number => {
    const phase = phases.find((one) => one.what === what && one.pages === pages);
    if (phase === undefined || measured.traceLost > 0) {
      const why = measured.traceLost > 0 ? `${measured.traceLost} events of the trace are lost` : `no ${what} of ${pages} pages was counted`;
      throw new Error(`${row.name}: ${why}; status ${measured.status}\n${measured.stderr}\n${measured.console.slice(-2000)}`);
    }
    return Math.round((phase[count] * 100) / phase.times) / 100;
  };
  const real = measured.hostCalls && bound.length > 0;
  const costs = (what: Phase, sizes: readonly number[], perSecond: (pages: number) => number): LabCosts => ({
    exits: sizes.map((pages) => each("exits", what, pages)),
    hostCalls: real ? sizes.map((pages) => each("hostCalls", what, pages)) : null,
    perSecond: sizes.map((pages) => Number(perSecond(pages).toPrecision(3))),
  });
  const fastest = (which: "mapUs" | "unmapUs") => (pages: number) => Math.max(...times.filter((one) => one.pages === pages).map((one) => (one.times * 1e6) / one[which]));
  const rates = measuresOf(row).includes("rates");
  const exitsBy: Record<string, number> = {};
  phases.forEach(({ by }) => Object.entries(by).forEach(([place, count]) => (exitsBy[place] = (exitsBy[place] ?? 0) + count)));
  return {
    map: rates ? costs("map", SIZES, fastest("mapUs")) : null,
    unmap: rates ? costs("unmap", SIZES, fastest("unmapUs")) : null,
    read: measuresOf(row).includes("reads") ? costs("read", READ_SIZES, (pages) => Math.max(...reads.filter((one) => one.pages === pages).map((one) => (one.times * 1e6) / one.us))) : null,
    boot: { ms: measured.bootMs, kernelMs: measured.kernelMs },
    rssMiB: Math.round(measured.rssKiB / 1024),
    exitsBy,
    perThousandInvalidations: account?.kernel?.perThousandInvalidations ?? null,
  };
}
