/**
 * Interrupts of a passed-through function. The guest's MSI-X table and MSI capability are this side's: a live vector
 * is a route in KVM and an eventfd in VFIO, which has one kind on at a time. A function without either, or whose
 * guest uses neither, has INTx where the host gives it.
 */
import { type Host, type HostEvent, HostError, type VfioDevice, VfioIrq } from "../iommufd/index.js";
import { CAP_MSI, CAP_MSIX, findCapability, MsiCapability, MsixCapability, type PciFunction, removeCapability } from "../pci/index.js";
import type { LevelSource } from "../msi/index.js";
import type { Log } from "../support/index.js";

/** Who delivers a function's interrupts: a vector's route stands while the vector is live (msi's MsiRouter). */
export interface VectorRouting {
  /** Makes or changes the route of a vector: what signals `event` is delivered by it (KVM_SET_GSI_ROUTING, KVM_IRQFD). */
  route(fn: PciFunction, vector: number, iova: bigint, data: number, event: HostEvent): void;
  /** Takes the route away; the event is its owner's again. */
  remove(fn: PciFunction, vector: number): void;
  /** Several changes, done as one. */
  batch(change: () => void): void;
  /** The function's INTx is on, and is off. */
  addLevel(source: LevelSource): void;
  removeLevel(fn: PciFunction): void;
}

export interface InterruptParts {
  readonly fn: PciFunction;
  /** For messages. */
  readonly name: string;
  readonly device: VfioDevice;
  readonly host: Host;
  readonly routing: VectorRouting;
  readonly log: Log;
  /** An INTx waits for the guest's look at a register; or does no more. */
  intxWaits(waits: boolean): void;
}

const INTERRUPT_PIN = 0x3d;
/** In the MSI capability's control register (PCIe 7.7.1.2). */
const MSI_WIDE = 0x80;
const MSI_MASKS = 0x100;

export class FunctionInterrupts {
  readonly msix: MsixCapability | null;
  readonly msi: MsiCapability | null;
  /** Vectors with a route, and the events that VFIO signals. */
  private readonly routes = new Set<number>();
  private readonly events = new Map<number, HostEvent>();
  /** The kind that is on in VFIO (VfioIrq); null: none. */
  private kind: number | null = null;
  /** Vectors that are on, where the kind is MSI. */
  private msiVectors = 0;
  private intx: HostEvent | null = null;
  /** What unmasks INTx in VFIO; null: this side does it. */
  private intxUnmask: HostEvent | null = null;
  private intxPending = false;
  /** Routes that wait for their vector's event. */
  private readonly pendingRoutes = new Map<number, { readonly address: bigint; readonly data: number }>();
  /** Notes an interrupt that has no route as pending. */
  private missed: (vector: number) => void = () => {};

  /** Takes the capabilities in the function's configuration space over; those that the host does not serve are hidden. */
  constructor(private readonly parts: InterruptParts) {
    this.msix = this.takeOverMsix();
    this.msi = this.takeOverMsi();
    const { fn, device, log, name } = parts;
    const hasPin = fn.config.bytes[INTERRUPT_PIN] !== 0 && device.irqInfo(VfioIrq.INTX).count > 0;
    if (!hasPin) {
      fn.config.bytes[INTERRUPT_PIN] = 0;
    }
    if (!hasPin && this.msix === null && this.msi === null) {
      log.info(`${name}: the host gives no interrupts of it: neither MSI-X nor MSI nor INTx`);
    }
    if (hasPin) {
      this.switchIntx();
    }
  }

  /** The guest has accessed a register of the function: an INTx that it was told of may be served by that, as QEMU takes it. */
  registersAccessed(): void {
    if (this.intxPending) {
      this.intxPending = false;
      this.parts.intxWaits(false);
      this.parts.fn.setIntx(false);
      this.unmaskIntx();
    }
  }

  /** Takes the routes away. */
  stop(): void {
    this.parts.routing.batch(() => [...this.routes].forEach((vector) => this.removeRoute(vector)));
  }

  /** The device is closed. */
  close(): void {
    this.stop();
    this.closeEvents();
    this.parts.routing.removeLevel(this.parts.fn);
    this.closeIntx();
    this.kind = null;
  }

  // ---- MSI-X ----

