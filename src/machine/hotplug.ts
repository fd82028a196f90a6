/** device_add and device_del: what comes and goes while the machine runs. A refusal leaves the machine running. */
import { HotplugPort, type PciFunction } from "../pci/index.js";
import { type Log, Refusal } from "../support/index.js";
import { listed, located, type MachineArguments, parseDevice } from "./arguments/index.js";
import type { Board } from "./board.js";
import type { Dimm } from "./memory-devices.js";
import type { OtherDevice } from "./other-devices.js";
import type { MachineEvents } from "./run-state.js";

interface Waiting {
  resolve(): void;
  reject(reason: Refusal): void;
}

/** Milliseconds. */
const ANSWER_TIME = 5000;

export class Hotplug {
  /** Devices that were asked for and that the guest has not given up yet. */
  private readonly waiting = new Map<PciFunction, Waiting[]>();
  /** When a device was asked for, in milliseconds of performance.now(). */
  private readonly asked = new Map<PciFunction, number>();

  constructor(
    private readonly board: Board,
    private readonly args: MachineArguments,
    private readonly log: Log,
    private readonly events: MachineEvents,
  ) {}

  /** Listens at every slot. */
  watch(): void {
    for (const { fn } of this.board.functions) {
      this.watchPort(fn);
    }
  }

  private watchPort(fn: PciFunction): void {
    if (fn instanceof HotplugPort) {
      fn.onUnplugged = (gone) => this.gone(gone);
    }
  }

  /** device_add: `argument` as after -device. @throws Refusal or HostError, with nothing left of it */
  plug(argument: string): void {
    const notes: string[] = [];
    const device = parseDevice("device_add", argument, { globals: this.args.globals, version: this.args.machine.version, board: this.board.kind, intelIommu: this.board.iommus.some(({ kind }) => kind === "vtd"), notes });
    located(device.where, () => {
      if (!device.model.hotpluggable) {
        throw new Refusal(`Device '${device.model.name}' does not support hotplugging`, { found: "the machine is running", wouldWork: "-device at start" });
      }
      const memory = this.board.memoryDevices.list.find(({ id }) => device.id !== "" && id === device.id);
      const taken = (memory === undefined ? undefined : `${memory.argument.model.name} '${memory.id}'`) ?? this.board.find(device.id)?.fn.label ?? this.board.otherDevices.find(device.id)?.argument.model.name ?? this.board.iommus.find((iommu) => device.id !== "" && iommu.argument?.id === device.id)?.id;
      if (taken !== undefined) {
        // QEMU finds it with the options in the one form, with the devices in the other.
        throw new Refusal(argument.trimStart().startsWith("{") ? `Duplicate device ID '${device.id}'` : `Duplicate ID '${device.id}' for device`, { found: `${taken} is there`, wouldWork: "another id" });
      }
      if (device.model.category === "memory") {
        this.board.plugMemory(device, true);
      } else if (device.model.category === "other") {
        this.board.takeOther(device, true);
      } else {
        this.watchPort(this.board.plug(device, true));
      }
    });
    notes.forEach((note) => this.log.info(note));
  }

  /** device_del: asks the guest. Resolves when the function has gone; a reset before that rejects. */
  async requestUnplug(id: string): Promise<void> {
    const found = this.board.find(id);
    const dimm = this.board.memoryDevices.list.find((one) => id !== "" && one.id === id);
    if (dimm !== undefined) {
      this.unplugMemory(dimm);
      return;
    }
    const other = this.board.otherDevices.find(id);
    if (other !== null) {
      this.removeOther(other);
      return;
    }
    if (found === null) {
      const ids = this.board.functions.map(({ fn }) => fn.id).filter((one) => one !== "");
      throw new Refusal(`Device '${id}' not found`, { found: `device_del ${id}`, wouldWork: listed(ids) });
    }
    const { fn } = found;
    await new Promise<void>((resolve, reject) => {
      const others = this.waiting.get(fn) ?? [];
      this.waiting.set(fn, [...others, { resolve, reject }]);
      try {
        this.ask(fn);
      } catch (error) {
        this.waiting.set(fn, others);
        reject(error as Error);
      }
    });
  }

  /** Asks the guest to give a function up; where nothing asks it goes at once. @throws Refusal */
  ask(fn: PciFunction): void {
    const port = fn.bus?.bridge ?? null;
    if (!(port instanceof HotplugPort)) {
      throw new Refusal(`Bus '${fn.bus?.id ?? ""}' does not support hotplugging`, {
        found: `device_del ${fn.id}`,
        wouldWork: "a device in the slot of a pcie-root-port or xio3130-downstream",
      });
    }
    if (port.requestUnplug(fn) === "asked") {
      this.asked.set(fn, performance.now());
    }
  }

  /** Takes a DIMM out at once: no ACPI is modelled that would ask the guest. */
  unplugMemory(dimm: Dimm): void {
    const path = this.board.names.pathOf(dimm);
    this.board.unplugMemory(dimm);
    this.events.emit({ name: "DEVICE_DELETED", data: { ...(dimm.id === "" ? {} : { device: dimm.id }), path } });
  }

  /** A device of a bus that is not modelled goes at once: nothing asks its guest. @throws Refusal in QEMU's words */
  removeOther(device: OtherDevice): void {
    this.board.otherDevices.checkUnplug(device);
    this.otherGone(this.board.removeOther(device));
  }

  private otherGone(devices: readonly OtherDevice[]): void {
    for (const device of devices) {
      const { id } = device.argument;
      const path = this.board.names.pathOf(device);
      this.board.names.remove(device);
      this.events.emit({ name: "DEVICE_DELETED", data: { ...(id === "" ? {} : { device: id }), path } });
    }
  }

  /** The guest was asked for the function within the last five seconds, the time that QEMU gives it, and has not given it up. */
  isAsked(fn: PciFunction): boolean {
    const since = this.asked.get(fn);
    return since !== undefined && performance.now() - since < ANSWER_TIME;
  }

  private gone(fn: PciFunction): void {
    const behind = this.board.functions.filter((one) => one.fn !== fn && one.fn.bus === null).map((one) => one.fn);
    for (const one of [...behind.reverse(), fn]) {
      this.otherGone(this.board.otherDevices.functionGone(one));
      const path = this.board.names.pathOf(one);
      this.board.forget(one);
      this.events.emit({ name: "DEVICE_DELETED", data: { ...(one.id === "" ? {} : { device: one.id }), path } });
    }
    this.asked.delete(fn);
    const waiting = this.waiting.get(fn) ?? [];
    this.waiting.delete(fn);
    waiting.forEach((one) => one.resolve());
  }

  /** Nobody will answer what was asked before a reset. */
  reset(): void {
    this.asked.clear();
    for (const [fn, waiting] of [...this.waiting]) {
      this.waiting.delete(fn);
      waiting.forEach((one) => one.reject(new Refusal(`Device '${fn.id}' has not been unplugged: the machine was reset before the guest gave it up`)));
    }
  }
}
