/** Controllers that are none of PCI: USB, SCSI, SATA, virtio-serial, NVMe, with those that libvirt adds. */
import { Refusal } from "../../../support/index.js";
import type { PciFunctions } from "./functions.js";
import type { DomainDevice } from "./devices.js";
import type { DomainWords, JsonObject } from "./words.js";
import { all, attribute, find, type XmlElement, userAlias } from "./xml.js";

/** virtio's suffix of a device, by the model's name. */
export function virtioSuffix(model: string | null): string {
  return model === "virtio-transitional" ? "-transitional" : model === "virtio-non-transitional" ? "-non-transitional" : "";
}

export const virtioWant = (model: string | null): "express" | "conventional" => (model === "virtio-transitional" ? "conventional" : "express");

const USB: Readonly<Record<string, readonly [driver: string, want: "express" | "conventional" | "integrated"]>> = {
  "qemu-xhci": ["qemu-xhci", "express"],
  "nec-xhci": ["nec-usb-xhci", "express"],
  ehci: ["usb-ehci", "conventional"],
  "piix3-uhci": ["piix3-usb-uhci", "conventional"],
  "piix4-uhci": ["piix4-usb-uhci", "conventional"],
  "vt82c686b-uhci": ["vt82c686b-usb-uhci", "conventional"],
  "pci-ohci": ["pci-ohci", "conventional"],
  "ich9-ehci1": ["ich9-usb-ehci1", "conventional"],
  "ich9-uhci1": ["ich9-usb-uhci1", "conventional"],
  "ich9-uhci2": ["ich9-usb-uhci2", "conventional"],
  "ich9-uhci3": ["ich9-usb-uhci3", "conventional"],
};
/** Functions of slot 0x1d. */
const ICH9_FUNCTIONS: Readonly<Record<string, number>> = { "ich9-ehci1": 7, "ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2 };
const SCSI: Readonly<Record<string, string>> = { lsilogic: "lsi", lsisas1068: "mptsas1068", lsisas1078: "megasas", vmpvscsi: "pvscsi", "am53c974": "am53c974", "dc390": "dc-390" };

export interface ControllerContext {
  readonly words: DomainWords;
  readonly functions: PciFunctions;
  readonly isQ35: boolean;
  readonly domain: XmlElement;
}

/** What of a kind there is, by index: a disk's bus is one of them. */
export interface ControllerSet {
  readonly devices: DomainDevice[];
  /** The PCI function is of libvirt's making: ide.N of a q35 is. */
  readonly builtinSata: boolean;
  /** Models of SCSI controllers by index. */
  readonly scsi: ReadonlyMap<number, string>;
  readonly hasUsb: boolean;
  readonly usbIsNone: boolean;
}

const STAGES = { usb: 10, scsi: 11, sata: 12, "virtio-serial": 13, nvme: 14 } as const;

export function readControllers(devices: XmlElement | null, context: ControllerContext): ControllerSet {
  const { words, functions, isQ35, domain } = context;
  const given = all(devices, "controller").filter((one) => attribute(one, "type") !== "pci");
  const of = (type: string): XmlElement[] => given.filter((one) => attribute(one, "type") === type);
  const indexed = new Map<XmlElement, number>();
  for (const type of new Set(given.map((one) => attribute(one, "type") ?? ""))) {
    const taken = new Set(of(type).flatMap((one) => (attribute(one, "index") === null ? [] : [Number(attribute(one, "index"))])));
    for (const one of of(type)) {
      // A companion is of the controller before it.
      if (attribute(one, "index") === null && /^ich9-uhci/.test(attribute(one, "model") ?? "") && indexed.size > 0) {
        indexed.set(one, [...indexed].findLast(([other]) => attribute(other, "type") === "usb")?.[1] ?? 0);
        continue;
      }
      let index = attribute(one, "index") === null ? 0 : Number(attribute(one, "index"));
      while (attribute(one, "index") === null && taken.has(index)) {
        index++;
      }
      taken.add(index);
      indexed.set(one, index);
    }
  }
  const found: DomainDevice[] = [];
  const scsi = new Map<number, string>();
  const usb = of("usb");
  const usbIsNone = usb.some((one) => attribute(one, "model") === "none");
  const masters = new Map<number, string>();
  const add = (element: XmlElement, type: string, index: number, implied = false): void => {
    const device = words.at(element, () => controllerOf(element, type, implied ? null : attribute(element, "model"), index, context, masters));
    if (device !== undefined && device !== null) {
      found.push(device);
    }
    if (type === "scsi") {
      scsi.set(index, (implied ? null : attribute(element, "model")) ?? (isQ35 ? "lsilogic" : "virtio-scsi"));
    }
  };
  given.forEach((one) => add(one, attribute(one, "type") ?? "", indexed.get(one)!));
  const needed = (bus: string): boolean => all(devices, "disk").some((disk) => attribute(find(disk, "target"), "bus") === bus);
  // What libvirt adds, in its order.
  if (usb.length === 0 && isQ35) {
    const fn = functions.add(impliedElement(domain, "controller"), "express");
    found.push({ stage: STAGES.usb, element: domain, fn, write: (place) => words.option(domain, "device", { driver: "qemu-xhci", id: "usb", ...place }) });
    words.note(domain, "added-usb", "libvirt adds a USB controller, qemu-xhci: <controller type='usb' model='none'/> keeps it out");
  }
  const implied = impliedElement(domain, "controller");
  if (needed("scsi") && of("scsi").length === 0) {
    add(implied, "scsi", 0, true);
  }
  if (needed("sata") && of("sata").length === 0 && !isQ35) {
    add(implied, "sata", 0, true);
  }
  const channels = [...all(devices, "channel"), ...all(devices, "console")].some((one) => attribute(find(one, "target"), "type") === "virtio");
  if (channels && of("virtio-serial").length === 0) {
    add(implied, "virtio-serial", 0, true);
  }
  all(devices, "disk").forEach((disk) => {
    if (attribute(find(disk, "target"), "bus") === "nvme" && of("nvme").length === 0) {
      const index = Number(/^nvme(\d+)n/.exec(attribute(find(disk, "target"), "dev") ?? "")?.[1] ?? 0);
      const serial = find(disk, "serial")?.text;
      const fn = functions.add(impliedElement(domain, "controller"), "express");
      found.push({ stage: STAGES.nvme, element: disk, fn, write: (place) => words.option(disk, "device", { driver: "nvme", id: `nvme${index}`, serial: serial ?? `nvme${index}`, ...place }) });
    }
  });
  return { devices: found, builtinSata: isQ35, scsi, hasUsb: (usb.length > 0 && !usbIsNone) || (usb.length === 0 && isQ35), usbIsNone };
}

/** An element that stands for one that libvirt adds. */
export function impliedElement(domain: XmlElement, name: string): XmlElement {
  return { name, attributes: new Map(), children: [], text: "", place: domain.place };
}

function controllerOf(element: XmlElement, type: string, model: string | null, index: number, { words, functions, isQ35 }: ControllerContext, masters: Map<number, string>): DomainDevice | null {
  const alias = userAlias(element);
  const device = (stage: number, want: Parameters<PciFunctions["add"]>[1], properties: (id: string) => JsonObject, id: string, usual?: Parameters<PciFunctions["add"]>[2]): DomainDevice => {
    const fn = functions.add(element, want, usual);
    return { stage, element, fn, write: (place) => words.option(element, "device", { ...properties(alias ?? id), ...place }) };
  };
  const driver = find(element, "driver");
  const queues = attribute(driver, "queues");
  const iothread = attribute(driver, "iothread");
  switch (type) {
    case "usb": {
      if (model === "none") {
        return null;
      }
      const known = USB[model ?? "qemu-xhci"];
      if (known === undefined) {
        throw new Refusal(`XML error: Unknown model type '${model}'`, { rule: "controller-model", wouldWork: Object.keys(USB).join(", ") });
      }
      const id = index === 0 ? "usb" : `usb${index}`;
      const ports = attribute(element, "ports");
      const usual = isQ35 && model !== null && model in ICH9_FUNCTIONS && index === 0 ? { bus: 0, slot: 0x1d, fn: ICH9_FUNCTIONS[model] } : undefined;
      const start = attribute(find(element, "master"), "startport") ?? (model === "ich9-uhci2" ? "2" : model === "ich9-uhci3" ? "4" : "0");
      const master = model?.startsWith("ich9-uhci") === true ? { masterbus: `${masters.get(index) ?? id}.0`, firstport: Number(start) } : null;
      if (model === "ich9-ehci1") {
        masters.set(index, alias ?? id);
      }
      return device(STAGES.usb, known[1], (own) => ({ driver: known[0], ...(ports === null ? {} : { p2: Number(ports), p3: Number(ports) }), ...(master ?? { id: own }) }), id, usual);
    }
    case "scsi": {
      const name = model ?? (isQ35 ? "lsilogic" : "virtio-scsi");
      if (name.startsWith("virtio-")) {
        const suffix = virtioSuffix(name === "virtio-scsi" ? null : name);
        return device(STAGES.scsi, virtioWant(name), (id) => ({ driver: `virtio-scsi-pci${suffix}`, ...(iothread === null ? {} : { iothread: `iothread${iothread}` }), id, ...(queues === null ? {} : { num_queues: Number(queues) }) }), `scsi${index}`);
      }
      const known = SCSI[name];
      if (known === undefined) {
        throw new Refusal(`XML error: Unknown model type '${name}'`, { rule: "controller-model", wouldWork: `virtio-scsi, ${Object.keys(SCSI).join(", ")}` });
      }
      return device(STAGES.scsi, "conventional", (id) => ({ driver: known, id }), `scsi${index}`);
    }
    case "sata":
      return isQ35 && index === 0 ? null : device(STAGES.sata, "conventional", (id) => ({ driver: "ahci", id }), `sata${index}`);
    case "virtio-serial": {
      const ports = attribute(element, "ports");
      return device(STAGES["virtio-serial"], virtioWant(model), (id) => ({ driver: `virtio-serial-pci${virtioSuffix(model)}`, id, ...(ports === null ? {} : { max_ports: Number(ports) }) }), `virtio-serial${index}`);
    }
    case "nvme":
      return device(STAGES.nvme, "express", (id) => ({ driver: "nvme", id, serial: find(element, "serial")?.text ?? id }), `nvme${index}`);
    case "fdc":
    case "ide":
    case "ccid":
    case "xenbus":
    case "isa":
      words.note(element, "without-effect", `a controller of type '${type}' is no PCI function: it has no effect here`);
      return null;
    default:
      throw new Refusal(`XML error: Invalid value for attribute 'type' in element 'controller': '${type}'.`, { rule: "controller-type", wouldWork: "pci, usb, scsi, sata, virtio-serial, nvme" });
  }
}

