/**
 * The one owner of a VM's GSIs: which message or pin each raises, and which eventfds raise them (Linux
 * Documentation/virt/kvm/api.rst, KVM_SET_GSI_ROUTING and KVM_IRQFD). The kernel's table is replaced whole at each
 * change, so changes are collected where several are made.
 */
import { SystemError } from "../linux/index.js";
import { CAP } from "./uapi.js";
import type { GsiRoute, KvmMessage, KvmVm } from "./vm.js";

/** Routes that a kernel has which does not tell how many (KVM_CAP_IRQ_ROUTING). */
const USUAL_ROUTES = 1024;

interface Binding {
  readonly fd: number;
  readonly gsi: number;
  /** Of a level; null: edges. */
  readonly resampleFd: number | null;
  /** KVM_IRQFD has been done. */
  live: boolean;
}

export class IrqRoutes {
  /** The kernel has refused what was bound: the descriptor is bound no more. `why` is the kernel's refusal. */
  onRefused: (fd: number, why: SystemError) => void = () => {};
  private readonly table = new Map<number, GsiRoute>();
  private readonly bound = new Map<number, Binding>();
  /** GSIs whose routes the kernel does not know yet, and what it had of them; undefined: nothing. */
  private readonly changed = new Map<number, GsiRoute | undefined>();
  private depth = 0;

  /** @param pins GSIs from 0 on that are pins of an interrupt controller; messages get those behind them */
  constructor(
    private readonly vm: Pick<KvmVm, "extension" | "setRoutes" | "bindIrq" | "unbindIrq">,
    private readonly pins: number,
  ) {}

  /** What the pins raise, by number; null: nothing (x86: what the kernel looks for at ends of interrupts). */
  setPins(routes: ReadonlyArray<GsiRoute | null>): void {
    this.batch(() => routes.forEach((route, pin) => this.setRoute(pin, route)));
  }

  /** A descriptor's signals become a message, or another one than before. False: no GSI is free. */
  bindMessage(fd: number, message: KvmMessage): boolean {
    const before = this.bound.get(fd);
    const gsi = before?.gsi ?? this.freeGsi();
    if (gsi === null) {
      return false;
    }
    this.batch(() => {
      this.setRoute(gsi, message);
      if (before === undefined) {
        this.bound.set(fd, { fd, gsi, resampleFd: null, live: false });
      }
    });
    return this.bound.has(fd);
  }

  /** A descriptor's signals are a pin's level, which `resampleFd` tells the end of. False: the kernel refuses. */
  bindLevel(fd: number, resampleFd: number, pin: number): boolean {
    this.batch(() => {
      this.setRoute(pin, { pin });
      this.bound.set(fd, { fd, gsi: pin, resampleFd, live: false });
    });
    return this.bound.has(fd);
  }

  /** What the descriptor gets from now on stays in its count. Nothing where it is not bound. */
  unbind(fd: number): void {
    const binding = this.bound.get(fd);
    if (binding === undefined) {
      return;
    }
    this.bound.delete(fd);
    if (binding.live) {
      this.vm.unbindIrq(fd, binding.gsi);
    }
    if (!this.isRaised(binding.gsi)) {
      this.batch(() => this.setRoute(binding.gsi, null));
    }
  }

  private isRaised(gsi: number): boolean {
    return [...this.bound.values()].some((binding) => binding.gsi === gsi);
  }

  /** Changes that the kernel gets at once. */
  batch(change: () => void): void {
    this.depth++;
    try {
      change();
    } finally {
      if (--this.depth === 0) {
        this.commit();
      }
    }
  }

  /** Before the VM is closed: descriptors keep what comes from now on. */
  close(): void {
    for (const { fd, gsi, live } of this.bound.values()) {
      if (live) {
        this.vm.unbindIrq(fd, gsi);
      }
    }
    this.bound.clear();
    this.table.clear();
    this.changed.clear();
  }

  private freeGsi(): number | null {
    const most = this.vm.extension(CAP.IRQ_ROUTING) || USUAL_ROUTES;
    for (let gsi = this.pins; gsi < most; gsi++) {
      if (!this.table.has(gsi)) {
        return gsi;
      }
    }
    return null;
  }

  private setRoute(gsi: number, route: GsiRoute | null): void {
    const before = this.table.get(gsi);
    if (isSame(before, route ?? undefined)) {
      return;
    }
    if (!this.changed.has(gsi)) {
      this.changed.set(gsi, before);
    }
    if (route === null) {
      this.table.delete(gsi);
    } else {
      this.table.set(gsi, route);
    }
  }

  /** Tells the kernel the table, then binds what waits for its route. What the kernel refuses is bound no more. */
  private commit(): void {
    // A message's route that nobody raises any more goes with the next table.
    const needed = [...this.changed.keys()].some((gsi) => gsi < this.pins || this.table.has(gsi));
    if (needed) {
      try {
        this.vm.setRoutes(this.table);
      } catch (error) {
        this.takeBack(systemError(error));
        return;
      }
      this.changed.clear();
    }
    for (const binding of [...this.bound.values()].filter(({ live }) => !live)) {
      try {
        this.vm.bindIrq(binding.fd, binding.gsi, binding.resampleFd);
        binding.live = true;
      } catch (error) {
        this.bound.delete(binding.fd);
        if (!this.isRaised(binding.gsi)) {
          this.table.delete(binding.gsi);
        }
        this.onRefused(binding.fd, systemError(error));
      }
    }
  }

  /** The kernel's table is as it was: descriptors whose routes it does not have are bound no more. */
  private takeBack(why: SystemError): void {
    const refused = [...this.bound.values()].filter(({ gsi }) => this.changed.has(gsi));
    for (const [gsi, before] of this.changed) {
      if (before === undefined || gsi >= this.pins) {
        this.table.delete(gsi);
      } else {
        this.table.set(gsi, before);
      }
    }
    this.changed.clear();
    for (const { fd, gsi, live } of refused) {
      this.bound.delete(fd);
      if (live) {
        this.vm.unbindIrq(fd, gsi);
      }
    }
    refused.forEach(({ fd }) => this.onRefused(fd, why));
  }
}

function isSame(a: GsiRoute | undefined, b: GsiRoute | undefined): boolean {
  if (a === undefined || b === undefined) {
    return a === b;
  }
  if ("pin" in a || "pin" in b) {
    return "pin" in a && "pin" in b && a.pin === b.pin;
  }
  return a.address === b.address && a.data === b.data && a.deviceId === b.deviceId;
}

function systemError(error: unknown): SystemError {
  if (error instanceof SystemError) {
    return error;
  }
  throw error;
}