  private takeOverMsix(): MsixCapability | null {
    const { fn, device } = this.parts;
    const { config } = fn;
    const at = findCapability(config, CAP_MSIX);
    if (at === 0) {
      return null;
    }
    const vectors = Math.min((config.get16(at + 2) & 0x7ff) + 1, device.irqInfo(VfioIrq.MSIX).count);
    if (vectors < 1) {
      removeCapability(config, CAP_MSIX);
      return null;
    }
    const table = config.get32(at + 4);
    const pending = config.get32(at + 8);
    const msix = inPlace(
      fn,
      at,
      () =>
        new MsixCapability(fn, {
          offset: at,
          vectors,
          tableBar: table & 7,
          tableOffset: table & ~7,
          pbaBar: pending & 7,
          pbaOffset: pending & ~7,
        }),
    );
    msix.onVectorChanged = (vector, live) => this.setVector(msix, vector, live);
    msix.deliver = (vector) => this.signal(vector);
    return msix;
  }

  /** A masked vector keeps its eventfd: what arrives meanwhile is noted as pending and sent when the mask goes (PCIe 6.1.4.5). */
  private setVector(msix: MsixCapability, vector: number, live: boolean): void {
    this.attempt(
      `MSI-X vector ${vector} is not ${live ? "delivered" : "switched off"}`,
      () => {
        if (live) {
          const { address, data } = msix.message(vector);
          this.addRoute(vector, address, data);
          if (!this.events.has(vector)) {
            this.wireMsix(vector);
          }
          return;
        }
        this.removeRoute(vector);
        if (!msix.enabled && this.routes.size === 0 && this.kind === VfioIrq.MSIX) {
          this.switchOff(VfioIrq.MSIX);
        }
      },
      () => this.removeRoute(vector),
    );
  }

  /** Gives a vector its event: of a host whose vectors cannot be added later all are on from the first. */
  private wireMsix(vector: number): void {
    const { device } = this.parts;
    this.switchOff(this.kind === VfioIrq.MSIX ? null : this.kind);
    const wanted = device.irqInfo(VfioIrq.MSIX).noResize ? Array.from({ length: this.msix!.vectors }, (_unused, i) => i) : [vector];
    this.wire(VfioIrq.MSIX, wanted, (missed) => this.msix!.raise(missed));
  }

  // ---- MSI ----

  private takeOverMsi(): MsiCapability | null {
    const { fn, device } = this.parts;
    const { config } = fn;
    const at = findCapability(config, CAP_MSI);
    if (at === 0) {
      return null;
    }
    const control = config.get16(at + 2);
    const vectors = Math.min(1 << ((control >>> 1) & 7), 2 ** Math.floor(Math.log2(device.irqInfo(VfioIrq.MSI).count)));
    if (vectors < 1) {
      removeCapability(config, CAP_MSI);
      return null;
    }
    const msi = inPlace(
      fn,
      at,
      () => new MsiCapability(fn, { offset: at, vectors, is64: (control & MSI_WIDE) !== 0, perVectorMask: (control & MSI_MASKS) !== 0 }),
    );
    msi.onChanged = () => this.msiChanged(msi);
    msi.deliver = (vector) => this.signal(vector);
    return msi;
  }

  /** Vectors of MSI are on and off together (IrqInfo.noResize): another number of them is another start. */
  private msiChanged(msi: MsiCapability): void {
    const count = msi.enabled ? msi.enabledVectors : 0;
    this.attempt(
      "MSI is not delivered as the guest has set it",
      () => {
        if (this.kind === VfioIrq.MSI && this.msiVectors !== count) {
          this.stop();
          this.switchOff(VfioIrq.MSI);
        }
        for (let vector = 0; vector < count; vector++) {
          if (msi.isMasked(vector)) {
            this.removeRoute(vector);
          } else {
            const { address, data } = msi.message(vector);
            this.addRoute(vector, address, data);
          }
        }
        if (count > 0 && this.kind !== VfioIrq.MSI) {
          this.switchOff(this.kind);
          this.msiVectors = count;
          this.wire(
            VfioIrq.MSI,
            Array.from({ length: count }, (_unused, i) => i),
            (missed) => msi.raise(missed),
          );
        }
      },
      () => this.stop(),
    );
  }

  // ---- INTx ----

