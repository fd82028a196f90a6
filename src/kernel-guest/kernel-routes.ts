/** Interrupts of passed-through functions that KVM delivers: messages and levels of descriptors, without a turn of this process. */
import type { IrqRoutes, KvmMessage } from "../kvm/index.js";
import type { DoorbellWrite, KernelRoutes } from "../msi/index.js";
import type { Log } from "../support/index.js";

export interface BoardInterrupts {
  /** The message that KVM is to send for a write; null: it has no such one, and this process delivers it. */
  message(write: DoorbellWrite): KvmMessage | null;
  /** Pin of KVM's interrupt controller that a line of the root complex is; null: KVM's has none, or cannot tell the ends of its interrupts. */
  pin(line: number): number | null;
}

export class BoardRoutes implements KernelRoutes {
  onRefused: (fd: number) => void = () => {};

  constructor(
    private readonly routes: IrqRoutes,
    private readonly board: BoardInterrupts,
    log: Log,
  ) {
    routes.onRefused = (fd, why) => {
      log.warnLimited("kvm.irqfd", `kvm: ${why.message}: an interrupt of a passed-through function is delivered by this process`);
      this.onRefused(fd);
    };
  }

  bindMessage(fd: number, write: DoorbellWrite): boolean {
    const message = this.board.message(write);
    if (message === null) {
      this.routes.unbind(fd);
      return false;
    }
    return this.routes.bindMessage(fd, message);
  }

  bindLevel(fd: number, resampleFd: number, line: number): boolean {
    const pin = this.board.pin(line);
    return pin !== null && this.routes.bindLevel(fd, resampleFd, pin);
  }

  unbind(fd: number): void {
    this.routes.unbind(fd);
  }

  batch(change: () => void): void {
    this.routes.batch(change);
  }
}
