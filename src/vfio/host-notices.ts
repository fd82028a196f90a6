/** What the host tells of a function besides its interrupts: an error that it does not get over (PCIe 6.2), and that it is wanted back. */
import { type Host, type HostEvent, HostError, type VfioDevice, VfioIrq } from "../iommufd/index.js";
import type { Log } from "../support/index.js";

export interface NoticeParts {
  readonly device: VfioDevice;
  readonly host: Host;
  /** For messages. */
  readonly name: string;
  readonly log: Log;
  /** Left out: nobody is told. */
  readonly onError?: () => void;
  /** The host's administrator takes the function from vfio-pci; told again and again until it is closed. */
  readonly onRequest?: () => void;
}

export class HostNotices {
  private readonly events: HostEvent[] = [];

  constructor(private readonly parts: NoticeParts) {
    this.listen(VfioIrq.ERR, parts.onError);
    this.listen(VfioIrq.REQ, parts.onRequest);
  }

  /** The device is closed. */
  close(): void {
    this.events.splice(0).forEach((event) => event.close());
  }

  /** A host that tells none, or refuses, is no reason against the function. */
  private listen(index: number, listener: (() => void) | undefined): void {
    if (listener === undefined) {
      return;
    }
    const { device, host, name, log } = this.parts;
    try {
      if (device.irqInfo(index).count === 0) {
        return;
      }
      const event = host.makeEvent();
      this.events.push(event);
      device.setIrqs(index, 0, [event]);
      event.onSignal(listener);
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      log.info(`${name}: the host does not tell of ${index === VfioIrq.ERR ? "its errors" : "requests for it"}: ${error.message}`);
    }
  }
}
