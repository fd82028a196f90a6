/** Functions of a machine that its guest could not use, and the property that mends it. */
import type { GuestFunction, GuestReport } from "../guest/index.js";
import type { Machine } from "../machine/index.js";
import type { PciFunction } from "../pci/index.js";
import { byteText } from "../support/index.js";

const MIB = 2 ** 20;

export interface UnusedFunction {
  /** What is wrong and what would work, in one line. */
  readonly text: string;
  /** The run is no good with it. */
  readonly fails: boolean;
}

/**
 * What the guest's boots tell of the machine's functions. Any counts whose BAR found no place, whether it came with
 * the machine or later; one of the host's is asked for by name (vfio-pci has no other way), so that it counts where no
 * driver was found or where it was not seen at all, too. A program that looked for none tells of nothing.
 * @param cold `PciFunction`s that were there from the start: those that came later may be the monitor's, and unseen
 */
export function unusedFunctions(machine: Machine, guest: GuestReport | null, cold: ReadonlySet<PciFunction>): UnusedFunction[] {
  const { functions } = guest ?? {};
  if (functions === undefined) {
    return [];
  }
  return machine.board.functions.flatMap(({ fn }) => {
    const seen = functions.filter(({ path }) => path === pathOf(fn));
    const asked = fn.passthrough !== null;
    const where = fn.passthrough === null ? fn.label : `${fn.label} (host ${fn.passthrough.hostAddress})`;
    // A window that is too small from the start is no matter of a port's reserve.
    const [short] = seen.filter((one) => one.unplaced.length > 0).sort((a, b) => Number(a.plugged) - Number(b.plugged));
    if (seen.some((one) => one.unplaced.length > 0)) {
      const bars = short.unplaced.map(({ bar, size }) => `BAR ${bar} (${byteText(size)})`).join(", ");
      return [{ fails: true, text: `${where} cannot be used: its guest finds no place for ${bars}; ${mend(machine, fn, short)}` }];
    }
    if (asked && seen.length === 0 && cold.has(fn)) {
      return [{ fails: true, text: `${where} was not found by its guest: the bus that it is on has no number (a higher bus_nr of the expander above, or fewer bridges would work)` }];
    }
    return asked && seen.some((one) => !one.used) ? [{ fails: true, text: `${where} was not used by its guest: no driver knows it` }] : [];
  });
}

/** As the guest has it: the root bus's number, and devfn of each function on the way. */
function pathOf(fn: PciFunction): string {
  const bus = fn.bus!;
  return bus.isRoot || bus.bridge === null ? `${bus.number}/${fn.devfn}` : `${pathOf(bus.bridge)}/${fn.devfn}`;
}

function mend(machine: Machine, fn: PciFunction, { unplaced, plugged }: GuestFunction): string {
  const wide = unplaced.some((bar) => bar.prefetchable64);
  const bytes = unplaced.filter((bar) => bar.prefetchable64 === wide).reduce((sum, { size }) => sum + size, 0);
  const port = fn.bus!.bridge;
  if (plugged && port !== null && !fn.bus!.isRoot) {
    return `a port with room for what is plugged would work: ${wide ? "pref64" : "mem"}-reserve=${optionText(2 ** Math.ceil(Math.log2(bytes)))} on ${port.label}`;
  }
  if (!wide) {
    return "fewer functions with BARs below 4 GiB would work: 32-bit BARs and those that are not prefetchable have no other place";
  }
  return machine.board.kind === "virt" ? `a larger window would work: highmem=on,highmem-mmio=on,highmem-mmio-size=${optionText(2 ** Math.ceil(Math.log2(2 * Math.max(bytes, 2 ** 38))))}` : "less of RAM, or fewer functions with large BARs would work";
}

/** A power of two as QEMU spells it, not below 1 MiB. */
function optionText(bytes: number): string {
  return bytes >= 1024 * MIB ? `${bytes / (1024 * MIB)}G` : `${Math.max(1, bytes / MIB)}M`;
}
