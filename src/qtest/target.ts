import type { AddressSpace, MmioHandler } from "../memory/index.js";
import type { PinDevice, SteppedClock } from "../port/index.js";

/** What a qtest socket plays with: a CPU's memory, interrupt lines by their QOM path, the virtual clock. */
export interface QtestTarget {
  readonly memory: AddressSpace;
  /** Port I/O; null: the machine has none, reads give all ones. */
  readonly ports: MmioHandler | null;
  /** Null: the client has no hold on it (QEMU has the clock commands with -accel qtest only). */
  readonly clock: SteppedClock | null;
  /** A device by its QOM path, absolute or the unambiguous end of one; null: there is none. */
  findDevice(path: string): PinDevice | null;
}
