/**
 * Devices of buses that are not modelled (USB, SCSI, HDA, IDE, ISA, virtio-serial, ...): taken where QEMU would find a
 * bus for them, refused in its words where not. Nothing of them is made but the buses that others go on.
 */
import { BusUnits } from "./bus-units.js";
import type { PciFunction } from "../pci/index.js";
import { Refusal } from "../support/index.js";
import { type BoardKind, type DeviceArgument, deviceCatalogue, deviceLabel, listed, nearest, type RecordedDevice } from "./arguments/index.js";

export interface OtherDevice {
  readonly argument: DeviceArgument;
  /** The bus that it is on; null: it has none. */
  readonly bus: string | null;
  /** QEMU's type of it; null: it is on none. */
  readonly busType: string | null;
}

interface OtherBus {
  readonly name: string;
  readonly type: string;
  /** The function or device that makes it; null: the board. */
  readonly owner: object | null;
}

/** QEMU's types of buses that are of another one's kind. */
const KIND_OF: Readonly<Record<string, string>> = { "virtio-pci-bus": "virtio-bus", "virtio-mmio-bus": "virtio-bus", "sdhci-bus": "sd-bus", PCIE: "PCI" };
/** Buses that have room for one device. */
const SINGLE = new Set(["virtio-bus"]);
/** Buses whose devices come and go while the machine runs; a machine may have more. */
const HOTPLUG = new Set(["usb-bus", "SCSI", "virtio-serial-bus", "nvme-bus", "ccid-bus"]);
/** Who makes a bus of a kind, first of those that people use. */
const USUAL: Readonly<Record<string, string>> = {
  "usb-bus": "qemu-xhci", SCSI: "virtio-scsi-pci", HDA: "ich9-intel-hda", IDE: "ich9-ahci", "virtio-serial-bus": "virtio-serial-pci",
  "sd-bus": "sdhci-pci", "nvme-bus": "nvme", "ufs-bus": "ufs", "ccid-bus": "usb-ccid", IndustryPack: "tpci200", "floppy-bus": "isa-fdc",
};

export class OtherDevices {
  readonly list: OtherDevice[] = [];
  private readonly units = new BusUnits();
  private buses: OtherBus[] | null = null;
  /** Buses without a device's id in their names, by type: QEMU counts them up. */
  private readonly counts = new Map<string, number>();

  /** @param functions in the order in which they came @param lacks whether the board is without a chipset function that makes buses of a type */
  constructor(
    private readonly kind: () => BoardKind,
    private readonly functions: () => ReadonlyArray<{ readonly fn: PciFunction; readonly argument: DeviceArgument }>,
    private readonly pciBuses: () => readonly string[],
    private readonly lacks: (busType: string) => boolean,
  ) {}

  private get board(): BoardKind {
    return this.kind();
  }

  /** Takes a device. @param hotplugged the machine is running @throws Refusal in QEMU's words, with what would make its bus */
  take(argument: DeviceArgument, hotplugged: boolean): OtherDevice {
    const recorded = argument.model.recorded!;
    const bus = recorded.bus === null || recorded.bus === "System" ? this.onNoBus(argument, recorded) : this.findBus(argument, recorded.bus);
    const device = { argument, bus: bus?.name ?? null, busType: bus === null ? null : kindOf(bus.type) };
    if (hotplugged) {
      checkHotplug(device);
    }
    if (bus !== null) {
      this.units.claim({ name: bus.name, type: kindOf(bus.type), maker: this.makerOf(bus) }, argument);
    }
    this.list.push(device);
    this.addBuses(device, argument.id, recorded);
    return device;
  }

  /** Takes a device out, and what is on its buses before it. @returns them in that order */
  remove(device: OtherDevice): OtherDevice[] {
    const before = this.dropBuses(device);
    const at = this.list.indexOf(device);
    if (at >= 0) {
      this.list.splice(at, 1);
      this.units.release(device.argument);
    }
    return [...before, device];
  }

  /** Whether a running machine lets go of it. @throws Refusal in QEMU's words */
  checkUnplug(device: OtherDevice): void {
    const { model } = device.argument;
    if (!model.hotpluggable) {
      throw new Refusal(`Device '${model.name}' does not support hotplugging`, { found: "the machine is running" });
    }
    checkHotplug(device);
  }

  find(id: string): OtherDevice | null {
    return this.list.find(({ argument }) => id !== "" && argument.id === id) ?? null;
  }

  /** A function has gone, and what was on its buses with it. @returns those devices */
  functionGone(fn: PciFunction): OtherDevice[] {
    return this.dropBuses(fn);
  }

  private onNoBus({ bus, model }: DeviceArgument, recorded: RecordedDevice): null {
    if (bus !== null && recorded.bus === null) {
      throw new Refusal(`Device '${model.name}' can't go on ${bus} bus`, { found: `bus=${bus}`, wouldWork: "leaving bus out: it is on none" });
    }
    return null;
  }

