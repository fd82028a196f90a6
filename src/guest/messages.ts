/**
 * Where functions' messages (MSI, MSI-X) go: an ITS, a GICv2m frame, or local APICs, directly or through an
 * IOMMU's interrupt remapping. A message is an address as the function emits it, and data.
 */
import type { MachinePort } from "../port/index.js";
import type { MsiController } from "./firmware/description.js";
import type { InterruptController, InterruptHandler } from "./interrupts.js";
import type { MsiMessage } from "./pci/msi.js";

/** Turns a vector into a message that an IOMMU remaps. */
export interface InterruptRemapper {
  /** An entry for one message of the function; null: the table is full. */
  takeMessage(requesterId: number, vector: number): Promise<{ readonly handle: number; readonly message: MsiMessage } | null>;
  releaseMessage(handle: number): Promise<void>;
}

/** What a function has of interrupts, to be given back. */
export interface TakenMessages {
  readonly messages: readonly MsiMessage[];
  release(): Promise<void>;
}

export interface MessageSource {
  /** The id by which an ITS knows the function. */
  readonly deviceId: number;
  /** What its requests carry on the bus. */
  readonly requesterId: number;
  readonly remapper: InterruptRemapper | null;
}

export interface MessageController {
  /** Doorbell that an IOMMU translates like any other address; null: messages pass it by. */
  readonly doorbell: number | null;
  /** Messages for as many of the handlers as there are interrupts for; `address`: where the function sees the doorbell. */
  take(source: MessageSource, address: bigint, handlers: readonly InterruptHandler[]): Promise<TakenMessages>;
}

/** The controller's driver. `wired`: SPIs that are in use. `firstVector`: where vectors are handed out from (APIC). */
export function messageController(
  port: MachinePort,
  interrupts: InterruptController,
  controller: MsiController,
  options: { readonly wired: ReadonlySet<number>; readonly firstVector: number },
): MessageController {
  switch (controller.kind) {
    case "its":
      return new ItsMessages(interrupts, controller.doorbell);
    case "gicv2m":
      return new FrameMessages(port, interrupts, controller, options.wired);
    case "apic":
      return new ApicMessages(interrupts, options.firstVector);
  }
}

class ItsMessages implements MessageController {
  constructor(
    private readonly interrupts: InterruptController,
    readonly doorbell: number,
  ) {}

  take({ deviceId }: MessageSource, address: bigint, handlers: readonly InterruptHandler[]): Promise<TakenMessages> {
    const events = this.interrupts.onMsi(deviceId, handlers);
    const release = (): Promise<void> => Promise.resolve(this.interrupts.offMsi(deviceId, events));
    return Promise.resolve({ messages: events.map((data) => ({ address, data })), release });
  }
}

class FrameMessages implements MessageController {
  /** SPIs that no function has; null before the first is asked for. */
  private free: number[] | null = null;
  readonly doorbell: number;

  constructor(
    private readonly port: MachinePort,
    private readonly interrupts: InterruptController,
    private readonly controller: MsiController,
    private readonly wired: ReadonlySet<number>,
  ) {
    this.doorbell = controller.doorbell;
  }

  async take(_source: MessageSource, address: bigint, handlers: readonly InterruptHandler[]): Promise<TakenMessages> {
    const free = (this.free ??= await this.spis());
    const taken = free.splice(0, handlers.length);
    taken.forEach((intid, i) => this.interrupts.onSpi(intid, handlers[i]));
    return {
      messages: taken.map((data) => ({ address, data })),
      release: () => {
        taken.forEach((intid) => this.interrupts.offSpi(intid));
        free.push(...taken.splice(0));
        return Promise.resolve();
      },
    };
  }

  private async spis(): Promise<number[]> {
    const { firstSpi, spiCount, doorbell } = this.controller;
    // MSI_TYPER: first INTID in [25:16], number in [9:0].
    const typer = Number(await this.port.read(doorbell - 0x40 + 8, 4));
    const first = firstSpi || (typer >> 16) & 0x3ff;
    // On QEMU's virt board the frame's SPIs (48 to 111) include those of the machine's own SMMU (74 to 77).
    return Array.from({ length: spiCount || typer & 0x3ff }, (_, i) => first + i).filter((intid) => !this.wired.has(intid));
  }
}

/** Vectors of devices: below are exceptions and legacy interrupts, above is the system's own (Linux, irq_vectors.h). */
export const FIRST_VECTOR = 0x31;
export const LAST_VECTOR = 0xeb;
/** Messages to the APIC with id 0, physical destination mode (Intel SDM 3A, 11.11). */
const APIC_ADDRESS = 0xfee0_0000n;

class ApicMessages implements MessageController {
  readonly doorbell = null;
  private readonly used = new Set<number>();
  private next: number;

  constructor(
    private readonly interrupts: InterruptController,
    firstVector: number,
  ) {
    this.next = firstVector;
  }

  async take({ requesterId, remapper }: MessageSource, _address: bigint, handlers: readonly InterruptHandler[]): Promise<TakenMessages> {
    const taken: Array<{ readonly vector: number; readonly handle: number | null; readonly message: MsiMessage }> = [];
    for (const handler of handlers) {
      const vector = this.vector();
      const remapped = vector === null || remapper === null ? null : await remapper.takeMessage(requesterId, vector);
      if (vector === null || (remapper !== null && remapped === null)) {
        break;
      }
      this.used.add(vector);
      this.interrupts.onVector(vector, handler);
      taken.push({ vector, handle: remapped?.handle ?? null, message: remapped?.message ?? { address: APIC_ADDRESS, data: vector } });
    }
    return {
      messages: taken.map(({ message }) => message),
      release: async () => {
        for (const { vector, handle } of taken.splice(0)) {
          this.interrupts.offVector(vector);
          this.used.delete(vector);
          if (handle !== null) {
            await remapper?.releaseMessage(handle);
          }
        }
      },
    };
  }

  /** The next free one, round about: one that was just given back may still be pending. */
  private vector(): number | null {
    for (let tries = LAST_VECTOR - FIRST_VECTOR; tries >= 0; tries--) {
      const vector = this.next;
      this.next = vector === LAST_VECTOR ? FIRST_VECTOR : vector + 1;
      if (!this.used.has(vector)) {
        return vector;
      }
    }
    return null;
  }
}
