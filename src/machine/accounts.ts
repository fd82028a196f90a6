/** What a machine has to tell of what happened: messages, DMA of emulated functions, invalidations. */
import { EmulatedEndpoint } from "../devices/index.js";
import type { MsiRoute } from "../msi/index.js";
import type { PciFunction } from "../pci/index.js";

export interface MsiRouteEntry {
  /** The function's id; its host address where it has none. */
  readonly function: string;
  readonly vector: number;
  /** As the guest wrote it. */
  readonly iova: bigint;
  /** Guest-physical address that the message goes to; null: it does not translate. */
  readonly doorbell: number | null;
  readonly data: number;
  /** The IOMMU told the doorbell, and the IOVA was not looked at. */
  readonly direct: boolean;
  readonly delivered: number;
}

/** Every route that there was, with the last address of each; routes themselves go when vectors are masked. */
export class MsiAccount {
  private readonly entries = new Map<string, { name: string; route: MsiRoute; before: number }>();
  /** Functions without a name of their own, in the order in which they came. */
  private readonly nameless = new Map<PciFunction, number>();

  /** A vector has got a route. */
  note(fn: PciFunction, route: MsiRoute): void {
    const name = fn.id !== "" ? fn.id : (fn.passthrough?.hostAddress ?? fn.model);
    const key = `${name} ${this.numberOf(fn)} ${route.vector}`;
    const last = this.entries.get(key);
    const before = last === undefined ? 0 : last.before + last.route.delivered;
    this.entries.set(key, { name, route, before });
  }

  /** Tells functions apart that only their model names; 0: the name does. */
  private numberOf(fn: PciFunction): number {
    if (fn.id !== "" || fn.passthrough !== null) {
      return 0;
    }
    const number = this.nameless.get(fn) ?? this.nameless.size + 1;
    this.nameless.set(fn, number);
    return number;
  }

  list(): MsiRouteEntry[] {
    return [...this.entries.values()].map(({ name, route, before }) => ({
      function: name,
      vector: route.vector,
      iova: route.iova,
      doorbell: route.doorbell,
      data: route.data,
      direct: route.direct,
      delivered: before + route.delivered,
    }));
  }
}

export interface FunctionDma {
  /** The function's id or model. */
  readonly function: string;
  readonly transactions: number;
  readonly bytes: number;
  readonly faults: number;
}

/** DMA of emulated functions; that of passed-through ones is the host's to tell. */
export function emulatedDma(functions: Iterable<PciFunction>): FunctionDma[] {
  const list: FunctionDma[] = [];
  for (const fn of functions) {
    if (fn instanceof EmulatedEndpoint) {
      list.push({ function: fn.id === "" ? fn.model : fn.id, ...fn.counters });
    }
  }
  return list;
}
