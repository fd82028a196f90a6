/** Properties of every -machine, and of `-accel`, with QEMU 11.1's names, values and words. */
import { Refusal } from "../../support/index.js";
import { boolean, notModelled, type Setter, shortText, withoutEffect } from "./option-setters.js";
import { type OptionString, scalar } from "./option-string.js";
import { parseBool } from "./property.js";

export interface CommonOptions {
  /** Such as virt-11.1, pc-q35-11.1. */
  type: string;
  /** Major and minor version of the machine type. */
  version: readonly [number, number];
  acpi: boolean;
  /** Neither acpi=on nor acpi=off has been said. */
  acpiAuto: boolean;
  bypassIommu: boolean;
  /** ACPI tells how fast memory is. */
  hmat: boolean;
  /** It has the board's USB controllers, where it can have them. */
  usb: boolean;
  memoryBackend: string | null;
  /** Null: not said. */
  accelerator: "kvm" | "tcg" | "qtest" | null;
  kernelIrqchip: "on" | "off" | "split" | null;
}

export function commonDefaults(): CommonOptions {
  return { type: "", version: [11, 1], acpi: true, acpiAuto: true, bypassIommu: false, hmat: false, usb: false, memoryBackend: null, accelerator: null, kernelIrqchip: null };
}

export const commonSetters: Readonly<Record<string, Setter<CommonOptions>>> = {
  acpi: (options, value) => {
    options.acpiAuto = value === "auto";
    options.acpi = options.acpiAuto || parseBool("acpi", value);
  },
  "default-bus-bypass-iommu": boolean("default-bus-bypass-iommu", (o, v) => (o.bypassIommu = v)),
  usb: (options, value, notes) => {
    options.usb = parseBool("usb", value);
    if (options.usb && !("sata" in options)) {
      notes.push("-machine usb=on: a virt has no USB controller of its own, as in QEMU");
    }
  },
  hmat: boolean("hmat", (o, v) => (o.hmat = v)),
  "memory-backend": (options, value) => (options.memoryBackend = value),
  accel: setAccelerator,
  "kernel-irqchip": setKernelIrqchip,
  "x-oem-id": shortText("x-oem-id", 6),
  "x-oem-table-id": shortText("x-oem-table-id", 8),
  "confidential-guest-support": notModelled("confidential-guest-support"),
  "memory-encryption": notModelled("memory-encryption"),
  ...withoutEffect("append aux-ram-share boot dt-compatible dtb dump-guest-core dumpdtb firmware graphics initrd kernel mem-merge phandle-start shim suppress-vmdesc x-change-vmfd-on-reset hpet vmport smm nvdimm pflash0 pflash1"),
};

function setAccelerator(options: CommonOptions, value: string): void {
  // `kvm:tcg` tries one after the other; the first that we stand for counts.
  const names = value.split(":");
  const known = names.find((name) => name === "kvm" || name === "tcg" || name === "qtest");
  if (known === undefined) {
    throw new Refusal(`invalid accelerator ${value}`, {
      found: ["hvf", "xen", "mshv", "whpx", "nitro"].includes(value) ? `${value}: QEMU has it, viommu does not` : `accel=${value}`,
      wouldWork: "kvm, tcg, qtest",
    });
  }
  options.accelerator = known as CommonOptions["accelerator"];
}

function setKernelIrqchip(options: CommonOptions, value: string): void {
  if (value !== "on" && value !== "off" && value !== "split") {
    throw new Refusal(`Parameter 'kernel-irqchip' does not accept value '${value}'`, { found: `kernel-irqchip=${value}`, wouldWork: "on, off, split" });
  }
  options.kernelIrqchip = value;
}

/** `-accel kvm,kernel-irqchip=on`. */
export function applyAccelOption(options: CommonOptions, parsed: OptionString, notes: string[]): void {
  for (const [rawKey, rawValue] of parsed.values) {
    const key = rawKey.replaceAll("_", "-");
    const value = scalar(rawKey, rawValue);
    if (key === "accel") {
      setAccelerator(options, value);
    } else if (key === "kernel-irqchip") {
      setKernelIrqchip(options, value);
    } else if (["tb-size", "thread", "split-wx", "one-insn-per-tb", "dirty-ring-size", "eager-split-size", "kvm-shadow-mem", "honor-guest-pat", "notify-vmexit", "device", "igd-passthru"].includes(key)) {
      notes.push(`-accel ${key}=${value}: it has no effect here`);
    } else {
      throw new Refusal(`Property '${options.accelerator ?? "tcg"}-accel.${rawKey}' not found`, { wouldWork: "kernel-irqchip=on|off|split" });
    }
  }
}
