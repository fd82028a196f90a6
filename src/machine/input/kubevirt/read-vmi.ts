/**
 * A VirtualMachineInstance or VirtualMachine of KubeVirt as the domain that its launcher (1.9) makes of it, and that as
 * libvirt's line. What is decided when the pod is scheduled, or by the cluster's settings, is told as not known.
 */
import { Refusal } from "../../../support/index.js";
import { translateDomain } from "../domain-xml/read-domain.js";
import { DomainWords } from "../domain-xml/words.js";
import type { XmlElement } from "../domain-xml/xml.js";
import type { InputForm, RecognisedInput } from "../recognise.js";
import { GraceTopology } from "./grace.js";
import { parseYaml, quantity, type YamlValue } from "./tree.js";

const KINDS = ["VirtualMachineInstance", "VirtualMachine"];
const IS_KIND = /(?:^|[\s{,])"?kind"?\s*:\s*"?VirtualMachine(?:Instance)?"?\s*(?:[,}#\n\r]|$)/m;

export const readVirtualMachine: InputForm = {
  name: "VirtualMachineInstance",
  recognises: (text) => IS_KIND.test(text) && /kubevirt\.io\//.test(text),
  read: readVmi,
};

/** @throws Refusal */
export function readVmi(text: string, source: string): RecognisedInput {
  const found = parseYaml(text, source).flatMap((one) => [one, ...one.at("items").list]).find((one) => KINDS.includes(one.at("kind").text ?? ""));
  if (found === undefined) {
    throw new Refusal(`no matches for kind "VirtualMachineInstance"`, { rule: "no-virtual-machine", found: source, wouldWork: "kubectl get vmi NAME -o yaml" });
  }
  const spec = found.at("kind").text === "VirtualMachine" ? found.at("spec", "template", "spec") : found.at("spec");
  const words = new DomainWords();
  const domain = new LauncherDomain(found, spec, words).build();
  return translateDomain(domain, words);
}

class LauncherDomain {
  private readonly arm: boolean;
  private readonly domain: YamlValue;
  private readonly devices: YamlValue;
  /** virtio's model: the launcher says modern functions alone, unless it is asked for the others. */
  private readonly virtio: string;
  private descriptors = 0;
  private readonly targets = new Map<string, number>();

  constructor(
    private readonly vmi: YamlValue,
    spec: YamlValue,
    private readonly words: DomainWords,
  ) {
    this.domain = spec.at("domain");
    this.devices = this.domain.at("devices");
    const machine = this.domain.at("machine", "type").text ?? "";
    this.arm = spec.at("architecture").text === "arm64" || (spec.at("architecture").text === null && machine.startsWith("virt"));
    this.virtio = this.devices.at("useVirtioTransitional").isTrue ? "virtio-transitional" : "virtio-non-transitional";
    if (!this.domain.exists) {
      throw new Refusal("spec.domain is required", { rule: "no-domain", place: spec.place });
    }
  }

  build(): XmlElement {
    const { domain, arm } = this;
    const machine = domain.at("machine", "type");
    const acpi = !domain.at("features", "acpi", "enabled").isFalse;
    const os = machine.exists ? machine : domain;
    const hosts = this.hostFunctions();
    const grace = GraceTopology.of(arm, hosts.map(({ value, resource }) => ({ value, resource })));
    const devices = [...this.controllers(), ...this.frontEnds(), ...hosts.map(({ element }, index) => grace?.place(element, index) ?? element), ...(grace?.devices() ?? [])];
    grace?.tell(this.words);
    this.tellUnknown();
    return domain.element("domain", { type: "kvm" }, [
      this.vmi.at("metadata", "name").exists ? this.vmi.at("metadata", "name").element("name", {}, [], this.vmi.at("metadata", "name").text ?? "") : domain.element("name"),
      ...this.memory(),
      ...this.processors(grace),
      ...(hosts.length > 0 ? [domain.element("iommufd", { enabled: "yes" })] : []),
      os.element("os", {}, [os.element("type", { arch: arm ? "aarch64" : "x86_64", machine: machine.text ?? (arm ? "virt" : "q35") }, [], "hvm")]),
      domain.element("features", {}, [...(acpi ? [domain.element("acpi")] : []), ...(arm ? [domain.element("gic", { version: "3" })] : [])]),
      this.devices.element("devices", {}, devices),
    ]);
  }

  private memory(): XmlElement[] {
    const { domain } = this;
    const asked = [domain.at("memory", "guest"), domain.at("resources", "requests", "memory"), domain.at("resources", "limits", "memory")].find((one) => one.exists);
    if (asked === undefined) {
      throw new Refusal("spec.domain.memory.guest is required", { rule: "no-memory", place: domain.place, wouldWork: "memory: { guest: 4Gi }, or resources.requests.memory" });
    }
    const pages = domain.at("memory", "hugepages", "pageSize");
    const size = asked.element("memory", { unit: "b" }, [], String(quantity(asked)));
    return pages.exists ? [size, pages.element("memoryBacking", {}, [pages.element("hugepages", {}, [pages.element("page", { size: String(quantity(pages) / 1024), unit: "KiB" })])])] : [size];
  }

  private processors(grace: GraceTopology | null): XmlElement[] {
    const cpu = this.domain.at("cpu");
    const count = (name: string): number => Number(cpu.at(name).text ?? 1);
    const told = ["cores", "sockets", "threads"].some((name) => cpu.at(name).exists);
    const asked = [this.domain.at("resources", "requests", "cpu"), this.domain.at("resources", "limits", "cpu")].find((one) => one.exists);
    const sockets = told || asked === undefined ? count("sockets") : Math.max(1, Math.ceil(quantity(asked)));
    const most = cpu.at("maxSockets").exists ? Math.max(sockets, count("maxSockets")) : sockets;
    const each = count("cores") * count("threads");
    const model = cpu.at("model").text ?? (this.arm ? "host-passthrough" : "host-model");
    const mode = ["host-passthrough", "host-model"].includes(model) ? { mode: model } : { mode: "custom" };
    const at = cpu.exists ? cpu : this.domain;
    const numa = grace?.numa(at, sockets * each, this.memory()[0]) ?? [];
    if (cpu.at("numa", "guestMappingPassthrough").exists && grace === null) {
      this.words.note(cpu.at("numa").element("numa"), "not-known", "numa.guestMappingPassthrough: nodes are those of the host's processors that the pod gets; none are made here");
    }
    return [
      at.element("vcpu", most === sockets ? {} : { current: String(sockets * each) }, [], String(most * each)),
      at.element("cpu", mode, [
        ...(mode.mode === "custom" ? [at.element("model", {}, [], model)] : []),
        at.element("topology", { sockets: String(most), cores: String(count("cores")), threads: String(count("threads")) }),
        ...numa,
      ]),
    ];
  }

  private controllers(): XmlElement[] {
    const { devices, arm, virtio } = this;
    const usb = arm || devices.at("inputs").list.some((one) => one.at("bus").text !== "virtio") || devices.at("clientPassthrough").exists;
    return [
      devices.element("controller", { type: "usb", index: "0", model: usb ? "qemu-xhci" : "none" }),
      devices.element("controller", { type: "scsi", index: "0", model: virtio === "virtio-transitional" ? virtio : "virtio-non-transitional" }),
      devices.element("controller", { type: "virtio-serial", index: "0", model: virtio }),
    ];
  }

  private frontEnds(): XmlElement[] {
    const { devices, arm, virtio } = this;
    const found: XmlElement[] = [];
    devices.at("disks").list.forEach((disk) => found.push(this.disk(disk)));
    const interfaces = devices.at("interfaces").list;
    for (const one of interfaces.filter((each) => !each.at("sriov").exists)) {
      const model = one.at("model").text ?? "virtio";
      found.push(one.element("interface", { type: "ethernet" }, [one.element("model", { type: model === "virtio" ? virtio : model }), ...mac(one)]));
    }
    if (interfaces.length === 0 && !devices.at("autoattachPodInterface").isFalse) {
      found.push(devices.element("interface", { type: "ethernet" }, [devices.element("model", { type: virtio })]));
    }
    if (!devices.at("autoattachSerialConsole").isFalse) {
      found.push(devices.element("serial", { type: "unix" }));
    }
    found.push(devices.element("channel", { type: "unix" }, [devices.element("target", { type: "virtio", name: "org.qemu.guest_agent.0" })]));
    const inputs = devices.at("inputs").list;
    inputs.forEach((one) => found.push(one.element("input", { type: one.at("type").text ?? "tablet", bus: one.at("bus").text ?? "usb" })));
    if (arm) {
      ["tablet", "keyboard"].forEach((type) => found.push(devices.element("input", { type, bus: "usb" })));
    }
    found.push(devices.element("video", {}, [devices.element("model", { type: devices.at("autoattachGraphicsDevice").isFalse ? "none" : arm ? "virtio" : "vga" })]));
    if (devices.at("rng").exists) {
      found.push(devices.at("rng").element("rng", { model: virtio }));
    }
    if (devices.at("watchdog").exists) {
      found.push(devices.at("watchdog").element("watchdog", { model: "i6300esb" }));
    }
    if (devices.at("tpm").exists) {
      found.push(devices.at("tpm").element("tpm", { model: arm ? "tpm-tis" : "tpm-crb" }));
    }
    found.push(devices.element("memballoon", { model: devices.at("autoattachMemBalloon").isFalse ? "none" : virtio }));
    return found;
  }

  private disk(disk: YamlValue): XmlElement {
    const kind = ["disk", "cdrom", "lun"].find((one) => disk.at(one).exists) ?? "disk";
    const bus = disk.at(kind, "bus").text ?? (kind === "cdrom" ? "sata" : "virtio");
    const prefix = bus === "virtio" ? "vd" : "sd";
    const count = this.targets.get(prefix) ?? 0;
    this.targets.set(prefix, count + 1);
    const name = `${prefix}${String.fromCharCode(97 + (count % 26))}`;
    return disk.element("disk", { type: "file", device: kind === "cdrom" ? "cdrom" : "disk", ...(bus === "virtio" ? { model: this.virtio } : {}) }, [disk.element("source", { file: `/var/run/kubevirt-private/vmi-disks/${disk.at("name").text ?? "disk"}/disk.img` }), disk.element("target", { dev: name, bus })]);
  }

  /** GPUs, host devices and SR-IOV interfaces. Which functions they are is told by the status of a running one that has claims, and by nothing else. */
  private hostFunctions(): Array<{ value: YamlValue; resource: string; element: XmlElement }> {
    const { devices, vmi } = this;
    const statuses = [...vmi.at("status", "deviceStatus", "gpuStatuses").list, ...vmi.at("status", "deviceStatus", "hostDeviceStatuses").list];
    const of = (value: YamlValue, kind: string): { value: YamlValue; resource: string; element: XmlElement } => {
      const name = value.at("name").text ?? "";
      const resource = value.at("deviceName").text ?? value.at("requestName").text ?? "";
      const address = statuses.find((one) => one.at("name").text === name)?.at("deviceResourceClaimStatus", "attributes", "pciAddress");
      const [, domain, bus, slot, fn] = /^([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.(\d)$/i.exec(address?.text ?? "") ?? [];
      const alias = value.element("alias", { name: `ua-${kind}-${name}` });
      if (fn !== undefined) {
        const source = value.element("source", {}, [value.element("address", { domain: `0x${domain}`, bus: `0x${bus}`, slot: `0x${slot}`, function: `0x${fn}` })]);
        return { value, resource, element: value.element("hostdev", { mode: "subsystem", type: "pci" }, [source, alias]) };
      }
      const fd = String(FIRST_DESCRIPTOR + this.descriptors++);
      this.words.note(value.element(kind), "not-known", `${value.toString()} (${resource === "" ? name : resource}): which function of the host it is, is decided when the pod is scheduled; --fd ${fd}=ADDRESS says it here`);
      return { value, resource, element: value.element("hostdev", { mode: "subsystem", type: "pci" }, [value.element("source", { fd }), alias]) };
    };
    return [
      ...devices.at("hostDevices").list.map((one) => of(one, "hostdevice")),
      ...devices.at("gpus").list.map((one) => of(one, "gpu")),
      ...devices.at("interfaces").list.filter((one) => one.at("sriov").exists).map((one) => of(one, "sriov")),
    ];
  }

  private tellUnknown(): void {
    const { devices, words, vmi } = this;
    const at = devices.exists ? devices : this.domain;
    words.note(at.element("devices"), "not-known", "root ports that KubeVirt keeps free for hot-plug, and what sidecars change of the domain, are not said here");
    if (this.descriptors > 0) {
      words.note(at.element("devices"), "not-known", "functions of the host are taken to go by iommufd (feature gate IOMMUFD); without it KubeVirt has the legacy container, which viommu does not serve");
    }
    for (const name of ["metadata", "spec"].flatMap((part) => (part === "metadata" ? vmi.at("metadata", "annotations").names : vmi.at("spec", "template", "metadata", "annotations").names))) {
      if (name === "kubevirt.io/placePCIDevicesOnRootComplex" || name === "hooks.kubevirt.io/hookSidecars") {
        words.note(at.element("annotations"), "not-known", `${name}: it has no effect here`);
      }
    }
  }
}

/** Stand-ins for descriptors that the launcher would have. */
const FIRST_DESCRIPTOR = 100;

function mac(one: YamlValue): XmlElement[] {
  const address = one.at("macAddress");
  return address.exists ? [address.element("mac", { address: address.text ?? "" })] : [];
}
