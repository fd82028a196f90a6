/** Places on buses that are not modelled, as QEMU gives them away: ports of USB, units of IDE, addresses of HDA codecs. */
import { Refusal } from "../support/index.js";
import { type DeviceArgument, deviceLabel } from "./arguments/index.js";

/** The bus of a device: its name, QEMU's type of it, who makes it (null: the board). */
export interface PlacesBus {
  readonly name: string;
  readonly type: string;
  readonly maker: DeviceArgument | null;
}

/** hw/usb/hcd-*.c: ports of root hubs. */
const USB_PORTS: Readonly<Record<string, number>> = { "qemu-xhci": 4, "nec-usb-xhci": 4, "usb-ehci": 6, "ich9-usb-ehci1": 6, "ich9-usb-ehci2": 6, "pci-ohci": 3, "usb-hub": 8 };
const UHCI_PORTS = 2;
/** hw/usb/dev-hub.c. */
const MOST_HUBS = 5;
/** hw/audio/intel-hda.c, hda_codec_dev_realize. */
const HDA_CODECS = 15;
/** Controllers whose buses have a master and a slave; a SATA port has one device. */
const TWO_UNITS = /^(?:piix[34]-ide|via-ide|cmd646-ide|isa-ide|sii3112)/;

interface Places {
  /** Free ports by their paths, in the order in which they are given away. */
  readonly ports: string[];
  readonly units: Set<number>;
  nextCodec: number;
}

export class BusUnits {
  private readonly places = new Map<string, Places>();
  private readonly taken = new Map<DeviceArgument, { readonly bus: string; readonly port?: string; readonly unit?: number }>();

  /** @throws Refusal in QEMU's words where the bus has no such place, or it is taken */
  claim(bus: PlacesBus, device: DeviceArgument): void {
    switch (bus.type) {
      case "usb-bus":
        this.claimPort(bus, device);
        return;
      case "IDE":
        this.claimUnit(bus, device);
        return;
      case "HDA":
        this.claimCodec(bus, device);
    }
  }

  /** A device is gone: its place is free again. */
  release(device: DeviceArgument): void {
    const one = this.taken.get(device);
    this.taken.delete(device);
    const places = one === undefined ? undefined : this.places.get(one.bus);
    if (one?.port !== undefined) {
      places?.ports.push(one.port);
    }
    if (one?.unit !== undefined) {
      places?.units.delete(one.unit);
    }
  }

  /** A bus is gone; its name may come again. */
  forget(bus: string): void {
    this.places.delete(bus);
  }

  private of({ name, maker }: PlacesBus): Places {
    let found = this.places.get(name);
    if (found === undefined) {
      found = { ports: Array.from({ length: maker === null ? UHCI_PORTS : portsOf(maker) }, (_, n) => String(n + 1)), units: new Set(), nextCodec: 0 };
      this.places.set(name, found);
    }
    return found;
  }

  /** hw/usb/bus.c, usb_claim_port: the last port of a bus gets a hub first. */
  private claimPort(bus: PlacesBus, device: DeviceArgument): void {
    const { ports } = this.of(bus);
    const asked = said(device, "port");
    const isHub = device.model.name === "usb-hub";
    if (asked === null && ports.length === 1 && !isHub) {
      this.addHub(ports, ports[0], USB_PORTS["usb-hub"]);
    }
    const port = asked ?? ports[0];
    if (port === undefined) {
      throw new Refusal(`tried to attach usb device ${device.model.name} to a bus with no free ports`, { found: `${deviceLabel(device)} on ${bus.name}`, wouldWork: "-device usb-hub, or another controller" });
    }
    if (!ports.includes(port)) {
      throw new Refusal(`usb port ${port} (bus ${bus.name}) not found (in use?)`, { found: `${deviceLabel(device)} with port=${port}`, wouldWork: ports.length === 0 ? "another controller" : `port=${ports.slice(0, 8).join(", ")}` });
    }
    if (isHub && port.split(".").length > MOST_HUBS) {
      throw new Refusal("usb hub chain too deep", { found: `${deviceLabel(device)} at port ${port} of ${bus.name}`, wouldWork: `${MOST_HUBS} hubs behind each other at the most` });
    }
    ports.splice(ports.indexOf(port), 1);
    if (isHub) {
      this.addHub(ports, port, numberOf(device, "ports") ?? USB_PORTS["usb-hub"]);
    }
    this.taken.set(device, { bus: bus.name, port });
  }

  private addHub(ports: string[], port: string, count: number): void {
    if (port.split(".").length > MOST_HUBS) {
      return;
    }
    const at = ports.indexOf(port);
    if (at >= 0) {
      ports.splice(at, 1);
    }
    ports.push(...Array.from({ length: count }, (_, n) => `${port}.${n + 1}`));
  }

  /** hw/ide/ide-dev.c, ide_qdev_realize. */
  private claimUnit(bus: PlacesBus, device: DeviceArgument): void {
    const { units } = this.of(bus);
    const most = bus.maker !== null && TWO_UNITS.test(bus.maker.model.name) ? 2 : 1;
    const unit = numberOf(device, "unit") ?? (units.has(0) ? 1 : 0);
    if (unit >= most) {
      throw new Refusal(`Can't create IDE unit ${unit}, bus supports only ${most} units`, { found: `${deviceLabel(device)} on ${bus.name}`, wouldWork: "bus= of a port that has no disk yet" });
    }
    if (units.has(unit)) {
      throw new Refusal(`IDE unit ${unit} is in use`, { found: `${deviceLabel(device)} on ${bus.name}`, wouldWork: "another unit or bus" });
    }
    units.add(unit);
    this.taken.set(device, { bus: bus.name, unit });
  }

  private claimCodec(bus: PlacesBus, device: DeviceArgument): void {
    const places = this.of(bus);
    const cad = numberOf(device, "cad") ?? places.nextCodec;
    if (cad >= HDA_CODECS) {
      throw new Refusal("HDA audio codec address is full", { found: `${deviceLabel(device)} on ${bus.name}, address ${cad}`, wouldWork: `cad=0 to ${HDA_CODECS - 1}, or another controller` });
    }
    places.nextCodec = cad + 1;
  }
}

function said(device: DeviceArgument, name: string): string | null {
  const value = device.properties.get(name);
  return value === undefined || value === "" || !device.said.has(name) ? null : String(value);
}

function numberOf(device: DeviceArgument, name: string): number | null {
  const text = said(device, name);
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

function portsOf(maker: DeviceArgument): number {
  const { name } = maker.model;
  if (name === "qemu-xhci" || name === "nec-usb-xhci") {
    return Math.max(numberOf(maker, "p2") ?? USB_PORTS[name], numberOf(maker, "p3") ?? USB_PORTS[name]);
  }
  return (name === "pci-ohci" ? numberOf(maker, "num-ports") : null) ?? (USB_PORTS[name] as number | undefined) ?? UHCI_PORTS;
}
