/** A mend in words of a command line as changes of the domain XML that it came from: attributes and elements that come, change and go. */
import type { TextEdit } from "./edited-text.js";
import { IOMMU_ATTRIBUTES } from "./domain-xml.js";
import type { Change, LineOption, Mend } from "./line.js";
import { attributesAt, childOf, elementsOf, pathTo, type XmlTag } from "./xml-elements.js";

/** The line of a domain XML. */
export interface XmlLine {
  readonly text: string;
  readonly options: readonly LineOption[];
  /** Offset of the element that the option is of. */
  startOf(option: number): number;
  said(option: number, property: string): string | undefined;
}

/** The edits; null: libvirt's XML has no place for one of them. */
export function xmlEdits(line: XmlLine, mend: Mend): TextEdit[] | null {
  const mender = new XmlMender(line);
  return mend.every((change) => mender.does(change, mend)) ? mender.edits : null;
}

type Values = ReadonlyMap<string, string>;

/** What is inserted, `driver,a=1,b=2`. */
function valuesOf(argument: string): Values {
  const [driver, ...rest] = argument.split(",");
  return new Map([["driver", driver], ...rest.map((part) => part.split("=", 2) as [string, string])]);
}

const hexadecimal = (value: number): string => `0x${value.toString(16).padStart(2, "0")}`;

class XmlMender {
  readonly edits: TextEdit[] = [];
  private readonly root: XmlTag | null;
  private readonly domain: XmlTag | undefined;
  /** Indexes of the controllers that are put in, by the ids that the mend has for them. */
  private readonly controllers = new Map<string, number>();
  /** Slots of buses that the mend has given away. */
  private readonly given = new Map<number, number>();
  private next: number;

  constructor(private readonly line: XmlLine) {
    this.root = elementsOf(line.text);
    this.domain = this.root === null ? undefined : find(this.root, "domain");
    // Those that libvirt adds are there too.
    const indexes = line.options.flatMap((_, option) => /^pci\.(\d+)$/.exec(line.said(option, "id") ?? "")?.[1] ?? []);
    this.next = Math.max(0, ...[...indexes, ...this.pciControllers().map(({ index }) => index)].map(Number)) + 1;
  }

  /** Of the XML, with their indexes and the users' names. */
  private pciControllers(): Array<{ readonly index: string; readonly alias: string | undefined }> {
    const { text } = this.line;
    return (childOf(this.domain, "devices")?.children ?? []).flatMap((element) => {
      const said = new Map(attributesAt(text, element.start).map(({ name, value }) => [name, value]));
      const alias = childOf(element, "alias");
      return element.name === "controller" && said.get("type") === "pci" && /^\d+$/.test(said.get("index") ?? "") ? [{ index: said.get("index")!, alias: alias === undefined ? undefined : attributesAt(text, alias.start).find(({ name }) => name === "name")?.value }] : [];
    });
  }

  /** @returns false where there is no place for it */
  does(change: Change, mend: Mend): boolean {
    switch (change.kind) {
      case "insert":
        return change.options.every(([name, value]) => this.insert(change.before, name, valuesOf(value)));
      case "remove":
        return this.remove(this.elementOf(change.option));
      case "rename":
        return false;
      default:
        return this.property(change, mend);
    }
  }

  private elementOf(option: number): XmlTag[] {
    return pathTo(this.root, this.line.startOf(option));
  }

  // ---- what comes ----

