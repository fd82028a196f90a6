/**
 * Message routes as KVM holds them: which doorbell write an interrupt of a passed-through function becomes.
 * The guest wrote an IOVA; a route holds a guest-physical address.
 */
import type { AddressSpace } from "../memory/index.js";
import type { PciFunction } from "../pci/index.js";
import { hex, traceEvent, type Log } from "../support/index.js";

const traceDoorbell = traceEvent("kvm_arm_fixup_msi_route", "MSI iova = 0x%x is translated into 0x%x");

export interface MsiRoute {
  readonly fn: PciFunction;
  readonly vector: number;
  /** As the guest wrote it. */
  readonly iova: bigint;
  readonly data: number;
  /** Guest-physical address that the write goes to; null: the IOVA does not translate, nothing is delivered. */
  readonly doorbell: number | null;
  /** The IOMMU told the doorbell, and the IOVA was not looked at. */
  readonly direct: boolean;
  /** Messages that reached the doorbell by this route. */
  readonly delivered: number;
}

/** What raises a vector: the eventfd that a route is bound to (KVM_IRQFD). */
export interface InterruptSource {
  /** Its descriptor; null: it lives in this process alone. */
  readonly fd: number | null;
  onSignal(listener: (() => void) | null): void;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * The doorbell of a message that `fn` would write to `iova`. An IOMMU that tells its functions' doorbell is
 * believed, whatever the guest wrote: it must not walk the guest's tables. Else the address is translated as
 * that of any write of the function; null where it does not translate.
 */
export function fixupDoorbell(fn: PciFunction, iova: bigint): { doorbell: number | null; direct: boolean } {
  const path = fn.iommuPath;
  const told = path.ops?.getMsiDirectGpa?.(path.bus, path.devfn) ?? null;
  if (told !== null) {
    return { doorbell: told, direct: true };
  }
  return { doorbell: fn.dma?.translate(iova, fn.dmaAttributes()) ?? null, direct: false };
}

export class MsiRouter {
  private readonly table = new Map<PciFunction, Map<number, Mutable<MsiRoute>>>();

  constructor(
    /** System memory, where the doorbells are. */
    private readonly memory: AddressSpace,
    private readonly log: Log,
  ) {}

  /**
   * The guest has unmasked or rewritten a vector: makes its route, or makes it anew.
   *
   * @param source what raises the vector from then on; left out: nobody but callers of `deliver`
   */
  update(fn: PciFunction, vector: number, iova: bigint, data: number, source?: InterruptSource): MsiRoute {
    let ofFunction = this.table.get(fn);
    if (ofFunction === undefined) {
      ofFunction = new Map();
      this.table.set(fn, ofFunction);
    }
    const { doorbell, direct } = fixupDoorbell(fn, iova);
    const route: Mutable<MsiRoute> = { fn, vector, iova, data: data >>> 0, doorbell, direct, delivered: 0 };
    ofFunction.set(vector, route);
    if (doorbell === null) {
      this.log.guestError("msi.route", () => `MSI route of ${fn.label}, vector ${vector}: ${hex(iova)} does not translate; nothing will be delivered`);
    } else if (traceDoorbell.on) {
      traceDoorbell.emit(iova, doorbell);
    }
    source?.onSignal(() => void this.deliver(fn, vector));
    return route;
  }

  /** The vector is masked or gone. */
  remove(fn: PciFunction, vector: number): void {
    this.table.get(fn)?.delete(vector);
  }

  removeAll(fn: PciFunction): void {
    this.table.delete(fn);
  }

  /**
   * The function has raised the vector: a 32-bit write of the route's data to its doorbell, marked with the
   * requester id that the function has now. False: no route, or no doorbell.
   */
  deliver(fn: PciFunction, vector: number): boolean {
    const route = this.table.get(fn)?.get(vector);
    if (route === undefined || route.doorbell === null) {
      return false;
    }
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, route.data, true);
    if (this.memory.writeBytes(route.doorbell, bytes, fn.dmaAttributes()) !== 0) {
      this.log.guestError("msi.doorbell", () => `MSI of ${fn.label}, vector ${vector}: nothing answers at ${hex(route.doorbell ?? 0)}`);
      return false;
    }
    route.delivered++;
    return true;
  }
}
