/** Devices of a domain that are no controllers: disks, cards, functions of the host, and what hangs on other buses. */
import { Refusal } from "../../../support/index.js";
import { type ControllerSet, impliedElement, virtioSuffix, virtioWant } from "./controllers.js";
import type { DomainFunction, PciFunctions } from "./functions.js";
import { hostFunction } from "./host-functions.js";
import { memoryDevice } from "./memory.js";
import type { DomainWords, JsonObject } from "./words.js";
import { all, attribute, bytes, find, isOn, number, type XmlElement, userAlias } from "./xml.js";

export interface DomainDevice {
  /** Where its words stand among those of others. */
  readonly stage: number;
  readonly element: XmlElement;
  /** Null: it is none of PCI. */
  readonly fn: DomainFunction | null;
  /** @param place bus and addr of its function */
  write(place: JsonObject): void;
}

export interface DeviceContext {
  readonly words: DomainWords;
  readonly functions: PciFunctions;
  readonly controllers: ControllerSet;
  readonly isQ35: boolean;
  readonly domain: XmlElement;
  /** All functions of the host by iommufd. */
  readonly iommufd: boolean;
}

/** The order of QEMU's words. */
const STAGE: Readonly<Record<string, number>> = {
  memory: 20, hub: 21, disk: 30, filesystem: 31, interface: 32, smartcard: 33, serial: 34, channel: 36, console: 37, tpm: 38, input: 39, video: 41, sound: 42, watchdog: 43, redirdev: 44, hostdev: 45, memballoon: 46, rng: 47, vmcoreinfo: 48, panic: 49, shmem: 50, vsock: 51, crypto: 52,
};
/** Elements that say nothing of what a machine has for its IOMMUs. */
const IDLE = new Set(["emulator", "graphics", "audio", "lease", "nvram", "parallel", "launchSecurity", "pstore"]);

const NETWORK: Readonly<Record<string, readonly [driver: string, want: "express" | "conventional"]>> = {
  e1000: ["e1000", "conventional"], e1000e: ["e1000e", "express"], igb: ["igb", "express"], rtl8139: ["rtl8139", "conventional"], pcnet: ["pcnet", "conventional"], ne2k_pci: ["ne2k_pci", "conventional"], vmxnet3: ["vmxnet3", "express"],
};
const SOUND: Readonly<Record<string, readonly [driver: string, codec: boolean]>> = {
  ich6: ["intel-hda", true], ich7: ["intel-hda", true], ich9: ["ich9-intel-hda", true], ac97: ["AC97", false], es1370: ["ES1370", false], virtio: ["virtio-sound-pci", false],
};

export function readDevices(devices: XmlElement | null, context: DeviceContext): DomainDevice[] {
  const counts = new Map<string, number>();
  const found: DomainDevice[] = [];
  for (const element of devices?.children ?? []) {
    if (element.name === "controller" || element.name === "iommu") {
      continue;
    }
    const stage = STAGE[element.name];
    if (stage === undefined) {
      if (!IDLE.has(element.name)) {
        context.words.note(element, "without-effect", `<${element.name}> has no effect here`);
      }
      continue;
    }
    // Functions of the host have one count, whatever element they are in.
    const isHost = element.name === "hostdev" || (element.name === "interface" && ["hostdev"].includes(attribute(element, "type") ?? ""));
    const kind = isHost ? "hostdev" : element.name;
    const index = counts.get(kind) ?? 0;
    counts.set(kind, index + 1);
    const made = context.words.at(element, () => (isHost ? hostFunction(element, index, STAGE.hostdev, context) : deviceOf(element, index, stage, context)));
    found.push(...(made ?? []));
  }
  if (context.isQ35 && all(devices, "memballoon").length === 0) {
    const { domain, words, functions } = context;
    const fn = functions.add(impliedElement(domain, "memballoon"), "express");
    found.push({ stage: STAGE.memballoon, element: domain, fn, write: (place) => words.option(domain, "device", { driver: "virtio-balloon-pci", id: "balloon0", ...place }) });
    words.note(domain, "added-balloon", "libvirt adds a balloon: <memballoon model='none'/> keeps it out");
  }
  return found;
}

