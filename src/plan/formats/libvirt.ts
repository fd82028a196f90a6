/** A plan as libvirt's domain XML (docs/formatdomain, 12.9), and as an older libvirt takes it. */
import { IOMMUFD, socketsOf, titleOf } from "../machine-plan.js";
import type { MachinePlan, PlannedExpander, PlannedFunction, PlannedPort } from "../report/index.js";
import { firstStageNames, onOff, sizeWord } from "../qemu-words.js";
import { comment, element, textElement, writeXml, type XmlNode } from "./xml-writer.js";

export type LibvirtVersion = "11.10" | "12.9";
export const LIBVIRT_VERSIONS: readonly LibvirtVersion[] = ["11.10", "12.9"];

/** What libvirt has no words for goes to QEMU by these. */
const QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0";
const KIB = 1024;

/** Properties of a device that libvirt does not set, by its alias. */
interface Override {
  readonly alias: string;
  readonly properties: ReadonlyArray<readonly [name: string, type: "bool" | "string" | "unsigned", value: string]>;
}

/** What libvirt adds by itself would go to the first free port, which may be a spare one behind an SMMU; a balloon gets no memory back that is pinned. */
const NO_EXTRAS: readonly XmlNode[] = [element("controller", { type: "usb", model: "none" }), element("memballoon", { model: "none" })];

/** libvirt's own; one of the user's may have no dot, as ids of ours have (USER_ALIAS_CHARS). */
const controllerAlias = (index: number): string => `pci.${index}`;

const hex = (number: number, digits: number): string => `0x${number.toString(16).padStart(digits, "0")}`;

