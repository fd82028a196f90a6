/** Properties of `-machine virt`, with QEMU 11.1's names, values and words, and what they come to. */
import { Refusal } from "../../support/index.js";
import { type CommonOptions, commonDefaults } from "./common-options.js";
import { boolean, oneOf, onlyOff, type Setter, withoutEffect } from "./option-setters.js";
import { parseSize } from "./property.js";

export type MsiController = "its" | "gicv2m" | "none";

export interface VirtOptions extends CommonOptions {
  readonly board: "virt";
  iommu: "none" | "smmuv3";
  /** Null: not said. */
  gicVersion: "2" | "3" | "4" | "x-5" | "host" | "max" | null;
  its: boolean;
  msi: "auto" | "gicv2m" | "its" | "off";
  highmem: boolean;
  highmemEcam: boolean;
  highmemMmio: boolean;
  /** Bytes. */
  highmemMmioSize: number;
  highmemRedists: boolean;
  compactHighmem: boolean;
}

export function virtDefaults(): VirtOptions {
  return {
    board: "virt",
    ...commonDefaults(),
    iommu: "none",
    gicVersion: null,
    its: true,
    msi: "auto",
    highmem: true,
    highmemEcam: true,
    highmemMmio: true,
    highmemMmioSize: 512 * 2 ** 30,
    highmemRedists: true,
    compactHighmem: true,
  };
}

export const virtSetters: Readonly<Record<string, Setter<VirtOptions>>> = {
  iommu: oneOf("iommu", ["none", "smmuv3"], "none, smmuv3.", (o, v) => (o.iommu = v)),
  "gic-version": oneOf("gic-version", ["2", "3", "4", "x-5", "host", "max"], "2, 3, 4, x-5, host, and max.", (o, v) => {
    if (v === "x-5") {
      throw new Refusal("gic-version=x-5 is not modelled", { found: "GICv5 is experimental in QEMU", wouldWork: "gic-version=3" });
    }
    o.gicVersion = v;
  }),
  its: boolean("its", (o, v) => (o.its = v)),
  msi: oneOf("msi", ["auto", "gicv2m", "its", "off"], "auto, gicv2m, its, off", (o, v) => (o.msi = v)),
  highmem: boolean("highmem", (o, v) => (o.highmem = v)),
  "highmem-ecam": boolean("highmem-ecam", (o, v) => (o.highmemEcam = v)),
  "highmem-mmio": boolean("highmem-mmio", (o, v) => (o.highmemMmio = v)),
  "highmem-redists": boolean("highmem-redists", (o, v) => (o.highmemRedists = v)),
  "compact-highmem": boolean("compact-highmem", (o, v) => (o.compactHighmem = v)),
  "highmem-mmio-size": (options, value) => {
    const bytes = parseSize("highmem-mmio-size", value, "");
    if (!Number.isSafeInteger(Math.log2(bytes))) {
      throw new Refusal("highmem-mmio-size is not a power of 2", { found: `highmem-mmio-size=${value}`, wouldWork: "512G" });
    }
    if (bytes < 512 * 2 ** 30 || bytes > 2 ** 46) {
      throw new Refusal("highmem-mmio-size cannot be set to a lower value than 512 GiB", { found: `highmem-mmio-size=${value}`, wouldWork: "512G to 64T" });
    }
    options.highmemMmioSize = bytes;
  },
  secure: onlyOff("secure", "the Secure state has no part here", "secure=off"),
  ...withoutEffect("dtb-kaslr-seed dtb-randomness mte ras virtio-mmio-transports virtualization"),
};

/**
 * The interrupt controller: QEMU takes GICv2 under TCG where nothing is said; under KVM (which an accelerated
 * SMMU needs) the host's, which on servers is a GICv3.
 */
export function resolveGicVersion(options: VirtOptions, hasAcceleratedSmmu: boolean): 2 | 3 | 4 {
  switch (options.gicVersion) {
    case "2":
      return 2;
    case "3":
    case "host":
      return 3;
    case "4":
    case "max":
      return options.gicVersion === "4" ? 4 : 3;
    default:
      return options.accelerator === "kvm" || (options.accelerator === null && hasAcceleratedSmmu) ? 3 : 2;
  }
}

/** Who takes MSIs. @throws Refusal in QEMU's words */
export function resolveMsiController(options: VirtOptions, gicVersion: 2 | 3 | 4): MsiController {
  if (options.msi === "its" && (gicVersion === 2 || !options.its)) {
    throw new Refusal("GICv2 + ITS is an invalid configuration.", {
      found: `msi=its with gic-version=${gicVersion}, its=${options.its ? "on" : "off"}`,
      wouldWork: "gic-version=3,its=on, or msi=gicv2m",
    });
  }
  switch (options.msi) {
    case "off":
      return "none";
    case "gicv2m":
      return "gicv2m";
    case "its":
      return "its";
    case "auto":
      return gicVersion === 2 ? "gicv2m" : options.its ? "its" : "none";
  }
}
