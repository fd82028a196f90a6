/** Eventfds of the process, and the read ends of iommufd's queues. */
import { type EventStream, type FaultStream, type HostEvent, HostError } from "../../iommufd/index.js";
import { makeEventFd, signalEventFd, takeEventFd, type Watch } from "../../linux/index.js";
import type { KernelPort } from "./kernel-port.js";
import { asHostCall } from "./refusals.js";

/** A descriptor that can be watched, and is closed once. */
abstract class Watched {
  private watching: Watch | null = null;
  protected open = true;

  constructor(
    protected readonly port: KernelPort,
    readonly fd: number,
  ) {}

  /** One watcher, null: none; none at all once it is closed. */
  protected watch(onReadable: (() => void) | null): void {
    this.watching?.close();
    this.watching = onReadable === null || !this.open ? null : this.port.watch(this.fd, () => void (this.open && onReadable()));
  }

  close(): void {
    if (this.open) {
      this.open = false;
      this.watch(null);
      this.port.close(this.fd);
    }
  }
}

/** An eventfd(2). Its count is the kernel's: what signals it while nobody listens is found by the next listener. */
export class LinuxEvent extends Watched implements HostEvent {
  /** @throws HostError EMFILE */
  constructor(port: KernelPort) {
    super(port, asHostCall("eventfd", () => "", makeEventFd));
  }

  signal(): void {
    if (this.open) {
      signalEventFd(this.fd);
    }
  }

  onSignal(listener: (() => void) | null): void {
    this.watch(listener === null ? null : () => void (takeEventFd(this.fd) && listener()));
  }
}

/** The descriptor of a vEVENTQ. */
export class LinuxStream extends Watched implements EventStream {
  constructor(
    port: KernelPort,
    fd: number,
    /** For messages, such as "vEVENTQ". */
    protected readonly what: string,
  ) {
    super(port, fd);
  }

  read(maxBytes: number): Uint8Array | null {
    this.check("read");
    const out = Buffer.alloc(maxBytes);
    const length = asHostCall("read", () => this.what, () => this.port.read(this.fd, out));
    return length === 0 ? null : out.subarray(0, length);
  }

  onReadable(listener: (() => void) | null): void {
    this.watch(listener);
  }

  protected check(operation: string): void {
    if (!this.open) {
      throw new HostError(operation, "EBADF", `${this.what}: closed`);
    }
  }
}

/** The descriptor of a fault queue. */
export class LinuxFaultStream extends LinuxStream implements FaultStream {
  write(responses: Uint8Array): number {
    this.check("write");
    return asHostCall("write", () => this.what, () => this.port.write(this.fd, responses));
  }
}
