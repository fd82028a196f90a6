/**
 * A running machine: built from its arguments on a host, started, seen by its guest through a port and by an
 * administrator through an operator, reset, and shut down with nothing left on the host.
 */
import type { GuestNews } from "../devices/index.js";
import type { Host } from "../iommufd/index.js";
import type { AccessSize, FirmwareTables, Interrupt, MachineOperator, MachinePort, PortSize } from "../port/index.js";
import type { PciFunction } from "../pci/index.js";
import { type Log, Refusal, RefusalCollector } from "../support/index.js";
import { emulatedDma, type FunctionDma, type MsiRouteEntry } from "./accounts.js";
import type { MachineArguments } from "./arguments/index.js";
import type { Board } from "./board.js";
import { makeBoard } from "./boards.js";
import { crowdedRootBuses } from "./bus-room.js";
import { describeMachine, type MachineDescription } from "./description.js";
import { Hotplug } from "./hotplug.js";
import type { InvalidationAccount } from "./iommu-account.js";
import { InterruptPins } from "./interrupt-pins.js";
import { MachineEvents, RunState } from "./run-state.js";

/** What runs the machine's instructions, where something does. */
export interface Processors {
  /** They run no more when it returns: the machine is going to be changed below them. */
  hold(): void;
  /** The machine has been reset: they begin anew. */
  reset(): void;
}

export class Machine {
  readonly board: Board;
  /** Interrupt lines by QOM paths. */
  readonly pins: InterruptPins;
  readonly events = new MachineEvents();
  readonly runState = new RunState(this.events);
  readonly hotplug: Hotplug;
  processors: Processors | null = null;
  /** When it was made, on `performance.now()`'s clock. */
  readonly since = performance.now();
  private state: "built" | "running" | "gone" = "built";

  /** Builds the machine. @throws Refusal or HostError, with nothing left on the host */
  constructor(
    readonly args: MachineArguments,
    readonly host: Host,
    readonly log: Log,
  ) {
    this.board = makeBoard(args, host, log);
    this.board.outputs.guestReset = () => this.guestReset();
    this.board.outputs.powerOff = () => this.guestPowerOff();
    this.board.outputs.functionFailed = (fn) => this.functionFailed(fn);
    this.board.outputs.functionWanted = (fn) => this.functionWanted(fn);
    this.board.outputs.news = (news) => this.guestTells(news);
    this.hotplug = new Hotplug(this.board, args, log, this.events);
    this.pins = new InterruptPins(this.board);
    this.events.subscribe(({ name }) => {
      if (this.board.clock !== null && (name === "STOP" || name === "RESUME")) {
        this.board.clock.running = name === "RESUME";
      }
    });
  }

  /**
   * Everything is plugged: `auto` properties become what the hosts of the functions offer and stay so, and the
   * firmware's tables are written. @throws Refusal; the machine is to be shut down then
   */
  start(): void {
    const elsewhere = this.board.functions
      .filter(({ fn }) => fn.passthrough !== null && this.board.iommuOf(fn)?.accelerated !== true)
      .map(({ fn }) => `${fn.label} is on bus '${fn.bus?.id ?? ""}'`);
    const refusals = new RefusalCollector();
    this.board.iommus.forEach((iommu) => refusals.attempt(() => iommu.start(elsewhere), iommu.argument === null ? {} : { where: iommu.argument.where, place: iommu.argument.place }));
    refusals.throwAll();
    crowdedRootBuses(this.board.pci, this.board.map.busCount).forEach(({ words, found, wouldWork }) => this.log.warn(`${words}: ${found}; would work: ${wouldWork}`));
    this.hotplug.watch();
    this.state = "running";
    this.board.writeFirmware();
    if (!this.args.control.stopped) {
      this.runState.launch();
    }
  }

  /** What a guest sees. Its accesses wait while the machine is stopped. */
  port(): MachinePort {
    const { memory, interrupts, ports } = this.board;
    const { runState } = this;
    const running = async (): Promise<void> => {
      for (let stopped = runState.whenRunning(); stopped !== null; stopped = runState.whenRunning()) {
        await stopped;
      }
    };
    const portSpace = ports === null
      ? {}
      : {
          readPort: async (port: number, size: PortSize): Promise<number> => {
            await running();
            return Number(BigInt.asUintN(8 * size, ports.read(port, size)));
          },
          writePort: async (port: number, size: PortSize, value: number): Promise<void> => {
            await running();
            ports.write(port, size, BigInt.asUintN(8 * size, BigInt(value)));
          },
        };
    return {
      ...portSpace,
      read: async (address: number, size: AccessSize): Promise<bigint> => {
        if (!runState.running) {
          await running();
        }
        return memory.readWord(address, size);
      },
      write: async (address: number, size: AccessSize, value: bigint): Promise<void> => {
        if (!runState.running) {
          await running();
        }
        memory.writeWord(address, size, BigInt.asUintN(size * 8, value));
      },
      readMemory: async (address: number, length: number): Promise<Uint8Array> => {
        await running();
        const out = new Uint8Array(length);
        memory.readBytes(address, out);
        return out;
      },
      writeMemory: async (address: number, data: Uint8Array): Promise<void> => {
        await running();
        memory.writeBytes(address, data);
      },
      interrupts: async (): Promise<Interrupt[]> => {
        await turn();
        await running();
        return interrupts.take();
      },
      // Made anew when they are asked for, as QEMU does when firmware reads them: IORT's ranges follow the bus numbers.
      firmware: async (): Promise<FirmwareTables> => {
        await running();
        this.board.writeFirmware();
        return this.board.firmware;
      },
    };
  }

