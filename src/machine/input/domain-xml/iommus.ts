/** `<iommu>`: what each model becomes, and what libvirt 12.9 refuses (virDomainIOMMUDefValidate, qemuValidateDomainDeviceDefIOMMU). */
import { Refusal } from "../../../support/index.js";
import type { PciFunctions, DomainFunction } from "./functions.js";
import type { DomainWords, JsonObject } from "./words.js";
import { all, attribute, find, isOn, number, type XmlElement, userAlias } from "./xml.js";

const MODELS = ["intel", "smmuv3", "virtio", "amd"] as const;
type Model = (typeof MODELS)[number];

const ACCELERATED = ["ats", "ril", "ssidsize", "oas", "cmdqv"];
/** Attributes of <driver> that a model has. */
const HAS: Readonly<Record<Model, readonly string[]>> = {
  intel: ["intremap", "caching_mode", "eim", "iotlb", "aw_bits", "dma_translation"],
  smmuv3: ["pciBus", "accel", ...ACCELERATED],
  virtio: ["aw_bits"],
  amd: ["intremap", "xtsup", "passthrough", "iotlb", "dma_translation"],
};
const KNOWN = new Set(Object.values(HAS).flat());

export interface DomainIommu {
  readonly element: XmlElement;
  readonly model: Model;
  readonly id: string;
  readonly fn: DomainFunction | null;
}

export interface IommuContext {
  readonly words: DomainWords;
  readonly functions: PciFunctions;
  readonly isVirt: boolean;
  readonly acpi: boolean;
}

/** @throws Refusal in libvirt's words */
export function readIommus(devices: XmlElement | null, context: IommuContext): DomainIommu[] {
  return all(devices, "iommu").flatMap((element, index) => context.words.at(element, () => readIommu(element, index, context)) ?? []);
}

function readIommu(element: XmlElement, index: number, { words, functions, isVirt, acpi }: IommuContext): DomainIommu {
  const name = attribute(element, "model") ?? "";
  const model = MODELS.find((one) => one === name);
  if (model === undefined) {
    throw new Refusal(`XML error: Invalid value for attribute 'model' in element 'iommu': '${name}'.`, { rule: "iommu-model", wouldWork: MODELS.join(", ") });
  }
  const driver = find(element, "driver");
  const said = [...(driver?.attributes.keys() ?? [])];
  for (const key of said.filter((one) => !KNOWN.has(one))) {
    const near = [...KNOWN].find((one) => one.toLowerCase() === key.toLowerCase().replaceAll("-", "_"));
    // libvirt goes on without a word, unless it is asked to validate.
    words.note(driver!, "unknown-attribute", `libvirt has no attribute '${key}' of an iommu's driver and goes on without it${near === undefined ? "" : `; it has '${near}'`}`);
  }
  if (said.some((key) => KNOWN.has(key) && !HAS[model].includes(key)) || (model !== "virtio" && find(driver, "granule") !== null)) {
    throw new Refusal(`XML error: iommu model '${model}' doesn't support some additional attributes`, {
      rule: "iommu-attributes",
      found: said.filter((key) => KNOWN.has(key) && !HAS[model].includes(key)).join(", ") || "granule",
      wouldWork: HAS[model].join(", "),
    });
  }
  const idle = said.filter((key) => ACCELERATED.includes(key));
  if (model === "smmuv3" && !isOn(attribute(driver, "accel")) && idle.length > 0) {
    throw new Refusal(`XML error: accel must be enabled for iommu model 'smmuv3' when setting ats, ril, ssidsize, oas, or cmdqv`, { rule: "iommu-accel", found: idle.join(", "), wouldWork: "accel='on'" });
  }
  if (model === "smmuv3" && !isVirt) {
    throw new Refusal("unsupported configuration: IOMMU device: 'smmuv3' is only supported with ARM Virt machines", { rule: "iommu-machine", wouldWork: "model='intel'" });
  }
  if ((model === "intel" || model === "amd") && isVirt) {
    throw new Refusal(`unsupported configuration: IOMMU device: '${model}' is only supported with Q35 machines`, { rule: "iommu-machine", wouldWork: "model='smmuv3'" });
  }
  if (model === "virtio" && !acpi) {
    throw new Refusal("unsupported configuration: IOMMU device: 'virtio' requires ACPI", { rule: "iommu-acpi", wouldWork: "<acpi/> in <features>" });
  }
  if (model === "intel" && isOn(attribute(driver, "eim")) && !isOn(attribute(driver, "intremap"))) {
    throw new Refusal("unsupported configuration: IOMMU eim requires interrupt remapping to be enabled", { rule: "iommu-eim", wouldWork: "intremap='on'" });
  }
  return { element, model, id: userAlias(element) ?? `iommu${index}`, fn: model === "virtio" || model === "amd" ? functions.add(element, "integrated") : null };
}