function deviceOf(element: XmlElement, index: number, stage: number, context: DeviceContext): DomainDevice[] {
  const { words, functions, isQ35, domain } = context;
  const model = attribute(find(element, "model"), "type") ?? attribute(element, "model");
  const alias = userAlias(element);
  const pci = (want: Parameters<PciFunctions["add"]>[1], properties: JsonObject, id: string, usual?: Parameters<PciFunctions["add"]>[2], after: (id: string) => void = () => {}): DomainDevice[] => {
    const fn = functions.add(element, want, usual);
    const { driver, ...rest } = properties;
    return [{ stage, element, fn, write: (place) => { words.option(element, "device", { driver, ...rest, id: alias ?? id, ...place }); after(alias ?? id); } }];
  };
  const plain = (write: (id: string) => void, id: string): DomainDevice[] => [{ stage, element, fn: null, write: () => write(alias ?? id) }];
  const other = (properties: JsonObject, id: string): DomainDevice[] => plain((own) => words.option(element, "device", { ...properties, id: own }), id);
  switch (element.name) {
    case "disk":
      return disk(element, index, stage, context);
    case "interface": {
      const name = model ?? (isQ35 ? "rtl8139" : "virtio");
      const backend = `host${alias ?? `net${index}`}`;
      const mac = attribute(find(element, "mac"), "address");
      const more = { netdev: backend, ...(mac === null ? {} : { mac }) };
      const [driver, want] = name.startsWith("virtio") ? ([`virtio-net-pci${virtioSuffix(name)}`, virtioWant(name)] as const) : (NETWORK[name] ?? []);
      if (driver === undefined || want === undefined) {
        throw new Refusal(`unsupported configuration: network interface model '${name}'`, { rule: "interface-model", wouldWork: `virtio, ${Object.keys(NETWORK).join(", ")}` });
      }
      const [made] = pci(want, { driver, ...more }, `net${index}`);
      return [{ ...made, write: (place) => { words.option(element, "netdev", { type: "user", id: backend }); made.write(place); } }];
    }
    case "filesystem":
      return pci(virtioWant(model), attribute(find(element, "driver"), "type") === "virtiofs" ? { driver: "vhost-user-fs-pci", tag: attribute(find(element, "target"), "dir") ?? "" } : { driver: `virtio-9p-pci${virtioSuffix(model)}`, mount_tag: attribute(find(element, "target"), "dir") ?? "" }, `fs${index}`);
    case "memballoon":
      return model === "none" ? [] : pci(virtioWant(model), { driver: `virtio-balloon-pci${virtioSuffix(model)}` }, `balloon${index}`);
    case "rng": {
      const source = find(element, "backend");
      const [made] = pci(virtioWant(model), { driver: `virtio-rng-pci${virtioSuffix(model)}`, rng: `objrng${index}` }, `rng${index}`);
      return [{ ...made, write: (place) => { words.option(element, "object", attribute(source, "model") === "builtin" ? { "qom-type": "rng-builtin", id: `objrng${index}` } : { "qom-type": "rng-random", id: `objrng${index}`, filename: source?.text === "" || source === null ? "/dev/urandom" : source.text }); made.write(place); } }];
    }
    case "video":
      return video(attribute(find(element, "model"), "type"), index, isQ35, pci);
    case "sound": {
      const known = SOUND[model ?? ""];
      if (known === undefined) {
        words.note(element, "without-effect", `sound of model '${model}' is no PCI function: it has no effect here`);
        return [];
      }
      const usual = isQ35 && model === "ich9" ? { bus: 0, slot: 0x1b, fn: 0 } : undefined;
      return pci(model === "virtio" ? "express" : "conventional", { driver: known[0], ...(known[1] ? {} : { audiodev: "audio1" }) }, `sound${index}`, usual, (id) => {
        if (known[1]) {
          words.option(element, "device", { driver: "hda-duplex", id: `${id}-codec0`, bus: `${id}.0`, cad: 0, audiodev: "audio1" });
        }
      });
    }
    case "watchdog":
      if (model !== "i6300esb") {
        return plain(() => words.note(element, "without-effect", `a watchdog of model '${model}' is a part of the board: it has no effect here`), `watchdog${index}`);
      }
      return pci("conventional", { driver: "i6300esb" }, `watchdog${index}`);
    case "input": {
      const bus = attribute(element, "bus") ?? (isQ35 ? "ps2" : "usb");
      const type = attribute(element, "type") ?? "";
      if (bus === "virtio") {
        return pci(virtioWant(model), { driver: `virtio-${type}-pci` }, `input${index}`);
      }
      return bus === "usb" ? usb({ driver: type === "keyboard" ? "usb-kbd" : `usb-${type}` }, `input${index}`) : [];
    }
    case "redirdev":
      return usb({ driver: "usb-redir", chardev: `charredir${index}` }, `redir${index}`, () => words.option(element, "chardev", `null,id=charredir${index}`));
    case "smartcard":
      return usb({ driver: "usb-ccid" }, `ccid${index}`);
    case "hub":
      return usb({ driver: "usb-hub" }, `hub${index}`);
    case "vsock": {
      const cid = attribute(find(element, "cid"), "address");
      return pci(virtioWant(model), { driver: `vhost-vsock-pci${virtioSuffix(model)}`, ...(cid === null ? {} : { "guest-cid": Number(cid) }) }, `vsock${index}`);
    }
    case "crypto":
      return withObject(pci("conventional", { driver: "virtio-crypto-pci", cryptodev: `objcrypto${index}` }, `crypto${index}`), {
        "qom-type": "cryptodev-backend-builtin",
        id: `objcrypto${index}`,
        queues: Number(attribute(find(element, "backend"), "queues") ?? 1),
      });
    case "shmem": {
      const made = pci("conventional", { driver: model ?? "ivshmem-plain", ...(model === "ivshmem-doorbell" ? {} : { memdev: `shmmem-shmem${index}` }) }, `shmem${index}`);
      const size = find(element, "size");
      const memory = { "qom-type": "memory-backend-file", id: `shmmem-shmem${index}`, "mem-path": `/dev/shm/${attribute(element, "name") ?? ""}`, size: size === null ? 4 * 2 ** 20 : bytes(size, size.text, attribute(size, "unit"), "B"), share: true };
      return model === "ivshmem-doorbell" ? made : withObject(made, memory);
    }
    case "memory": {
      const isVirtio = model === "virtio-mem";
      const fn = isVirtio ? functions.add(element, "express") : null;
      return [{ stage, element, fn, write: (place) => { const { object, device } = memoryDevice(element, domain, index, place); words.option(element, "object", object); words.option(element, "device", device); } }];
    }
    case "tpm": {
      const name = model ?? (isQ35 ? "tpm-crb" : "tpm-tis");
      return plain((id) => { words.option(element, "tpmdev", `emulator,id=tpm-${id}`); words.option(element, "device", { driver: name === "tpm-tis" && !isQ35 ? "tpm-tis-device" : name, tpmdev: `tpm-${id}`, id }); }, `tpm${index}`);
    }
    case "panic":
      if (model === "pvpanic") {
        const fn = functions.add(element, "integrated");
        return [{ stage, element, fn, write: (place) => words.option(element, "device", { driver: "pvpanic-pci", ...place }) }];
      }
      return model === "isa" || (model === null && isQ35) ? plain(() => words.option(element, "device", { driver: "pvpanic" }), "") : [];
    case "vmcoreinfo":
      return other({ driver: "vmcoreinfo" }, "vmcoreinfo0");
    case "serial":
      return serial(element, index, stage, context);
    case "channel":
    case "console": {
      if (attribute(find(element, "target"), "type") !== "virtio") {
        return [];
      }
      const isChannel = element.name === "channel";
      const name = attribute(find(element, "target"), "name");
      const on = attribute(find(element, "address"), "controller") ?? "0";
      return other({ driver: isChannel ? "virtserialport" : "virtconsole", bus: `virtio-serial${on}.0`, ...(name === null ? {} : { name }) }, `${element.name}${index}`);
    }
    default:
      return [];
  }

  function withObject([made]: DomainDevice[], object: JsonObject): DomainDevice[] {
    return [{ ...made, write: (place) => { words.option(element, "object", object); made.write(place); } }];
  }

  function usb(properties: JsonObject, id: string, before: () => void = () => {}): DomainDevice[] {
    if (!context.controllers.hasUsb) {
      throw new Refusal("unsupported configuration: USB is disabled for this domain, but USB devices are present in the domain XML", { rule: "no-usb", wouldWork: "<controller type='usb' model='qemu-xhci'/>" });
    }
    const [made] = other({ ...properties, bus: "usb.0" }, id);
    return [{ ...made, write: (place) => { before(); made.write(place); } }];
  }
}

