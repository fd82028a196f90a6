/** The controller's registers (3.1), and its coming and going by them: enabling, reset (7.3), shutdown (7.6). */
import { onEventLoop, type Scheduler } from "../support/index.js";
import { AdminCommands } from "./admin.js";
import { Engine } from "./engine.js";
import { ErrorLog } from "./error-log.js";
import { Features } from "./features.js";
import type { NvmeHost, NvmeOptions } from "./host.js";
import { IoCommands } from "./io.js";
import type { Statistics } from "./log-pages.js";
import type { Namespace } from "./namespace.js";
import { CC, CC_ENABLE, CC_WRITABLE, CSTS_FATAL, CSTS_READY, CSTS_SHUTDOWN, CSTS_SHUTDOWN_BUSY, CSTS_SHUTDOWN_DONE, REGISTER, VERSION_1_4 } from "./spec.js";
import { traceConfiguration, traceFatal, traceShutdown, traceStart, traceStopped } from "./trace.js";

/** CAP (3.1.1). TO: in units of 500 ms, the most that enabling and disabling take. */
const CAP_TIMEOUT = 15;
const CAP_CONTIGUOUS_QUEUES = 1 << 16;
/** In the upper word: CSS, the NVM command set; MPSMAX, pages of up to 64 KiB (2^(12 + 4)). */
const CAP_HIGH_NVM = 1 << 5;
const MOST_PAGE_BITS = 4;
const CAP_HIGH_MPSMAX = MOST_PAGE_BITS << 20;
const SMALLEST_PAGE_BYTES = 4096;

export class NvmeController {
  readonly statistics: Statistics = { bytesRead: 0, bytesWritten: 0, reads: 0, writes: 0, mediaErrors: 0 };
  private readonly errors = new ErrorLog();
  private readonly features: Features;
  private readonly admin: AdminCommands;
  private readonly io: IoCommands;
  /** Null: disabled. One that has failed or is shut down has ended and does nothing. */
  private engine: Engine | null = null;
  private cc = 0;
  private csts = 0;
  private mask = 0;
  private aqa = 0;
  private asq: [low: number, high: number] = [0, 0];
  private acq: [low: number, high: number] = [0, 0];
  /** Operations of disks that have not ended. */
  private operations = 0;
  /** What is to come when no operation is under way. */
  private change: "enable" | "disable" | "shutdown" | null = null;

  /**
   * @param namespaces by their ids, 1 to 256
   * @param scheduler runs work that goes on later
   */
  constructor(
    private readonly host: NvmeHost,
    private readonly options: NvmeOptions,
    private readonly namespaces: ReadonlyMap<number, Namespace>,
    private readonly scheduler: Scheduler = onEventLoop,
  ) {
    const mostBytes = options.mdts === 0 ? 0 : SMALLEST_PAGE_BYTES * 2 ** options.mdts;
    this.features = new Features({
      queuePairs: options.queuePairs,
      writeCache: options.writeCache,
      vectors: () => host.vectors(),
      hasIoQueues: () => this.engine?.hasIoQueues === true,
      isNamespace: (id) => namespaces.has(id),
      onTemperature: () => this.admin.checkTemperature(),
    });
    const shared = { namespaces, features: this.features, statistics: this.statistics, mostBytes, engine: () => this.engine! };
    this.admin = new AdminCommands({ ...shared, host, options, errors: this.errors, configuration: () => this.cc });
    this.io = new IoCommands(shared);
  }

  /** Bytes of the registers with the doorbells of all queues. */
  get registerBytes(): number {
    return REGISTER.DOORBELLS + 8 * (this.options.queuePairs + 1);
  }

  /** A 32-bit register; `offset` is a multiple of 4. */
  read(offset: number): number {
    switch (offset) {
      case REGISTER.CAP:
        return this.options.mqes | CAP_CONTIGUOUS_QUEUES | (CAP_TIMEOUT << 24);
      case REGISTER.CAP + 4:
        return CAP_HIGH_NVM | CAP_HIGH_MPSMAX;
      case REGISTER.VS:
        return VERSION_1_4;
      case REGISTER.INTMS:
      case REGISTER.INTMC:
        return this.mask;
      case REGISTER.CC:
        return this.cc;
      case REGISTER.CSTS:
        return this.csts;
      case REGISTER.AQA:
        return this.aqa;
      case REGISTER.ASQ:
        return this.asq[0];
      case REGISTER.ASQ + 4:
        return this.asq[1];
      case REGISTER.ACQ:
        return this.acq[0];
      case REGISTER.ACQ + 4:
        return this.acq[1];
      default:
        return 0;
    }
  }

  write(offset: number, value: number): void {
    switch (offset) {
      case REGISTER.INTMS:
        this.mask |= value;
        this.engine?.updatePin();
        return;
      case REGISTER.INTMC: {
        const opened = this.mask & value;
        this.mask &= ~value;
        this.engine?.unmasked(opened);
        return;
      }
      case REGISTER.CC:
        this.configure(value & CC_WRITABLE);
        return;
      case REGISTER.AQA:
        this.aqa = value & 0x0fff_0fff;
        return;
      case REGISTER.ASQ:
        this.asq[0] = value & ~0xfff;
        return;
      case REGISTER.ASQ + 4:
        this.asq[1] = value | 0;
        return;
      case REGISTER.ACQ:
        this.acq[0] = value & ~0xfff;
        return;
      case REGISTER.ACQ + 4:
        this.acq[1] = value | 0;
        return;
      default:
        if (offset >= REGISTER.DOORBELLS) {
          this.engine?.ring((offset - REGISTER.DOORBELLS) / 4, value & 0xffff);
        }
    }
  }