  /** What an administrator does from outside. */
  operator(): MachineOperator {
    return {
      requestUnplug: (id) => this.hotplug.requestUnplug(id),
      plug: async (argument) => {
        this.hotplug.plug(argument);
        await turn();
      },
      isPlugged: async (id) => this.board.find(id) !== null || this.board.memoryDevices.list.some((dimm) => dimm.id === id),
      reset: async () => {
        this.reset();
        await turn();
      },
    };
  }

  /**
   * system_reset: functions first, so that none does DMA; then the IOMMUs, which move every function from the
   * guest's tables to what applies after reset; then what was pending goes, and the firmware starts anew.
   * @param reason of qapi's ShutdownCause
   */
  reset(reason = "host-qmp-system-reset"): void {
    const { board } = this;
    this.processors?.hold();
    board.pci.reset();
    board.iommus.forEach((iommu) => iommu.reset());
    board.resetBoard();
    board.interrupts.reset();
    this.hotplug.reset();
    board.writeFirmware();
    this.runState.reset();
    this.events.emit({ name: "RESET", data: { guest: reason === "guest-reset", reason } });
    this.processors?.reset();
  }

  /** The power button: a guest that listens to it may shut itself down. */
  powerDown(): void {
    this.events.emit({ name: "POWERDOWN" });
    this.board.pressPowerButton();
  }

  /** The guest resets its machine: by the reset register, or by a triple fault. With -no-reboot that ends it. */
  guestReset(): void {
    if (this.args.control.noReboot) {
      this.guestPowerOff("guest-reset");
    } else {
      this.reset("guest-reset");
    }
  }

  /** A function of the host has met an error that it does not get over (QEMU's vfio_err_notifier_handler): the machine stops until it is reset. */
  private functionFailed(fn: PciFunction): void {
    this.log.warn(`vfio_err_notifier_handler(${fn.passthrough?.hostAddress ?? fn.label}) Unrecoverable error detected. Please collect any data possible and then kill the guest`);
    this.runState.stop("internal-error");
  }

  /** The host wants a function back (QEMU's vfio_req_notifier_handler): as device_del does it. */
  private functionWanted(fn: PciFunction): void {
    if (this.hotplug.isAsked(fn)) {
      return;
    }
    try {
      this.hotplug.ask(fn);
    } catch (error) {
      if (!(error instanceof Refusal)) {
        throw error;
      }
      this.log.warnLimited("vfio.request", `${fn.label}: the host wants ${fn.passthrough?.hostAddress ?? "it"} back: ${error.message}`);
    }
  }

  /** The guest has switched its machine off. @param reason of qapi's ShutdownCause */
  guestPowerOff(reason = "guest-shutdown"): void {
    this.runState.shutDown();
    this.events.emit({ name: "SHUTDOWN", data: { guest: true, reason } });
  }

  /** A guest tells what has become of it; `-action` says what follows (QEMU's system/runstate.c). */
  private guestTells(news: GuestNews): void {
    const { onPanic, noShutdown } = this.args.control;
    switch (news) {
      case "panicked":
        if (onPanic === "none") {
          this.events.emit({ name: "GUEST_PANICKED", data: { action: "run" } });
        } else {
          const ends = onPanic === "exit-failure" || (onPanic === "shutdown" && !noShutdown);
          this.events.emit({ name: "GUEST_PANICKED", data: { action: ends ? "poweroff" : "pause" } });
          this.runState.stop("guest-panicked");
          if (ends) {
            this.guestPowerOff("guest-panic");
          }
        }
        break;
      case "crash-loaded":
        this.events.emit({ name: "GUEST_CRASHLOADED", data: { action: "run" } });
        break;
      case "shutdown":
        this.events.emit({ name: "GUEST_PVSHUTDOWN" });
        this.guestPowerOff();
        break;
    }
  }

  /** Takes the machine apart: functions, IOMMUs, memory. Safe to call twice. */
  shutdown(): void {
    if (this.state !== "gone") {
      this.state = "gone";
      this.runState.end();
      this.hotplug.reset();
      this.board.dispose();
    }
  }

  get running(): boolean {
    return this.state === "running";
  }

  /** The machine as it is now. */
  describe(): MachineDescription {
    return describeMachine(this.board);
  }

  /** Messages' routes, DMA of emulated functions, and invalidations of each IOMMU, since the machine was built. */
  accounts(): { msi: MsiRouteEntry[]; messages: number; dma: FunctionDma[]; invalidation: InvalidationAccount[] } {
    const { board } = this;
    return {
      msi: board.msiAccount.list(),
      messages: board.interrupts.messagesDelivered,
      dma: emulatedDma(board.everPlugged),
      invalidation: board.iommus.map((iommu) => iommu.invalidation()),
    };
  }

  /** Functions that a guest may ask to have unplugged and plugged again: named, alone in a slot with hotplug; passed-through ones first. */
  hotplugCandidates(): Array<{ id: string; argument: string }> {
    const able = this.board.functions.filter(
      ({ fn }) => fn.id !== "" && !fn.isBridge && fn.bus?.options.hotplug === true && fn.bus.functions.size === 1,
    );
    return [...able.filter(({ fn }) => fn.passthrough !== null), ...able.filter(({ fn }) => fn.passthrough === null)].map(({ fn, argument }) => ({
      id: fn.id,
      argument: argument.text,
    }));
  }
}

/** Lets events of the host that are under way arrive. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