function video(type: string | null, index: number, isQ35: boolean, pci: (want: Parameters<PciFunctions["add"]>[1], properties: JsonObject, id: string, usual?: Parameters<PciFunctions["add"]>[2]) => DomainDevice[]): DomainDevice[] {
  const primary = index === 0 && isQ35;
  const id = `video${index}`;
  const first = { bus: 0, slot: 1, fn: 0 };
  switch (type) {
    case "none":
      return [];
    case "virtio":
      return primary ? pci("integrated", { driver: "virtio-vga" }, id, first) : pci("express", { driver: "virtio-gpu-pci" }, id);
    case "qxl":
      return primary ? pci("integrated", { driver: "qxl-vga" }, id, first) : pci("conventional", { driver: "qxl" }, id);
    case "vga":
      return primary ? pci("integrated", { driver: "VGA" }, id, first) : pci("conventional", { driver: "VGA" }, id);
    case "cirrus":
      return pci(primary ? "integrated" : "conventional", { driver: "cirrus-vga" }, id, primary ? first : undefined);
    case "bochs":
      return pci("express", { driver: "bochs-display" }, id);
    case "ramfb":
      return [];
    default:
      return pci(primary ? "integrated" : "express", { driver: isQ35 ? "VGA" : "virtio-gpu-pci" }, id, primary ? first : undefined);
  }
}

