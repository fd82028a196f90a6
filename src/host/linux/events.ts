/** Eventfds of the process, and the read ends of iommufd's queues. */
import { type EventStream, type FaultStream, type HostEvent, HostError } from "../../iommufd/index.js";
import { makeEventFd, signalEventFd, takeEventFd, type Watch } from "../../linux/index.js";
import type { KernelPort } from "./kernel-port.js";
import { asHostCall } from "./refusals.js";

/** An eventfd(2). Its count is the kernel's: what signals it while nobody listens is found by the next listener. */
export class LinuxEvent implements HostEvent {
  readonly fd: number;
  private watch: Watch | null = null;
  private open = true;

  /** @throws HostError EMFILE */
  constructor(private readonly port: KernelPort) {
    this.fd = asHostCall("eventfd", () => "", makeEventFd);
  }

  signal(): void {
    if (this.open) {
      signalEventFd(this.fd);
    }
  }

  onSignal(listener: (() => void) | null): void {
    this.watch?.close();
    this.watch =
      listener === null || !this.open
        ? null
        : this.port.watch(this.fd, () => {
            if (this.open && takeEventFd(this.fd)) {
              listener();
            }
          });
  }

  close(): void {
    if (this.open) {
      this.open = false;
      this.watch?.close();
      this.watch = null;
      this.port.close(this.fd);
    }
  }
}

/** The descriptor of a vEVENTQ. */
export class LinuxStream implements EventStream {
  private watch: Watch | null = null;
  private open = true;

  constructor(
    protected readonly port: KernelPort,
    readonly fd: number,
    /** For messages, such as "vEVENTQ". */
    protected readonly what: string,
  ) {}

  read(maxBytes: number): Uint8Array | null {
    this.check("read");
    const out = Buffer.alloc(maxBytes);
    const length = asHostCall("read", () => this.what, () => this.port.read(this.fd, out));
    return length === 0 ? null : out.subarray(0, length);
  }

  onReadable(listener: (() => void) | null): void {
    this.watch?.close();
    this.watch = listener === null || !this.open ? null : this.port.watch(this.fd, () => void (this.open && listener()));
  }

  close(): void {
    if (this.open) {
      this.open = false;
      this.watch?.close();
      this.watch = null;
      this.port.close(this.fd);
    }
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
