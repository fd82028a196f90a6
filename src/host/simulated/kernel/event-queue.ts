import {
  type EventStream,
  type FaultStream,
  HostError,
  HWPT_PAGE_RESPONSE_BYTES,
  HWPT_PGFAULT_BYTES,
  VEVENT_HEADER,
  VEVENT_HEADER_BYTES,
  VEVENTQ_FLAG_LOST_EVENTS,
  VTD_FAULT_BYTES,
} from "../../../iommufd/index.js";
import type { Later } from "./host-event.js";
import { KernelObject, type ObjectType } from "./objects.js";

const SEQUENCE_MASK = 0x7fff_ffff;

/** What a queue's descriptor reads from. */
interface ReadableQueue {
  /** Descriptors that are open. */
  users: number;
  /** There is something to read. */
  readonly readable: boolean;
  /** Whole records; null: none. Throws HostError EINVAL where the first does not fit. */
  read(maxBytes: number): Uint8Array | null;
}

/** The read end of a queue: it holds the object, and its iommufd, until it is closed. */
export class QueueStream implements EventStream {
  readonly fd = null;
  private listener: (() => void) | null = null;
  private waking = false;
  private reads = 0;
  private closed = false;

  constructor(
    private readonly queue: ReadableQueue,
    private readonly later: Later,
    private readonly onClose: () => void,
  ) {
    queue.users++;
  }

  read(maxBytes: number): Uint8Array | null {
    this.checkOpen("read");
    this.reads++;
    return this.queue.read(maxBytes);
  }

  onReadable(listener: (() => void) | null): void {
    this.listener = listener;
    this.wake();
  }

  close(): void {
    if (!this.closed) {
      this.closed = true;
      this.listener = null;
      this.queue.users--;
      this.onClose();
    }
  }

  /** Calls the listener later where there is something to read, and again while it takes what is there (as poll does). */
  wake(): void {
    if (this.waking || this.listener === null || !this.queue.readable) {
      return;
    }
    this.waking = true;
    this.later(() => {
      this.waking = false;
      const before = this.reads;
      this.listener?.();
      if (this.reads !== before) {
        this.wake();
      }
    });
  }

  protected checkOpen(operation: string): void {
    if (this.closed) {
      throw new HostError(operation, "EBADF", "the descriptor is closed");
    }
  }
}

/** The descriptor of a fault queue, which takes responses too. */
export class FaultQueueStream extends QueueStream implements FaultStream {
  /** As Linux's iommufd_fault_fops_write: whole responses, each to a request that was read and waits. None waits here. */
  write(responses: Uint8Array): number {
    this.checkOpen("write");
    if (responses.length % HWPT_PAGE_RESPONSE_BYTES !== 0) {
      throw new HostError("write", "ESPIPE", `${responses.length} bytes are not whole responses of ${HWPT_PAGE_RESPONSE_BYTES}`);
    }
    if (responses.length > 0) {
      const cookie = new DataView(responses.buffer, responses.byteOffset).getUint32(0, true);
      throw new HostError("write", "EINVAL", `no page request has cookie ${cookie}`);
    }
    return 0;
  }
}

interface QueuedEvent {
  readonly sequence: number;
  readonly data: Uint8Array;
}

/**
 * A vEVENTQ: events with a sequence number each, at most `depth` of them. What does not fit is lost, and
 * shows as a gap in the numbers, or, at the end of the queue, as a header that says so (linux/iommufd.h,
 * struct iommufd_vevent_header).
 */
export class VirtualEventQueue extends KernelObject {
  readonly type: ObjectType = "veventq";
  stream: QueueStream | null = null;
  private readonly events: QueuedEvent[] = [];
  private lostAtTail: number | null = null;
  private sequence = 0;

  constructor(
    readonly eventType: number,
    readonly depth: number,
    private readonly onRelease: () => void,
  ) {
    super();
  }

  report(data: Uint8Array): void {
    if (this.events.length === this.depth) {
      this.lostAtTail = this.sequence;
    } else {
      this.events.push({ sequence: this.sequence, data });
      this.lostAtTail = null;
    }
    this.sequence = (this.sequence + 1) & SEQUENCE_MASK;
    this.stream?.wake();
  }

