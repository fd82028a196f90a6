/**
 * Message routes as KVM holds them: which doorbell write an interrupt of a passed-through function becomes.
 * The guest wrote an IOVA; a route holds a guest-physical address.
 */
import type { AddressSpace } from "../memory/index.js";
import type { PciFunction } from "../pci/index.js";
import { hex, traceEvent, type Log } from "../support/index.js";

const traceDoorbell = traceEvent("kvm_arm_fixup_msi_route", "MSI iova = 0x%x is translated into 0x%x");
const traceMessage = traceEvent("viommu_message", "%s sid=0x%x vector %u addr 0x%x data 0x%x");

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
  /** What comes while there is no listener is kept for the next one. */
  onSignal(listener: (() => void) | null): void;
}

/** A function's INTx (PCIe 6.1.3): `event` is signalled when it rises, whatever signals `resample` has it looked at again. */
export interface LevelSource {
  readonly fn: PciFunction;
  readonly event: InterruptSource;
  /** Null: the host cannot be told by an event. */
  readonly resample: InterruptSource | null;
  /** Called for each signal of the event while this process drives the line. */
  onRise(): void;
  /** The line is this process's again, which the kernel had: what is asserted is to be signalled anew. */
  onReturned(): void;
}

/** A message as the doorbell sees it: guest-physical address, data, and the requester id of the function. */
export interface DoorbellWrite {
  readonly address: number;
  readonly data: number;
  readonly requesterId: number;
}

/**
 * What delivers interrupts by itself, by descriptors (KVM's irqfds). It may refuse later what it has agreed to, and
 * tells it by `onRefused`.
 */
export interface KernelRoutes {
  /** Signals of a descriptor become that write, or another one than before. False: it cannot, and the descriptor is bound no more. */
  bindMessage(fd: number, write: DoorbellWrite): boolean;
  /** Signals of a descriptor are the level of an interrupt line of the root complex, whose end is told by `resampleFd`. */
  bindLevel(fd: number, resampleFd: number, line: number): boolean;
  /** What comes from now on stays in the descriptor's count. */
  unbind(fd: number): void;
  /** Several changes that are done as one. */
  batch(change: () => void): void;
  onRefused: (fd: number) => void;
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

interface Entry {
  route: Mutable<MsiRoute>;
  readonly source: InterruptSource | undefined;
  /** The kernel delivers it. */
  bound: boolean;
}

interface Level {
  readonly source: LevelSource;
  bound: boolean;
}

export class MsiRouter {
  private readonly table = new Map<PciFunction, Map<number, Entry>>();
  private readonly levels = new Map<PciFunction, Level>();
  private kernel: KernelRoutes | null = null;
  /** Processors had interrupts from a kernel and are away: what has a descriptor waits in its count. */
  private holds = false;
  /** Lines that functions of this process drive too: the kernel would take their level away at the end of an interrupt. */
  private readonly shared = new Set<number>();

  constructor(
    /** System memory, where the doorbells are. */
    private readonly memory: AddressSpace,
    private readonly log: Log,
    /** Interrupt line of the root complex that a function's INTx reaches. */
    private readonly lineOf: (fn: PciFunction) => number = () => 0,
  ) {}

  // ---- the kernel ----

  /** Interrupts that have a descriptor are the kernel's from now on, those that have waited included. */
  connect(kernel: KernelRoutes): void {
    this.kernel = kernel;
    kernel.onRefused = (fd) => this.refused(fd);
    this.renew();
  }

  /** The kernel's machine goes: what has a descriptor waits in it for the next one. */
  disconnect(): void {
    const { kernel } = this;
    if (kernel === null) {
      return;
    }
    this.kernel = null;
    this.holds = true;
    kernel.onRefused = () => {};
    for (const entry of this.entries()) {
      this.free(kernel, entry, entry.source);
      this.place(entry);
    }
    for (const level of this.levels.values()) {
      this.free(kernel, level, level.source.event);
      this.placeLevel(level);
    }
  }

  /** Requester ids or the IOMMU's remapping may have changed: routes that the kernel has are looked up anew. */
  renew(): void {
    this.batch(() => {
      for (const entry of this.entries()) {
        this.place(entry);
      }
      for (const level of this.levels.values()) {
        this.placeLevel(level);
      }
    });
  }

  /** Several changes, which the kernel gets as one. */
  batch(change: () => void): void {
    if (this.kernel === null) {
      change();
    } else {
      this.kernel.batch(change);
    }
  }

  private *entries(): IterableIterator<Entry> {
    for (const ofFunction of this.table.values()) {
      yield* ofFunction.values();
    }
  }

  private refused(fd: number): void {
    for (const entry of this.entries()) {
      if (entry.source?.fd === fd) {
        entry.bound = false;
        entry.source.onSignal(() => void this.deliver(entry.route.fn, entry.route.vector));
      }
    }
    for (const level of this.levels.values()) {
      if (level.source.event.fd === fd) {
        level.bound = false;
        this.driveHere(level);
      }
    }
  }

  private free(kernel: KernelRoutes, bound: { bound: boolean }, source: InterruptSource | undefined): void {
    if (bound.bound) {
      bound.bound = false;
      kernel.unbind(source!.fd!);
    }
  }

