/** How much of everything there was: invalidations, host calls, exits, faults, DMA, by function and IOMMU. */
import type { Machine } from "../../machine/index.js";
import { functionNames } from "../machine/index.js";
import type { NumbersReport, NumbersRow } from "../report/index.js";

/** What is counted outside of the machine, at this moment. */
export interface OutsideCounts {
  /** Calls of the host. */
  hostCalls(): number;
  /** DMA of the host's functions by address; null: it cannot be asked. */
  dma(): ReadonlyArray<{ readonly address: string; readonly transactions: number; readonly bytes: number; readonly faults: number }> | null;
  /** Exits of a kernel guest, by the name of what they met; null: there is none. */
  exits(): { readonly all: number; readonly byDevice: ReadonlyMap<string, number> } | null;
}

const NONE: Omit<NumbersRow, "of"> = { invalidations: 0, hostCalls: 0, exits: 0, faults: 0, dma: 0, dmaBytes: 0 };

export function numbersOf(machine: Machine, outside: OutsideCounts | null): NumbersReport {
  const { board } = machine;
  const accounts = machine.accounts();
  const names = functionNames(machine);
  const exits = outside?.exits() ?? null;
  const hosts = new Map((outside?.dma() ?? []).map((one) => [one.address, one]));
  const functions: NumbersRow[] = [];
  /** Faults by IOMMU, of its functions. */
  const faults = new Map<string, number>();
  for (const { fn } of board.functions) {
    if (fn.isBridge) {
      continue;
    }
    const name = names.get(fn)!;
    const found = fn.passthrough !== null ? hosts.get(fn.passthrough.hostAddress) : accounts.dma.find((one) => one.function === (fn.id === "" ? fn.model : fn.id));
    if (found !== undefined) {
      functions.push({ ...NONE, of: name, faults: found.faults, dma: found.transactions, dmaBytes: found.bytes });
      const iommu = board.iommuOf(fn)?.id;
      if (iommu !== undefined) {
        faults.set(iommu, (faults.get(iommu) ?? 0) + found.faults);
      }
    }
  }
  const iommus = accounts.invalidation.map(({ iommu, guestCommands, hostCalls }): NumbersRow => {
    const base = board.iommus.find(({ id }) => id === iommu)?.describe().base;
    const register = base === undefined ? null : board.accesses.nameOf(base, false);
    return { ...NONE, of: iommu, invalidations: guestCommands, hostCalls, exits: register === null ? 0 : (exits?.byDevice.get(register) ?? 0), faults: faults.get(iommu) ?? 0 };
  });
  const sum = (rows: readonly NumbersRow[], key: keyof typeof NONE): number => rows.reduce((total, row) => total + row[key], 0);
  const all: NumbersRow = {
    of: null,
    invalidations: sum(iommus, "invalidations"),
    hostCalls: outside?.hostCalls() ?? sum(iommus, "hostCalls"),
    exits: exits?.all ?? 0,
    faults: sum(functions, "faults"),
    dma: sum(functions, "dma"),
    dmaBytes: sum(functions, "dmaBytes"),
  };
  return { time: Math.round((performance.now() - machine.since) * 1000), rows: [all, ...iommus, ...functions] };
}