/** Before 12.7 there is no accelerated SMMU, before 12.1 no iommufd (docs/formatdomain): QEMU is told by its own words there. */
export function libvirtXml(plan: MachinePlan, libvirt: LibvirtVersion, qemu: string): string {
  const old = libvirt === "11.10";
  const alias = (id: string): string => `ua-${id}`;
  const overrides: Override[] = [];
  const more: string[] = [];
  const devices: XmlNode[] = [];
  const { window, vtd, board } = plan;
  const isHole = window.size !== null && !(old && board === "virt");
  devices.push(...window.because.map(comment), element("controller", { type: "pci", index: 0, model: "pcie-root" }, ...(isHole ? [textElement("pcihole64", window.size! / KIB, { unit: "KiB" })] : [])));
  if (window.size !== null && !isHole) {
    more.push("-machine", `highmem-mmio-size=${sizeWord(window.size)}`);
  }
  let index = 0;
  const iommus: XmlNode[] = [];
  for (const [n, expander] of plan.expanders.entries()) {
    const bus = ++index;
    devices.push(...expander.because.map(comment), expanderController(expander, bus, n + 1));
    if (expander.bypass) {
      overrides.push({ alias: controllerAlias(bus), properties: [["bypass_iommu", "bool", "true"]] });
    }
    if (expander.smmu !== null) {
      const { id, ril, ats, oas, ssidsize, because } = expander.smmu;
      const features: Record<string, string | number> = old ? {} : { accel: "on", ats: onOff(ats), ril: onOff(ril), ssidsize, oas };
      iommus.push(...because.map(comment), element("iommu", { model: "smmuv3" }, element("driver", { pciBus: bus, ...features }), ...(old ? [element("alias", { name: alias(id) })] : [])));
      if (old) {
        overrides.push({ alias: alias(id), properties: [["accel", "bool", "true"], ["ril", "string", onOff(ril)], ["ats", "string", onOff(ats)], ["oas", "string", String(oas)], ["ssidsize", "string", String(ssidsize)]] });
      }
    }
    for (const port of expander.ports) {
      const below = ++index;
      devices.push(...port.because.map(comment), portController(port, below, bus, expander.ports));
      if (port.reserve !== null) {
        overrides.push({ alias: controllerAlias(below), properties: [["pref64-reserve", "unsigned", String(port.reserve)]] });
      }
      for (const fn of port.functions) {
        devices.push(...fn.because.map(comment), hostdev(fn, below, port.functions.length > 1, old ? alias(fn.id) : null));
        if (old) {
          overrides.push({ alias: alias(fn.id), properties: [["iommufd", "string", IOMMUFD]] });
          fn.initiatorOf.forEach((node) => more.push("-object", `acpi-generic-initiator,id=gi${node},pci-dev=${alias(fn.id)},node=${node}`));
        }
      }
    }
  }
  if (vtd !== null) {
    const stage = vtd.fsts ? alias(vtd.id) : null;
    iommus.push(
      ...vtd.because.map(comment),
      element(
        "iommu",
        { model: "intel" },
        element("driver", { intremap: "on", caching_mode: "on", eim: vtd.eim ? "on" : null, iotlb: vtd.deviceIotlb ? "on" : null, aw_bits: vtd.awBits }),
        ...(stage === null ? [] : [element("alias", { name: stage })]),
      ),
    );
    if (stage !== null) {
      overrides.push({
        alias: stage,
        properties: [...firstStageNames(qemu).map((name) => [name, "bool", "true"] as const), ...(vtd.fs1gp ? [] : [["fs1gp", "bool", "false"] as const]), ...(vtd.pasidBits > 0 ? [["pasid-bits", "unsigned", String(vtd.pasidBits)] as const] : [])],
      });
    }
  }
  if (old) {
    more.unshift("-object", `iommufd,id=${IOMMUFD}`);
  }
  const root = element(
    "domain",
    { type: "kvm" },
    comment(titleOf(plan)),
    ...remarks(plan, old, qemu).map(comment),
    textElement("name", `viommu-${plan.host.replace(/[^\w.-]+/g, "-")}`),
    textElement("memory", plan.memory / KIB, { unit: "KiB" }),
    textElement("vcpu", plan.cpus, { placement: "static" }),
    ...(old ? [] : [element("iommufd", { enabled: "yes" })]),
    ...numaTune(plan),
    element("os", { firmware: "efi" }, textElement("type", "hvm", { arch: board === "virt" ? "aarch64" : "x86_64", machine: `${board === "virt" ? "virt" : "pc-q35"}-${qemu}` })),
    element("features", {}, element("acpi"), ...(board === "virt" ? [element("gic", { version: 3 })] : [element("apic"), element("ioapic", { driver: "qemu" })])),
    cpuElement(plan),
    element("devices", {}, ...devices, ...NO_EXTRAS, ...iommus),
    ...(more.length === 0 ? [] : [element("qemu:commandline", {}, ...more.map((value) => element("qemu:arg", { value })))]),
    ...(overrides.length === 0 ? [] : [element("qemu:override", {}, ...overrides.map(overrideElement))]),
  );
  return writeXml(root as Extract<XmlNode, { name: string }>, overrides.length + more.length > 0 ? { qemu: QEMU_NAMESPACE } : {});
}

function remarks({ vtd, expanders, notes, preparations }: MachinePlan, old: boolean, qemu: string): string[] {
  const nests = vtd?.fsts === true || expanders.some(({ smmu }) => smmu !== null);
  return [
    ...(old && nests ? ["libvirt 11.10 has no accelerated SMMU (12.7) and no iommufd (12.1): QEMU is told by qemu:override and qemu:commandline. QEMU opens /dev/iommu and /dev/vfio/devices/vfioN itself: both in cgroup_device_acl of qemu.conf, and namespaces = []"] : []),
    ...(vtd?.fsts === true ? [`libvirt has no words for first stages: ${[...firstStageNames(qemu), ...(vtd.pasidBits > 0 ? ["pasid-bits"] : [])].join(" and ")} are set by qemu:override`] : []),
    ...(expanders.some(({ ports }) => ports.some(({ reserve }) => reserve !== null)) ? ["what spare ports keep for large BARs is set by qemu:override, for memReserve is not of prefetchable memory"] : []),
    // libvirt raises RLIMIT_MEMLOCK, and gives managed functions to vfio-pci.
    ...preparations.filter((one) => !/^locked memory|: give it to vfio-pci$/.test(one)),
    ...notes,
  ];
}

