/** What a GIC takes: messages by the ITS, shared peripheral interrupts. */
import type { InterruptSink } from "../../msi/index.js";
import { InterruptLog } from "../interrupt-log.js";
import { GITS_TRANSLATER_ADDRESS } from "./map.js";

/** Bits of an ITS event id (GITS_TYPER.ID_bits of QEMU's ITS: 15, for 16 bits). */
const EVENT_ID_LIMIT = 2 ** 16;

/** An interrupt controller outside, with processors behind it (KVM's). */
export interface GicTaker {
  /** A message to the ITS as KVM_SIGNAL_MSI takes it: guest-physical address, event id, and the device's requester id. */
  message(message: { readonly address: number; readonly data: number; readonly deviceId: number }): void;
  /** A shared peripheral interrupt's line, by INTID (32 and up). An edge is told as high, then low. */
  line(intid: number, high: boolean): void;
}

/**
 * A GIC's: one that is pending already does not become pending twice (Arm IHI 0069, 4.1.1: a bit for each
 * interrupt); a level-triggered one becomes pending when its line rises. Lines are INTIDs, 32 and up.
 */
export class GicInterrupts extends InterruptLog implements InterruptSink {
  private readonly levels = new Set<number>();
  /** Where processors are: takes all, and nothing is kept pending here. Null: the guest asks for what is pending. */
  taker: GicTaker | null = null;

  message(deviceId: number, eventId: number): void {
    if (this.taker !== null) {
      this.messagesDelivered++;
      this.taker.message({ address: GITS_TRANSLATER_ADDRESS, data: eventId, deviceId });
      return;
    }
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
    this.taker?.line(intid, false);
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
      if (this.levels.delete(intid)) {
        this.taker?.line(intid, false);
      }
    } else if (shared && !this.levels.has(intid)) {
      this.levels.add(intid);
      this.rise(intid);
    }
  }

  private rise(intid: number): void {
    if (this.taker !== null) {
      this.taker.line(intid, true);
      return;
    }
    this.add(intid, { kind: "spi", intid });
  }
}