  get readable(): boolean {
    return this.events.length > 0 || this.lostAtTail !== null;
  }

  /** Whole records only (Linux iommufd_veventq_fops_read), and room for a header in any case. */
  read(maxBytes: number): Uint8Array | null {
    if (maxBytes < VEVENT_HEADER_BYTES) {
      throw new HostError("read", "EINVAL", `${maxBytes} bytes have no room for a header`);
    }
    const parts: Array<{ flags: number; sequence: number; data: Uint8Array }> = [];
    let bytes = 0;
    while (this.events.length > 0 && bytes + VEVENT_HEADER_BYTES + this.events[0].data.length <= maxBytes) {
      const event = this.events.shift()!;
      parts.push({ flags: 0, sequence: event.sequence, data: event.data });
      bytes += VEVENT_HEADER_BYTES + event.data.length;
    }
    if (this.events.length === 0 && this.lostAtTail !== null && bytes + VEVENT_HEADER_BYTES <= maxBytes) {
      parts.push({ flags: VEVENTQ_FLAG_LOST_EVENTS, sequence: this.lostAtTail, data: new Uint8Array(0) });
      bytes += VEVENT_HEADER_BYTES;
      this.lostAtTail = null;
    }
    if (bytes === 0) {
      if (this.readable) {
        throw new HostError("read", "EINVAL", `the next event does not fit in ${maxBytes} bytes`);
      }
      return null;
    }
    const out = new Uint8Array(bytes);
    const view = new DataView(out.buffer);
    let at = 0;
    for (const part of parts) {
      view.setUint32(at + VEVENT_HEADER.FLAGS, part.flags, true);
      view.setUint32(at + VEVENT_HEADER.SEQUENCE, part.sequence, true);
      out.set(part.data, at + VEVENT_HEADER_BYTES);
      at += VEVENT_HEADER_BYTES + part.data.length;
    }
    return out;
  }

  release(): void {
    this.onRelease();
  }
}

/** Records that a queue of VT-d faults holds at most. */
const MOST_VTD_FAULTS = 256;

/** Faults of a function's nested tables, oldest first. What finds it full is lost; zeros tell of that before the next record. */
export class VtdFaultQueue {
  users = 0;
  stream: QueueStream | null = null;
  private readonly records: Uint8Array[] = [];
  private hasLost = false;

  report(record: Uint8Array): void {
    if (this.records.length >= MOST_VTD_FAULTS) {
      this.hasLost = true;
      return;
    }
    if (this.hasLost) {
      this.hasLost = false;
      this.records.push(new Uint8Array(VTD_FAULT_BYTES));
    }
    this.records.push(record);
    this.stream?.wake();
  }

  get readable(): boolean {
    return this.records.length > 0;
  }

  read(maxBytes: number): Uint8Array | null {
    if (!this.readable) {
      return null;
    }
    const count = Math.min(this.records.length, Math.floor(maxBytes / VTD_FAULT_BYTES));
    if (count === 0) {
      throw new HostError("read", "EINVAL", `a record of ${VTD_FAULT_BYTES} bytes does not fit in ${maxBytes}`);
    }
    const out = new Uint8Array(count * VTD_FAULT_BYTES);
    this.records.splice(0, count).forEach((record, i) => out.set(record, i * VTD_FAULT_BYTES));
    return out;
  }
}

/** A fault queue. SMMUs of this host neither stall nor take page requests, so nothing comes through it. */
export class FaultQueue extends KernelObject {
  readonly type: ObjectType = "fault";
  readonly readable = false;

  /** Linux iommufd_fault_fops_read takes whole page requests alone. */
  read(maxBytes: number): Uint8Array | null {
    if (maxBytes % HWPT_PGFAULT_BYTES !== 0) {
      throw new HostError("read", "ESPIPE", `${maxBytes} bytes are not whole page requests of ${HWPT_PGFAULT_BYTES}`);
    }
    return null;
  }

  release(): void {}
}
