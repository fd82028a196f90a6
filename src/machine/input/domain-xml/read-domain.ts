/** A domain XML of libvirt as the QEMU line that libvirt 12.9 makes of it, as far as that says what machine it is. */
import { Refusal } from "../../../support/index.js";
import type { InputForm, RecognisedInput } from "../recognise.js";
import { readControllers } from "./controllers.js";
import { type DomainDevice, readDevices } from "./devices.js";
import { PciFunctions } from "./functions.js";
import { usesIommufd } from "./host-functions.js";
import { isMachineSmmu, readIommus, remapsInterrupts, writeIommus } from "./iommus.js";
import { hasHmat, writeMemory } from "./memory.js";
import { DomainWords } from "./words.js";
import { all, attribute, bytes, find, isOn, number, parseXml, type XmlElement } from "./xml.js";

export const readDomainXml: InputForm = {
  name: "domain XML",
  recognises: (text) => /^\s*<(?:\?xml|!--|[A-Za-z])/.test(text) && /<domain[\s>]/.test(text),
  read: readDomain,
};

/** The domain itself, which may be in a status, a snapshot or a capture of several. */
function domainOf(element: XmlElement): XmlElement | null {
  return element.name === "domain" ? element : (element.children.map(domainOf).find((one) => one !== null) ?? null);
}

/** @throws Refusal all that libvirt would refuse, each with its place */
export function readDomain(text: string, source: string): RecognisedInput {
  const root = parseXml(text, source);
  const domain = domainOf(root);
  if (domain === null) {
    throw new Refusal("XML error: unexpected root element, expecting <domain>", { rule: "no-domain", place: root.place, where: root.place.text });
  }
  return translateDomain(domain, new DomainWords());
}

/** @param words with what there is to tell of how the domain came about. @throws Refusal */
export function translateDomain(domain: XmlElement, words: DomainWords): RecognisedInput {
  const type = find(domain, "os", "type");
  const arch = attribute(type, "arch") ?? (/^virt/.test(attribute(type, "machine") ?? "") ? "aarch64" : "x86_64");
  const machine = attribute(type, "machine") ?? (arch === "aarch64" ? "virt" : "pc");
  const isVirt = machine.startsWith("virt");
  const devices = find(domain, "devices");
  const features = find(domain, "features");
  const acpi = find(features, "acpi") !== null;

  words.override(readOverrides(domain));
  const functions = new PciFunctions(words, !isVirt);
  words.at(domain, () => functions.addControllers(devices));
  const iommuContext = { words, functions, isVirt, acpi };
  const iommus = readIommus(devices, iommuContext);
  const everywhere = domainIommufd(domain, words);
  const controllers = readControllers(devices, { words, functions, isQ35: !isVirt, domain });
  const parts = [...controllers.devices, ...readDevices(devices, { words, functions, controllers, isQ35: !isVirt, domain, iommufd: everywhere })];
  words.at(domain, () => functions.assign());

  const place = type ?? domain;
  words.word(place, `qemu-system-${arch}`);
  const name = find(domain, "name");
  if (name !== null && name.text !== "") {
    words.option(name, "name", `guest=${name.text.replaceAll(",", ",,")}`);
  }
  const ramId = isVirt ? "mach-virt.ram" : "pc.ram";
  const numa = find(domain, "cpu", "numa") !== null && all(find(domain, "cpu", "numa"), "cell").length > 0;
  words.at(place, () => words.option(place, "machine", [machine, "usb=off", ...machineOptions(domain, features, iommus, isVirt), ...(numa ? [] : [`memory-backend=${ramId}`]), `acpi=${acpi ? "on" : "off"}`, ...highMemory(functions, isVirt)].join(",")));
  words.option(domain, "accel", attribute(domain, "type") === "kvm" ? "kvm" : "tcg");
  writeCpu(domain, words);
  words.at(domain, () => writeMemory(domain, words, ramId));
  const threads = find(domain, "iothreads");
  for (let thread = 1; threads !== null && thread <= Math.min(Number(threads.text), 64); thread++) {
    words.option(threads, "object", { "qom-type": "iothread", id: `iothread${thread}` });
  }
  const uuid = find(domain, "uuid");
  if (uuid !== null) {
    words.option(uuid, "uuid", uuid.text);
  }
  words.option(domain, "nodefaults");
  words.option(domain, "no-user-config");
  const hole = holeOf(functions);
  if (hole !== null && !isVirt) {
    words.option(hole, "global", `q35-pcihost.pci-hole64-size=${bytes(hole, hole.text, attribute(hole, "unit")) / 1024}K`);
  }
  writeBoot(domain, words);
  functions.writeControllers(domain);
  writeParts(parts.filter(({ stage }) => stage < 20), functions, words);
  writeIommus(iommus, iommuContext);
  if (usesIommufd(devices, everywhere)) {
    words.option(find(domain, "iommufd") ?? domain, "object", { "qom-type": "iommufd", id: "iommufd0" });
  }
  writeParts(parts.filter(({ stage }) => stage >= 20), functions, words);
  for (const argument of all(find(domain, "qemu:commandline"), "qemu:arg")) {
    words.word(argument, attribute(argument, "value") ?? "");
  }
  const environment = all(find(domain, "qemu:commandline"), "qemu:env");
  if (environment.length > 0) {
    words.note(environment[0], "without-effect", `${environment.map((one) => attribute(one, "name") ?? "").join(", ")}: the environment of QEMU has no effect here`);
  }
  return words.finish();
}