  private findBus(argument: DeviceArgument, type: string): OtherBus {
    const buses = this.known();
    const { bus: asked, model } = argument;
    if (asked !== null) {
      const found = buses.find(({ name }) => name === asked);
      if (found === undefined) {
        if (this.pciBuses().includes(asked)) {
          throw new Refusal(`Device '${model.name}' can't go on ${asked.startsWith("pcie") ? "PCIE" : "PCI"} bus`, { found: `bus=${asked}, and ${model.name} goes on a ${type}`, wouldWork: this.instead(type) });
        }
        const near = nearest(asked, this.namesOf(type));
        throw new Refusal(`Bus '${asked}' not found`, {
          found: `${deviceLabel(argument)} with bus=${asked}${near === null ? "" : `; did you mean ${near}?`}`,
          wouldWork: this.instead(type),
        });
      }
      if (kindOf(found.type) !== type) {
        throw new Refusal(`Device '${model.name}' can't go on ${found.type} bus`, { found: `bus=${asked}`, wouldWork: this.instead(type) });
      }
      if (this.isFull(found)) {
        throw new Refusal(`Bus '${asked}' is full`, { found: deviceLabel(argument), wouldWork: "another bus of its kind" });
      }
      return found;
    }
    const fitting = buses.filter((one) => kindOf(one.type) === type);
    const free = fitting.find((one) => !this.isFull(one));
    if (free === undefined) {
      throw new Refusal(fitting.length === 0 ? `No '${type}' bus found for device '${model.name}'` : `A '${type}' bus was found but is full`, { found: deviceLabel(argument), wouldWork: this.instead(type) });
    }
    return free;
  }

  /** What there is of a kind, or what makes one. */
  private instead(type: string): string {
    const names = this.namesOf(type);
    if (names.length > 0) {
      return `bus=${listed(names, 8)}`;
    }
    const usual = USUAL[type];
    if (usual !== undefined) {
      return `-device ${usual} before it, which makes ${/^[aeiou]/i.test(type) ? "an" : "a"} ${type}${this.board === "q35" || type !== "IDE" ? "" : ": this board has none of its own"}`;
    }
    const catalogue = deviceCatalogue();
    const makers = catalogue.names().filter((name) => catalogue.find(name)!.makes.some((bus) => kindOf(bus.type) === type) && catalogue.find(name)!.boards.includes(this.board));
    return makers.length === 0 ? `leaving it out: nothing on this machine makes a bus of that kind` : `a device that makes one: ${listed(makers, 8)}`;
  }

  private namesOf(type: string): string[] {
    return this.known().filter((one) => kindOf(one.type) === type && !this.isFull(one)).map(({ name }) => name);
  }

  private isFull({ name, type, owner }: OtherBus): boolean {
    // A virtio-pci function has its device in it.
    return SINGLE.has(kindOf(type)) && (owner !== null || this.list.some(({ bus }) => bus === name));
  }

  /** All buses that there are now. The record is read when the first such device comes. */
  private known(): OtherBus[] {
    if (this.buses === null) {
      const catalogue = deviceCatalogue();
      this.buses = catalogue
        .busesOf(this.board)
        .filter(({ type }) => kindOf(type) !== "PCI" && !this.lacks(type))
        .map((bus) => ({ ...bus, owner: null }));
      this.buses.forEach(({ name, type }) => this.count(name, type));
      this.buses.sort((a, b) => (a.name < b.name ? -1 : 1));
    }
    // Functions that came since it was asked last.
    const have = new Set(this.buses.map(({ owner }) => owner));
    for (const { fn, argument } of this.functions()) {
      const recorded = have.has(fn) ? null : (argument.model.recorded ?? deviceCatalogue().find(argument.model.name));
      if (recorded !== null) {
        this.addBuses(fn, argument.id, recorded);
      }
    }
    return this.buses;
  }

  private addBuses(owner: object, id: string, { makes }: RecordedDevice): void {
    if (makes.length > 0 && this.buses === null) {
      this.known();
    }
    if (this.buses?.some((bus) => bus.owner === owner) === true) {
      return;
    }
    for (const { name, type } of makes.filter((bus) => kindOf(bus.type) !== "PCI")) {
      this.buses!.push({ name: name.startsWith("$") ? (id === "" ? this.numbered(type) : name.replace("$", id)) : name, type, owner });
    }
  }

  private makerOf({ owner }: OtherBus): DeviceArgument | null {
    return this.functions().find(({ fn }) => fn === owner)?.argument ?? this.list.find((one) => one === owner)?.argument ?? null;
  }

  private dropBuses(owner: object): OtherDevice[] {
    const gone = (this.buses ?? []).filter((bus) => bus.owner === owner);
    gone.forEach(({ name }) => this.units.forget(name));
    this.buses = this.buses?.filter((bus) => bus.owner !== owner) ?? null;
    return this.list.filter(({ bus }) => gone.some(({ name }) => name === bus)).flatMap((device) => this.remove(device));
  }

  private count(name: string, type: string): void {
    const number = new RegExp(`^${type.toLowerCase()}\\.(\\d+)$`).exec(name)?.[1];
    if (number !== undefined) {
      this.counts.set(type, Math.max(this.counts.get(type) ?? 0, Number(number) + 1));
    }
  }

  /** As QEMU names the bus of a device without an id (qbus_init_internal). */
  private numbered(type: string): string {
    const number = this.counts.get(type) ?? 0;
    this.counts.set(type, number + 1);
    return `${type.toLowerCase()}.${number}`;
  }
}

function kindOf(type: string): string {
  return KIND_OF[type] ?? type;
}

function checkHotplug({ argument, bus, busType }: OtherDevice): void {
  if (busType === null) {
    throw new Refusal(`Device '${argument.model.name}' can not be hotplugged on this machine`, { found: "the machine is running", wouldWork: "-device at start" });
  }
  if (!HOTPLUG.has(busType)) {
    throw new Refusal(`Bus '${bus}' does not support hotplugging`, { found: `${deviceLabel(argument)}, and the machine is running`, wouldWork: "-device at start" });
  }
}