  /** Function level reset, or the machine's: all registers as after power on (7.3.2). What disks are doing ends before it can be enabled. */
  reset(): void {
    this.halt();
    this.cc = 0;
    this.csts = 0;
    this.aqa = 0;
    this.asq = [0, 0];
    this.acq = [0, 0];
    this.change = null;
  }

  /** Whether messages are enabled has changed. */
  interruptsChanged(): void {
    this.engine?.updatePin();
  }

  private configure(value: number): void {
    const before = this.cc;
    this.cc = value;
    if (traceConfiguration.on) {
      traceConfiguration.emit(value);
    }
    const enabled = (value & CC_ENABLE) !== 0;
    if (enabled !== ((before & CC_ENABLE) !== 0)) {
      if (enabled) {
        this.csts = 0;
        this.change = "enable";
      } else {
        // A controller reset keeps the admin queue's registers (7.3.2). RDY goes when nothing is under way.
        this.halt();
        this.change = "disable";
        if (traceStopped.on) {
          traceStopped.emit();
        }
      }
    }
    const shutdown = CC.shn(value) !== 0;
    if (shutdown && CC.shn(before) === 0) {
      this.csts = (this.csts & ~CSTS_SHUTDOWN) | CSTS_SHUTDOWN_BUSY;
      this.change ??= "shutdown";
      if (traceShutdown.on) {
        traceShutdown.emit();
      }
    } else if (!shutdown && CC.shn(before) !== 0) {
      this.csts &= ~CSTS_SHUTDOWN;
    }
    this.settle();
  }

  private halt(): void {
    this.engine?.end();
    this.engine = null;
    this.mask = 0;
    this.features.reset();
    this.errors.reset();
    this.host.setPin(false);
  }

  /** Goes on with what waits for disks. */
  private settle(): void {
    if (this.operations > 0) {
      return;
    }
    const { change } = this;
    this.change = null;
    if (change === "enable") {
      this.start();
    } else if (change === "disable") {
      this.csts = 0;
    } else if (change === "shutdown") {
      this.flushAll([...this.namespaces.values()]);
    }
    // A shutdown that was asked for together with another change.
    if (change !== "shutdown" && this.change === null && (this.csts & CSTS_SHUTDOWN) === CSTS_SHUTDOWN_BUSY) {
      this.change = "shutdown";
      this.settle();
    }
  }

  /** What has been written survives, then the shutdown is complete. Nothing is fetched from then on (7.6.2). */
  private flushAll(left: Namespace[]): void {
    const next = left.pop();
    if (next === undefined) {
      this.engine?.end();
      this.csts = (this.csts & ~CSTS_SHUTDOWN) | CSTS_SHUTDOWN_DONE;
      return;
    }
    this.operations++;
    next.disk.flush(() => {
      this.operations--;
      if ((this.csts & CSTS_SHUTDOWN) === CSTS_SHUTDOWN_BUSY && this.change === null) {
        this.flushAll(left);
      } else {
        this.settle();
      }
    });
  }

  /** Enabling (7.6.1); what the registers hold may make it fail. */
  private start(): void {
    const { cc } = this;
    const pageBytes = SMALLEST_PAGE_BYTES * 2 ** CC.mps(cc);
    const sqSize = (this.aqa & 0xfff) + 1;
    const cqSize = ((this.aqa >>> 16) & 0xfff) + 1;
    const aligned = (this.asq[0] >>> 0) % pageBytes === 0 && (this.acq[0] >>> 0) % pageBytes === 0;
    if (CC.mps(cc) > MOST_PAGE_BITS || CC.css(cc) !== 0 || CC.ams(cc) !== 0 || sqSize < 2 || cqSize < 2 || !aligned) {
      this.csts = CSTS_FATAL;
      return;
    }
    this.engine = new Engine(
      {
        host: this.host,
        pageBytes,
        adminSq: { base: [...this.asq], size: sqSize },
        adminCq: { base: [...this.acq], size: cqSize },
        aerl: this.options.aerl,
        errors: this.errors,
        scheduler: this.scheduler,
        operations: {
          begin: () => void this.operations++,
          end: () => {
            this.operations--;
            if (this.change !== null) {
              this.settle();
            }
          },
        },
        masked: (vector) => vector < 32 && ((this.mask >>> vector) & 1) !== 0,
        onFatal: () => {
          this.csts |= CSTS_FATAL;
          if (traceFatal.on) {
            traceFatal.emit();
          }
        },
      },
      { admin: this.admin, io: this.io },
    );
    this.csts |= CSTS_READY;
    if (traceStart.on) {
      traceStart.emit();
    }
  }
}
