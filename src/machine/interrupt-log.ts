/** The interrupts of a machine as its guest takes them: what an interrupt controller keeps pending. */
import type { InterruptSink } from "../msi/index.js";
import type { Interrupt } from "../port/index.js";
import type { Log } from "../support/index.js";

/** Bits of an ITS event id (GITS_TYPER.ID_bits of QEMU's ITS: 15, for 16 bits). */
const EVENT_ID_LIMIT = 2 ** 16;
/** Interrupts that can be pending at once. A controller has a bit for each; here each costs an object. */
const PENDING_LIMIT = 2 ** 20;

/** Called with the number of an interrupt controller's line and its level. */
export type LineWatcher = (line: number, level: number) => void;

/** Pending interrupts, oldest first, and levels of lines. One that is pending already does not become pending twice. */
export abstract class InterruptLog {
  /** Messages that arrived, and edges, those that merged with a pending one included. */
  messagesDelivered = 0;
  edges = 0;
  private readonly pending = new Map<number, Interrupt>();
  private watchers: LineWatcher[] = [];

  constructor(protected readonly log: Log) {}

  /** Tells every level that a line is set to, edges as up and down. */
  watchLines(watcher: LineWatcher): void {
    this.watchers.push(watcher);
  }

  protected tell(line: number, level: number): void {
    for (const watcher of this.watchers) {
      watcher(line, level);
    }
  }

  take(): Interrupt[] {
    const taken = [...this.pending.values()];
    this.pending.clear();
    return taken;
  }

  /** What is pending, left as it is. */
  protected get waiting(): Iterable<Interrupt> {
    return this.pending.values();
  }

  /** Nothing is pending after a reset; lines keep their level. */
  reset(): void {
    this.pending.clear();
  }

  /** @param key what tells the interrupt from others */
  protected add(key: number, interrupt: Interrupt): void {
    if (this.pending.size < PENDING_LIMIT || this.pending.has(key)) {
      this.pending.set(key, interrupt);
    } else {
      this.log.guestError("interrupts.pending", () => `more than ${PENDING_LIMIT} interrupts are pending: this one is dropped`);
    }
  }
}

/**
 * A GIC's: one that is pending already does not become pending twice (Arm IHI 0069, 4.1.1: a bit for each
 * interrupt); a level-triggered one becomes pending when its line rises. Lines are INTIDs, 32 and up.
 */
export class GicInterrupts extends InterruptLog implements InterruptSink {
  private readonly levels = new Set<number>();

  message(deviceId: number, eventId: number): void {
    if (eventId >= EVENT_ID_LIMIT) {
      this.log.guestError("its.event-id", () => `ITS: event id 0x${eventId.toString(16)} of device 0x${deviceId.toString(16)} is out of range, the message is dropped`);
      return;
    }
    this.messagesDelivered++;
    this.add(2 ** 20 + deviceId * EVENT_ID_LIMIT + eventId, { kind: "msi", deviceId, eventId });
  }

  /** A message that became a shared peripheral interrupt: the GICv2m frame's. */
  messageSpi(intid: number): void {
    this.messagesDelivered++;
    this.spi(intid);
  }

  spi(intid: number): void {
    this.rise(intid);
    this.tell(intid, 1);
    this.tell(intid, 0);
  }

  /** A level-triggered line. */
  setLevel(intid: number, level: boolean): void {
    this.drive(intid, level ? 1 : 0, true);
  }

  /** A line set from outside, to any level: 0 is low. One that is not shared (a CPU's own) is told and goes no further. */
  drive(intid: number, level: number, shared: boolean): void {
    this.tell(intid, level);
    if (level === 0) {
      this.levels.delete(intid);
    } else if (shared && !this.levels.has(intid)) {
      this.levels.add(intid);
      this.rise(intid);
    }
  }

  private rise(intid: number): void {
    this.edges++;
    this.add(intid, { kind: "spi", intid });
  }
}
