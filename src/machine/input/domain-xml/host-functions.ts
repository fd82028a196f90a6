/** Functions of the host: `<hostdev>` and `<interface type='hostdev'>`. */
import { Refusal } from "../../../support/index.js";
import type { DeviceContext, DomainDevice } from "./devices.js";
import type { JsonObject } from "./words.js";
import { attribute, find, number, type XmlElement, userAlias } from "./xml.js";

/** `0-3,8`, as nodes. @throws Refusal */
function nodeSet(element: XmlElement, text: string): number[] {
  return text.split(",").flatMap((part) => {
    const [, first, last] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? [];
    if (first === undefined || Number(last ?? first) > 127) {
      throw new Refusal(`invalid argument: Failed to parse bitmap '${text}'`, { rule: "nodeset", place: element.place, where: element.place.text, wouldWork: "nodeset='1-8'" });
    }
    return Array.from({ length: Number(last ?? first) - Number(first) + 1 }, (_, n) => Number(first) + n);
  });
}

const hexadecimal = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

/** @param index among all functions of the host */
export function hostFunction(element: XmlElement, index: number, stage: number, context: DeviceContext): DomainDevice[] {
  const { words, functions } = context;
  const isInterface = element.name === "interface";
  const type = isInterface ? "pci" : attribute(element, "type");
  const source = find(element, "source");
  const alias = userAlias(element);
  const id = alias ?? `hostdev${index}`;
  if (type === "usb") {
    if (!context.controllers.hasUsb) {
      throw new Refusal("unsupported configuration: USB is disabled for this domain, but USB devices are present in the domain XML", { rule: "no-usb", wouldWork: "<controller type='usb' model='qemu-xhci'/>" });
    }
    return [{ stage, element, fn: null, write: () => words.option(element, "device", { driver: "usb-host", id, bus: "usb.0" }) }];
  }
  const more: JsonObject = {};
  if (type === "mdev") {
    const uuid = attribute(find(source, "address"), "uuid") ?? "";
    more.sysfsdev = `/sys/bus/mdev/devices/${uuid}`;
  } else if (type === "pci" && attribute(source, "fd") !== null) {
    // Of no domain that libvirt reads: nobody knows yet which function it is.
    more.fd = attribute(source, "fd");
  } else if (type === "pci") {
    const address = find(source, "address");
    if (address === null) {
      throw new Refusal("XML error: missing element or attribute './source/address'", { rule: "hostdev-source", wouldWork: "<source><address domain='0' bus='1' slot='0' function='0'/></source>" });
    }
    const part = (name: string): number => number(address, name, attribute(address, name) ?? "0");
    more.host = `${hexadecimal(part("domain"), 4)}:${hexadecimal(part("bus"), 2)}:${hexadecimal(part("slot"), 2)}.${part("function")}`;
  } else {
    words.note(element, "without-effect", `a hostdev of type '${type}' is no PCI function: it has no effect here`);
    return [];
  }
  const own = attribute(find(element, "driver"), "iommufd");
  const iommufd = own === null ? context.iommufd : own === "yes";
  const rom = find(element, "rom");
  const bar = attribute(rom, "bar");
  const file = attribute(rom, "file");
  const fn = functions.add(element, "express");
  return [
    {
      stage,
      element,
      fn,
      write: (place) => {
        // libvirt opens the function and the iommufd itself, and says fd=N in place of host.
        words.option(element, "device", { driver: "vfio-pci", ...more, id, ...(iommufd ? { iommufd: "iommufd0" } : {}), ...place, ...(bar === null ? {} : { rombar: bar === "off" ? 0 : 1 }), ...(file === null ? {} : { romfile: file }) });
        const nodes = attribute(find(element, "acpi"), "nodeset");
        if (nodes !== null) {
          nodeSet(find(element, "acpi")!, nodes).forEach((node) => words.option(element, "object", { "qom-type": "acpi-generic-initiator", id: `gi${words.initiators++}`, "pci-dev": id, node }));
        }
      },
    },
  ];
}

/** Some function of the host goes by iommufd: an -object is needed. */
export function usesIommufd(devices: XmlElement | null, everywhere: boolean): boolean {
  return (devices?.children ?? []).some((element) => {
    const isHost = element.name === "hostdev" || (element.name === "interface" && attribute(element, "type") === "hostdev");
    const own = attribute(find(element, "driver"), "iommufd");
    return isHost && (own === null ? everywhere : own === "yes");
  });
}