  // ---- messages ----

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
    const before = ofFunction.get(vector);
    const kept = before !== undefined && before.source === source;
    if (before !== undefined && !kept && this.kernel !== null) {
      this.free(this.kernel, before, before.source);
    }
    const entry: Entry = { route, source, bound: kept && before.bound };
    ofFunction.set(vector, entry);
    if (doorbell === null) {
      this.log.guestError("msi.route", () => `MSI route of ${fn.label}, vector ${vector}: ${hex(iova)} does not translate; nothing will be delivered`);
    } else if (traceDoorbell.on) {
      traceDoorbell.emit(iova, doorbell);
    }
    this.place(entry);
    return route;
  }

  /** Has an entry's source delivered: by the kernel where it can, else here. */
  private place(entry: Entry): void {
    const { source, route } = entry;
    if (source === undefined) {
      return;
    }
    const { fd } = source;
    const { kernel } = this;
    if (fd !== null && kernel !== null && route.doorbell !== null) {
      if (!entry.bound) {
        // The descriptor has one reader: what waits in it is the kernel's to deliver.
        source.onSignal(null);
      }
      entry.bound = kernel.bindMessage(fd, { address: route.doorbell, data: route.data, requesterId: route.fn.requesterId });
      if (entry.bound) {
        return;
      }
    } else if (kernel !== null) {
      this.free(kernel, entry, source);
    }
    source.onSignal(fd !== null && this.holds && kernel === null ? null : () => void this.deliver(route.fn, route.vector));
  }

  /** The vector is masked or gone; its source is its owner's again. */
  remove(fn: PciFunction, vector: number): void {
    const ofFunction = this.table.get(fn);
    const entry = ofFunction?.get(vector);
    if (entry !== undefined) {
      ofFunction!.delete(vector);
      if (this.kernel !== null) {
        this.free(this.kernel, entry, entry.source);
      }
    }
  }

  removeAll(fn: PciFunction): void {
    this.batch(() => {
      for (const vector of [...(this.table.get(fn)?.keys() ?? [])]) {
        this.remove(fn, vector);
      }
    });
    this.table.delete(fn);
    this.removeLevel(fn);
  }

  /**
   * The function has raised the vector: a 32-bit write of the route's data to its doorbell, marked with the
   * requester id that the function has now. False: no route, or no doorbell.
   */
  deliver(fn: PciFunction, vector: number): boolean {
    const entry = this.table.get(fn)?.get(vector);
    if (entry === undefined || entry.route.doorbell === null) {
      return false;
    }
    const { route } = entry;
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, route.data, true);
    if (this.memory.writeBytes(route.doorbell!, bytes, fn.dmaAttributes()) !== 0) {
      this.log.guestError("msi.doorbell", () => `MSI of ${fn.label}, vector ${vector}: nothing answers at ${hex(route.doorbell ?? 0)}`);
      return false;
    }
    route.delivered++;
    if (traceMessage.on) {
      traceMessage.emit(fn.label, fn.requesterId, vector, route.doorbell!, route.data);
    }
    if (this.kernel !== null && !entry.bound) {
      // An entry of the IOMMU may have become present since, which is told to nobody (VT-d 6.1).
      this.place(entry);
    }
    return true;
  }

  // ---- levels ----

  /** A function's INTx is on: the kernel drives its line where it can, else this process. */
  addLevel(source: LevelSource): void {
    this.removeLevel(source.fn);
    const level: Level = { source, bound: false };
    this.levels.set(source.fn, level);
    this.placeLevel(level);
  }

  removeLevel(fn: PciFunction): void {
    const level = this.levels.get(fn);
    if (level !== undefined) {
      this.levels.delete(fn);
      if (this.kernel !== null) {
        this.free(this.kernel, level, level.source.event);
      }
      level.source.event.onSignal(null);
    }
  }

  /** The kernel has the line of a function's INTx. */
  isKernelLevel(fn: PciFunction): boolean {
    return this.levels.get(fn)?.bound === true;
  }

  /** This process drives a line of the root complex: the kernel does not share it. */
  lineDriven(line: number): void {
    const { kernel } = this;
    if (kernel === null || this.shared.has(line)) {
      return;
    }
    this.shared.add(line);
    for (const level of this.levels.values()) {
      if (level.bound && this.lineOf(level.source.fn) === line) {
        this.free(kernel, level, level.source.event);
        this.driveHere(level);
        level.source.onReturned();
      }
    }
  }

  private placeLevel(level: Level): void {
    const { event, resample, fn } = level.source;
    const { kernel } = this;
    if (event.fd === null || resample === null || resample.fd === null) {
      this.driveHere(level);
      return;
    }
    if (kernel === null) {
      if (this.holds) {
        event.onSignal(null);
      } else {
        this.driveHere(level);
      }
      return;
    }
    const line = this.lineOf(fn);
    if (level.bound) {
      // The line is another one after a change of the hierarchy alone, which takes the function off its bus.
      return;
    }
    if (this.shared.has(line)) {
      this.driveHere(level);
      return;
    }
    event.onSignal(null);
    level.bound = kernel.bindLevel(event.fd, resample.fd, line);
    if (!level.bound) {
      this.driveHere(level);
    }
  }

  private driveHere({ source }: Level): void {
    source.event.onSignal(() => source.onRise());
  }
}
