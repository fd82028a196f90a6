/** Vectors that local APICs take: of messages and of the IOAPIC's pins (Intel SDM 3A, 11.11). */
import type { DmaAttributes, MmioHandler } from "../../memory/index.js";
import { hex } from "../../support/index.js";
import { InterruptLog } from "../interrupt-log.js";
import { Q35 } from "./map.js";

export interface Message {
  /** Bits 63:40 hold bits 31:8 of the destination in extended mode, as QEMU keeps them. */
  readonly address: number | bigint;
  readonly data: number;
}

/** Remaps the interrupt of a source; null: it is blocked. */
export type Remapper = (requesterId: number, message: Message) => Message | null;

const DELIVERY_LOWEST_PRIORITY = 1;
const DELIVERY_NAMES = ["fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT", "reserved", "ExtINT"];

/**
 * Pending vectors: a bit for each of a local APIC's 256 (SDM 3A, 11.8.4), so one that is pending already does not
 * become so twice. Lines are the IOAPIC's pins.
 */
export class ApicInterrupts extends InterruptLog {
  /** Processors that are there take messages of any delivery mode; null: vectors are kept until somebody asks for them. */
  sink: ((message: Message) => void) | null = null;

  /** A message that needs no remapping any more. */
  message(message: Message): void {
    const { address, data } = message;
    const wide = BigInt(address);
    const low = Number(wide & 0xffff_ffffn);
    if (low >>> 20 !== 0xfee) {
      this.log.guestError("apic.address", () => `a message to ${hex(wide)}, where no local APIC is, is dropped`);
      return;
    }
    if (this.sink !== null) {
      this.messagesDelivered++;
      this.sink(message);
      return;
    }
    const mode = (data >> 8) & 7;
    if (mode > DELIVERY_LOWEST_PRIORITY) {
      this.log.guestError("apic.mode", () => `a message of delivery mode ${mode} (${DELIVERY_NAMES[mode]}) has no processor here and is dropped`);
      return;
    }
    const destination = ((low >>> 12) & 0xff) + Number((wide >> 40n) & 0xff_ffffn) * 256;
    const logical = (low & 4) !== 0;
    const vector = data & 0xff;
    this.messagesDelivered++;
    this.add((destination * 2 + (logical ? 1 : 0)) * 256 + vector, { kind: "vector", vector, destination, logical });
  }

  /** Vectors that wait at the local APIC of an id, ascending: to it, to all, or to its bit of a logical destination (SDM 3A, 11.6.2.2, flat model). */
  pendingVectors(apicId: number): number[] {
    const found = new Set<number>();
    for (const one of this.waiting) {
      if (one.kind === "vector" && (one.logical ? apicId < 8 && (one.destination >> apicId) % 2 === 1 : one.destination === apicId || one.destination === 0xff)) {
        found.add(one.vector);
      }
    }
    return [...found].sort((a, b) => a - b);
  }

  /** Tells those who watch the IOAPIC's inputs. */
  pinLevel(pin: number, level: number): void {
    this.tell(pin, level);
  }
}

/**
 * The range at 0xfee00000. A device's write is a message, remapped by its requester id; a processor's is one where it
 * does not name a register of its own local APIC (QEMU hw/intc/apic.c, apic_mem_write). Those registers are not
 * modelled: the guest takes vectors from its port.
 */
export class MessageWindow implements MmioHandler {
  constructor(
    private readonly interrupts: ApicInterrupts,
    private readonly remap: Remapper,
  ) {}

  /** Registers of a processor that nobody is. */
  read(_offset: number, size: number): bigint {
    return (1n << BigInt(8 * size)) - 1n;
  }

  write(offset: number, size: number, value: bigint, attributes?: DmaAttributes): void {
    if (size !== 4) {
      return;
    }
    const message = { address: Q35.messages.base + offset, data: Number(value & 0xffff_ffffn) };
    if (attributes !== undefined) {
      const remapped = this.remap(attributes.requesterId, message);
      if (remapped !== null) {
        this.interrupts.message(remapped);
      }
    } else if (offset === 0 || offset > 0xfff) {
      this.interrupts.message(message);
    }
  }
}