  private insert(before: number, name: string, values: Values): boolean {
    const driver = values.get("driver");
    if (name === "object" && driver === "iommufd") {
      return this.enableIommufd();
    }
    const index = (): number => {
      this.controllers.set(values.get("id") ?? "", this.next);
      return this.next++;
    };
    if (name !== "device") {
      return false;
    }
    switch (driver) {
      case "pcie-root-port": {
        const bus = this.busOf(values.get("bus") ?? "pcie.0");
        return bus !== null && this.device(before, `<controller type='pci' index='${index()}' model='pcie-root-port'${bus === 0 ? "/>" : `>${this.address(bus, this.freeSlot(bus))}</controller>`}`);
      }
      case "pxb-pcie":
        return this.device(before, `<controller type='pci' index='${index()}' model='pcie-expander-bus'><target busNr='${values.get("bus_nr")!}'/></controller>`);
      case "arm-smmuv3": {
        const bus = this.busOf(values.get("primary-bus") ?? "");
        const attributes = [...values].flatMap(([key, value]) => (["driver", "id", "primary-bus"].includes(key) || value === "auto" ? [] : [[IOMMU_ATTRIBUTES[key] as string | undefined, value] as const]));
        if (bus === null || attributes.some(([key]) => key === undefined)) {
          return false;
        }
        return this.device(before, `<iommu model='smmuv3'><driver pciBus='${bus}'${attributes.map(([key, value]) => ` ${key!}='${value}'`).join("")}/></iommu>`);
      }
      default:
        return false;
    }
  }

  /** Before the element of an option, or first of all devices. */
  private device(before: number, xml: string): boolean {
    const path = this.elementOf(before);
    const devices = childOf(this.domain, "devices");
    const at = path.find((one) => devices?.children.includes(one) === true)?.start ?? devices?.children[0]?.start;
    return at !== undefined && this.insertAt(at, xml);
  }

  /** A child of the domain's, or of one of its own: `features`. It is the first, and its parent is made where it is missing. */
  private child(parent: string, xml: string): boolean {
    const above = childOf(this.domain, parent);
    if (above === undefined) {
      return this.beforeDevices(`<${parent}>${xml}</${parent}>`);
    }
    return above.children.length === 0 ? this.fill(above, xml) : this.insertAt(above.children[0].start, xml);
  }

  private beforeDevices(xml: string): boolean {
    const devices = childOf(this.domain, "devices");
    return devices !== undefined && this.insertAt(devices.start, xml);
  }

  /** With the indent of what stands there. */
  private insertAt(at: number, xml: string): boolean {
    const indent = this.line.text.slice(this.line.text.lastIndexOf("\n", at - 1) + 1, at);
    this.edits.push({ start: at, end: at, text: `${xml}${indent.trim() === "" ? `\n${indent}` : ""}` });
    return true;
  }

  /** Content of an element that has none. */
  private fill({ name, open, close }: XmlTag, xml: string): boolean {
    const isEmpty = this.line.text[open - 2] === "/";
    this.edits.push(isEmpty ? { start: open - 2, end: open, text: `>${xml}</${name}>` } : { start: open, end: close, text: xml });
    return true;
  }

  /** libvirt makes the object for functions that go by one; all of them do where the domain says so (12.2). */
  private enableIommufd(): boolean {
    const element = childOf(this.domain, "iommufd");
    return element === undefined ? this.beforeDevices("<iommufd enabled='yes'/>") : this.attribute(element, "enabled", "yes");
  }

  // ---- what goes ----

  private remove(path: readonly XmlTag[]): boolean {
    const [element, parent] = [path.at(-1), path.at(-2)];
    return element !== undefined && parent?.name === "devices" && this.takeOut(element);
  }

  /** With its line where it is alone there. */
  private takeOut({ start, end }: XmlTag): boolean {
    const { text } = this.line;
    const lineStart = text.lastIndexOf("\n", start - 1) + 1;
    const rest = /^[ \t]*\r?\n/.exec(text.slice(end))?.[0];
    const alone = text.slice(lineStart, start).trim() === "" && rest !== undefined;
    this.edits.push(alone ? { start: lineStart, end: end + rest.length, text: "" } : { start, end, text: "" });
    return true;
  }

  // ---- what changes ----