function expanderController({ busNumber, cell }: PlannedExpander, index: number, slot: number): XmlNode {
  return element(
    "controller",
    { type: "pci", index, model: "pcie-expander-bus" },
    element("model", { name: "pxb-pcie" }),
    element("target", { busNr: busNumber }, ...(cell === null ? [] : [textElement("node", cell)])),
    pciAddress(0, slot, 0),
  );
}

function portController({ chassis, slot, number }: PlannedPort, index: number, bus: number, ports: readonly PlannedPort[]): XmlNode {
  const shared = ports.filter((other) => other.slot === slot).length > 1;
  return element(
    "controller",
    { type: "pci", index, model: "pcie-root-port" },
    element("model", { name: "pcie-root-port" }),
    element("target", { chassis, port: hex(slot * 8 + number, 1) }),
    pciAddress(bus, slot, number, shared && number === 0),
  );
}

function hostdev(fn: PlannedFunction, bus: number, shared: boolean, alias: string | null): XmlNode {
  const [domain, hostBus, slot, number] = fn.host.split(/[:.]/);
  return element(
    "hostdev",
    { mode: "subsystem", type: "pci", managed: "yes" },
    element("source", {}, element("address", { domain: `0x${domain}`, bus: `0x${hostBus}`, slot: `0x${slot}`, function: `0x${number}` })),
    ...(alias === null ? [] : [element("alias", { name: alias })]),
    ...(fn.initiatorOf.length === 0 || alias !== null ? [] : [element("acpi", { nodeset: setWord(fn.initiatorOf) })]),
    pciAddress(bus, 0, fn.number, shared && fn.number === 0),
  );
}

/** Nodes that follow each other as a range. */
function setWord(nodes: readonly number[]): string {
  const [first] = nodes;
  return nodes.length > 1 && nodes.every((node, n) => node === first + n) ? `${first}-${nodes.at(-1)!}` : nodes.join(",");
}

function pciAddress(bus: number, slot: number, number: number, multifunction = false): XmlNode {
  return element("address", { type: "pci", domain: "0x0000", bus: hex(bus, 2), slot: hex(slot, 2), function: hex(number, 1), multifunction: multifunction ? "on" : null });
}

function numaTune({ cells }: MachinePlan): XmlNode[] {
  const bound = cells.filter(({ memory, hostNode }) => memory > 0 && hostNode !== null);
  return bound.length === 0 ? [] : [element("numatune", {}, ...bound.map(({ id, hostNode }) => element("memnode", { cellid: id, mode: "strict", nodeset: hostNode })))];
}

function cpuElement(plan: MachinePlan): XmlNode {
  const { cells, distances, cpus: count } = plan;
  const sockets = socketsOf(plan);
  const made = cells.flatMap(({ id, cpus, memory, because }, n): XmlNode[] => [
    ...(n > 0 && cells[n - 1].because.join() === because.join() ? [] : because.map(comment)),
    element(
      "cell",
      { id, cpus: cpus === null ? null : cpus[0] === cpus[1] ? String(cpus[0]) : `${cpus[0]}-${cpus[1]}`, memory: memory / KIB, unit: "KiB" },
      ...(distances === null ? [] : [element("distances", {}, ...distances[n].map((value, sibling) => element("sibling", { id: sibling, value })))]),
    ),
  ]);
  const topology = sockets === null ? [] : [element("topology", { sockets, dies: 1, cores: count / sockets, threads: 1 })];
  return element("cpu", { mode: "host-passthrough" }, ...topology, ...(made.length === 0 ? [] : [element("numa", {}, ...made)]));
}

function overrideElement({ alias, properties }: Override): XmlNode {
  return element("qemu:device", { alias }, element("qemu:frontend", {}, ...properties.map(([name, type, value]) => element("qemu:property", { name, type, value }))));
}

