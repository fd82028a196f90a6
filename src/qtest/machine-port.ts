/** A machine behind a qtest socket as a guest's machine. */
import type { AccessSize, FirmwareTables, Interrupt, MachinePort, PortSize } from "../port/index.js";
import { type QtestClient, QtestError } from "./client.js";

const FIRST_SPI = 32;
/** Lines on their way whose answers nobody waits for, at the most. */
const POSTED_LIMIT = 256;
const LONGEST_WAIT_MS = 5;

export interface QtestPortOptions {
  /** QOM path of the GIC, whose inputs are its shared peripheral interrupts from 0 on; null: there is none. */
  readonly interruptController: string | null;
  /** MachinePort.vectorsOnce. */
  readonly vectorsOnce?: boolean;
  /** Interrupts that are seen in another way, since the last call. */
  moreInterrupts?(): Promise<Interrupt[]>;
  /** Time that passes whenever interrupts are taken, in nanoseconds: what devices wait for comes. */
  readonly step: bigint;
  /** Finds the firmware's tables, or makes them. */
  firmware(port: QtestPort): Promise<FirmwareTables>;
}

/**
 * The port: accesses of a CPU and interrupts. Writes are posted: they keep their order, and one that the other
 * side refuses is thrown by the next call that waits. Messages of an ITS are not seen: without a CPU's ITS
 * tables it drops them. A GICv2m frame's are shared peripheral interrupts and are.
 */
export class QtestPort implements MachinePort {
  readonly vectorsOnce: boolean;
  private readonly pending: Interrupt[] = [];
  private posted: Array<Promise<unknown>> = [];
  private failure: unknown = null;
  private stepped: boolean | null = null;
  /** Calls of `interrupts` since the last that had any. */
  private quiet = 0;

  private constructor(
    readonly client: QtestClient,
    private readonly options: QtestPortOptions,
  ) {
    this.vectorsOnce = options.vectorsOnce === true;
    client.onInterrupt = (pin, raised) => {
      if (raised) {
        this.pending.push({ kind: "spi", intid: FIRST_SPI + pin });
      }
    };
  }

  /** @throws QtestError where there is no such interrupt controller */
  static async open(client: QtestClient, options: QtestPortOptions): Promise<QtestPort> {
    const port = new QtestPort(client, options);
    if (options.interruptController !== null) {
      await client.interceptIn(options.interruptController);
    }
    return port;
  }

  async read(address: number, size: AccessSize): Promise<bigint> {
    const value = await this.client.read(address, size);
    await this.settle(false);
    return value;
  }

  write(address: number, size: AccessSize, value: bigint): Promise<void> {
    return this.post(this.client.write(address, size, value));
  }

  async readPort(port: number, size: PortSize): Promise<number> {
    const value = await this.client.readPort(port, size);
    await this.settle(false);
    return value;
  }

  writePort(port: number, size: PortSize, value: number): Promise<void> {
    return this.post(this.client.writePort(port, size, value));
  }

  async readMemory(address: number, length: number): Promise<Uint8Array> {
    const bytes = await this.client.readMemory(address, length);
    await this.settle(false);
    return bytes;
  }

  writeMemory(address: number, data: Uint8Array): Promise<void> {
    return this.post(this.client.writeMemory(address, data));
  }

  async interrupts(): Promise<Interrupt[]> {
    await this.passTime();
    await this.settle(true);
    this.pending.push(...((await this.options.moreInterrupts?.()) ?? []));
    this.quiet = this.pending.length > 0 ? 0 : this.quiet + 1;
    return this.pending.splice(0);
  }

  async firmware(): Promise<FirmwareTables> {
    return await this.options.firmware(this);
  }

  /**
   * A machine whose own CPU makes time pass has no clock_step. What another process does besides (it unplugs a
   * device, say) takes time of ours: the longer nothing comes, the more of it is given.
   */
  private async passTime(): Promise<void> {
    const wait = Math.min(this.quiet >> 4, LONGEST_WAIT_MS);
    if (wait > 0 || this.stepped === false) {
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
    if (this.stepped === false) {
      await this.client.read(0, 4);
      return;
    }
    const answer = await this.client.ask(`clock_step ${this.options.step}`);
    if (this.stepped === null && answer.startsWith("FAIL Unknown command")) {
      this.stepped = false;
    } else if (!answer.startsWith("OK")) {
      throw new QtestError(`qtest: clock_step ${this.options.step}: ${answer}`);
    } else {
      this.stepped = true;
    }
  }

  private post(answer: Promise<unknown>): Promise<void> {
    this.posted.push(answer.catch((error: unknown) => (this.failure ??= error)));
    return this.posted.length < POSTED_LIMIT ? Promise.resolve() : this.settle(true);
  }

  private async settle(wait: boolean): Promise<void> {
    if (wait) {
      await Promise.all(this.posted.splice(0));
    }
    if (this.failure !== null) {
      throw this.failure as Error;
    }
  }
}