  private property(change: Exclude<Change, { kind: "insert" | "remove" | "rename" }>, mend: Mend): boolean {
    const element = this.elementOf(change.option).at(-1);
    const value = change.kind === "set" ? change.value : null;
    if (element === undefined) {
      return false;
    }
    switch (element.name) {
      case "iommu":
        return this.ofIommu(element, change.property, value);
      case "type":
        return this.ofMachine(change.property, value);
      case "domain":
        return change.property === "accel" && value === "kvm" && this.attribute(element, "type", "kvm");
      case "controller":
        if (change.property === "bus_nr" || change.property === "chassis" || change.property === "numa_node") {
          return value !== null && this.ofTarget(element, change.property, value);
        }
        break;
      case "hostdev":
      case "interface":
        if (change.property === "iommufd") {
          return this.ofFunction(element, mend);
        }
        break;
    }
    return this.place(element, change.property, value, mend);
  }

  /** An attribute of the element; null takes it out. */
  private attribute({ name: tag, start }: XmlTag, name: string, value: string | null): boolean {
    const { text } = this.line;
    const found = attributesAt(text, start).find((one) => one.name === name);
    const behind = start + 1 + tag.length;
    if (found === undefined) {
      this.edits.push(...(value === null ? [] : [{ start: behind, end: behind, text: ` ${name}='${value}'` }]));
      return value !== null;
    }
    this.edits.push(value === null ? { start: found.start - (/\s/.test(text[found.start - 1]) ? 1 : 0), end: found.end, text: "" } : { start: found.valueStart, end: found.end - 1, text: value });
    return true;
  }

  /** An attribute of a child, which is made where it is missing. */
  private ofChild(element: XmlTag, child: string, name: string, value: string | null): boolean {
    const there = childOf(element, child);
    if (there !== undefined) {
      return this.attribute(there, name, value);
    }
    if (value === null) {
      return false;
    }
    const xml = `<${child} ${name}='${value}'/>`;
    // Its blanks stay: the child comes first.
    return element.open === element.end ? this.fill(element, xml) : (this.edits.push({ start: element.open, end: element.open, text: xml }), true);
  }

  /** libvirt has no auto: the attribute is left out. */
  private ofIommu(element: XmlTag, property: string, value: string | null): boolean {
    const name = IOMMU_ATTRIBUTES[property] as string | undefined;
    return name !== undefined && this.ofChild(element, "driver", name, value === "auto" ? null : value);
  }

  private ofMachine(property: string, value: string | null): boolean {
    const features = childOf(this.domain, "features");
    switch (property) {
      case "acpi":
        return value === "on" && childOf(features, "acpi") === undefined && this.child("features", "<acpi/>");
      case "kernel-irqchip":
      case "kernel_irqchip": {
        const ioapic = childOf(features, "ioapic");
        const driver = value === "split" ? "qemu" : null;
        return driver !== null && (ioapic === undefined ? this.child("features", `<ioapic driver='${driver}'/>`) : this.attribute(ioapic, "driver", driver));
      }
      case "highmem-mmio-size": {
        const root = childOf(this.domain, "devices")?.children.find((one) => one.name === "controller" && attributesAt(this.line.text, one.start).some(({ name, value: model }) => name === "model" && model === "pcie-root"));
        const size = /^(\d+)G$/.exec(value ?? "")?.[1];
        return size !== undefined && this.hole(root, Number(size));
      }
      default:
        return false;
    }
  }

  /** The window above 4 GiB, which is the root's. */
  private hole(root: XmlTag | undefined, gibibytes: number): boolean {
    const xml = `<pcihole64 unit='KiB'>${gibibytes * 2 ** 20}</pcihole64>`;
    const there = childOf(root, "pcihole64");
    if (there !== undefined) {
      this.edits.push({ start: there.start, end: there.end, text: xml });
      return true;
    }
    if (root !== undefined) {
      return root.children.length === 0 ? this.fill(root, xml) : this.insertAt(root.children[0].start, xml);
    }
    const first = childOf(this.domain, "devices")?.children[0];
    return first !== undefined && this.insertAt(first.start, `<controller type='pci' index='0' model='pcie-root'>${xml}</controller>`);
  }