function serial(element: XmlElement, index: number, stage: number, { words, functions, isQ35 }: DeviceContext): DomainDevice[] {
  const type = attribute(find(element, "target"), "type");
  const chardev = `charserial${index}`;
  const backend = (): void => words.option(element, "chardev", `null,id=${chardev}`);
  if (type === "pci-serial") {
    const fn = functions.add(element, "conventional");
    return [{ stage, element, fn, write: (place) => { backend(); words.option(element, "device", { driver: "pci-serial", chardev, id: `serial${index}`, ...place }); } }];
  }
  return [{ stage, element, fn: null, write: () => { backend(); if (isQ35) { words.option(element, "device", { driver: "isa-serial", chardev, id: `serial${index}`, index }); } else { words.option(element, "serial", `chardev:${chardev}`); } } }];
}

/** Number of a disk by its name: vda 0, vdb 1, vdaa 26. */
function diskNumber(name: string): number {
  const letters = /^(?:vd|sd|hd|xvd|ubd)([a-z]+)$/.exec(name)?.[1] ?? "a";
  return [...letters].reduce((count, letter) => count * 26 + letter.charCodeAt(0) - 96, 0) - 1;
}

function disk(element: XmlElement, index: number, stage: number, { words, functions, controllers, isQ35 }: DeviceContext): DomainDevice[] {
  const target = find(element, "target");
  const [name, bus] = [attribute(target, "dev") ?? "vda", attribute(target, "bus") ?? "virtio"];
  const isCd = attribute(element, "device") === "cdrom";
  const node = `libvirt-${index + 1}-storage`;
  const file = attribute(find(element, "source"), "file") ?? attribute(find(element, "source"), "dev") ?? "";
  const alias = userAlias(element);
  const address = find(element, "address");
  const part = (key: string, otherwise: number): number => (attribute(address, key) === null ? otherwise : number(address!, key, attribute(address, key)!));
  const count = diskNumber(name);
  const backend = (): void => words.option(element, "blockdev", { driver: "file", filename: file === "" ? "/dev/null" : file, "node-name": node, "read-only": isCd || find(element, "readonly") !== null });
  const on = (properties: JsonObject, id: string): DomainDevice[] => [{ stage, element, fn: null, write: () => { backend(); words.option(element, "device", { ...properties, drive: node, id: alias ?? id }); } }];
  switch (bus) {
    case "virtio": {
      const model = attribute(element, "model");
      const fn = functions.add(element, virtioWant(model));
      return [{ stage, element, fn, write: (place) => { backend(); words.option(element, "device", { driver: `virtio-blk-pci${virtioSuffix(model)}`, ...place, drive: node, id: alias ?? `virtio-disk${count}` }); } }];
    }
    case "scsi": {
      const [controller, unit] = [part("controller", Math.floor(count / 7)), part("unit", count % 7)];
      const virtio = (controllers.scsi.get(controller) ?? (isQ35 ? "lsilogic" : "virtio-scsi")).startsWith("virtio");
      const id = virtio ? `scsi${controller}-${part("bus", 0)}-${part("target", 0)}-${unit}` : `scsi${controller}-${part("bus", 0)}-${unit}`;
      return on({ driver: isCd ? "scsi-cd" : "scsi-hd", bus: `scsi${controller}.0`, ...(virtio ? { channel: part("bus", 0), "scsi-id": part("target", 0), lun: unit } : { "scsi-id": unit }), device_id: `drive-${id}` }, id);
    }
    case "sata": {
      const [controller, unit] = [part("controller", Math.floor(count / 6)), part("unit", count % 6)];
      const from = controllers.builtinSata && controller === 0 ? "ide" : `sata${controller}`;
      return on({ driver: isCd ? "ide-cd" : "ide-hd", bus: `${from}.${unit}` }, `sata${controller}-${part("bus", 0)}-${unit}`);
    }
    case "usb":
      if (!controllers.hasUsb) {
        throw new Refusal("unsupported configuration: USB is disabled for this domain, but USB devices are present in the domain XML", { rule: "no-usb", wouldWork: "<controller type='usb' model='qemu-xhci'/>" });
      }
      return on({ driver: "usb-storage", bus: "usb.0", removable: isOn(attribute(target, "removable")) }, `usb-disk${count}`);
    case "nvme": {
      const [, controller, space] = /^nvme(\d+)n(\d+)$/.exec(name) ?? [null, "0", "1"];
      return on({ driver: "nvme-ns", bus: `nvme${controller}`, nsid: Number(space) }, `nvme${controller}-0-${Number(space) - 1}`);
    }
    default:
      words.note(element, "without-effect", `a disk of bus '${bus}' has no effect here`);
      return [];
  }
}
