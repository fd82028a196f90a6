/** What `-device intel-iommu` asks for, checked as QEMU 11.1 checks it, in its order and words (hw/i386/intel_iommu.c, vtd_decide_config). */
import { Refusal } from "../../support/index.js";
import type { VtdProperties } from "../../vtd/index.js";
import { booleanProperty, type DeviceArgument, deviceLabel, numberProperty, textProperty } from "./device.js";
import type { CommonOptions } from "./common-options.js";

/** What the device does not know of: the firmware tells it. */
export interface VtdRequest {
  readonly properties: VtdProperties;
  /** NUMA node of the remapping hardware; null: none. */
  readonly numaNode: number | null;
  readonly satc: boolean;
}

const NO_NODE = 128;
const PASID_LIMIT = 20;

/** @throws Refusal in QEMU's words */
export function checkVtdProperties(device: DeviceArgument, machine: CommonOptions, numaNodes: number): VtdRequest {
  const label = deviceLabel(device);
  const on = (name: string): boolean => booleanProperty(device, name);
  const refuse = (words: string, found: string, wouldWork: string): never => {
    throw new Refusal(words, { rule: "vtd-properties", found: `${label} with ${found}`, wouldWork });
  };
  const scalableMode = on("scalable-mode");
  const fsts = on("fsts");
  const awBits = numberProperty(device, "aw-bits");
  const pasidBits = numberProperty(device, "pasid-bits");
  const { intremap, eim } = interruptRemapping(device, machine, label);

  if (fsts && !scalableMode) {
    refuse("fsts is only available in scalable mode", "fsts=on and scalable-mode=off", "scalable-mode=on,fsts=on");
  }
  if (fsts && awBits !== 48) {
    refuse("Scalable mode(fsts=on): supported value for aw-bits is: 48", `aw-bits=${awBits}${device.said.has("aw-bits") ? "" : ", the default of this machine's version"}`, "aw-bits=48");
  }
  if (awBits !== 39 && awBits !== 48) {
    refuse(`${scalableMode ? "Scalable mode(fsts=off)" : "Legacy mode"}: supported values for aw-bits are: 39, 48`, `aw-bits=${awBits}`, "aw-bits=48");
  }
  if (pasidBits > 0 && !scalableMode) {
    refuse("Need to set scalable mode for PASID", `pasid-bits=${pasidBits} and scalable-mode=off`, `scalable-mode=on,pasid-bits=${Math.min(pasidBits, PASID_LIMIT)}`);
  }
  if (pasidBits > PASID_LIMIT) {
    refuse(`PASID width ${pasidBits} exceeds Max PASID Width ${PASID_LIMIT} allowed in PCI spec`, `pasid-bits=${pasidBits}`, `pasid-bits=0 to ${PASID_LIMIT}`);
  }
  const svm = on("svm");
  if (svm) {
    const whole = "scalable-mode=on,fsts=on,pasid-bits=20,device-iotlb=on,svm=on";
    const needs: ReadonlyArray<readonly [boolean, string, string]> = [
      [on("device-iotlb"), "device IOTLB", "device-iotlb=off"],
      [fsts, "fsts", "fsts=off"],
      [on("dma-translation"), "dma-translation", "dma-translation=off"],
      [pasidBits > 0, "PASID support", "pasid-bits=0"],
    ];
    for (const [there, what, found] of needs) {
      if (!there) {
        refuse(`Need to set ${what} for svm`, `svm=on and ${found}`, whole);
      }
    }
  }
  const satc = on("x-satc");
  if (satc && !on("device-iotlb")) {
    refuse("x-satc needs device-iotlb=on", "x-satc=on and device-iotlb=off: functions whose address translation caches would be told have none to use", "device-iotlb=on,x-satc=on");
  }
  return {
    properties: {
      scalableMode,
      fsts,
      fs1gp: on("fs1gp"),
      pasidBits,
      awBits: awBits as 39 | 48,
      cachingMode: on("caching-mode"),
      deviceIotlb: on("device-iotlb"),
      dmaTranslation: on("dma-translation"),
      snoopControl: on("snoop-control"),
      svm,
      intremap,
      eim,
      staleTm: on("stale-tm"),
      requireNesting: on("x-require-nesting"),
    },
    numaNode: node(device, numaNodes, label),
    satc,
  };
}

/** Interrupts of an irqchip that is wholly the kernel's are not remapped here: it does not ask (hw/i386/x86-iommu.c). */
function interruptRemapping(device: DeviceArgument, machine: CommonOptions, label: string): { intremap: boolean; eim: boolean } {
  const kernel = machine.accelerator === "kvm" && (machine.kernelIrqchip ?? "on") === "on";
  const asked = textProperty(device, "intremap");
  if (asked === "on" && kernel) {
    throw new Refusal("Interrupt Remapping cannot work with kernel-irqchip=on, please use 'split|off'.", {
      rule: "intremap-needs-split",
      found: `${label} with intremap=on, and ${machine.kernelIrqchip === null ? "kvm's default, kernel-irqchip=on," : "kernel-irqchip=on"} for the machine`,
      wouldWork: "-machine kernel-irqchip=split",
    });
  }
  const intremap = asked === "auto" ? !kernel : asked === "on";
  const eim = textProperty(device, "eim");
  if (eim === "on" && !intremap) {
    throw new Refusal("eim=on cannot be selected without intremap=on", {
      rule: "eim-needs-intremap",
      found: `${label} with eim=on and intremap=${asked}${asked === "auto" ? ", which kernel-irqchip=on turns off" : ""}`,
      wouldWork: asked === "auto" ? "-machine kernel-irqchip=split" : "intremap=on",
    });
  }
  // auto: where KVM takes 32-bit APIC ids.
  return { intremap, eim: eim === "on" || (eim === "auto" && intremap && machine.accelerator === "kvm" && machine.kernelIrqchip === "split") };
}

function node(device: DeviceArgument, nodes: number, label: string): number | null {
  const asked = numberProperty(device, "x-numa-node");
  if (asked === NO_NODE) {
    return null;
  }
  if (asked >= nodes) {
    throw new Refusal(`Illegal numa node ${asked}`, {
      rule: "numa-node-missing",
      found: `${label} with x-numa-node=${asked}, a machine with ${nodes} NUMA node(s)`,
      wouldWork: nodes === 0 ? "-numa node,nodeid=0 and so on" : `x-numa-node=0 to ${nodes - 1}`,
    });
  }
  return asked;
}