  private ofTarget(element: XmlTag, property: "bus_nr" | "chassis" | "numa_node", value: string): boolean {
    if (property !== "numa_node") {
      return this.ofChild(element, "target", property === "bus_nr" ? "busNr" : "chassis", value);
    }
    const node = childOf(element, "target", "node");
    if (node !== undefined) {
      this.edits.push({ start: node.open, end: node.close, text: value });
      return true;
    }
    const target = childOf(element, "target");
    return target !== undefined && this.fill(target, `<node>${value}</node>`);
  }

  private ofFunction(element: XmlTag, mend: Mend): boolean {
    const driver = childOf(element, "driver");
    const own = driver === undefined ? undefined : attributesAt(this.line.text, driver.start).find(({ name }) => name === "iommufd");
    // It goes by the domain's, which comes with the same mend.
    const comes = mend.some((change) => change.kind === "insert" && change.options.some(([name]) => name === "object"));
    return (own === undefined && comes) || this.ofChild(element, "driver", "iommufd", "yes");
  }

  /** Where a device is: `bus`, `addr` and `multifunction` are its address. */
  private place(element: XmlTag, property: string, value: string | null, mend: Mend): boolean {
    const address = childOf(element, "address");
    switch (property) {
      case "bus": {
        const bus = value === null ? null : value === "pcie.0" ? this.newPort(element) : this.busOf(value);
        if (bus === null) {
          return false;
        }
        const xml = this.address(bus, 0);
        return address === undefined ? this.last(element, xml) : (this.edits.push({ start: address.start, end: address.end, text: xml }), true);
      }
      case "addr": {
        // A new bus is a new address, too.
        const moved = mend.some((change) => change.kind === "set" && change.property === "bus");
        return value === null && (moved || (address !== undefined && this.takeOut(address)));
      }
      case "multifunction":
        return value !== null && address !== undefined && this.attribute(address, "multifunction", value);
      default:
        return false;
    }
  }

  /** libvirt puts functions behind ports: one of pcie.0's for a device that is to be there. */
  private newPort(element: XmlTag): number {
    const index = this.next++;
    this.insertAt(element.start, `<controller type='pci' index='${index}' model='pcie-root-port'/>`);
    return index;
  }

  /** The last child, on a line like the others'. */
  private last(element: XmlTag, xml: string): boolean {
    const end = element.children.at(-1)?.end;
    if (end === undefined) {
      return this.fill(element, xml);
    }
    const { start } = element.children.at(-1)!;
    const indent = this.line.text.slice(this.line.text.lastIndexOf("\n", start - 1) + 1, start);
    this.edits.push({ start: end, end, text: indent.trim() === "" ? `\n${indent}${xml}` : xml });
    return true;
  }

  private address(bus: number, slot: number): string {
    return `<address type='pci' domain='0x0000' bus='${hexadecimal(bus)}' slot='${hexadecimal(slot)}' function='0x0'/>`;
  }

  /** The index of a bus by its name: a new controller's, or one that is there. */
  private busOf(name: string): number | null {
    const named = (): string | undefined => this.pciControllers().find(({ alias }) => alias === name)?.index;
    const own = this.controllers.get(name) ?? (name === "pcie.0" ? 0 : (/^pci\.(\d+)$/.exec(name)?.[1] ?? named()));
    return own === undefined ? null : Number(own);
  }

  /** The first slot of a bus that nothing is in. */
  private freeSlot(bus: number): number {
    const taken = this.line.options.flatMap((_, option) => (this.busOf(this.line.said(option, "bus") ?? "") === bus ? [Number.parseInt(this.line.said(option, "addr") ?? "0", 16)] : []));
    let slot = this.given.get(bus) ?? 0;
    while (taken.includes(slot)) {
      slot++;
    }
    this.given.set(bus, slot + 1);
    return slot;
  }
}

/** The first element of that name, the outermost counted. */
function find(element: XmlTag, name: string): XmlTag | undefined {
  return element.name === name ? element : element.children.map((child) => find(child, name)).find((one) => one !== undefined);
}