/** <qemu:override>: properties that libvirt sets beside or in place of its own, by the alias of their device. @throws Refusal */
function readOverrides(domain: XmlElement): Map<string, Map<string, unknown>> {
  const overrides = new Map<string, Map<string, unknown>>();
  for (const device of all(find(domain, "qemu:override"), "qemu:device")) {
    const properties = all(find(device, "qemu:frontend"), "qemu:property").map((one) => [attribute(one, "name") ?? "", overrideValue(one)] as const);
    overrides.set(attribute(device, "alias") ?? "", new Map(properties));
  }
  return overrides;
}

function overrideValue(property: XmlElement): unknown {
  const value = attribute(property, "value") ?? "";
  switch (attribute(property, "type")) {
    case "bool":
      return isOn(value) || value === "true";
    case "unsigned":
    case "signed":
      return number(property, "value", value);
    case "remove":
      return null;
    default:
      return value;
  }
}

function writeParts(parts: readonly DomainDevice[], functions: PciFunctions, words: DomainWords): void {
  for (const part of [...parts].sort((a, b) => a.stage - b.stage)) {
    words.at(part.element, () => part.write(part.fn === null ? {} : functions.placeOf(part.fn)));
  }
}

/** <iommufd enabled='yes'/>: all functions of the host go by it. */
function domainIommufd(domain: XmlElement, words: DomainWords): boolean {
  const element = find(domain, "iommufd");
  const enabled = isOn(attribute(element, "enabled"));
  if (element !== null && !enabled && attribute(element, "fdgroup") !== null) {
    words.refuse(element, "unsupported configuration: Setting 'fdgroup' when 'iommufd' is disabled is not supported.", { rule: "iommufd-fdgroup", wouldWork: "enabled='yes'" });
  }
  return enabled;
}

function machineOptions(domain: XmlElement, features: XmlElement | null, iommus: ReturnType<typeof readIommus>, isVirt: boolean): string[] {
  const gic = attribute(find(features, "gic"), "version");
  const ioapic = attribute(find(features, "ioapic"), "driver");
  const split = ioapic === "qemu" || (ioapic === null && !isVirt && remapsInterrupts(iommus));
  return [
    ...(isVirt && gic !== null ? [`gic-version=${gic}`] : isVirt && attribute(domain, "type") !== "kvm" ? ["gic-version=2"] : []),
    ...(split ? ["kernel_irqchip=split"] : ioapic === "kvm" ? ["kernel_irqchip=on"] : []),
    ...(iommus.some(isMachineSmmu) ? ["iommu=smmuv3"] : []),
    ...(hasHmat(domain) ? ["hmat=on"] : []),
  ];
}

function holeOf(functions: PciFunctions): XmlElement | null {
  return find(functions.buses.list[0]?.element ?? null, "pcihole64");
}

function highMemory(functions: PciFunctions, isVirt: boolean): string[] {
  const hole = holeOf(functions);
  return hole === null || !isVirt ? [] : [`highmem-mmio-size=${bytes(hole, hole.text, attribute(hole, "unit")) / 1024}K`];
}

function writeCpu(domain: XmlElement, words: DomainWords): void {
  const cpu = find(domain, "cpu");
  const mode = attribute(cpu, "mode");
  const model = find(cpu, "model");
  const name = mode === "host-passthrough" || mode === "host-model" ? "host" : mode === "maximum" ? "max" : (model?.text ?? "");
  if (name !== "") {
    words.option(model ?? cpu!, "cpu", name);
  }
}

/** A kernel that the domain starts without firmware. */
function writeBoot(domain: XmlElement, words: DomainWords): void {
  for (const [element, option] of [["kernel", "kernel"], ["initrd", "initrd"], ["cmdline", "append"]] as const) {
    const found = find(domain, "os", element);
    if (found !== null && found.text !== "") {
      words.option(found, option, found.text);
    }
  }
}