/** One that covers the machine's PCI as a property of the machine has no place of its own. */
export function isMachineSmmu({ model, element }: DomainIommu): boolean {
  return model === "smmuv3" && attribute(find(element, "driver"), "pciBus") === null;
}

/** Interrupt remapping, which needs the interrupt controller of the kernel to be split. */
export function remapsInterrupts(iommus: readonly DomainIommu[]): boolean {
  return iommus.some(({ model, element }) => (model === "intel" || model === "amd") && isOn(attribute(find(element, "driver"), "intremap")));
}

export function writeIommus(iommus: readonly DomainIommu[], { words, functions }: IommuContext): void {
  for (const iommu of iommus) {
    words.at(iommu.element, () => writeIommu(iommu, words, functions));
  }
}

function writeIommu({ element, model, id, fn }: DomainIommu, words: DomainWords, functions: PciFunctions): void {
  const driver = find(element, "driver");
  const said = (name: string): string | null => attribute(driver, name);
  const bool = (key: string, name: string): JsonObject => (said(name) === null ? {} : { [key]: isOn(said(name)) });
  const text = (key: string, name: string): JsonObject => (said(name) === null ? {} : { [key]: said(name) });
  const count = (key: string, name: string): JsonObject => (said(name) === null ? {} : { [key]: number(driver!, name, said(name)!) });
  switch (model) {
    case "intel":
      words.option(element, "device", {
        driver: "intel-iommu", id, ...text("intremap", "intremap"), ...bool("caching-mode", "caching_mode"), ...text("eim", "eim"), ...bool("device-iotlb", "iotlb"), ...count("aw-bits", "aw_bits"), ...bool("dma-translation", "dma_translation"),
      });
      return;
    case "amd":
      words.option(element, "device", { driver: "AMDVI-PCI", id, ...functions.placeOf(fn!) });
      words.option(element, "device", { driver: "amd-iommu", "pci-id": id, ...text("intremap", "intremap"), ...bool("pt", "passthrough"), ...bool("xtsup", "xtsup"), ...bool("device-iotlb", "iotlb"), ...bool("dma-translation", "dma_translation") });
      return;
    case "virtio": {
      const granule = find(driver, "granule");
      const size = attribute(granule, "mode") ?? (attribute(granule, "size") === null ? null : `${attribute(granule, "size")!}k`);
      words.option(element, "device", { driver: "virtio-iommu", id, ...count("aw-bits", "aw_bits"), ...(size === null ? {} : { granule: size }), ...functions.placeOf(fn!) });
      return;
    }
    case "smmuv3": {
      if (said("pciBus") === null) {
        return;
      }
      const index = number(driver!, "pciBus", said("pciBus")!);
      if (functions.buses.list[index] === undefined) {
        throw new Refusal("internal error: Could not find a suitable controller for smmuv3", {
          rule: "iommu-bus",
          found: `pciBus='${index}', which is the index of a controller, not a bus number; controllers: ${functions.buses.list.map((_, one) => one).join(", ")}`,
          wouldWork: functions.buses.list.flatMap(({ model: bus }, one) => (bus === "pcie-root" || bus === "pcie-expander-bus" ? [`pciBus='${one}'`] : [])).join(", "),
        });
      }
      words.option(element, "device", {
        driver: "arm-smmuv3", "primary-bus": functions.buses.nameOf(index), id, ...bool("accel", "accel"), ...text("ats", "ats"), ...text("ril", "ril"), ...text("ssidsize", "ssidsize"), ...text("oas", "oas"), ...text("cmdqv", "cmdqv"),
      });
    }
  }
}