  private switchIntx(): void {
    const { device, host, fn, routing } = this.parts;
    this.attempt("INTx is not delivered", () => {
      const event = host.makeEvent();
      try {
        device.setIrqs(VfioIrq.INTX, 0, [event]);
      } catch (error) {
        event.close();
        throw error;
      }
      this.intx = event;
      this.intxUnmask = event.fd === null ? null : this.makeUnmaskEvent();
      this.kind = VfioIrq.INTX;
      routing.addLevel({
        fn,
        event,
        resample: this.intxUnmask,
        onRise: () => {
          // The kernel has masked it: the line stays up until the guest has looked at the function.
          this.intxPending = true;
          this.parts.intxWaits(true);
          fn.setIntx(true);
        },
        onReturned: () => this.unmaskIntx(),
      });
    });
  }

  /** Has the kernel unmask INTx when it is told of the interrupt's end, without this process. */
  private makeUnmaskEvent(): HostEvent | null {
    const { device, host } = this.parts;
    const event = host.makeEvent();
    try {
      device.setUnmaskEvent(VfioIrq.INTX, event);
      return event;
    } catch (error) {
      event.close();
      if (error instanceof HostError) {
        return null;
      }
      throw error;
    }
  }

  private unmaskIntx(): void {
    this.attempt("INTx is not unmasked", () => this.parts.device.unmaskIrqs(VfioIrq.INTX, 0, 1));
  }

  private closeIntx(): void {
    this.intx?.close();
    this.intx = null;
    this.intxUnmask?.close();
    this.intxUnmask = null;
    this.intxPending = false;
    this.parts.fn.setIntx(false);
  }

  // ---- common ----

  /** Makes the route where the event is there; else the event brings it (`wire`). */
  private addRoute(vector: number, address: bigint, data: number): void {
    const event = this.events.get(vector);
    if (event === undefined) {
      this.pendingRoutes.set(vector, { address, data });
      return;
    }
    this.parts.routing.route(this.parts.fn, vector, address, data, event);
    this.routes.add(vector);
  }

  /** Switches vectors on, an event for each; routes that wait for them are made. What has no route goes to `missed`. */
  private wire(kind: number, vectors: readonly number[], missed: (vector: number) => void): void {
    const { device, host } = this.parts;
    const made = vectors.map(() => host.makeEvent());
    try {
      device.setIrqs(kind, vectors[0], made);
    } catch (error) {
      made.forEach((event) => event.close());
      this.pendingRoutes.clear();
      throw error;
    }
    this.kind = kind;
    this.missed = missed;
    vectors.forEach((vector, i) => {
      this.events.set(vector, made[i]);
      made[i].onSignal(() => missed(vector));
      const route = this.pendingRoutes.get(vector);
      if (route !== undefined) {
        this.pendingRoutes.delete(vector);
        this.addRoute(vector, route.address, route.data);
      }
    });
  }

  private removeRoute(vector: number): void {
    this.pendingRoutes.delete(vector);
    if (this.routes.delete(vector)) {
      this.parts.routing.remove(this.parts.fn, vector);
      const { missed } = this;
      this.events.get(vector)?.onSignal(() => missed(vector));
    }
  }

  /** Switches a kind off in VFIO; INTx comes back where the others are off. */
  private switchOff(kind: number | null): void {
    if (kind === null) {
      return;
    }
    const { device, fn, routing } = this.parts;
    if (kind === VfioIrq.INTX) {
      routing.removeLevel(fn);
    }
    device.setIrqs(kind, 0, []);
    this.kind = null;
    if (kind === VfioIrq.INTX) {
      this.closeIntx();
      return;
    }
    this.closeEvents();
    if (fn.config.bytes[INTERRUPT_PIN] !== 0 && this.msix?.enabled !== true && this.msi?.enabled !== true) {
      this.switchIntx();
    }
  }

  private closeEvents(): void {
    this.events.forEach((event) => event.close());
    this.events.clear();
  }

  /** Sends what was pending while its vector was masked. Without a route it would come back here as missed. */
  private signal(vector: number): boolean {
    if (!this.routes.has(vector)) {
      return false;
    }
    this.events.get(vector)?.signal();
    return true;
  }

  private attempt(what: string, step: () => void, undo: () => void = () => {}): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      undo();
      this.parts.log.warnLimited("vfio.vector", `${this.parts.name}: ${what}: ${error.message}`);
    }
  }
}

/** Makes a capability of this side's where the host has one: it keeps its place in the list. */
function inPlace<T>(fn: PciFunction, at: number, make: () => T): T {
  const { bytes } = fn.config;
  const next = bytes[at + 1];
  const head = bytes[0x34];
  const made = make();
  bytes[at + 1] = next;
  bytes[0x34] = head;
  return made;
}
